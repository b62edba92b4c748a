"""What threads do when nobody calls: nothing, after a few milliseconds."""

import os
import subprocess
import sys

import pytest

#: after its calls the process sleeps, and then prints the CPU time that it took while it slept
PROGRAM = """
import time
import numpy as np
import cylstm
from tests.builders.networks import lstm_model

rng = np.random.default_rng(1)
model = lstm_model(rng, 40, 256)
cylstm.engine._engine.wait_for_threads(10.0)
x = rng.normal(size=(1, 200, 40)).astype(np.float32)
{calls}
time.sleep({rest})
before = time.process_time()
time.sleep(0.5)
print(time.process_time() - before)
"""

PARALLEL = "model.predict(x, threads=2); stream = model.stream(threads=2)\nfor t in range(200): stream.step(x[0, t])"


def cpu_seconds(calls: str, rest: float) -> float:
    program = PROGRAM.format(calls=calls, rest=rest)
    # NumPy's BLAS keeps its own threads busy for a while when it is loaded
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr
    return float(found.stdout)


@pytest.mark.parametrize("calls", ["model.predict(x, threads=1)", PARALLEL], ids=["one thread", "two threads"])
def test_an_idle_process_with_a_loaded_model_uses_no_cpu(calls):
    assert cpu_seconds(calls, 0.1) < 0.005


def test_no_thread_works_on_for_longer_than_a_few_milliseconds():
    # 2 ms of waiting for the next call, and what it takes to go to sleep
    assert cpu_seconds(PARALLEL, 0.0) < 0.010
