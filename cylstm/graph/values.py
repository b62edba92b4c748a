"""What flows through a graph: values with a kind, a shape, a mask and a time axis."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal, NoReturn, Self, TypeAlias

import numpy as np

from cylstm.errors import ShapeError

Kind: TypeAlias = Literal["sequence", "vector", "mask", "state", "index"]
#: an option of a layer
Option: TypeAlias = str | float | int | bool

#: the largest number of axes of a value, batch not counted
MAX_RANK = 8
#: the largest number of rules of an `Axis`
MAX_TIME_RULES = 4
#: the most steps of an input up to which the lengths of two axes are compared
MOST_COMPARED = 1 << 15


class StaticTimeNeeded(ShapeError):
    """A layer needs to know the number of steps in advance: give the input a shape with a number instead of None."""


class ReadOnly:
    """Base of small objects that never change. Their ``__init__`` passes all that it takes to `_set`, by name.

    (`typing.NamedTuple` and dataclasses compile code for every class: that took 0.6 ms of the start with a ``.cylstm``
    file, and 4 ms of that with a state dict.)
    """

    def _set(self, **items: object) -> None:
        self.__dict__.update(items)

    def _replace(self, **changes: Any) -> Self:
        """A copy with some items changed."""
        return type(self)(**self.__dict__ | changes)

    def __setattr__(self, name: str, item: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} is read-only; make another {type(self).__name__}")

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)

    def __eq__(self, other: object) -> bool:
        return self.__dict__ == other.__dict__ if isinstance(other, type(self)) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join([f'{name}={item!r}' for name, item in self.__dict__.items()])})"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **self.__dict__), ()


class Axis(ReadOnly):
    """A time axis whose length is an input's, or follows from it by rules.

    A rule ``(add, divide, multiply)`` makes ``floor((length + add) / divide) * multiply`` of a length. A convolution or
    pooling with stride s whose window reaches over r steps, with p steps of padding, has ``(p - r + s, s, 1)``;
    cropping n steps ``(-n, 1, 1)``; upsampling ``(0, 1, k)``. `after` joins consecutive rules, so that two axes of the
    same length are equal however they came about.

    Attributes
    ----------
    source : str
        The input's name.
    rules : tuple of (int, int, int)
    """

    source: str
    rules: tuple[tuple[int, int, int], ...]

    def __init__(self, source: str, rules: tuple[tuple[int, int, int], ...] = ()) -> None:
        self._set(source=source, rules=rules)

    def after(self, add: int, divide: int, multiply: int) -> Axis:
        """The axis with one more rule, joined with those before it as far as one rule can say the same as two."""
        rules = self.rules
        while (add, divide, multiply) != (0, 1, 1):
            if not rules:
                return Axis(self.source, ((add, divide, multiply),))
            last_add, last_divide, last_multiply = rules[-1]
            rules = rules[:-1]
            # floor((n * m + add) / divide) of a whole number n, without the factors that m and divide share
            shared = math.gcd(last_multiply, divide)
            last_multiply, divide, add = last_multiply // shared, divide // shared, add // shared
            # n * m + add is (n + k) * m + add - k * m; with the k for which -m < add - k * m <= 0, none stays none
            more = -(-add // last_multiply)
            last_add, add = last_add + more * last_divide, add - more * last_multiply
            if last_multiply == 1:
                add, divide = last_add, last_divide * divide
                continue
            if divide == 1:
                last_multiply, add, multiply = last_multiply * multiply, add * multiply, 1
            rules = (*rules, (last_add, last_divide, last_multiply))
            return Axis(self.source, rules if (add, divide) == (0, 1) else (*rules, (add, divide, multiply)))
        return Axis(self.source, rules)

    def settles(self) -> int:
        """How many steps the input must have so that no rule has too few of them."""
        least = 0
        for add, divide, multiply in reversed(self.rules):
            least = max(-(-least // multiply) * divide - add, 0)
        return least

    def length(self, time: int) -> int:
        """Number of steps where the input has `time`; 0 if the input has too few."""
        for add, divide, multiply in self.rules:
            time = (time + add) // divide * multiply
            if time < 1:
                return 0
        return time

    def least_lead(self, other: Axis) -> int | None:
        """How many more steps this axis has than `other` at least, wherever `other` has any; None if the lead grows or
        shrinks without end, or if it would take too long to find out.
        """
        period = math.lcm(*[math.prod([rule[1] for rule in axis.rules]) for axis in (self, other)])
        end = max(self.settles(), other.settles()) + 2 * period
        if self.source != other.source or end > MOST_COMPARED or max(self._bound(end), other._bound(end)) > 1 << 52:
            return None
        own, of_other = self._lengths(end), other._lengths(end)
        leads = own - of_other
        return int(leads[of_other > 0].min()) if leads[end] == leads[end - period] else None

    def _bound(self, end: int) -> int:
        """What no number on the way to a length of up to `end` steps is beyond."""
        return (end + sum([abs(rule[0]) for rule in self.rules])) * math.prod([rule[2] for rule in self.rules])

    def _lengths(self, end: int) -> np.ndarray:
        """`length` for each number of steps up to `end`, as floating-point numbers, exact within `_bound`."""
        found = np.arange(end + 1, dtype=np.float64)
        has_any = found > 0
        for add, divide, multiply in self.rules:
            found = np.floor((found + add) / divide) * multiply
            has_any &= found > 0
        return np.where(has_any, found, 0.0)


class Value(ReadOnly):
    """What one layer writes and others read, or an input of the network.

    Attributes
    ----------
    name : str
        Unique in the graph.
    kind : {"sequence", "vector", "mask", "state", "index"}
        Sequences, masks and indices have a time axis, which comes first; vectors and states have none.
    shape : tuple of int or None
        Without the batch axis; None stands for a time that is not known in advance. A sequence is (time, features),
        or of any higher rank; a vector or a state (features,) or of any rank; a mask (time,); indices (time,) or of
        any rank.
    mask : str or None
        Name of the mask that says which steps of this value are valid.
    axis : Axis or None
        Where the time comes from, if it is not known in advance.
    """

    name: str
    kind: Kind
    shape: tuple[int | None, ...]
    mask: str | None
    axis: Axis | None

    def __init__(
        self, name: str, kind: Kind, shape: tuple[int | None, ...], mask: str | None = None, axis: Axis | None = None
    ) -> None:
        self._set(name=name, kind=kind, shape=shape, mask=mask, axis=axis)

    @property
    def has_time(self) -> bool:
        """Whether the first axis is time."""
        return self.kind in ("sequence", "mask", "index")

    @property
    def step_shape(self) -> tuple[int, ...]:
        """The shape of one step, or of the whole value if it has no time."""
        # only a time can be None
        return self.shape[1:] if self.has_time else self.shape  # type: ignore[return-value]

    @property
    def features(self) -> int:
        """Size of the last axis (1 for a mask)."""
        return int(self.step_shape[-1]) if self.step_shape else 1

    @property
    def size(self) -> int:
        """How many numbers one batch row has at one step (1 for a mask)."""
        return math.prod(self.step_shape)
