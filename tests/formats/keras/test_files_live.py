"""What Keras 3 writes while the test runs, in every format of its, is read back."""

import copy

import numpy as np
import pytest

import cylstm
from cylstm.errors import FormatError, UnsupportedError
from cylstm.loading import read

from tests.builders.keras2 import TOLERANCE
from tests.builders.keras_models import numbers

h5py = pytest.importorskip("h5py")


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
        for name, theirs in expected.items():
            ours = next(layer for layer in graph.layers if layer.name == name)
            found = graph.layer_tensors(ours)
            roles = ("weight_ih", "weight_hh", "bias") if ours.kind == "lstm" else ("weight", "bias")
            weights = theirs.get_weights()
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
    with pytest.raises(UnsupportedError, match=r"'erfinv' \(Erfinv\): the operation keras.ops Erfinv is not supported"):
        from_keras(keras.Model(x, keras.ops.erfinv(x)))

    @keras.saving.register_keras_serializable("pack")
    class Cell(layers.SimpleRNNCell):
        pass

    with pytest.raises(UnsupportedError, match=r"cell 'c' \(pack>Cell\): .* put its RNN into a layer of"):
        from_keras(keras.Sequential([keras.Input((5, 3)), layers.RNN(Cell(4, name="c"), name="rnn")]))
    with pytest.raises(UnsupportedError, match=r"layer 'g' \(GRU\), option 'activation': .*custom"):
        from_keras(keras.Sequential([keras.Input((5, 3)), layers.GRU(4, activation=custom_activation, name="g")]))
    with pytest.raises(UnsupportedError, match="Lambda"):
        from_keras(keras.Sequential([keras.Input((None, 3)), layers.Lambda(abs)]))
    with pytest.raises(FormatError, match="build it or call it once"):
        from_keras(keras.Sequential([layers.LSTM(4)]))
    with pytest.raises(UnsupportedError, match="takes a Keras model"):
        from_keras(object())


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_what_keras_3_saves_in_any_format_predicts_the_same(tmp_path, keras):
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((None, 3)),
        layers.Bidirectional(layers.LSTM(5, return_sequences=True, name="custom")),
        layers.Dropout(0.3),
        layers.GRU(4, return_sequences=True, reset_after=False, recurrent_activation="hard_sigmoid"),
        layers.RNN([layers.LSTMCell(5), layers.GRUCell(4)], return_sequences=True),
        layers.SimpleRNN(3),
        layers.Dense(2),
    ])  # fmt: skip
    rng = np.random.default_rng(41)
    model.set_weights([rng.normal(0.0, 0.6, array.shape) for array in model.get_weights()])
    model.layers[0].forward_layer.trainable = False
    x = rng.standard_normal((3, 6, 3)).astype(np.float32)
    expected = model.predict(x, verbose=0)
    for name in ("a.keras", "a.h5"):
        model.save(tmp_path / name)
    model.save(tmp_path / "folder", zipped=False)
    model.save_weights(tmp_path / "a.weights.h5")
    model.save_weights(tmp_path / "b.weights.json", max_shard_size=1e-6)
    assert len(list(tmp_path.glob("b_*.weights.h5"))) > 1
    text = model.to_json()
    for name in ("a.keras", "a.h5", "folder", "a.weights.h5", "b.weights.json"):
        loaded = cylstm.load(tmp_path / name, architecture=text if "weights" in name else None)
        assert np.abs(loaded.predict(x) - expected).max() <= TOLERANCE * max(1.0, np.abs(expected).max()), name


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["a.keras", "a.h5"])
def test_bfloat16_weights_of_keras_3_are_read_exactly(tmp_path, keras, name):
    lstm = keras.layers.LSTM(5, dtype="bfloat16", recurrent_initializer="glorot_uniform", name="lstm")
    model = keras.Sequential([keras.Input((4, 3)), lstm])
    model.save(tmp_path / name)
    found = read(tmp_path / name).tensors["lstm.weight_ih"]
    expected = numbers(model.layers[0].cell.kernel).astype(np.float32)
    np.testing.assert_array_equal(found, expected.T)
