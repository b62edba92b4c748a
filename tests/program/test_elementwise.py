"""Operations element by element, against NumPy."""

import math

import numpy as np
import pytest

from cylstm.errors import CylstmError, ShapeError
from cylstm.program.operations import elementwise as el
from cylstm.program.operations import parts, shape
from cylstm.program.tensor import BATCH_SIZE, dtype_of

from tests.builders.tensor_programs import FEATURES, FORMS, ROWS, STEPS, TensorProgram, in_form

ERF = np.vectorize(math.erf, otypes=[float])
#: name -> its numbers, and what they are taken of
FUNCTIONS = {
    "neg": (np.negative, "any"),
    "abs": (np.abs, "any"),
    "sign": (np.sign, "any"),
    "square": (np.square, "any"),
    "reciprocal": (lambda x: 1.0 / x, "positive"),
    "sqrt": (np.sqrt, "positive"),
    "rsqrt": (lambda x: 1.0 / np.sqrt(x), "positive"),
    "cbrt": (np.cbrt, "any"),
    "floor": (np.floor, "any"),
    "ceil": (np.ceil, "any"),
    "round": (np.round, "any"),
    "trunc": (np.trunc, "any"),
    "exp2": (np.exp2, "any"),
    "expm1": (np.expm1, "any"),
    "log": (np.log, "positive"),
    "log2": (np.log2, "positive"),
    "log10": (np.log10, "positive"),
    "log1p": (np.log1p, "positive"),
    "sin": (np.sin, "any"),
    "cos": (np.cos, "any"),
    "tan": (np.tan, "small"),
    "asin": (np.arcsin, "small"),
    "acos": (np.arccos, "small"),
    "atan": (np.arctan, "any"),
    "sinh": (np.sinh, "any"),
    "cosh": (np.cosh, "any"),
    "asinh": (np.arcsinh, "any"),
    "acosh": (lambda x: np.arccosh(x), "large"),
    "atanh": (np.arctanh, "small"),
    "erf": (ERF, "any"),
    "erfc": (lambda x: 1.0 - ERF(x), "any"),
    "logical_not": (np.logical_not, "any"),
    "isnan": (np.isnan, "any"),
    "isinf": (np.isinf, "any"),
    "isfinite": (np.isfinite, "any"),
}
TAKEN = {
    "any": lambda x: x,
    "positive": lambda x: np.abs(x) + 0.5,
    "small": lambda x: np.tanh(x) * 0.9,
    "large": lambda x: np.abs(x) + 1.5,
}
BINARY = {
    "sum": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.true_divide,
    "mod": np.mod,
    "fmod": np.fmod,
    "floor_div": np.floor_divide,
    "max": np.maximum,
    "min": np.minimum,
    "atan2": np.arctan2,
    "hypot": np.hypot,
    "less": np.less,
    "greater_equal": np.greater_equal,
    "equal": np.equal,
    "and": np.logical_and,
    "xor": np.logical_xor,
}


def test_all_functions_are_tested():
    assert set(FUNCTIONS) == set(el.functions())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_a_tensor_and_of_a_constant_is_numpys(name):
    function, of = FUNCTIONS[name]
    program = TensorProgram()
    numbers = TAKEN[of](program.rng.normal(size=(ROWS, STEPS, FEATURES))).astype(np.float32)
    tensor, array = program.tensor(STEPS, FEATURES, is_open=True, numbers=numbers)
    program.check(el.function(program.net, tensor, name), function(array))
    program.check(el.function(program.net, numbers, name), function(numbers.astype(np.float64)))
    assert dtype_of(el.function(program.net, tensor, name)) == dtype_of(function(array))


@pytest.mark.parametrize("name", ["log1p", "sin", "expm1", "sqrt"])
def test_functions_of_constant_truths_are_computed_in_full_precision(name):
    program = TensorProgram()
    truths = np.array([True, False])
    found = el.function(program.net, truths, name)
    np.testing.assert_allclose(found, FUNCTIONS[name][0](truths.astype(np.float64)), rtol=1e-7)
    found = el.binary(program.net, "hypot", truths, truths)
    np.testing.assert_allclose(found, np.hypot([1.0, 0.0], [1.0, 0.0]), rtol=1e-7)
    np.testing.assert_allclose(el.activation(program.net, truths, "tanh"), np.tanh([1.0, 0.0]), rtol=1e-7)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", BINARY)
def test_two_tensors_are_matched_axis_by_axis(mode, form):
    program = TensorProgram(1)
    a, array = in_form(program, form)
    b = el.add(program.net, el.function(program.net, a, "cos"), 0.25)
    other = np.cos(array) + 0.25
    if mode in ("mod", "fmod", "floor_div"):
        # of whole numbers, so that no quotient is near a whole number that it is not
        a, array = el.function(program.net, el.multiply(program.net, a, 8), "round"), np.round(array * 8)
        b = el.add(program.net, el.function(program.net, el.multiply(program.net, b, 2), "round"), 4)
        other = np.round(other * 2) + 4
    program.check(el.binary(program.net, mode, a, b), BINARY[mode](array, other))


@pytest.mark.parametrize("sizes", [(), (1,), (FEATURES,), (STEPS, 1), (STEPS, FEATURES), (1, STEPS, FEATURES)])
@pytest.mark.parametrize("operation", ["add", "subtract", "multiply", "divide"])
def test_arithmetic_with_a_constant_on_either_side_is_numpys(operation, sizes):
    numpys = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.true_divide}[operation]
    program = TensorProgram(2)
    tensor, array = program.tensor(STEPS, FEATURES)
    tensor, array = el.add(program.net, el.power(program.net, tensor, 2), 0.5), array * array + 0.5
    number, wide = program.constant(*sizes)
    number, wide = number + np.float32(3.0), (number + np.float32(3.0)).astype(np.float64)
    function = getattr(el, operation)
    program.check(
        [function(program.net, tensor, number), function(program.net, number, tensor)],
        [numpys(array, wide), numpys(wide, array)],
    )


def test_a_constant_may_have_more_axes_than_the_tensor():
    program = TensorProgram(3)
    tensor, array = program.tensor(FEATURES)
    constant, wide = program.constant(STEPS, 1, FEATURES)
    program.check(el.multiply(program.net, tensor, constant), array * wide)


def test_one_column_times_a_row_of_features_gives_both_axes():
    program = TensorProgram(4)
    steps, a = program.tensor(STEPS, 1, is_open=True)
    features, b = program.tensor(1, FEATURES)
    program.check(el.subtract(program.net, steps, features), a - b)


@pytest.mark.parametrize("exponent", [-2, -1, -0.5, 0.5, 1, 2, 3, 2.5])
def test_powers_are_numpys(exponent):
    program = TensorProgram(5)
    tensor, array = program.tensor(STEPS, FEATURES, numbers=np.random.default_rng(5).uniform(0.5, 2, (ROWS, 5, 4)))
    program.check(el.power(program.net, tensor, exponent), array**exponent)


@pytest.mark.parametrize("scale", [2, -0.5, 3, 0.1])
def test_a_sum_and_a_difference_take_a_factor(scale):
    program = TensorProgram(6)
    a, array = program.tensor(STEPS, FEATURES)
    b, other = program.tensor(FEATURES)
    program.check(
        [el.add(program.net, a, a, scale), el.subtract(program.net, b, 0.5, scale)],
        [array + scale * array, other - 0.5 * scale],
    )


@pytest.mark.parametrize("limits", [(-0.5, 0.75), (None, 0.25), (-0.25, None), (0.5, -0.5), (0, 1)])
def test_limits_are_numbers_or_tensors_or_are_left_out(limits):
    low, high = limits
    program = TensorProgram(7)
    tensor, array = program.tensor(STEPS, FEATURES, is_open=True)
    expected = array
    expected = expected if low is None else np.maximum(expected, low)
    expected = expected if high is None else np.minimum(expected, high)
    arrays = [None if one is None else np.full(FEATURES, one, np.float32) for one in limits]
    program.check(
        [el.clip(program.net, tensor, low, high), el.clip(program.net, tensor, *arrays)], [expected, expected]
    )


def test_a_constant_is_limited_by_a_tensor():
    program = TensorProgram(8)
    tensor, array = program.tensor(STEPS, FEATURES)
    constant, wide = program.constant(STEPS, FEATURES)
    program.check(el.clip(program.net, constant, tensor, None), np.maximum(wide, array))
    np.testing.assert_array_equal(el.clip(program.net, constant, -0.5, 0.5), np.clip(constant, -0.5, 0.5))


@pytest.mark.parametrize("form", FORMS)
def test_a_choice_takes_tensors_constants_and_numbers(form):
    program = TensorProgram(9)
    tensor, array = in_form(program, form)
    is_large = el.binary(program.net, "greater", tensor, 0.125)
    half = el.multiply(program.net, tensor, 0.5)
    program.check(
        [el.where(program.net, is_large, tensor, half), el.where(program.net, is_large, -1.0, tensor)],
        [np.where(array > 0.125, array, array / 2), np.where(array > 0.125, -1.0, array)],
    )


def test_a_constant_condition_chooses_by_place():
    program = TensorProgram(10)
    tensor, array = program.tensor(STEPS, FEATURES)
    condition = np.arange(FEATURES) % 2 == 0
    program.check(
        [el.where(program.net, condition, tensor, -math.inf), el.where(program.net, np.array([[True]]), tensor, 1.0)],
        [np.where(condition, array, -math.inf), array],
    )


def test_truths_added_are_truths_and_truths_multiplied_are_too():
    program = TensorProgram(11)
    numbers = program.rng.integers(0, 2, (ROWS, STEPS, FEATURES))
    a, array = program.tensor(STEPS, FEATURES, dtype="bool", numbers=numbers)
    b = el.binary(program.net, "greater", program.tensor(STEPS, FEATURES)[0], 0.0)
    other = program.given[1] > 0
    results = [el.add(program.net, a, b), el.multiply(program.net, a, b), el.add(program.net, a, True)]
    assert [dtype_of(one) for one in results] == ["bool"] * 3
    program.check(results, [array | other, array & other, array | True])


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_larger_of_two_truths_is_a_truth(mode):
    program = TensorProgram(12)
    a, array = program.tensor(FEATURES, dtype="bool", numbers=program.rng.integers(0, 2, (ROWS, FEATURES)))
    found = el.binary(program.net, mode, a, np.array([True, False, True, False]))
    assert dtype_of(found) == "bool"
    program.check(found, BINARY[mode](array, np.array([True, False, True, False])))


def test_casts_cut_fractions_off_and_ask_for_zero():
    program = TensorProgram(13)
    tensor, array = program.tensor(STEPS, FEATURES, is_open=True)
    tensor, array = el.function(program.net, el.multiply(program.net, tensor, 2), "floor"), np.floor(array * 2)
    half = el.add(program.net, tensor, 0.5)
    program.check(
        [el.cast(program.net, half, "int"), el.cast(program.net, tensor, "bool")],
        [np.trunc(array + 0.5), array != 0],
    )


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu", "elu", "selu", "softplus", "silu", "gelu", "exponential"])
def test_an_activation_of_a_constant_is_that_of_a_tensor(name):
    program = TensorProgram(14)
    tensor, _ = program.tensor(STEPS, FEATURES)
    constant = program.given[0].astype(np.float32)
    program.check(
        el.activation(program.net, tensor, name, 0.5),
        el.activation(program.net, constant.astype(np.float64), name, 0.5),
    )


@pytest.mark.parametrize("is_open", [False, True])
def test_a_constant_over_all_rows_and_steps_is_folded(is_open):
    program = TensorProgram(15)
    tensor, array = program.tensor(STEPS, FEATURES, is_open=is_open)
    ones = el.add(program.net, el.multiply(program.net, np.full(FEATURES, 2.0, np.float32), 3), 1)
    assert isinstance(ones, np.ndarray)
    program.check(el.add(program.net, tensor, ones), array + 7.0)


@pytest.mark.parametrize(("a", "b"), [((STEPS, 4), (STEPS, 3)), ((STEPS, 4), (2, 4))])
def test_shapes_that_do_not_match_are_an_error(a, b):
    program = TensorProgram(16)
    first, second = program.tensor(*a)[0], program.tensor(*b)[0]
    with pytest.raises(ShapeError, match=r"operation.*do not match"):
        el.add(program.net, first, second)


def test_rows_beside_another_axis_are_refused():
    program = TensorProgram(17)
    tensor, _ = program.tensor(FEATURES)
    with pytest.raises(CylstmError, match="mixes the rows"):
        el.add(program.net, el.function(program.net, tensor, "sin"), np.ones((7, 1), np.float32) * np.arange(4))


def test_axes_that_are_joined_in_different_ways_meet_as_one():
    program = TensorProgram(41)
    pairs, array = program.tensor(STEPS, 2, 6)
    thirds, other = program.tensor(STEPS, 3, 4)
    constant, wide = program.constant(STEPS, 12)
    net = program.net
    joined = [shape.reshape(net, one, [BATCH_SIZE, STEPS, 12]) for one in (pairs, thirds)]
    arrays = [one.reshape(ROWS, STEPS, 12) for one in (array, other)]
    found = el.binary(net, "mul", el.binary(net, "sum", *joined), constant)
    program.check([found, parts.concat(net, joined, 1)], [sum(arrays) * wide, np.concatenate(arrays, 1)])
