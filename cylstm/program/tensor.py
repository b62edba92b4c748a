"""What stands for the tensors of a program while its graph is built.

The tensors of a program have a batch axis anywhere and their other axes in any order; the graph's values have no batch
axis and their time first. A `Tensor` is a value and where each of the program's axes is in it, so permuting, inserting,
joining and dropping axes cost nothing until an operation needs another order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from cylstm.errors import UnsupportedError
from cylstm.graph.values import Axis, Value

#: the batch among `Tensor.axes`
BATCH = -1

#: an axis of the value, `BATCH`, or None for an axis of size 1 that is not stored
Place: TypeAlias = int | None
#: what numbers a tensor holds; whole numbers and truths are stored as floating-point numbers
DType: TypeAlias = Literal["float", "int", "bool"]


@dataclass(frozen=True)
class Dim:
    """A size that is no number: of the batch, of a time not known in advance, or a product of such and a number.

    Attributes
    ----------
    factors : tuple
        "batch", and `Axis` of a time.
    count : int
        The number that they are multiplied by.
    """

    factors: tuple[Any, ...]
    count: int = 1

    def __repr__(self) -> str:
        names = ["batch" if factor == "batch" else "time" for factor in self.factors]
        return " * ".join([*([str(self.count)] if self.count != 1 else []), *names])

    @property
    def axis(self) -> Axis | None:
        """The time that it is, None if it is anything else."""
        return self.factors[0] if len(self.factors) == 1 and self.count == 1 and self.factors[0] != "batch" else None

    def at(self, batch: int, times: Mapping[str, int]) -> int:
        """The number that it is in an example."""
        size = self.count
        for factor in self.factors:
            size *= batch if factor == "batch" else factor.length(times[factor.source])
        return size

    def __mul__(self, other: object) -> Any:
        if isinstance(other, Dim):
            return Dim(self.factors + other.factors, self.count * other.count)
        if type(other) is int:
            return Dim(self.factors, self.count * other) if other else 0
        return NotImplemented

    __rmul__ = __mul__

    def __floordiv__(self, other: object) -> Any:
        if type(other) is int and other > 0:
            if self.count % other == 0:
                return Dim(self.factors, self.count // other)
            return Dim((self._time().after(0, other, 1),))
        if isinstance(other, Dim) and self.count % other.count == 0:
            left = list(self.factors)
            for factor in other.factors:
                if factor not in left:
                    return NotImplemented
                left.remove(factor)
            count = self.count // other.count
            return Dim(tuple(left), count) if left else count
        return NotImplemented

    def __add__(self, other: object) -> Any:
        if type(other) is not int:
            return NotImplemented
        return Dim((self._time().after(other, 1, 1),)) if other else self

    __radd__ = __add__

    def __sub__(self, other: object) -> Any:
        if other == self:
            return 0
        axis = self.axis
        if isinstance(other, Dim) and axis is not None and other.axis is not None:
            shift = _shift(other.axis, axis)
            return NotImplemented if shift is None else shift
        return self + -other if type(other) is int else NotImplemented

    def as_time(self) -> Dim:
        """A multiple of one time as the time of so many steps; any other size as it is."""
        if len(self.factors) == 1 and self.factors[0] != "batch":
            return Dim((self._time(),))
        return self

    def _time(self) -> Axis:
        if len(self.factors) != 1 or self.factors[0] == "batch":
            raise UnsupportedError(f"the size {self!r} is used in arithmetic that depends on the number of rows")
        axis: Axis = self.factors[0]
        return axis.after(0, 1, self.count)


BATCH_SIZE = Dim(("batch",))

Size: TypeAlias = int | Dim


def _shift(a: Axis, b: Axis) -> int | None:
    """How many more steps `b` always has than `a`; None if that is no number."""
    time = max(a.settles(), b.settles()) + math.prod([rule[1] for rule in (*a.rules, *b.rules)])
    shift = b.length(time) - a.length(time)
    return shift if a.after(shift, 1, 1) == b else None


def time_size(axis: Axis) -> Dim:
    """The size of a time axis."""
    return Dim((axis,))


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the program.

    Attributes
    ----------
    value : Value
    axes : tuple
        For each of the program's axes: which axis of `value` it is, `BATCH`, or None for one of size 1 that is not
        stored; a tuple of these for axes joined into one, such as (batch * time, features). Axes of `value` that are
        not among them have size 1.
    dtype : {"float", "int", "bool"}
    unpadded : (Tensor, int, int, int) or None
        If this is another tensor with zeros before and after one axis: that tensor, the axis and how many.
    cropped : int
        So many steps that the program will cut off the end are not there already.
    """

    value: Value
    axes: tuple[Place | tuple[Place, ...], ...]
    dtype: DType = "float"
    unpadded: tuple[Tensor, int, int, int] | None = None
    cropped: int = 0

    @property
    def shape(self) -> tuple[Size, ...]:
        return tuple(self.size(i) for i in range(len(self.axes)))

    @property
    def ndim(self) -> int:
        return len(self.axes)

    def size(self, axis: int) -> Size:
        places = self.axes[axis]
        if isinstance(places, tuple):
            found: Any = 1
            for place in places:
                found = self._size(place) * found if isinstance(found, int) else found * self._size(place)
            return found  # type: ignore[no-any-return]
        return self._size(places)

    def _size(self, place: Place) -> Size:
        if place == BATCH:
            return BATCH_SIZE
        size = 1 if place is None else self.value.shape[place]
        if size is None:
            assert self.value.axis is not None
            return time_size(self.value.axis)
        return size

    @property
    def is_joined(self) -> bool:
        """Whether some of its axes are several of the value's."""
        return any(isinstance(places, tuple) for places in self.axes)

    @property
    def batch(self) -> int:
        """The axis that is the batch, or of which it is a part; -1 if all rows have the same numbers."""
        for i, places in enumerate(self.axes):
            if places == BATCH or (isinstance(places, tuple) and BATCH in places):
                return i
        return -1

    @property
    def inner(self) -> list[int]:
        """Its axes but for the batch."""
        return [i for i, place in enumerate(self.axes) if place != BATCH]

    @property
    def stored(self) -> list[int]:
        """Its axes that are stored, in the order of the value. None of them may be joined."""
        places = [(place, i) for i, place in enumerate(self.axes) if place is not None and place != BATCH]
        return [i for _, i in sorted(places)]

    def with_axes(self, axes: Sequence[Place | tuple[Place, ...]]) -> Tensor:
        """The same numbers under other axes."""
        return Tensor(self.value, tuple(axes), self.dtype)

    def of(self, dtype: DType) -> Tensor:
        """The same numbers as another type."""
        return self if dtype == self.dtype else replace(self, dtype=dtype)


@dataclass(frozen=True)
class Varying:
    """A whole number of the program that is another one in each of the examples of which it was recorded."""

    values: tuple[int, ...]

    def __neg__(self) -> Varying:
        return Varying(tuple(-value for value in self.values))


@dataclass(frozen=True, eq=False)
class Constant:
    """Numbers that are known, with sizes that are not: the array has size 1 along each axis whose size is a `Dim`.

    Arrays whose sizes are all known are plain NumPy arrays.
    """

    array: np.ndarray
    shape: tuple[Size, ...]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> DType:
        return dtype_of(self.array)


def constant(array: np.ndarray, shape: Sequence[Size]) -> Constant | np.ndarray:
    """A `Constant`, or the array if all sizes are known; repeated where its own size is 1 and the shape's is not."""
    sizes = tuple(1 if isinstance(size, Dim) else size for size in shape)
    array = np.broadcast_to(array, sizes)
    return Constant(array, tuple(shape)) if any(isinstance(size, Dim) for size in shape) else array


@dataclass(frozen=True, eq=False)
class Scores:
    """Query and key of attention written as products, (batch, [heads,] time, size), until the values are multiplied.

    Attributes
    ----------
    query, key : Tensor
    compute : callable
        Gives, of the network and these, the scores as a tensor.
    scale : float
    is_softmax : bool
    causal : bool
        Each query sees the keys up to its own step.
    mask : numpy.ndarray or None
        What was added where it does not, for where the scores themselves are read.
    is_filled : bool
        It was not added but written there.
    joined : bool
        The program has joined batch and heads into one axis.
    keys : Value or None
        A mask of the keys that count.
    """

    query: Tensor
    key: Tensor
    compute: Callable[..., Tensor]
    scale: float = 1.0
    is_softmax: bool = False
    causal: bool = False
    mask: np.ndarray | None = None
    is_filled: bool = False
    joined: bool = False
    keys: Value | None = None

    @property
    def shape(self) -> tuple[Size, ...]:
        shape = self.query.shape
        rows: tuple[Size, ...] = (shape[0] * shape[1],) if self.joined else shape[:-2]
        return (*rows, shape[-2], self.key.shape[-2])

    @property
    def ndim(self) -> int:
        return len(self.shape)


@dataclass(frozen=True, eq=False)
class Stack:
    """Tensors of one shape along a new first axis, such as the h_n of a recurrent layer, until they are joined."""

    parts: tuple[Tensor, ...]

    @property
    def shape(self) -> tuple[Size, ...]:
        return (len(self.parts), *self.parts[0].shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)


@dataclass(frozen=True, eq=False)
class Packed:
    """A sequence of which only some steps count, as the recurrent layers take it.

    Attributes
    ----------
    tensor : Tensor
    mask : Value
        Which steps count.
    is_computed : bool
        The network computes which they are; else they are given with the input.
    """

    tensor: Tensor
    mask: Value
    is_computed: bool = False

    @property
    def shape(self) -> tuple[Size, ...]:
        return self.tensor.shape


@dataclass(frozen=True)
class RowNumbers:
    """0, 1, 2, ... of the rows of a batch: of use only to choose from each row a place of its own."""

    shape: tuple[Size, ...] = (BATCH_SIZE,)


@dataclass(frozen=True)
class Unavailable:
    """A result that is not computed; it is an error to read it."""

    reason: str


#: what stands for tensors that the network computes
SYMBOLS = (Tensor, Stack, Scores, Unavailable)


def is_constant(found: object) -> bool:
    """Whether it is a number or an array that is known."""
    return isinstance(found, (bool, int, float, np.ndarray, np.generic, Constant))


def dtype_of(found: object) -> DType:
    """What numbers something holds."""
    if isinstance(found, (Tensor, Constant)):
        return found.dtype
    if isinstance(found, (Stack, Scores, Unavailable)):
        return "float"
    if isinstance(found, Dim):
        return "int"
    kind = np.asarray(found).dtype.kind
    return "bool" if kind == "b" else "int" if kind in "iu" else "float"


def shape_of(found: Any) -> tuple[Size, ...]:
    """The shape of a tensor or a constant."""
    return tuple(found.shape) if hasattr(found, "shape") else ()


def flat(found: object) -> list[Any]:
    """What is in a nest of arguments."""
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, slice):
        found = [found.start, found.stop, found.step]
    if isinstance(found, (list, tuple)):
        return [one for part in found for one in flat(part)]
    return [found]
