"""Checks that the kinds of layers share: of roles, shapes, masks, axes and options."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cylstm.errors import ShapeError, UnsupportedError
from cylstm.graph.activations import resolve_activation
from cylstm.graph.values import Axis, Kind, Option, StaticTimeNeeded, Value
from cylstm.graph.weights import Tensor

#: the kinds of values that hold numbers to compute with
DATA: tuple[Kind, ...] = ("sequence", "vector", "state")


def check_roles(
    where: str, found: Mapping[str, object], required: Sequence[str], optional: Sequence[str], what: str
) -> None:
    """Raise `ShapeError` unless `found` has all `required` keys and no others than those and `optional`."""
    missing = [role for role in required if role not in found]
    extra = [role for role in found if role not in (*required, *optional)]
    if missing or extra:
        raise ShapeError(
            f"layer {where!r}: {what} expected {', '.join(required) or 'none'}"
            + (f" (and perhaps {', '.join(optional)})" if optional else "")
            + f"; found {', '.join(found) or 'none'}"
        )


def check_shape(where: str, role: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    """Raise `ShapeError` unless the tensor has the `expected` shape."""
    if tuple(tensor.shape) != tuple(expected):
        raise ShapeError(
            f"layer {where!r}, tensor {role!r}: expected shape {tuple(expected)}, found {tuple(tensor.shape)}"
        )


def check_vectors(where: str, weights: Mapping[str, Tensor], sizes: Mapping[str, int]) -> None:
    """Raise `ShapeError` unless each tensor of `sizes` that is given is a vector of that size."""
    for role, size in sizes.items():
        if role in weights:
            check_shape(where, role, weights[role], (size,))


def check_kind(where: str, value: Value, kinds: Sequence[Kind]) -> None:
    """Raise `ShapeError` unless `value` is of one of `kinds`."""
    if value.kind not in kinds:
        raise ShapeError(
            f"layer {where!r}: expected a {' or '.join(kinds)} as input, found the {value.kind} {value.name!r}"
        )


def check_mask(where: str, mask: Value, value: Value, role: str = "mask") -> None:
    """Raise `ShapeError` unless `mask` is a mask over the time of `value`."""
    check_kind(where, mask, ("mask",))
    if mask.shape != value.shape[:1] or mask.axis != value.axis:
        raise ShapeError(f"layer {where!r}: {role} {mask.name!r} is not of the time of {value.name!r}")


def check_activation(where: str, options: Mapping[str, Option], slot: str, *, gate: bool = False) -> None:
    """Raise `UnsupportedError` unless ``options[slot]`` is a canonical activation; a gate's is never softmax."""
    found = options[slot]
    what = f"layer {where!r}, option {slot!r}"
    alpha, beta = float(options[f"{slot}_alpha"]), float(options[f"{slot}_beta"])
    name, _, _ = resolve_activation(found, alpha, beta, where=what)
    if name != found:
        raise UnsupportedError(f"{what}: expected the canonical name {name!r}, found {found!r}")
    if gate and name == "softmax":
        raise UnsupportedError(f"{what}: softmax needs the whole axis and cannot be a gate's activation")


def activation_defaults(**slots: str) -> dict[str, Option]:
    """Default options of activation slots, given as ``slot="tanh"``."""
    found: dict[str, Option] = {}
    for slot, name in slots.items():
        found |= {slot: name, f"{slot}_alpha": 0.0, f"{slot}_beta": 0.0}
    return found


def check_choice(where: str, options: Mapping[str, Option], name: str, choices: Sequence[str]) -> str:
    """The option as a text. Raises `UnsupportedError` unless it is one of `choices`."""
    if options[name] not in choices:
        expected = " or ".join(map(repr, choices))
        raise UnsupportedError(f"layer {where!r}: option {name} expected {expected}, found {options[name]!r}")
    return str(options[name])


def check_number(where: str, options: Mapping[str, Option], name: str, *, least: float) -> None:
    """Raise `UnsupportedError` unless the option is a finite number of at least `least`."""
    number = options[name]
    if isinstance(number, str) or not math.isfinite(number) or number < least:
        raise UnsupportedError(
            f"layer {where!r}: option {name} expected a number of at least {least}, found {number!r}"
        )


def check_whole_number(where: str, options: Mapping[str, Option], name: str, least: int, most: int = 1 << 24) -> int:
    """The option as an int. Raises `UnsupportedError` unless it is a whole number from `least` to `most`."""
    number = options[name]
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
        raise UnsupportedError(
            f"layer {where!r}: option {name} expected a whole number from {least} to {most}, found {number!r}"
        )
    return number


# Axes


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
