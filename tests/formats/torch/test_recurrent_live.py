"""LSTMs against PyTorch: the same numbers from the files that it writes and from live modules."""

import numpy as np
import pytest

import cylstm

from tests import reference
from tests.builders.networks import random_states
from tests.builders.promise import check

# what the frameworks warn of is theirs
pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]

SIZES = [(1, 16), (3, 5), (8, 50), (40, 33), (5, 130)]


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
