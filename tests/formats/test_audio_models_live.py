"""GuitarML's and RTNeural's JSON of live networks: CyLSTM computes what PyTorch and Keras do."""

import numpy as np
import pytest

import cylstm

from tests.builders.audio_models import guitarml, rtneural_of, write

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize(("inputs", "outputs", "skip"), [(1, 1, 1), (2, 1, 1), (1, 1, 0), (3, 2, 2)])
@pytest.mark.parametrize(("unit", "layers"), [("LSTM", 1), ("LSTM", 3), ("GRU", 2), ("RNN", 1)])
def test_a_simple_rnn_of_pytorch(torch, rng, tmp_path, unit, layers, inputs, outputs, skip):
    class SimpleRNN(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rec = getattr(torch.nn, unit)(inputs, 6, layers)
            self.lin = torch.nn.Linear(6, outputs)

        def forward(self, x):  # (time, batch, features)
            y = self.lin(self.rec(x)[0])
            return y + x[:, :, :skip] if skip else y

    net = SimpleRNN()
    state = {name: tensor.detach().numpy() for name, tensor in net.state_dict().items()}
    sizes = {"unit": unit, "inputs": inputs, "outputs": outputs, "hidden": 6, "layers": layers, "skip": skip}
    path = write(tmp_path / "a.json", guitarml(state, **sizes))
    x = rng.standard_normal((3, 8, inputs)).astype("f")
    with torch.no_grad():
        expected = net(torch.tensor(x.transpose(1, 0, 2).copy())).numpy().transpose(1, 0, 2)
    np.testing.assert_allclose(cylstm.load(path).predict(x), expected, rtol=0, atol=2e-6)


def networks(keras):
    of = keras.layers
    return {
        "lstm": [of.Input((None, 2)), of.LSTM(5, return_sequences=True), of.Dense(1)],
        "gru": [of.Input((None, 1)), of.GRU(6, return_sequences=True), of.Dense(3, activation="relu")],
        "gru, reset before": [of.Input((None, 1)), of.GRU(6, return_sequences=True, reset_after=False), of.Dense(2)],
        "stack, last step": [of.Input((8, 3)), of.LSTM(5, return_sequences=True), of.GRU(4), of.Dense(2)],
        "convolutions": [
            of.Input((None, 2)),
            of.Conv1D(4, 3, dilation_rate=2, padding="causal", activation="tanh"),
            of.BatchNormalization(),
            of.PReLU(shared_axes=[1]),
            of.Conv1D(3, 2, padding="causal"),
            of.GRU(5, return_sequences=True),
            of.TimeDistributed(of.Dense(4, activation="softmax")),
        ],
        "valid convolution": [of.Input((8, 2)), of.Conv1D(4, 3), of.Activation("elu"), of.LSTM(3)],
        "grouped convolution": [of.Input((None, 4)), of.Conv1D(6, 3, padding="causal"), of.Activation("sigmoid")],
        "dense": [of.Input((4,)), of.Dense(5, activation="elu"), of.Dense(2, use_bias=False)],
    }


@pytest.mark.parametrize(
    "name",
    ["lstm", "gru", "gru, reset before", "stack, last step", "convolutions", "valid convolution",
     "grouped convolution", "dense"],
)  # fmt: skip
def test_a_network_of_keras(keras, rng, tmp_path, name):
    layers = networks(keras)[name]
    model = keras.Sequential(layers)
    for weight in model.weights:
        value = rng.standard_normal(tuple(weight.shape)) * 0.4
        weight.assign(np.abs(value) + 0.3 if "variance" in weight.path else value)
    path = write(tmp_path / "a.json", rtneural_of(keras, model), indent=4)
    features = model.input_shape[-1]
    x = rng.standard_normal((3, 8, features) if len(model.input_shape) == 3 else (3, features)).astype("f")
    expected = np.asarray(model(x).detach())
    np.testing.assert_allclose(cylstm.load(path).predict(x), expected, rtol=0, atol=3e-6)
