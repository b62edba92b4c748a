"""Where the weights of each layer stand in a Keras file, how they are stored, and weights that do not fit."""

import zipfile

import numpy as np
import pytest

from cylstm.errors import CylstmError, FormatError
from cylstm.loading import read

from tests.builders.keras_files import LSTM_NAMES, bidirectional_file, lstm_model, write_lstm
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

h5py = pytest.importorskip("h5py")


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
    assert [layer.name for layer in graph.layers] == ["z", "drop", "a", "m", "k", "b"]
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
