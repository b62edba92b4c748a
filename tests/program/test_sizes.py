"""Operations of tensors whose axes are joined, of size 1 or of constants alone, and truths, against NumPy."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import CylstmError, UnsupportedError
from cylstm.program.network import Network
from cylstm.program.operations import elementwise as el
from cylstm.program.operations import parts, reduce, shape
from cylstm.program.operations.linear import einsum
from cylstm.program.tensor import BATCH, BATCH_SIZE, Constant, Tensor

ROWS, STEPS, FEATURES = 3, 6, 4


def predicted(operation, *, is_open=True, examples=()):
    """What a program of one input (batch, time, features) gives, and the input."""
    net = Network()
    net.name, net.examples = "operation", examples
    value = net.builder.input("x", (None if is_open else STEPS, FEATURES))
    result = net.tensor(operation(net, Tensor(value, (BATCH, 0, 1))))
    net.builder.output(net.arrange(result, result.inner))
    x = np.random.default_rng(5).normal(size=(ROWS, STEPS, FEATURES)).astype(np.float32)
    return cylstm.Model(net.builder.build()).predict(x), x


def assert_equal(operation, expected, **options):
    found, x = predicted(operation, **options)
    wanted = expected(x.astype(np.float64))
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("argmax", lambda a: a.argmax(1)),
        ("argmin", lambda a: a.argmin(1)),
        ("var", lambda a: a.var(1, ddof=1)),
        ("logsumexp", lambda a: np.log(np.exp(a).sum(1))),
    ],
)
def test_joined_axes_are_reduced_as_one(mode, expected):
    options = {"correction": 1.0} if mode == "var" else {}

    def operation(net, x):
        swapped = shape.transpose(net, x, 1, 2)
        return reduce.reduce(net, shape.flatten(net, swapped, 1), mode, 1, keepdim=True, **options)

    assert_equal(operation, lambda x: expected(x.swapaxes(1, 2).reshape(ROWS, -1)), is_open=False)


def test_joined_axes_are_flipped_as_one_where_one_is_a_time_of_any_length():
    def operation(net, x):
        found = parts.flip(net, shape.flatten(net, x, 1), [1])
        return shape.reshape(net, found, [BATCH_SIZE, -1, FEATURES])

    assert_equal(operation, lambda x: x.reshape(ROWS, -1)[:, ::-1])


def test_truths_added_are_a_truth():
    def operation(net, x):
        truth = el.add(net, el.binary(net, "greater", x, 0.0), el.binary(net, "greater", x, -0.5))
        assert truth.dtype == "bool"
        return el.cast(net, truth, "float")

    assert_equal(operation, lambda x: ((x > 0) | (x > -0.5)).astype(float))


@pytest.mark.parametrize("mode", ["any", "all"])
def test_any_and_all_of_one_number_are_truths(mode):
    def operation(net, x):
        return reduce.reduce(net, shape.unsqueeze(net, x, 3), mode, 3)

    assert_equal(operation, lambda x: (x != 0).astype(float))


@pytest.mark.parametrize(("low", "high"), [(0.5, None), (0, None), (None, 0.5), (-0.5, 0.5)])
def test_clip_keeps_infinity_on_its_open_side(low, high):
    def operation(net, x):
        return el.binary(net, "min", el.clip(net, el.divide(net, x, 1e-45), low, high), 3e38)

    with np.errstate(divide="ignore"):
        assert_equal(operation, lambda x: np.minimum(np.clip(x / 0.0, low, high), 3e38))


def test_a_constant_over_the_time_is_as_long_as_the_time_in_a_sum():
    def operation(net, x):
        zeros = Constant(np.zeros((1, 1, FEATURES), np.float32), (BATCH_SIZE, x.shape[1], FEATURES))
        last = shape.unsqueeze(net, parts.select(net, x, 1, -1), 1)
        return reduce.reduce(net, el.binary(net, "sum", zeros, last), "sum", 1)

    assert_equal(operation, lambda x: STEPS * x[:, -1])


def test_a_sum_of_products_keeps_the_axes_that_a_later_operand_has():
    matrix = np.arange(16.0).reshape(4, 4).astype(np.float32) / 8

    def operation(net, x):
        return einsum(net, "btf,fg,btg->bf", [x, matrix, x])

    assert_equal(operation, lambda x: np.einsum("btf,fg,btg->bf", x, matrix, x))


def test_a_batch_of_one_row_in_the_example_stays_through_a_reshape():
    def operation(net, x):
        rows = shape.reshape(net, x, [-1, FEATURES])
        assert rows.batch == 0
        return shape.reshape(net, el.multiply(net, rows, 2.0), [1, STEPS, FEATURES])

    assert_equal(operation, lambda x: 2 * x, examples=((1, {"x": STEPS}),))

    def mean(net, x):
        return reduce.reduce(net, shape.reshape(net, x, [-1, FEATURES]), "mean", 0, keepdim=True)

    with pytest.raises(UnsupportedError, match="mixes the rows of a batch"):
        predicted(mean, examples=((1, {"x": STEPS}),))


@pytest.mark.parametrize(
    "operation",
    [
        lambda net, x: parts.select(net, x, 1, STEPS - 1),
        lambda net, x: parts.slice_axis(net, x, 1, STEPS - 2),
        lambda net, x: parts.slice_axis(net, x, 1, 0, STEPS),
        lambda net, x: parts.slice_axis(net, x, 1, 0, STEPS - 1),
    ],
)
def test_a_place_in_a_time_that_may_be_counted_from_its_end_needs_its_length(operation):
    with pytest.raises(CylstmError, match="needs the number of steps in advance"):
        predicted(operation, examples=((3, {"x": STEPS}),))
