"""OpenMP's threads: chosen at run time, loaded when first used, and the pool's where they cannot be."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import cylstm
from cylstm import UnsupportedError
from cylstm.engine import _engine, openmp
from cylstm.engine.config import show_config

from tests.builders.networks import bits, lstm_model, random_states

ENGINES = ("packed", "blas")

needs_openmp = pytest.mark.skipif(bool(openmp.load().reason), reason=openmp.load().reason or "OpenMP is there")


def run(program, *arguments, **environment):
    """What a program prints in a process of its own, where these variables alone say whose threads there are."""
    inherited = {key: text for key, text in os.environ.items() if key != "CYLSTM_THREADS"}
    found = subprocess.run(
        [sys.executable, "-c", START + program, *arguments],
        capture_output=True,
        text=True,
        env=inherited | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        timeout=100,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


#: exact number of threads; a process that hangs is ended
START = """
import os, signal, sys, threading
import numpy as np
import cylstm
from tests.builders.networks import lstm_model

cylstm.engine._engine.use_all_threads(True)
cylstm.engine._engine.wait_for_threads(10.0)
rng = np.random.default_rng(3)
x = rng.normal(size=(2, 30, 12)).astype(np.float32)
"""


@needs_openmp
@pytest.mark.parametrize(
    "engine, threads, wanted, is_loaded",
    [
        ("packed", 2, "", False),
        ("packed", 2, "pool", False),
        ("packed", 1, "openmp", False),
        ("packed", 2, "openmp", True),
        ("blas", 1, "", False),
        ("blas", 2, "", True),
        ("blas", 2, "pool", False),
        ("blas", 2, "openmp", True),
    ],
)
@pytest.mark.parametrize("call", ["predict", "stream"])
@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="Linux tells what is loaded")
def test_a_runtime_is_loaded_by_the_first_call_on_several_of_its_threads_alone(
    engine, threads, wanted, is_loaded, call
):
    program = """
engine, threads, call = sys.argv[1:]
model = lstm_model(rng, 12, 70, engine=engine)
if call == "predict":
    model.predict(x, threads=int(threads))
else:
    model.stream(2, threads=int(threads)).step(x[:, 0])
print(any("gomp" in line for line in open("/proc/self/maps")))
"""
    variables = {"CYLSTM_THREADS": wanted} if wanted else {}
    assert run(program, engine, str(threads), call, **variables).strip() == str(is_loaded)


@pytest.fixture
def fresh(monkeypatch):
    """What was found is forgotten, and found again afterwards."""
    monkeypatch.setattr(openmp, "_found", None)
    _engine.bind_openmp(0)
    yield
    monkeypatch.undo()
    openmp._found = None
    openmp.load()


@needs_openmp
def test_both_kinds_of_threads_give_the_same_bits(rng, monkeypatch):
    for options in ({"num_layers": 2, "proj_size": 21}, {"bidirectional": True}):
        model = lstm_model(rng, 12, 70, **options)
        monkeypatch.setenv("CYLSTM_THREADS", "openmp")
        other = cylstm.Model(model.graph)
        monkeypatch.delenv("CYLSTM_THREADS")
        for batch, time in ((1, 40), (3, 17), (60, 5)):
            x = rng.normal(size=(batch, time, 12)).astype(np.float32)
            state = random_states(rng, model, batch)
            for threads in (2, 3):
                expected = model.predict(x, initial_state=state, threads=threads)
                found = other.predict(x, initial_state=state, threads=threads)
                np.testing.assert_array_equal(bits(found), bits(expected))
                if not options.get("bidirectional"):
                    one, two = model.stream(batch, threads=threads), other.stream(batch, threads=threads)
                    np.testing.assert_array_equal(bits(two.run(x)), bits(one.run(x)))


@needs_openmp
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("wanted", ["pool", "openmp"])
def test_the_blas_engine_is_right_on_both_kinds_of_threads(rng, monkeypatch, dtype, wanted):
    monkeypatch.setenv("CYLSTM_THREADS", wanted)
    model = lstm_model(rng, 12, 70, num_layers=2, engine="blas", dtype=dtype)
    exact = cylstm.Model(model.graph, dtype="float64")
    for batch in (1, 3, 60):
        x = rng.normal(size=(batch, 20, 12)).astype(dtype)
        expected = exact.predict(x, threads=1)
        for threads in (1, 2, 5):
            np.testing.assert_allclose(model.predict(x, threads=threads), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_threads_of_no_known_kind_are_an_error(rng, monkeypatch, engine):
    graph = lstm_model(rng, 3, 9).graph
    monkeypatch.setenv("CYLSTM_THREADS", "tbb")
    with pytest.raises(UnsupportedError, match="CYLSTM_THREADS=tbb: expected pool or openmp"):
        cylstm.Model(graph, engine=engine)


@needs_openmp
def test_many_first_calls_at_once_load_it_once():
    program = """
models = [lstm_model(rng, 12, 70, engine="blas") for _ in range(8)]
expected = [model.predict(x, threads=1) for model in models]
start, wrong = threading.Barrier(8), []

def call(index):
    start.wait()
    if not np.allclose(models[index].predict(x, threads=2), expected[index], atol=1e-6):
        wrong.append(index)

threads = [threading.Thread(target=call, args=(index,)) for index in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(wrong, cylstm.engine.openmp.load().reason)
"""
    assert run(program).split() == ["[]"]


# ---- where it cannot be used ----


def failures(tmp_path):
    """What is missing -> how to make it so, and the reason that is given."""
    engine = tmp_path / "_engine.so"
    return {
        "library": ({"_engine": SimpleNamespace(__file__=str(engine))}, "built without OpenMP (_openmp.so is missing)"),
        "runtime": (
            {"_SYSTEM_NAME": "libgomp-of-nobody.so.1", "_loaded": lambda: []},
            "no OpenMP runtime: libgomp-of-nobody.so.1",
        ),
        "functions": ({"_SYSTEM_NAME": "libc.so.6", "_loaded": lambda: []}, "libc.so.6 has not all of GOMP_parallel"),
        "format": ({"_engine": SimpleNamespace(__file__=str(engine))}, f"{tmp_path / '_openmp.so'} cannot be used"),
    }


@needs_openmp
@pytest.mark.parametrize("missing", ["library", "runtime", "functions", "format"])
def test_the_pool_runs_the_calls_where_it_is_missing_and_the_configuration_says_why(
    rng, monkeypatch, tmp_path, fresh, capsys, missing
):
    changes, reason = failures(tmp_path)[missing]
    if missing == "format":
        (tmp_path / "_openmp.so").write_bytes(b"\x7fELF" + bytes(200))
    for name, value in changes.items():
        monkeypatch.setattr(openmp, name, value)
    model = lstm_model(rng, 12, 70, engine="blas")
    x = rng.normal(size=(2, 30, 12)).astype(np.float32)
    np.testing.assert_allclose(model.predict(x, threads=2), model.predict(x, threads=1), rtol=0, atol=1e-6)
    assert reason in openmp.load().reason
    show_config()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BLAS engine:")]
    assert "our own pool" in line and f"not OpenMP: {openmp.load().reason}" in line


@needs_openmp
def test_the_configuration_names_each_engines_threads_and_their_files(monkeypatch, capsys):
    def lines():
        show_config()
        rows = (line.partition(":") for line in capsys.readouterr().out.splitlines())
        return {name: text.strip() for name, _, text in rows}

    monkeypatch.delenv("CYLSTM_THREADS", raising=False)
    found = openmp.load()
    through_openmp = f"OpenMP ({found.library} with {found.runtime})"
    assert os.path.exists(found.library) and "gomp" in found.runtime
    assert lines()["packed engine"] == f"our own pool ({_engine.__file__})"
    assert lines()["BLAS engine"] == through_openmp
    monkeypatch.setenv("CYLSTM_THREADS", "openmp")
    assert lines()["packed engine"] == through_openmp
    monkeypatch.setenv("CYLSTM_THREADS", "tbb")
    assert "CYLSTM_THREADS=tbb" in lines()["packed engine"]


# ---- fork ----


@needs_openmp
@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
@pytest.mark.parametrize("engine", ENGINES)
def test_a_child_forked_after_a_parallel_region_predicts(engine):
    program = """
model = lstm_model(rng, 12, 70, engine=sys.argv[1])
stream = model.stream(2, threads=2)
expected = model.predict(x, threads=2)
for _ in range(3):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        y = model.predict(x, threads=2)
        os._exit(0 if np.allclose(y, expected, atol=1e-6) and np.allclose(stream.run(x), expected, atol=1e-6) else 1)
    print(os.waitpid(child, 0)[1])
"""
    assert run(program, engine, CYLSTM_THREADS="openmp").split() == ["0"] * 3


@needs_openmp
@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_child_forked_while_a_thread_loads_predicts():
    program = """
from cylstm.engine import openmp

model = lstm_model(rng, 12, 70, engine="blas")
expected = model.predict(x, threads=1)
load, loads, is_over = openmp._load, threading.Event(), threading.Event()

def load_slowly():
    loads.set()
    is_over.wait(30)
    return load()

openmp._load = load_slowly
thread = threading.Thread(target=model.predict, args=(x,), kwargs={"threads": 2})
thread.start()
loads.wait()
child = os.fork()
if child == 0:
    signal.alarm(30)
    openmp._load = load
    os._exit(0 if np.allclose(model.predict(x, threads=2), expected, atol=1e-6) else 1)
print(os.waitpid(child, 0)[1])
is_over.set()
thread.join()
"""
    assert run(program).strip() == "0"


#: children are forked while another thread is inside the BLAS engine; each looks at NumPy's BLAS and uses it
FORKS = """
from threadpoolctl import threadpool_info

def blas_threads():
    return [info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"]

model = lstm_model(rng, 12, 70, engine="blas")
before, is_over = blas_threads(), False
expected = model.predict(x, threads=1)

def predict():
    while not is_over:
        model.predict(x, threads=int(sys.argv[1]))

threads = [threading.Thread(target=predict) for _ in range(2)]
for thread in threads:
    thread.start()
statuses = []
for _ in range(20):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        is_right = blas_threads() == before
        a = np.ones((300, 300))
        is_right &= bool((a @ a == 300.0).all())
        is_right &= np.allclose(model.predict(x, threads=2), expected, atol=1e-6) and blas_threads() == before
        os._exit(0 if is_right else 1)
    statuses.append(os.waitpid(child, 0)[1])
is_over = True
for thread in threads:
    thread.join()
print(max(before, default=1), before == blas_threads(), statuses.count(0))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("wanted", ["pool", "openmp"])
def test_a_child_forked_during_a_prediction_keeps_all_threads_of_the_blas(wanted, threads):
    most, *found = run(FORKS, threads, CYLSTM_THREADS=wanted).split()
    assert found == ["True", "20"]
    if most == "1":
        pytest.skip("the BLAS here has one thread")
