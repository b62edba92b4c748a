"""The files of tests/data/keras2, which Keras 2.15 wrote, and what it predicted."""

import numpy as np
import pytest

from tests import DATA

h5py = pytest.importorskip("h5py")


FOLDER = DATA / "keras2"


EXPECTED = np.load(FOLDER / "expected.npz")


FILES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".h5", ".keras"))


TOLERANCE = 1e-6


def model_name(file):
    return file.partition(".")[0]


def options_of(file):
    """What a fixture needs beside it: the architecture of weights alone."""
    return {"architecture": FOLDER / f"{model_name(file)}.json"} if ".weights" in file else {}


def assert_expected(model, name):
    """`model` predicts what Keras did."""
    x = EXPECTED[f"{name}.x"]
    found = model.predict(list(x) if len(model.graph.inputs) > 1 else x)
    expected = [EXPECTED[key] for key in sorted(EXPECTED) if key.startswith(f"{name}.y")]
    for y, right in zip(found if isinstance(found, list) else [found], expected, strict=True):
        assert np.abs(y - right).max() <= TOLERANCE * max(1.0, np.abs(right).max())


def assert_results(model, arrays, name):
    """`model` gives what Keras gave, ``NAME.y0`` and so on of `arrays`, for their ``x``."""
    results = [arrays[key] for key in arrays if key.startswith(f"{name}.y")]
    found = model.predict(arrays["x"])
    for k, (y, other) in enumerate(zip(found, results, strict=True)):
        assert y.shape == other.shape, k
        scale = np.abs(other[np.isfinite(other)]).max(initial=1.0)
        np.testing.assert_allclose(y, other, rtol=0, atol=5e-6 * scale, err_msg=str(k))
