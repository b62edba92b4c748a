"""Every operation of keras.ops that is computed, with its options, against Keras (PyTorch backend)."""

import json

import numpy as np
import pytest

import cylstm
from cylstm.formats.keras.operations.table import OPERATIONS

from tests import reference
from tests.builders import keras_operations as networks

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]

#: Computed, and not compared here: PyTorch's backend of Keras 3.15 does not run them, or not as Keras says. They are in
#: test_operations.py.
NOT_LIVE = {
    "Abs", "Conj",  # Keras writes Absolute and Conjugate
    "BroadcastTo", "CountNonzero", "Cross", "Diag", "Kron", "Linspace", "Logspace", "Meshgrid", "Ndim", "Ravel",
    "SearchSorted",    "Size", "Slice", "SliceUpdate", "Arange", "Full", "Flipud", "Vsplit", "Vstack",
}  # fmt: skip

_MADE = {}


def made(keras, family):
    """The model of a family, its input and Keras's outputs; those of ours, and in float64."""
    if family not in _MADE:
        built = networks.Networks(keras, family)
        x = networks.array(family)
        model = cylstm.from_keras(built.model)
        exact, _ = reference.predict(model.graph, x)
        found = model.predict(x)
        _MADE[family] = built, x, networks.outputs(built.model, x), found, exact
    return _MADE[family]


def error(y, other):
    """The largest difference, by the largest number; numbers that are not finite have to be the same."""
    finite = np.isfinite(other)
    assert y.shape == other.shape
    np.testing.assert_array_equal(y[~finite], other[~finite])
    assert np.isfinite(y[finite]).all()
    if not finite.any():
        return 0.0
    return float(np.abs(y - other)[finite].max() / max(np.abs(other[finite]).max(), 1e-3))


@pytest.mark.parametrize(("family", "name"), list(networks.OPERATIONS))
def test_an_operation_gives_kerass_numbers(keras, family, name, record_property):
    built, _, theirs, ours, exact = made(keras, family)
    place = built.places[name]
    assert len(theirs[place]) == len(ours[place]) > 0
    for y, other, true in zip(ours[place], theirs[place], exact[place]):
        worst = error(y, other)
        record_property("worst_error", worst)
        assert worst <= max(2e-6, 4 * error(other, np.asarray(true).reshape(other.shape)))


@pytest.mark.parametrize("family", [name for name in networks.FAMILIES if name[:2] in ("nu", "ch", "nn")])
def test_operations_on_any_number_of_steps(keras, family):
    """An input without a number of steps; on longer sequences than it was made with."""
    names = [name for name in networks.FAMILIES[family] if not name.startswith(("sparsemax time", "one_hot axis"))]
    built = networks.Networks(keras, family, None, names)
    model = cylstm.from_keras(built.model)
    assert model.graph.values[model.graph.inputs[0]].shape[0] is None
    x = np.concatenate([networks.array(family), networks.array("more")], axis=1)
    exact, _ = reference.predict(model.graph, x)
    for y, other, true in zip(model.predict(x), networks.outputs(built.model, x), exact, strict=True):
        assert error(y, other) <= max(2e-6, 4 * error(other, np.asarray(true).reshape(other.shape)))


@pytest.mark.parametrize("family", list(networks.FAMILIES))
def test_a_file_of_operations_gives_the_same_graph(keras, family, tmp_path):
    built, x, _, ours, _ = made(keras, family)
    for suffix in (".keras", ".h5"):
        built.model.save(tmp_path / f"model{suffix}")
        for y, other in zip(cylstm.load(tmp_path / f"model{suffix}").predict(x), ours, strict=True):
            np.testing.assert_array_equal(y, other)
    cylstm.from_keras(built.model).save(tmp_path / "model.cylstm")
    for y, other in zip(cylstm.load(tmp_path / "model.cylstm").predict(x), ours, strict=True):
        np.testing.assert_array_equal(y, other)


def test_every_operation_that_is_computed_is_compared(keras):
    seen = set()
    for family in networks.FAMILIES:
        config = json.loads(made(keras, family)[0].model.to_json())
        seen |= {layer["class_name"] for layer in config["config"]["layers"]}
    assert set(OPERATIONS) - seen - NOT_LIVE == set()
