"""Masks by version: whole models as several versions of Keras saved them, with what each computed."""

import numpy as np
import pytest

import cylstm

from tests import DATA, reference

pytest.importorskip("h5py")

FOLDER = DATA / "keras_versions"
FILES = sorted(FOLDER.glob("*.keras"))


def golden(path):
    """Inputs and outputs."""
    with np.load(path.with_suffix(".npz")) as arrays:
        return [[arrays[f"{kind}{k}"] for k in range(sum(name[0] == kind for name in arrays))] for kind in "xy"]


def list_of(outputs):
    return outputs if isinstance(outputs, list) else [outputs]


def assert_close(found, expected):
    assert len(found) == len(expected)
    for y, other in zip(found, expected):
        np.testing.assert_allclose(y, other, rtol=0, atol=5e-6 * max(1.0, np.abs(other).max()))


def test_the_versions_are_there():
    assert len({path.stem.partition("-")[2] for path in FILES}) == 5


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_version_of_keras_is_followed_in_both_engines_and_from_our_own_file(path, tmp_path):
    inputs, expected = golden(path)
    for engine, dtype in (("packed", "float32"), ("blas", "float32"), ("blas", "float64")):
        model = cylstm.load(path, engine=engine, dtype=dtype)
        assert_close(list_of(model.predict(inputs)), expected)
    assert_close(reference.predict(model.graph, *inputs)[0], expected)
    model = cylstm.load(path)
    model.save(tmp_path / "model.cylstm")
    again = cylstm.load(tmp_path / "model.cylstm")
    for y, other in zip(list_of(again.predict(inputs)), list_of(model.predict(inputs))):
        np.testing.assert_array_equal(y, other)


@pytest.mark.parametrize(("name", "older", "newer"), [
    ("masked_products", "3.3.3", "3.6.0"),
    ("masked_maximum", "3.3.3", "3.6.0"),
    ("masked_query", "3.6.0", "3.15.1"),
    ("masked_query_dropout", "3.9.2", "3.10.0"),
    ("masks_handed_on", "3.10.0", "3.15.1"),
])  # fmt: skip
def test_another_version_would_give_other_numbers(name, older, newer):
    path = FOLDER / f"{name}-{newer}.keras"
    inputs, expected = golden(path)
    found = list_of(cylstm.load(path, keras_version=older).predict(inputs))
    assert any(np.abs(y - other).max() > 1e-3 for y, other in zip(found, expected))
