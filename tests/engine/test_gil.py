"""When a call gives up the GIL: where it lasts long, and not where it is short."""

import sys
import threading
import time

import numpy as np
import pytest

from cylstm.engine.choose import chosen_isa
from cylstm.graph.builder import GraphBuilder
from cylstm.packing import PackedModel

from tests.builders.networks import lstm_model

has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()


@pytest.fixture(scope="module")
def large():
    """Some 5 million multiply-adds a step: a call of many steps takes a while, one of few a millisecond."""
    return lstm_model(np.random.default_rng(1), 64, 1024)


LONG_CALLS = {
    "predict": lambda model, x: model.predict(x, threads=1),
    "predict out": lambda model, x: model.predict(x, threads=1, out=np.empty((*x.shape[:2], 3), np.float32)),
    "predict with lengths": lambda model, x: model.predict(x, threads=1, lengths=[x.shape[1]] * len(x)),
    "a stream": lambda model, x: model.stream(len(x)).run(x),
    "some rows of a stream": lambda model, x: model.stream(len(x) + 1).run(
        np.concatenate([x, x[:1]]), active=np.arange(len(x) + 1) > 0
    ),
}


@pytest.mark.parametrize("call", LONG_CALLS.values(), ids=LONG_CALLS)
def test_a_long_call_lets_other_threads_run(large, call):
    turns, done = [], threading.Event()

    def count():
        while not done.is_set():
            turns.append(time.perf_counter())
            time.sleep(0.001)

    steps, took = 50, 0.0
    while took < 0.2:  # seconds; as many steps as this machine needs for it
        x = np.ones((2, steps, 64), np.float32)
        start = time.perf_counter()
        call(large, x)
        took = time.perf_counter() - start
        steps = int(steps * min(10.0, max(1.5, 0.25 / took)))
    worker = threading.Thread(target=count)
    worker.start()
    try:
        start = time.perf_counter()
        call(large, x)
        end = time.perf_counter()
    finally:
        done.set()
        worker.join()
    # not at the ends, where the interpreter has its turns
    margin = 0.1 * (end - start)
    assert sum(start + margin < turn < end - margin for turn in turns) >= 3


SHORT_CALLS = {
    "predict": lambda model, stream, x: model.predict(x[:, np.newaxis], threads=1),
    "predict with lengths": lambda model, stream, x: model.predict(x[:, np.newaxis], threads=1, lengths=[1, 1]),
    "a step": lambda model, stream, x: stream.step(x),
    "a step of some rows": lambda model, stream, x: stream.step(x, active=np.array([True, False])),
    "a chunk": lambda model, stream, x: stream.run(x[:, np.newaxis]),
}


def check_gil_is_kept(call):
    """Given up beside a busy thread, it would come back after the whole of the other thread's turn."""
    call()
    turns, done = [0], threading.Event()

    def spin():
        while not done.is_set():
            turns[0] += 1

    interval = sys.getswitchinterval()
    worker = threading.Thread(target=spin)
    changes = 0
    try:
        sys.setswitchinterval(1.0)
        worker.start()
        while not turns[0]:
            time.sleep(0.001)
        # the other thread's turn comes after 1 s, or when this one lets it in, for which it has to wake up
        end = time.perf_counter() + 0.2
        while changes < 2 and time.perf_counter() < end:
            before = turns[0]
            call()
            if turns[0] != before:
                changes += 1
                end = time.perf_counter() + 0.2
    finally:
        done.set()
        sys.setswitchinterval(interval)
        worker.join()
    assert changes < 2


@pytest.mark.skipif(not has_gil, reason="a Python without GIL")
@pytest.mark.parametrize("call", SHORT_CALLS.values(), ids=SHORT_CALLS)
def test_short_calls_keep_the_gil_beside_a_busy_thread(rng, call):
    model = lstm_model(rng, 3, 200)
    stream, x = model.stream(2), np.ones((2, 3), np.float32)
    check_gil_is_kept(lambda: call(model, stream, x))


@pytest.mark.skipif(not has_gil, reason="a Python without GIL")
def test_rows_that_rest_do_not_make_a_call_a_long_one(rng):
    stream, x, active = lstm_model(rng, 3, 200).stream(30), np.ones((30, 3), np.float32), np.arange(30) == 7
    check_gil_is_kept(lambda: stream.step(x, active=active))


def test_a_long_write_of_weights_lets_other_threads_run(rng):
    builder = GraphBuilder()
    weights = {"weight": rng.uniform(-1, 1, (4000, 4000)).astype(np.float32)}
    builder.output(builder.add("dense", "dense", {"x": builder.input("x", (4000,))}, weights)["y"])
    graph = builder.build()
    turns, done = [], threading.Event()

    def count():
        while not done.is_set():
            turns.append(time.perf_counter())
            time.sleep(0.0005)

    worker = threading.Thread(target=count)
    worker.start()
    try:
        start = time.perf_counter()
        PackedModel(graph, "packed", chosen_isa(), None, "float32")
        end = time.perf_counter()
    finally:
        done.set()
        worker.join()
    margin = 0.1 * (end - start)
    assert sum(start + margin < turn < end - margin for turn in turns) >= 3
