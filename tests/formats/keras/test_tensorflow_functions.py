"""Functions of TensorFlow in the files of Keras 2.15 (tests/data/keras2_functions), with what Keras predicted."""

import json
import zipfile

import numpy as np
import pytest

import cylstm
from cylstm.formats.keras.operations.tensorflow import FUNCTIONS

from tests import DATA
from tests.builders.keras2 import assert_results

pytest.importorskip("h5py")

FOLDER = DATA / "keras2_functions"
FILES = sorted([*FOLDER.glob("*.keras"), *FOLDER.glob("*.h5")])

#: Computed, and in none of the files: compared with NumPy in test_operations.py, or another name of one that is there.
NOT_IN_FILES = {
    "__operators__.eq", "__operators__.ne", "convert_to_tensor", "ensure_shape", "fill", "linspace", "math.add",
    "math.conj",
    "math.mod", "math.real", "nn.avg_pool1d", "nn.max_pool1d", "nn.dropout", "nn.top_k", "ones", "range", "rank",
    "saturate_cast", "sequence_mask", "size", "swish", "zeros", "einsum", "math.divide", "linalg.trace",
    "stop_gradient",
    "slice", "math.floormod", "signal.frame", "linalg.matvec", "math.logical_xor", "math.floordiv", "nn.moments",
    "nn.batch_normalization",
}  # fmt: skip


@pytest.fixture(scope="module")
def expected():
    with np.load(FOLDER / "expected.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("engine", ["packed", "blas"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_kerass_results_are_repeated(expected, path, engine):
    assert f"{path.stem}.y5" in expected
    assert_results(cylstm.load(path, engine=engine), expected, path.stem)


def test_the_functions_that_are_computed_are_in_the_files():
    seen = set()
    for path in FOLDER.glob("*.keras"):
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
        seen |= {str(layer["config"].get("function")) for layer in config["config"]["layers"]}
    seen = {name.removeprefix("compat.v1.") for name in seen}
    seen |= {name.rpartition(".")[2] for name in seen}
    assert {name for name in FUNCTIONS if name not in seen and name.rpartition(".")[2] not in seen} <= NOT_IN_FILES
