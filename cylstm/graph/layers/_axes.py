"""Axes and whole numbers: checks that the kinds share which cut, move or reduce an axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cylstm.errors import ShapeError, UnsupportedError
from cylstm.graph.values import Axis, Kind, Option, StaticTimeNeeded, Value


def check_whole_number(where: str, options: Mapping[str, Option], name: str, least: int, most: int = 1 << 24) -> int:
    """The option as an int. Raises `UnsupportedError` unless it is a whole number from `least` to `most`."""
    number = options[name]
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
        raise UnsupportedError(
            f"layer {where!r}: option {name} expected a whole number from {least} to {most}, found {number!r}"
        )
    return number


def kind_of(shape: Sequence[int | None]) -> Kind:
    """The kind of a value of this shape: the first of several axes is time."""
    return "sequence" if len(shape) > 1 else "vector"


def find_axis(where: str, value: Value, axis: object) -> int:
    """`axis` of a value's shape without batch, negative from the end. Raises `ShapeError` if it does not exist."""
    rank = len(value.shape)
    if isinstance(axis, bool) or not isinstance(axis, int) or not -rank <= axis < rank:
        raise ShapeError(f"layer {where!r}: expected an axis of {value.shape} (batch not counted), found {axis!r}")
    return axis % rank


def need_shape(where: str, value: Value, why: str) -> tuple[int, ...]:
    """The shape of a value whose every size is known. Raises `StaticTimeNeeded`."""
    shape = tuple(size for size in value.shape if size is not None)
    if len(shape) < len(value.shape):
        raise StaticTimeNeeded(
            f"layer {where!r}: {why} needs the number of steps in advance, found shape {value.shape} of {value.name!r}"
        )
    return shape


def derived_time(
    where: str, value: Value, add: int, divide: int = 1, multiply: int = 1
) -> tuple[int | None, Axis | None]:
    """Steps and axis that a rule makes of the time of `value` (see `Axis`). Raises `ShapeError` if no step is left."""
    if value.axis is not None:
        return None, value.axis.after(add, divide, multiply)
    time = value.shape[0] or 0
    steps = max(time + add, 0) // divide * multiply
    if steps < 1:
        raise ShapeError(f"layer {where!r}: {time} steps are too few")
    return steps, None
