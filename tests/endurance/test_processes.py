"""Processes that predict at once, however they were started by one that has predicted on several threads."""

import multiprocessing
import os

import pytest

from tests.endurance import WHOLE, run

PROGRAM = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
import numpy as np
import cylstm
from tests.builders.networks import lstm_model


def same(a, b, engine):
    return np.array_equal(a, b) if engine == "packed" else np.allclose(a, b, rtol=0, atol=2e-6)


def predict(model, stream, x, wanted, engine):
    \"\"\"In a child: what came along predicts, on several threads and at once, and what is made anew too.\"\"\"
    half = x.shape[1] // 2
    found = [
        model.predict(x, threads=2),
        model.predict(x),
        stream.copy().run(x[:, half:]),
        cylstm.Model(model.graph, engine=engine).predict(x, threads=3),
    ]
    return [same(found[n], wanted[:, half:] if n == 2 else wanted, engine) for n in range(4)]


def predict_inherited(_):
    return predict(*INHERITED)


def main():
    global INHERITED
    method, engine = sys.argv[1:]
    rng = np.random.default_rng(3)
    cylstm.engine._engine.use_all_threads(True)
    cylstm.engine._engine.wait_for_threads(10.0)
    model = lstm_model(rng, 12, 70, num_layers=2, engine=engine)
    x = rng.normal(size=(2, 30, 12)).astype(np.float32)
    wanted = model.predict(x, threads=2)
    stream = model.stream(2, threads=2)
    stream.run(x[:, :15])
    arguments = INHERITED = (model, stream, x, wanted, engine)
    context = multiprocessing.get_context(method)
    found = []
    with context.Pool(2) as pool:
        found += pool.starmap(predict, [arguments] * 3)
        if method == "fork":
            found += pool.map(predict_inherited, range(3))
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        found += pool.map(predict, *zip(*[arguments] * 3))
    child = context.Process(target=predict, args=arguments)
    child.start()
    child.join()
    assert same(model.predict(x, threads=2), wanted, engine)
    print(all(map(all, found)), len(found), child.exitcode)


if __name__ == "__main__":
    main()
"""

ALL = [
    (method, threads, engine)
    for method in ("fork", "forkserver", "spawn")
    for threads in ("pool", "openmp")
    for engine in ("packed", "blas")
]
SLICE = [("fork", "openmp", "blas"), ("forkserver", "pool", "packed"), ("spawn", "openmp", "packed")]


@pytest.mark.parametrize("method, threads, engine", ALL if WHOLE else SLICE)
def test_children_predict_at_once_however_they_are_started(tmp_path, method, threads, engine):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    program = tmp_path / "program.py"  # a child that is spawned imports it
    program.write_text(PROGRAM)
    found = run(program, method, engine, CYLSTM_THREADS=threads, OMP_WAIT_POLICY="passive")
    assert found.split() == ["True", "9" if method == "fork" else "6", "0"]


#: what calls import that a fork has not waited for
LEFT = """
import sys
import numpy as np
from cylstm import forks
from tests.builders.networks import lstm_model

model = lstm_model(np.random.default_rng(1), 40, 256)
x = np.ones((2, 50, 40), np.float32)
forks.finish_imports()
before = set(sys.modules)
stream = model.stream(2)
for call in (
    lambda: stream.run(x),
    lambda: stream.step(x[:, 0]),
    lambda: stream.trace(x[:, 0]),
    lambda: model.stream(2, window=4).run(x),
    lambda: model.trace(x),
    lambda: model.predict(x.tolist()),
    lambda: model.predict(x, lengths=[20, 50], threads=2, return_state=True),
    lambda: model.predict(x.astype(">f4")),
    lambda: model.predict_mc(x, 3, rates={"lstm.l0": 0.2}),
):
    call()
print("left", *sorted(set(sys.modules) - before))
"""


def test_calls_import_nothing_that_a_fork_has_not_waited_for():
    assert run(LEFT).split() == ["left"]


#: another thread is inside the import of what a call needs, as slow as on a busy machine
IMPORTS = """
import importlib.abc, os, signal, sys, threading, time
import numpy as np
import cylstm
from tests.builders.networks import lstm_model


class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == sys.argv[1]:
            begun.set()
            time.sleep(0.5)
        return None


begun = threading.Event()
sys.meta_path.insert(0, Slow())
model = lstm_model(np.random.default_rng(1), 40, 256)
x = np.ones((1, 50, 40), np.float32)


def call():
    model.stream().run(x)
    model.trace(x)
    return model.predict(x.tolist())


thread = threading.Thread(target=call)
thread.start()
begun.wait(30)
child = os.fork()
if child == 0:
    signal.alarm(100)
    call()
    os._exit(0)
print(os.waitpid(child, 0)[1], begun.is_set())
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
@pytest.mark.parametrize("module", ["cylstm.stream", "cylstm.trace", "cylstm.engine.threads"])
def test_a_child_forked_while_another_thread_imports_predicts(module):
    if module == "cylstm.engine.threads" and not WHOLE:
        pytest.skip("one of each kind will do")
    assert run(IMPORTS, module).split()[0] == "0"
