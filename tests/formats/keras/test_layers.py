"""Layers of Keras that are not recurrent: what their options become, and which are refused."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import CylstmError
from cylstm.loading import read

from tests.builders.keras_files import dense_file, write_lstm
from tests.builders.weight_files import (
    keras_dense,
    keras_input,
    keras_layer,
    keras_lstm,
    keras_lstm_weights,
    keras_model,
    write_keras,
)

h5py = pytest.importorskip("h5py")


def quantized(mode, policy="QuantizedDTypePolicy", **options):
    """A Dense layer with a policy of quantisation."""
    return keras_dense("x", 2, dtype={"class_name": policy, "config": {"mode": mode}}, **options)


def einsum(equation, output_shape=(3,), **options):
    """An EinsumDense that reads (batch, 2)."""
    return keras_layer(
        "EinsumDense", "x", equation=equation, output_shape=list(output_shape), activation="linear", **options
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", ("linear", 0, 0)),
        (None, ("linear", 0, 0)),
        ("tanh", ("tanh", 0, 0)),
        ("sigmoid", ("sigmoid", 0, 0)),
        ("relu", ("relu", 0, 0)),
        ("elu", ("elu", 1, 0)),
        ("selu", ("selu", 0, 0)),
        ("softplus", ("softplus", 0, 0)),
        ("softsign", ("softsign", 0, 0)),
        ("silu", ("silu", 0, 0)),
        ("swish", ("silu", 0, 0)),
        ("gelu", ("gelu", 0, 0)),
        ("exponential", ("exponential", 0, 0)),
        ("softmax", ("softmax", 0, 0)),
        ("leaky_relu", ("leaky_relu", 0.2, 0)),
        ("relu6", ("clip", 0, 6)),
        ("hard_tanh", ("clip", -1, 1)),
        ("hard_sigmoid", ("hard_sigmoid", 1 / 6, 0.5)),
        ({"class_name": "function", "config": "tanh", "module": "builtins"}, ("tanh", 0, 0)),
        (keras_layer("LeakyReLU", "x", negative_slope=0.15), ("leaky_relu", 0.15, 0)),
        ({"class_name": "function", "config": "silu", "module": "keras.activations", "registered_name": "silu"},
         ("silu", 0, 0)),
        (keras_layer("ELU", "x", alpha=0.5), ("elu", 0.5, 0)),
        (keras_layer("ReLU", "x", max_value=2.0), ("clip", 0, 2)),
        (keras_layer("Activation", "x", activation="hard_sigmoid"), ("hard_sigmoid", 1 / 6, 0.5)),
        ("celu", ("elu", 1, 0)),
        ("sparse_sigmoid", ("hard_sigmoid", 0.5, 0.5)),
    ],
    ids=str,
)  # fmt: skip
def test_keras_activations_have_keras_parameters(tmp_path, name, expected):
    path = dense_file(tmp_path / "a.keras", keras_layer("Activation", "act", activation=name), activation=name)
    for layer in read(path).layers:
        options = layer.options
        found = (options["activation"], options["activation_alpha"], options["activation_beta"])
        assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    "name",
    [
        "mish",
        {"class_name": "function", "config": "mish", "module": "builtins"},
        keras_layer("Activation", "inner", activation="mish"),
    ],
    ids=str,
)
def test_mish_is_put_together_of_nodes_that_stand_behind_the_layer(tmp_path, name):
    path = dense_file(tmp_path / "a.keras", keras_layer("Activation", "act", activation=name), activation=name)
    graph = read(path)
    ops = ["activation", "activation", "merge"]
    assert [layer.kind for layer in graph.layers] == ["dense", *ops, *ops]
    assert [layer.name for layer in graph.layers][-1] == "act"
    assert [layer.options["activation"] for layer in graph.layers if layer.kind == "activation"] == [
        "softplus",
        "tanh",
    ] * 2


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (("LeakyReLU", {"negative_slope": 0.1}), ("leaky_relu", 0.1, 0)),
        (("LeakyReLU", {"alpha": 0.25}), ("leaky_relu", 0.25, 0)),
        (("LeakyReLU", {"alpha": {"type": "ndarray", "value": 0.25}}), ("leaky_relu", 0.25, 0)),
        (("LeakyReLU", {}), ("leaky_relu", 0.3, 0)),
        (("ELU", {"alpha": 2.0}), ("elu", 2, 0)),
        (("ReLU", {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}), ("relu", 0, 0)),
        (("ReLU", {"max_value": 4.0, "negative_slope": 0.0, "threshold": 0.0}), ("clip", 0, 4)),
        (("ReLU", {"max_value": None, "negative_slope": 0.5}), ("leaky_relu", 0.5, 0)),
        (("Softmax", {"axis": -1}), ("softmax", 0, 0)),
        (("Softmax", {"axis": 1}), ("softmax", 0, 0)),
    ],
)
def test_activation_layers_keep_their_parameters(tmp_path, layer, expected):
    path = dense_file(tmp_path / "a.keras", keras_layer(layer[0], "act", **layer[1]))
    options = read(path).layers[1].options
    found = (options["activation"], options["activation_alpha"], options["activation_beta"])
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (keras_layer("Lambda", "evil", function="x"), r"layer 'evil' \(Lambda\): layers of class Lambda"),
        (keras_layer("ConvLSTM3D", "rnn", filters=3), r"'rnn' \(ConvLSTM3D\): .*; ConvLSTM1D and ConvLSTM2D are"),
        (keras_layer("Masking", "m", mask_value=0.0), r"'m' \(Masking\): expected an input \(batch, time, features\)"),
        (keras_layer("Sequential", "inner", layers=[]), r"'inner' \(Sequential\): config expected a list of 1 to"),
        ({**keras_layer("Mine", "x"), "registered_name": "pack>Mine"}, "'pack>Mine' of module 'keras.layers'.*custom"),
        ({**keras_layer("LSTM", "x"), "module": "os"}, "module 'os' is not one of Keras's own"),
        ({**keras_layer("Dense", "x"), "class_name": "pack>Dense"}, "custom objects are not supported"),
        (
            keras_dense("x", 2, activation="pack>act"),
            r"layer 'x' \(Dense\), option 'activation': activation 'pack>act'",
        ),
        (keras_dense("x", 2, activation="clip"), "activation 'clip' is not supported; known are"),
        (keras_dense("x", 2, activation={"value": ["4wEA", None, None]}), "a custom function"),
        (keras_dense("x", 2, activation={"class_name": "__lambda__", "config": {}}), "__lambda__ is not supported"),
        (keras_dense("x", 2, activation=3), "a custom function"),
        (keras_dense("x", 2, activation=keras_layer("PReLU", "p")), "option 'activation': PReLU is not supported"),
        (
            keras_dense("x", 2, activation={"class_name": "function", "config": "f", "module": "my.code"}),
            r"layer 'x' \(Dense\), option 'activation': 'function' of module 'my.code'.*custom objects",
        ),
        (
            keras_layer("LSTM", "x", dtype={"class_name": "QuantizedDTypePolicy", "config": {"mode": "int8"}}),
            "layer 'x': dtype policy 'QuantizedDTypePolicy' is not supported",
        ),
        (quantized("float8", "QuantizedFloat8DTypePolicy"), "quantised as 'float8', which is not supported"),
        (quantized("gptq/4/128", "GPTQDTypePolicy"), "quantised as 'gptq/4/128', which is not supported"),
        (quantized("int4/x", "Int4DTypePolicy"), "mode 'int4/x' names no block size"),
        (quantized("int8", quantization_config=3), "option quantization_config expected an object, found 3"),
        (
            quantized("int8", quantization_config={"config": {"activation_quantizer": {"class_name": "Mine"}}}),
            "option activation_quantizer expected AbsMaxQuantizer",
        ),
        (
            quantized(
                "int8",
                quantization_config={
                    "config": {"activation_quantizer": {"class_name": "AbsMaxQuantizer", "config": {"value_range": 7}}}
                },
            ),
            "option activation_quantizer expected a value_range",
        ),
        (keras_layer("ReLU", "x", threshold=1e9), "option threshold expected 0 to 1e8, found"),
        (keras_dense("x", 2, activation=keras_layer("ReLU", "r", threshold=1.0)), "option threshold is not supported"),
        (keras_layer("Softmax", "x", axis=0), "option axis expected another axis than the batch, found 0"),
        (keras_layer("Softmax", "x", axis=2), r"option axis expected an axis of \(batch, 2\), found 2"),
        (keras_layer("Softmax", "x", axis=[1, 2]), "a softmax over several axes at once is not supported"),
        (keras_layer("BatchNormalization", "x", axis=3), r"option axis expected an axis of \(batch, 2\), found 3"),
        (einsum("ab,bc"), "option equation expected one such as 'abc,cd->abd', found 'ab,bc'"),
        (einsum("abc,cd->abd"), r"option equation 'abc,cd->abd' does not fit the input \(batch, 2\)"),
        (einsum("ab,bc->ca"), "the first axis of the input is the batch, which must come out first"),
        (einsum("ab,abc->ac"), "the first axis of the input is the batch, which must come out first"),
        (einsum("ab,b->a", []), "'ab,b->a' gives a single number for each sample, without an axis"),
        (einsum("ab,bcd->ac"), "the kernel has an axis of its own"),
        (einsum("ab,bc->acc"), "repeats an axis or makes one of nothing"),
        (einsum("ab,bc->ac", [3, 4]), r"option output_shape expected 1 sizes, found \[3, 4\]"),
        (einsum("ab,bc->ac", [None]), "option output_shape expected sizes, found"),
        (einsum("ab,bc->ac", [3], bias_axes="z"), "option bias_axes expected axes of the output, found 'z'"),
        (
            keras_layer("SpectralNormalization", "x", layer=keras_layer("Embedding", "e", input_dim=3, output_dim=2)),
            "of a layer of class Embedding is not supported; of Dense, EinsumDense, Conv1D, Conv1DTranspose, Conv2D, ",
        ),
        (keras_layer("ThresholdedReLU", "x", theta=-1.0), "option theta expected 0 to 1e8, found -1.0"),
        (keras_layer("LeakyReLU", "x", alpha="big"), "option alpha expected a number, found 'big'"),
        (keras_layer("Dropout", "x", rate=1.5), r"dropout rate expected in \[0, 1\]"),
        (keras_dense("x", 0), "option units expected 1 to 1000000, found 0"),
        (keras_dense("x", 10**9), "option units expected"),
        (keras_dense("x", "2"), "option units expected"),
        (keras_dense("x", 2, use_bias="yes"), "option use_bias expected true or false"),
        (keras_lstm("x", 2), r"layer 'x' \(LSTM\): expected a sequence as input, found the vector 'fc'"),
        (keras_input(3, name="second"), "an InputLayer elsewhere than first"),
        (keras_dense("fc", 2), "two layers are named 'fc'"),
        ({"class_name": "Dense"}, "expected an object with class_name and config"),
        ({"class_name": "Dense", "config": []}, "a Dense layer without a config"),
        ({"class_name": "Dense", "config": {}}, "a Dense layer without a name"),
        ("Dense", "expected an object with class_name and config"),
    ],
)
def test_a_layer_that_is_not_computed_is_refused_by_name(tmp_path, layer, message):
    with pytest.raises(CylstmError, match=message) as caught:
        read(dense_file(tmp_path / "a.keras", layer))
    assert "a.keras" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_major": True}, "option time_major=True is not supported; build the layer with time_major=False"),
        ({"zero_output_for_mask": True}, "zero_output_for_mask without return_sequences is not supported; set it to"),
        ({"return_sequences": 1}, "return_sequences expected true or false, found 1"),
        ({"peepholes": True}, "option peepholes=True is not supported"),
        ({"recurrent_activation": "softmax"}, "softmax needs the whole axis"),
        ({"recurrent_activation": "mish"}, "option 'recurrent_activation': activation 'mish' is not supported"),
    ],
)
def test_an_option_that_is_not_computed_is_refused_by_name(path, rng, options, message):
    with pytest.raises(CylstmError, match=message) as caught:
        read(write_lstm(path, keras_lstm_weights(rng, 3, 5), **options))
    assert "'rnn'" in str(caught.value)


@pytest.mark.parametrize(("groups", "expected"), [(-1, 6), (2, 2), (None, 32)])
def test_a_group_normalisation_of_minus_one_has_a_group_for_each_channel(tmp_path, rng, groups, expected):
    size = max(6, expected) if groups is None else 6
    options = {} if groups is None else {"groups": groups}
    model = keras_model(keras_input(None, size), keras_layer("GroupNormalization", "l", axis=-1, **options))
    weights = [rng.normal(size=size).astype(np.float32) for _ in range(2)]
    graph = read(write_keras(tmp_path / "a.keras", model, {"layers/group_normalization": weights}))
    assert (graph.layers[0].options["groups"], graph.layers[0].options["epsilon"]) == (expected, 1e-3)


@pytest.mark.parametrize(
    ("name", "count", "epsilon"),
    [("BatchNormalization", 4, 1e-3), ("LayerNormalization", 2, 1e-3), ("RMSNormalization", 1, 1e-6)],
)
def test_the_epsilon_of_a_config_that_says_none_is_that_of_keras(tmp_path, rng, name, count, epsilon):
    model = keras_model(keras_input(None, 3), keras_layer(name, "l", axis=-1))
    weights = [rng.uniform(0.5, 2.0, 3).astype(np.float32) for _ in range(count)]
    group = {"BatchNormalization": "batch", "LayerNormalization": "layer", "RMSNormalization": "rms"}[name]
    graph = read(write_keras(tmp_path / "a.keras", model, {f"layers/{group}_normalization": weights}))
    assert graph.layers[0].options["epsilon"] == epsilon


def test_a_batch_normalisation_subtracts_the_mean_and_divides_by_the_root_of_the_variance(tmp_path, rng):
    model = keras_model(keras_input(None, 3), keras_layer("BatchNormalization", "l", axis=-1, epsilon=0.01))
    gamma, beta, mean = rng.normal(size=(3, 3)).astype(np.float32)
    variance = rng.uniform(0.5, 2.0, 3).astype(np.float32)
    weights = {"layers/batch_normalization": [gamma, beta, mean, variance]}
    found = cylstm.load(write_keras(tmp_path / "a.keras", model, weights))
    x = rng.normal(size=(4, 6, 3)).astype(np.float32)
    expected = (x.astype("f8") - mean) / np.sqrt(variance.astype("f8") + 0.01) * gamma + beta
    np.testing.assert_allclose(found.predict(x), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("strides", [1, 3])
@pytest.mark.parametrize(("name", "of"), [("MaxPooling1D", np.max), ("AveragePooling1D", np.mean)])
def test_a_pooling_moves_on_by_its_strides(tmp_path, rng, name, of, strides):
    layer = keras_layer(name, "l", pool_size=[2], strides=[strides], padding="valid")
    found = cylstm.load(write_keras(tmp_path / "a.keras", keras_model(keras_input(None, 3), layer), {}))
    x = rng.normal(size=(4, 9, 3)).astype(np.float32)
    expected = [of(x[:, t : t + 2].astype("f8"), axis=1) for t in range(0, 8, strides)]
    np.testing.assert_allclose(found.predict(x), np.stack(expected, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("invert", [False, True])
def test_a_normalization_and_its_way_back_are_of_the_root_of_the_variance(tmp_path, rng, invert):
    mean, variance = [0.5, -1.25, 2.0], [4.0, 0.25, 2.25]
    layer = keras_layer("Normalization", "l", axis=[-1], mean=mean, variance=variance, invert=invert)
    found = cylstm.load(write_keras(tmp_path / "a.keras", keras_model(keras_input(None, 3), layer), {}))
    x = rng.normal(size=(4, 6, 3)).astype(np.float32)
    expected = x * np.sqrt(variance) + mean if invert else (x - mean) / np.sqrt(variance)
    np.testing.assert_allclose(found.predict(x), expected, rtol=0, atol=4e-6)
