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


def test_a_normalisation_of_ones_own_has_gamma_and_beta(torch, rng, tmp_path):
    class Norm(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma, self.beta = (torch.nn.Parameter(torch.randn(9)) for _ in range(2))

        def forward(self, x):
            return torch.nn.functional.layer_norm(x, (9,), self.gamma, self.beta, 1e-5)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(4, 9, batch_first=True)
            self.after = Norm()
            self.fc = torch.nn.Linear(9, 3)

        def forward(self, x):
            return self.fc(self.after(self.lstm(x)[0]))

    net = Net().eval()
    x = rng.normal(size=(3, 8, 4)).astype("f")
    layers = [cylstm.LSTM("lstm"), cylstm.LayerNorm("after"), cylstm.Linear("fc")]
    compare(net, layers, x, net(torch.from_numpy(x)))
    with pytest.raises(CylstmError, match=r'cylstm.LSTM\("lstm"\), .*cylstm.LayerNorm\("after"\)'):
        torch.save(net.state_dict(), tmp_path / "net.pt")
        cylstm.load(tmp_path / "net.pt")


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


@pytest.mark.parametrize("time", ["rows", "columns"])
def test_images_before_an_lstm(torch, rng, time):
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cnn = nn.Sequential(
                nn.Conv2d(2, 4, (3, 2), (1, 2), (1, 0)),
                nn.ReLU(),
                nn.MaxPool2d((2, 1)),
                nn.Conv2d(4, 6, (2, 3), padding="same", groups=2, bias=False),
                nn.BatchNorm2d(6),
                nn.LeakyReLU(0.2),
                nn.AvgPool2d(3, (2, 1), (1, 0), count_include_pad=False),
            )
            self.lstm = nn.LSTM(self.cnn(torch.zeros(1, 2, 16, 19)).permute(self.order()).flatten(2).shape[2], 5,
                                batch_first=True)  # fmt: skip

        @staticmethod
        def order():
            return (0, 2, 1, 3) if time == "rows" else (0, 3, 1, 2)

        def forward(self, x):
            return self.lstm(self.cnn(x).permute(self.order()).flatten(2))[0]

    net = randomised(torch, Net())
    x = rng.normal(size=(3, 2, 16, 19)).astype("f")
    shape = (None, 19, 2) if time == "rows" else (None, 16, 2)
    layers = [
        cylstm.Input(shape),
        cylstm.Conv2d("cnn.0", stride=(1, 2), padding=(1, 0), activation="relu", time=time),
        cylstm.MaxPool2d((2, 1), time=time),
        cylstm.Conv2d("cnn.3", padding="same", groups=2, time=time),
        cylstm.BatchNorm2d("cnn.4"),
        cylstm.LeakyReLU(0.2),
        cylstm.AvgPool2d(3, (2, 1), (1, 0), count_include_pad=False, time=time),
        cylstm.Steps(),
        cylstm.LSTM("lstm"),
    ]
    model = cylstm.from_state_dict(net.state_dict(), layers)
    given = np.ascontiguousarray(x.transpose((0, 2, 3, 1) if time == "rows" else (0, 3, 2, 1)))
    expected = net(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(model.predict(given), expected, rtol=0, atol=3e-6)
    with pytest.raises(CylstmError, match=r"begin with Input"):
        cylstm.from_state_dict(net.state_dict(), layers[1:])
    with pytest.raises(CylstmError, match=r"expected an image .* found \(None, 2\)"):
        cylstm.from_state_dict(net.state_dict(), [cylstm.Input((None, 2)), *layers[1:]])


def test_a_state_dict_of_images_comes_with_a_proposal(torch, tmp_path):
    nn = torch.nn
    net = nn.ModuleDict({"cnn": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), "lstm": nn.LSTM(120, 5)})
    torch.save(net.state_dict(), tmp_path / "net.pt")
    with pytest.raises(CylstmError) as caught:
        cylstm.load(tmp_path / "net.pt")
    text = str(caught.value)
    found = text[text.index("layers=[") + len("layers=") :].partition("\n")[0]
    layers = eval(found, {"cylstm": cylstm})
    assert layers == [
        cylstm.Input((None, 32, 3)), cylstm.Conv2d("cnn.0"), cylstm.BatchNorm2d("cnn.1"), cylstm.Steps(),
        cylstm.LSTM("lstm"),
    ]  # fmt: skip
    assert cylstm.load(tmp_path / "net.pt", layers=layers).predict(np.zeros((1, 9, 32, 3), "f")).shape == (1, 7, 5)


@pytest.mark.parametrize(
    "options", [{"stride": 2, "padding": 1, "output_padding": 1}, {"stride": 3, "groups": 2}, {"dilation": 2}]
)
def test_a_transposed_convolution_behind_an_lstm(torch, rng, options):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(3, 4, batch_first=True)
            self.up = torch.nn.ConvTranspose1d(4, 6, 3, **options)

        def forward(self, x):
            return torch.tanh(self.up(self.lstm(x)[0].transpose(1, 2)).transpose(1, 2))

    net = randomised(torch, Net())
    x = rng.normal(size=(3, 11, 3)).astype("f")
    layers = [cylstm.LSTM("lstm"), cylstm.ConvTranspose1d("up", activation="tanh", **options)]
    model = compare(net, layers, x, net(torch.from_numpy(x)))
    assert model.can_stream == (options["stride"] == 3 if "stride" in options else False)


@pytest.mark.parametrize("time", ["rows", "columns"])
@pytest.mark.parametrize(
    "options",
    [
        {"stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2)},
        {"stride": 2, "groups": 2, "bias": False},
        {"dilation": (1, 2), "padding": (0, 2)},
    ],
)
def test_transposed_convolutions_of_images(torch, rng, options, time):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.down = torch.nn.Conv2d(2, 4, 3, padding=1)
            self.up = torch.nn.ConvTranspose2d(4, 6, (3, 2), **options)

        def forward(self, x):
            return torch.tanh(self.up(self.down(x)))

    net = randomised(torch, Net())
    x = rng.normal(size=(3, 2, 7, 5)).astype("f")
    order = (0, 2, 3, 1) if time == "rows" else (0, 3, 2, 1)
    given = {name: value for name, value in options.items() if name != "bias"}
    layers = [
        cylstm.Input((None, 5 if time == "rows" else 7, 2)),
        cylstm.Conv2d("down", padding=1, time=time),
        cylstm.ConvTranspose2d("up", activation="tanh", time=time, **given),
    ]
    expected = net(torch.from_numpy(x)).detach().numpy().transpose(order)
    model = cylstm.from_state_dict(net.state_dict(), layers)
    found = model.predict(np.ascontiguousarray(x.transpose(order)))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6)


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
