"""Writing to constant places of a tensor, in modules of PyTorch."""

import numpy as np
import pytest

import cylstm
from cylstm import UnsupportedError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.frameworks


def put(y, h):
    h[:, [1, 3]] = y[:, 0, :2]
    return h


def put_before_the_end(y, h):
    h = y.clone()
    h[..., [1, -1]] = y[..., :2]
    return h


def put_of_truths(y, h):
    h[:, torch.tensor([True, False, False, True, False, True])] = 1.5
    return h


def put_of_two_axes(y, h):
    h = h.reshape(-1, 2, 3)
    h[:, torch.tensor([0, 1]), torch.tensor([2, 0])] = 7.0
    return h


def put_numbers_of_two_axes(y, h):
    h = h.reshape(-1, 2, 3)
    h[:, torch.tensor([0, 1]), torch.tensor([2, 0])] = y[:, 0, :2]
    return h


def add_to_places(y, h):
    h[:, torch.tensor([4, 0])] += 2 * y[:, 0, :2]
    return h


def accumulate_twice(y, h):
    return torch.ops.aten.index_put(h, [None, torch.tensor([2, 0, 2])], y[:, 0, :3], True)


def index_add_to_zeros(y, h):
    return torch.zeros(h.shape[0], 6).index_add_(1, torch.tensor([1, 1, 4]), h[:, :3], alpha=3)


def index_copy(y, h):
    return h.index_copy(1, torch.tensor([5, 1]), y[:, 0, 2:4])


def index_fill(y, h):
    return h.index_fill(-1, torch.tensor([5, 1]), 3.0)


def scatter(y, h):
    return torch.zeros_like(h).scatter_(1, torch.tensor([[0, 2, 5]]).expand(h.shape[0], 3), y[:, 0])


def scatter_value(y, h):
    return torch.scatter(h, 1, torch.tensor([[3, 1]]).expand(h.shape[0], 2), 2.5)


def scatter_add(y, h):
    return torch.zeros_like(h).scatter_add_(1, torch.tensor([[0, 0, 5]]).expand(h.shape[0], 3), h[:, :3])


def parts_of_zeros(y, h):
    o = torch.zeros(h.shape[0], 4, 5)
    for i in range(3):
        o[:, i, 1:3] += h[:, i : i + 2]
    return o


def twice(y, h):
    h[:, [1, 1]] = y[:, 0, :2]
    return h


def computed(y, h):
    return torch.zeros_like(h).scatter_(1, h.argsort(1), h)


def module(write):
    class Writing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(5, 6, batch_first=True)

        def forward(self, x):
            y, _ = self.lstm(x)
            return write(y, y[:, -1].clone())

    torch.manual_seed(3)
    return Writing().eval()


WRITES = [put, put_before_the_end, put_of_truths, put_of_two_axes, put_numbers_of_two_axes, add_to_places,
          accumulate_twice, index_add_to_zeros, index_copy, index_fill, scatter, scatter_value, scatter_add,
          parts_of_zeros]  # fmt: skip


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
def test_what_is_written_to_constant_places_is_pytorchs(rng, write):
    net = module(write)
    x = rng.normal(size=(3, 7, 5)).astype("f")
    found = cylstm.from_torch(net).predict(x)
    with torch.no_grad():
        np.testing.assert_allclose(found, net(torch.tensor(x)).numpy(), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("write", "message"), [(twice, "written twice"), (computed, "places that the network computes")]
)
def test_what_cannot_be_written_says_why(write, message):
    with pytest.raises(UnsupportedError, match=message):
        cylstm.from_torch(module(write))
