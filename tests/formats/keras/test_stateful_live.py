"""Streams of stateful models against Keras 3 (PyTorch backend), call by call."""

import numpy as np
import pytest

import cylstm

from tests.builders.keras_models import numbers
from tests.builders.networks import same

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

BATCH, INPUT = 3, 4
CALLS = (1, 1, 4, 1, 7)


def networks(keras):
    """Name -> layers."""
    layers = keras.layers

    def recurrent(kind, units, **options):
        return getattr(layers, kind)(units, return_sequences=True, **options)

    return {
        "lstm": [recurrent("LSTM", 5, stateful=True), layers.Dense(2)],
        "gru": [recurrent("GRU", 5, stateful=True)],
        "gru reset before": [recurrent("GRU", 5, stateful=True, reset_after=False)],
        "rnn": [recurrent("SimpleRNN", 5, stateful=True)],
        "cell": [layers.RNN(layers.LSTMCell(5), stateful=True, return_sequences=True)],
        "last": [layers.LSTM(5, stateful=True), layers.Dense(2)],
        "both": [recurrent("LSTM", 5, stateful=True), layers.Dropout(0.2), recurrent("GRU", 4, stateful=True)],
        "first": [recurrent("LSTM", 5, stateful=True), recurrent("LSTM", 4), layers.Dense(2)],
        "second": [recurrent("GRU", 5), layers.LSTM(4, stateful=True), layers.Dense(2)],
        "causal convolution": [
            layers.Conv1D(5, 3, padding="causal"),
            recurrent("LSTM", 4, stateful=True),
        ],
        "masking": [layers.Masking(0.0), recurrent("LSTM", 5, stateful=True), recurrent("GRU", 4)],
    }


NETWORKS = (
    "lstm", "gru", "gru reset before", "rnn", "cell", "last", "both", "first", "second", "causal convolution",
    "masking",
)  # fmt: skip


def build(keras, rng, layers):
    network = keras.Sequential([keras.Input(batch_shape=(BATCH, None, INPUT)), *layers])
    for variable in network.weights:
        variable.assign(rng.uniform(-0.7, 0.7, variable.shape).astype(np.float32))
    return network


def ours(warned):
    return [warning for warning in warned if issubclass(warning.category, cylstm.CylstmWarning)]


def check(found, network, x):
    np.testing.assert_allclose(found, numbers(network(x)), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_stream_goes_on_from_call_to_call_as_keras_does(keras, rng, tmp_path, name):
    network = build(keras, rng, networks(keras)[name])
    network.save(tmp_path / "net.keras")
    with pytest.warns(cylstm.CylstmWarning, match="stateful=True") as warned:
        model = cylstm.load(tmp_path / "net.keras")
    assert len(ours(warned)) == 1 and model.graph.window is None
    stream = model.stream(BATCH)
    for steps in (*CALLS, None, *CALLS):
        if steps is None:
            for layer in network.layers:  # Keras 3 has no reset_states of a whole model
                if getattr(layer, "stateful", False):
                    layer.reset_states()
            stream.reset()
            continue
        x = rng.normal(size=(BATCH, steps, INPUT)).astype(np.float32)
        if name == "masking":
            x[0, 0] = x[1, -1] = 0.0
        found = stream.step(x[:, 0]) if steps == 1 else stream.run(x)
        if steps == 1 and found.ndim == 2 and network.output_shape[1:] != found.shape[1:]:
            found = found[:, np.newaxis]
        check(found, network, x)


@pytest.mark.parametrize("steps", [1, 5])
def test_a_number_of_steps_that_a_stateful_model_states_is_no_window(keras, rng, steps):
    network = keras.Sequential(
        [keras.Input(batch_shape=(1, steps, INPUT)), keras.layers.LSTM(5, stateful=True), keras.layers.Dense(2)]
    )
    with pytest.warns(cylstm.CylstmWarning, match="stateful=True") as warned:
        model = cylstm.from_keras(network)
    (warning,) = ours(warned)
    assert warning.filename == __file__
    assert model.graph.window is None
    stream = model.stream()
    for _ in range(3):
        x = rng.normal(size=(1, steps, INPUT)).astype(np.float32)
        check(stream.run(x), network, x)


def test_a_bidirectional_stateful_layer_goes_on_by_states_that_predict_returns(keras, rng):
    layer = keras.layers.Bidirectional(keras.layers.LSTM(5, stateful=True, return_sequences=True))
    network = build(keras, rng, [layer, keras.layers.Dense(2)])
    with pytest.warns(cylstm.CylstmWarning, match=r"stateful=True: bidirectional\S*\.forward, bidirectional\S*\.back"):
        model = cylstm.from_keras(network)
    with pytest.raises(cylstm.UnsupportedError, match="a backward direction needs the end.*initial_state= and return_"):
        model.stream(BATCH)
    state = None
    for _ in range(3):
        x = rng.normal(size=(BATCH, 4, INPUT)).astype(np.float32)
        y, state = model.predict(x, initial_state=state, return_state=True)
        check(y, network, x)


def test_a_layer_that_is_given_its_initial_state_is_not_stateful(keras, rng):
    x, h = keras.Input(batch_shape=(BATCH, None, INPUT)), keras.Input(batch_shape=(BATCH, 5))
    network = keras.Model([x, h], keras.layers.GRU(5, stateful=True)(x, initial_state=h))
    model = cylstm.from_keras(network)
    assert model.graph.stateful == ()
    for _ in range(2):
        arrays = [rng.normal(size=(BATCH, 6, INPUT)).astype(np.float32), rng.normal(size=(BATCH, 5)).astype(np.float32)]
        np.testing.assert_allclose(model.predict(arrays), numbers(network(arrays)), rtol=0, atol=2e-6)


def test_predict_starts_from_zero_at_every_call(keras, rng):
    network = build(keras, rng, [keras.layers.LSTM(5, stateful=True)])
    with pytest.warns(cylstm.CylstmWarning):
        model = cylstm.from_keras(network)
    x = rng.normal(size=(BATCH, 4, INPUT)).astype(np.float32)
    check(model.predict(x), network, x)
    assert same(model.predict(x), model.predict(x))
    assert not np.allclose(model.predict(x), numbers(network(x)), atol=1e-3)
