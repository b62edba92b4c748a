"""The wiring in Keras's configs, sound and unsound, and the rules of masks: without Keras."""

import copy

import numpy as np
import pytest

from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats.keras.layers.table import LAYERS
from cylstm.formats.keras.masks import MASKS
from cylstm.loading import read

from tests.builders.weight_files import (
    keras_dense,
    keras_dense_weights,
    keras_input,
    keras_layer,
    keras_lstm,
    keras_lstm_weights,
    keras_model,
    write_h5,
    write_keras,
)

pytest.importorskip("h5py")


def tensor(layer, call=0, output=0, shape=None):
    history = {"dtype": "float32", "keras_history": [layer, call, output]}
    return {"class_name": "__keras_tensor__", "config": history | ({"shape": shape} if shape else {})}


def called(layer, *args, **kwargs):
    """A layer's entry with one call, as Keras 3 writes it."""
    nodes = [{"args": list(args), "kwargs": kwargs}] if args else []
    return layer | {"name": layer["config"]["name"], "inbound_nodes": nodes}


def functional(inputs, outputs, *layers, **outer):
    config = {
        "name": "net",
        "trainable": True,
        "layers": list(layers),
        "input_layers": inputs,
        "output_layers": outputs,
    }
    return {"module": "keras", "class_name": "Functional", "config": config, "registered_name": "Functional", **outer}


def two_dense():
    return functional(
        ["x", 0, 0], ["b", 0, 0],
        called(keras_input(None, 3, name="x")),
        called(keras_dense("a", 3), tensor("x", shape=[None, None, 3])),
        called(keras_dense("b", 3), tensor("a", shape=[None, None, 3])),
    )  # fmt: skip


def dense_file(path, model, count=2, version="3.15.1"):
    rng = np.random.default_rng(31)
    groups = {f"layers/dense{f'_{k}' if k else ''}": keras_dense_weights(rng, 3, 3) for k in range(count)}
    return write_keras(path / "a.keras", model, groups, version=version)


def test_calls_run_in_the_order_of_their_wiring_not_of_the_list(tmp_path):
    model = two_dense()
    layers = model["config"]["layers"]
    layers[1], layers[2] = layers[2], layers[1]
    graph = read(dense_file(tmp_path, model))
    assert [layer.name for layer in graph.layers] == ["a", "b"]


def change(path, value):
    """A change of the config of `two_dense`: ``value`` at ``path``."""

    def edit(config):
        for key in path[:-1]:
            config = config[key]
        config[path[-1]] = value

    return edit


NODE_A, NODE_B = ("layers", 1, "inbound_nodes", 0), ("layers", 2, "inbound_nodes", 0)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change((*NODE_A, "args"), [tensor("b")]), r"layer '[ab]' \(Dense\): its input depends on its own output"),
        (change((*NODE_A, "args"), [tensor("a")]), r"layer 'a' \(Dense\): its input depends on its own output"),
        (change((*NODE_B, "args"), [tensor("c")]),
         r"layer 'b' \(Dense\): reads from layer 'c', which is not in the model"),
        (change((*NODE_B, "args"), [tensor("a", 1)]), r"layer 'a' \(Dense\): its call 1 is used and not in the config"),
        (change((*NODE_B, "args"), [tensor("a", 0, 2)]),
         r"layer 'b' \(Dense\): reads output 2 of layer 'a', which has 1"),
        (change((*NODE_B, "args"), [tensor("a", -1)]), r"expected \[layer, call, output\], found \['a', -1, 0\]"),
        (change((*NODE_B, "args"), [tensor(["a"])]), r"reads from layer \['a'\], which is not in the model"),
        (change((*NODE_B, "args"), [tensor("a", shape=[None, None, 4])]),
         r"'b' \(Dense\): its input from layer 'a' is \(batch, time, 3\), and the config says \(batch, time, 4\)"),
        (change((*NODE_B, "args"), []), r"'b' \(Dense\): is called without an input"),
        (change((*NODE_B, "args"), [3.0]), r"'b' \(Dense\): expected a tensor as input, found 3.0"),
        (change((*NODE_B, "args"), [[tensor("a"), tensor("x")]]), r"'b' \(Dense\): expected one input, found 2"),
        (change((*NODE_B, "kwargs"), {"training": True}), "argument training=True is not supported; leave it out"),
        (change((*NODE_B, "kwargs"), {"speed": 3}), r"'b' \(Dense\): argument speed=3 is not supported"),
        (change(("layers", 2, "inbound_nodes"), {}), "inbound_nodes expected a list"),
        (change(("layers", 2, "inbound_nodes"), [3]), "inbound_nodes expected a list of calls, found 3"),
        (change(("layers", 2, "config", "name"), "a"), "two layers are named 'a'"),
        (change(("input_layers",), ["y", 0, 0]), "input_layers: reads from layer 'y', which is not in the model"),
        (change(("input_layers",), []), r"input_layers: expected \[layer, call, output\]"),
        (change(("input_layers",), ["a", 0, 0]), r"'a' \(Dense\): an input of the model that is no InputLayer"),
        (change(("output_layers",), {"y": [["b", 0]]}), r"output_layers: expected \[layer, call, output\]"),
        (change(("output_layers",), ["b", 0, 1]), "reads output 1 of layer 'b', which has 1"),
        (change(("layers", 2, "class_name"), "Lambda"), r"layer 'b' \(Lambda\): layers of class Lambda .* not run"),
        (change(("layers", 2, "registered_name"), "pack>Mine"), "'pack>Mine' of module .* custom objects"),
        (change(("layers", 2), {"class_name": "Subtract", "config": {"name": "b"}, "module": "keras.src.ops.numpy",
                                "inbound_nodes": [{"args": [tensor("x"), "two"], "kwargs": {}}]}),
         r"'b' \(Subtract\): expected a tensor or a number, found 'two'"),
        (change(("layers", 2), {"class_name": "Erfinv", "config": {"name": "b"}, "module": "keras.src.ops.math",
                                "inbound_nodes": [{"args": [tensor("x")], "kwargs": {}}]}),
         r"'b' \(Erfinv\): the operation keras.ops Erfinv is not supported; docs/layers.md lists the \d+ that"),
    ],
)  # fmt: skip
def test_unsound_wiring_is_refused_by_name(tmp_path, edit, message):
    model = two_dense()
    edit(model["config"])
    with pytest.raises(CylstmError, match=message) as caught:
        read(dense_file(tmp_path, model))
    assert "a.keras" in str(caught.value)


def one_layer(layer, *inputs, arguments=None, extra=()):
    """A model of one layer of two inputs: `inputs` are their shapes."""
    names = [f"x{k}" for k in range(len(inputs))]
    tensors = [tensor(name) for name in names]
    entries = [called(keras_input(*shape, name=name)) for name, shape in zip(names, inputs)]
    args = arguments or ([tensors] if len(tensors) > 1 else tensors)
    return functional(
        [[name, 0, 0] for name in names], [layer["config"]["name"], 0, 0], *entries, *extra, called(layer, *args)
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (one_layer(keras_layer("Add", "m"), (None, 3), (None, 4)), "layer 'm': shapes .* do not match"),
        (one_layer(keras_layer("Add", "m"), (None, 3), (5, 3)), "layer 'm': shapes .* do not match"),
        (one_layer(keras_layer("Concatenate", "m", axis=0), (3,), (3,)), "expected another axis than the batch"),
        (one_layer(keras_layer("Concatenate", "m", axis=1), (None, 3), (None, 3)),
         "needs the number of steps in advance"),
        (one_layer(keras_layer("Subtract", "m"), (3,), (3,), (3,)), "'m' .*: expected two inputs, found 3"),
        (one_layer(keras_layer("Dot", "m", axes=1), (4, 3), (5, 3)), "layer 'm': expected two of"),
        (one_layer(keras_layer("Dot", "m", axes=3), (4, 3), (5, 3)), "option axes expected an axis of"),
        (one_layer(keras_layer("Flatten", "m"), (None, 3)), "layer 'm': .* needs the number of steps in advance"),
        (one_layer(keras_layer("Reshape", "m", target_shape=[5, 2]), (4, 3)), "layer 'm': .* cannot be reshaped"),
        (one_layer(keras_layer("Reshape", "m", target_shape="x"), (4, 3)), "target_shape expected a list of whole"),
        (one_layer(keras_layer("Permute", "m", dims=[2, 3]), (4, 3)), "option dims expected each axis of"),
        (one_layer(keras_layer("Cropping1D", "m", cropping=[3, -1]), (4, 3)), "option cropping expected 0 to"),
        (one_layer(keras_layer("RepeatVector", "m", n=0), (3,)), "option n expected 1 to"),
        (one_layer(keras_layer("Cropping2D", "m", cropping=[[1, 2]]), (4, 5, 3)), "expected 2 pairs of numbers"),
        (one_layer(keras_layer("Cropping2D", "m", cropping=[[1, 2], [2, 3]]), (4, 5, 3)), "has too few numbers"),
        (one_layer(keras_layer("Cropping3D", "m", cropping=1), (4, 5, 3)),
         r"expected an input \(batch, depth, rows, columns, channels\), found \(batch, 4, 5, 3\)"),
        (one_layer(keras_layer("UpSampling2D", "m", size=[2, 0]), (4, 5, 3)), "option size expected 1 to"),
        (one_layer(keras_layer("UpSampling2D", "m", size=[2, 2], interpolation="bicubic"), (4, 5, 3)),
         "interpolation expected 'nearest' or 'bilinear', found 'bicubic'"),
        (one_layer(keras_layer("UpSampling2D", "m", size=[2, 2], interpolation="bilinear"), (None, 5, 3)),
         "'m' .*: needs the number of steps in advance, as they are not the first axis of .*time, 5, 3."),
        (one_layer(keras_layer("UpSampling2D", "m", size=[1000000, 1], interpolation="bilinear"), (50, 5, 3)),
         "50 places made 1000000 times as many are more than is supported"),
        (one_layer(keras_layer("MaxPooling2D", "m", pool_size=[2, 2, 2], strides=[2, 2]), (4, 5, 3)),
         "option pool_size expected 2 whole numbers"),
        (one_layer(keras_layer("MaxPooling2D", "m", pool_size=[2, 6], strides=[2, 2]), (4, 5, 3)), "'m'.*too few"),
        (one_layer(keras_layer("MaxPooling2D", "m", pool_size=2, strides=2, padding="causal"), (4, 5, 3)),
         "padding expected one of valid, same, found 'causal'"),
        (one_layer(keras_layer("AdaptiveMaxPooling2D", "m", output_size=[2, 257]), (4, 600, 3)),
         "more than 256 windows are not supported, found 257"),
        (one_layer(keras_layer("GlobalMaxPooling2D", "m"), (4, 3)), "expected an input .batch, rows, columns, chan"),
        (one_layer(keras_layer("Conv2D", "m", filters=2, kernel_size=[2, 2], strides=[1, 1], padding="causal",
                               activation="linear"), (4, 5, 3)), "padding expected one of valid, same, found 'causal'"),
        (one_layer(keras_layer("Conv2D", "m", filters=2, kernel_size=2, strides=1, padding="valid",
                               activation="linear"), (4, 3)), "expected an input .batch, rows, columns, channels"),
        (one_layer(keras_layer("Conv2D", "m", filters=4, kernel_size=2, strides=1, padding="valid", groups=2,
                               activation="linear"), (4, 5, 3)), "3 channels and 4 filters do not make 2 groups"),
        (one_layer(keras_layer("Conv2DTranspose", "m", filters=4, kernel_size=2, strides=[1, 2], padding="valid",
                               dilation_rate=[2, 1], activation="linear"), (4, 5, 3)),
         "strides and dilation_rate together are not supported"),
        (one_layer(keras_layer("Conv2D", "m", filters=2, kernel_size=2, strides=1, padding="valid",
                               activation="linear"), (None, None, 3)), "one axis alone may have any size"),
        (one_layer(keras_layer("Add", "m"), (None, 4, 3), (5, None, 3)), "'m' .*: needs the number of steps"),
        (one_layer(keras_lstm("m", 5), (4, None)), r"'m' .*: needs .* advance, as .* axis of \(batch, 4, time\)"),
        (one_layer(keras_layer("GlobalAveragePooling1D", "m", data_format="channels"), (4, 3)),
         "data_format='channels' is not supported; build the layer with"),
        (one_layer(keras_layer("Conv1D", "m", filters=2, kernel_size=[3], strides=[1], padding="full",
                               activation="linear"), (4, 3)),
         "padding expected one of valid, same, causal, found 'full'"),
        (one_layer(keras_layer("Conv1D", "m", filters=4, kernel_size=[3], strides=[1], padding="same", groups=2,
                               activation="linear"), (4, 3)), "3 channels and 4 filters do not make 2 groups"),
        (one_layer(keras_layer("BatchNormalization", "m", axis=[1, 2]), (4, 3)), "axis expected the last"),
        (one_layer(keras_layer("UnitNormalization", "m", axis=[1, 2]), (None, 3)),
         "'m' .*: needs the number of steps in advance: say it in the shape of the input"),
        (one_layer(keras_layer("Conv1DTranspose", "m", filters=2, kernel_size=[3], strides=[2], padding="same",
                               dilation_rate=[2], activation="linear"), (4, 3)),
         "strides and dilation_rate together are not supported"),
        (one_layer(keras_layer("AdaptiveMaxPooling1D", "m", output_size=[2]), (None, 3)),
         "'m' .*: needs the number of steps in advance"),
        (one_layer(keras_layer("AdaptiveMaxPooling1D", "m", output_size=[257]), (600, 3)),
         "more than 256 windows are not supported, found 257"),
        (one_layer(keras_layer("PReLU", "m", shared_axes=[3]), (4, 3)), "shared_axes expected an axis of"),
        (one_layer(keras_layer("Softmax", "m", axis=4), (4, 3)), r"axis expected an axis of \(batch, 4, 3\), found 4"),
        (one_layer(keras_layer("Embedding", "m", input_dim=0, output_dim=2), (4,)), "input_dim expected 1 to"),
        (one_layer(keras_layer("Embedding", "m", input_dim=5, output_dim=2), (4,), extra=[
            called(keras_layer("ReLU", "r"), tensor("x0"))], arguments=[tensor("r")]),
         "'m' .*: indices that the network computes are not supported, found 'r'"),
        (one_layer(keras_layer("TimeDistributed", "m", layer=keras_lstm("i", 2)), (None, 5, 3)),
         r"layer 'i' \(LSTM\): inside TimeDistributed it needs the number of frames .*: .*\(batch, time, 5, 3\)"),
        (one_layer(keras_layer("TimeDistributed", "m", layer=keras_lstm("i", 2)), (257, 5, 3)),
         r"layer 'i' \(LSTM\): more than 256 frames are not supported, found 257"),
        (one_layer(keras_layer("TimeDistributed", "m", layer=keras_dense("i", 2)), (4,)), "'m' .*: expected an input"),
        (one_layer(keras_layer("MultiHeadAttention", "m", num_heads=2, key_dim=3), (4, 3)),
         "'m' .*: expected the inputs query and value"),
        (one_layer(keras_layer("MultiHeadAttention", "m", num_heads=2, key_dim=3, sliding_window=2), (4, 3)),
         "option sliding_window=2 is not supported"),
        (one_layer(keras_layer("Attention", "m", score_mode="cos"), (4, 3), (4, 3)), "score_mode expected 'dot' or"),
        (one_layer(keras_layer("Attention", "m"), (4, 3)), r"expected the inputs \[query, value\]"),
        (one_layer(keras_layer("Masking", "m", mask_value=0.0), (3,)),
         r"expected an input \(batch, time, features\)"),
        (one_layer(keras_layer("GroupQueryAttention", "m", num_query_heads=3, num_key_value_heads=2, head_dim=3),
                   (4, 3)), "'m' .*: 3 heads of the query do not share 2 of the key"),
        (one_layer(keras_layer("Rescaling", "m", scale=[1.0, 2.0]), (4, 3)), "option scale expected 3 numbers"),
        (one_layer(keras_layer("Normalization", "m", axis=[1], mean=[1.0], variance=[1.0]), (4, 3)),
         "expected the last"),
    ],
)  # fmt: skip
def test_a_layer_that_does_not_fit_is_refused_by_name(tmp_path, model, message):
    with pytest.raises(CylstmError, match=message):
        read(write_keras(tmp_path / "a.keras", model, {}))


def test_thousands_of_layers_in_a_row_are_no_problem(tmp_path):
    chain = [called(keras_input(None, 3, name="l0"))]
    chain += [called(keras_layer("Dropout", f"l{k}", rate=0.1), tensor(f"l{k - 1}")) for k in range(1, 3001)]
    graph = read(write_keras(tmp_path / "a.keras", functional(["l0", 0, 0], ["l3000", 0, 0], *chain), {}))
    assert len(graph.layers) == 3000


def test_models_nested_without_end_are_refused(tmp_path):
    inner = keras_layer("Dropout", "drop", rate=0.1)
    for k in range(60):
        inner = keras_layer("Sequential", f"s{k}", layers=[inner])
    model = one_layer(inner, (4, 3))
    with pytest.raises(CylstmError, match="nested too deeply|models in models more than 50 deep"):
        read(write_keras(tmp_path / "a.keras", model, {}))


def test_models_that_call_one_another_twice_are_limited(tmp_path):
    """Each level calls the one below twice: 2^40 calls of a small config."""
    inner = keras_layer("Dropout", "drop", rate=0.1)
    for k in range(40):
        entry = inner | {"inbound_nodes": [{"args": [tensor("x")], "kwargs": {}}], "name": inner["config"]["name"]}
        entry["inbound_nodes"].append({"args": [tensor(entry["name"])], "kwargs": {}})
        config = {"name": f"s{k}", "trainable": True, "input_layers": ["x", 0, 0],
                  "output_layers": [entry["name"], 1 if k == 0 else 2, 0],
                  "layers": [called(keras_input(3, name="x")), entry]}  # fmt: skip
        inner = {"module": "keras", "class_name": "Functional", "config": config, "registered_name": "Functional"}
    with pytest.raises(CylstmError, match="nested too deeply|more than 10000 calls of layers"):
        read(write_keras(tmp_path / "a.keras", inner, {}))


# Keras 2


def old(layer, *entries):
    """A layer's entry with one call, as Keras 2 writes it."""
    entry = copy.deepcopy(layer)
    for key in ("module", "registered_name"):
        entry.pop(key, None)
    if entry["class_name"] == "InputLayer":
        entry["config"]["batch_input_shape"] = entry["config"].pop("batch_shape")
    return entry | {"name": layer["config"]["name"], "inbound_nodes": [list(entries)] if entries else []}


def old_functional(inputs, outputs, *layers, class_name="Functional", name="model"):
    config = {"name": name, "layers": list(layers), "input_layers": inputs, "output_layers": outputs}
    return {"class_name": class_name, "config": config}


def old_lstm(name, units, **options):
    layer = keras_lstm(name, units, **options)
    return layer


def named(layer, arrays, *names):
    return {f"{layer}/{name}:0": array for name, array in zip(names, arrays, strict=True)}


LSTM_NAMES = ("lstm_cell/kernel", "lstm_cell/recurrent_kernel", "lstm_cell/bias")


@pytest.mark.parametrize("class_name", ["Functional", "Model"])
def test_initial_states_of_keras_2_are_further_inputs(tmp_path, class_name):
    rng = np.random.default_rng(37)
    model = old_functional(
        [["x", 0, 0], ["y", 0, 0]], [["dec", 0, 0]],
        old(keras_input(None, 3, name="x")),
        old(keras_input(None, 2, name="y")),
        old(old_lstm("enc", 4, return_state=True), ["x", 0, 0, {}]),
        old(old_lstm("dec", 4, return_sequences=True), ["y", 0, 0, {}], ["enc", 0, 1, {}], ["enc", 0, 2, {}]),
        class_name=class_name,
    )  # fmt: skip
    weights = {
        "enc": named("enc", keras_lstm_weights(rng, 3, 4), *LSTM_NAMES),
        "dec": named("dec", keras_lstm_weights(rng, 2, 4), *LSTM_NAMES),
    }
    graph = read(write_h5(tmp_path / "a.h5", model, weights))
    assert graph.inputs == ("x", "y")
    assert graph.layers[-1].inputs == {"x": "y", "mask": "y.mask", "h0": "enc.h", "c0": "enc.c"}


@pytest.mark.parametrize(("version", "mode"), [("2.15.0", "all"), ("3.3.3", None), ("3.4.0", "any"), ("3.15.1", "any")])
def test_masks_of_a_sum_are_joined_as_the_version_does(tmp_path, version, mode):
    rng = np.random.default_rng(41)
    parts = [(old, keras_input(None, 3, name="x"))]
    masking = [keras_layer("Masking", f"m{k}", mask_value=float(k)) for k in range(2)]
    add, lstm = keras_layer("Add", "add"), keras_lstm("rnn", 4)
    if version < "3":
        layers = [
            old(parts[0][1]), *(old(layer, ["x", 0, 0, {}]) for layer in masking),
            old(add, ["m0", 0, 0, {}], ["m1", 0, 0, {}]), old(lstm, ["add", 0, 0, {}]),
        ]  # fmt: skip
        model = old_functional([["x", 0, 0]], [["rnn", 0, 0]], *layers)
    else:
        model = functional(
            ["x", 0, 0], ["rnn", 0, 0], called(parts[0][1]), *(called(layer, tensor("x")) for layer in masking),
            called(add, [tensor("m0"), tensor("m1")]), called(lstm, tensor("add")),
        )  # fmt: skip
    weights = {"rnn": named("rnn", keras_lstm_weights(rng, 3, 4), *LSTM_NAMES)}
    graph = read(write_h5(tmp_path / "a.h5", model, weights, version=version))
    layers = {layer.kind: layer for layer in graph.layers}
    assert ("mask_merge" in layers) == (mode is not None) == ("mask" in layers["lstm"].inputs)
    if mode is not None:
        assert layers["mask_merge"].options["mode"] == mode
        assert layers["lstm"].inputs["mask"] == layers["mask_merge"].outputs["mask"]


def test_a_model_in_a_model_of_keras_2_counts_its_calls_from_1(tmp_path):
    rng = np.random.default_rng(43)
    inner = {
        "class_name": "Sequential",
        "config": {"name": "core", "layers": [old(keras_input(3, name="i")), old(keras_dense("fc", 3))]},
    }
    entry = inner | {"name": "core", "inbound_nodes": [[["x", 0, 0, {}]], [["core", 1, 0, {}]]]}
    model = old_functional([["x", 0, 0]], [["core", 2, 0]], old(keras_input(3, name="x")), entry)
    weights = {"core": named("fc", keras_dense_weights(rng, 3, 3), "kernel", "bias")}
    graph = read(write_h5(tmp_path / "a.h5", model, weights))
    first, second = graph.layers
    assert (first.name, second.name) == ("core/fc", "core/fc#2")
    assert first.weights == second.weights
    assert second.inputs == {"x": "core/fc"}


def test_frozen_layers_of_a_nested_model_are_found_by_name(tmp_path):
    rng = np.random.default_rng(47)
    inner = keras_layer(
        "Sequential", "core", layers=[keras_input(3, name="i"), keras_dense("p", 3), keras_dense("q", 3)]
    )
    model = one_layer(inner, (3,))
    p, q = keras_dense_weights(rng, 3, 3), keras_dense_weights(rng, 3, 3)
    stored = named("core/q", q, "kernel", "bias") | named("core/p", p, "kernel", "bias")
    graph = read(write_h5(tmp_path / "a.h5", model, {"core": stored}, version="3.10.0"))
    np.testing.assert_array_equal(graph.tensors["core/p.weight"], p[0].T)
    np.testing.assert_array_equal(graph.tensors["core/q.bias"], q[1])
    del stored["core/p/kernel:0"], stored["core/p/bias:0"]
    with pytest.raises(FormatError, match="layer 'core': the weights of 'core/p' in it are missing"):
        read(write_h5(tmp_path / "b.h5", model, {"core": stored}, version="3.10.0"))


def test_a_mask_that_is_not_computed_is_refused_where_it_is_read(tmp_path):
    parts = [called(keras_input(4, 3, name="x")), called(keras_layer("Masking", "m", mask_value=0.0), tensor("x"))]
    join = called(keras_layer("Concatenate", "c", axis=1), [tensor("m"), tensor("m")])
    last = called(keras_lstm("rnn", 2), tensor("c"))
    model = functional(["x", 0, 0], ["rnn", 0, 0], *parts, join, last)
    with pytest.raises(UnsupportedError, match=r"'rnn' \(LSTM\): the mask of its input .* masks joined along the time"):
        read(write_keras(tmp_path / "a.keras", model, {}))
    soft = called(keras_layer("Softmax", "s", axis=-1), tensor("m"))
    model = functional(["x", 0, 0], ["s", 0, 0], *parts, soft)
    with pytest.raises(UnsupportedError, match=r"'s' \(Softmax\): a softmax layer with a mask is not supported"):
        read(write_keras(tmp_path / "a.keras", model, {}))


def masked_by(layer, version, folder):
    """Whether an LSTM behind Masking and `layer`, of that version, reads the mask."""
    layers = [keras_input(5, 4, name="x"), keras_layer("Masking", "m", mask_value=0.0), layer, keras_lstm("rnn", 3)]
    weights = {"rnn": named("rnn", keras_lstm_weights(np.random.default_rng(5), 4, 3), *LSTM_NAMES)}
    graph = read(write_h5(folder / "a.h5", keras_model(*layers), weights, version=version))
    return "mask" in graph.layers[-1].inputs


@pytest.mark.parametrize(("layer", "version", "is_kept"), [
    (keras_layer("Rescaling", "l", scale=2.0, offset=1.0), "2.6.0", False),
    (keras_layer("Rescaling", "l", scale=2.0, offset=1.0), "3.0.5", True),
    (keras_layer("Normalization", "l", axis=-1, mean=1.0, variance=4.0), "2.15.0", False),
    (keras_layer("Normalization", "l", axis=-1, mean=1.0, variance=4.0), "3.15.1", True),
    (keras_layer("Identity", "l"), "2.15.0", False),
    (keras_layer("Identity", "l"), "3.2.1", True),
    (keras_layer("Dropout", "l", rate=0.1), "2.15.0", True),
    (keras_layer("Activation", "l", activation="tanh"), "2.2.4", True),
    (keras_layer("Reshape", "l", target_shape=[5, 4]), "2.15.0", False),
    (keras_layer("Reshape", "l", target_shape=[5, 4]), "2.2.4-tf", False),
    (keras_layer("UpSampling1D", "l", size=2), "3.15.1", False),
])  # fmt: skip
def test_a_layer_keeps_or_ends_a_mask_by_version(tmp_path, layer, version, is_kept):
    assert masked_by(layer, version, tmp_path) == is_kept


def test_what_keras_before_2_4_would_not_build_is_refused(tmp_path):
    with pytest.raises(
        UnsupportedError, match=r"'l' \(Reshape\): a layer that does not support masking.*Keras 2.2 does"
    ):
        masked_by(keras_layer("Reshape", "l", target_shape=[5, 4]), "2.2.4", tmp_path)


@pytest.mark.parametrize(("version", "is_refused"), [("2.13.1", False), ("2.15.0", True), ("3.15.1", False)])
def test_a_group_normalisation_that_weighs_by_the_mask_is_refused(tmp_path, version, is_refused):
    norm = keras_layer("GroupNormalization", "l", groups=2, axis=-1, epsilon=1e-3, scale=False, center=False)
    if not is_refused:
        assert masked_by(norm, version, tmp_path)
        return
    with pytest.raises(UnsupportedError, match="Keras 2.14 and 2.15 weigh the statistics by the mask"):
        masked_by(norm, version, tmp_path)


@pytest.mark.parametrize(("version", "is_refused"), [("2.15.0", True), ("3.15.1", False)])
def test_a_mask_made_inside_time_distributed_goes_on_in_keras_2(tmp_path, version, is_refused):
    """An LSTM for each sentence of words, of which some are padding."""
    rng = np.random.default_rng(59)
    table = keras_layer("Embedding", "table", input_dim=7, output_dim=3, mask_zero=True)
    layers = [keras_input(4, 5, name="x"), keras_layer("TimeDistributed", "words", layer=table)]
    model = keras_model(*layers, keras_layer("TimeDistributed", "each", layer=keras_lstm("rnn", 2)))
    weights = {
        "words": named("words", [rng.normal(size=(7, 3)).astype("f")], "embeddings"),
        "each": named("each", keras_lstm_weights(rng, 3, 2), *LSTM_NAMES),
    }
    path = write_h5(tmp_path / "a.h5", model, weights, version=version)
    if not is_refused:
        assert sum(layer.kind == "lstm" for layer in read(path).layers) == 4
        return
    with pytest.raises(UnsupportedError, match="'each' .* a mask inside TimeDistributed is not supported"):
        read(path)


def test_the_table_of_masks_names_each_layer():
    assert set(MASKS) == set(LAYERS)
