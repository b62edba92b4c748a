"""Operations that give the same numbers another shape, against NumPy."""

import numpy as np
import pytest

from cylstm.errors import CylstmError, ShapeError
from cylstm.graph.values import StaticTimeNeeded
from cylstm.program.operations import elementwise as el
from cylstm.program.operations import shape
from cylstm.program.tensor import BATCH_SIZE

from tests.builders.tensor_programs import FEATURES, FORMS, ROWS, STEPS, TensorProgram, axis_of, in_form


@pytest.mark.parametrize("wanted", [(-1, 12), (4, -1), (6, 2, 2), (2, 3, 4), (1, 24), (24, 1), (2, -1, 2, 3), (4, 6)])
@pytest.mark.parametrize("sizes", [(4, 6), (2, 12), (2, 3, 4), (24,)])
def test_axes_are_joined_and_divided_as_numpy_does(sizes, wanted):
    program = TensorProgram()
    tensor, array = program.tensor(*sizes)
    try:
        found = shape.reshape(program.net, tensor, [BATCH_SIZE, *wanted])
    except CylstmError:
        # places of an axis that are not a part of one axis of the other
        assert sizes in ((4, 6), (2, 3, 4), (2, 12)) and not _nested(sizes, np.empty(24).reshape(wanted).shape)
        return
    program.check(found, array.reshape(ROWS, *wanted))


def _nested(sizes, wanted):
    """Whether the bounds of the one are bounds of the other wherever an axis is divided."""
    a, b = (set(np.cumprod(one).tolist()) for one in (sizes, wanted))
    return all(y % x == 0 or x % y == 0 for x in a for y in b)


def test_a_constant_takes_any_shape():
    program = TensorProgram()
    constant, wide = program.constant(4, 6)
    np.testing.assert_array_equal(shape.reshape(program.net, constant, [3, -1, 2]), wide.reshape(3, 4, 2))


def test_a_shape_of_another_number_of_places_is_an_error():
    program = TensorProgram()
    tensor, _ = program.tensor(4, 6)
    with pytest.raises(ShapeError, match="does not fit"):
        shape.reshape(program.net, tensor, [BATCH_SIZE, 5, 5])
    with pytest.raises(CylstmError, match="mixes the rows"):
        shape.reshape(program.net, tensor, [ROWS * 2, -1])
    with pytest.raises(CylstmError, match="mixes the rows"):
        shape.reshape(program.net, np.zeros(3, np.float32), [BATCH_SIZE])


@pytest.mark.parametrize("is_open", [False, True])
def test_heads_are_divided_and_put_before_the_steps(is_open):
    program = TensorProgram(1)
    tensor, array = program.tensor(STEPS, 6, is_open=is_open)
    heads = shape.permute(program.net, shape.unflatten(program.net, tensor, -1, [2, -1]), [0, 2, 1, 3])
    together = shape.flatten(program.net, shape.permute(program.net, heads, (0, -2, 1, -1)), -2, -1)
    divided = array.reshape(ROWS, STEPS, 2, 3).transpose(0, 2, 1, 3)
    program.check([el.function(program.net, heads, "abs"), together], [np.abs(divided), array])


@pytest.mark.parametrize("form", FORMS)
def test_axes_are_swapped_from_either_end(form):
    program = TensorProgram(2)
    tensor, array = in_form(program, form)
    program.check(
        el.function(program.net, shape.transpose(program.net, tensor, 0, -1), "square"), array.swapaxes(0, -1) ** 2
    )


@pytest.mark.parametrize(("source", "target"), [(1, 2), (-1, 1), (3, 0), ([0, -1], [-1, 0]), ([1, 2], [3, 1])])
def test_axes_are_moved_as_numpy_moves_them(source, target):
    program = TensorProgram(3)
    tensor, array = program.tensor(2, 5, 4)
    constant, wide = program.constant(3, 2, 5, 4)
    program.check(
        [shape.moveaxis(program.net, tensor, source, target), shape.moveaxis(program.net, constant, source, target)],
        [np.moveaxis(array, source, target), np.moveaxis(wide, source, target)],
    )


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2])
@pytest.mark.parametrize("is_open", [False, True])
def test_an_axis_of_one_place_comes_and_goes(axis, is_open):
    program = TensorProgram(4)
    tensor, array = program.tensor(STEPS, FEATURES, is_open=is_open)
    wide = shape.unsqueeze(program.net, tensor, axis)
    doubled = el.multiply(program.net, wide, 2.0)
    back = shape.squeeze(program.net, doubled, axis)
    program.check([doubled, back], [np.expand_dims(array, axis) * 2, array * 2])


def test_all_axes_of_one_place_go_at_once_and_others_stay():
    program = TensorProgram(5)
    tensor, array = program.tensor(1, 4, 1)
    constant, wide = program.constant(1, 4, 1)
    net = program.net
    program.check(
        [shape.squeeze(net, tensor), shape.squeeze(net, tensor, [1, 2]), shape.squeeze(net, constant, -1)],
        [array.squeeze((1, 3)), array.squeeze(1), wide.squeeze(-1)],
    )


@pytest.mark.parametrize("is_open", [False, True])
def test_one_place_is_repeated_over_features_steps_and_new_axes(is_open):
    program = TensorProgram(6)
    steps, array = program.tensor(STEPS, FEATURES, is_open=is_open)
    row, other = program.tensor(1, FEATURES)
    column, third = program.tensor(STEPS, 1, is_open=is_open)
    net = program.net
    program.check(
        [
            shape.expand(net, row, steps.shape),
            shape.expand(net, column, [-1, -1, FEATURES]),
            el.add(net, shape.expand(net, shape.unsqueeze(net, row, 1), [-1, 2, -1, -1]), 1.0),
        ],
        [np.broadcast_to(other, array.shape), np.repeat(third, FEATURES, 2), np.repeat(other[:, None], 2, 1) + 1.0],
    )


def test_a_constant_is_repeated_over_rows_and_steps_of_any_number():
    program = TensorProgram(7)
    tensor, array = program.tensor(STEPS, FEATURES, is_open=True)
    constant, wide = program.constant(1, 1, FEATURES)
    spread = shape.expand(program.net, constant, tensor.shape)
    program.check(el.add(program.net, tensor, spread), array + wide)
    with pytest.raises(ShapeError, match="does not fit"):
        shape.expand(program.net, tensor, [-1, -1, 2 * FEATURES])


@pytest.mark.parametrize("counts", [(1, 2, 1), (1, 1, 3), (1, 2, 3), (2, 1, 1, 2)])
def test_a_whole_tensor_is_repeated(counts):
    program = TensorProgram(8)
    tensor, array = program.tensor(5, 4)
    constant, wide = program.constant(3, 5, 4)
    found = [shape.tile(program.net, constant, counts)]
    expected = [np.tile(wide, counts)]
    if len(counts) == 3:
        found.append(shape.tile(program.net, tensor, counts))
        expected.append(np.tile(array, counts))
    program.check(found, expected)


def test_a_tensor_repeated_no_times_is_refused():
    program = TensorProgram(9)
    with pytest.raises(CylstmError, match="without numbers"):
        shape.tile(program.net, program.tensor(5, 4)[0], [1, 0, 1])
    with pytest.raises(CylstmError, match="mixes the rows|expected an axis"):
        shape.tile(program.net, program.tensor(5, 4)[0], [2, 1, 1])


@pytest.mark.parametrize("form", [form for form in FORMS if form != "steps as rows"])
def test_places_are_repeated_in_a_row(form):
    program = TensorProgram(10)
    tensor, array = in_form(program, form)
    axis = axis_of(form, "features")
    program.check(shape.repeat_interleave(program.net, tensor, 3, axis - 3), np.repeat(array, 3, axis))


def test_steps_as_rows_and_back_leave_the_numbers_alone():
    program = TensorProgram(11)
    tensor, array = program.tensor(STEPS, FEATURES, is_open=True)
    rows = el.function(program.net, shape.flatten(program.net, tensor, 0, 1), "exp2")
    program.check(shape.reshape(program.net, rows, tensor.shape), np.exp2(array))


def test_time_joined_with_features_needs_the_number_of_steps():
    program = TensorProgram(12)
    tensor, _ = program.tensor(STEPS, FEATURES, is_open=True)
    with pytest.raises(StaticTimeNeeded):
        shape.reshape(program.net, tensor, [BATCH_SIZE, STEPS * FEATURES])


@pytest.mark.parametrize("target", [(4, 5), (2, 10), (10, 1, 2), (4, 1, 5, 1)])
def test_a_reshape_that_neither_joins_nor_divides_axes_moves_the_numbers_of_each_row(target):
    program = TensorProgram(31)
    tensor, array = program.tensor(STEPS, FEATURES)
    swapped, other = program.tensor(FEATURES, STEPS, order=(0, 2, 1))
    found = [shape.reshape(program.net, one, [BATCH_SIZE, *target]) for one in (tensor, swapped)]
    program.check(found, [one.reshape(ROWS, *target) for one in (array, other)])
