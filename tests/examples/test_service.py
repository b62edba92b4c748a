"""The example of a service: uvicorn, started as its users start it, and clients on the loopback."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import cylstm

from tests import ROOT
from tests.examples import environment, import_from

for name in ("fastapi", "prometheus_client", "uvicorn"):
    pytest.importorskip(name)
httpx = pytest.importorskip("httpx")
websockets = pytest.importorskip("websockets")

FOLDER = ROOT / "examples" / "service"
MODEL = ROOT / "examples" / "pollution" / "weights" / "multivariate.cylstm"
FEATURES = 8


class Service:
    """A running service.py, and the client of one test."""

    def __init__(self, *options):
        self.process = subprocess.Popen(
            [sys.executable, str(FOLDER / "service.py"), "--port", "0", *map(str, options)],
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            found = re.search(r"running on (http://\S+)", line)
            if found:
                self.url = found[1]
                break
        else:
            raise AssertionError("".join(lines))
        self.http = httpx.Client(base_url=self.url, timeout=30)

    def open(self):
        answer = self.http.post("/sessions")
        assert answer.status_code == 201, answer.text
        return answer.json()["session"]

    def step(self, session, x):
        return self.http.post(f"/sessions/{session}/steps", content=json.dumps({"x": x}))

    def metrics(self):
        lines = self.http.get("/metrics").text.splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    def stop(self):
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        errors = self.process.communicate(timeout=30)[1]
        assert "Traceback" not in errors, errors
        assert self.process.returncode in (0, -signal.SIGTERM), errors

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        if failure[0] is None:
            self.stop()
        else:
            self.process.kill()
            self.process.communicate()


@pytest.fixture(scope="module")
def model():
    return cylstm.load(MODEL)


@pytest.fixture(scope="module")
def service():
    with Service("--batch", 64) as service:
        yield service


@pytest.fixture
def series(rng):
    return rng.normal(size=(6, FEATURES)).astype(np.float32)


def same(answer, wanted):
    return np.array_equal(np.array(answer.json()["y"], np.float32).view(np.uint32), wanted.view(np.uint32))


@pytest.mark.parametrize("protocol", [[], ["--http"]], ids=["websocket", "http"])
def test_every_answer_is_that_of_a_stream_of_the_clients_own(service, protocol):
    sessions, steps = (20, 4) if protocol else (50, 12)
    found = subprocess.run(
        [sys.executable, FOLDER / "load_test.py", "--url", service.url, "--sessions", str(sessions)]
        + ["--steps", str(steps), "--wrong-every", "5", *protocol],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert found.returncode == 0, found.stdout + found.stderr
    refused = sum((t + number) % 5 == 0 for number in range(sessions) for t in range(steps))
    assert f"{sessions} sessions, {sessions * steps} steps" in found.stdout
    assert f"0 answers differ from a stream of the client's own; {refused} wrong steps were refused" in found.stdout
    for _ in range(100):  # the places of those that have gone are free again
        if service.http.get("/health").json() == {"status": "ok", "sessions": 0, "places": 64}:
            break
        time.sleep(0.05)
    else:
        pytest.fail(service.http.get("/health").text)


@pytest.mark.parametrize(
    "body, message",
    [
        ('{"x": [1, 2]}', "input 'input': expected 8 features, found 2 in shape (2,)"),
        ('{"x": [1, 2, 3, 4, NaN, 6, 7, 8]}', "input 'input': expected finite numbers within the range of float32, "),
        ('{"x": [1, 2, 3, 4, -Infinity, 6, 7, 8]}', "found -inf at position 4"),
        ('{"x": [1, 2, 3, 4, 1e300, 6, 7, 8]}', "found inf at position 4"),
        ('{"x": [1, 2, 3, 4, "5", 6, 7, 8]}', "expected real numbers, found dtype <U21 with '5' at position 4"),
        ('{"x": "text"}', "input 'input': expected real numbers"),
        ('{"x": null}', "input 'input': expected"),
        ('{"x": [[1, 2, 3, 4, 5, 6, 7, 8]]}', "expected one row of shape (8,), found 1 rows"),
        ('{"x": [1' + "0" * 400 + ", 2, 3, 4, 5, 6, 7, 8]}", "input 'input': expected"),
        ('{"y": 1}', 'expected {"x": [numbers]}'),
        ("[1, 2]", 'expected {"x": [numbers]}'),
        ("nonsense", "expected JSON, found something else"),
        ("", "expected JSON"),
        ("[" * 60_000, "expected JSON"),
        (b"\xff\xfe\xfd", "expected JSON"),
        (" " * 70_000, "expected at most 65536 bytes"),
    ],
    ids=range(16),
)
def test_what_is_no_step_is_refused_by_its_sentence_and_changes_nothing(service, model, series, body, message):
    session, stream = service.open(), model.stream()
    assert same(service.step(session, series[0].tolist()), stream.step(series[0]))
    answer = service.http.post(f"/sessions/{session}/steps", content=body)
    assert answer.status_code == 422 and message in answer.json()["error"]
    assert same(service.step(session, series[1].tolist()), stream.step(series[1]))
    assert service.http.delete(f"/sessions/{session}").status_code == 204


def test_a_session_that_is_closed_is_gone_and_its_place_begins_anew(service, model, series):
    places = []
    for _ in range(2):  # the second one gets a place that was used
        sessions = [service.open() for _ in range(64)]
        for session, x in zip(sessions[::9], series[[0, 1, 2, 3, 4, 5, 0, 1]]):
            assert same(service.step(session, x.tolist()), model.stream().step(x))
        places.append(sessions)
        for session in sessions:
            assert service.http.delete(f"/sessions/{session}").status_code == 204
    assert not set(places[0]) & set(places[1])
    answer = service.step(places[0][0], series[0].tolist())
    assert answer.status_code == 404 and "open another one" in answer.json()["error"]
    assert service.http.delete(f"/sessions/{places[0][0]}").status_code == 404


def test_a_full_house_says_when_to_come_again(service):
    sessions = [service.open() for _ in range(64)]
    answer = service.http.post("/sessions")
    assert answer.status_code == 503 and "all 64 places are taken" in answer.json()["error"]
    assert int(answer.headers["Retry-After"]) >= 1

    async def knock():
        async with websockets.connect(service.url.replace("http", "ws") + "/stream") as socket:
            await socket.recv()

    with pytest.raises(websockets.ConnectionClosed, match="all 64 places are taken"):
        asyncio.run(knock())
    for session in sessions:
        service.http.delete(f"/sessions/{session}")
    service.http.delete(f"/sessions/{service.open()}")


def test_metrics_count_what_was_answered(service, series):
    before = service.metrics()
    session = service.open()
    for x in series:
        service.step(session, x.tolist())
    service.step(session, [1])
    found = service.metrics()
    grown = {name: found[name] - before.get(name, 0.0) for name in found}
    assert grown['answers_total{kind="ok"}'] == grown["step_seconds_count"] == 6
    assert grown['answers_total{kind="refused"}'] == 1
    assert grown["rows_per_advance_sum"] == 6 and 0 < grown["advance_seconds_sum"] < grown["step_seconds_sum"]
    assert found["sessions"] == 1 and found["steps_waiting"] == 0
    service.http.delete(f"/sessions/{session}")


def test_idle_sessions_free_their_places_and_those_in_use_do_not(model, series):
    with Service("--batch", 2, "--idle", 1.0) as service:
        used, idle = service.open(), service.open()
        stream = model.stream()
        for t in range(600):
            x = series[t % 6]
            assert same(service.step(used, x.tolist()), stream.step(x))
            if service.http.get("/health").json()["sessions"] == 1:
                break
            time.sleep(0.05)
        assert service.step(idle, series[0].tolist()).status_code == 404
        new = service.open()
        assert same(service.step(new, series[0].tolist()), model.stream().step(series[0]))


def test_a_stop_finishes_what_is_queued_and_keeps_the_states(model, series, tmp_path):
    kept = tmp_path / "kept.npz"
    streams = [model.stream() for _ in range(3)]
    with Service("--batch", 4, "--kept", kept) as service:
        sessions = [service.open() for _ in range(3)]
        for session, stream, x in zip(sessions, streams, series):
            assert same(service.step(session, x.tolist()), stream.step(x))
        service.http.delete(f"/sessions/{sessions[1]}")
        unused = service.open()
    assert kept.stat().st_mode & 0o077 == 0
    with Service("--batch", 4, "--kept", kept) as service:
        assert service.http.get("/health").json()["sessions"] == 2
        for n in (2, 0):
            answer = service.step(sessions[n], series[4].tolist())
            assert same(answer, streams[n].step(series[4])) and answer.json()["step"] == 2
        assert service.step(sessions[1], series[0].tolist()).status_code == 404
        assert service.step(unused, series[0].tolist()).status_code == 404
        assert len({service.open() for _ in range(2)}) == 2
        assert service.http.post("/sessions").status_code == 503


# ---- the places by themselves, whose worker can be held ----


@pytest.fixture
def places_module(monkeypatch):
    return import_from(monkeypatch, "service", "places")[0]


async def y_of(places, session, x):
    return (await places.step(session, x))[0]


class HeldPlaces:
    """Places whose worker thread waits until it may go on."""

    def __init__(self, module, model, **options):
        self.may_run, self.is_inside = threading.Event(), threading.Event()
        self.places = module.Places(model, **options)
        advance = self.places._advance

        def held(fresh):
            self.is_inside.set()
            assert self.may_run.wait(20)
            return advance(fresh)

        self.places._advance = held

    async def until_inside(self):
        while not self.is_inside.is_set():
            await asyncio.sleep(0.001)  # which the loop can do: the worker does not block it


def test_a_bounded_queue_refuses_and_what_waits_is_computed(places_module, model, series):
    async def run():
        held = HeldPlaces(places_module, model, batch=3, most_waiting=4)
        places = held.places
        await places.start()
        one, two = places.open(), places.open()
        steps = [asyncio.create_task(y_of(places, one, series[0]))]
        await held.until_inside()
        for session, t in ((one, 1), (two, 0), (one, 2), (two, 1)):
            steps.append(asyncio.create_task(y_of(places, session, series[t])))
        await asyncio.sleep(0)
        with pytest.raises(places_module.Full, match="4 steps are waiting") as caught:
            await y_of(places, two, series[2])
        assert caught.value.retry_after >= 1
        stop = asyncio.create_task(places.stop())
        await asyncio.sleep(0)
        with pytest.raises(places_module.Full, match="stopping"):
            await y_of(places, two, series[2])
        with pytest.raises(places_module.Full, match="stopping"):
            places.open()
        held.may_run.set()
        await stop
        return [await step for step in steps]

    found = np.array(asyncio.run(run()), np.float32)
    streams = [model.stream(), model.stream()]
    wanted = [streams[n].step(series[t]) for n, t in ((0, 0), (0, 1), (1, 0), (0, 2), (1, 1))]
    np.testing.assert_array_equal(found.view(np.uint32), np.stack(wanted).view(np.uint32))


def test_a_client_that_sends_too_fast_is_told_so_alone(places_module, model, series):
    async def run():
        held = HeldPlaces(places_module, model, batch=3)
        places = held.places
        await places.start()
        fast, other = places.open(), places.open()
        steps = [asyncio.create_task(places.step(fast, series[0])) for _ in range(places.WAITING_PER_SESSION)]
        await held.until_inside()
        with pytest.raises(places_module.TooFast, match="16 steps of this session are waiting"):
            await y_of(places, fast, series[0])
        steps.append(asyncio.create_task(places.step(other, series[1])))
        held.may_run.set()
        found = await asyncio.gather(*steps)
        await places.stop()
        return found

    found, numbers = zip(*asyncio.run(run()))
    assert numbers == (*range(1, 17), 1)
    found = np.array(found, np.float32)
    stream = model.stream()
    for row in found[:-1]:
        np.testing.assert_array_equal(row, stream.step(series[0]))
    np.testing.assert_array_equal(found[-1], model.stream().step(series[1]))


def test_a_client_that_goes_away_in_the_middle_disturbs_nobody(places_module, model, series):
    async def run():
        held = HeldPlaces(places_module, model, batch=2)
        places = held.places
        await places.start()
        leaving, staying = places.open(), places.open()
        gone = [asyncio.create_task(y_of(places, leaving, x)) for x in series[:3]]
        stays = asyncio.create_task(y_of(places, staying, series[3]))
        await held.until_inside()
        gone[0].cancel()
        places.close(leaving)
        with pytest.raises(places_module.Full):  # its place is in use until its step is over
            places.open()
        held.may_run.set()
        found = [await stays]
        for step in gone[1:]:
            with pytest.raises(places_module.Gone):
                await step
        new = places.open()
        assert new.row == leaving.row
        found.append(await y_of(places, new, series[4]))
        await places.stop()
        return found

    found = np.array(asyncio.run(run()), np.float32)
    for row, x in zip(found, series[3:5]):
        np.testing.assert_array_equal(row, model.stream().step(x))


def test_a_result_that_is_not_finite_closes_its_session_alone(places_module, model, series):
    async def run():
        places = places_module.Places(model, batch=3)
        await places.start()
        broken, right = places.open(), places.open()
        await asyncio.gather(y_of(places, broken, series[0]), y_of(places, right, series[0]))
        state = places.stream.copy(broken.row).state
        state[0][0][:] = np.inf
        places.stream.replace(broken.row, state)
        found = await asyncio.gather(
            y_of(places, broken, series[1]), y_of(places, right, series[1]), return_exceptions=True
        )
        again = [places.open(), places.open()]
        assert broken.row in {session.row for session in again}
        found += [await y_of(places, session, series[2]) for session in again]
        await places.stop()
        return found

    error, *found = asyncio.run(run())
    assert isinstance(error, ArithmeticError) and "not finite" in str(error)
    stream = model.stream()
    stream.step(series[0])
    wanted = [stream.step(series[1]), *(model.stream().step(series[2]) for _ in range(2))]
    np.testing.assert_array_equal(np.array(found, np.float32), wanted)


def test_a_call_that_fails_is_answered_and_the_next_one_goes_on(places_module, model, series):
    async def run():
        places = places_module.Places(model, batch=2)
        await places.start()
        for session in (places.open(), places.open()):  # so that the places have to begin anew
            await y_of(places, session, series[4])
            places.close(session)
        one, two = places.open(), places.open()
        advance, fails = places._advance, [True]

        def fail_once(fresh):
            if fails:
                fails.clear()
                raise MemoryError("no room")
            return advance(fresh)

        places._advance = fail_once
        both = [y_of(places, session, x) for session, x in zip((one, two), series)]
        found = await asyncio.gather(*both, return_exceptions=True)
        assert all(isinstance(error, MemoryError) for error in found)
        found = await asyncio.gather(y_of(places, one, series[2]), y_of(places, two, series[3]))
        await places.stop()
        return found

    found = np.array(asyncio.run(run()), np.float32)
    for row, x in zip(found, series[2:4]):
        np.testing.assert_array_equal(row, model.stream().step(x))


def test_networks_that_the_service_cannot_serve_are_refused(places_module):
    from tests.test_stream_warm_up import conditioned, valid_model

    async def run(model):
        return places_module.Places(model)

    rng = np.random.default_rng(3)
    with pytest.raises(ValueError, match="one input and one output"):
        asyncio.run(run(conditioned(rng)))
    with pytest.raises(ValueError, match=r"the first \d+ steps of this network have no output|one output"):
        asyncio.run(run(valid_model(rng)))
