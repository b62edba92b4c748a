"""Keras models in ``.keras`` archives and ``.h5`` files, read without Keras."""

import copy
import json
import sys
import zipfile

import numpy as np
import pytest

from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats.state_dict import wiring as L
from cylstm.loading import read

from tests.builders.weight_files import (
    keras_bidirectional,
    keras_dense,
    keras_dense_weights,
    keras_input,
    keras_layer,
    keras_lstm,
    keras_lstm_weights,
    keras_model,
    write_h5,
    write_keras,
    write_zip,
)

h5py = pytest.importorskip("h5py")

LSTM_NAMES = ("kernel", "recurrent_kernel", "bias")


@pytest.fixture
def rng():
    return np.random.default_rng(19)


def lstm_model(**options):
    return keras_model(keras_input(None, 3), keras_lstm("rnn", 5, **options))


def write_lstm(path, weights, **options):
    """A model of one LSTM; `options` are the layer's, or `version`."""
    version = options.pop("version", "3.15.1")
    if path.suffix == ".keras":
        return write_keras(path, lstm_model(**options), {"layers/lstm/cell": weights}, version=version)
    names = [f"rnn/lstm_cell/{name}:0" for name in LSTM_NAMES]
    named = dict(zip(names, weights, strict=False))
    return write_h5(path, lstm_model(**options), {"rnn": named}, version=version)


def dense_file(path, *layers, version="3.15.1", edit=None, **options):
    """A model of a Dense layer with 3 inputs and 2 units, then `layers`."""
    rng = np.random.default_rng(23)
    model = keras_model(keras_input(3), keras_dense("fc", 2, **options), *layers)
    return write_keras(path, model, {"layers/dense": keras_dense_weights(rng, 3, 2)}, version=version, edit=edit)


@pytest.fixture(params=[".keras", ".h5"])
def path(request, tmp_path):
    return tmp_path / f"model{request.param}"


# What is read


def test_the_matrices_of_an_lstm_are_transposed_and_its_bias_kept(path, rng):
    weights = keras_lstm_weights(rng, 3, 5)
    graph = read(write_lstm(path, weights))
    found = graph.layer_tensors(graph.layers[0])
    np.testing.assert_array_equal(found["weight_ih"], weights[0].T)
    np.testing.assert_array_equal(found["weight_hh"], weights[1].T)
    np.testing.assert_array_equal(found["bias"], weights[2])
    assert all(array.flags.c_contiguous and array.dtype == np.float32 for array in found.values())
    assert graph.inputs == ("input_layer",)
    assert graph.values["input_layer"].shape == (None, 3)


@pytest.mark.parametrize(("sequences", "output"), [(True, "rnn"), (False, "rnn.h")])
def test_return_sequences_chooses_the_sequence_or_the_final_state(path, rng, sequences, output):
    graph = read(write_lstm(path, keras_lstm_weights(rng, 3, 5), return_sequences=sequences))
    assert graph.outputs == (output,)


@pytest.mark.parametrize(("zero", "padding"), [(False, "repeat"), (True, "zero")])
def test_padding_repeats_the_output_unless_the_layer_says_zero(path, rng, zero, padding):
    weights = keras_lstm_weights(rng, 3, 5)
    graph = read(write_lstm(path, weights, return_sequences=True, zero_output_for_mask=zero))
    assert graph.layers[0].options["padding"] == padding


def test_options_that_change_nothing_at_inference_are_accepted(path, rng):
    graph = read(write_lstm(path, keras_lstm_weights(rng, 3, 5), stateful=True, unroll=True, implementation=1))
    assert graph.layers[0].options["reverse"] is False


def test_an_lstm_without_bias_has_none(path, rng):
    graph = read(write_lstm(path, keras_lstm_weights(rng, 3, 5)[:2], use_bias=False))
    assert set(graph.layers[0].weights) == {"weight_ih", "weight_hh"}


@pytest.mark.parametrize(
    ("version", "slope"), [("2.15.0", 0.2), ("2.2.4-tf", 0.2), ("3.0.0", 1 / 6), ("3.15.1", 1 / 6)]
)
def test_hard_sigmoid_is_that_of_the_version_that_wrote_the_file(path, rng, version, slope):
    options = {"recurrent_activation": "hard_sigmoid", "version": version}
    found = read(write_lstm(path, keras_lstm_weights(rng, 3, 5), **options)).layers[0].options
    assert found["recurrent_activation"] == "hard_sigmoid"
    assert found["recurrent_activation_alpha"] == pytest.approx(slope)
    assert found["recurrent_activation_beta"] == 0.5


def test_provenance_tells_version_and_tensors(tmp_path, rng):
    weights = keras_lstm_weights(rng, 3, 5)
    found = read(write_lstm(tmp_path / "a.keras", weights)).provenance
    assert (found["format"], found["framework_version"]) == ("keras", "3.15.1")
    assert found["tensors"] == {
        "layers/lstm/cell/vars/0": "rnn/weight_ih",
        "layers/lstm/cell/vars/1": "rnn/weight_hh",
        "layers/lstm/cell/vars/2": "rnn/bias",
    }
    found = read(write_lstm(tmp_path / "a.h5", weights, version="2.15.0")).provenance
    assert (found["format"], found["framework_version"]) == ("keras h5", "2.15.0")
    assert found["tensors"]["rnn/rnn/lstm_cell/recurrent_kernel:0"] == "rnn/weight_hh"


def test_double_precision_stays_and_half_becomes_float32(tmp_path, rng):
    graph = read(write_lstm(tmp_path / "a.keras", keras_lstm_weights(rng, 3, 5, np.float64)))
    assert {array.dtype for array in graph.tensors.values()} == {np.dtype(np.float64)}
    weights = keras_lstm_weights(rng, 3, 5, np.float16)
    graph = read(write_lstm(tmp_path / "b.h5", weights))
    np.testing.assert_array_equal(graph.tensors["rnn.weight_ih"], weights[0].T.astype(np.float32))


def test_bfloat16_weights_are_read_exactly(tmp_path, rng):
    values = [array.view(np.uint32) & 0xFFFF0000 for array in keras_lstm_weights(rng, 3, 5)]

    def edit(file):
        for j, array in enumerate(values):
            name = f"layers/lstm/cell/vars/{j}"
            del file[name]
            file[name] = (array >> 16).astype(np.uint16).view("V2")
            file[name].attrs["dtype"] = "bfloat16"

    path = write_keras(tmp_path / "a.keras", lstm_model(), {"layers/lstm/cell": values}, edit=edit)
    np.testing.assert_array_equal(read(path).tensors["rnn.weight_ih"], values[0].view(np.float32).T)


def test_layers_of_one_class_are_counted_in_order(tmp_path, rng):
    model = keras_model(
        keras_input(None, 3),
        keras_lstm("z", 5, return_sequences=True),
        keras_layer("Dropout", "drop", rate=0.4, seed=None, noise_shape=None),
        keras_lstm("a", 4, return_sequences=True),
        keras_dense("m", 6, activation="relu"),
        keras_lstm("k", 2),
        keras_dense("b", 3),
    )
    weights = {
        "layers/lstm": keras_lstm_weights(rng, 3, 5),
        "layers/lstm_1": keras_lstm_weights(rng, 5, 4),
        "layers/lstm_2": keras_lstm_weights(rng, 6, 2),
        "layers/dense": keras_dense_weights(rng, 4, 6),
        "layers/dense_1": keras_dense_weights(rng, 2, 3),
    }
    groups = {group + ("/cell" if "lstm" in group else ""): arrays for group, arrays in weights.items()}
    groups["optimizer"] = [np.zeros(3)]
    groups["layers/dropout/seed_generator"] = [np.zeros(2, np.uint32)]
    graph = read(write_keras(tmp_path / "a.keras", model, groups))
    assert [node.name for node in graph.layers] == ["z", "drop", "a", "m", "k", "b"]
    for name, group in (("z", "lstm"), ("a", "lstm_1"), ("k", "lstm_2")):
        np.testing.assert_array_equal(graph.tensors[f"{name}.weight_ih"], weights[f"layers/{group}"][0].T)
    for name, group in (("m", "dense"), ("b", "dense_1")):
        np.testing.assert_array_equal(graph.tensors[f"{name}.weight"], weights[f"layers/{group}"][0].T)
        np.testing.assert_array_equal(graph.tensors[f"{name}.bias"], weights[f"layers/{group}"][1])
    assert graph.outputs == ("b",)
    assert graph.layers[1].options == {"rate": 0.4}


def test_archives_of_keras_2_12_have_another_group(tmp_path, rng):
    weights = keras_lstm_weights(rng, 3, 5)
    groups = {"_layer_checkpoint_dependencies/lstm/cell": weights}
    graph = read(write_keras(tmp_path / "a.keras", lstm_model(), groups, version="2.12.0"))
    np.testing.assert_array_equal(graph.tensors["rnn.weight_hh"], weights[1].T)


def test_a_deflated_archive_is_read(tmp_path, rng):
    weights = keras_lstm_weights(rng, 3, 5)
    path = write_keras(
        tmp_path / "a.keras", lstm_model(), {"layers/lstm/cell": weights}, compression=zipfile.ZIP_DEFLATED
    )
    np.testing.assert_array_equal(read(path).tensors["rnn.weight_hh"], weights[1].T)


def test_chunked_and_compressed_datasets_are_read(tmp_path, rng):
    weights = keras_lstm_weights(rng, 3, 5)

    def edit(file):
        del file["layers/lstm/cell/vars/0"]
        options = {"chunks": (2, 8), "compression": "gzip", "shuffle": True}
        file.create_dataset("layers/lstm/cell/vars/0", data=weights[0], **options)

    path = write_keras(tmp_path / "a.keras", lstm_model(), {"layers/lstm/cell": weights}, edit=edit)
    np.testing.assert_array_equal(read(path).tensors["rnn.weight_ih"], weights[0].T)


@pytest.mark.parametrize("options", [{"fixed": True}, {"split": True}, {"fixed": True, "split": True}])
def test_names_in_attributes_may_be_fixed_strings_or_split(tmp_path, rng, options):
    weights = keras_lstm_weights(rng, 3, 5)
    named = {f"rnn/{name}:0": array for name, array in zip(LSTM_NAMES, weights, strict=True)}
    graph = read(write_h5(tmp_path / "a.h5", lstm_model(), {"rnn": named}, **options))
    np.testing.assert_array_equal(graph.tensors["rnn.weight_hh"], weights[1].T)


def test_weights_of_an_h5_file_are_found_by_name_not_by_order(tmp_path, rng):
    weights = dict(zip(LSTM_NAMES, keras_lstm_weights(rng, 3, 5), strict=True))
    named = {f"rnn/cell/{name}:0": weights[name] for name in ("bias", "recurrent_kernel", "kernel")}
    graph = read(write_h5(tmp_path / "a.h5", lstm_model(), {"rnn": named}))
    np.testing.assert_array_equal(graph.tensors["rnn.weight_ih"], weights["kernel"].T)


def test_layers_of_an_h5_file_match_by_order_and_those_without_weights_are_skipped(tmp_path, rng):
    model = keras_model(
        keras_input(None, 3),
        keras_lstm("first", 5),
        keras_layer("Dropout", "drop", rate=0.4),
        keras_dense("second", 2),
    )
    weights, dense = keras_lstm_weights(rng, 3, 5), keras_dense_weights(rng, 5, 2)
    stored = {
        "zz": {f"x/{name}": array for name, array in zip(LSTM_NAMES, weights, strict=True)},
        "drop": {},
        "aa": {"y/kernel": dense[0], "y/bias": dense[1]},
    }
    graph = read(write_h5(tmp_path / "a.h5", model, stored, version="3.1.0"))
    np.testing.assert_array_equal(graph.tensors["first.weight_ih"], weights[0].T)
    np.testing.assert_array_equal(graph.tensors["second.weight"], dense[0].T)


def old_sequential():
    """As Keras 2.0 wrote it: a bare list, the input shape in the first layer, no modules."""
    layer = keras_lstm("rnn", 5, implementation=0, recurrent_activation="hard_sigmoid")
    del layer["module"], layer["registered_name"]
    layer["config"]["batch_input_shape"] = [None, 7, 3]
    return {"class_name": "Sequential", "config": [layer]}


def test_an_old_sequential_config_is_a_bare_list(tmp_path, rng):
    weights = keras_lstm_weights(rng, 3, 5)
    named = {f"rnn/{name}:0": array for name, array in zip(LSTM_NAMES, weights, strict=True)}
    graph = read(write_h5(tmp_path / "a.h5", old_sequential(), {"rnn": named}, version=None))
    assert graph.inputs == ("input",)
    assert graph.values["input"].shape == (None, 3)
    assert graph.provenance["framework_version"] == "1"
    assert graph.layers[0].options["recurrent_activation_alpha"] == 0.2


# Bidirectional


def bidirectional_file(path, rng, *, config=None, names=("forward_rnn", "backward_rnn"), version="3.15.1", swap=False):
    """A model of one Bidirectional LSTM and the six arrays, forward first."""
    config = config or keras_bidirectional("both", keras_lstm("rnn", 5, return_sequences=True))
    weights = keras_lstm_weights(rng, 3, 5), keras_lstm_weights(rng, 3, 5)
    model = keras_model(keras_input(None, 3), config)
    if path.suffix == ".keras":
        parts = zip(("forward", "backward"), weights, strict=True)
        groups = {f"layers/bidirectional/{part}_layer/cell": arrays for part, arrays in parts}
        return weights, write_keras(path, model, groups, version=version)
    named = {}
    for title, arrays in sorted(zip(names, weights, strict=True), key=lambda pair: pair[0], reverse=not swap):
        named.update({f"both/{title}/cell/{n}:0": array for n, array in zip(LSTM_NAMES, arrays, strict=True)})
    return weights, write_h5(path, model, {"both": named}, version=version)


@pytest.mark.parametrize("swap", [False, True])
def test_both_directions_become_nodes_that_a_merge_joins(path, rng, swap):
    (forward, backward), path = bidirectional_file(path, rng, swap=swap)
    graph = read(path)
    assert [(node.kind, node.name) for node in graph.layers] == [
        ("lstm", "both.forward"),
        ("lstm", "both.backward"),
        ("merge", "both"),
    ]
    assert [node.options.get("reverse") for node in graph.layers] == [False, True, None]
    assert {node.options["padding"] for node in graph.layers[:2]} == {"zero"}
    assert graph.layers[2].inputs == {"x": "both.forward", "x1": "both.backward"}
    np.testing.assert_array_equal(graph.tensors["both.forward.weight_ih"], forward[0].T)
    np.testing.assert_array_equal(graph.tensors["both.backward.weight_ih"], backward[0].T)
    np.testing.assert_array_equal(graph.tensors["both.backward.bias"], backward[2])
    assert graph.values["both"].shape == (None, 10)


def test_without_sequences_the_final_states_are_merged(path, rng):
    _, path = bidirectional_file(path, rng, config=keras_bidirectional("both", keras_lstm("rnn", 5)))
    graph = read(path)
    assert graph.layers[2].inputs == {"x": "both.forward.h", "x1": "both.backward.h"}


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave"])
def test_merge_modes_are_kept(path, rng, mode):
    config = keras_bidirectional("both", keras_lstm("rnn", 5, return_sequences=True), merge_mode=mode)
    _, path = bidirectional_file(path, rng, config=config)
    assert read(path).layers[2].options["mode"] == mode


def test_the_backward_layer_may_differ(path, rng):
    backward = keras_lstm("odd", 5, return_sequences=True, go_backwards=True, activation="relu")
    config = keras_bidirectional("both", keras_lstm("rnn", 5, return_sequences=True), backward)
    (_, arrays), path = bidirectional_file(path, rng, config=config, names=("forward_rnn", "odd"))
    graph = read(path)
    assert [node.options["activation"] for node in graph.layers[:2]] == ["tanh", "relu"]
    np.testing.assert_array_equal(graph.tensors["both.backward.weight_hh"], arrays[1].T)


@pytest.mark.parametrize(("version", "padding"), [("2.3.1", "repeat"), ("2.3.0-tf", "zero"), ("2.15.0", "zero")])
def test_padding_inside_bidirectional_is_that_of_the_version(tmp_path, rng, version, padding):
    _, path = bidirectional_file(tmp_path / "a.h5", rng, version=version)
    assert read(path).layers[0].options["padding"] == padding


# Other recurrent layers


def recurrent(class_name, name, **options):
    """A serialised recurrent layer or cell with the options that every version writes."""
    return keras_layer(class_name, name, **{"activation": "tanh", "recurrent_activation": "sigmoid", **options})


def arrays_of(rng, *shapes):
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def one_layer_file(path, config, parts, shape=(None, 3), version="3.15.1"):
    """A model of one layer; `parts` maps where a set of weights stands in the .keras file to its arrays."""
    model = keras_model(keras_input(*shape), config)
    if path.suffix == ".keras":
        return write_keras(path, model, {f"layers/{group}": arrays for group, arrays in parts.items()}, version=version)
    named = {f"{g}/{n}:0": a for g, arrays in parts.items() for n, a in zip(LSTM_NAMES, arrays, strict=False)}
    return write_h5(path, model, {config["config"]["name"]: named}, version=version)


def blocks(array, order):
    """The blocks of the last axis in another order."""
    found = np.split(array, len(order), axis=-1)
    return np.concatenate([found[k] for k in order], axis=-1)


def test_the_gates_of_a_gru_are_reordered_and_its_two_biases_kept_apart(path, rng):
    arrays = arrays_of(rng, (3, 15), (5, 15), (2, 15))
    graph = read(one_layer_file(path, recurrent("GRU", "g", units=5, reset_after=True), {"gru/cell": arrays}))
    (node,) = graph.layers
    assert (node.kind, node.options["reset_after"]) == ("gru", True)
    found = graph.layer_tensors(node)
    np.testing.assert_array_equal(found["weight_ih"], blocks(arrays[0], (1, 0, 2)).T)
    np.testing.assert_array_equal(found["weight_hh"], blocks(arrays[1], (1, 0, 2)).T)
    np.testing.assert_array_equal(found["bias_ih"], blocks(arrays[2][0], (1, 0, 2)))
    np.testing.assert_array_equal(found["bias_hh"], blocks(arrays[2][1], (1, 0, 2)))
    assert "g/bias_ih+bias_hh" in graph.provenance["tensors"].values()


@pytest.mark.parametrize("options", [{}, {"reset_after": False}])
def test_a_gru_whose_config_is_silent_resets_before_the_product(path, rng, options):
    arrays = arrays_of(rng, (3, 15), (5, 15), (15,))
    config = recurrent("GRU", "g", units=5, **options)
    graph = read(one_layer_file(path, config, {"gru/cell": arrays}, version="2.1.2"))
    assert graph.layers[0].options["reset_after"] is False
    assert set(graph.layers[0].weights) == {"weight_ih", "weight_hh", "bias_ih"}
    np.testing.assert_array_equal(graph.tensors["g.bias_ih"], blocks(arrays[2], (1, 0, 2)))


def test_the_weights_of_a_cudnn_gru_do_not_fit_a_gru_that_resets_before(path, rng):
    config = recurrent("GRU", "g", units=5, reset_after=False)
    path = one_layer_file(path, config, {"gru/cell": arrays_of(rng, (3, 15), (5, 15), (30,))})
    with pytest.raises(FormatError, match=r"layer 'g' \(GRU\), tensor .*CuDNNGRU.*reset_after=False"):
        read(path)


def test_a_simple_rnn_has_one_activation(path, rng):
    arrays = arrays_of(rng, (3, 5), (5, 5), (5,))
    config = keras_layer("SimpleRNN", "s", units=5, activation="relu", return_sequences=True)
    graph = read(one_layer_file(path, config, {"simple_rnn/cell": arrays}))
    assert (graph.layers[0].kind, graph.layers[0].options["activation"]) == ("rnn", "relu")
    for role, array in zip(("weight_ih", "weight_hh", "bias"), arrays, strict=True):
        np.testing.assert_array_equal(graph.tensors[f"s.{role}"], array.T)


def test_the_activation_of_an_lstm_is_that_of_its_output_too(path, rng):
    options = read(write_lstm(path, keras_lstm_weights(rng, 3, 5), activation="softsign")).layers[0].options
    assert (options["activation"], options["output_activation"]) == ("softsign", "softsign")


def test_going_backwards_leaves_the_sequence_in_the_order_of_processing(path, rng):
    graph = read(write_lstm(path, keras_lstm_weights(rng, 3, 5), go_backwards=True, return_sequences=True))
    assert [(node.kind, node.options.get("reverse")) for node in graph.layers] == [("lstm", True), ("reverse", None)]
    graph = read(write_lstm(path, keras_lstm_weights(rng, 3, 5), go_backwards=True))
    assert [(node.kind, node.options.get("reverse")) for node in graph.layers] == [("lstm", True)]


def test_returned_states_are_further_outputs_and_an_output_that_is_a_state_is_given_twice(path, rng):
    weights = keras_lstm_weights(rng, 3, 5)
    graph = read(write_lstm(path, weights, return_state=True, return_sequences=True))
    assert graph.outputs == ("rnn", "rnn.h", "rnn.c")
    graph = read(write_lstm(path, weights, return_state=True))
    assert graph.outputs == ("rnn.output", "rnn.h", "rnn.c")
    assert graph.layers[1].inputs == {"x": "rnn.h"}


def test_only_the_last_layer_may_have_several_outputs(tmp_path, rng):
    for layer, message in (
        (
            keras_lstm("rnn", 5, return_state=True),
            r"layer 'rnn' \(LSTM\): option return_state=True .* last layer only; set it to False",
        ),
        (
            keras_bidirectional("both", keras_lstm("rnn", 5), merge_mode=None),
            r"layer 'both' \(Bidirectional\): option merge_mode=None .* last layer only; choose one of concat",
        ),
    ):
        path = write_keras(tmp_path / "a.keras", keras_model(keras_input(None, 3), layer, keras_dense("fc", 2)), {})
        with pytest.raises(UnsupportedError, match=message):
            read(path)


def test_without_a_merge_both_directions_are_outputs(path, rng):
    config = keras_bidirectional(
        "both", keras_lstm("rnn", 5, return_sequences=True, return_state=True), merge_mode=None
    )
    _, path = bidirectional_file(path, rng, config=config)
    assert read(path).outputs == (
        "both.forward", "both.backward", "both.forward.h", "both.forward.c", "both.backward.h", "both.backward.c",
    )  # fmt: skip


def test_a_forward_layer_that_goes_backwards_is_not_flipped_and_the_other_one_is(path, rng):
    forward = keras_lstm("rnn", 5, return_sequences=True, go_backwards=True)
    for backward in (None, keras_lstm("odd", 5, return_sequences=True)):
        config = keras_bidirectional("both", forward, backward)
        names = ("forward_rnn", "odd" if backward else "backward_rnn")
        graph = read(bidirectional_file(path, rng, config=config, names=names, version="2.15.0")[1])
        assert [(node.kind, node.options.get("reverse")) for node in graph.layers] == [
            ("lstm", True), ("reverse", None), ("lstm", False), ("reverse", None), ("merge", None),
        ]  # fmt: skip
        assert graph.layers[-1].inputs == {"x": "both.forward.reverse", "x1": "both.backward.reverse"}


def test_bidirectional_sets_zero_output_for_mask_itself(path, rng):
    inner = keras_lstm("rnn", 5, return_sequences=False, zero_output_for_mask=True)
    graph = read(bidirectional_file(path, rng, config=keras_bidirectional("both", inner))[1])
    assert {node.options["padding"] for node in graph.layers[:2]} == {"repeat"}


def stack(name, *cells, **options):
    """RNN([cells]) as Keras 3 writes it."""
    return keras_layer("RNN", name, cell=keras_layer("StackedRNNCells", "cells", cells=list(cells)), **options)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_stack_of_cells_becomes_layers_one_on_another(path, rng, order):
    """In an .h5 file the weights of frozen cells stand behind the others: names tell, not the order."""
    cells = [
        recurrent("LSTMCell", "first", units=5),
        recurrent("GRUCell", "second", units=4, reset_after=False),
        recurrent("LSTMCell", "third", units=2),
    ]
    config = stack("rnn", *cells, return_sequences=True, return_state=True, go_backwards=True)
    weights = [
        arrays_of(rng, (3, 20), (5, 20), (20,)),
        arrays_of(rng, (5, 12), (4, 12), (12,)),
        arrays_of(rng, (4, 8), (2, 8), (8,)),
    ]
    groups = ("lstm_cell", "gru_cell", "lstm_cell_1") if path.suffix == ".keras" else ("first", "second", "third")
    start = "rnn/cell/cells" if path.suffix == ".keras" else "rnn/stacked"
    graph = read(one_layer_file(path, config, {f"{start}/{groups[k]}": weights[k] for k in order}))
    assert [(node.kind, node.name) for node in graph.layers] == [
        ("lstm", "rnn.cell0"), ("gru", "rnn.cell1"), ("lstm", "rnn.cell2"), ("reverse", "rnn.reverse"),
    ]  # fmt: skip
    assert all(node.options["reverse"] for node in graph.layers[:3])
    assert [node.options["padding"] for node in graph.layers[:3]] == ["zero", "zero", "repeat"]
    assert {node.inputs["mask"] for node in graph.layers[:3]} == {"input_layer.mask"}
    assert graph.outputs == ("rnn.reverse", "rnn.cell0.h", "rnn.cell0.c", "rnn.cell1.h", "rnn.cell2.h", "rnn.cell2.c")
    for k in (0, 2):
        np.testing.assert_array_equal(graph.tensors[f"rnn.cell{k}.weight_hh"], weights[k][1].T)
    np.testing.assert_array_equal(graph.tensors["rnn.cell1.weight_hh"], blocks(weights[1][1], (1, 0, 2)).T)


def test_cells_without_telling_names_are_taken_in_order(tmp_path, rng):
    cells = [recurrent("LSTMCell", f"cell_{k}", units=5) for k in range(2)]
    weights = [arrays_of(rng, (size, 20), (5, 20), (20,)) for size in (3, 5)]
    parts = {f"rnn/other_{k}": weights[k] for k in range(2)}
    graph = read(one_layer_file(tmp_path / "a.h5", stack("rnn", *cells), parts))
    np.testing.assert_array_equal(graph.tensors["rnn.cell1.weight_hh"], weights[1][1].T)
    path = one_layer_file(tmp_path / "b.h5", stack("rnn", *cells), {"rnn/a": weights[0]})
    with pytest.raises(FormatError, match="layer 'rnn': expected the weights of 2 cells, found rnn/a/kernel:0"):
        read(path)


def test_one_cell_is_the_layer_itself(path, rng):
    arrays = arrays_of(rng, (3, 5), (5, 5), (5,))
    config = keras_layer("RNN", "rnn", cell=keras_layer("SimpleRNNCell", "c", units=5, activation="tanh"))
    graph = read(one_layer_file(path, config, {"rnn/cell": arrays}))
    assert [(node.kind, node.name) for node in graph.layers] == [("rnn", "rnn")]


def conv_lstm(class_name="ConvLSTM2D", **options):
    defaults = {"filters": 4, "kernel_size": [3, 2], "strides": [1, 2], "padding": "same",
                "data_format": "channels_last", "dilation_rate": [1, 1]}  # fmt: skip
    return recurrent(class_name, "conv", **{**defaults, **options})


def test_the_taps_of_a_conv_lstm_stand_row_by_row_each_with_its_channels(path, rng):
    arrays = arrays_of(rng, (3, 2, 3, 16), (3, 2, 4, 16), (16,))
    graph = read(one_layer_file(path, conv_lstm(), {"conv_lstm2d/cell": arrays}, (None, 6, 5, 3)))
    (node,) = graph.layers
    np.testing.assert_array_equal(graph.tensors["conv.weight_ih"][:, 5 * 3 + 1], arrays[0][2, 1, 1])
    np.testing.assert_array_equal(graph.tensors["conv.weight_hh"][:, 2 * 4 + 3], arrays[1][1, 0, 3])
    options = {key: value for key, value in node.options.items() if key.endswith(("_rows", "_columns", "_padding"))}
    assert options == {"conv_padding": "same", "kernel_rows": 3, "kernel_columns": 2, "stride_rows": 1,
                       "stride_columns": 2, "dilation_rows": 1, "dilation_columns": 1, "input_rows": 6,
                       "input_columns": 5}  # fmt: skip
    assert graph.values["conv.h"].shape == (6, 3, 4)


def test_a_conv_lstm_in_one_dimension_has_one_row(path, rng):
    config = conv_lstm("ConvLSTM1D", kernel_size=[2], strides=[1], dilation_rate=[3], padding="valid")
    arrays = arrays_of(rng, (2, 3, 16), (2, 4, 16), (16,))
    graph = read(one_layer_file(path, config, {"conv_lstm1d/cell": arrays}, (None, 7, 3)))
    options = graph.layers[0].options
    assert (options["kernel_rows"], options["kernel_columns"], options["dilation_columns"]) == (1, 2, 3)
    assert graph.values["conv.h"].shape == (4, 4)


@pytest.mark.parametrize(("version", "padding"), [("2.15.0", "repeat"), ("3.0.0", "zero")])
def test_a_conv_lstm_of_keras_2_does_not_know_zero_output_for_mask(tmp_path, rng, version, padding):
    arrays = arrays_of(rng, (3, 2, 3, 16), (3, 2, 4, 16), (16,))
    config = conv_lstm(return_sequences=True, zero_output_for_mask=True)
    path = one_layer_file(tmp_path / "a.h5", config, {"c/cell": arrays}, (None, 6, 5, 3), version)
    assert read(path).layers[0].options["padding"] == padding
    config = keras_bidirectional("both", conv_lstm(return_sequences=True))
    parts = {"forward_conv": arrays, "backward_conv": arrays}
    path = one_layer_file(tmp_path / "b.h5", config, parts, (None, 6, 5, 3), version)
    assert {node.options["padding"] for node in read(path).layers[:2]} == {padding}


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        (
            conv_lstm(data_format="channels_first"),
            (None, 6, 5, 3),
            r"'conv' \(ConvLSTM2D\): option data_format='channels_first' is not supported; build the layer with",
        ),
        (conv_lstm(padding="causal"), (None, 6, 5, 3), "option padding expected 'valid' or 'same', found 'causal'"),
        (conv_lstm(kernel_size=[3]), (None, 6, 5, 3), r"option kernel_size expected a list of 2 numbers, found \[3\]"),
        (conv_lstm(strides=[1, 0]), (None, 6, 5, 3), r"option strides expected 1 to 1000000, found \[1, 0\]"),
        (conv_lstm(dilation_rate=2), (None, 6, 5, 3), "option dilation_rate expected a list of 2 numbers, found 2"),
        (conv_lstm(filters=0), (None, 6, 5, 3), "option filters expected 1 to 1000000, found 0"),
        (
            conv_lstm(),
            (None, 5, 3),
            r"'conv' .* expected an input \(batch, time, rows, columns, channels\), found \(batch, time, 5, 3\)",
        ),
        (keras_lstm("rnn", 5), (None, 5, 3), r"'rnn' \(LSTM\): expected an input \(batch, time, features\), found"),
        (
            keras_layer("RNN", "rnn", cell=recurrent("PeepholeLSTMCell", "c", units=5)),
            (None, 3),
            r"layer 'rnn' \(RNN\), cell 'c' \(PeepholeLSTMCell\): cells of class PeepholeLSTMCell are not supported;",
        ),
        (
            keras_layer("RNN", "rnn", cell={**recurrent("Mine", "c"), "registered_name": "pack>Mine"}),
            (None, 3),
            r"layer 'rnn' \(RNN\), cell 'c': 'pack>Mine' of module 'keras.layers' is not one of Keras's own",
        ),
        (stack("rnn", stack("a")["config"]["cell"]), (None, 3), "cells of class StackedRNNCells are not supported"),
        (stack("rnn"), (None, 3), "option cells expected a list of 1 to 1000 cells"),
        (
            stack("rnn", recurrent("LSTMCell", "c", units=5, peepholes=True)),
            (None, 3),
            r"layer 'rnn' \(RNN\), cell 'c' \(LSTMCell\): option peepholes=True is not supported",
        ),
        (
            keras_layer("RNN", "rnn", cell=recurrent("LSTMCell", "c", units=5), num_constants=1),
            (None, 3),
            "option num_constants=1 is not supported",
        ),
        (keras_layer("RNN", "rnn"), (None, 3), r"layer 'rnn' \(RNN\), a cell: expected an object"),
    ],
)
def test_a_recurrent_layer_that_is_not_computed_is_refused_by_name(tmp_path, config, shape, message):
    with pytest.raises(CylstmError, match=message):
        read(write_keras(tmp_path / "a.keras", keras_model(keras_input(*shape), config), {}))


def test_an_old_recurrent_first_layer_tells_the_number_of_features(tmp_path, rng):
    config = recurrent("GRU", "g", units=5, input_dim=3)
    arrays = arrays_of(rng, (3, 15), (5, 15), (15,))
    named = dict(zip(LSTM_NAMES, arrays, strict=True))
    path = write_h5(tmp_path / "a.h5", {"class_name": "Sequential", "config": [config]}, {"g": named}, version="2.0.4")
    assert read(path).values["input"].shape == (None, 3)


# Activations


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
    for node in read(path).layers:
        options = node.options
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
    assert [node.kind for node in graph.layers] == ["dense", *ops, *ops]
    assert [node.name for node in graph.layers][-1] == "act"
    assert [node.options["activation"] for node in graph.layers if node.kind == "activation"] == [
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


# Refusals: layers and options


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
        (keras_dense("x", 2, lora_rank=4), "option lora_rank=4 is not supported"),
        (keras_dense("x", 2, quantization_config={"mode": "int8"}), "option quantization_config="),
        (keras_dense("x", 2, dtype={"class_name": "QuantizedDTypePolicy", "config": {}}), "'QuantizedDTypePolicy'"),
        (keras_layer("ReLU", "x", threshold=1e9), "option threshold expected 0 to 1e8, found"),
        (keras_dense("x", 2, activation=keras_layer("ReLU", "r", threshold=1.0)), "option threshold is not supported"),
        (keras_layer("Softmax", "x", axis=0), "option axis expected another axis than the batch, found 0"),
        (keras_layer("Softmax", "x", axis=2), r"option axis expected an axis of \(batch, 2\), found 2"),
        (keras_layer("Softmax", "x", axis=[1, 2]), "a softmax over several axes at once is not supported"),
        (keras_layer("BatchNormalization", "x", axis=3), r"option axis expected an axis of \(batch, 2\), found 3"),
        (keras_layer("EinsumDense", "x"), "layers of class EinsumDense are not supported; Dense is"),
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


def test_an_lstm_whose_activation_is_not_written_is_refused(tmp_path, rng):
    model = lstm_model()
    del model["config"]["layers"][1]["config"]["recurrent_activation"]
    path = write_keras(tmp_path / "a.keras", model, {"layers/lstm/cell": keras_lstm_weights(rng, 3, 5)})
    with pytest.raises(FormatError, match="option 'recurrent_activation': missing in the config"):
        read(path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (keras_bidirectional("both", keras_lstm("rnn", 5), merge_mode="max"), "merge_mode expected None or one of"),
        (keras_bidirectional("both", keras_lstm("rnn", 5), merge_mode=["sum"]), "merge_mode expected None or one"),
        (
            keras_bidirectional("both", keras_layer("Dense", "fc", units=5)),
            r"layer 'both' \(Bidirectional\), forward layer 'fc' \(Dense\): Dense is not supported here; supported are",
        ),
        (keras_bidirectional("both", keras_lstm("rnn", 5), keras_lstm("b", 5)), "go_backwards is False in both"),
        (
            keras_bidirectional("x", keras_lstm("f", 5, go_backwards=True), keras_lstm("b", 5, go_backwards=True)),
            "option go_backwards is True in both directions",
        ),
        (
            keras_bidirectional("x", keras_lstm("f", 5, return_state=True), keras_lstm("b", 5, go_backwards=True)),
            "option return_state differs between the two directions",
        ),
        (
            keras_bidirectional("x", keras_lstm("f", 5), keras_lstm("b", 5, go_backwards=True, return_sequences=True)),
            "option return_sequences differs",
        ),
        (
            keras_bidirectional("both", keras_lstm("rnn", 5, time_major=True)),
            r"layer 'both' \(Bidirectional\), forward layer 'rnn' \(LSTM\): option time_major=True",
        ),
        (keras_bidirectional("both", keras_lstm("rnn", 5), extra=3), "option extra=3"),
        (keras_bidirectional("both", None), "expected an object with class_name"),
    ],
)  # fmt: skip
def test_a_bidirectional_layer_that_is_not_computed_is_refused_by_name(tmp_path, rng, config, message):
    _, path = bidirectional_file(tmp_path / "a.keras", rng, config=config)
    with pytest.raises(CylstmError, match=message):
        read(path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"class_name": "Functional", "config": {}}, "expected a list of 1 to 10000 layers"),
        (
            {"class_name": "Model", "config": {"layers": [keras_input(3)]}},
            r"input_layers: expected \[layer, call, output\]",
        ),
        ({"class_name": "MyModel", "config": {}}, "a model of class 'MyModel'"),
        ({"class_name": "MyModel", "config": {}, "module": "my.code"}, "'MyModel' of module 'my.code' is not one of"),
        ({"class_name": "Sequential", "config": {"layers": []}}, "expected a list of 1 to 10000 layers"),
        ({"class_name": "Sequential", "config": {"layers": {}}}, "expected a list of 1 to 10000 layers"),
        ({"class_name": "Sequential", "config": 3}, "expected a list of 1 to 10000 layers"),
        (keras_model(keras_input(3), keras_layer("ReLU", "r")), "weights that belong to no layer"),
        (keras_model(keras_dense("fc", 2)), "input shape expected a list, found None"),
        (keras_model(keras_input(None), keras_dense("fc", 2)), "with a fixed number of features"),
        (keras_model(keras_input(None, None, 4), keras_dense("fc", 2)), "with a fixed number of features"),
        (keras_model(keras_input(2, 3, 4, 5, 6, 7, 8, 9, 10), keras_dense("fc", 2)), "with a fixed number of features"),
        (keras_model(keras_input(), keras_dense("fc", 2)), "with a fixed number of features"),
        (
            keras_model(keras_layer("InputLayer", "x", batch_shape=[None, "3"]), keras_dense("fc", 2)),
            "input shape expected a list",
        ),
        ([], "expected an object with class_name and config"),
        (b"{", "config.json: not valid JSON"),
        (b'{"class_name": 1, "class_name": 2}', "stands twice"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_config_that_describes_no_network_is_refused(tmp_path, config, message):
    path = write_keras(
        tmp_path / "a.keras", config, {"layers/dense": keras_dense_weights(np.random.default_rng(), 3, 2)}
    )
    with pytest.raises(CylstmError, match=message):
        read(path)


def test_a_model_of_an_input_alone_is_refused(tmp_path):
    with pytest.raises(FormatError, match="at least one input, one layer and one output"):
        read(write_keras(tmp_path / "a.keras", keras_model(keras_input(3)), {}))


def test_a_version_that_is_none_is_refused(tmp_path):
    with pytest.raises(FormatError, match="keras_version expected a version number, found 'new'"):
        read(dense_file(tmp_path / "a.keras", version="new"))
    with pytest.raises(FormatError, match="names no keras_version"):
        read(dense_file(tmp_path / "a.keras", version=3))


def test_layers_are_refused_for_a_file_that_holds_its_wiring(path, rng):
    with pytest.raises(FormatError, match="leave out layers="):
        read(write_lstm(path, keras_lstm_weights(rng, 3, 5)), layers=[L.LSTM("rnn")])


def test_without_h5py_the_error_says_what_to_install(path, rng, monkeypatch):
    write_lstm(path, keras_lstm_weights(rng, 3, 5))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UnsupportedError, match=r"pip install cylstm\[keras\]"):
        read(path)


# Refusals: weights


@pytest.mark.parametrize(
    ("index", "shape", "message"),
    [
        (0, (4, 20), r"expected shape \(3, 20\), found \(4, 20\)"),
        (1, (5, 16), r"expected shape \(5, 20\), found \(5, 16\)"),
        (2, (5,), r"expected shape \(20,\), found \(5,\)"),
        (2, (60,), r"expected shape \(20,\), found \(60,\)"),
        (0, (), r"expected shape \(3, 20\), found \(\)"),
    ],
)
def test_a_weight_of_another_shape_is_named_with_both_shapes(path, rng, index, shape, message):
    weights = keras_lstm_weights(rng, 3, 5)
    weights[index] = np.zeros(shape, np.float32)
    with pytest.raises(CylstmError, match=message) as caught:
        read(write_lstm(path, weights))
    assert "layer 'rnn' (LSTM)" in str(caught.value)


def test_a_missing_weight_is_named(tmp_path, rng):
    weights = keras_lstm_weights(rng, 3, 5)[:2]
    with pytest.raises(FormatError, match=r"layer 'rnn': expected kernel, recurrent_kernel, bias as layers/lstm/cell"):
        read(write_lstm(tmp_path / "a.keras", weights))
    with pytest.raises(FormatError, match="layer 'rnn': weight 'bias' is missing"):
        read(write_lstm(tmp_path / "a.h5", weights))
    with pytest.raises(FormatError, match="as layers/lstm/cell/vars/0 to 2, found nothing"):
        read(write_keras(tmp_path / "b.keras", lstm_model(), {}))
    with pytest.raises(FormatError, match="layer 'rnn': its weights are missing"):
        read(write_h5(tmp_path / "b.h5", lstm_model(), {"rnn": {}}))


def test_a_weight_left_over_is_named(tmp_path, rng):
    weights = keras_lstm_weights(rng, 3, 5)
    groups = {"layers/lstm/cell": weights, "layers/lstm_1/cell": weights[:1]}
    with pytest.raises(FormatError, match="belong to no layer of the config: layers/lstm_1/cell/vars/0"):
        read(write_keras(tmp_path / "a.keras", lstm_model(), groups))
    named = {f"rnn/{name}": array for name, array in zip(LSTM_NAMES, weights, strict=True)}
    with pytest.raises(FormatError, match="belong to no layer of the config: more/more/kernel"):
        read(write_h5(tmp_path / "a.h5", lstm_model(), {"rnn": named, "more": {"more/kernel": weights[0]}}))
    with pytest.raises(FormatError, match="weight 'rnn/extra' is not expected"):
        read(write_h5(tmp_path / "a.h5", lstm_model(), {"rnn": {**named, "rnn/extra": weights[0]}}))


def test_a_bidirectional_layer_needs_the_weights_of_two_directions(tmp_path, rng):
    _, path = bidirectional_file(tmp_path / "a.h5", rng, names=("same", "same"))
    with pytest.raises(FormatError, match="expected the weights of two directions"):
        read(path)


def test_weights_of_integers_are_refused(path, rng):
    weights = keras_lstm_weights(rng, 3, 5)
    weights[1] = weights[1].astype(np.int32)
    with pytest.raises(FormatError, match="expected floating-point numbers, found int32"):
        read(write_lstm(path, weights))


def test_weights_that_are_not_finite_are_loaded_with_a_warning_that_names_them(tmp_path, rng):
    weights = keras_lstm_weights(rng, 3, 5)
    weights[2][1] = np.inf
    with pytest.warns(UserWarning, match="NaN or infinity in layers/lstm/cell/vars/2$"):
        read(write_lstm(tmp_path / "a.keras", weights))


# Refusals: hostile HDF5

KERNEL = "layers/lstm/cell/vars/0"


def _replace(make):
    def edit(file):
        del file[KERNEL]
        make(file)

    return edit


def _external_storage(file):
    file.create_dataset(KERNEL, (3, 20), "f4", external=[("/etc/hostname", 0, 240)])


def _virtual(file):
    layout = h5py.VirtualLayout((3, 20), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (3, 20))
    file.create_virtual_dataset(KERNEL, layout)


def _link_in_the_middle(link):
    def edit(file):
        file.move("layers/lstm", "elsewhere")
        file["layers/lstm"] = link

    return edit


def _unknown_filter(file):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((3, 20))
    properties.set_filter(305, h5py.h5z.FLAG_OPTIONAL, (1, 2))
    space = h5py.h5s.create_simple((3, 20))
    h5py.h5d.create(file.id, KERNEL.encode(), h5py.h5t.IEEE_F32LE, space, properties)


def _cycle(file):
    file["layers/lstm/cell/again"] = file["layers"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_replace(lambda file: file.update({KERNEL: h5py.SoftLink("/layers/lstm/cell/vars/1")})), "soft or external"),
        (_replace(lambda file: file.update({KERNEL: h5py.ExternalLink("/etc/x.h5", "x")})), "missing|soft or external"),
        (_link_in_the_middle(h5py.SoftLink("/elsewhere")), "soft or external"),
        (_replace(_external_storage), "its data is in another file"),
        (_replace(_virtual), "its data is in another file"),
        (_replace(lambda file: file.update({KERNEL: h5py.Empty("f4")})), "no data"),
        (
            _replace(lambda file: file.create_dataset(KERNEL, (1 << 20, 1 << 20), "f4", chunks=(64, 64))),
            "takes 4398046511104 bytes, 0 are stored",
        ),
        (_replace(lambda file: file.create_dataset(KERNEL, (3, 20), "f4")), "takes 240 bytes, 0 are stored"),
        (_replace(lambda file: file.create_dataset(KERNEL, data=np.zeros((3, 20), "c8"))), "floating-point"),
        (
            _replace(lambda file: file.create_dataset(KERNEL, dtype=h5py.ref_dtype, data=np.full((3, 20), file.ref))),
            "expected floating-point numbers, found references",
        ),
        (
            _replace(lambda file: file.create_dataset(KERNEL, data=np.zeros((3, 20), [("a", "f4")]))),
            "expected floating-point numbers",
        ),
        (_replace(lambda file: file.create_dataset(KERNEL, data=np.zeros((3, 20), "V2"))), "floating-point"),
        (_replace(lambda file: file.create_group(KERNEL)), "as layers/lstm/cell/vars/0 to 2, found 1, 2"),
        (_replace(_unknown_filter), "HDF5 filter 305 is not supported"),
        (_cycle, "is an object that stands elsewhere in the file too"),
    ],
)  # fmt: skip
def test_a_hostile_dataset_is_refused(tmp_path, rng, edit, message):
    path = write_keras(
        tmp_path / "a.keras", lstm_model(), {"layers/lstm/cell": keras_lstm_weights(rng, 3, 5)}, edit=edit
    )
    with pytest.raises(CylstmError, match=message) as caught:
        read(path)
    assert "a.keras" in str(caught.value)


@pytest.mark.parametrize("name", ["/model_weights/rnn", "../rnn", "a//b", "rnn/./x", "", "."])
def test_an_unsafe_path_in_an_attribute_is_refused(tmp_path, rng, name):
    def edit(file):
        file["model_weights"].attrs["layer_names"] = [name]

    path = write_h5(tmp_path / "a.h5", lstm_model(), {"rnn": {}}, edit=edit)
    with pytest.raises(FormatError, match="unsafe HDF5 path"):
        read(path)


def _attribute(name, value):
    def edit(file):
        file["model_weights"].attrs[name] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_attribute("layer_names", np.arange(3.0)), "attribute 'layer_names' expected text"),
        (_attribute("layer_names", np.arange(3)), "attribute 'layer_names' expected text"),
        (_attribute("layer_names", h5py.Empty("f4")), "expected text"),
        (_attribute("layer_names", np.array([b"\xff"])), "not UTF-8"),
        (_attribute("layer_names", ["none"]), "'model_weights/none' is missing in the HDF5 file"),
        (lambda file: file["model_weights"].attrs.pop("layer_names"), "attribute 'layer_names' is missing"),
        (lambda file: file.pop("model_weights"), "'model_weights' is missing"),
        (lambda file: file.attrs.update(model_config="{"), "model_config: not valid JSON"),
        (lambda file: file.attrs.update(model_config=3), "attribute 'model_config' expected text"),
        (lambda file: file.attrs.update(model_config=["a"]), "model_config expected text"),
        (lambda file: file.attrs.update(keras_version=["2"]), "keras_version expected text"),
    ],
)
def test_a_damaged_h5_file_is_refused(tmp_path, edit, message):
    with pytest.raises(FormatError, match=message):
        read(write_h5(tmp_path / "a.h5", lstm_model(), {"rnn": {}}, edit=edit))


def test_weights_without_a_config_are_refused_with_advice(tmp_path, rng):
    with pytest.raises(FormatError, match="an HDF5 file, but not a Keras model"):
        read(write_h5(tmp_path / "a.h5", None, {}))
    with h5py.File(tmp_path / "b.weights.h5", "w") as file:
        file.create_group("layers/lstm/cell/vars")
    with pytest.raises(FormatError, match=r"give architecture=.*or layers="):
        read(tmp_path / "b.weights.h5")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.attrs["layer_names"] = ["rnn"]
    with pytest.raises(FormatError, match=r"give architecture=.*or layers="):
        read(tmp_path / "c.h5")


# Refusals: damaged archives


def test_an_archive_without_its_members_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"model\.weights\.h5 is missing; found config\.json"):
        read(write_zip(tmp_path / "a.keras", [("config.json", b"{}")]))
    with pytest.raises(FormatError, match=r"config\.json is missing"):
        read(write_zip(tmp_path / "a.keras", [("model.weights.h5", b"x")]))
    members = [("config.json", json.dumps(lstm_model()).encode()), ("model.weights.h5", b"hello")]
    with pytest.raises(FormatError, match="names no keras_version"):
        read(write_zip(tmp_path / "a.keras", members))
    with pytest.raises(FormatError, match="expected an HDF5 file, found bytes that begin with b'hello'"):
        read(write_zip(tmp_path / "a.keras", [*members, ("metadata.json", b'{"keras_version": "3.0"}')]))


def test_every_truncation_is_refused(path, rng):
    data = write_lstm(path, keras_lstm_weights(rng, 3, 5)).read_bytes()
    for size in [*range(0, len(data), 499), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(FormatError, match="model"):
            read(path)


def test_a_text_heap_on_which_hdf5_would_loop_for_ever_is_refused(tmp_path, rng):
    path = write_lstm(tmp_path / "a.h5", keras_lstm_weights(rng, 3, 5))
    data = bytearray(path.read_bytes())
    # The second byte of the size of the version's text in the heap.
    place = data.index(b"\x06" + bytes(7) + b"3.15.1")
    data[place + 1] = 2
    path.write_bytes(data)
    with pytest.raises(FormatError, match="the text heap at byte"):
        read(path)


@pytest.mark.filterwarnings("ignore:.*NaN or infinity:UserWarning")
def test_a_changed_byte_gives_a_graph_or_our_own_error(path, rng):
    data = write_lstm(path, keras_lstm_weights(rng, 3, 5)).read_bytes()
    for position in rng.integers(len(data), size=300):
        changed = bytearray(data)
        changed[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            read(path)
        except CylstmError as error:
            assert "model" in str(error)


# The framework itself


@pytest.fixture
def keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    found = pytest.importorskip("keras")
    found.utils.set_random_seed(29)
    return found


def full_model(keras):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((None, 3), name="signal"),
            layers.LSTM(5, return_sequences=True, recurrent_activation="hard_sigmoid", dropout=0.1, name="z"),
            layers.Bidirectional(
                layers.LSTM(4, return_sequences=True, bias_initializer="random_normal"),
                backward_layer=layers.LSTM(4, return_sequences=True, go_backwards=True, activation="relu"),
                merge_mode="ave",
            ),
            layers.Dropout(0.2),
            layers.Bidirectional(layers.LSTM(3, use_bias=False)),
            layers.LeakyReLU(),
            layers.Dense(6, activation="leaky_relu"),
            layers.ReLU(max_value=2.0),
            layers.ELU(0.5),
            layers.Dense(2),
            layers.Softmax(),
        ]
    )
    # A frozen direction stands behind the other one in an .h5 file.
    model.layers[1].forward_layer.trainable = False
    return model


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_what_keras_writes_is_read_back(tmp_path, keras):
    from cylstm.formats.keras.live import from_keras

    model = full_model(keras)
    model.compile("adam", "mse")
    model.save(tmp_path / "a.keras")
    model.save(tmp_path / "a.h5")
    both, last = model.layers[1], model.layers[3]
    expected = {
        "z": model.layers[0],
        f"{both.name}.forward": both.forward_layer,
        f"{both.name}.backward": both.backward_layer,
    }
    expected |= {f"{last.name}.forward": last.forward_layer, f"{last.name}.backward": last.backward_layer}
    expected |= {layer.name: layer for layer in model.layers if layer.name.startswith("dense")}
    live = from_keras(model)
    for graph in (read(tmp_path / "a.keras"), read(tmp_path / "a.h5"), live):
        assert graph.layers == live.layers
        assert graph.inputs == ("signal",)
        assert graph.provenance["framework_version"] == keras.__version__
        for name, layer in expected.items():
            node = next(node for node in graph.layers if node.name == name)
            found = graph.layer_tensors(node)
            roles = ("weight_ih", "weight_hh", "bias") if node.kind == "lstm" else ("weight", "bias")
            weights = layer.get_weights()
            assert len(found) == len(weights)
            for role, array in zip(roles, weights, strict=False):
                np.testing.assert_array_equal(found[role], array.T)


@pytest.mark.frameworks
def test_a_live_model_is_copied(keras):
    from cylstm.formats.keras.live import from_keras

    model = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(5)])
    graph = from_keras(model)
    expected = copy.deepcopy(graph.tensors)
    model.layers[0].set_weights([array * 0 for array in model.layers[0].get_weights()])
    for name, array in graph.tensors.items():
        np.testing.assert_array_equal(array, expected[name])


def custom_activation(x):
    return 2 * x


@pytest.mark.frameworks
def test_a_live_model_that_is_not_computed_is_refused_by_name(keras):
    from cylstm.formats.keras.live import from_keras

    layers = keras.layers
    x = keras.Input((None, 3))

    class Mine(keras.Model):
        pass

    with pytest.raises(UnsupportedError, match="'.*Mine' of module .* is not one of Keras's own"):
        from_keras(Mine(x, layers.LSTM(4)(x)))
    with pytest.raises(UnsupportedError, match=r"'cumsum' \(Cumsum\): the operation keras.ops Cumsum is not supported"):
        from_keras(keras.Model(x, keras.ops.cumsum(x, axis=1)))

    @keras.saving.register_keras_serializable("pack")
    class Cell(layers.SimpleRNNCell):
        pass

    with pytest.raises(UnsupportedError, match=r"layer 'rnn' \(RNN\), cell 'c': 'pack>Cell' of module.*custom objects"):
        from_keras(keras.Sequential([keras.Input((5, 3)), layers.RNN(Cell(4, name="c"), name="rnn")]))
    with pytest.raises(UnsupportedError, match=r"layer 'g' \(GRU\), option 'activation': .*custom"):
        from_keras(keras.Sequential([keras.Input((5, 3)), layers.GRU(4, activation=custom_activation, name="g")]))
    with pytest.raises(UnsupportedError, match="Lambda"):
        from_keras(keras.Sequential([keras.Input((None, 3)), layers.Lambda(abs)]))
    with pytest.raises(FormatError, match="build it or call it once"):
        from_keras(keras.Sequential([layers.LSTM(4)]))
    with pytest.raises(UnsupportedError, match="takes a Keras model"):
        from_keras(object())
