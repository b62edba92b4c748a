"""Live comparisons with PyTorch and Keras: the same numbers as training, from the files that they write.

Promise: against a float64 reference, the float32 error is at most the larger of 1e-6 of the activations' scale and
four times the framework's own error.
"""

import numpy as np
import pytest

import cylstm

from tests import reference
from tests.builders.networks import random_states

# what the frameworks warn of is theirs
pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]

SIZES = [(1, 16), (3, 5), (8, 50), (40, 33), (5, 130)]


def check(ours, theirs, exact):
    """`ours` keeps the promise, given the framework's result and the float64 one. Returns our error."""
    scale = max(1.0, float(np.abs(exact).max()))
    error = float(np.abs(ours - exact).max())
    assert error <= max(1e-6 * scale, 4 * float(np.abs(theirs - exact).max())), (error, scale)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * scale)
    return error


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(20261120)
    return torch


@pytest.fixture
def keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(20261120)
    return keras


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("engine", ["packed", "blas"])
@pytest.mark.parametrize("input_size, hidden_size", SIZES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 3, "dropout": 0.2},
        {"bidirectional": True, "num_layers": 2},
        {"bias": False},
        {"proj_size": 3},
    ],
    ids=["plain", "stacked", "bidirectional", "no bias", "projected"],
)
def test_a_torch_lstm_gives_torchs_numbers(torch, rng, tmp_path, suffix, engine, input_size, hidden_size, options):
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(input_size, hidden_size, batch_first=True, **options)
            width = (options.get("proj_size") or hidden_size) * (2 if options.get("bidirectional") else 1)
            self.fc = torch.nn.Linear(width, 4)

    network = Network().eval()
    path = tmp_path / f"network{suffix}"
    if suffix == ".pt":
        torch.save(network.state_dict(), path)
    else:
        pytest.importorskip("safetensors.torch").save_file(network.state_dict(), path)
    whole = cylstm.load(path, layers=[cylstm.LSTM("lstm"), cylstm.Linear("fc")], engine=engine)
    x = rng.normal(size=(4, 25, input_size)).astype(np.float32)
    state = random_states(rng, whole, 4)
    h0, c0 = (torch.from_numpy(np.stack([parts[i] for parts in state])) for i in (0, 1))
    with torch.no_grad():
        sequence, (h_n, c_n) = network.lstm(torch.from_numpy(x), (h0, c0))
        expected = network.fc(sequence).numpy()
    y, final = whole.predict(x, initial_state=state, return_state=True)
    (exact,), exact_final = reference.predict(whole.graph, x, initial_state=state)
    check(y, expected, exact)
    for k, parts in enumerate(final):
        check(parts[0], h_n[k].numpy(), exact_final[k][0])
        check(parts[1], c_n[k].numpy(), exact_final[k][1])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("engine", ["packed", "blas"])
def test_lengths_give_what_torchs_packed_sequences_give(torch, rng, bidirectional, engine):
    lstm = torch.nn.LSTM(3, 21, num_layers=2, batch_first=True, bidirectional=bidirectional)
    model = cylstm.from_state_dict({f"lstm.{k}": v for k, v in lstm.state_dict().items()}, [cylstm.LSTM("lstm")],
                                   engine=engine)  # fmt: skip
    x = rng.normal(size=(5, 12, 3)).astype(np.float32)
    lengths = np.array([12, 3, 1, 7, 12])
    state = random_states(rng, model, 5)
    h0, c0 = (torch.from_numpy(np.stack([parts[i] for parts in state])) for i in (0, 1))
    pack = torch.nn.utils.rnn.pack_padded_sequence
    with torch.no_grad():
        packed = pack(torch.from_numpy(x), torch.from_numpy(lengths), batch_first=True, enforce_sorted=False)
        y, (h_n, c_n) = lstm(packed, (h0, c0))
        expected = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True)[0].numpy()
    found, final = model.predict(x, lengths=lengths, initial_state=state, return_state=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    for k, (h, c) in enumerate(final):
        np.testing.assert_allclose(h, h_n[k].numpy(), rtol=0, atol=2e-6)
        np.testing.assert_allclose(c, c_n[k].numpy(), rtol=0, atol=2e-6)


def test_last_and_last_state_differ_for_two_directions_as_they_do_in_torch(torch, rng):
    lstm = torch.nn.LSTM(3, 21, num_layers=2, batch_first=True, bidirectional=True)
    tensors = {f"lstm.{name}": tensor for name, tensor in lstm.state_dict().items()}
    x = rng.normal(size=(4, 9, 3)).astype(np.float32)
    with torch.no_grad():
        sequence, (h_n, _) = lstm(torch.from_numpy(x))
    last = cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm"), cylstm.Last()]).predict(x)
    state = cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm"), cylstm.LastState()]).predict(x)
    np.testing.assert_allclose(last, sequence[:, -1].numpy(), rtol=0, atol=2e-6)
    np.testing.assert_allclose(state, torch.cat([h_n[-2], h_n[-1]], dim=1).numpy(), rtol=0, atol=2e-6)
    assert np.abs(last - state).max() > 0.01


@pytest.mark.parametrize("name", ["LSTM", "LSTMCell", "Linear"])
def test_a_live_torch_layer_gives_torchs_numbers(torch, rng, name):
    if name == "Linear":
        module, x = torch.nn.Linear(3, 5), rng.normal(size=(4, 3)).astype(np.float32)
        expected = module(torch.from_numpy(x))
    else:
        module, x = getattr(torch.nn, name)(3, 5), rng.normal(size=(4, 1, 3)).astype(np.float32)
        lstm = module
        if name == "LSTM":
            expected = lstm(torch.from_numpy(x).transpose(0, 1))[0].transpose(0, 1)
        else:
            expected = lstm(torch.from_numpy(x[:, 0]))[0][:, None]
    y = cylstm.from_torch(module).predict(x)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_checkpoints_of_other_precisions_give_torchs_numbers(torch, rng, tmp_path, dtype):
    lstm = torch.nn.LSTM(3, 21, batch_first=True).to(getattr(torch, dtype))
    torch.save(lstm.state_dict(), tmp_path / "lstm.pt")
    x = rng.normal(size=(4, 9, 3)).astype(np.float32)
    if dtype == "float64":
        model = cylstm.load(tmp_path / "lstm.pt", layers=[cylstm.LSTM("")], dtype="float64")
        expected = lstm(torch.from_numpy(x).double())[0].detach().numpy()
        np.testing.assert_allclose(model.predict(x), expected, rtol=0, atol=1e-14)
    else:
        model = cylstm.load(tmp_path / "lstm.pt", layers=[cylstm.LSTM("")])
        expected = lstm.float()(torch.from_numpy(x))[0].detach().numpy()
        np.testing.assert_allclose(model.predict(x), expected, rtol=0, atol=2e-6)


def keras_networks(keras):
    """name -> Sequential model of the layers of this version."""
    layers = keras.layers
    lstm = layers.LSTM

    def network(*parts, features=6):
        return keras.Sequential([layers.Input((None, features)), *parts])

    return {
        "last": network(lstm(13), layers.Dense(2)),
        "sequence": network(lstm(13, return_sequences=True), layers.Dense(24, activation="relu"), layers.Dense(2)),
        "stacked": network(lstm(13, return_sequences=True), layers.Dropout(0.3), lstm(7), layers.Dense(4, "softmax")),
        "bidirectional": network(layers.Bidirectional(lstm(13)), layers.Dense(2, "sigmoid")),
        "bidirectional sequence": network(layers.Bidirectional(lstm(13, return_sequences=True)), layers.Dense(2)),
        "sum": network(layers.Bidirectional(lstm(13, return_sequences=True), merge_mode="sum"), lstm(5)),
        "mul": network(layers.Bidirectional(lstm(13), merge_mode="mul"), layers.Dense(2)),
        "ave": network(layers.Bidirectional(lstm(13), merge_mode="ave"), layers.Dense(2)),
        "another backward layer": network(
            layers.Bidirectional(lstm(13), backward_layer=lstm(13, activation="relu", go_backwards=True)),
            layers.Dense(2),
        ),
        "no bias": network(lstm(13, use_bias=False), layers.Dense(2, use_bias=False)),
        "activations": network(
            lstm(13, activation="relu", recurrent_activation="hard_sigmoid", return_sequences=True),
            lstm(9, activation="softsign", recurrent_activation="sigmoid"),
            layers.Dense(5),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Dense(5, activation="elu"),
            layers.Activation("gelu"),
            layers.Dense(3, activation="selu"),
        ),
    }


KERAS_NETWORKS = [
    "last", "sequence", "stacked", "bidirectional", "bidirectional sequence", "sum", "mul", "ave",
    "another backward layer", "no bias", "activations",
]  # fmt: skip


@pytest.mark.parametrize("how", [".keras", ".h5", "live"])
@pytest.mark.parametrize("name", KERAS_NETWORKS)
def test_a_keras_network_gives_kerass_numbers(keras, rng, tmp_path, name, how):
    network = keras_networks(keras)[name]
    for variable in network.trainable_variables:
        variable.assign(rng.uniform(-0.4, 0.4, variable.shape).astype(np.float32))
    if how == "live":
        model = cylstm.from_keras(network)
    else:
        network.save(tmp_path / f"network{how}")
        model = cylstm.load(tmp_path / f"network{how}")
    x = rng.normal(size=(4, 15, 6)).astype(np.float32)
    expected = np.asarray(network.predict(x, verbose=0))
    (exact,), _ = reference.predict(model.graph, x)
    check(model.predict(x), expected, exact)
    check(cylstm.Model(model.graph, engine="blas").predict(x), expected, exact)
    model.save(tmp_path / "again.cylstm")
    np.testing.assert_array_equal(cylstm.load(tmp_path / "again.cylstm").predict(x), model.predict(x))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_masks_give_what_kerass_masks_give(keras, rng, bidirectional, return_sequences):
    lstm = keras.layers.LSTM(13, return_sequences=return_sequences)
    layer = keras.layers.Bidirectional(lstm) if bidirectional else lstm
    network = keras.Sequential([keras.layers.Input((None, 6)), layer])
    for variable in network.trainable_variables:
        variable.assign(rng.uniform(-0.4, 0.4, variable.shape).astype(np.float32))
    x = rng.normal(size=(6, 11, 6)).astype(np.float32)
    mask = rng.random((6, 11)) > 0.4
    mask[0], mask[1, :5], mask[2, 7:] = False, False, False
    expected = np.asarray(keras.ops.convert_to_numpy(layer(x, mask=keras.ops.convert_to_tensor(mask))))
    found = cylstm.from_keras(network).predict(x, mask=mask)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
