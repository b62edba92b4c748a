"""A service whose clients each have a running stream of one model: python service.py --help.

POST   /sessions              a place, {"session": NAME}
POST   /sessions/NAME/steps   {"x": [...]} -> {"y": [...], "step": 7}
DELETE /sessions/NAME         frees the place
WS     /stream                the same on one connection: a list in, {"y": [...]} or {"error": "..."} out
GET    /health                503 while it stops
GET    /metrics               counts and latencies for Prometheus
"""

from __future__ import annotations

import argparse
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import prometheus_client
import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse
from places import Full, Gone, Places, TooFast

import cylstm

MODEL = Path(__file__).parents[1] / "pollution" / "weights" / "multivariate.cylstm"
MOST_BYTES = 1 << 16
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """Counts and latencies of one service."""

    def __init__(self, places: Places) -> None:
        self.registry = registry = prometheus_client.CollectorRegistry()

        def gauge(name: str, text: str, value: object) -> None:
            prometheus_client.Gauge(name, text, registry=registry).set_function(value)

        prometheus_client.ProcessCollector(registry=registry)
        gauge("sessions", "open sessions", lambda: len(places.sessions))
        gauge("steps_waiting", "steps in the queue", lambda: len(places.queue))
        self.answers = prometheus_client.Counter("answers", "answers to steps", ["kind"], registry=registry)
        self.rows = prometheus_client.Histogram(
            "rows_per_advance", "rows in one call", buckets=(1, 4, 16, 64, 128, 256, 512), registry=registry
        )
        self.advance = prometheus_client.Histogram(
            "advance_seconds", "one call on the worker thread", buckets=SECONDS, registry=registry
        )
        self.latency = prometheus_client.Histogram(
            "step_seconds", "from a step's coming to its result", buckets=SECONDS, registry=registry
        )
        places.observe = self.observe

    def observe(self, rows: int, seconds: float, latencies: list[float]) -> None:
        self.rows.observe(rows)
        self.advance.observe(seconds)
        for latency in latencies:
            self.latency.observe(latency)


def status_of(error: Exception) -> tuple[int, str]:
    """The status for a client, and the kind of answer in the metrics."""
    for kind, status, name in (
        (TooFast, 429, "too_fast"),
        (Full, 503, "full"),
        (Gone, 404, "gone"),
        ((cylstm.ShapeError, ArithmeticError), 422, "refused"),
    ):
        if isinstance(error, kind):
            return status, name
    return 500, "failed"


def parse(text: str | bytes) -> object:
    """What a client sent. Raises `cylstm.ShapeError`, as what the numbers are checked by does."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise cylstm.ShapeError(f"expected JSON, found something else: {str(error)[:200]}") from error


async def read_body(request: Request) -> bytes:
    """The body of a request, of at most so many bytes. Raises `cylstm.ShapeError`."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise cylstm.ShapeError(f"expected at most {MOST_BYTES} bytes")
    return body


def make_app(model: cylstm.Model, **options: object) -> FastAPI:
    """The service of a model. `options` are those of `Places`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.places = places = Places(model, **options)
        app.state.metrics = Metrics(places)
        await places.start()
        try:
            yield
        finally:
            await places.stop()

    app = FastAPI(title="streams of one model", lifespan=lifespan)

    def refused(error: Exception) -> JSONResponse:
        status, kind = status_of(error)
        app.state.metrics.answers.labels(kind).inc()
        headers = {"Retry-After": str(error.retry_after)} if isinstance(error, Full) else None
        return JSONResponse({"error": str(error)}, status, headers)

    async def answer(session: object, x: object) -> dict[str, object]:
        y, number = await app.state.places.step(session, x)
        app.state.metrics.answers.labels("ok").inc()
        return {"y": y, "step": number}

    @app.post("/sessions", status_code=201)
    async def open_session() -> Response:
        try:
            session = app.state.places.open()
        except Full as error:
            return refused(error)
        return JSONResponse({"session": session.name}, 201)

    @app.post("/sessions/{name}/steps")
    async def step(name: str, request: Request) -> Response:
        try:
            session = app.state.places.find(name)
            given = parse(await read_body(request))
            if not isinstance(given, dict) or set(given) != {"x"}:
                raise cylstm.ShapeError('expected {"x": [numbers]}')
            return JSONResponse(await answer(session, given["x"]))
        except Exception as error:
            return refused(error)

    @app.delete("/sessions/{name}", status_code=204)
    async def close_session(name: str) -> Response:
        try:
            app.state.places.close(app.state.places.find(name))
        except Gone as error:
            return refused(error)
        return Response(status_code=204)

    @app.websocket("/stream")
    async def stream(socket: WebSocket) -> None:
        await socket.accept()
        try:
            session = app.state.places.open()
        except Full as error:
            refused(error)
            await socket.close(1013, str(error))  # try again later
            return
        try:
            while True:
                text = await socket.receive_text()
                try:
                    await socket.send_text(json.dumps(await answer(session, parse(text))))
                except Exception as error:
                    if isinstance(error, WebSocketDisconnect):
                        raise
                    status, kind = status_of(error)
                    app.state.metrics.answers.labels(kind).inc()
                    await socket.send_text(json.dumps({"error": str(error), "status": status}))
                    if isinstance(error, Gone):
                        await socket.close(1008, str(error)[:120])
                        return
        except (WebSocketDisconnect, RuntimeError):  # the client has gone, perhaps while its answer was on the way
            pass
        finally:
            app.state.places.close(session)

    @app.get("/health")
    async def health() -> Response:
        places = app.state.places
        if places.is_stopping:
            return JSONResponse({"status": "stopping"}, 503)
        return JSONResponse({"status": "ok", "sessions": len(places.sessions), "places": places.batch})

    @app.get("/metrics")
    async def metrics() -> Response:
        text = prometheus_client.generate_latest(app.state.metrics.registry)
        return Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    return app


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL, help="any file that cylstm.load reads without options")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=512, help="places; default: 512")
    parser.add_argument("--waiting", type=int, default=2048, help="steps that may wait; default: 2048")
    parser.add_argument("--idle", type=float, default=300.0, help="seconds after which a session is closed")
    parser.add_argument("--kept", type=Path, help="a file for the states of all sessions over a restart")
    options = parser.parse_args(args)
    app = make_app(
        cylstm.load(options.model),
        batch=options.batch,
        most_waiting=options.waiting,
        idle_seconds=options.idle,
        kept=options.kept,
    )
    uvicorn.run(
        app,
        host=options.host,
        port=options.port,
        access_log=False,
        ws_max_size=MOST_BYTES,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
