"""Random programs of operations around a recurrent layer, against NumPy in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cylstm
from cylstm.errors import CylstmError
from cylstm.graph.values import StaticTimeNeeded
from cylstm.program.network import Network
from cylstm.program.operations import elementwise as el
from cylstm.program.operations import parts, reduce, shape
from cylstm.program.operations.elementwise import activation
from cylstm.program.operations.linear import einsum, linear, matmul
from cylstm.program.operations.recurrent import Direction, recurrent
from cylstm.program.operations.softmax import softmax
from cylstm.program.tensor import BATCH, Dim, Tensor

from tests.reference import run_recurrent

BATCH_ROWS, STEPS, FEATURES, UNITS = 3, 6, 4, 5
#: beyond this the numbers of a program are tamed by a tanh
LARGE = 20.0


class Both:
    """A program built twice: as symbolic tensors, and as float64 arrays computed at once."""

    def __init__(self, rng, *, open_time):
        self.rng = rng
        self.net = Network()
        value = self.net.builder.input("x", (None if open_time else STEPS, FEATURES))
        self.x = rng.normal(size=(BATCH_ROWS, STEPS, FEATURES)).astype(np.float32)
        self.count = 0
        self.found = [(Tensor(value, (BATCH, 0, 1)), self.x.astype(np.float64))]
        self.add_recurrent()

    def named(self, name):
        self.count += 1
        self.net.name = f"{name}{self.count}"
        return self.net

    def add_recurrent(self):
        weights = {
            "weight_ih": self.rng.uniform(-0.8, 0.8, (4 * UNITS, FEATURES)),
            "weight_hh": self.rng.uniform(-0.8, 0.8, (4 * UNITS, UNITS)),
            "bias": self.rng.uniform(-0.8, 0.8, 4 * UNITS),
        }
        weights = {role: array.astype(np.float32) for role, array in weights.items()}
        net = self.named("lstm")
        x, array = self.found[0]
        y, *_ = recurrent(net, "lstm", x, (None, None), [[Direction(weights)]], batch_first=True)
        layer = next(layer for layer in net.builder._layers if layer.kind == "lstm")
        wide = {role: one.astype(np.float64) for role, one in weights.items()}
        zeros = np.zeros((BATCH_ROWS, UNITS))
        expected, _ = run_recurrent(layer, wide, array, np.ones(array.shape[:2], bool), (zeros, zeros))
        self.found.append((y, expected))

    def pick(self):
        """A tensor, the later ones more often."""
        index = len(self.found) - 1 - min(int(self.rng.exponential(1.5)), len(self.found) - 1)
        return self.found[index]

    def keep(self, tensor, array):
        assert len(tensor.shape) == array.ndim
        for size, own in zip(tensor.shape, array.shape):
            assert isinstance(size, Dim) or size == own, (tensor.shape, array.shape)
        if np.abs(array).max() > LARGE:
            tensor, array = activation(self.named("tame"), tensor, "tanh"), np.tanh(array)
        self.found.append((tensor, array))

    def step(self):
        """One random operation."""
        kinds = [one_number, two_numbers, chosen, moved, reshaped, taken, joined, reduced, along, multiplied]
        kind = kinds[int(self.rng.integers(len(kinds)))]
        tensor, array = self.pick()
        found = kind(self, tensor, array)
        if found is not None:
            self.keep(*found)

    def outputs(self):
        """The last tensors, as outputs of a graph."""
        kept = [(t, a) for t, a in self.found[2:] if t.batch == 0 and not t.is_joined][-3:] or self.found[1:2]
        values, arrays = [], []
        for tensor, array in kept:
            net = self.named("out")
            order = net.order([tensor], tensor.inner)
            value = net.add_layer("activation", net.arrange(tensor, order))
            net.builder.output(value)
            values.append(value)
            arrays.append(array.transpose(0, *order).reshape(BATCH_ROWS, *[
                STEPS if size is None else size for size in value.shape]) if value.axis is None or not value.axis.rules
                else array.transpose(0, *order).reshape(BATCH_ROWS, -1, *value.shape[1:]))  # fmt: skip
        return arrays


def one_number(both, t, a):
    net, choice = both.named("one"), int(both.rng.integers(8))
    if choice == 0:
        return el.function(net, el.add(net, el.function(net, t, "abs"), 0.5), "log"), np.log(np.abs(a) + 0.5)
    if choice == 1:
        return el.function(net, el.add(net, el.power(net, t, 2), 0.25), "sqrt"), np.sqrt(a * a + 0.25)
    if choice == 2:
        return el.function(net, t, "sin"), np.sin(a)
    if choice == 3:
        return activation(net, t, "sigmoid"), 1 / (1 + np.exp(-a))
    if choice == 4:
        return el.subtract(net, 1.5, t), 1.5 - a
    if choice == 5:
        return el.multiply(net, t, -0.75), a * -0.75
    if choice == 6:
        return el.clip(net, t, -0.5, 0.8), np.clip(a, -0.5, 0.8)
    return el.function(net, t, "erf"), np.vectorize(__import__("math").erf)(a)


def same_shape(both, t):
    """A tensor that matches `t` axis by axis, or has size 1 there."""
    fits = [
        (o, b)
        for o, b in both.found
        if len(o.shape) == len(t.shape) and all(p == q or 1 in (p, q) for p, q in zip(o.shape, t.shape))
    ]
    return fits[int(both.rng.integers(len(fits)))]


def two_numbers(both, t, a):
    o, b = same_shape(both, t)
    net, choice = both.named("two"), int(both.rng.integers(7))
    if choice == 0:
        return el.add(net, t, o), a + b
    if choice == 1:
        return el.subtract(net, t, o), a - b
    if choice == 2:
        return el.multiply(net, t, o), a * b
    if choice == 3:
        return el.binary(net, "max", t, o), np.maximum(a, b)
    if choice == 4:
        return el.divide(net, t, el.add(net, el.function(net, o, "abs"), 1.0)), a / (np.abs(b) + 1.0)
    if choice == 5:
        return el.binary(net, "atan2", t, el.add(net, el.power(net, o, 2), 1.0)), np.arctan2(a, b * b + 1.0)
    constant = both.rng.normal(size=[1, *[1 if isinstance(s, Dim) else s for s in t.shape[1:]]]).astype(np.float32)
    return el.multiply(net, el.add(net, t, constant), constant), (a + constant) * constant.astype(np.float64)


def chosen(both, t, a):
    """A choice by a threshold that no number is near."""
    o, b = same_shape(both, t)
    if a.shape != b.shape:
        return None
    flat = np.sort(np.unique(a.ravel()))
    gaps = np.diff(flat)
    if not gaps.size or gaps.max() < 1e-3:
        return None
    at = int(gaps.argmax())
    limit = float(np.float32((flat[at] + flat[at + 1]) / 2))
    net = both.named("choice")
    return el.where(net, el.binary(net, "greater", t, limit), o, el.multiply(net, t, 0.5)), np.where(
        a > limit, b, a / 2
    )


def moved(both, t, a):
    order = [0, *(1 + both.rng.permutation(a.ndim - 1))]
    return shape.permute(both.named("moved"), t, order), a.transpose(order)


def reshaped(both, t, a):
    net, choice = both.named("shape"), int(both.rng.integers(4))
    if choice == 0:
        at = int(both.rng.integers(1, a.ndim + 1))
        return (shape.unsqueeze(net, t, at), np.expand_dims(a, at)) if a.ndim < 5 else None
    if choice == 1:
        gone = [i for i in range(1, a.ndim) if a.shape[i] == 1]
        return (shape.squeeze(net, t, gone[0]), a.squeeze(gone[0])) if gone and a.ndim > 2 else None
    if choice == 2 and a.ndim > 2:
        at = int(both.rng.integers(1, a.ndim - 1))
        found = shape.flatten(net, t, at, at + 1)
        wanted = [*a.shape[:at], a.shape[at] * a.shape[at + 1], *a.shape[at + 2 :]]
        return net.solid(found, at), a.reshape(wanted)
    at = int(both.rng.integers(1, a.ndim))
    size = a.shape[at]
    if isinstance(t.shape[at], Dim) or size % 2 or a.ndim > 4:
        return None
    return shape.unflatten(net, t, at, [2, -1]), a.reshape([*a.shape[:at], 2, size // 2, *a.shape[at + 1 :]])


def taken(both, t, a):
    net, choice = both.named("part"), int(both.rng.integers(4))
    at = int(both.rng.integers(1, a.ndim))
    if choice == 0:
        return parts.slice_axis(net, t, at, 1 if a.shape[at] > 2 else 0, None), np.take(
            a, range(1 if a.shape[at] > 2 else 0, a.shape[at]), axis=at)  # fmt: skip
    if choice == 1 and a.ndim > 2:
        return parts.select(net, t, at, -1), np.take(a, -1, axis=at)
    if choice == 2:
        indices = both.rng.integers(0, a.shape[at], 3)
        return parts.take(net, t, indices, at), np.take(a, indices, axis=at)
    return parts.flip(net, t, [at]), np.flip(a, at)


def joined(both, t, a):
    o, b = same_shape(both, t)
    at = a.ndim - 1
    if a.shape[:at] != b.shape[:at] or a.shape[at] + b.shape[at] > 16:
        return None
    return parts.concat(both.named("joined"), [t, o], at), np.concatenate([a, b], at)


def reduced(both, t, a):
    at, keeps = int(both.rng.integers(1, a.ndim)), bool(both.rng.integers(2))
    if a.ndim < 3 and not keeps:
        keeps = True
    net, choice = both.named("reduced"), int(both.rng.integers(5))
    if choice == 0:
        return reduce.reduce(net, t, "sum", at, keeps), a.sum(at, keepdims=keeps)
    if choice == 1:
        return reduce.reduce(net, t, "mean", at, keeps), a.mean(at, keepdims=keeps)
    if choice == 2:
        return reduce.reduce(net, t, "max", at, keeps), a.max(at, keepdims=keeps)
    if choice == 3:
        return reduce.variance(net, t, at, 0.0, keeps), a.var(at, keepdims=keeps)
    return reduce.reduce(net, t, "logsumexp", at, keeps), np.log(np.exp(a).sum(at, keepdims=keeps))


def along(both, t, a):
    at = int(both.rng.integers(1, a.ndim))
    if both.rng.integers(2):
        return reduce.cumulate(both.named("running"), t, "sum", at), a.cumsum(at)
    grown = np.exp(a - a.max(at, keepdims=True))
    return softmax(both.named("softmax"), t, at), grown / grown.sum(at, keepdims=True)


def multiplied(both, t, a):
    net, choice = both.named("product"), int(both.rng.integers(3))
    weight = both.rng.normal(size=(3, a.shape[-1])).astype(np.float32)
    if isinstance(t.shape[-1], Dim):
        return None
    if choice == 0 or a.ndim != 3:
        return linear(net, t, weight), a @ weight.T.astype(np.float64)
    if choice == 1:
        found = matmul(net, t, shape.transpose(net, t, 1, 2))
        return net.tensor(found), a @ a.transpose(0, 2, 1)
    return einsum(net, "btf,of,btf->bto", [t, weight, t]), np.einsum("btf,of,btf->bto", a, weight.astype(np.float64), a)


def check(seed, count, open_time):
    both = Both(np.random.default_rng(seed), open_time=open_time)
    for _ in range(count):
        try:
            both.step()
        except StaticTimeNeeded:
            assert open_time
    expected = both.outputs()
    graph = both.net.builder.build()
    for engine in ("packed", "blas"):
        found = cylstm.Model(graph, engine=engine).predict(both.x)
        for one, other in zip(found if isinstance(found, list) else [found], expected, strict=True):
            scale = max(1.0, float(np.abs(other).max()))
            np.testing.assert_allclose(one, other, rtol=0, atol=2e-4 * scale)


@pytest.mark.parametrize("open_time", [False, True])
@settings(deadline=None, max_examples=120, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(5, 30))
def test_a_random_program_gives_numpys_numbers(open_time, seed, count):
    check(seed, count, open_time)


def test_errors_of_a_program_name_the_operation_and_both_shapes():
    both = Both(np.random.default_rng(0), open_time=False)
    net = both.named("sum")
    with pytest.raises(CylstmError, match=r"layer 'sum\d'.*\(batch, 6, 4\).*\(batch, 6, 5\)"):
        el.add(net, both.found[0][0], both.found[1][0])


def test_two_axes_of_one_time_of_any_length_need_the_number_of_steps():
    both = Both(np.random.default_rng(0), open_time=True)
    net, (x, _) = both.named("pairs"), both.found[0]
    column = reduce.reduce(net, x, "sum", 2, True)
    row = shape.transpose(net, column, 1, 2)
    with pytest.raises(StaticTimeNeeded, match="two axes that are times"):
        el.subtract(net, column, row)


def test_chosen_steps_have_no_mask_of_all_steps():
    both = Both(np.random.default_rng(0), open_time=False)
    net, (x, _) = both.named("steps"), both.found[0]
    assert x.value.mask is not None
    assert parts.take(net, x, np.array([4, 0, 3]), 1).value.mask is None
