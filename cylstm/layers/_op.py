"""What every operation tells the graph about itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..activations import resolve_activation
from ..errors import ShapeError, UnsupportedError
from ..graph import Axis, Option, StaticTimeNeeded, Value


class Op:
    """One operation. A subclass per layer; instances live in `cylstm.layers.OPS`.

    Attributes
    ----------
    name : str
        The key in `OPS`, and the operation's name in ``csrc/layers``.
    defaults : dict
        Every option with its default; a node's options have exactly these keys.
    reads_mask : bool
        Whether the mask of "x" is handed to the node.
    """

    name: str
    defaults: Mapping[str, Option] = {}
    reads_mask = False

    def infer(
        self,
        where: str,
        inputs: Mapping[str, Value],
        weights: Mapping[str, np.ndarray],
        options: Mapping[str, Option],
    ) -> dict[str, Value]:
        """Check a call and describe its outputs by role (their names are set by the caller).

        Raises
        ------
        ShapeError, UnsupportedError
            With `where`, the layer's name, in the message.
        """
        raise NotImplementedError

    def state(
        self, weights: Mapping[str, np.ndarray], options: Mapping[str, Option]
    ) -> Sequence[tuple[str, tuple[int, ...]]]:
        """``((label, shape without batch), ...)`` of what the op carries from step to step; empty if nothing."""
        return ()

    def streams(self, options: Mapping[str, Option]) -> str | None:
        """None if the op can run piece by piece over time, else the reason why it cannot."""
        return None

    def limit(self, weights: Mapping[str, np.ndarray], options: Mapping[str, Option]) -> int | None:
        """What all its indices must be below; None for an op that reads none."""
        return None


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


def check_shape(where: str, tensor: str, array: np.ndarray, expected: tuple[int, ...]) -> None:
    """Raise `ShapeError` unless `array` has the `expected` shape."""
    if tuple(array.shape) != tuple(expected):
        raise ShapeError(
            f"layer {where!r}, tensor {tensor!r}: expected shape {tuple(expected)}, found {tuple(array.shape)}"
        )


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


def check_kind(where: str, value: Value, kinds: Sequence[str]) -> None:
    """Raise `ShapeError` unless `value` is of one of `kinds`."""
    if value.kind not in kinds:
        raise ShapeError(
            f"layer {where!r}: expected a {' or '.join(kinds)} as input, found the {value.kind} {value.name!r}"
        )


def check_activation(where: str, options: Mapping[str, Option], slot: str, *, gate: bool = False) -> None:
    """Raise `UnsupportedError` unless ``options[slot]`` is a canonical activation; a gate's is never softmax."""
    found = options[slot]
    what = f"layer {where!r}, option {slot!r}"
    name, _, _ = resolve_activation(found, options[f"{slot}_alpha"], options[f"{slot}_beta"], where=what)
    if name != found:
        raise UnsupportedError(f"{what}: expected the canonical name {name!r}, found {found!r}")
    if gate and name == "softmax":
        raise UnsupportedError(f"{what}: softmax needs the whole axis and cannot be a gate's activation")
