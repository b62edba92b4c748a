"""Keras models in ``.keras`` archives and ``.h5`` files, read without Keras."""

import sys

import numpy as np
import pytest

from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats.state_dict import wiring as L
from cylstm.loading import read

from tests.builders.keras_files import LSTM_NAMES, dense_file, write_lstm
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
        (keras_model(keras_input(None, None, 4), keras_dense("fc", 2)), "one axis alone may have any size"),
        (
            keras_model(keras_input(2, 3, 4, 5, 6, 7, 8, 9, 10), keras_dense("fc", 2)),
            "one axis alone may have any size",
        ),
        (keras_model(keras_input(), keras_dense("fc", 2)), "one axis alone may have any size"),
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
