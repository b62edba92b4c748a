"""Which axis is the batch in a file that was exported with a fixed one, where several axes have its size."""

import numpy as np
import pytest

import cylstm

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]


def loaded(torch, tmp_path, module, *arrays):
    module = module.eval()
    torch.export.save(torch.export.export(module, tuple(map(torch.tensor, arrays))), tmp_path / "net.pt2")
    with torch.no_grad():
        result = module(*map(torch.tensor, arrays))
    return cylstm.load(tmp_path / "net.pt2"), result


def close(found, wanted):
    np.testing.assert_allclose(found, wanted.numpy(), rtol=0, atol=2e-6)


def test_states_of_as_many_layers_as_rows_have_the_batch_behind_the_layers(torch, rng, tmp_path):
    class Stacked(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(5, 6, num_layers=3, batch_first=True)

        def forward(self, x, h, c):
            y, (h, c) = self.lstm(x, (h, c))
            return y, h, c

    x, h, c = (rng.normal(size=shape).astype("f") for shape in ((3, 7, 5), (3, 3, 6), (3, 3, 6)))
    model, (y, *states) = loaded(torch, tmp_path, Stacked(), x, h, c)
    found, *others = model.predict([x, h.swapaxes(0, 1), c.swapaxes(0, 1)])
    close(found, y)
    for one, wanted in zip(others, states):
        close(one, wanted.transpose(0, 1))


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_a_recurrent_layer_that_takes_the_time_first_has_the_batch_second(torch, rng, tmp_path, layers):
    class TimeFirst(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = torch.nn.GRU(5, 3, num_layers=layers)
            self.head = torch.nn.Linear(3, 2)

        def forward(self, x, h):
            y, h = self.gru(x, h)
            return self.head(y[-1]), h

    x, h = rng.normal(size=(7, 4, 5)).astype("f"), rng.normal(size=(layers, 4, 3)).astype("f")
    model, (y, state) = loaded(torch, tmp_path, TimeFirst(), x, h)
    found, other = model.predict([x.swapaxes(0, 1), h.swapaxes(0, 1)])
    close(found, y)
    close(other, state.transpose(0, 1))


@pytest.mark.parametrize("size", [3, 5, 7])
def test_a_batch_of_the_size_of_another_axis_is_found(torch, rng, tmp_path, size):
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(5, 3, batch_first=True)
            self.head = torch.nn.Linear(3, 3)

        def forward(self, x):
            h = torch.zeros(1, x.size(0), 3)
            y, _ = self.lstm(x, (h, h))
            y = self.head(y.reshape(x.size(0) * x.size(1), 3))
            return y.view(x.size(0), x.size(1), 3)

    x = rng.normal(size=(size, 7, 5)).astype("f")
    model, y = loaded(torch, tmp_path, Network(), x)
    close(model.predict(x), y)
    assert model.predict(x[:2, :4]).shape == (2, 4, 3)
