"""CyLSTM in one process with libraries that bring OpenMP and threads of their own."""

import itertools
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.frameworks

#: each part imports one library and makes it compute on two threads
PARTS = {
    "cylstm": """
import cylstm
from tests.builders.networks import lstm_model
model = lstm_model(np.random.default_rng(1), 40, 256)
cylstm.engine._engine.wait_for_threads(10.0)
results.append(model.predict(x, threads=2).tobytes())
# on OpenMP's threads
through_blas = cylstm.Model(model.graph, engine="blas").predict(x, threads=2)
np.testing.assert_allclose(through_blas, model.predict(x), rtol=0, atol=1e-5)
""",
    "sklearn": """
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_info
KMeans(3, n_init=1, random_state=1).fit(x[0])
assert any(library["user_api"] == "openmp" for library in threadpool_info())
""",
    "torch": """
import torch
torch.set_num_threads(2)
(torch.from_numpy(x[0]) @ torch.ones(40, 4000)).sum()
""",
}
START = "import numpy as np\nx = np.random.default_rng(2).normal(size=(1, 200, 40)).astype(np.float32)\nresults = []\n"
END = f"{PARTS['cylstm']}\nassert len(set(results)) == 1"


@pytest.mark.parametrize("name", ["sklearn", "torch"])
def test_the_openmp_runtime_that_is_there_is_taken(name):
    pytest.importorskip(name)
    program = (
        f"{START}{PARTS[name]}"
        + """
from threadpoolctl import threadpool_info
runtimes = lambda: {info["filepath"] for info in threadpool_info() if info["user_api"] == "openmp"}
before = runtimes()
"""
        + PARTS["cylstm"]
        + """
from cylstm.engine.openmp import load
assert load().reason == "" and load().runtime in before and runtimes() == before, (load(), before, runtimes())
"""
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("order", list(itertools.permutations(PARTS)), ids=" ".join)
def test_the_bits_are_the_same_whatever_is_imported_before_and_after(order):
    for name in order:
        pytest.importorskip(name)
    program = START + "".join(PARTS[name] for name in order) + END
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr
