"""Files of older Keras versions: their names of weights and layers, and their defaults."""

import numpy as np
import pytest

import cylstm
from cylstm.loading import read

from tests.builders.keras2 import FOLDER, assert_expected
from tests.builders.weight_files import (
    keras_lstm_weights,
    write_h5,
)

h5py = pytest.importorskip("h5py")


def stored_weights(file, group):
    """Weights of a layer of an older ``.h5`` fixture, in order."""
    with h5py.File(FOLDER / file) as opened:
        root = opened.get("model_weights", opened)
        names = root[group].attrs["weight_names"]
        return [root[group][name if isinstance(name, str) else name.decode()][()] for name in names]


def old_layer(class_name, name, **config):
    return {"class_name": class_name, "config": {"name": name, "trainable": True, **config}}


def old_recurrent(class_name, name, units, **options):
    config = {
        "units": units, "activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True, "implementation": 0,
        "return_sequences": False, "go_backwards": False, "stateful": False, "unroll": False, "dropout": 0.0,
        "kernel_initializer": {"class_name": "VarianceScaling", "config": {"scale": 1.0, "seed": None}},
        "kernel_regularizer": None, "unit_forget_bias": True,
    }  # fmt: skip
    return old_layer(class_name, name, **config | options)


def old_dense(name, units, **options):
    return old_layer("Dense", name, **{"units": units, "activation": "linear", "use_bias": True, **options})


def named(pattern, arrays, roles=("kernel", "recurrent_kernel", "bias")):
    return {pattern.format(role): array for role, array in zip(roles, arrays)}


FIRST = {"batch_input_shape": [None, 6, 3], "dtype": "float32"}


def old_stacked(path, version, lstm, dense):
    """The model "stacked" under the names of an older version; `lstm` and `dense` are patterns of names."""
    layers = [
        old_recurrent("LSTM", "lstm_1", 5, return_sequences=True, **FIRST),
        old_layer("Dropout", "dropout_1", rate=0.3, noise_shape=None, seed=None),
        old_recurrent("LSTM", "lstm_2", 4),
        old_dense("dense_1", 2, activation="relu"),
    ]
    # Before Keras 2.2.3 the config of a Sequential was the list of its layers.
    bare = tuple(map(int, version.split("-")[0].split("."))) < (2, 2, 3)
    config = {"class_name": "Sequential", "config": layers if bare else {"name": "sequential_1", "layers": layers}}
    weights = {
        "lstm_1": named(lstm.format(1, "{}"), stored_weights("stacked.h5", "first")),
        "dropout_1": {},
        "lstm_2": named(lstm.format(2, "{}"), stored_weights("stacked.h5", "a.name-of_its.own")),
        "dense_1": named(dense.format(1, "{}"), stored_weights("stacked.h5", "dense"), ("kernel", "bias")),
    }
    return write_h5(path, config, weights, version=version, fixed=True)


@pytest.mark.parametrize(("version", "lstm", "dense"), [
    ("2.0.9", "lstm_{}/kernel:0", "dense_{}/kernel:0"),
    ("2.1.5", "lstm_{}/kernel:0", "dense_{}/kernel:0"),
    ("2.2.4", "lstm_{}/kernel:0", "dense_{}/kernel:0"),
    ("2.2.4", "lstm_{}_1/kernel_1:0", "dense_{}_1/kernel_1:0"),
    ("2.3.1", "lstm_{}/kernel:0", "dense_{}/kernel:0"),
    ("2.2.4-tf", "lstm_{}/lstm_cell/kernel:0", "dense_{}/kernel:0"),
    ("2.4.0", "lstm_{}/lstm_cell_7/kernel:0", "dense_{}/kernel:0"),
])  # fmt: skip
def test_the_names_of_an_older_keras_are_read(tmp_path, version, lstm, dense):
    patterns = (lstm.replace("kernel", "{}"), dense.replace("kernel", "{}"))
    path = old_stacked(tmp_path / "a.h5", version, *patterns)
    model = cylstm.load(path)
    assert_expected(model, "stacked")
    assert model.provenance["framework_version"] == version


def test_a_cudnn_model_in_a_bare_list_is_read(tmp_path):
    layers = [
        old_layer("CuDNNLSTM", "cu_dnnlstm_1", units=5, return_sequences=True, **FIRST),
        old_layer("CuDNNGRU", "cu_dnngru_1", units=4, return_sequences=False, go_backwards=False),
        old_dense("dense_1", 2),
    ]
    weights = {
        "cu_dnnlstm_1": named("cu_dnnlstm_1/{}:0", stored_weights("cudnn.h5", "cu_dnnlstm")),
        "cu_dnngru_1": named("cu_dnngru_1/{}:0", stored_weights("cudnn.h5", "cu_dnngru")),
        "dense_1": named("dense_1/{}:0", stored_weights("cudnn.h5", "dense_4"), ("kernel", "bias")),
    }
    path = write_h5(tmp_path / "a.h5", {"class_name": "Sequential", "config": layers}, weights, version="2.1.5")
    assert_expected(cylstm.load(path), "cudnn")


def test_the_old_default_of_a_gru_is_to_reset_before(tmp_path):
    """The option was not written before Keras 2.1.3."""
    gru = old_recurrent("GRU", "gru_1", 5, go_backwards=True, recurrent_activation="hard_sigmoid", **FIRST)
    file = "gru_reset_before.weights-only.h5"
    weights = {
        "gru_1": named("gru_1/{}:0", stored_weights(file, "gru_1")),
        "dense_1": named("dense_1/{}:0", stored_weights(file, "dense_1"), ("kernel", "bias")),
    }
    config = {"class_name": "Sequential", "config": [gru, old_dense("dense_1", 2)]}
    path = write_h5(tmp_path / "a.h5", config, weights, version="2.0.8")
    assert_expected(cylstm.load(path), "gru_reset_before")


def test_the_cells_of_one_layer_that_have_no_names_are_told_by_their_counters(tmp_path):
    with h5py.File(FOLDER / "cells.h5") as file:
        (group,) = [name for name in file["model_weights"] if name.startswith("rnn")]
    arrays = stored_weights("cells.h5", group)
    cells = [old_recurrent("LSTMCell", "lstm_cell_1", 5), old_recurrent("GRUCell", "gru_cell_1", 4, reset_after=True)]
    cells.append(old_recurrent("LSTMCell", "lstm_cell_2", 2))
    for cell in cells:
        for option in ("return_sequences", "go_backwards", "stateful", "unroll"):
            del cell["config"][option]
    rnn = old_layer(
        "RNN",
        "rnn_1",
        return_sequences=True,
        cell={"class_name": "StackedRNNCells", "config": {"name": "s", "cells": cells}},
        **FIRST,
    )
    weights = {}
    for k in range(3):
        weights |= named("rnn_1/{}" + (f"_{k}:0" if k else ":0"), arrays[3 * k : 3 * k + 3])
    config = {"class_name": "Sequential", "config": {"name": "sequential_1", "layers": [rnn]}}
    path = write_h5(tmp_path / "a.h5", config, {"rnn_1": weights}, version="2.2.4")
    assert_expected(cylstm.load(path), "cells")


@pytest.mark.parametrize("frozen", [False, True])
def test_the_directions_of_an_older_file_are_told_by_name(tmp_path, frozen, rng):
    forward, backward = keras_lstm_weights(rng, 3, 4), keras_lstm_weights(rng, 3, 4)
    layer = old_recurrent("LSTM", "lstm_1", 4)
    both = old_layer("Bidirectional", "bidirectional_1", merge_mode="concat", layer=layer, **FIRST)
    parts = [
        named("bidirectional_1/forward_lstm_1/{}:0", forward),
        named("bidirectional_1/backward_lstm_1/{}:0", backward),
    ]
    weights = parts[1] | parts[0] if frozen else parts[0] | parts[1]
    path = write_h5(tmp_path / "a.h5", {"class_name": "Sequential", "config": [both]}, {"b": weights}, version="2.2.2")
    graph = read(path)
    np.testing.assert_array_equal(graph.tensors["bidirectional_1.forward.weight_ih"], forward[0].T)
    np.testing.assert_array_equal(graph.tensors["bidirectional_1.backward.weight_hh"], backward[1].T)


@pytest.mark.parametrize("option", ["time_major", "unroll", "implementation", "stateful"])
def test_old_arguments_that_change_nothing_are_tolerated(tmp_path, rng, option):
    layer = old_recurrent("LSTM", "lstm_1", 5, **FIRST, **{option: 0 if option == "implementation" else False})
    weights = {"lstm_1": named("lstm_1/{}:0", keras_lstm_weights(rng, 3, 5))}
    config = {"class_name": "Sequential", "config": [layer]}
    assert read(write_h5(tmp_path / "a.h5", config, weights, version="2.1.0")).layers
