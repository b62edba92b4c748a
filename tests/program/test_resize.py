"""Resized axes, against numbers that PyTorch 2.13 gave for one row."""

import numpy as np
import pytest

from cylstm.errors import UnsupportedError
from cylstm.graph.values import StaticTimeNeeded
from cylstm.program.operations.resize import resize

from tests.builders.tensor_programs import TensorProgram, in_form

ROW = [1.0, 4.0, -2.0, 8.0, 3.0]


@pytest.mark.parametrize(
    "mode, sizes, factors, corners, expected",
    [
        ("nearest", None, [1.5], False, [1, 1, 4, -2, -2, 8, 3]),
        ("nearest", None, [0.7], False, [1, 4, -2]),
        ("nearest", [3], None, False, [1, 4, 8]),
        ("nearest", [10], None, False, np.repeat(ROW, 2)),
        ("nearest", None, [3.0], False, np.repeat(ROW, 3)),
        ("linear", None, [2.0], False, [1, 1.75, 3.25, 2.5, -0.5, 0.5, 5.5, 6.75, 4.25, 3]),
        ("linear", None, [1.3], False, [1, 2.9615383, 1.4615381, -0.0769229, 7.6153855, 4.3461533]),
        ("linear", [3], None, False, [2, -2, 14 / 3]),
        ("linear", [7], None, True, [1, 3, 2, -2, 14 / 3, 19 / 3, 3]),
        ("linear", [5], None, False, ROW),
    ],
)
def test_steps_lie_where_pytorch_puts_them(mode, sizes, factors, corners, expected):
    factors_of_rows = np.array([1.0, -0.5, 2.0])[:, np.newaxis, np.newaxis]
    program = TensorProgram()
    tensor, _ = program.tensor(1, 5, numbers=factors_of_rows * ROW)
    program.check(resize(program.net, tensor, mode, sizes, factors, corners), factors_of_rows * expected)


def test_rows_and_columns_are_resized_one_after_the_other():
    program = TensorProgram(2)
    tensor, array = program.tensor(2, 3, 4)
    halves = (array[:, :, :, :-1] + array[:, :, :, 1:]) / 2
    wide = np.stack([array[..., 0], halves[..., 0], array[..., 1], halves[..., 1], array[..., 2], halves[..., 2],
                     array[..., 3]], axis=-1)  # fmt: skip
    linear = resize(program.net, tensor, "linear", [3, 7], None, True)
    program.net.name = "another"
    nearest = resize(program.net, tensor, "nearest", None, [2.0, 0.5])
    program.check([linear, nearest], [wide, array[:, :, [0, 0, 1, 1, 2, 2]][..., ::2]])


def test_a_time_of_any_length_is_repeated_alone():
    program = TensorProgram(3)
    tensor, array = in_form(program, "channels first")
    for arguments in (("nearest", None, [1.5]), ("linear", None, [2.0]), ("nearest", [4], None)):
        with pytest.raises(StaticTimeNeeded, match="resizing the time by other than a whole factor"):
            resize(program.net, tensor, *arguments)
    program.check(resize(program.net, tensor, "nearest", None, [2.0]), np.repeat(array, 2, axis=-1))


def test_an_interpolation_by_a_huge_matrix_is_refused():
    program = TensorProgram()
    tensor, _ = program.tensor(1, 3000)
    with pytest.raises(UnsupportedError, match="an interpolation of 3000 steps to 6000 is not supported"):
        resize(program.net, tensor, "linear", None, [2.0])
