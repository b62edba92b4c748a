"""Recurrent layers of Keras: their weights, directions, cells and options."""

import numpy as np
import pytest

from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.loading import read

from tests.builders.keras_files import (
    LSTM_NAMES,
    arrays_of,
    bidirectional_file,
    lstm_model,
    one_layer_file,
    recurrent,
    write_lstm,
)
from tests.builders.weight_files import (
    keras_bidirectional,
    keras_dense,
    keras_input,
    keras_layer,
    keras_lstm,
    keras_lstm_weights,
    keras_model,
    write_h5,
    write_keras,
)

h5py = pytest.importorskip("h5py")


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


@pytest.mark.parametrize("swap", [False, True])
def test_both_directions_become_nodes_that_a_merge_joins(path, rng, swap):
    (forward, backward), path = bidirectional_file(path, rng, swap=swap)
    graph = read(path)
    assert [(layer.kind, layer.name) for layer in graph.layers] == [
        ("lstm", "both.forward"),
        ("lstm", "both.backward"),
        ("merge", "both"),
    ]
    assert [layer.options.get("reverse") for layer in graph.layers] == [False, True, None]
    assert {layer.options["padding"] for layer in graph.layers[:2]} == {"zero"}
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
    assert [layer.options["activation"] for layer in graph.layers[:2]] == ["tanh", "relu"]
    np.testing.assert_array_equal(graph.tensors["both.backward.weight_hh"], arrays[1].T)


@pytest.mark.parametrize(("version", "padding"), [("2.3.1", "repeat"), ("2.3.0-tf", "zero"), ("2.15.0", "zero")])
def test_padding_inside_bidirectional_is_that_of_the_version(tmp_path, rng, version, padding):
    _, path = bidirectional_file(tmp_path / "a.h5", rng, version=version)
    assert read(path).layers[0].options["padding"] == padding


def blocks(array, order):
    """The blocks of the last axis in another order."""
    found = np.split(array, len(order), axis=-1)
    return np.concatenate([found[k] for k in order], axis=-1)


def test_the_gates_of_a_gru_are_reordered_and_its_two_biases_kept_apart(path, rng):
    arrays = arrays_of(rng, (3, 15), (5, 15), (2, 15))
    graph = read(one_layer_file(path, recurrent("GRU", "g", units=5, reset_after=True), {"gru/cell": arrays}))
    (layer,) = graph.layers
    assert (layer.kind, layer.options["reset_after"]) == ("gru", True)
    found = graph.layer_tensors(layer)
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
    assert [(layer.kind, layer.options.get("reverse")) for layer in graph.layers] == [("lstm", True), ("reverse", None)]
    graph = read(write_lstm(path, keras_lstm_weights(rng, 3, 5), go_backwards=True))
    assert [(layer.kind, layer.options.get("reverse")) for layer in graph.layers] == [("lstm", True)]


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
        assert [(layer.kind, layer.options.get("reverse")) for layer in graph.layers] == [
            ("lstm", True), ("reverse", None), ("lstm", False), ("reverse", None), ("merge", None),
        ]  # fmt: skip
        assert graph.layers[-1].inputs == {"x": "both.forward.reverse", "x1": "both.backward.reverse"}


def test_bidirectional_sets_zero_output_for_mask_itself(path, rng):
    inner = keras_lstm("rnn", 5, return_sequences=False, zero_output_for_mask=True)
    graph = read(bidirectional_file(path, rng, config=keras_bidirectional("both", inner))[1])
    assert {layer.options["padding"] for layer in graph.layers[:2]} == {"repeat"}


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
    assert [(layer.kind, layer.name) for layer in graph.layers] == [
        ("lstm", "rnn.cell0"), ("gru", "rnn.cell1"), ("lstm", "rnn.cell2"), ("reverse", "rnn.reverse"),
    ]  # fmt: skip
    assert all(layer.options["reverse"] for layer in graph.layers[:3])
    assert [layer.options["padding"] for layer in graph.layers[:3]] == ["zero", "zero", "repeat"]
    assert {layer.inputs["mask"] for layer in graph.layers[:3]} == {"input_layer.mask"}
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
    assert [(layer.kind, layer.name) for layer in graph.layers] == [("rnn", "rnn")]


def conv_lstm(class_name="ConvLSTM2D", **options):
    defaults = {"filters": 4, "kernel_size": [3, 2], "strides": [1, 2], "padding": "same",
                "data_format": "channels_last", "dilation_rate": [1, 1]}  # fmt: skip
    return recurrent(class_name, "conv", **{**defaults, **options})


def test_the_taps_of_a_conv_lstm_stand_row_by_row_each_with_its_channels(path, rng):
    arrays = arrays_of(rng, (3, 2, 3, 16), (3, 2, 4, 16), (16,))
    graph = read(one_layer_file(path, conv_lstm(), {"conv_lstm2d/cell": arrays}, (None, 6, 5, 3)))
    (layer,) = graph.layers
    np.testing.assert_array_equal(graph.tensors["conv.weight_ih"][:, 5 * 3 + 1], arrays[0][2, 1, 1])
    np.testing.assert_array_equal(graph.tensors["conv.weight_hh"][:, 2 * 4 + 3], arrays[1][1, 0, 3])
    options = {key: value for key, value in layer.options.items() if key.endswith(("_rows", "_columns", "_padding"))}
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
    assert {layer.options["padding"] for layer in read(path).layers[:2]} == {padding}


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        (
            keras_bidirectional("both", conv_lstm(data_format="channels_first")),
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
            r"layer 'rnn' \(RNN\), cell 'c' .*: cells of class Mine are not supported; .*a layer of your own",
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
