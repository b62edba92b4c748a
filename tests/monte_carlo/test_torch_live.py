"""PyTorch's modules in training mode and `predict_mc`: one distribution."""

import warnings

import numpy as np
import pytest

import cylstm
from cylstm.errors import UnsupportedError

from tests.builders.statistics import distance

pytestmark = pytest.mark.frameworks

SAMPLES, TIME, INPUTS, LIMIT = 4000, 4, 3, 5.0


def network(torch, *, kind="LSTM", after=(), **options):
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = getattr(nn, kind)(INPUTS, 3, batch_first=True, **options)
            self.after = nn.Sequential(*after)

        def forward(self, x):
            y, _ = self.rnn(x)
            return self.after(y.transpose(1, 2))

    module = Net()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-1.3, 1.3)
    return module.eval()


CASES = {
    "lstm": lambda nn: {"num_layers": 3, "dropout": 0.4},
    "gru both directions": lambda nn: {"kind": "GRU", "num_layers": 2, "dropout": 0.4, "bidirectional": True},
    "rnn": lambda nn: {"kind": "RNN", "num_layers": 2, "dropout": 0.4},
    "dropout": lambda nn: {"after": [nn.Dropout(0.3)]},
    "channels": lambda nn: {"after": [nn.Dropout1d(0.3)]},
    "alpha": lambda nn: {"after": [nn.AlphaDropout(0.3)]},
    "alpha of channels": lambda nn: {"after": [nn.FeatureAlphaDropout(0.3)]},
}


def torch_samples(torch, module, x):
    module.train()
    with torch.no_grad():
        y = module(torch.from_numpy(np.repeat(x, SAMPLES, axis=0))).numpy()
    module.eval()
    return y


@pytest.mark.parametrize("case", CASES)
def test_samples_are_of_the_distribution_that_pytorch_draws_from(torch, rng, case, tmp_path):
    module = network(torch, **CASES[case](torch.nn))
    x = rng.normal(size=(1, TIME, INPUTS)).astype(np.float32)
    expected = torch_samples(torch, module, x)
    assert expected.std(axis=0).max() > 0.02
    found = cylstm.from_torch(module)
    assert distance(found.predict_mc(x, SAMPLES, seed=1).samples[:, 0], expected) < LIMIT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about flat weights
        torch.export.save(torch.export.export(module, (torch.from_numpy(x),)), tmp_path / "model.pt2")
    loaded = cylstm.load(tmp_path / "model.pt2")
    assert distance(loaded.predict_mc(x, SAMPLES, seed=2).samples[:, 0], expected) < LIMIT


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_plain_module_keeps_its_rate_and_a_state_dict_is_given_it(torch, rng, kind):
    module = getattr(torch.nn, kind)(INPUTS, 3, num_layers=2, dropout=0.4, batch_first=True)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-1.3, 1.3)
    x = rng.normal(size=(1, TIME, INPUTS)).astype(np.float32)
    module.train()
    with torch.no_grad():
        expected = module(torch.from_numpy(np.repeat(x, SAMPLES, axis=0)))[0].numpy()
    module.eval()
    live = cylstm.from_torch(module)
    assert distance(live.predict_mc(x, SAMPLES).samples[:, 0], expected) < LIMIT
    assert (
        distance(live.predict_mc(x, SAMPLES, rates={f"{kind.lower()}.l0.dropout": 0.3}).samples[:, 0], expected)
        > LIMIT + 1
    )
    tensors = {f"rnn.{name}": tensor for name, tensor in module.state_dict().items()}
    plain = cylstm.from_state_dict(tensors, [getattr(cylstm, kind)("rnn")])
    assert distance(plain.predict_mc(x, SAMPLES, rates={"rnn": 0.4}).samples[:, 0], expected) < LIMIT
    stated = cylstm.from_state_dict(tensors, [getattr(cylstm, kind)("rnn", dropout=0.4)])
    assert distance(stated.predict_mc(x, SAMPLES).samples[:, 0], expected) < LIMIT


def test_the_comparison_tells_another_rule(torch, rng):
    module = network(torch, num_layers=2, dropout=0.4)
    x = rng.normal(size=(1, TIME, INPUTS)).astype(np.float32)
    expected = torch_samples(torch, module, x)
    model = cylstm.from_torch(module)
    inert = next(layer for layer in model.graph.layers if layer.kind == "dropout")
    per_sequence = cylstm.Model(model.graph._replace(noise={inert.name: {"shared": "0"}}))
    assert distance(per_sequence.predict_mc(x, SAMPLES).samples[:, 0], expected) > LIMIT + 1


def test_attention_whose_dropout_an_export_does_not_say_is_asked_for(torch, rng):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = torch.nn.MultiheadAttention(4, 2, dropout=0.1, batch_first=True)
            self.drop = torch.nn.Dropout(0.2)

        def forward(self, x):
            return self.drop(self.attention(x, x, x)[0])

    model = cylstm.from_torch(Net().eval(), torch.zeros(2, 5, 4))
    with pytest.raises(UnsupportedError, match="does not say whether this attention drops"):
        model.predict_mc(np.zeros((2, 5, 4), np.float32))
