"""Whole Keras models, loaded from live ones and from their files, against Keras (PyTorch backend) and the reference."""

import numpy as np
import pytest

import cylstm
from cylstm.formats.keras.masks import KEEPS, MASKS, OWN, rule_of

from tests import reference
from tests.builders import keras_images, keras_models
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
    assert len(keras_models.MODELS) >= 260
    assert {f"image_{key}" for key in keras_images.IMAGES} < set(keras_models.MODELS)


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


def test_an_average_with_odd_padding_is_refused_where_keras_on_pytorch_is_known_to_have_computed_it(keras, tmp_path):
    """It counts that step of padding as another one like the last; other backends count none."""
    L = keras.layers
    x = np.random.default_rng(5).normal(size=(3, 7, 5, 2)).astype(np.float32)
    made = keras.Sequential([keras.Input(x.shape[1:]), L.AveragePooling2D((2, 3), strides=(2, 1), padding="same")])
    made.save(tmp_path / "a.keras")
    made.save(tmp_path / "a.h5")
    for read in (lambda: cylstm.from_keras(made), lambda: cylstm.load(tmp_path / "a.h5")):
        with pytest.raises(cylstm.UnsupportedError, match="AveragePooling2D.*an average of Keras on PyTorch counts"):
            read()
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 1), (1, 1), (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2, 3), (1, 2))[:, ::2]
    found = cylstm.load(tmp_path / "a.keras").predict(x)
    np.testing.assert_allclose(found, np.nanmean(windows, axis=(-2, -1)), atol=1e-6)


def layers_of(keras):
    """One layer of each class whose rule the table has, that takes (batch, time, features), or of images likewise."""
    options = {
        "Dense": {"units": 4}, "Activation": {"activation": "tanh"}, "Rescaling": {"scale": 0.5},
        **{f"{kind}Conv{n}D": {"kernel_size": 1} for kind in ("", "Depthwise", "Separable") for n in (1, 2, 3)},
        **{f"Conv{n}DTranspose": {"kernel_size": 2} for n in (1, 2, 3)},
        **{f"{kind}Pooling{n}D": {"pool_size": 1} for kind in ("Max", "Average") for n in (1, 2, 3)},
        **{f"Adaptive{kind}Pooling{n}D": {"output_size": 3} for kind in ("Max", "Average") for n in (1, 2, 3)},
        "Reshape": {"target_shape": (6, 4)}, "Permute": {"dims": (1, 2)},
        "GroupNormalization": {"groups": 2}, "Normalization": {"mean": 0.5, "variance": 2.0},
        **{key: {"rate": 0.1} for key in ("Dropout", "GaussianDropout", "AlphaDropout")},
        **{f"SpatialDropout{n}D": {"rate": 0.1} for n in (1, 2, 3)},
        "GaussianNoise": {"stddev": 0.1},
        "EinsumDense": {"equation": "abc,cd->abd", "output_shape": (None, 4)},
    }  # fmt: skip
    for name in MASKS:
        if not hasattr(keras.layers, name):
            continue  # of Keras 2
        if rule_of(name, (3, 15)) != OWN and name not in ("Dot", "RepeatVector", "Softmax"):
            given = options.get(name, {})
            if "Conv" in name and "Depthwise" not in name:
                given = {**given, "filters": 4}
            yield name, getattr(keras.layers, name)(**given)


def test_keras_keeps_and_ends_masks_as_the_table_says(keras):
    for name, layer in layers_of(keras):
        sizes = {"2D": (3,), "3D": (3, 5)}
        x = np.ones((2, 6, *next((more for key, more in sizes.items() if key in name), ()), 4), np.float32)
        x[1, 4:] = 0
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
            np.testing.assert_allclose(found, keras_models.numbers(theirs), rtol=1e-6)
