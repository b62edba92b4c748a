"""The functions of arrays that custom layers are written in, each against NumPy in float64."""

import numpy as np
import pytest

import cylstm
from cylstm import program as xp
from cylstm.graph.builder import GraphBuilder
from cylstm.program.array import adding_to, array_of, given_of
from cylstm.program.network import Network
from cylstm.program.tensor import BATCH, Tensor, is_constant

SHAPE = (7, 4)
RNG = np.random.default_rng(11)
X = RNG.standard_normal((3, *SHAPE)).astype(np.float32)
W = RNG.standard_normal((4, 5)).astype(np.float32)
ROW = RNG.standard_normal(4).astype(np.float32)
SMALL = (0.9 * np.tanh(X)).astype(np.float32)


def computed(function, *arrays, time=None):
    """What a function of arrays (batch, time, ...) gives, by a model that is made of it."""
    net = Network()
    net.builder = GraphBuilder()
    given = []
    for k, array in enumerate(arrays):
        value = net.builder.input(f"x{k}", (time, *array.shape[2:]), masked=False)
        given.append(array_of(net, Tensor(value, (BATCH, *range(array.ndim - 1)))))
    with adding_to(net, "custom"):
        found = function(*given)
        tensor = net.tensor(given_of(net, found))
        net.name = "output"
        values = net.arrange(tensor, range(1, tensor.ndim))
        net.builder.output(net.add_layer("activation", values, part="copy"))
    y = cylstm.Model(net.builder.build()).predict(list(arrays) if len(arrays) > 1 else arrays[0])
    rows = len(arrays[0])
    return y.reshape((rows, *(size if isinstance(size, int) else -1 for size in tensor.shape[1:])))


#: function of arrays and NumPy's of float64, where they have other names
CASES = {
    "abs": (xp.abs, np.abs),
    "acos": (lambda x: xp.acos(0.9 * xp.tanh(x)), lambda x: np.arccos(0.9 * np.tanh(x))),
    "acosh": (lambda x: xp.acosh(x * x + 1.1), lambda x: np.arccosh(x * x + 1.1)),
    "asin": (lambda x: xp.asin(0.9 * xp.tanh(x)), lambda x: np.arcsin(0.9 * np.tanh(x))),
    "asinh": (xp.asinh, np.arcsinh),
    "atan": (xp.atan, np.arctan),
    "atan2": (lambda x: xp.atan2(x, x * x - 1), lambda x: np.arctan2(x, x * x - 1)),
    "atanh": (lambda x: xp.atanh(0.9 * xp.tanh(x)), lambda x: np.arctanh(0.9 * np.tanh(x))),
    "ceil": (xp.ceil, np.ceil),
    "clip": (lambda x: xp.clip(x, -0.5, 0.25), lambda x: np.clip(x, -0.5, 0.25)),
    "clip below": (lambda x: xp.clip(x, min=0.25), lambda x: np.maximum(x, 0.25)),
    "cos": (xp.cos, np.cos),
    "cosh": (xp.cosh, np.cosh),
    "erf": (xp.erf, np.vectorize(__import__("math").erf)),
    "exp": (xp.exp, np.exp),
    "expm1": (xp.expm1, np.expm1),
    "floor": (xp.floor, np.floor),
    "hypot": (lambda x: xp.hypot(x, 2.0), lambda x: np.hypot(x, 2.0)),
    "log": (lambda x: xp.log(x * x + 0.1), lambda x: np.log(x * x + 0.1)),
    "log1p": (lambda x: xp.log1p(x * x), lambda x: np.log1p(x * x)),
    "log2": (lambda x: xp.log2(x * x + 0.1), lambda x: np.log2(x * x + 0.1)),
    "log10": (lambda x: xp.log10(x * x + 0.1), lambda x: np.log10(x * x + 0.1)),
    "maximum": (lambda x: xp.maximum(x, ROW), lambda x: np.maximum(x, ROW)),
    "minimum": (lambda x: xp.minimum(x, 0.3), lambda x: np.minimum(x, 0.3)),
    "reciprocal": (lambda x: xp.reciprocal(x * x + 0.5), lambda x: 1 / (x * x + 0.5)),
    "round": (lambda x: xp.round(4 * x), lambda x: np.round(4 * x)),
    "rsqrt": (lambda x: xp.rsqrt(x * x + 0.5), lambda x: 1 / np.sqrt(x * x + 0.5)),
    "sign": (xp.sign, np.sign),
    "sin": (xp.sin, np.sin),
    "sinh": (xp.sinh, np.sinh),
    "sqrt": (lambda x: xp.sqrt(xp.abs(x)), lambda x: np.sqrt(np.abs(x))),
    "square": (xp.square, np.square),
    "tan": (xp.tan, np.tan),
    "tanh": (xp.tanh, np.tanh),
    "trunc": (lambda x: xp.trunc(4 * x), lambda x: np.trunc(4 * x)),
    "where": (lambda x: xp.where(x > 0.2, x, -ROW), lambda x: np.where(x > np.float32(0.2), x, -ROW)),
    "operators": (lambda x: -x + 2 * x - x / ROW - (1 - x) ** 3, lambda x: -x + 2 * x - x / ROW - (1 - x) ** 3),
    "divided by": (lambda x: 2.0 / (x * x + 1), lambda x: 2.0 / (x * x + 1)),
    "floor division": (lambda x: (4 * x) // 1.5, lambda x: (4 * x) // 1.5),
    "remainder": (lambda x: (4 * x) % 1.5, lambda x: (4 * x) % 1.5),
    "power": (lambda x: xp.abs(x) ** 1.7, lambda x: np.abs(x) ** 1.7),
    "power of": (lambda x: 1.5**x, lambda x: 1.5**x),
    "truths": (
        lambda x: xp.astype((x > 0) & (x < 1) | ~(x >= -1) ^ (x == 0), "float32"),
        lambda x: (x > 0) & (x < 1) | ~(x >= -1) ^ (x == 0),
    ),
    "logical": (
        lambda x: xp.astype(xp.logical_or(xp.logical_not(x > 0), xp.logical_and(x > 0, x != 1)), "int"),
        lambda x: np.logical_or(np.logical_not(x > 0), np.logical_and(x > 0, x != 1)),
    ),
    "isnan": (lambda x: xp.astype(xp.isnan(x / x) | xp.isfinite(x) | xp.isinf(x), "float32"), lambda x: x * 0 + 1),
    "sum": (lambda x: xp.sum(x, axis=1), lambda x: x.sum(1)),
    "sum kept": (lambda x: xp.sum(x, axis=-1, keepdims=True), lambda x: x.sum(-1, keepdims=True)),
    "sum of several": (lambda x: xp.sum(x, axis=(1, 2), keepdims=True), lambda x: x.sum((1, 2), keepdims=True)),
    "mean": (lambda x: xp.mean(x, axis=1), lambda x: x.mean(1)),
    "max": (lambda x: xp.max(x, axis=1), lambda x: x.max(1)),
    "min": (lambda x: xp.min(x, axis=2), lambda x: x.min(2)),
    "prod": (lambda x: xp.prod(x, axis=2), lambda x: x.prod(2)),
    "var": (lambda x: xp.var(x, axis=2), lambda x: x.var(2)),
    "var corrected": (lambda x: xp.var(x, axis=2, correction=1), lambda x: x.var(2, ddof=1)),
    "std": (lambda x: xp.std(x, axis=1), lambda x: x.std(1)),
    "any": (lambda x: xp.astype(xp.any(x > 1, axis=2), "int"), lambda x: (x > 1).any(2)),
    "all": (lambda x: xp.astype(xp.all(x > -1, axis=2), "int"), lambda x: (x > -1).all(2)),
    "argmax": (lambda x: xp.argmax(x, axis=2), lambda x: x.argmax(2)),
    "argmin": (lambda x: xp.argmin(x, axis=2), lambda x: x.argmin(2)),
    "logsumexp": (lambda x: xp.logsumexp(x, axis=2), lambda x: np.log(np.exp(x).sum(2))),
    "vector_norm": (lambda x: xp.vector_norm(x, axis=2), lambda x: np.sqrt((x * x).sum(2))),
    "cumulative_sum": (lambda x: xp.cumulative_sum(x, axis=1), lambda x: x.cumsum(1)),
    "cumulative_prod": (lambda x: xp.cumulative_prod(x, axis=2), lambda x: x.cumprod(2)),
    "sort": (lambda x: xp.sort(x, axis=2), lambda x: np.sort(x, 2)),
    "sort descending": (lambda x: xp.sort(x, descending=True), lambda x: np.sort(x, 2)[:, :, ::-1]),
    "argsort": (lambda x: xp.argsort(x, axis=-1), lambda x: np.argsort(x, -1)),
    "top_k": (lambda x: xp.top_k(x, 2)[0], lambda x: np.sort(x, 2)[:, :, :1:-1]),
    "matmul": (lambda x: x @ W, lambda x: x @ W),
    "matmul from the left": (lambda x: W.T @ xp.expand_dims(x, 3), lambda x: W.T.astype(float) @ x[..., None]),
    "vector": (lambda x: x @ ROW, lambda x: x @ ROW),
    "tensordot": (lambda x: xp.tensordot(x, W, axes=1), lambda x: np.tensordot(x, W, axes=1)),
    "tensordot of pairs": (lambda x: xp.tensordot(x, W.T, axes=([2], [1])), lambda x: x @ W),
    "einsum": (lambda x: xp.einsum("btf,fu->btu", x, W), lambda x: x @ W),
    "vecdot": (lambda x: xp.vecdot(x, ROW), lambda x: x @ ROW),
    "concat": (lambda x: xp.concat([x, x * x], axis=2), lambda x: np.concatenate([x, x * x], 2)),
    "stack": (lambda x: xp.stack([x, -x], axis=2), lambda x: np.stack([x, -x], 2)),
    "expand and squeeze": (lambda x: xp.squeeze(xp.expand_dims(x, 1), 1) + 0, lambda x: x),
    "reshape": (lambda x: xp.reshape(x, (x.shape[0], x.shape[1], 2, 2)), lambda x: x.reshape(3, -1, 2, 2)),
    "flip": (lambda x: xp.flip(x, axis=2), lambda x: x[:, :, ::-1]),
    "flip the time": (lambda x: xp.flip(x, axis=1), lambda x: x[:, ::-1]),
    "roll": (lambda x: xp.roll(x, 1, axis=2), lambda x: np.roll(x, 1, 2)),
    "take": (lambda x: xp.take(x, [2, 0], axis=2), lambda x: x[:, :, [2, 0]]),
    "take_along_axis": (
        lambda x: xp.take_along_axis(x, xp.argsort(x, axis=2), axis=2),
        lambda x: np.sort(x, 2),
    ),
    "repeat": (lambda x: xp.repeat(x, 2, axis=2), lambda x: np.repeat(x, 2, 2)),
    "tile": (lambda x: xp.tile(x, (1, 1, 2)), lambda x: np.tile(x, (1, 1, 2))),
    "broadcast_to": (
        lambda x: xp.broadcast_to(xp.sum(x, 2, True), x.shape) + 0 * x,
        lambda x: np.broadcast_to(x.sum(2, keepdims=True), x.shape),
    ),
    "unstack": (lambda x: xp.unstack(x, axis=2)[1] + 0, lambda x: x[:, :, 1]),
    "indexing": (lambda x: x[:, 1:-2, None, ::2] + 0, lambda x: x[:, 1:-2, None, ::2]),
    "last step": (lambda x: x[:, -1, 1:] + 0, lambda x: x[:, -1, 1:]),
    "ellipsis": (lambda x: x[..., 2] + 0, lambda x: x[..., 2]),
    "zeros and ones": (lambda x: x + xp.ones_like(x) - xp.zeros((x.shape[0], 1, 4)), lambda x: x + 1),
    "full": (lambda x: x * xp.full_like(x, 1.5), lambda x: x * 1.5),
    "arange": (
        lambda x: x + xp.expand_dims(xp.arange(x.shape[1]), 1),
        lambda x: x + np.arange(x.shape[1])[:, None],
    ),
    "astype": (lambda x: xp.astype(4 * x, int), lambda x: np.trunc(4 * x)),
    "mean by the number of steps": (lambda x: xp.sum(x, axis=1) / x.shape[1], lambda x: x.mean(1)),
    "root of the number of steps": (lambda x: x / xp.sqrt(x.shape[1]), lambda x: x / np.sqrt(x.shape[1])),
    "sigmoid": (xp.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "relu": (xp.relu, lambda x: np.maximum(x, 0)),
    "leaky_relu": (lambda x: xp.leaky_relu(x, 0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
    "elu": (xp.elu, lambda x: np.where(x > 0, x, np.expm1(x))),
    "selu": (xp.selu, lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))),
    "gelu": (xp.gelu, lambda x: 0.5 * x * (1 + np.vectorize(__import__("math").erf)(x / np.sqrt(2)))),
    "silu": (xp.silu, lambda x: x / (1 + np.exp(-x))),
    "softplus": (xp.softplus, lambda x: np.log1p(np.exp(x))),
    "softsign": (xp.softsign, lambda x: x / (1 + np.abs(x))),
    "softmax": (lambda x: xp.softmax(x, axis=1), lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
    "log_softmax": (xp.log_softmax, lambda x: x - np.log(np.exp(x).sum(2, keepdims=True))),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("time", [None, SHAPE[0]])
def test_a_function_gives_the_numbers_of_numpy(name, time):
    function, reference = CASES[name]
    found = computed(function, X, time=time)
    expected = np.asarray(reference(X.astype(np.float64)), np.float64)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


def test_axes_may_lie_in_any_order_where_the_time_is_known():
    found = computed(lambda x: xp.permute_dims(x, (0, 2, 1)) * 2, X, time=7)
    assert (found == 2 * X.transpose(0, 2, 1)).all()
    found = computed(lambda x: xp.moveaxis(x, 2, 1).mT.mT + 0, X, time=7)
    assert (found == X.transpose(0, 2, 1)).all()
    found = computed(lambda x: xp.matrix_transpose(x) + 0, X, time=7)
    assert (found == X.transpose(0, 2, 1)).all()


def test_two_arrays_are_multiplied():
    y = RNG.standard_normal((3, *SHAPE)).astype(np.float32)
    found = computed(lambda a, b: xp.matmul(a, xp.matrix_transpose(b)), X, y, time=7)
    np.testing.assert_allclose(found, X.astype(float) @ y.transpose(0, 2, 1), atol=2e-6)
    found = computed(lambda a, b: xp.einsum("bti,btj->bij", a, b), X, y, time=7)
    np.testing.assert_allclose(found, np.einsum("bti,btj->bij", X.astype(float), y), atol=3e-6)


def test_functions_of_numpy_arrays_alone_give_numpy_arrays():
    for found, expected in (
        (xp.exp(ROW), np.exp(ROW)),
        (xp.sum(W, axis=0), W.sum(0)),
        (xp.concat([ROW, ROW]), np.concatenate([ROW, ROW])),
        (xp.zeros((2, 3)), np.zeros((2, 3))),
        (xp.arange(2, 5), np.arange(2, 5)),
        (xp.eye(3), np.eye(3)),
        (xp.matmul(ROW, W), ROW @ W),
        (xp.take_along_axis(W, np.argsort(W, 1), 1), np.sort(W, 1)),
    ):
        assert isinstance(found, np.ndarray) and is_constant(found)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_every_function_is_in_the_page_and_has_a_test():
    from cylstm.program.functions import NAMES

    from tests import ROOT

    page = (ROOT / "docs" / "custom-layers.md").read_text(encoding="utf-8")
    table = {name for line in page.splitlines() if line.startswith("| ") for name in line.replace("`", " ").split()}
    assert set(NAMES) - table == set()


def test_an_unknown_function_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'fft'"):
        _ = xp.fft
    assert {"exp", "Array", "softmax"} <= set(dir(xp))
