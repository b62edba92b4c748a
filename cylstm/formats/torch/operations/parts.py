"""Operations that take parts of a tensor, and that join tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cylstm.formats.torch.network import Network
from cylstm.formats.torch.operations.axes import unsqueeze
from cylstm.formats.torch.tensor import BATCH, Stack, Tensor, Unavailable, listed
from cylstm.graph.values import StaticTimeNeeded


def narrow(net: Network, x: object, dim: int, start: int, length: int) -> Tensor:
    x = net.tensor(x)
    axis = net.axis(x, dim)
    if x.size(axis) == length:
        return x
    options = {"axis": x.axes[axis], "start": start, "count": length}
    return Tensor(net.add_layer("slice", x.value, options=options), x.axes)


def cut(net: Network, x: Tensor, axis: int, start: int, before_end: int, step: int = 1) -> Tensor:
    """``x[start : len - before_end : step]`` of one of PyTorch's axes."""
    if not start and not before_end and step == 1:
        return x
    if x.axes[axis] is None:
        x = net.last(x, axis)
    options = {"axis": x.axes[axis], "start": start, "before_end": before_end, "step": step}
    return Tensor(net.add_layer("slice", x.value, options=options), x.axes)


def part(net: Network, x: Tensor, axis: int, taken: slice) -> Tensor:
    """``x[start:stop:step]`` of one axis."""
    size = x.size(axis)
    start, stop, step = taken.start, taken.stop, 1 if taken.step is None else taken.step
    if stop == size:
        stop = None
    if (start, stop, step) in ((None, None, 1), (0, None, 1)):
        return x
    if x.axes[axis] == BATCH:
        raise net.refuse("a part of the batch mixes its rows, which are predicted each for itself")
    if stop is not None and x.cropped and (start in (None, 0)) and step == 1 and stop == -x.cropped:
        return Tensor(x.value, x.axes)
    if isinstance(size, int):
        start, stop, step = slice(start, stop, step).indices(size)
        count = len(range(start, stop, step))
        if not count:
            raise net.refuse("an empty part of an axis")
        if x.axes[axis] is None:
            return x
        options = {"axis": x.axes[axis], "start": start, "count": count, "step": step}
        return Tensor(net.add_layer("slice", x.value, options=options), x.axes)
    start = 0 if start is None else start
    before_end = 0 if stop is None else -stop
    if not isinstance(start, int) or start < 0 or before_end < 0:
        raise StaticTimeNeeded(f"layer {net.name!r}: such a part of the time needs the number of steps in advance")
    return cut(net, x, axis, start, before_end, step)


def select(net: Network, x: Any, dim: int, index: int) -> Tensor:
    """One index of an axis, which the result no longer has."""
    x = net.tensor(x)
    axis = net.axis(x, dim)
    left = x.axes[:axis] + x.axes[axis + 1 :]
    stored, size = x.axes[axis], x.size(axis)
    if isinstance(size, int) and not -size <= index < size:
        raise net.refuse(f"index {index} of an axis of {size}")
    if stored is None:
        return Tensor(x.value, left)
    if (
        stored == 0
        and x.value.has_time
        and len(x.value.shape) > 1
        and (index == -1 or (isinstance(size, int) and index == size - 1))
    ):
        # the last step; where a length ends a row, its last one
        value = net.add_layer("last", x.value)
        return Tensor(value, tuple(a - 1 if a not in (None, BATCH) else a for a in left))
    index = index % size if isinstance(size, int) else index
    return Tensor(net.add_layer("slice", x.value, options={"axis": stored, "start": index, "count": 1}), left)


def getitem(net: Network, x: Any, index: Any) -> object:
    if isinstance(x, (tuple, list)):
        return x[index]
    if isinstance(x, Unavailable):
        raise net.refuse(x.reason)
    if isinstance(x, Stack):
        if isinstance(index, int):
            return Tensor(x.parts[index], (BATCH, 0))
        if isinstance(index, slice):
            return Stack(x.parts[index])
    x = net.tensor(x)
    index = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in index:
        place = index.index(Ellipsis)
        used = sum(one is not None and one is not Ellipsis for one in index)
        index[place : place + 1] = [slice(None)] * (len(x.axes) - used)
    axis = 0
    for one in index:
        if one is None:
            x = unsqueeze(net, x, axis)
            axis += 1
        elif isinstance(one, slice):
            x = part(net, x, axis, one)
            axis += 1
        elif isinstance(one, int) and not isinstance(one, bool):
            x = select(net, x, axis, one)
        else:
            raise net.refuse("indices that are not plain numbers and slices are not supported")
    return x


def split(net: Network, x: Any, sizes: Any, dim: int = 0) -> tuple[Any, ...]:
    x = net.tensor(x)
    axis = net.axis(x, dim)
    total = x.size(axis)
    if not isinstance(total, int):
        raise net.refuse("a split of the time needs the number of steps in advance")
    if isinstance(sizes, int):
        sizes = [min(sizes, total - start) for start in range(0, total, sizes)]
    if sum(sizes) != total:
        raise net.refuse(f"a split of {total} numbers into {list(sizes)}")
    parts, start = [], 0
    for size in sizes:
        parts.append(narrow(net, x, axis, start, size))
        start += size
    return tuple(parts)


def chunk(net: Network, x: Any, chunks: int, dim: int = 0) -> tuple[Any, ...]:
    x = net.tensor(x)
    total = x.size(net.axis(x, dim))
    if not isinstance(total, int):
        raise net.refuse("a split of the time needs the number of steps in advance")
    return split(net, x, math.ceil(total / chunks), dim)


def unbind(net: Network, x: Any, dim: int = 0) -> tuple[Any, ...]:
    x = net.tensor(x)
    total = x.size(net.axis(x, dim))
    if not isinstance(total, int):
        raise net.refuse("unbind of the time needs the number of steps in advance")
    return tuple(select(net, x, dim, i) for i in range(total))


def cat(net: Network, tensors: Sequence[Any], dim: int = 0, *, axis: int | None = None) -> object:
    dim = dim if axis is None else axis
    return net.concat([net.tensor(one) for one in tensors], dim)


def stack(net: Network, tensors: Sequence[Any], dim: int = 0) -> Tensor:
    return net.concat([unsqueeze(net, one, dim) for one in tensors], dim)


def flip(net: Network, x: object, *dims: Any) -> Tensor:
    x = net.tensor(x)
    dims = tuple(listed(dims))
    for dim in dims:
        axis = net.axis(x, dim)
        if x.axes[axis] is None:
            continue
        order = [axis, *[i for i in x.stored if i != axis]]
        value = net.arrange(x, order)
        if len(value.shape) == 1:
            raise net.refuse("flip of the features alone is not supported")
        x = net.place(net.add_layer("reverse", value), order, x)
    return x
