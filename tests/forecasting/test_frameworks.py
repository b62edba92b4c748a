"""Forecasts against loops over the network in PyTorch and Keras, live."""

import numpy as np
import pytest

import cylstm

from tests.forecasting.builders import FEATURES, SCALING, scaled, series

pytestmark = pytest.mark.frameworks


class Network:
    """An LSTM of PyTorch with a linear layer, made once PyTorch is there."""

    def __new__(cls, torch, inputs, hidden, outputs):
        class Module(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.lstm = torch.nn.LSTM(inputs, hidden, batch_first=True)
                self.fc = torch.nn.Linear(hidden, outputs)

            def forward(self, x, state=None):
                y, state = self.lstm(x, state)
                return self.fc(y), state

        return Module().eval()


@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize("horizon", [1, 3])
def test_a_recursive_forecast_is_that_of_a_loop_in_pytorch(rng, torch, window, horizon):
    network = Network(torch, 3, 16, horizon)
    model = cylstm.from_state_dict(network.state_dict(), [cylstm.LSTM("lstm"), cylstm.Linear("fc")])
    forecaster = cylstm.Forecaster(
        model,
        features=FEATURES,
        target="load",
        scaling=SCALING,
        horizon=horizon,
        window=window,
        feedback={"load": "load"},
    )
    columns, ahead = series(rng, 40), series(rng, 12)
    x, known, expected = torch.from_numpy(scaled(columns)), torch.from_numpy(scaled(ahead)), []
    with torch.no_grad():
        if window is None:
            y, state = network(x[None])
        while True:
            if window is not None:
                y, _ = network(x[None, -window:])
            expected.extend((y[0, -1].double() * 12.5 + 40.0).tolist())
            if len(expected) >= 12:
                break
            rows = known[:horizon].clone()
            known = known[horizon:]
            rows[:, 0] = y[0, -1]
            x = torch.cat([x, rows])
            if window is None:
                y, state = network(rows[None], state)
    future = {name: ahead[name] for name in ("temperature", "wind")}
    np.testing.assert_allclose(forecaster.forecast(columns, 12, future), expected, rtol=0, atol=12.5 * 2e-6)


def test_a_decoder_of_keras_that_gives_its_steps_as_a_sequence_is_read(rng, keras):
    network = keras.Sequential(
        [
            keras.layers.Input((10, 3)),
            keras.layers.LSTM(6),
            keras.layers.RepeatVector(4),
            keras.layers.LSTM(5, return_sequences=True),
            keras.layers.Dense(2),
        ]
    )
    forecaster = cylstm.Forecaster(
        cylstm.from_keras(network),
        features=FEATURES,
        target="load",
        scaling=SCALING,
        horizon=4,
        outputs=["load", "wind"],
    )
    assert forecaster.window == 10
    columns = series(rng, 15)
    expected = np.asarray(network.predict(scaled(columns)[None, -10:], verbose=0))[0].astype(np.float64)
    found = forecaster.forecast(columns, outputs=["load", "wind"])
    np.testing.assert_allclose(found["load"], expected[:, 0] * 12.5 + 40.0, atol=12.5 * 2e-6)
    np.testing.assert_allclose(np.log1p(found["wind"]), expected[:, 1] * 0.75 + 1.25, atol=2e-6)


def test_sample_paths_are_those_of_a_loop_in_pytorch(rng, torch):
    network = Network(torch, 3, 16, 2)
    layers = [cylstm.LSTM("lstm"), cylstm.Linear("fc")]
    with torch.no_grad():
        network.fc.weight[1] *= 0.1
        network.fc.bias[1] = 0.7  # sigma, which stays positive
    forecaster = cylstm.Forecaster(
        cylstm.from_state_dict(network.state_dict(), layers),
        features=FEATURES,
        target="load",
        outputs=["mu", "sigma"],
        scaling=SCALING,
        feedback={"load": "load"},
    )
    columns, ahead = series(rng, 40), series(rng, 10)
    known, expected = torch.from_numpy(scaled(ahead)), []
    with torch.no_grad():
        y, state = network(torch.from_numpy(scaled(columns)).expand(5, -1, -1))
        for step in range(10):
            noise = torch.from_numpy(np.random.default_rng([3, step]).standard_normal(5).astype(np.float32))
            drawn = y[:, -1, 0] + y[:, -1, 1] * noise
            expected.append(drawn.double().numpy() * 12.5 + 40.0)
            rows = known[step].expand(5, 1, -1).clone()
            rows[:, 0, 0] = drawn
            y, state = network(rows, state)
    future = {name: ahead[name] for name in ("temperature", "wind")}
    found = forecaster.forecast(columns, 10, future, samples=5, seed=3)
    np.testing.assert_allclose(found.T, expected, rtol=0, atol=12.5 * 4e-6)
