"""The arrays of ``model.get_weights()`` in a NumPy archive, which have an order and no names."""

import json

import numpy as np
import pytest

import cylstm
from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.loading import read

from tests.builders.keras_models import numbers
from tests.builders.weight_files import (
    keras_bidirectional,
    keras_dense,
    keras_dense_weights,
    keras_input,
    keras_layer,
    keras_lstm,
    keras_lstm_weights,
    keras_model,
    lstm_tensors,
    write_keras,
)

GRU = {"units": 4, "activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": True}


def gru_weights(rng, inputs, units):
    shapes = (inputs, 3 * units), (units, 3 * units), (2, 3 * units)
    return [rng.standard_normal(shape).astype("f") for shape in shapes]


def network(rng):
    """A stack with two directions, a GRU and a dense layer: config, weights in order, and by group."""
    config = keras_model(
        keras_input(None, 3),
        keras_bidirectional("b", keras_lstm("l", 5, return_sequences=True)),
        keras_layer("GRU", "g", **GRU),
        keras_layer("Dropout", "d", rate=0.5, seed=None),
        keras_dense("o", 2),
    )
    forward, backward = keras_lstm_weights(rng, 3, 5), keras_lstm_weights(rng, 3, 5)
    groups = {
        "layers/bidirectional/forward_layer/cell": forward,
        "layers/bidirectional/backward_layer/cell": backward,
        "layers/gru/cell": gru_weights(rng, 10, 4),
        "layers/dense": keras_dense_weights(rng, 4, 2),
    }
    return config, [array for arrays in groups.values() for array in arrays], groups


@pytest.fixture(autouse=True)
def needs_h5py():
    pytest.importorskip("h5py")


def test_with_the_config_each_layer_takes_the_next_arrays(rng, tmp_path):
    config, arrays, groups = network(rng)
    np.savez(tmp_path / "w.npz", *arrays)
    (tmp_path / "m.json").write_text(json.dumps(config))
    twin = cylstm.load(write_keras(tmp_path / "m.keras", config, groups))
    x = rng.standard_normal((3, 6, 3)).astype("f")
    for architecture in (config, json.dumps(config), tmp_path / "m.json", tmp_path / "m.keras"):
        model = cylstm.load(tmp_path / "w.npz", architecture=architecture, keras_version="3.0")
        np.testing.assert_array_equal(model.predict(x), twin.predict(x))
    assert set(model.provenance["tensors"]) == {f"arr_{i}" for i in range(len(arrays))}


def test_layers_in_their_order_take_the_next_arrays(rng, tmp_path):
    first = keras_lstm("l", 5, return_sequences=True)
    config = keras_model(keras_input(None, 3), first, keras_layer("GRU", "g", **GRU), keras_dense("o", 2))
    groups = {
        "layers/lstm/cell": keras_lstm_weights(rng, 3, 5),
        "layers/gru/cell": gru_weights(rng, 5, 4),
        "layers/dense": keras_dense_weights(rng, 4, 2),
    }
    np.savez_compressed(tmp_path / "w.npz", *(array for arrays in groups.values() for array in arrays))
    twin = cylstm.load(write_keras(tmp_path / "m.keras", config, groups))
    layers = [cylstm.LSTM("any"), cylstm.GRU("name"), cylstm.Dropout(0.1), cylstm.Last(), cylstm.Linear("")]
    x = rng.standard_normal((3, 6, 3)).astype("f")
    np.testing.assert_array_equal(cylstm.load(tmp_path / "w.npz", layers=layers).predict(x), twin.predict(x))
    with pytest.raises(FormatError, match="arrays without names") as caught:
        cylstm.load(tmp_path / "w.npz")
    proposal = next(line.strip() for line in str(caught.value).splitlines() if line.strip().startswith("layers=["))
    model = cylstm.load(tmp_path / "w.npz", layers=eval(proposal.removeprefix("layers=")))
    np.testing.assert_array_equal(model.predict(x), twin.predict(x))


def test_a_simple_rnn_and_dense_layers_without_biases_are_told_by_their_shapes(rng, tmp_path):
    arrays = [rng.standard_normal(shape).astype("f") for shape in ((3, 4), (4, 5), (5, 5), (5,), (5, 2))]
    np.savez(tmp_path / "w.npz", *arrays)
    with pytest.raises(FormatError) as caught:
        cylstm.load(tmp_path / "w.npz")
    expected = 'cylstm.Linear("linear_0"), cylstm.RNN("rnn_1"), cylstm.Last(), cylstm.Linear("linear_2")'
    assert f"layers=[{expected}]" in str(caught.value)
    model = cylstm.load(tmp_path / "w.npz", layers=eval(f"[{expected}]"))
    x = rng.standard_normal((2, 3, 3))
    h = np.zeros((2, 5))
    for t in range(3):
        h = np.tanh(x[:, t] @ arrays[0] @ arrays[1] + h @ arrays[2] + arrays[3])
    np.testing.assert_allclose(model.predict(x.astype("f")), h @ arrays[4], rtol=0, atol=1e-5)


def test_ten_arrays_are_taken_by_number_and_not_by_name(rng, tmp_path):
    arrays = [rng.standard_normal((3, 3)).astype("f") * 0.3 for _ in range(12)]
    np.savez(tmp_path / "w.npz", *(array for pair in zip(arrays, rng.standard_normal((12, 3))) for array in pair))
    layers = [cylstm.Linear(f"l{i}") for i in range(12)]
    graph = read(tmp_path / "w.npz", layers=layers)
    for i, array in enumerate(arrays):
        np.testing.assert_array_equal(graph.tensors[f"l{i}.weight"], array.T)


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        (["LSTM", "Linear"], FormatError, r"LSTM\('LSTM'\): its arrays come next, .* found arr_0 \(3, 12\)"),
        (["GRU"], FormatError, r"belong to no layer given: arr_3 \(4, 2\), arr_4 \(2,\)"),
        (["GRU", "Linear", "Linear2"], FormatError, r"Linear\('Linear2'\): .* found none"),
        (["GRU", "BatchNorm1d"], UnsupportedError, "read for LSTM, GRU, RNN and Linear; give architecture="),
    ],
)
def test_layers_that_do_not_fit_the_arrays_are_refused(rng, tmp_path, layers, error, message):
    np.savez(tmp_path / "w.npz", *gru_weights(rng, 3, 4), *keras_dense_weights(rng, 4, 2))
    with pytest.raises(error, match=message):
        read(tmp_path / "w.npz", layers=[getattr(cylstm, name.rstrip("2"))(name) for name in layers])


def test_tensors_of_pytorch_without_names_are_refused_with_how_to_save_them(rng, tmp_path):
    np.savez(tmp_path / "w.npz", *lstm_tensors(rng, "lstm", 3, 5).values())
    for options in ({}, {"layers": [cylstm.LSTM("lstm")]}):
        with pytest.raises(FormatError, match=r"(?s)saved by name: numpy\.savez.*state_dict"):
            read(tmp_path / "w.npz", **options)


@pytest.mark.parametrize(
    ("edit", "options", "message"),
    [
        (lambda arrays: arrays[:-1], {}, "expected kernel, bias as arrays 9 to 10, found 10 arrays in all"),
        (lambda arrays: [*arrays, arrays[0]], {}, "belong to no layer of the config: arr_11"),
        (lambda arrays: arrays[::-1], {}, "expected shape"),
        (lambda arrays: arrays, {"keras_version": None}, "nothing tells which Keras"),
        (lambda arrays: arrays, {"layers": [cylstm.LSTM("a")]}, "both architecture= and layers="),
        (lambda arrays: arrays, {"architecture": None}, "keras_version= is of the config"),
        (lambda arrays: arrays, {"architecture": None, "layers": 3, "keras_version": None}, "layers= expected a list"),
    ],
)
def test_what_does_not_fit_is_refused(rng, tmp_path, edit, options, message):
    config, arrays, _ = network(rng)
    config.pop("module", None)
    np.savez(tmp_path / "w.npz", *edit(arrays))
    given = {"architecture": config, "keras_version": "3.0"} | options
    with pytest.raises(FormatError, match=message):
        read(tmp_path / "w.npz", **given)


def test_arrays_that_are_missing_are_told(rng, tmp_path):
    np.savez(tmp_path / "w.npz", arr_0=np.ones((2, 2)), arr_2=np.ones(2))
    with pytest.raises(FormatError, match="expected arr_0 to arr_1, found arr_0, arr_2"):
        read(tmp_path / "w.npz", layers=[cylstm.Linear("a")])
    np.savez(tmp_path / "v.npz", np.array([object()]))
    with pytest.raises(UnsupportedError, match="an array of objects is a pickle"):
        read(tmp_path / "v.npz", layers=[cylstm.Linear("a")])


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore")
def test_get_weights_of_a_live_model(keras, rng, tmp_path):
    of = keras.layers
    inputs = of.Input((None, 4))
    y = of.Bidirectional(of.LSTM(5, return_sequences=True))(inputs)
    y = of.BatchNormalization()(y)
    y = of.TimeDistributed(of.Dense(6, activation="relu"))(y)
    y = of.GRU(3)(of.Conv1D(4, 3, padding="causal")(y))
    model = keras.Model(inputs, of.Dense(2)(y))
    model.layers[1].trainable = False
    for weight in model.weights:
        value = rng.standard_normal(tuple(weight.shape)) * 0.4
        weight.assign(np.abs(value) + 0.3 if "variance" in weight.path else value)
    np.savez(tmp_path / "w.npz", *model.get_weights())
    x = rng.standard_normal((3, 7, 4)).astype("f")
    found = cylstm.load(tmp_path / "w.npz", architecture=model.to_json())
    np.testing.assert_allclose(found.predict(x), numbers(model(x)), rtol=0, atol=3e-6)


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore")
def test_a_network_whose_order_is_not_that_of_its_calls_is_right_or_refused(keras, rng, tmp_path):
    of = keras.layers
    first, second = of.Input((None, 3)), of.Input((None, 3))
    late, early = of.LSTM(4), of.LSTM(4)
    b, a = early(second), late(first)
    model = keras.Model([first, second], of.Dense(2)(of.Concatenate()([a, b])))
    for weight in model.weights:
        weight.assign(rng.standard_normal(tuple(weight.shape)) * 0.4)
    np.savez(tmp_path / "w.npz", *model.get_weights())
    x = [rng.standard_normal((3, 7, 3)).astype("f") for _ in range(2)]
    try:
        found = cylstm.load(tmp_path / "w.npz", architecture=model.to_json())
    except CylstmError as error:
        assert "only known for a chain" in str(error)
    else:
        np.testing.assert_allclose(found.predict(x), numbers(model(x)), rtol=0, atol=3e-6)
