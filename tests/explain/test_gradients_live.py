"""Gradients against PyTorch's autograd, live, in double and in single precision."""

import numpy as np
import pytest

import cylstm
from cylstm.explain import gradients

torch = pytest.importorskip("torch")
torch_models = pytest.importorskip("tests.builders.torch_models")
nn = torch.nn

pytestmark = pytest.mark.frameworks

BATCH, TIME, FEATURES = 3, 9, 5


class Last(nn.Module):
    def __init__(self, rnn, features, head=None):
        super().__init__()
        self.rnn = rnn
        self.head = head or nn.Linear(features, 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


class States(Last):
    def forward(self, x):
        _, state = self.rnn(x)
        h = state[0] if isinstance(state, tuple) else state
        return self.head(torch.cat([h[-2], h[-1]], dim=1))


class Steps(Last):
    def forward(self, x):
        return self.head(torch.tanh(self.rnn(x)[0]))


class Residual(nn.Module):
    """Products, sums, quotients, normalisation and a mean over time."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.GRU(FEATURES, 6, batch_first=True), nn.LSTM(6, 6, batch_first=True)
        self.norm, self.gate, self.head = nn.LayerNorm(6), nn.Linear(6, 12), nn.Linear(12, 3)

    def forward(self, x):
        y = self.first(x)[0]
        y = y + self.norm(self.second(y)[0]) * torch.sigmoid(y)
        y = nn.functional.glu(self.gate(y), dim=-1) / (1.5 + y.square())
        return torch.softmax(self.head(torch.cat([y.mean(dim=1), y[:, -2]], dim=1)), dim=1)


def perceptron(features):
    return nn.Sequential(
        nn.BatchNorm1d(features), nn.Linear(features, 8), nn.GELU(), nn.Dropout(0.5), nn.Linear(8, 8), nn.SiLU(),
        nn.Linear(8, 8), nn.Softplus(), nn.Linear(8, 3), nn.LogSoftmax(dim=1),
    )  # fmt: skip


def recurrent(kind, size, **options):
    return getattr(nn, kind)(FEATURES, size, batch_first=True, **options)


CASES = {
    "lstm": lambda: Last(recurrent("LSTM", 7), 7),
    "projected lstm": lambda: Last(recurrent("LSTM", 7, proj_size=4), 4),
    "gru": lambda: Last(recurrent("GRU", 7), 7),
    "rnn": lambda: Last(recurrent("RNN", 7, nonlinearity="relu"), 7),
    "stacked lstm of two directions": lambda: States(recurrent("LSTM", 7, num_layers=2, bidirectional=True), 14),
    "stacked gru of two directions": lambda: States(recurrent("GRU", 7, num_layers=2, bidirectional=True), 14),
    "every step": lambda: Steps(recurrent("LSTM", 7, bidirectional=True), 14),
    "a deep head": lambda: Last(recurrent("GRU", 7), 7, perceptron(7)),
    "residual": Residual,
}


def built(name):
    """The module in evaluation mode, with random weights and statistics."""
    torch.manual_seed(sum(map(ord, name)))
    module = CASES[name]()
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif key.endswith("running_mean") or (tensor.ndim == 1 and key.endswith(("weight", "bias"))):
                tensor.uniform_(-0.8, 0.8)
    return module.eval()


def autograd(module, x, output):
    x = torch.from_numpy(x).requires_grad_()
    y = module(x)[(slice(None), *output)].reshape(len(x), -1).sum()
    return torch.autograd.grad(y, x)[0].numpy()


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_autograd(rng, name):
    module = built(name)
    outputs = [(1,), (slice(0, 2),)] if name != "every step" else [(-1, 0), (slice(2, 6), slice(0, 2))]
    x = rng.normal(size=(BATCH, TIME, FEATURES))
    narrow = cylstm.from_torch(module, (torch.from_numpy(x).float(),))
    for output in outputs:
        wanted = autograd(module, x.astype(np.float32), output)
        found = gradients(narrow, x.astype(np.float32), output).values
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    module = module.double()
    wide = cylstm.from_torch(module, (torch.from_numpy(x),), engine="blas", dtype="float64")
    for output in outputs:
        wanted = autograd(module, x, output)
        assert np.abs(wanted).max() > 1e-4
        np.testing.assert_allclose(gradients(wide, x, output).values, wanted, rtol=0, atol=1e-13)


NETWORKS = [
    "encoder and decoder", "encoder and decoder gru", "unrolled cell", "cells in a loop", "steps as rows",
    "repeated state", "repeated static features", "learned state", "rows of one number",
]  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_whole_networks_are_those_of_autograd(name):
    module, tensors = torch_models.build(name)
    module, tensors = module.double(), [tensor.double() for tensor in tensors]
    model = cylstm.from_torch(module, inputs=torch_models.CASES[name].inputs, engine="blas", dtype="float64")
    arrays = [tensor.numpy() for tensor in tensors]
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    for output, y in zip(model.outputs, torch_models.leaves(module(*leaves)), strict=True):
        key = tuple(slice(0, 2) for _ in y.shape[1:])
        found = gradients(model, arrays if len(arrays) > 1 else arrays[0], (output, *key)).values
        wanted = torch.autograd.grad(y[(slice(None), *key)].sum(), leaves, retain_graph=True)
        for one, other in zip(found if isinstance(found, list) else [found], wanted, strict=True):
            assert np.abs(one).max() > 1e-6
            np.testing.assert_allclose(one, other.numpy(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_gradients_of_lengths_and_initial_states_are_those_of_autograd(rng, kind):
    torch.manual_seed(7)
    rnn = getattr(nn, kind)(FEATURES, 7, batch_first=True, dtype=torch.float64)
    layers = [getattr(cylstm, kind)("rnn")]
    tensors = {f"rnn.{name}": tensor for name, tensor in rnn.state_dict().items()}
    model = cylstm.from_state_dict(tensors, layers, engine="blas", dtype="float64")
    lengths = np.array([9, 4, 1])
    x = rng.normal(size=(BATCH, TIME, FEATURES))
    states = [rng.uniform(-0.9, 0.9, (BATCH, 7)) for _ in model.graph.states()[0][1]]
    found = gradients(model, x, (slice(0, 6), slice(2, 5)), lengths=lengths, initial_state=[tuple(states)])
    leaf = torch.from_numpy(x).requires_grad_()
    first = [torch.from_numpy(state[np.newaxis]).requires_grad_() for state in states]
    packed = nn.utils.rnn.pack_padded_sequence(leaf, torch.from_numpy(lengths), batch_first=True)
    y, _ = rnn(packed, tuple(first) if kind == "LSTM" else first[0])
    y, _ = nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=TIME)
    wanted = torch.autograd.grad(y[:, :6, 2:5].sum(), [leaf, *first])
    np.testing.assert_allclose(found.values, wanted[0].numpy(), rtol=0, atol=1e-13)
    for part, other in zip(found.initial[0], wanted[1:], strict=True):
        np.testing.assert_allclose(part, other[0].numpy(), rtol=0, atol=1e-13)
