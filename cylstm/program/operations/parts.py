"""Operations that take parts of a tensor, and that join tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cylstm.errors import ShapeError
from cylstm.graph.values import Option
from cylstm.program.network import MIXES, Network
from cylstm.program.operations.shape import unsqueeze
from cylstm.program.tensor import (
    BATCH,
    BATCH_SIZE,
    Constant,
    Dim,
    Stack,
    Tensor,
    Unavailable,
    Varying,
    constant,
    is_constant,
    shape_of,
)

#: what PyTorch writes for "to the end"
_END = (1 << 63) - 1


def slice_axis(net: Network, x: Any, dim: int, start: Any = None, stop: Any = None, step: int = 1) -> Any:
    """``x[start:stop:step]`` of one axis."""
    if isinstance(x, Stack) and dim % x.ndim == 0 and all(isinstance(i, (int, type(None))) for i in (start, stop)):
        return Stack(x.parts[slice(start, None if stop is None else stop, step)])
    shape = shape_of(x)
    axis = dim % len(shape)
    size = shape[axis]
    if isinstance(stop, (int, np.integer)) and stop >= _END:
        stop = None
    if isinstance(size, Dim) and size.axis is not None:
        stop = net.size_of_varying(stop, size.axis) if isinstance(stop, Varying) else stop
        stop = stop.as_time() if isinstance(stop, Dim) else stop
    is_time = isinstance(size, Dim) and isinstance(stop, Dim) and size.axis is not None and stop.axis is not None
    if stop is not None and (stop == size if is_time else net.numbers(stop) == net.numbers(size)):
        if _is_unsure(net, size) and type(stop) is int and not getattr(x, "cropped", 0):
            raise net.needs_time(f"whether a part up to step {stop} ends with the time")
        stop = None
    if start is not None and not isinstance(start, Dim) and net.numbers(start) == net.numbers(0):
        start = None
    if (start, stop, step) == (None, None, 1):
        return x
    if is_constant(x):
        return _slice_constant(net, x, axis, start, stop, step)
    x = net.tensor(x)
    if isinstance(size, int):
        if isinstance(start, (Dim, Varying)) or isinstance(stop, (Dim, Varying)):
            raise net.needs_time("a part whose place depends on the number of steps")
        first, last, step = slice(start, stop, step).indices(size)
        count = len(range(first, last, step))
        if not count:
            raise net.refuse("an empty part of an axis is not supported")
        if count == size and step == 1:
            return x
        if step < 0:
            return take(net, x, np.arange(first, last, step), axis)
        x, place = net.stored_axis(x, axis)
        options: dict[str, Option] = {"axis": place, "start": first, "count": count, "step": step}
        return Tensor(net.add_layer("slice", x.value, options=options), x.axes, x.dtype)
    if size == BATCH_SIZE:
        raise net.refuse(f"a part of the batch {MIXES}")
    if size.axis is None:
        net.axis(x, axis)
        raise net.needs_time("a part of joined axes")
    if start == -1 and stop is None and step == 1:
        return unsqueeze(net, select(net, x, axis, -1), axis)
    # of a time of two steps the first may be all but the last as well
    is_first = start in (None, 0) and type(stop) is int and stop == 1 and step == 1
    if is_first and not (_is_unsure(net, size) and net.numbers(size)[0] <= 2):
        return unsqueeze(net, select(net, x, axis, 0), axis)
    if is_time:
        short = size.__sub__(stop)  # NotImplemented where that is no number
        if not isinstance(short, int):
            x, stop = _as_many_steps(net, x, axis, stop), None
        elif short < 0:
            stop = None
    begin, before_end = of_time(net, size, start, stop)
    if x.cropped and begin == 0 and step == 1 and before_end == x.cropped:
        return Tensor(x.value, x.axes, x.dtype)
    if step < 1:
        raise net.needs_time("a part of the time with a negative step")
    return cut(net, x, axis, begin, before_end, step)


def _is_unsure(net: Network, size: Any) -> bool:
    """Whether a number may be a place in a time of unknown length that was counted from its end."""
    return len(net.examples) == 1 and isinstance(size, Dim) and size.axis is not None


def of_time(net: Network, size: Dim, start: Any, stop: Any) -> tuple[int, int]:
    """How many steps a part of a time of any length begins after, and how many it leaves out at the end."""
    start = net.size(start) if isinstance(start, Varying) else start
    if isinstance(start, Dim) or (isinstance(start, int) and start < 0):
        raise net.needs_time("a part that begins at a place counted from the end of the time")
    if start and _is_unsure(net, size) and 2 * start >= net.numbers(size)[0]:
        raise net.needs_time(f"whether step {start} is counted from the end of the time")
    if stop is None:
        return start or 0, 0
    stop = net.size(stop)
    if isinstance(stop, Dim):
        short = size.__sub__(stop)  # NotImplemented where that is no number
        if isinstance(short, int) and short >= 0:
            return start or 0, short
    elif isinstance(stop, (int, np.integer)) and stop < 0:
        return start or 0, -int(stop)
    elif len(net.examples) == 1 and isinstance(stop, int):
        left = net.numbers(size)[0] - stop
        if left >= 0:
            raise net.needs_time(f"whether a part up to step {stop} ends there, or {left} steps before the end,")
    raise net.needs_time("a part that ends after a number of steps")


def _as_many_steps(net: Network, x: Tensor, axis: int, stop: Dim) -> Tensor:
    """The first steps of `x`, as many as another time has, or all where that has more."""
    own, other = x.value.axis, stop.axis
    if own is None or other is None or other.source != own.source:
        raise net.needs_time("a part that ends after a number of steps")
    lead = own.least_lead(other)
    if lead is not None and lead >= 0:
        x, _ = net.stored_axis(x, axis)
        over = [value for value in net.builder.values() if value.axis == other and value.kind == "sequence"]
        like = over[-1] if over else net.sequence_of(other)
        return Tensor(net.add_layer("slice_like", x.value, x1=like), x.axes, x.dtype)
    short = other.least_lead(own)
    if short is None or short < 0:
        raise net.needs_time("which of two times is shorter, where a part ends after the steps of the other,")
    return x


def _slice_constant(net: Network, x: Any, axis: int, start: Any, stop: Any, step: int) -> Any:
    shape = list(shape_of(x))
    array = np.asarray(x.array if isinstance(x, Constant) else x)
    if isinstance(shape[axis], Dim):
        size: Any = shape[axis]
        if size == BATCH_SIZE:
            raise net.refuse(f"a part of the batch {MIXES}")
        begin, before_end = of_time(net, size, start, stop)
        shape[axis] = size - (begin + before_end)
        return constant(array, shape)
    start, stop = (net.size(one) if isinstance(one, Varying) else one for one in (start, stop))
    if isinstance(stop, Dim) and not isinstance(start, Dim):
        return rows_of_table(net, x, axis, stop, start or 0)
    if isinstance(start, Dim) or isinstance(stop, Dim):
        raise net.needs_time("a part of a constant whose place depends on the number of steps")
    places = [slice(None)] * array.ndim
    places[axis] = slice(start, stop, step)
    taken = array[tuple(places)]
    shape[axis] = taken.shape[axis]
    return constant(taken, shape)


def rows_of_table(net: Network, x: Any, axis: int, stop: Dim, start: int = 0) -> Tensor:
    """The first rows of a constant along `axis`, one for each step of a time: positional embeddings and encodings."""
    if isinstance(x, Constant) or stop.axis is None:
        raise net.needs_time("a part of a constant as long as the time")
    array = np.moveaxis(np.asarray(x), axis, 0)[start:]
    rest = array.shape[1:]
    table = array.reshape(len(array), -1).astype(net.dtype)
    value = net.add_layer("step_table", net.sequence_of(stop.axis), {"table": table}, part="table")
    kept = [size for size in rest if size != 1]
    value = net.reshaped(value, [value.shape[0], *(kept or [1])], part="table.reshape")
    axes: list[Any] = []
    at = 1
    for size in rest:
        axes.append(None if size == 1 else at)
        at += size != 1
    axes.insert(axis, 0)
    return Tensor(value, tuple(axes), "float")


def narrow(net: Network, x: Any, dim: int, start: Any, length: int) -> Any:
    """`length` places of an axis from `start` on."""
    if isinstance(start, int) and start < 0:
        start += shape_of(x)[dim % len(shape_of(x))]
    return slice_axis(net, x, dim, start, start + length)


def cut(net: Network, x: Tensor, axis: int, start: int, before_end: int, step: int = 1) -> Tensor:
    """``x[start : len - before_end : step]`` of one axis."""
    if not start and not before_end and step == 1:
        return x
    x, place = net.stored_axis(x, axis)
    options: dict[str, Option] = {"axis": place, "start": start, "before_end": before_end, "step": step}
    return Tensor(net.add_layer("slice", x.value, options=options), x.axes, x.dtype)


def select(net: Network, x: Any, dim: int, index: Any) -> Any:
    """One place of an axis, which the result no longer has."""
    if isinstance(x, Unavailable):
        raise net.refuse(x.reason)
    shape = shape_of(x)
    axis = dim % len(shape)
    if isinstance(x, Stack) and axis == 0 and isinstance(index, int):
        return x.parts[index]
    size = shape[axis]
    from_end = isinstance(index, int) and index == -1
    if isinstance(index, Varying):
        index = net.size(index)
    if isinstance(index, Dim):
        from_end = isinstance(size, Dim) and index + 1 == size.as_time()
        if not from_end:
            raise net.needs_time("a place that depends on the number of steps")
        index = -1
    if is_constant(x):
        array = np.asarray(x.array if isinstance(x, Constant) else x)
        left = [one for i, one in enumerate(shape) if i != axis]
        taken = np.take(array, 0 if isinstance(size, Dim) else index, axis=axis)
        return constant(taken, left) if left else taken
    x = net.tensor(x)
    axis = net.axis(x, axis)
    if isinstance(size, int) and not -size <= index < size:
        raise ShapeError(f"{net.place_name}: expected a place in an axis of {size}, found {index}")
    x = net.solid(x, axis)
    left_axes = x.axes[:axis] + x.axes[axis + 1 :]
    stored = x.axes[axis]
    if stored is None:
        return x.with_axes(left_axes)
    last = from_end or (isinstance(size, int) and index == size - 1)
    if stored == 0 and x.value.has_time and len(x.value.shape) > 1 and last:
        # the last step; where a length ends a row, its last one
        net.refuse_unpacked(x.value, "the last step", "the layer's state, its second result")
        value = net.add_layer("last", x.value, mask=net.own_mask(x.value))
        return Tensor(value, tuple(_down(places) for places in left_axes), x.dtype)
    if isinstance(index, int) and index > 0 and _is_unsure(net, size) and 2 * index >= net.numbers(size)[0]:
        raise net.needs_time(f"whether step {index} is counted from the end of the time")
    index = index % size if isinstance(size, int) else index
    if isinstance(size, Dim) and index < -1:
        raise net.needs_time("a step counted from the end of the time")
    options: dict[str, Option] = {"axis": stored, "start": index, "count": 1}
    return Tensor(net.add_layer("slice", x.value, options=options), left_axes, x.dtype)


def _down(places: Any) -> Any:
    """Places after the value's first axis has gone."""
    if isinstance(places, tuple):
        return tuple(map(_down, places))
    return places if places is None or places == BATCH else places - 1


def take(net: Network, x: Any, indices: Any, dim: int) -> Any:
    """Places of one axis by a list of whole numbers, or by numbers that are computed."""
    shape = shape_of(x)
    axis = dim % len(shape)
    if is_constant(indices):
        chosen = np.asarray(indices)
        if is_constant(x):
            array = np.asarray(x.array if isinstance(x, Constant) else x)
            return constant(np.take(array, chosen, axis=axis),
                            [*shape[:axis], *chosen.shape, *shape[axis + 1 :]])  # fmt: skip
        if chosen.ndim != 1:
            whole = take(net, x, chosen.reshape(-1), axis)
            from cylstm.program.operations.shape import reshape

            sizes = shape_of(whole)
            return reshape(net, whole, [*sizes[:axis], *chosen.shape, *sizes[axis + 1 :]])
        x = net.tensor(x)
        axis = net.axis(x, axis)
        size = x.size(axis)
        if not isinstance(size, int):
            raise net.needs_time("places of the time chosen by a list")
        if chosen.size == 0 or chosen.min() < -size or chosen.max() >= size:
            raise ShapeError(f"{net.place_name}: expected places in an axis of {size}, found others")
        chosen = chosen % size
        steps = np.diff(chosen)
        if chosen.size == 1 or (steps.size and (steps == steps[0]).all() and steps[0] > 0):
            step = int(steps[0]) if steps.size else 1
            return slice_axis(net, x, axis, int(chosen[0]), int(chosen[-1]) + 1, step)
        if size == 1:
            from cylstm.program.operations.shape import repeated

            return repeated(net, x, axis, chosen.size)
        x, place = net.stored_axis(x, axis)
        weights = {"indices": chosen.astype(np.float32)}
        return Tensor(net.add_layer("take", x.value, weights, {"axis": place}), x.axes, x.dtype)
    raise net.refuse("places chosen by numbers that the network computes are not supported here")


def split(net: Network, x: Any, sizes: Any, dim: int = 0) -> tuple[Any, ...]:
    """Parts of these sizes along an axis; one number is the size of all, of which the last may be smaller."""
    shape = shape_of(x)
    axis = dim % len(shape)
    total = shape[axis]
    if isinstance(x, Tensor):
        axis = net.axis(x, axis)
    if not isinstance(total, int):
        raise net.needs_time("a split of the time")
    if isinstance(sizes, (int, np.integer)):
        sizes = [min(int(sizes), total - start) for start in range(0, total, int(sizes))]
    if any(not isinstance(size, (int, np.integer)) for size in sizes) or sum(sizes) != total:
        raise ShapeError(f"{net.place_name}: a split of {total} places into {list(sizes)} does not fit")
    parts: list[Any] = []
    start = 0
    for size in sizes:
        is_empty = size == 0 and not is_constant(x)
        empty = Unavailable("an empty part of an axis is not supported")
        parts.append(empty if is_empty else slice_axis(net, x, axis, start, start + size))
        start += size
    return tuple(parts)


def chunk(net: Network, x: Any, count: int, dim: int = 0) -> tuple[Any, ...]:
    """As many parts of one size along an axis, the last perhaps smaller."""
    total = shape_of(x)[dim % len(shape_of(x))]
    if not isinstance(total, int):
        raise net.needs_time("a split of the time")
    return split(net, x, math.ceil(total / count), dim)


def unbind(net: Network, x: Any, dim: int = 0) -> tuple[Any, ...]:
    """Every place of an axis."""
    if isinstance(x, Stack) and dim % x.ndim == 0:
        return x.parts
    total = shape_of(x)[dim % len(shape_of(x))]
    if not isinstance(total, int):
        if isinstance(x, Tensor):
            net.axis(x, dim)
        raise net.needs_time("a loop over the time")
    return tuple(select(net, x, dim, i) for i in range(total))


def concat(net: Network, tensors: Sequence[Any], dim: int = 0) -> Any:
    """Side by side along an axis."""
    tensors = [one for one in tensors if not (is_constant(one) and shape_of(one) == (0,))]
    rank = len(shape_of(tensors[0]))
    axis = dim % rank if rank else 0
    if all(is_constant(one) for one in tensors):
        shapes = [shape_of(one) for one in tensors]
        total: Any = shapes[0][axis]
        for shape in shapes[1:]:
            total = total + shape[axis]
        whole = list(shapes[0])
        whole[axis] = total
        arrays = [np.asarray(one.array if isinstance(one, Constant) else one) for one in tensors]
        if isinstance(total, Dim):
            raise net.refuse("constants joined along an axis of unknown size are not supported")
        sizes = [tuple(1 if isinstance(s, Dim) else s for s in shape) for shape in shapes]
        return constant(np.concatenate([np.broadcast_to(a, s) for a, s in zip(arrays, sizes)], axis), whole)
    if axis == 0 and all(map(_is_stacked, tensors)):
        # h_n of several layers, of which later operations take one or the other
        return Stack(tuple(part for one in tensors for part in unbind(net, one, 0)))
    found = [net.constant(one) if is_constant(one) else net.tensor(one) for one in tensors]
    return net.concat(found, axis)


def _is_stacked(found: Any) -> bool:
    """Whether it is a stack, or the state of a layer along a first axis of size 1."""
    if isinstance(found, Stack):
        return True
    return isinstance(found, Tensor) and found.axes[0] is None and found.value.kind == "state"


def stack(net: Network, tensors: Sequence[Any], dim: int = 0) -> Any:
    """Along a new axis."""
    return concat(net, [unsqueeze(net, one, dim) for one in tensors], dim)


def flip(net: Network, x: Any, dims: Sequence[int]) -> Any:
    """Axes the other way round."""
    if is_constant(x) and not isinstance(x, Constant):
        return np.flip(x, tuple(dims))
    for dim in dims:
        x = net.tensor(x)
        axis = net.axis(x, dim)
        if x.size(axis) == 1:
            continue
        if isinstance(x.size(axis), int) and not (x.axes[axis] == 0 and x.value.has_time):
            x = take(net, x, np.arange(x.size(axis))[::-1], axis)
            continue
        (plain,), counts = net.apart([x])
        first = sum(counts[:axis])
        for at in range(first, first + counts[axis]):  # the axes joined in it, each for itself
            if counts[axis] > 1 and isinstance(plain.size(at), int):
                plain = flip(net, plain, [at])
                continue
            order = [at, *[i for i in plain.stored if i != at]]
            value = net.arrange(plain, order)
            if len(value.shape) == 1:
                value = net.reshaped(value, [value.shape[0], 1])
            plain = net.place(net.add_layer("reverse", value), order, plain)
        x = net.rejoin(plain, counts)
    return x


def roll(net: Network, x: Any, shifts: Sequence[int], dims: Sequence[int]) -> Any:
    """Places moved along axes, those that fall off the end put in front."""
    if is_constant(x) and not isinstance(x, Constant):
        return np.roll(x, tuple(shifts), tuple(dims))
    for shift, dim in zip(shifts, dims):
        size = shape_of(x)[dim % len(shape_of(x))]
        if not isinstance(size, int):
            raise net.needs_time("a roll of the time")
        x = take(net, x, np.roll(np.arange(size), shift), dim)
    return x


def getitem(net: Network, x: Any, index: Any) -> Any:
    """``x[index]``: numbers, slices, None, ``...`` and constant lists of whole numbers."""
    if isinstance(x, (tuple, list)):
        return x[index]
    items = list(index) if isinstance(index, tuple) else [index]
    if any(item is Ellipsis for item in items):
        place = next(i for i, item in enumerate(items) if item is Ellipsis)
        used = sum(item is not None and item is not Ellipsis for item in items)
        items[place : place + 1] = [slice(None)] * (len(shape_of(x)) - used)
    axis = 0
    for item in items:
        if item is None:
            x = unsqueeze(net, x, axis)
            axis += 1
        elif isinstance(item, slice):
            x = slice_axis(net, x, axis, item.start, item.stop, 1 if item.step is None else item.step)
            axis += 1
        elif isinstance(item, (int, np.integer, Dim, Varying)) and not isinstance(item, bool):
            x = select(net, x, axis, int(item) if isinstance(item, np.integer) else item)
        elif is_constant(item) or isinstance(item, list):
            chosen = np.asarray(item)
            if sum(np.ndim(one) > 0 for one in items if is_constant(one) or isinstance(one, list)) > 1:
                raise net.refuse("several lists of places at once are not supported")
            if chosen.dtype == bool:
                chosen = np.flatnonzero(chosen)
            x = take(net, x, chosen, axis)
            axis += chosen.ndim
        else:
            raise net.refuse("an index that the network computes is not supported")
    return x
