"""Networks of PyTorch and Keras without their units of no use give what the frameworks give."""

import numpy as np
import pytest

import cylstm
from cylstm.explain import units

from tests.builders.recurrent import numbers

pytestmark = pytest.mark.frameworks


def removed(model):
    return {name: sorted(one.removed) for name, one in model.pruning.items()}


def test_a_network_of_pytorch(rng, torch):
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(5, 12, 2, batch_first=True, bidirectional=True)
            self.norm = torch.nn.BatchNorm1d(24)
            self.gru = torch.nn.GRU(24, 10, batch_first=True)
            self.fc = torch.nn.Linear(10, 3)

        def forward(self, x):
            y = self.norm(self.lstm(x)[0].transpose(1, 2)).transpose(1, 2)
            return self.fc(self.gru(torch.relu(y))[1][-1])

    network = Network().eval()
    for layer, suffix, found in (
        (network.lstm, "l0", [1, 5]),
        (network.lstm, "l0_reverse", [3]),
        (network.lstm, "l1", [0, 7]),
        (network.gru, "l0", [2]),
    ):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):  # of g, or of n
            getattr(layer, f"{name}_{suffix}").data[[2 * layer.hidden_size + unit for unit in found]] = 0.0
    network.norm.running_mean.uniform_(-1.0, 1.0)
    x = numbers(rng, 6, 9, 5)
    model = cylstm.from_torch(network, torch.tensor(x))
    smaller = model.prune(units(model, x))
    assert removed(smaller) == {
        "lstm.l0": [1, 5],
        "lstm.l0.reverse": [3],
        "lstm.l1": [0, 7],
        "lstm.l1.reverse": [],
        "gru.l0": [2],
    }
    with torch.no_grad():
        np.testing.assert_allclose(smaller.predict(x), network(torch.tensor(x)).numpy(), rtol=0, atol=1e-6)


def test_a_network_of_keras_with_masks(rng, keras):
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((None, 5)),
            layers.Masking(),
            layers.Bidirectional(layers.LSTM(12, return_sequences=True)),
            layers.Dropout(0.3),
            layers.Bidirectional(layers.GRU(10)),
            layers.Dense(4, activation="softmax"),
        ]
    )
    weights = [numbers(rng, *array.shape) * 0.3 for array in network.get_weights()]
    for first, gate, found in ((0, 24, [2, 3]), (3, 24, [4]), (6, 20, [1]), (9, 20, [2, 3])):
        for array in weights[first : first + 3]:
            array[..., [gate + unit for unit in found]] = 0.0
    # unit 6 of the first layer is constant, which the next layer reads at the steps that count alone
    for array in weights[:3]:
        array[..., [6, 18, 30, 42]] = 0.0
    weights[2][[6, 18, 30, 42]] = 90.0, -90.0, 0.8, 90.0
    weights[1][6] = 0.0
    network.set_weights(weights)
    x = numbers(rng, 6, 9, 5)
    x[2, 6:], x[4, :3] = 0.0, 0.0
    model = cylstm.from_keras(network)
    smaller = model.prune(units(model, x))
    assert [*removed(smaller).values()] == [[2, 3, 6], [4], [1], [2, 3]]
    np.testing.assert_allclose(smaller.predict(x), network.predict(x, verbose=0), rtol=0, atol=1e-6)
