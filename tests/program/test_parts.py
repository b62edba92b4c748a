"""Operations that take parts of a tensor and join tensors, against NumPy."""

import itertools

import numpy as np
import pytest

from cylstm.errors import CylstmError, ShapeError
from cylstm.formats.torch.aten import shapes as aten_shapes
from cylstm.graph.values import StaticTimeNeeded
from cylstm.program.operations import constants, parts, shape
from cylstm.program.operations import elementwise as el
from cylstm.program.tensor import BATCH_SIZE

from tests.builders.tensor_programs import FEATURES, FORMS, ROWS, STEPS, TensorProgram, axis_of, in_form

SLICES = [slice(1, None), slice(None, -1), slice(-2, None), slice(1, 3), slice(None, None, 2), slice(1, -1, 2),
          slice(None, None, -1), slice(3, 0, -2), slice(0, 100), slice(-100, 2)]  # fmt: skip


@pytest.mark.parametrize("part", SLICES, ids=str)
@pytest.mark.parametrize("axis", [1, 2, -1, -2])
def test_a_part_of_an_axis_of_known_size_is_numpys(axis, part):
    program = TensorProgram()
    tensor, array = program.tensor(STEPS, FEATURES)
    constant, wide = program.constant(2, STEPS, FEATURES)
    step = 1 if part.step is None else part.step
    places = [slice(None)] * 3
    places[axis] = part
    program.check(
        [parts.slice_axis(program.net, one, axis, part.start, part.stop, step) for one in (tensor, constant)],
        [array[tuple(places)], wide[tuple(places)]],
    )


@pytest.mark.parametrize("part", [slice(1, None), slice(None, -1), slice(2, -2), slice(None, None, 2), slice(1, -1, 3)])
@pytest.mark.parametrize("form", ["any number of steps", "time first", "channels first"])
def test_a_part_of_any_number_of_steps_is_numpys(form, part):
    program = TensorProgram(1)
    tensor, array = in_form(program, form)
    axis = axis_of(form, "steps")
    found = parts.slice_axis(program.net, tensor, axis, part.start, part.stop, part.step or 1)
    places = [slice(None)] * 3
    places[axis] = part
    program.check(found, array[tuple(places)])


@pytest.mark.parametrize("part", [(-3, None), (0, 3), (-3, -1)])
def test_a_part_of_any_number_of_steps_whose_place_is_not_known_needs_the_number(part):
    program = TensorProgram(2)
    tensor, _ = program.tensor(STEPS, FEATURES, is_open=True)
    with pytest.raises(StaticTimeNeeded):
        parts.slice_axis(program.net, tensor, 1, *part)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("index", [0, 2, -1, -3])
def test_one_feature_is_chosen_from_either_end(index, form):
    program = TensorProgram(3)
    tensor, array = in_form(program, form)
    axis = axis_of(form, "features")
    program.check(parts.select(program.net, tensor, axis, index), np.take(array, index, axis))


@pytest.mark.parametrize(
    ("index", "is_open"), [(0, False), (0, True), (2, False), (-2, False), (-1, False), (-1, True)]
)
def test_one_step_is_chosen(index, is_open):
    program = TensorProgram(4)
    tensor, array = program.tensor(STEPS, FEATURES, is_open=is_open)
    program.check(parts.select(program.net, tensor, -2, index), array[:, index])


def test_a_place_outside_and_a_row_are_refused():
    program = TensorProgram(5)
    tensor, _ = program.tensor(STEPS, FEATURES)
    with pytest.raises(ShapeError, match="expected a place in an axis of 4, found 4"):
        parts.select(program.net, tensor, 2, 4)
    for take in (parts.select, lambda net, x, dim, index: parts.slice_axis(net, x, dim, index, index + 1)):
        with pytest.raises(CylstmError, match="mixes the rows"):
            take(program.net, tensor, 0, 1)


def test_a_step_whose_place_follows_from_the_number_of_steps_is_the_last_one_or_needs_it():
    program = TensorProgram(4)
    tensor, array = in_form(program, "channels first")
    time = tensor.shape[2]
    for place in (time // 2, time + -2, time):
        with pytest.raises(StaticTimeNeeded, match="a place that depends on the number of steps needs"):
            parts.select(program.net, tensor, 2, place)
    program.check(parts.select(program.net, tensor, 2, time + -1), array[:, :, -1])


@pytest.mark.parametrize("indices", [[2, 0, 1], [0, 2], [-1, 0, -1], [[0, 1], [3, 2]], [[1], [1], [0]], [3]], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_a_list_of_places_is_numpys(form, indices):
    program = TensorProgram(6)
    tensor, array = in_form(program, form)
    axis = axis_of(form, "features")
    program.check(parts.take(program.net, tensor, np.array(indices), axis), np.take(array, indices, axis))


@pytest.mark.parametrize("sizes", [2, 3, [1, 3], [1, 1, 2]])
@pytest.mark.parametrize("form", FORMS)
def test_an_axis_is_split_and_joined_again(form, sizes):
    program = TensorProgram(7)
    tensor, array = in_form(program, form)
    axis = axis_of(form, "features")
    pieces = parts.split(program.net, tensor, sizes, axis)
    bounds = np.cumsum(sizes[:-1]) if isinstance(sizes, list) else range(sizes, FEATURES, sizes)
    expected = np.split(array, bounds, axis)
    program.check(parts.concat(program.net, pieces[::-1], axis), np.concatenate(expected[::-1], axis))


def test_chunks_are_of_one_size_but_for_the_last():
    program = TensorProgram(8)
    tensor, array = program.tensor(STEPS, 7)
    program.check(parts.chunk(program.net, tensor, 3, -1), np.split(array, [3, 6], 2))
    with pytest.raises(ShapeError, match="does not fit"):
        parts.split(program.net, tensor, [3, 3], 2)


@pytest.mark.parametrize("dim", [1, 2, -1])
def test_places_apart_and_stacked_are_the_tensor(dim):
    program = TensorProgram(9)
    tensor, array = program.tensor(STEPS, FEATURES)
    pieces = parts.unbind(program.net, tensor, dim)
    program.check(parts.stack(program.net, pieces, -1), np.moveaxis(array, dim, -1))


@pytest.mark.parametrize("is_open", [False, True])
def test_constants_and_tensors_are_joined_in_any_order(is_open):
    program = TensorProgram(10)
    tensor, array = program.tensor(STEPS, FEATURES, is_open=is_open)
    constant, wide = program.constant(1, 1, 2)
    if not is_open:
        constant, wide = (np.broadcast_to(one, (1, STEPS, 2)) for one in (constant, wide))
    rows = shape.expand(program.net, constant, [BATCH_SIZE, -1 if not is_open else tensor.shape[1], 2])
    expected = np.broadcast_to(wide, (ROWS, STEPS, 2))
    program.check(
        [parts.concat(program.net, [tensor, rows], 2), parts.concat(program.net, [rows, tensor, rows], -1)],
        [np.concatenate([array, expected], 2), np.concatenate([expected, array, expected], -1)],
    )


def test_joined_tensors_of_other_rows_are_refused():
    program = TensorProgram(11)
    tensor, _ = program.tensor(STEPS, FEATURES)
    for others in ([tensor, np.zeros((5, STEPS, 2), np.float32)], [np.zeros((5, STEPS, 2), np.float32), tensor]):
        with pytest.raises(CylstmError, match="mixes the rows"):
            parts.concat(program.net, others, 2)
    for pair in ([tensor, tensor], [np.zeros((1, STEPS, FEATURES), np.float32), tensor]):
        with pytest.raises(CylstmError, match="mixes the rows"):
            parts.concat(program.net, pair, 0)


@pytest.mark.parametrize("form", FORMS)
def test_features_the_other_way_round_are_numpys(form):
    program = TensorProgram(12)
    tensor, array = in_form(program, form)
    axis = axis_of(form, "features")
    program.check(parts.flip(program.net, tensor, [axis - array.ndim]), np.flip(array, axis))


@pytest.mark.parametrize("form", [form for form in FORMS if form != "steps as rows"])
def test_steps_the_other_way_round_are_numpys(form):
    program = TensorProgram(13)
    tensor, array = in_form(program, form)
    axis = axis_of(form, "steps")
    program.check(parts.flip(program.net, tensor, [axis]), np.flip(array, axis))


@pytest.mark.parametrize(("shifts", "dims"), [([1], [1]), ([-2], [-1]), ([7], [2]), ([1, 2], [2, 1])])
def test_places_are_rolled_as_numpy_rolls_them(shifts, dims):
    program = TensorProgram(14)
    tensor, array = program.tensor(STEPS, FEATURES)
    constant, wide = program.constant(2, STEPS, FEATURES)
    program.check(
        [parts.roll(program.net, tensor, shifts, dims), parts.roll(program.net, constant, shifts, dims)],
        [np.roll(array, shifts, dims), np.roll(wide, shifts, dims)],
    )


@pytest.mark.parametrize("index", [
    (slice(None), 0), (slice(None), slice(1, 4), -1), (slice(None), None, slice(None), slice(0, 2)), (..., 2),
    (slice(None), [3, 0, 1]), (..., None), (slice(None), slice(None), np.array([True, False, True, True])),
    (slice(None), slice(None, None, -1), 0), (Ellipsis, slice(1, None), [0, 2]),
], ids=str)  # fmt: skip
def test_an_index_of_python_is_numpys(index):
    program = TensorProgram(15)
    tensor, array = program.tensor(STEPS, FEATURES)
    program.check(parts.getitem(program.net, tensor, index), array[index])


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("count", [1, 3, 6])
def test_computed_places_are_those_of_take_along_axis(dim, count):
    program = TensorProgram(16)
    tensor, array = program.tensor(STEPS, FEATURES)
    sizes = [STEPS, FEATURES]
    limit, sizes[dim - 1] = sizes[dim - 1], count
    places, chosen = program.tensor(*sizes, dtype="int", numbers=program.rng.integers(0, limit, (ROWS, *sizes)))
    program.check(
        constants.gather(program.net, tensor, places, dim), np.take_along_axis(array, chosen.astype(int), dim)
    )


@pytest.mark.parametrize("is_constant", [False, True])
@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("counts", list(itertools.product([1, 2, 3], [1, 4], [1, 2])), ids=str)
def test_torchs_gather_takes_the_first_places_of_the_other_axes(dim, counts, is_constant):
    """An axis on which the index has one place gives one, where take_along_axis matches it with all."""
    program = TensorProgram(20)
    tensor, array = program.tensor(3, 4, 2)
    rows = 1 if is_constant else ROWS
    chosen = program.rng.integers(0, array.shape[dim], (rows, *counts))
    places = chosen if is_constant else program.tensor(*counts, dtype="int", numbers=chosen)[0]
    if is_constant:
        places = shape.expand(program.net, places, [BATCH_SIZE, -1, -1, -1])
    found = aten_shapes.gather(program.net, tensor, dim, places)
    first = tuple(slice(None) if k in (0, dim) else slice(count) for k, count in enumerate((ROWS, *counts)))
    expected = np.take_along_axis(array[first], np.broadcast_to(chosen, (ROWS, *counts)), dim)
    assert expected.shape == (ROWS, *counts)
    program.check(found, expected)


def test_computed_places_below_zero_count_from_the_end_where_that_is_asked():
    program = TensorProgram(17)
    tensor, array = program.tensor(STEPS, FEATURES, is_open=True)
    places, chosen = program.tensor(dtype="int", numbers=[-1, 2, -5])
    places = shape.reshape(program.net, places, [BATCH_SIZE]) if places.ndim > 1 else places
    found = constants.take_along(program.net, tensor, places, 1)
    program.check(found, array[np.arange(ROWS), chosen.reshape(-1).astype(int)])


def test_computed_places_beside_a_constant_of_as_many_rows_are_refused():
    program = TensorProgram(18)
    tensor, _ = program.tensor(FEATURES)
    with pytest.raises(CylstmError, match="mixes the rows"):
        constants.gather(program.net, tensor, np.zeros((5, 2), np.int64), 1)


def test_constants_of_more_numbers_than_a_network_needs_are_refused():
    """A few bytes of a file can ask for any number of them."""
    net = TensorProgram(21).net
    for make in (lambda: constants.full(net, [1 << 13, 1 << 13], 0, "float"),
                 lambda: constants.arange(net, 0, 1 << 40, 1, "int"),
                 lambda: constants.arange(net, 0.0, -1.0, -1e-12, None)):  # fmt: skip
        with pytest.raises(CylstmError, match="a constant of .* numbers is not supported; at most 33,554,432"):
            make()
    assert constants.full(net, [3, 4], 2, "int").shape == (3, 4)


def test_a_sum_of_a_part_and_the_rest_takes_an_open_time():
    program = TensorProgram(19)
    tensor, array = program.tensor(STEPS, FEATURES, is_open=True)
    later = parts.slice_axis(program.net, tensor, 1, 1, None)
    earlier = parts.slice_axis(program.net, tensor, 1, None, -1)
    program.check(
        [parts.slice_axis(program.net, later, 1, 1, None), el.subtract(program.net, later, earlier)],
        [array[:, 2:], np.diff(array, axis=1)],
    )
    with pytest.raises(StaticTimeNeeded):
        el.subtract(program.net, tensor, earlier)


def test_constants_are_joined_after_known_steps_and_beside_several_axes():
    program = TensorProgram(20)
    tensor, array = program.tensor(STEPS, 2, FEATURES)
    found, expected = [], []
    for axis, size in ((1, 3), (2, 1), (3, 5)):
        sizes = [1, STEPS, 2, FEATURES]
        sizes[axis] = size
        constant, wide = program.constant(*sizes)
        rows = shape.expand(program.net, constant, [BATCH_SIZE, -1, -1, -1])
        found.append(parts.concat(program.net, [rows, tensor], axis))
        expected.append(np.concatenate([np.broadcast_to(wide, (ROWS, *sizes[1:])), array], axis))
    program.check(found, expected)


@pytest.mark.parametrize("is_open", [False, True])
def test_constants_beside_steps_that_are_nan_stay_numbers(is_open):
    program = TensorProgram(21)
    numbers = program.rng.normal(size=(ROWS, STEPS, FEATURES))
    numbers[:, 0, 0] = np.nan
    tensor, _ = program.tensor(STEPS, FEATURES, is_open=is_open, numbers=numbers)
    constant, wide = program.constant(1, 1, 2)
    rows = shape.expand(program.net, constant, [BATCH_SIZE, tensor.shape[1], 2])
    joined = parts.concat(program.net, [tensor, rows], 2)
    program.check(parts.slice_axis(program.net, joined, 2, FEATURES, None), np.broadcast_to(wide, (ROWS, STEPS, 2)))
