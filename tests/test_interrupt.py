"""Ctrl-C ends a long call, and other signals' handlers run during it; model and stream are usable afterwards."""

import contextlib
import copy
import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest

import cylstm
from cylstm.graph.builder import GraphBuilder

from tests.builders.networks import lstm_model, random_states
from tests.test_stream_rows import convolution_graph

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that send signals")

#: seconds from a call's begin to the signal; every call below takes far longer
DELAY = 0.05


@pytest.fixture(autouse=True)
def _python_handles_ctrl_c():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGINT, before)


def interrupt(function, delay=DELAY):
    """The call gets SIGINT while it runs; returns what it raised."""
    timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt) as raised:
            function()
            timer.join()
            time.sleep(30)  # the signal of a call that was not long enough comes here, if not before
    finally:
        timer.join()
    return raised


def interrupted_on_the_way(stream, run, time):
    """A copy of a stream whose run was ended after some of its `time` steps and before the last.

    Where a run begins and ends depends on what else the machine does, so the delay is found by trying.
    """
    delay = DELAY
    for _ in range(40):
        tried = copy.copy(stream)
        interrupt(lambda one=tried: run(one), delay)
        steps = tried.steps.max()
        if 0 < steps < time:
            return tried
        delay *= 2 if steps == 0 else 0.6
    raise AssertionError(f"no delay ends it on its way; the last was {delay} s")


def attention_model(rng):
    builder = GraphBuilder()
    x = builder.input("input", (None, 8))
    reads = {"x": x, "key": x, "value": x}
    options = {"score": "dot", "heads": 2, "scale": 0.3}
    y = builder.add("attention", "attention", reads, options=options)["y"]
    builder.output(builder.add("dense", "dense", {"x": y}, {"weight": rng.normal(size=(3, 8)).astype("f")})["y"])
    return cylstm.Model(builder.build())


def convolution_model(rng):
    builder = GraphBuilder()
    y = builder.input("input", (None, 8))
    for i in range(2):
        weights = {"weight": rng.normal(size=(8, 64, 8)).astype("f")}
        y = builder.add("conv1d", f"conv{i}", {"x": y}, weights, {"padding": "same"})["y"]
    builder.output(y)
    return cylstm.Model(builder.build())


CALLS = {
    "pieces": (lambda rng: lstm_model(rng, 8, 256), (1, 300_000), 1),
    "two threads": (lambda rng: lstm_model(rng, 8, 256), (1, 500_000), 2),
    "rows": (lambda rng: lstm_model(rng, 8, 256), (64, 6000), 1),
    "rows apart": (lambda rng: lstm_model(rng, 8, 256), (64, 12_000), 2),
    "one row each": (lambda rng: lstm_model(rng, 8, 256), (2, 300_000), 2),
    "two directions": (lambda rng: lstm_model(rng, 8, 256, bidirectional=True), (1, 100_000), 1),
    "a direction each": (lambda rng: lstm_model(rng, 8, 256, bidirectional=True), (1, 200_000), 2),
    "one layer feeds the other": (lambda rng: lstm_model(rng, 8, 128, num_layers=2), (1, 1_000_000), 2),
    "BLAS": (lambda rng: lstm_model(rng, 8, 256, engine="blas"), (1, 200_000), 1),
    "BLAS, two threads": (lambda rng: lstm_model(rng, 8, 256, engine="blas"), (1, 200_000), 2),
    "BLAS, float64": (lambda rng: lstm_model(rng, 8, 256, engine="blas", dtype="float64"), (1, 150_000), 1),
    "attention": (attention_model, (1, 20_000), 1),
    "convolution": (convolution_model, (1, 2_000_000), 1),
}


@pytest.mark.parametrize("name", CALLS)
def test_ctrl_c_ends_a_long_predict_and_the_model_gives_the_same_bits_afterwards(rng, name):
    make, shape, threads = CALLS[name]
    model = make(rng)
    few = rng.normal(size=(3, 40, 8)).astype(model.dtype)
    wanted = model.predict(few, threads=threads)
    x = np.zeros((*shape, 8), model.dtype)
    out = np.full((*shape, wanted.shape[-1]), np.nan, model.dtype)
    interrupt(lambda: model.predict(x, out=out, threads=threads))
    assert np.isnan(out).any(), "it ran to its end"
    assert np.array_equal(model.predict(few, threads=threads), wanted)


def test_ctrl_c_ends_a_long_predict_with_masks_and_states(rng):
    model = lstm_model(rng, 8, 256, num_layers=2)
    x = np.zeros((2, 200_000, 8), np.float32)
    out = np.full((2, 200_000, 3), np.nan, np.float32)
    state = random_states(rng, model, 2)
    lengths = [200_000, 150_000]
    interrupt(lambda: model.predict(x, initial_state=state, return_state=True, lengths=lengths, out=out, threads=1))
    assert np.isnan(out).any()


def test_a_handler_that_does_not_raise_runs_and_the_call_goes_on(rng):
    model = lstm_model(rng, 8, 128, bidirectional=True)
    x = rng.normal(size=(1, 60_000, 8)).astype(np.float32)
    wanted = model.predict(x, threads=1)
    inside, came = [True], []
    before = signal.signal(signal.SIGALRM, lambda *_: came.append(inside[0]))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        found = model.predict(x, threads=1)
        signal.setitimer(signal.ITIMER_REAL, 0)
        inside[0] = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    # one alone would be the one that waited for the end of the call
    assert sum(came) > 2
    assert np.array_equal(found, wanted)


def test_a_handler_may_use_the_model_and_finds_the_stream_busy(rng):
    model = lstm_model(rng, 8, 256)
    few = rng.normal(size=(3, 40, 8)).astype(np.float32)
    wanted, stream, seen = model.predict(few), model.stream(), []

    def handle(*_):
        seen.append(np.array_equal(model.predict(few), wanted))
        stream.step(np.zeros(8, np.float32))

    x = np.zeros((300_000, 8), np.float32)
    before = signal.signal(signal.SIGALRM, handle)
    try:
        for delay in (DELAY, 4 * DELAY, 16 * DELAY):  # until the run has begun by then
            stream.reset()
            signal.setitimer(signal.ITIMER_REAL, delay)
            with contextlib.suppress(cylstm.StreamBusyError):
                stream.run(x)
                signal.setitimer(signal.ITIMER_REAL, 0)
            if 0 < stream.steps[0] < 300_000:
                break
    finally:
        signal.signal(signal.SIGALRM, before)
    assert seen and all(seen)
    assert 0 < stream.steps[0] < 300_000


def test_a_call_on_another_thread_goes_on(rng):
    model = lstm_model(rng, 8, 128)
    x = rng.normal(size=(1, 100_000, 8)).astype(np.float32)
    wanted, found = model.predict(x, threads=1), []
    worker = threading.Thread(target=lambda: found.append(model.predict(x, threads=1)))
    worker.start()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    worker.join()
    assert np.array_equal(found[0], wanted)


def test_the_main_thread_of_a_forked_child_can_be_ended():
    if not hasattr(os, "fork"):
        pytest.skip("no fork")
    model = lstm_model(np.random.default_rng(0), 8, 256)
    model.predict(np.zeros((1, 2000, 8), np.float32), threads=1)
    codes = []

    def fork():
        child = os.fork()
        if child == 0:
            code = 1
            try:
                out = np.full((1, 300_000, 3), np.nan, np.float32)
                signal.setitimer(signal.ITIMER_REAL, DELAY)
                model.predict(np.zeros((1, 300_000, 8), np.float32), out=out, threads=1)
            except InterruptedError:
                code = 0 if np.isnan(out).any() else 2
            finally:
                os._exit(code)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    def handle(*_):
        raise InterruptedError

    before = signal.signal(signal.SIGALRM, handle)
    try:
        worker = threading.Thread(target=fork)  # whoever forks is the child's main thread
        worker.start()
        worker.join()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert codes == [0]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("engine", ["packed", "blas"])
def test_a_stream_goes_on_from_the_steps_that_it_has_taken(rng, engine, threads):
    model = lstm_model(rng, 8, 128, num_layers=2, engine=engine)
    time = 40_000
    x = rng.normal(size=(1, time, 8)).astype(np.float32)
    state = random_states(rng, model, 1)
    stream, whole = model.stream(threads=threads), model.stream()
    stream.state = whole.state = state
    wanted = whole.run(x)
    out = np.full_like(wanted, np.nan)
    stream = interrupted_on_the_way(stream, lambda one: one.run(x, out=out), time)
    (steps,) = stream.steps
    rest = stream.run(x[:, steps:])
    assert stream.steps.tolist() == whole.steps.tolist() == [time]

    def agree(a, b):
        return np.array_equal(a, b) if engine == "packed" else np.allclose(a, b, rtol=0, atol=2e-6)

    assert agree(out[:, :steps], wanted[:, :steps])
    assert agree(rest, wanted[:, steps:])
    assert all(agree(a, b) for p, q in zip(stream.state, whole.state) for a, b in zip(p, q))


def test_a_traced_run_that_is_ended_has_taken_as_many_steps_as_it_says(rng):
    model = lstm_model(rng, 8, 128, num_layers=2)
    x = rng.normal(size=(1, 40_000, 8)).astype(np.float32)
    start = model.stream()
    start.state = random_states(rng, model, 1)
    stream = interrupted_on_the_way(start, lambda one: one.trace_run(x, what=["c"]), 40_000)
    (steps,) = stream.steps
    start.run(x[:, :steps])
    assert all(np.array_equal(a, b) for p, q in zip(stream.state, start.state) for a, b in zip(p, q))
    assert np.array_equal(stream.trace(x[:, steps]).outputs, start.step(x[:, steps]))


def test_rows_that_rest_take_no_steps_when_a_run_is_ended(rng):
    model = lstm_model(rng, 8, 128)
    time, active = 40_000, np.array([True, False, True, False])
    x = rng.normal(size=(4, time, 8)).astype(np.float32)
    start = model.stream(4)
    start.state = random_states(rng, model, 4)
    stream = interrupted_on_the_way(start, lambda one: one.run(x, active=active), time)
    steps = stream.steps
    assert steps[1] == steps[3] == 0
    assert steps[0] == steps[2]
    start.run(x[:, : steps[0]], active=active)
    assert all(np.array_equal(a, b) for p, q in zip(stream.state, start.state) for a, b in zip(p, q))


def test_steps_count_for_each_row_what_it_has_taken(rng):
    model = lstm_model(rng, 5, 7)
    stream = model.stream(3)
    assert stream.steps.dtype == np.int64
    assert stream.steps.tolist() == [0, 0, 0]
    stream.step(np.ones((3, 5), np.float32))
    stream.run(np.ones((3, 4, 5), np.float32), active=[True, False, True])
    stream.step(np.ones((3, 5), np.float32), active=np.array([False, False, True]))
    assert stream.steps.tolist() == [5, 1, 6]
    assert not stream.steps.flags.writeable
    for other in (copy.copy(stream), copy.deepcopy(stream), pickle.loads(pickle.dumps(stream))):
        assert other.steps.tolist() == [5, 1, 6]
    assert stream.copy([2, 0, 2, 1]).steps.tolist() == [6, 5, 6, 1]
    stream.state = stream.state
    assert stream.steps.tolist() == [5, 1, 6]
    stream.replace([0, 1], stream.copy([2, 0]))
    assert stream.steps.tolist() == [6, 5, 6]
    stream.replace(0, [tuple(array[:1] for array in parts) for parts in stream.state])
    assert stream.steps.tolist() == [0, 5, 6]
    stream.reset([1])
    assert stream.steps.tolist() == [0, 0, 6]
    stream.reset()
    assert stream.steps.tolist() == [0, 0, 0]
    with pytest.raises(AttributeError):
        stream.steps = [1, 2, 3]


def test_steps_are_those_of_the_input_where_a_layer_skips_some(rng):
    stream = cylstm.Model(convolution_graph(rng, 3)).stream(2)
    stream.run(np.ones((2, 9, 6), np.float32))
    assert stream.steps.tolist() == [9, 9]
