"""What operations share that read or change axes, and options that are whole numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cylstm.errors import ShapeError, UnsupportedError
from cylstm.graph.graph import Axis, Option, StaticTimeNeeded, Value
from cylstm.graph.layers._layer import check_kind


def check_steps(where: str, value: Value) -> None:
    """Raise `ShapeError` unless `value` is a sequence (time, ..., features)."""
    check_kind(where, value, ("sequence",))


def kind_of(shape: Sequence[int | None]) -> str:
    """The kind of a value of this shape: the first of several axes is time."""
    return "sequence" if len(shape) > 1 else "vector"


def derived_time(
    where: str, value: Value, add: int, divide: int = 1, multiply: int = 1
) -> tuple[int | None, Axis | None]:
    """Steps and axis of what a rule makes of the time of `value` (see `Axis`). Raises `ShapeError` if none are left."""
    if value.axis is not None:
        return None, value.axis.after(add, divide, multiply)
    steps = max(value.shape[0] + add, 0) // divide * multiply
    if steps < 1:
        raise ShapeError(f"layer {where!r}: {value.shape[0]} steps are too few")
    return steps, None


def need_shape(where: str, value: Value, why: str) -> tuple[int, ...]:
    """The shape of a value, all of it known. Raises `StaticTimeNeeded`."""
    if None in value.shape:
        raise StaticTimeNeeded(
            f"layer {where!r}: {why} needs the number of steps in advance, found shape {value.shape} of {value.name!r}"
        )
    return tuple(value.shape)


def find_axis(where: str, value: Value, axis: object) -> int:
    """`axis` of a value's shape without batch, negative from the end. Raises `ShapeError` if it is not there."""
    rank = len(value.shape)
    if isinstance(axis, bool) or not isinstance(axis, int) or not -rank <= axis < rank:
        raise ShapeError(f"layer {where!r}: expected an axis of {value.shape} (batch not counted), found {axis!r}")
    return axis % rank


def check_whole_number(where: str, options: Mapping[str, Option], name: str, least: int, most: int = 1 << 24) -> int:
    """The option as an int. Raises `UnsupportedError` unless it is a whole number from `least` to `most`."""
    number = options[name]
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
        raise UnsupportedError(
            f"layer {where!r}: option {name} expected a whole number from {least} to {most}, found {number!r}"
        )
    return number
