"""The layers around an LSTM from a state dict: a PyTorch network and the layers that describe it give the same."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import CylstmError

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]


def randomised(torch, module):
    for name, tensor in module.state_dict().items():
        if "running_var" in name:
            tensor.copy_(torch.rand_like(tensor) + 0.3)
        elif "running_mean" in name:
            tensor.copy_(torch.randn_like(tensor) * 0.3)
    return module.eval()


def compare(module, layers, x, expected):
    model = cylstm.from_state_dict(module.state_dict(), layers)
    found = model.predict(x)
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=0, atol=3e-6)
    return model


def test_a_convolution_before_an_lstm(torch, rng):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv1d(4, 12, 5, stride=2, padding=2)
            self.norm = torch.nn.BatchNorm1d(12)
            self.lstm = torch.nn.LSTM(12, 9, batch_first=True)
            self.after = torch.nn.LayerNorm(9)
            self.fc = torch.nn.Linear(9, 3)

        def forward(self, x):
            y = torch.relu(self.norm(self.conv(x.transpose(1, 2))))
            y = torch.nn.functional.max_pool1d(y, 2).transpose(1, 2)
            y, _ = self.lstm(y)
            return self.fc(self.after(y[:, -1]))

    net = randomised(torch, Net())
    x = rng.normal(size=(3, 26, 4)).astype("f")
    layers = [
        cylstm.Conv1d("conv", stride=2, padding=2),
        cylstm.BatchNorm1d("norm"),
        cylstm.ReLU(),
        cylstm.MaxPool1d(2),
        cylstm.LSTM("lstm"),
        cylstm.Last(),
        cylstm.LayerNorm("after"),
        cylstm.Linear("fc"),
    ]
    model = compare(net, layers, x, net(torch.from_numpy(x)))
    assert not model.can_stream


def test_an_embedding_and_a_convolution_that_is_flattened(torch, rng):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(30, 6)
            self.conv = torch.nn.Conv1d(6, 8, 3, groups=2)
            self.norm = torch.nn.GroupNorm(4, 8)
            self.act = torch.nn.PReLU(8)
            self.fc = torch.nn.Linear(8 * 5, 3)

        def forward(self, x):
            y = self.act(self.norm(self.conv(self.table(x).transpose(1, 2))))
            return self.fc(torch.nn.functional.avg_pool1d(y, 2).flatten(1))

    net = Net().eval()
    x = rng.integers(0, 30, (3, 12))
    layers = [
        cylstm.Input((12,)),
        cylstm.Embedding("table"),
        cylstm.Conv1d("conv", groups=2),
        cylstm.GroupNorm("norm", 4),
        cylstm.PReLU("act"),
        cylstm.AvgPool1d(2),
        cylstm.Transpose(),
        cylstm.Flatten(),
        cylstm.Linear("fc"),
    ]
    compare(net, layers, x, net(torch.from_numpy(x)))
    with pytest.raises(CylstmError, match="number of steps in advance"):
        cylstm.from_state_dict(net.state_dict(), layers[1:])


def test_a_causal_convolution_streams_before_an_lstm(torch, rng):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv1d(1, 10, 6, stride=4)
            self.norm = torch.nn.RMSNorm(10)
            self.lstm = torch.nn.LSTM(10, 7, batch_first=True)
            self.fc = torch.nn.Linear(7, 1)

        def forward(self, x):
            y = self.conv(torch.nn.functional.pad(x.transpose(1, 2), (5, 0))).transpose(1, 2)
            return torch.sigmoid(self.fc(self.lstm(self.norm(y))[0]))

    net = Net().eval()
    x = rng.normal(size=(1, 512, 1)).astype("f")
    layers = [
        cylstm.Conv1d("conv", stride=4, padding="causal"),
        cylstm.RMSNorm("norm"),
        cylstm.LSTM("lstm"),
        cylstm.Linear("fc", activation="sigmoid"),
    ]
    model = compare(net, layers, x, net(torch.from_numpy(x)))
    stream = model.stream()
    pieces = [stream.run(x[:, at : at + 64]) for at in range(0, 512, 64)]
    assert pieces[0].shape == (1, 16, 1)
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), model.predict(x))
    assert model.state_names[0] == ("conv.history",)


def test_a_global_maximum_after_a_gated_convolution(torch, rng):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv1d(3, 8, 3, padding="same", dilation=2)
            self.fc = torch.nn.Linear(4, 2)

        def forward(self, x):
            y = torch.nn.functional.glu(self.conv(x.transpose(1, 2)), 1)
            return self.fc(y.amax(2))

    net = Net().eval()
    x = rng.normal(size=(3, 15, 3)).astype("f")
    layers = [
        cylstm.Conv1d("conv", padding="same", dilation=2),
        cylstm.GLU(),
        cylstm.GlobalPool1d("max"),
        cylstm.Linear("fc"),
    ]
    compare(net, layers, x, net(torch.from_numpy(x)))
