"""Constants that a program makes, and places that it computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cylstm.graph.values import Option
from cylstm.program.network import MIXES, Network
from cylstm.program.tensor import (
    BATCH,
    BATCH_SIZE,
    Dim,
    DType,
    RowNumbers,
    Size,
    Tensor,
    constant,
    is_constant,
)

#: the most numbers of one constant that a program makes of sizes alone: a few bytes of a file can ask for any number
MOST_NUMBERS = 1 << 25


def checked(net: Network, count: float) -> None:
    """Raise `UnsupportedError` about a constant of more numbers than any network needs."""
    if count > MOST_NUMBERS:
        raise net.refuse(f"a constant of {count:.3g} numbers is not supported; at most {MOST_NUMBERS:,} are")


def numpy_dtype(net: Network, dtype: DType) -> Any:
    """The type of constants."""
    return {"float": net.dtype, "int": np.dtype(np.int64), "bool": np.dtype(bool)}[dtype]


def full(net: Network, shape: Sequence[Size], value: Any, dtype: DType) -> Any:
    """One number everywhere, also over sizes that are not known."""
    if not is_constant(value):
        from cylstm.program.operations.elementwise import cast
        from cylstm.program.operations.shape import expand

        return expand(net, cast(net, value, dtype), shape)
    sizes = [1 if isinstance(size, Dim) else int(size) for size in shape]
    checked(net, math.prod(sizes))
    return constant(np.full(sizes, value).astype(numpy_dtype(net, dtype)), shape)


def arange(net: Network, start: Any, stop: Any, step: Any, dtype: DType | None) -> Any:
    """start, start + step, ... up to `stop`, which may be a time."""
    if not isinstance(stop, Dim) and not isinstance(start, Dim):
        checked(net, (stop - start) / step)
        array = np.arange(start, stop, step)
        return array.astype(numpy_dtype(net, dtype)) if dtype else array
    if stop == BATCH_SIZE and start == 0 and step == 1:
        return RowNumbers()
    if isinstance(start, Dim):
        raise net.needs_time("a range that begins at the number of steps")
    size = stop - start if start else stop
    if step != 1 and isinstance(step, int) and step > 0:
        size = (size + (step - 1)) // step
    if step == -1 or size.axis is None:
        raise net.needs_time(f"a range up to {stop!r}")
    found = net.positions(size.axis, float(start), float(step))
    return found if dtype is None else found.of(dtype)


def gather(net: Network, x: Any, index: Any, dim: int) -> Tensor:
    """The numbers at computed places of one axis, as `numpy.take_along_axis` gives them: the other axes are matched."""
    x = net.constant(x) if is_constant(x) else net.tensor(x)
    index = net.constant(index) if is_constant(index) else net.tensor(index)
    if x.ndim != index.ndim:
        raise net.refuse(f"expected places of {x.ndim} axes, found {index.shape}")
    axis = net.axis(x, dim)
    (x, index), counts = net.apart([x, index])
    if max(counts) > 1:
        raise net.refuse("places of joined axes are not supported")
    for i in range(x.ndim):
        if BATCH in (x.axes[i], index.axes[i]) and not {x.size(i), index.size(i)} <= {1, BATCH_SIZE}:
            raise net.refuse(f"{MIXES}: shapes {x.shape} and {index.shape}")
    order = [i for i in range(x.ndim) if i in {*x.stored, *index.stored, axis}]
    order.sort(key=lambda i: not (isinstance(x.size(i), Dim) or isinstance(index.size(i), Dim)))
    values = [net.arrange(one, order) for one in (x, index)]
    options: dict[str, Option] = {"axis": order.index(axis)}
    value = net.add_layer("take_along", values[0], options=options, indices=values[1])
    like = x if BATCH in x.axes else index
    return net.place(value, order, like).of(x.dtype)


def from_front(net: Network, places: Any, size: Size) -> Any:
    """Places of which those below 0 count from the end, as counted from the front."""
    from cylstm.program.operations.elementwise import add, binary, where

    if is_constant(places) and not np.any(np.asarray(getattr(places, "array", places)) < 0):
        return places
    return where(net, binary(net, "less", places, 0), add(net, places, size), places)


def take_along(net: Network, x: Any, places: Tensor, dim: int) -> Tensor:
    """One computed place of an axis for each row, (batch,) of (batch, time, ...): the axis goes."""
    from cylstm.program.operations.shape import squeeze

    x = net.tensor(x)
    places = from_front(net, net.tensor(places), x.size(dim))
    index = places.with_axes((*places.axes, *[None] * (x.ndim - len(places.axes))))
    if index.axes[0] != x.axes[0] or x.axes[0] != BATCH:
        raise net.refuse(MIXES)
    return squeeze(net, gather(net, x, index, dim), dim)  # type: ignore[no-any-return]
