"""Operations over axes, against NumPy."""

import numpy as np
import pytest

from cylstm.errors import CylstmError
from cylstm.program.operations import elementwise as el
from cylstm.program.operations import reduce
from cylstm.program.operations.softmax import softmax
from cylstm.program.tensor import constant, dtype_of

from tests.builders.tensor_programs import FEATURES, FORMS, ROWS, STEPS, TensorProgram, axis_of, in_form


def logsumexp(x, axis, keepdims):
    return np.log(np.exp(x).sum(axis=axis, keepdims=keepdims))


MODES = {
    "sum": np.sum,
    "mean": np.mean,
    "max": np.max,
    "min": np.min,
    "prod": np.prod,
    "logsumexp": logsumexp,
    "norm": lambda x, axis, keepdims: np.sqrt(np.square(x).sum(axis=axis, keepdims=keepdims)),
    "argmax": np.argmax,
    "argmin": np.argmin,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_over_the_features_it_is_numpys(mode, keepdim, form):
    program = TensorProgram()
    tensor, array = in_form(program, form)
    axis = axis_of(form, "features")
    found = reduce.reduce(program.net, tensor, mode, axis - array.ndim, keepdim)
    program.check(found, MODES[mode](array, axis=axis, keepdims=keepdim))


@pytest.mark.parametrize("form", [form for form in FORMS if form != "steps as rows"])
@pytest.mark.parametrize("mode", MODES)
def test_over_the_steps_it_is_numpys(mode, form):
    program = TensorProgram(1)
    tensor, array = in_form(program, form)
    axis = axis_of(form, "steps")
    program.check(reduce.reduce(program.net, tensor, mode, axis), MODES[mode](array, axis=axis, keepdims=False))


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dims", [(1, 2), (-1, 1), (2, 3), (1, 2, 3), [3, 1]])
@pytest.mark.parametrize("mode", [mode for mode in MODES if not mode.startswith("arg")] + ["var"])
def test_over_several_axes_it_is_numpys(mode, dims, keepdim):
    program = TensorProgram(2)
    tensor, array = program.tensor(2, 5, 4)
    constant, wide = program.constant(3, 2, 5, 4)
    if mode == "var":
        found = [reduce.variance(program.net, one, dims, 1.0, keepdim) for one in (tensor, constant)]
        expected = [one.var(axis=tuple(dims), ddof=1, keepdims=keepdim) for one in (array, wide)]
    else:
        found = [reduce.reduce(program.net, one, mode, dims, keepdim) for one in (tensor, constant)]
        expected = [MODES[mode](one, axis=tuple(dims), keepdims=keepdim) for one in (array, wide)]
    program.check(found, expected)


@pytest.mark.parametrize("correction", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("form", FORMS)
def test_a_variance_divides_by_the_count_less_a_correction(form, correction):
    program = TensorProgram(3)
    tensor, array = in_form(program, form)
    axis = axis_of(form, "features")
    found = reduce.variance(program.net, tensor, axis, correction, True)
    program.check(found, array.var(axis=axis, ddof=int(correction), keepdims=True))


@pytest.mark.parametrize("mode", ["any", "all"])
@pytest.mark.parametrize("axis", [1, 2, -1])
def test_truths_are_gathered(mode, axis):
    program = TensorProgram(4)
    tensor, array = program.tensor(STEPS, FEATURES, is_open=True)
    truths = el.binary(program.net, "greater", tensor, 0.5 if mode == "any" else -1.0)
    found = reduce.reduce(program.net, truths, mode, axis)
    assert dtype_of(found) == "bool"
    program.check(found, getattr(np, mode)(array > (0.5 if mode == "any" else -1.0), axis=axis))
    counted = reduce.reduce(program.net, truths, "sum", axis)
    assert dtype_of(counted) == "int"


@pytest.mark.parametrize("p", [0, 1, 2, 3, 0.5, float("inf"), float("-inf")])
@pytest.mark.parametrize("dims", [2, (1, 2)])
def test_a_norm_of_any_order_is_numpys(p, dims):
    program = TensorProgram(5)
    numbers = program.rng.integers(-3, 4, (ROWS, STEPS, FEATURES)) + 0.5 * (p != 0)
    tensor, array = program.tensor(STEPS, FEATURES, numbers=numbers)
    magnitudes = np.abs(array)
    axis = dims if isinstance(dims, tuple) else (dims,)
    expected = (
        (magnitudes != 0).sum(axis) if p == 0
        else magnitudes.max(axis) if p == np.inf
        else magnitudes.min(axis) if p == -np.inf
        else (magnitudes**p).sum(axis) ** (1 / p)
    )  # fmt: skip
    program.check(reduce.norm(program.net, tensor, p, dims), expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("mode", "function"),
    [("sum", np.cumsum), ("prod", np.cumprod), ("max", np.maximum.accumulate), ("min", np.minimum.accumulate)],
)
def test_a_running_result_is_numpys(mode, function, form):
    program = TensorProgram(6)
    tensor, array = in_form(program, form)
    axes = [axis_of(form, "features")]
    if form != "steps as rows":
        axes.append(axis_of(form, "steps"))
    constant, wide = program.constant(STEPS, FEATURES)
    program.check(
        [*[reduce.cumulate(program.net, tensor, mode, axis) for axis in axes],
         reduce.cumulate(program.net, constant, mode, -1)],
        [*[function(array, axis=axis) for axis in axes], function(wide, axis=-1)],
    )  # fmt: skip


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize(("mode", "function", "neutral"), [("sum", np.cumsum, 0.0), ("prod", np.cumprod, 1.0)])
def test_a_running_result_without_the_number_itself_or_from_the_end_is_numpys(
    mode, function, neutral, is_open, reverse
):
    program = TensorProgram(16)
    tensor, array = program.tensor(STEPS, FEATURES, is_open=is_open)
    single, one = program.tensor(1, FEATURES)
    constant, wide = program.constant(STEPS, FEATURES)

    def expected(x, axis, exclusive):
        x = np.flip(x, axis) if reverse else x
        found = function(x, axis)
        if exclusive:
            found = np.concatenate([np.full_like(found.take([0], axis), neutral), np.delete(found, -1, axis)], axis)
        return np.flip(found, axis) if reverse else found

    cases = [(tensor, array, 1), (tensor, array, -1), (single, one, 1), (constant, wide, 0)]
    program.check(
        [reduce.cumulate(program.net, x, mode, axis, exclusive=exclusive, reverse=reverse)
         for x, _, axis in cases for exclusive in (True, False)],
        [expected(x, axis, exclusive) for _, x, axis in cases for exclusive in (True, False)],
    )  # fmt: skip


def test_running_counts_of_ones_number_the_steps():
    program = TensorProgram(7)
    tensor, array = program.tensor(STEPS, FEATURES, is_open=True)
    ones = el.cast(program.net, el.binary(program.net, "equal", tensor, tensor), "int")
    program.check(reduce.cumulate(program.net, ones, "sum", 1), np.ones_like(array).cumsum(1))


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("form", [form for form in FORMS if form != "steps as rows"])
def test_the_largest_in_order_and_their_places_are_numpys(form, largest):
    program = TensorProgram(8)
    tensor, array = in_form(program, form)
    axis = axis_of(form, "features")
    order = np.argsort(-array if largest else array, axis=axis, kind="stable")
    order = np.take(order, range(3), axis)
    program.check(reduce.top(program.net, tensor, 3, axis, largest), [np.take_along_axis(array, order, axis), order])


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_a_softmax_along_either_axis_is_numpys(form, log):
    program = TensorProgram(9)
    tensor, array = in_form(program, form)
    axes = [axis_of(form, "features")] + ([axis_of(form, "steps")] if form != "steps as rows" else [])
    expected = []
    for axis in axes:
        y = array - logsumexp(array, axis, True)
        expected.append(y if log else np.exp(y))
    program.check([softmax(program.net, tensor, axis, log) for axis in axes], expected)


def test_vectors_are_made_as_long_as_one():
    program = TensorProgram(10)
    tensor, array = program.tensor(STEPS, FEATURES, is_open=True)
    program.check(reduce.normalize(program.net, tensor, -1), array / np.linalg.norm(array, axis=-1, keepdims=True))


def test_the_epsilon_of_a_vector_as_long_as_one_is_of_its_length():
    """That of PyTorch: 1e-12 changes nothing in a vector of length 1e-6, whose squares are as small as that."""
    program = TensorProgram(13)
    tensor, array = program.tensor(STEPS, FEATURES, is_open=True)
    small = el.multiply(program.net, tensor, np.float32(1e-6))
    program.check(reduce.normalize(program.net, small, -1), array / np.linalg.norm(array, axis=-1, keepdims=True))


def test_the_sum_of_a_constant_over_any_number_of_steps_is_so_many_times_the_constant():
    program = TensorProgram(14)
    tensor, array = program.tensor(STEPS, FEATURES, is_open=True)
    number, wide = program.constant(1, 1, FEATURES)
    steps = constant(number, [1, tensor.shape[1], FEATURES])
    net = program.net
    found = [el.multiply(net, tensor, reduce.reduce(net, steps, mode, 1, True)) for mode in ("sum", "mean", "max")]
    program.check(found, [array * STEPS * wide, array * wide, array * wide])


def test_a_logarithm_of_a_sum_of_large_constants_is_finite():
    program = TensorProgram(11)
    found = reduce.reduce(program.net, np.array([[100.0, 101.0]], np.float32), "logsumexp", 1)
    np.testing.assert_allclose(found, 101.0 + np.log1p(np.exp(-1.0)), rtol=1e-6)


@pytest.mark.parametrize("dims", [None, 0, (0, 1), [], -3])
def test_over_the_rows_it_is_refused(dims):
    program = TensorProgram(12)
    tensor, _ = program.tensor(STEPS, FEATURES)
    with pytest.raises(CylstmError, match="mixes the rows"):
        reduce.reduce(program.net, tensor, "sum", dims)
