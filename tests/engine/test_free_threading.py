"""Python threads at once, on a Python without GIL (`make test-free-threaded`) truly so: nothing is mixed up or lost."""

import subprocess
import sys
import sysconfig
import threading

import numpy as np
import pytest

from cylstm import StreamBusyError
from cylstm.engine import blas
from cylstm.engine import threads as rules

from tests import ROOT
from tests.builders.networks import lstm_model, same
from tests.builders.threads import at_once

THREADS = 16


@pytest.fixture(autouse=True)
def many_switches():
    """With a GIL the threads take turns often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="a Python with a GIL")
def test_importing_does_not_turn_the_gil_on():
    # neither by the package, whose modules say that they need none, nor by an option of this process
    code = "import sys, cylstm, cylstm.engine.openmp; print(sys._is_gil_enabled())"
    command = [sys.executable, "-I", "-W", "error", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("batch", [1, 3])
def test_threads_share_a_model_each_with_a_stream_of_its_own(rng, batch):
    model = lstm_model(rng, 4, 21, num_layers=2)
    x = rng.normal(size=(THREADS, 120, batch, 4)).astype(np.float32)
    streams = [model.stream(batch) for _ in range(THREADS)]
    expected = [np.stack([stream.step(row) for row in rows]) for stream, rows in zip(streams, x)]

    def run(index):
        stream, out = model.stream(batch), np.empty((batch, 3), np.float32)
        return np.stack([stream.step(row, out=out).copy() for row in x[index]])

    for found, one in zip(at_once(run, THREADS), expected):
        assert same(found, one)


def test_threads_predict_and_trace_with_a_model_that_has_not_run_yet(rng):
    x = rng.normal(size=(THREADS, 5, 9, 4)).astype(np.float32)
    state = rng.bit_generator.state
    alone = lstm_model(rng, 4, 21, num_layers=2, bidirectional=True)
    rng.bit_generator.state = state
    model = lstm_model(rng, 4, 21, num_layers=2, bidirectional=True)

    def run(index):
        traced = model.trace(x[index], what=["f", "c"][: 1 + index % 2])
        return model.predict(x[index]), model.predict(x[index], threads=2), traced.outputs, traced["lstm.l0"].f

    for one, found in zip(x, at_once(run, THREADS)):
        expected = alone.predict(one)
        assert all(same(part, expected) for part in found[:3])
        assert same(found[3], alone.trace(one)["lstm.l0"].f)


def test_a_stream_that_threads_share_takes_each_step_whole_or_refuses_it(rng):
    model = lstm_model(rng, 4, 60)
    stream, x = model.stream(3), rng.normal(size=(3, 4)).astype(np.float32)

    def run(_):
        taken, refused = 0, 0
        for _ in range(400):
            try:
                stream.step(x)
                taken += 1
            except StreamBusyError as error:
                assert "give each thread its own stream" in str(error)
                refused += 1
        return taken, refused

    outcomes = at_once(run, 4)
    taken = sum(one for one, _ in outcomes)
    assert taken + sum(one for _, one in outcomes) == 1600
    assert stream.steps.tolist() == [taken] * 3
    twin = model.stream(3)
    for _ in range(taken):
        twin.step(x)
    assert same(stream.step(x), twin.step(x))


def test_an_array_that_threads_write_to_at_once_holds_numbers_of_theirs_alone(rng):
    """Whose, nobody can say; the streams themselves are as they would be."""
    model, count = lstm_model(rng, 4, 21), 4
    x = rng.normal(size=(count, 300, 4)).astype(np.float32)
    twins = [model.stream() for _ in range(count)]
    expected = [np.stack([twin.step(row) for row in rows]) for twin, rows in zip(twins, x)]
    out = np.zeros(3, np.float32)
    streams = [model.stream() for _ in range(count)]

    def run(index):
        for row in x[index]:
            assert streams[index].step(row, out=out) is out

    at_once(run, count)
    assert all(number in {float(one[-1][place]) for one in expected} for place, number in enumerate(out))
    for stream, twin in zip(streams, twins):
        assert same(stream.step(x[0, 0]), twin.step(x[0, 0]))


def test_the_first_calls_on_openmps_threads_may_come_at_once(rng, monkeypatch):
    monkeypatch.setenv("CYLSTM_THREADS", "openmp")
    x = rng.normal(size=(4, 7, 4)).astype(np.float32)
    for _ in range(40):
        model = lstm_model(rng, 4, 21)
        found = at_once(lambda _: model.predict(x, threads=2), 4)  # noqa: B023  (called at once)
        assert all(same(one, found[0]) for one in found)


def test_a_blas_is_looked_for_once(monkeypatch):
    looked = []

    def candidates(tried):
        looked.append(threading.get_ident())
        yield from given(tried)

    given = blas._candidates
    monkeypatch.setattr(blas, "_candidates", candidates)
    monkeypatch.setattr(blas, "_found", None)
    try:
        found = at_once(lambda _: blas.find_blas(), THREADS)
    except blas.BlasNotFoundError:
        pytest.skip("no BLAS")
    assert len(looked) == 1 and all(one is found[0] for one in found)


def test_a_limit_that_is_set_and_lifted_meanwhile_is_a_number_at_any_moment(monkeypatch):
    monkeypatch.delenv("CYLSTM_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(rules, "_limit", None)
    free = rules.available_threads()

    looking = threading.Semaphore(3)

    def run(index):
        if index == 0:
            while looking._value:  # changed until nobody looks any more
                rules.set_limit(free + 1)
                rules.set_limit(free)
            return set()
        found = {rules._available() for _ in range(40_000)}
        looking.acquire()
        return found

    assert set().union(*at_once(run, 4)) <= {free, free + 1}


def test_plans_that_other_threads_drop_are_made_again(rng):
    """A model keeps the plans of a few traces; more choices than those at once."""
    model = lstm_model(rng, 4, 8, num_layers=3)
    x = rng.normal(size=(2, 5, 4)).astype(np.float32)
    parts = ["i", "f", "g", "o", "c", "h"]

    def run(index):
        for turn in range(30):
            layer, part = f"lstm.l{(index + turn) % 3}", parts[(index * 5 + turn) % 6]
            found = model.trace(x, [layer], [part])
            assert getattr(found[layer], part).shape == (2, 5, 8)

    at_once(run, 8)
