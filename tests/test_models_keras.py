"""Whole Keras models, loaded from live ones and from their files, against Keras (PyTorch backend) and the reference."""

import keras_models
import numpy as np
import pytest

import cylstm

import reference

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def keras():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        keras = pytest.importorskip("keras")
        torch = pytest.importorskip("torch")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield keras
        torch.set_num_threads(threads)


def list_of(outputs):
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def check(found, theirs, exact):
    """`found` keeps the promise, given Keras's result and the float64 one. Returns the error on the scale of these."""
    assert found.shape == theirs.shape == exact.shape
    scale = max(1.0, float(np.abs(exact).max()))
    error = float(np.abs(found - exact).max())
    assert error <= max(1e-6 * scale, 4 * float(np.abs(theirs - exact).max())), (error, scale)
    np.testing.assert_allclose(found, theirs, rtol=0, atol=1e-5 * scale)
    return error / scale


def same_graph(a, b):
    assert a.nodes == b.nodes
    assert (a.inputs, a.outputs) == (b.inputs, b.outputs)
    assert list(a.tensors) == list(b.tensors)
    for name, tensor in a.tensors.items():
        np.testing.assert_array_equal(tensor, b.tensors[name])


def test_there_are_many_models():
    assert len(keras_models.MODELS) >= 90


@pytest.mark.parametrize("name", keras_models.MODELS)
def test_a_model_gives_kerass_numbers(keras, tmp_path, name, record_property):
    made = keras_models.build(keras, name)
    inputs = keras_models.arrays(made, name)
    theirs = keras_models.outputs(made, inputs)
    model = cylstm.from_keras(made)
    given = keras_models.in_order_of_the_config(made, inputs)
    exact, _ = reference.predict(model.graph, *given)
    given = given if len(given) > 1 else given[0]
    assert len(theirs) == len(exact)
    worst = 0.0
    for engine in ("packed", "blas"):
        found = list_of(cylstm.Model(model.graph, engine=engine).predict(given))
        worst = max([worst, *map(check, found, theirs, exact)])
    model.save(tmp_path / "model.cylstm")
    for again, first in zip(
        list_of(cylstm.load(tmp_path / "model.cylstm").predict(given)), list_of(model.predict(given))
    ):
        np.testing.assert_array_equal(again, first)
    for suffix in (".keras", ".h5"):
        made.save(tmp_path / f"model{suffix}")
        same_graph(cylstm.load(tmp_path / f"model{suffix}").graph, model.graph)
    record_property("worst_error", worst)
