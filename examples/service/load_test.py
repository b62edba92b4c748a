"""Many clients at once against service.py, each of which checks every answer: python load_test.py --help.

Each client sends the steps of a random series of its own, and now and then something wrong, which must be refused and
change nothing. Afterwards every answer is compared, bit for bit, with a stream of the client's own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import ssl
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import numpy as np
import websockets
from service import MODEL

import cylstm

#: what a client sends where a step of finite numbers is expected; json writes nan as NaN
WRONG = ([float("nan")], ["text"], [], "text", [[1.0]], {"x": 1})


@dataclass
class Client:
    """One series, and what the service said to it."""

    x: np.ndarray  # (steps, features)
    y: list[list[float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    wrongly_taken: int = 0


@asynccontextmanager
async def over_websocket(url, context):
    """A function that sends a step and returns the service's answer."""
    async with websockets.connect(url.replace("http", "ws", 1) + "/stream", compression=None) as socket:

        async def send(x):
            await socket.send(json.dumps(x))
            return json.loads(await socket.recv())

        yield send


@asynccontextmanager
async def over_http(url, context):
    """The same by a POST for each step."""
    # a client each: httpx looks through all connections of one at every request
    async with httpx.AsyncClient(verify=context, timeout=60) as http:
        opened = await http.post(f"{url}/sessions")
        opened.raise_for_status()
        session = f"{url}/sessions/{opened.json()['session']}"

        async def send(x):
            answer = await http.post(f"{session}/steps", content=json.dumps({"x": x}))
            return answer.json()

        yield send
        await http.delete(session)


async def run_client(client, number, connect, url, context, rate, wrong_every, start):
    """Send one step after the other; of a rate, a step's time runs from when it was due."""
    async with connect(url, context) as send:
        await start.wait()
        began = time.perf_counter() + (number % 100) / 100 / rate if rate else 0.0
        for t, row in enumerate(client.x):
            if wrong_every and (t + number) % wrong_every == 0:
                answer = await send(WRONG[(t + number) // wrong_every % len(WRONG)])
                client.refused += "error" in answer
                client.wrongly_taken += "error" not in answer
            if rate:
                due = began + t / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            else:
                due = time.perf_counter()
            answer = await send(row.tolist())
            client.seconds.append(time.perf_counter() - due)
            if "y" not in answer:
                raise RuntimeError(f"client {number}, step {t}: {answer}")
            client.y.append(answer["y"])


async def run_all(clients, connect, url, rate, wrong_every):
    """Seconds from the first step of all clients to the last, and how the service's metrics have grown."""
    start = asyncio.Event()
    context = ssl.create_default_context()  # one for all, since making it takes longer than a step
    async with httpx.AsyncClient(verify=context, timeout=60) as http:
        tasks = [
            asyncio.create_task(run_client(client, number, connect, url, context, rate, wrong_every, start))
            for number, client in enumerate(clients)
        ]
        while (await http.get(f"{url}/health")).json()["sessions"] < len(clients):
            await asyncio.sleep(0.05)
            for task in tasks:
                if task.done():
                    task.result()  # raises why it could not connect
        old, before = await read_metrics(http, url), time.perf_counter()
        start.set()
        await asyncio.gather(*tasks)
        seconds, new = time.perf_counter() - before, await read_metrics(http, url)
    return seconds, {name: new[name] - old[name] for name in old}


async def read_metrics(http, url):
    """The numbers of /metrics that have no label, by name."""
    lines = (await http.get(f"{url}/metrics")).text.splitlines()
    return {name: float(number) for name, number in (line.split() for line in lines if re.match(r"\w+ ", line))}


def count_different(model, client):
    """The answers that are not those of a stream of the client's own, to the bit."""
    stream = model.stream(window=None)
    wanted = np.stack([stream.step(row) for row in client.x])
    found = np.array(client.y, dtype=np.float32).reshape(wanted.shape)
    return int((found.view(np.uint32) != wanted.view(np.uint32)).any(axis=1).sum())


def main(args: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default=MODEL, help="the service's file")
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--steps", type=int, default=100, help="of each session; default: 100")
    parser.add_argument("--rate", type=float, default=0.0, help="steps a second of each session; 0: as fast as it can")
    parser.add_argument("--http", action="store_true", help="a POST for each step, in the place of a websocket")
    parser.add_argument("--wrong-every", type=int, default=25, help="steps between wrong ones; 0: none")
    options = parser.parse_args(args)
    model = cylstm.load(options.model)
    (shape,) = model.input_shapes.values()
    rng = np.random.default_rng(7)
    x = rng.normal(size=(options.sessions, options.steps, shape[-1])).astype(np.float32)
    clients = [Client(series) for series in x]
    connect = over_http if options.http else over_websocket
    seconds, grown = asyncio.run(run_all(clients, connect, options.url, options.rate, options.wrong_every))
    times = 1e3 * np.concatenate([client.seconds for client in clients])
    different = sum(count_different(model, client) for client in clients)
    refused, taken = sum(client.refused for client in clients), sum(client.wrongly_taken for client in clients)
    rows = grown["rows_per_advance_sum"] / grown["rows_per_advance_count"]
    cpu, engine = grown.get("process_cpu_seconds_total", np.nan), grown["advance_seconds_sum"]
    print(
        f"{options.sessions} sessions, {len(times)} steps in {seconds:.1f} s: {len(times) / seconds:.0f} steps/s; "
        f"p50 {np.percentile(times, 50):.1f} ms, p99 {np.percentile(times, 99):.1f} ms, "
        f"longest {times.max():.1f} ms; {rows:.0f} rows in a call\n"
        f"processor time for a step: {1e6 * cpu / len(times):.0f} us of the service; a call of the engine took "
        f"{1e3 * engine / grown['rows_per_advance_count']:.2f} ms\n"
        f"{different} answers differ from a stream of the client's own; {refused} wrong steps were refused, "
        f"{taken} were not"
    )
    return int(different > 0 or taken > 0)


if __name__ == "__main__":
    sys.exit(main())
