"""How many threads a call may use, and does."""

import os
import subprocess
import sys

import numpy as np
import pytest
import threadpoolctl

import cylstm
from cylstm.engine import _engine, threads
from cylstm.errors import ArgumentError

from tests.builders.networks import lstm_model


@pytest.fixture
def clean(monkeypatch):
    for name in ("CYLSTM_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_limit", None)


def test_limits_take_precedence_in_the_stated_order(clean, monkeypatch):
    assert threads.available_threads() >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", "7,3")
    assert threads.available_threads() == 7
    monkeypatch.setenv("CYLSTM_NUM_THREADS", "5")
    assert threads.available_threads() == 5
    monkeypatch.setenv("CYLSTM_NUM_THREADS", "")
    for nonsense in ("0", "-2", "many", ""):
        monkeypatch.setenv("OMP_NUM_THREADS", nonsense)
        assert threads.available_threads() >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert threads.available_threads() == 7
    with threadpoolctl.threadpool_limits(2, user_api="cylstm"):
        assert threads.available_threads() == 2


@pytest.mark.parametrize("nonsense", ["abc", "0", "-2", "1025", "2.5", "9" * 5000, "\u0662", "x,4"])
def test_a_number_of_threads_in_the_environment_that_is_none_is_refused(clean, monkeypatch, rng, capsys, nonsense):
    model = lstm_model(rng, 3, 9)
    monkeypatch.setenv("CYLSTM_NUM_THREADS", nonsense)
    with pytest.raises(
        ArgumentError, match="CYLSTM_NUM_THREADS: expected a whole number of 1 to 1024, found"
    ) as caught:
        threads.available_threads()
    assert len(str(caught.value)) < 200
    with pytest.raises(ArgumentError, match="CYLSTM_NUM_THREADS"):
        cylstm.Model(model.graph)
    with pytest.raises(ArgumentError, match="CYLSTM_NUM_THREADS"):
        model.predict(np.zeros((64, 400, 3), np.float32))
    # other libraries are left in peace
    assert any(info["user_api"] == "cylstm" for info in threadpoolctl.threadpool_info())
    cylstm.show_config()
    assert "none: CYLSTM_NUM_THREADS" in capsys.readouterr().out


def test_threadpoolctl_lists_and_limits_the_engine(clean):
    threads.available_threads()
    found = [info for info in threadpoolctl.threadpool_info() if info["user_api"] == "cylstm"]
    assert len(found) == 1 and found[0]["filepath"].endswith(".so")
    before = threads.available_threads()
    with threadpoolctl.threadpool_limits(1):
        assert threads.available_threads() == 1
    assert threads.available_threads() == before


def test_a_limit_that_is_lifted_leaves_none_behind(clean, monkeypatch):
    with threadpoolctl.threadpool_limits(3, user_api="cylstm"):
        assert threads.available_threads() == 3
    monkeypatch.setenv("CYLSTM_NUM_THREADS", "5")
    assert threads.available_threads() == 5


@pytest.fixture
def threads_by_rule(takes_all_threads):
    _engine.use_all_threads(False)
    yield
    _engine.use_all_threads(takes_all_threads)


def test_small_calls_use_fewer_threads_than_they_may(rng, threads_by_rule):
    small, large = lstm_model(rng, 3, 9), lstm_model(rng, 64, 256)
    assert small._packed.useful_threads(1, 100, 8) == 1
    assert small._packed.useful_threads(64, 1000, 2) == 2
    assert large._packed.useful_threads(1, 100, 2) == 2
    assert large._packed.useful_threads(1, 1, 1) == 1
    assert small.stream(threads=2).threads == 1
    assert small.stream(1000, threads=2).threads == 2
    assert large.stream(threads=2).threads == 2
    assert large.stream(threads=1000).threads < 32


#: prints how many threads there are beside those before, after one call and another
COUNT = """
import os
import numpy as np
import cylstm
from tests.builders.networks import lstm_model

def count():
    return len(os.listdir("/proc/self/task"))

model = lstm_model(np.random.default_rng(1), 40, 256)
x = np.ones((1, 200, 40), np.float32)
cylstm.engine._engine.wait_for_threads(10.0)
before = count()
for threads in (1, 2, {more}):
    model.predict({x}, threads=threads)
    print(count() - before)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task") or _engine.threads_name() != "pool", reason="our threads")
@pytest.mark.parametrize("x", ["x", "x.tolist()"], ids=["array", "list"])
@pytest.mark.parametrize("more", ["3", "None"])
def test_a_call_takes_as_many_threads_as_it_is_told(x, more):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "CYLSTM_NUM_THREADS": "3"}
    command = [sys.executable, "-c", COUNT.format(x=x, more=more)]
    found = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == ["0", "1", "2"]
