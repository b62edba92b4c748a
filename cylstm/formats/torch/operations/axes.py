"""Operations that move, add, drop and repeat axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cylstm.formats.torch.network import Network
from cylstm.formats.torch.tensor import BATCH, Dim, Tensor, is_constant, listed
from cylstm.graph.values import Axis, StaticTimeNeeded


def permute(net: Network, x: Any, *dims: Any) -> Tensor:
    x = net.tensor(x)
    dims = tuple(listed(dims))
    if sorted(dim % len(x.axes) for dim in dims) != list(range(len(x.axes))):
        raise net.refuse(f"a permutation {dims} of {len(x.axes)} axes")
    return Tensor(x.value, tuple(x.axes[dim] for dim in dims))


def transpose(net: Network, x: Any, dim0: int, dim1: int) -> Tensor:
    x = net.tensor(x) if not (isinstance(x, Tensor) and x.value.kind == "index") else x
    axes = list(x.axes)
    axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
    return Tensor(x.value, tuple(axes))


def matrix_transpose(net: Network, x: Any) -> Tensor:
    return transpose(net, x, -2, -1)


def movedim(net: Network, x: Any, source: int, destination: int) -> Tensor:
    x = net.tensor(x)
    axes = list(x.axes)
    axes.insert(destination % len(axes), axes.pop(source))
    return Tensor(x.value, tuple(axes))


def squeeze(net: Network, x: Any, dim: Any = None) -> Tensor:
    x = net.tensor(x)
    dims = range(len(x.axes)) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = {i % len(x.axes) for i in dims if x.size(i) == 1}
    return Tensor(x.value, tuple(a for i, a in enumerate(x.axes) if i not in gone))


def unsqueeze(net: Network, x: Any, dim: int) -> Tensor:
    x = net.tensor(x)
    axes = list(x.axes)
    axes.insert(dim % (len(axes) + 1), None)
    return Tensor(x.value, tuple(axes))


def expand(net: Network, x: Any, *shape: Any) -> Any:
    """Repeats axes of size 1; -1 and the axis's own size keep it."""
    shape = tuple(listed(shape))
    if is_constant(x):
        return x.expand([1 if isinstance(size, Dim) else size for size in shape])
    x = net.tensor(x)
    rank = len(shape)
    axes = (None,) * (rank - len(x.axes)) + x.axes
    wide = Tensor(x.value, axes)
    for i, size in enumerate(shape):
        if size in (-1, wide.size(i)):
            continue
        if wide.size(i) == 1 and _is_time(size):
            wide = net.repeated_over(wide, i, size)
            continue
        if wide.size(i) != 1 or not isinstance(size, int):
            raise net.refuse(f"an expansion of {x.shape} to {tuple(shape)} is not supported")
        wide = repeated(net, wide, i, size)
    return wide


def _is_time(size: Any) -> bool:
    return isinstance(size, Dim) and isinstance(size.of, Axis)


def repeated(net: Network, x: Tensor, axis: int, count: int) -> Tensor:
    """An axis of size 1 made `count` times as long."""
    if x.axes[axis] is None:
        if any(isinstance(x.size(i), Dim) for i in x.inner):
            x = net.last(x, axis)
        else:
            order = [axis, *x.stored]
            x = net.place(net.arrange(x, order), order, x)
    options = {"axis": x.axes[axis], "size": count}
    return Tensor(net.add_layer("upsample", x.value, options=options), x.axes)


def repeat(net: Network, x: Any, *counts: Any) -> Any:
    counts = tuple(listed(counts))
    if is_constant(x):
        return x.repeat([1 if isinstance(count, Dim) else count for count in counts])
    x = net.tensor(x)
    x = Tensor(x.value, (None,) * (len(counts) - len(x.axes)) + x.axes)
    for i, count in enumerate(counts):
        if count == 1:
            continue
        if _is_time(count) and x.size(i) == 1:
            x = net.repeated_over(x, i, count)
            continue
        if x.axes[i] == BATCH or not isinstance(count, int):
            raise net.refuse(f"a repetition {tuple(counts)} of {x.shape} is not supported")
        x = repeated(net, x, i, count) if x.size(i) == 1 else net.concat([x] * count, i)
    return x


def reshape_axes(net: Network, x: Tensor, shape: Sequence[Any]) -> Tensor:
    """Into another shape, in which the batch stays an axis of its own."""
    sizes = list(x.shape)
    wanted = _filled(net, sizes, shape)
    # the axes in front and behind that stay as they are
    front = 0
    while front < min(len(sizes), len(wanted)) and sizes[front] == wanted[front]:
        front += 1
    back = 0
    while back < min(len(sizes), len(wanted)) - front and sizes[-1 - back] == wanted[-1 - back]:
        back += 1
    if x.batch >= front and x.batch < len(sizes) - back:
        raise net.refuse(f"a reshape of {tuple(sizes)} to {tuple(shape)} mixes the rows of a batch")
    middle = sizes[front : len(sizes) - back], wanted[front : len(wanted) - back]
    if not middle[0] and not middle[1]:
        return x
    changed = list(range(front, len(sizes) - back))
    dims = [size for size in middle[0] if isinstance(size, Dim)]
    inner = x.inner
    if dims and not set(middle[1]) & set(dims):
        net.arrange(Tensor(x.value, x.axes), [*changed[1:], changed[0], *[i for i in inner if i not in changed]])
        raise net.refuse("a reshape over the time needs the number of steps in advance")
    # stored with the axes that change side by side, in PyTorch's order
    others = [i for i in inner if i not in changed and x.axes[i] is not None]
    if any(isinstance(x.size(i), Dim) for i in others):
        others.sort(key=lambda i: not isinstance(x.size(i), Dim))
        order = others + changed
    else:
        order = [i for i in others if i < front] + changed + [i for i in others if i >= front]
    value = net.arrange(x, order)
    begin = order.index(changed[0]) if changed else sum(i < front for i in others)
    if not changed:
        order = [*order[:begin], *order[begin:]]
    new = [x.size(i) for i in order[:begin]] + list(middle[1]) + [x.size(i) for i in order[begin + len(changed) :]]
    text = ",".join("time" if isinstance(size, Dim) else str(size) for size in new)
    # a time alone has an axis of size 1 behind it
    value = net.add_layer("reshape", value, options={"shape": "time,1" if text == "time" else text or "1"})
    places: dict[int, int] = {}
    for i, axis in enumerate(order[:begin]):
        places[axis if axis < front else axis + len(wanted) - len(sizes)] = i
    for i in range(len(middle[1])):
        places[front + i] = begin + i
    for i, axis in enumerate(order[begin + len(changed) :]):
        places[axis if axis < front else axis + len(wanted) - len(sizes)] = begin + len(middle[1]) + i
    batch = x.batch if x.batch < front else x.batch + len(wanted) - len(sizes)
    axes = tuple(BATCH if i == batch else places.get(i) for i in range(len(wanted)))
    return Tensor(value, axes)


def _filled(net: Network, sizes: Sequence[Any], shape: Sequence[Any]) -> list[Any]:
    """The shape wanted, -1 replaced by what is left over."""
    shape = list(shape)
    if any(not (isinstance(size, (int, Dim)) and not isinstance(size, bool)) for size in shape):
        raise net.refuse(f"a shape expected whole numbers, found {shape}")
    if shape.count(-1) > 1:
        raise net.refuse(f"several -1 in the shape {shape}")
    left = [size for size in sizes if isinstance(size, Dim)]
    for size in shape:
        if isinstance(size, Dim):
            if size not in left:
                raise net.refuse(f"a reshape of {tuple(sizes)} to {tuple(shape)}")
            left.remove(size)
    have = math.prod(size for size in sizes if not isinstance(size, Dim))
    known = math.prod(size for size in shape if not isinstance(size, Dim) and size != -1)
    if -1 in shape:
        if len(left) > 1 or not known or have % known or (left and have != known):
            if left and left[0] != Dim("batch"):
                raise StaticTimeNeeded(
                    f"layer {net.name!r}: a reshape over the time needs the number of steps in advance"
                )
            raise net.refuse(f"a reshape of {tuple(sizes)} to {tuple(shape)} mixes the rows of a batch")
        shape[shape.index(-1)] = left[0] if left else have // known
    elif left or have != known:
        raise net.refuse(f"a reshape of {tuple(sizes)} to {tuple(shape)}")
    return shape
