"""What stands for the tensors of a network while its graph is built.

PyTorch's tensors have a batch axis anywhere and their other axes in any order; the graph's values have no batch axis
and their time first. A `Tensor` here is a value and where each of PyTorch's axes is in it, so permuting, inserting and
dropping axes cost nothing until an operation needs another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cylstm.graph.values import Value

#: the batch among `Tensor.axes`
BATCH = -1


@dataclass(frozen=True)
class Dim:
    """The size of a tensor's axis that is no number: of the batch, of a time not known in advance, or a product."""

    of: object

    def __repr__(self) -> str:
        if isinstance(self.of, tuple):
            return " * ".join(map(repr, self.of))
        return "batch" if self.of == "batch" else "time"


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the network.

    Attributes
    ----------
    value : Value
    axes : tuple of int or None
        For each of PyTorch's axes: which axis of `value` it is, `BATCH`, or None for one of size 1 that is not stored.
        Axes of `value` that are not among them have size 1.
    unpadded : (Tensor, int, int, int) or None
        If this is another tensor with zeros before and after one axis: that tensor, the axis and how many.
    cropped : int
        So many steps that the module will cut off the end are not there already.
    """

    value: Value
    axes: tuple[int | None, ...]
    unpadded: tuple[Tensor, int, int, int] | None = None
    cropped: int = 0

    @property
    def shape(self) -> tuple[int | Dim, ...]:
        return tuple(self.size(i) for i in range(len(self.axes)))

    def size(self, axis: int) -> int | Dim:
        stored = self.axes[axis]
        if stored == BATCH:
            return Dim("batch")
        size = 1 if stored is None else self.value.shape[stored]
        return Dim(self.value.axis) if size is None else size

    @property
    def batch(self) -> int:
        return self.axes.index(BATCH)

    @property
    def inner(self) -> list[int]:
        """PyTorch's axes but for the batch."""
        return [i for i, axis in enumerate(self.axes) if axis != BATCH]

    @property
    def stored(self) -> list[int]:
        """PyTorch's axes that are stored, in the order of the value."""
        return [
            i for _, i in sorted((axis, i) for i, axis in enumerate(self.axes) if axis is not None and axis != BATCH)
        ]


@dataclass(frozen=True, eq=False)
class Stack:
    """The h_n or c_n of a recurrent layer, (layers * directions, batch, size): its parts, until a tensor is needed."""

    parts: tuple[Value, ...]

    @property
    def shape(self) -> tuple[int | Dim, ...]:
        return (len(self.parts), Dim("batch"), self.parts[0].features)


@dataclass(frozen=True, eq=False)
class Scores:
    """Query and key of attention written as products, (batch, [heads,] time, size), until the values are multiplied."""

    query: Tensor
    key: Tensor
    scale: float = 1.0
    is_softmax: bool = False


@dataclass(frozen=True, eq=False)
class Rows:
    """A tensor (batch * time, ...): `steps` is it with the two axes apart, in this order or the other."""

    steps: Tensor

    @property
    def shape(self) -> tuple[int | Dim, ...]:
        sizes = self.steps.shape
        return (Dim(sizes[:2]), *sizes[2:])


@dataclass(frozen=True, eq=False)
class Frames:
    """As `Rows`, what one frame after the other gives: tensors, or tuples and states of them."""

    frames: tuple[Any, ...]
    time_first: bool

    @property
    def shape(self) -> tuple[int | Dim, ...]:
        batch, *sizes = self.frames[0].shape
        return (Dim((len(self.frames), batch) if self.time_first else (batch, len(self.frames))), *sizes)


@dataclass(frozen=True)
class Unavailable:
    """A result that is not computed; it is an error to read it."""

    reason: str


#: what stands for tensors of the network while it is built
SYMBOLS = (Tensor, Stack, Scores, Unavailable, Rows, Frames)


def is_constant(found: object) -> bool:
    return isinstance(found, (int, float)) or (hasattr(found, "dtype") and not isinstance(found, (*SYMBOLS, Dim)))


def listed(arguments: tuple[Any, ...]) -> Sequence[Any]:
    """Sizes or axes, which PyTorch takes one by one or as one tuple or list."""
    return arguments[0] if len(arguments) == 1 and isinstance(arguments[0], (tuple, list)) else arguments


def flat(found: object) -> list[Any]:
    """What is in a nest of arguments."""
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, slice):
        found = [found.start, found.stop, found.step]
    if isinstance(found, (list, tuple)):
        return [one for part in found for one in flat(part)]
    return [found]
