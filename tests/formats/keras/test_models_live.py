"""Whole Keras models, loaded from live ones and from their files, against Keras (PyTorch backend) and the reference."""

import numpy as np
import pytest

import cylstm
from cylstm.formats.keras.masks import KEEPS, MASKS, OWN, rule_of

from tests import reference
from tests.builders import keras_models
from tests.builders.promise import check

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]


def list_of(outputs):
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def same_graph(a, b, tolerance=0.0):
    assert a.layers == b.layers
    assert (a.inputs, a.outputs) == (b.inputs, b.outputs)
    assert list(a.tensors) == list(b.tensors)
    for name, tensor in a.tensors.items():
        np.testing.assert_allclose(tensor, b.tensors[name], rtol=tolerance, atol=0)


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
        # Keras adds the weights of LoRA as it saves them
        same_graph(cylstm.load(tmp_path / f"model{suffix}").graph, model.graph, 1e-5 if name == "lora" else 0.0)
    record_property("worst_error", worst)


def layers_of(keras):
    """One layer of each class whose rule the table has, that takes (batch, time, features)."""
    options = {
        "Dense": {"units": 4}, "Activation": {"activation": "tanh"}, "Rescaling": {"scale": 0.5},
        "Conv1D": {"filters": 4, "kernel_size": 1}, "DepthwiseConv1D": {"kernel_size": 1},
        "SeparableConv1D": {"filters": 4, "kernel_size": 1}, "AveragePooling1D": {"pool_size": 1},
        "MaxPooling1D": {"pool_size": 1}, "Reshape": {"target_shape": (6, 4)}, "Permute": {"dims": (1, 2)},
        "GroupNormalization": {"groups": 2}, "Normalization": {"mean": 0.5, "variance": 2.0},
        **{key: {"rate": 0.1} for key in ("Dropout", "SpatialDropout1D", "GaussianDropout", "AlphaDropout")},
        "GaussianNoise": {"stddev": 0.1},
        "EinsumDense": {"equation": "abc,cd->abd", "output_shape": (None, 4)},
        "Conv1DTranspose": {"filters": 4, "kernel_size": 2},
        **{f"Adaptive{kind}Pooling1D": {"output_size": 3} for kind in ("Max", "Average")},
    }  # fmt: skip
    for name in MASKS:
        if not hasattr(keras.layers, name):
            continue  # of Keras 2
        if rule_of(name, (3, 15)) != OWN and name not in ("Dot", "RepeatVector", "Softmax"):
            yield name, getattr(keras.layers, name)(**options.get(name, {}))


def test_keras_keeps_and_ends_masks_as_the_table_says(keras):
    x = np.ones((2, 6, 4), np.float32)
    x[1, 4:] = 0
    for name, layer in layers_of(keras):
        mask = getattr(layer(keras.layers.Masking()(x)), "_keras_mask", None)
        assert (mask is not None) == (rule_of(name, (3, 15)) == KEEPS), name


@pytest.mark.parametrize("kind", ["Multiply", "Maximum", "Minimum"])
def test_numbers_at_masked_steps_that_are_not_finite_are_chosen_as_keras_chooses(keras, kind):
    L = keras.layers
    a, b = keras.Input((6, 3)), keras.Input((6, 3))
    made = keras.Model([a, b], getattr(L, kind)()([a, b]))
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 2, 6, 3)).astype("f")
    masks = [rng.random((2, 6)) > 0.4 for _ in range(2)]
    x[0, :, 0], y[1, :, 1], x[1, :, 2] = np.nan, np.inf, -np.inf
    for given in (masks, [masks[0], None]):
        theirs = made([x, y], mask=given)
        named = {name: mask for name, mask in zip(keras_models.input_names(made), given) if mask is not None}
        for engine in ("packed", "blas"):
            found = cylstm.from_keras(made, engine=engine).predict([x, y], mask=named)
            np.testing.assert_allclose(found, theirs.detach().numpy(), rtol=1e-6)
