"""Operations of ``keras.ops`` on shapes, parts and places. The parameters have Keras's names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cylstm.errors import ShapeError
from cylstm.formats.keras.operations.arithmetic import dtype_named, tensor
from cylstm.formats.keras.operations.network import KerasNetwork
from cylstm.program.network import MIXES
from cylstm.program.operations import constants, elementwise, parts
from cylstm.program.operations import shape as shapes
from cylstm.program.operations.conv import pad_axis
from cylstm.program.operations.linear import embedding
from cylstm.program.tensor import BATCH_SIZE, Constant, Dim, Stack, constant, dtype_of, is_constant, shape_of

_MOST_PARTS = 4096


def rank_of(net: KerasNetwork, x: Any) -> int:
    return len(shape_of(x))


def axis_of(net: KerasNetwork, x: Any, axis: Any, more: int = 0) -> int:
    """An axis from 0 on; `more` is 1 for a place between the axes. The batch is refused."""
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    shape = shape_of(x)
    rank = len(shape) + more
    if isinstance(axis, bool) or not isinstance(axis, int) or not -rank <= axis < rank:
        raise ShapeError(f"{net.what}: option axis expected an axis of {shape}, found {axis!r:.80}")
    return axis % rank


def inner_axis(net: KerasNetwork, x: Any, axis: Any) -> int:
    """An axis that is not the batch."""
    found = axis_of(net, x, axis)
    if not is_constant(x) and shape_of(x)[found] == BATCH_SIZE:
        raise net.refuse(f"option axis expected another axis than the batch, found {axis!r:.80}: it {MIXES}")
    return found


def listed(net: KerasNetwork, x: Any) -> list[Any]:
    """Several tensors of an argument."""
    if isinstance(x, (list, tuple)):
        if not 0 < len(x) <= _MOST_PARTS:
            raise net.refuse(f"expected 1 to {_MOST_PARTS} tensors, found {len(x)}")
        return [tensor(net, one) for one in x]
    return [tensor(net, x)]


def reshape(net: KerasNetwork, x: Any, newshape: Any) -> Any:
    sizes = [newshape] if isinstance(newshape, (int, Dim)) else newshape
    if not isinstance(sizes, (list, tuple)):
        raise net.refuse(f"option newshape expected a list of sizes, found {newshape!r:.80}")
    x = tensor(net, x)
    sizes = [-1 if size is None else size for size in sizes]
    unknown = [i for i, size in enumerate(sizes) if isinstance(size, int) and size == -1]
    if len(unknown) == 2 and unknown[0] == 0 and shape_of(x)[:1] == (BATCH_SIZE,):
        sizes[0] = BATCH_SIZE  # Keras leaves the batch open
    given = shape_of(x)
    if not is_constant(x) and len(sizes) > 1 and sizes[0] == -1 and given[:1] == (BATCH_SIZE,):
        return _batch_kept(net, x, sizes)
    return shapes.reshape(net, x, sizes)


def _batch_kept(net: KerasNetwork, x: Any, sizes: list[Any]) -> Any:
    """``(-1, ...)``, where the rest has as many numbers as a row: -1 is the batch, whatever the number of steps."""
    given = shape_of(x)[1:]
    if all(isinstance(size, int) for size in (*given, *sizes[1:])):
        have, wanted = math.prod(given), math.prod(sizes[1:])
        if have == wanted:
            sizes[0] = BATCH_SIZE
        elif not wanted or have % wanted:
            raise ShapeError(f"{net.what}: a reshape of {shape_of(x)} to {tuple(sizes)} does not fit")
    return shapes.reshape(net, x, sizes)


def transpose(net: KerasNetwork, x: Any, axes: Any = None) -> Any:
    x = tensor(net, x)
    order = list(range(rank_of(net, x)))[::-1] if axes is None else axes
    if not isinstance(order, (list, tuple)) or not all(type(axis) is int for axis in order):
        raise net.refuse(f"option axes expected a list of axes, found {axes!r:.80}")
    return shapes.permute(net, x, order)


def expand_dims(net: KerasNetwork, x: Any, axis: Any) -> Any:
    x = tensor(net, x)
    axes = axis if isinstance(axis, list) else [axis]
    rank = rank_of(net, x) + len(axes)
    if not all(type(one) is int and -rank <= one < rank for one in axes):
        raise ShapeError(f"{net.what}: option axis expected a place in {shape_of(x)}, found {axis!r:.80}")
    for place in sorted(one % rank for one in axes):
        x = shapes.unsqueeze(net, x, place)
    return x


def squeeze(net: KerasNetwork, x: Any, axis: Any = None) -> Any:
    x = tensor(net, x)
    if axis is None:
        return shapes.squeeze(net, x)
    axes = [axis_of(net, x, one) for one in (axis if isinstance(axis, list) else [axis])]
    if any(shape_of(x)[one] != 1 for one in axes):
        raise ShapeError(f"{net.what}: option axis expected an axis of size 1 of {shape_of(x)}, found {axis!r:.80}")
    return shapes.squeeze(net, x, axes)


def swap_axes(net: KerasNetwork, x: Any, axis1: int, axis2: int) -> Any:
    x = tensor(net, x)
    return shapes.transpose(net, x, axis_of(net, x, axis1), axis_of(net, x, axis2))


def move_axis(net: KerasNetwork, x: Any, source: Any, destination: Any) -> Any:
    x = tensor(net, x)
    return shapes.moveaxis(net, x, source, destination)


def ravel(net: KerasNetwork, x: Any) -> Any:
    return shapes.reshape(net, tensor(net, x), [-1])


def broadcast_to(net: KerasNetwork, x: Any, shape: Any) -> Any:
    x = tensor(net, x)
    sizes = [-1 if size is None else size for size in shape]
    given = shape_of(x)
    if len(sizes) == len(given) and given[:1] == (BATCH_SIZE,) and isinstance(sizes[0], int) and sizes[0] >= 0:
        raise net.refuse(
            f"a broadcast to {tuple(sizes)}, which fixes the number of rows at {sizes[0]}, is not supported; repeat "
            "along the other axes with keras.ops.repeat or tile"
        )
    net.checked(math.prod(size for size in sizes if isinstance(size, int) and size > 0))
    return shapes.expand(net, x, sizes)


def concatenate(net: KerasNetwork, xs: Any, axis: Any = 0) -> Any:
    found = listed(net, xs)
    if len(found) == 1:
        return found[0]
    place = axis_of(net, found[0], axis)
    if any(shape_of(one)[place : place + 1] == (BATCH_SIZE,) for one in found):
        raise net.refuse(f"option axis expected another axis than the batch: it {MIXES}")
    return parts.concat(net, found, place)


def stack(net: KerasNetwork, x: Any, axis: Any = 0) -> Any:
    if isinstance(x, (list, tuple)) and any(isinstance(one, Dim) for one in x):
        return tuple(x)
    found = listed(net, x)
    return parts.stack(net, found, axis_of(net, found[0], axis, 1))


def append(net: KerasNetwork, x1: Any, x2: Any, axis: Any = None) -> Any:
    if axis is None:
        raise net.refuse(f"without an axis it {MIXES}")
    return concatenate(net, [x1, x2], axis)


def stacked_along(axis: int, rank: int) -> Callable[..., Any]:
    def found(net: KerasNetwork, xs: Any) -> Any:
        tensors = listed(net, xs)
        while rank_of(net, tensors[0]) < rank:
            tensors = [shapes.unsqueeze(net, one, -1) for one in tensors]
        return concatenate(net, tensors, axis)

    return found


def split(net: KerasNetwork, x: Any, indices_or_sections: Any, axis: Any = 0) -> list[Any]:
    """Parts of one size, or between these places."""
    return _split(net, x, indices_or_sections, axis, is_even=True)


def array_split(net: KerasNetwork, x: Any, indices_or_sections: Any, axis: Any = 0) -> list[Any]:
    return _split(net, x, indices_or_sections, axis, is_even=False)


def _split(net: KerasNetwork, x: Any, given: Any, axis: Any, *, is_even: bool) -> list[Any]:
    x = tensor(net, x)
    place = inner_axis(net, x, axis)
    total = shape_of(x)[place]
    if not isinstance(total, int):
        raise net.needs_time("a split of the time")
    if type(given) is int:
        if not 0 < given <= _MOST_PARTS or (is_even and total % given):
            raise ShapeError(f"{net.what}: a split of {total} places into {given} parts does not fit")
        sizes = [total // given + (k < total % given) for k in range(given)]
    else:
        places = np.asarray(given).reshape(-1).tolist()
        if len(places) > _MOST_PARTS or not all(type(one) is int for one in places):
            raise net.refuse(f"expected places to split at, found {given!r:.80}")
        ends = [min(max(one + total if one < 0 else one, 0), total) for one in places]
        sizes = [max(end - start, 0) for start, end in zip([0, *ends], [*ends, total])]
        if 0 in sizes or sum(sizes) != total:
            raise net.refuse(f"a split of {total} places at {places} has an empty part, which is not supported")
    return list(parts.split(net, x, sizes, place))


def unstack(net: KerasNetwork, x: Any, num: Any = None, axis: Any = 0) -> list[Any]:
    if isinstance(x, tuple):
        return list(x)
    x = tensor(net, x)
    place = inner_axis(net, x, axis)
    size = shape_of(x)[place]
    if isinstance(size, int) and (size > _MOST_PARTS or num not in (None, size)):
        raise ShapeError(f"{net.what}: expected {num or _MOST_PARTS} places of an axis of {size}")
    return list(parts.unbind(net, x, place))


def flip(net: KerasNetwork, x: Any, axis: Any = None) -> Any:
    x = tensor(net, x)
    if axis is None:
        axis = list(range(rank_of(net, x)))
    return parts.flip(net, x, [inner_axis(net, x, one) for one in (axis if isinstance(axis, list) else [axis])])


def get_item(net: KerasNetwork, x: Any, key: Any) -> Any:
    """``x[key]``, the whole batch."""
    if isinstance(x, tuple):
        return x[key if not isinstance(key, list) else key[0]]
    x = x if isinstance(x, Stack) else tensor(net, x)
    items = tuple(key) if isinstance(key, list) else (key,)
    items = tuple(np.asarray(item) if isinstance(item, list) else item for item in items)
    if any(isinstance(item, np.ndarray) and item.dtype.kind == "f" for item in items):
        raise net.refuse("an index expected whole numbers, found others")
    for item in items:
        if not (item is None or item is Ellipsis or isinstance(item, (slice, int, np.ndarray, Dim))):
            raise net.refuse("an index that the network computes is not supported; keras.ops.take_along_axis is")
    used = sum(item is not None and item is not Ellipsis for item in items)
    if used > rank_of(net, x):
        raise ShapeError(f"{net.what}: {used} indices of a tensor {shape_of(x)}")
    first = items[0] if items else None
    if not is_constant(x) and shape_of(x)[:1] == (BATCH_SIZE,) and isinstance(first, (int, np.ndarray)):
        raise net.refuse(f"expected the whole batch and then a part of {shape_of(x)}: an index of rows {MIXES}")
    return parts.getitem(net, x, _without_ellipsis(net, x, items))


def _without_ellipsis(net: KerasNetwork, x: Any, items: Sequence[Any]) -> tuple[Any, ...]:
    found = list(items)
    places = [k for k, item in enumerate(found) if item is Ellipsis]
    if len(places) > 1:
        raise net.refuse("an index can only have a single ellipsis")
    for place in places:
        used = sum(item is not None and item is not Ellipsis for item in found)
        found[place : place + 1] = [slice(None)] * (rank_of(net, x) - used)
    return tuple(found)


def part(net: KerasNetwork, inputs: Any, start_indices: Any, shape: Any) -> Any:
    """``keras.ops.slice``: so many places of each axis from a place on."""
    x = tensor(net, inputs)
    starts = np.asarray(start_indices).reshape(-1).tolist() if is_constant(tensor(net, start_indices)) else None
    if starts is None or len(starts) != rank_of(net, x) or len(shape) != rank_of(net, x):
        raise net.refuse("a part whose place is computed is not supported; one that is known is")
    for i, (start, count) in enumerate(zip(starts, shape)):
        size = shape_of(x)[i]
        if size == BATCH_SIZE:
            if start != 0:
                raise net.refuse(f"a part of the batch {MIXES}")
            continue  # the rows that there are
        x = parts.slice_axis(net, x, i, start, None if count == -1 else start + count)
    return x


def slice_update(net: KerasNetwork, inputs: Any, start_indices: Any, updates: Any) -> Any:
    """`inputs` with other numbers in a part."""
    x, new = tensor(net, inputs), tensor(net, updates)
    starts = tensor(net, start_indices)
    if not is_constant(starts) or np.asarray(starts).size != rank_of(net, x):
        raise net.refuse("a part whose place is computed is not supported; one that is known is")
    return _written(net, x, new, np.asarray(starts).reshape(-1).tolist(), 0)


def _written(net: KerasNetwork, x: Any, new: Any, starts: Sequence[int], axis: int) -> Any:
    """With the axes from `axis` on still to be cut."""
    if axis == len(starts):
        return new
    size, count, start = shape_of(x)[axis], shape_of(new)[axis], starts[axis]
    if size == count and start == 0:
        return _written(net, x, new, starts, axis + 1)
    if isinstance(size, Dim) or isinstance(count, Dim):
        raise net.needs_time("a part of the time that is written")
    inside = _written(net, parts.slice_axis(net, x, axis, start, start + count), new, starts, axis + 1)
    pieces = [inside]
    if start:
        pieces.insert(0, parts.slice_axis(net, x, axis, 0, start))
    if start + count < size:
        pieces.append(parts.slice_axis(net, x, axis, start + count, None))
    return parts.concat(net, pieces, axis)


def take(net: KerasNetwork, x: Any, indices: Any, axis: Any = None) -> Any:
    x, places = tensor(net, x), tensor(net, indices)
    if axis is None:
        x, axis = ravel(net, x), 0
    place = axis_of(net, x, axis)
    if is_constant(places):
        if dtype_of(places) == "float":
            raise net.refuse("places expected whole numbers, found others")
        inner_axis(net, x, place)
        if np.ndim(places) == 0:
            return parts.select(net, x, place, int(places))
        return parts.take(net, x, np.asarray(places), place)
    if is_constant(x) and place == 0 and not isinstance(x, Constant):
        table = np.asarray(x)
        rows = embedding(net, places, table.reshape(len(table), -1))
        return shapes.reshape(net, rows, [*shape_of(places), *table.shape[1:]])
    inner_axis(net, x, place)
    raise net.refuse(f"places that are computed, the same for all rows: it {MIXES}; use take_along_axis")


def take_along_axis(net: KerasNetwork, x: Any, indices: Any, axis: Any = None) -> Any:
    if axis is None:
        raise net.refuse(f"without an axis it {MIXES}")
    x, places = tensor(net, x), tensor(net, indices)
    place = inner_axis(net, x, axis)
    size = shape_of(x)[place]
    if is_constant(x) and is_constant(places):
        return np.take_along_axis(np.asarray(x), np.asarray(places), place)
    if is_constant(places):
        array = np.asarray(places.array if isinstance(places, Constant) else places)
        if isinstance(size, int):
            array = np.where(array < 0, array + size, array)
        places = constant(array, shape_of(places))
    elif isinstance(size, int):
        negative = elementwise.binary(net, "less", places, 0)
        places = elementwise.where(net, negative, elementwise.add(net, places, size), places).of("int")
    return constants.gather(net, x, places, place)


def repeat(net: KerasNetwork, x: Any, repeats: Any, axis: Any = None) -> Any:
    x = tensor(net, x)
    if axis is None:
        raise net.refuse(f"without an axis it {MIXES}")
    place = inner_axis(net, x, axis)
    counts = np.asarray(tensor(net, repeats)).reshape(-1)
    size = shape_of(x)[place]
    net.checked(int(counts.max(initial=0)) * (size if isinstance(size, int) else 1))
    if counts.size == 1:
        if int(counts[0]) < 1:
            raise net.refuse("an empty repetition is not supported")
        if size == 1:
            return shapes.repeated(net, x, place, int(counts[0])) if not is_constant(x) else np.repeat(x, counts, place)
        return shapes.repeat_interleave(net, x, int(counts[0]), place)
    if not isinstance(size, int):
        raise net.needs_time("a number of repetitions for each step")
    return parts.take(net, x, np.repeat(np.arange(size), counts), place)


def tile(net: KerasNetwork, x: Any, repeats: Any) -> Any:
    x = tensor(net, x)
    counts = [repeats] if isinstance(repeats, int) else list(repeats)
    counts = [1] * (rank_of(net, x) - len(counts)) + counts
    if not all(isinstance(count, (int, Dim)) for count in counts):
        raise net.refuse(f"option repeats expected whole numbers, found {repeats!r:.80}")
    net.checked(math.prod(count for count in counts if isinstance(count, int)))
    sizes = shape_of(x)
    if len(counts) == len(sizes) and any(size == BATCH_SIZE and count != 1 for size, count in zip(sizes, counts)):
        raise net.refuse(f"a repetition of the rows {MIXES}")
    if sum(isinstance(count, int) and count > _MOST_PARTS for count in counts):
        raise net.refuse(f"more than {_MOST_PARTS} repetitions are not supported")
    return shapes.tile(net, x, counts)


def roll(net: KerasNetwork, x: Any, shift: Any, axis: Any = None) -> Any:
    x = tensor(net, x)
    if axis is None:
        raise net.refuse(f"without an axis it {MIXES}")
    axes = axis if isinstance(axis, list) else [axis]
    shifts = shift if isinstance(shift, list) else [shift] * len(axes)
    return parts.roll(net, x, shifts, [inner_axis(net, x, one) for one in axes])


def rot90(net: KerasNetwork, array: Any, k: int = 1, axes: Any = (0, 1)) -> Any:
    x = tensor(net, array)
    first, second = (inner_axis(net, x, one) for one in axes)
    for _ in range(k % 4):
        x = parts.flip(net, shapes.transpose(net, x, first, second), [first])
    return x


def pad(net: KerasNetwork, x: Any, constant_values: Any = None, *, pad_width: Any, mode: str = "constant") -> Any:
    x = tensor(net, x)
    rank = rank_of(net, x)
    pairs: list[Any] = [pad_width] if isinstance(pad_width, int) else list(pad_width)
    pairs = [[one, one] if isinstance(one, int) else one for one in pairs]
    if len(pairs) == 2 and all(len(one) == 2 and one == pairs[0] for one in pairs) and rank != 2:
        pairs = pairs[:1]
    pairs = pairs * rank if len(pairs) == 1 else pairs
    if len(pairs) != rank or not all(len(one) == 2 and all(type(n) is int and n >= 0 for n in one) for one in pairs):
        raise net.refuse(f"option pad_width expected a pair for each axis of {shape_of(x)}, found {pad_width!r:.80}")
    if mode not in ("constant", "reflect", "symmetric"):
        raise net.refuse(f"option mode={mode!r:.40} is not supported; 'constant', 'reflect' and 'symmetric' are")
    if is_constant(x) and not isinstance(x, Constant):
        net.checked(math.prod(size + sum(pair) for size, pair in zip(np.shape(x), pairs)))
        return np.pad(x, pairs, mode, **({"constant_values": constant_values or 0} if mode == "constant" else {}))  # type: ignore[call-overload]
    value = constant_values
    if value is not None and not isinstance(value, (int, float)):
        value = float(np.asarray(tensor(net, value)).reshape(-1)[0]) if is_constant(value) else None
        if value is None:
            raise net.refuse("padding with a computed number is not supported")
    if mode == "symmetric" and max(max(pair) for pair in pairs) > 1:
        raise net.refuse(
            "mode='symmetric' of more than one place is not supported: Keras's backends differ in it; 'reflect' is"
        )
    for axis, (before, after) in enumerate(pairs):
        if not before and not after:
            continue
        inner_axis(net, x, axis)
        net.checked(before + after)
        x = _padded(net, x, axis, before, after, mode, float(value or 0.0))
    return x


def _padded(net: KerasNetwork, x: Any, axis: int, before: int, after: int, mode: str, value: float) -> Any:
    dtype = dtype_of(x)
    x = net.constant(x) if is_constant(x) else net.tensor(x)
    if mode == "constant":
        if not value:
            return pad_axis(net, x, axis, before, after).of(dtype)
        if not math.isfinite(value):
            ends = []
            for count in (before, after):
                sizes = [count if i == axis else size for i, size in enumerate(x.shape)]
                ends.append(constants.full(net, sizes, value, "float") if count else None)
            pieces = [one for one in (ends[0], x, ends[1]) if one is not None]
            return parts.concat(net, pieces, axis)
        lowered = net.affine(x, 1.0, -value)
        return net.affine(pad_axis(net, lowered, axis, before, after), 1.0, value).of(dtype)
    size = x.size(axis)
    if mode == "reflect":
        if isinstance(size, int) and max(before, after) >= size:
            raise ShapeError(f"{net.what}: a reflection of {max(before, after)} places of an axis of {size}")
        return pad_axis(net, x, axis, before, after, "reflect").of(dtype)
    if not isinstance(size, int):
        raise net.needs_time("a symmetric padding of the time")
    if max(before, after) > size:
        raise ShapeError(f"{net.what}: a reflection of {max(before, after)} places of an axis of {size}")
    return parts.take(net, x, np.pad(np.arange(size), (before, after), "symmetric"), axis)


def triangle(keeps: Callable[..., Any]) -> Callable[..., Any]:
    def found(net: KerasNetwork, x: Any, k: int = 0) -> Any:
        x = tensor(net, x)
        sizes = shape_of(x)[-2:]
        if is_constant(x) and not isinstance(x, Constant):
            return keeps(np.asarray(x), k)
        if any(isinstance(size, Dim) for size in sizes):
            if BATCH_SIZE in sizes:
                raise net.refuse(f"a triangle over the rows {MIXES}")
            raise net.needs_time("a triangle over the time")
        return elementwise.where(net, keeps(np.ones(sizes, bool), k), x, 0)

    return found


def diagonal(net: KerasNetwork, x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The diagonal of two axes, as the last one."""
    x = tensor(net, x)
    first, second = inner_axis(net, x, axis1), inner_axis(net, x, axis2)
    rows, columns = shape_of(x)[first], shape_of(x)[second]
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise net.needs_time("a diagonal over the time")
    x = shapes.flatten(net, shapes.moveaxis(net, x, (first, second), (-2, -1)), -2, -1)
    places = np.diagonal(np.arange(rows * columns).reshape(rows, columns), offset)
    if not places.size:
        raise net.refuse("an empty diagonal is not supported")
    return parts.take(net, x, places, -1)


def trace(net: KerasNetwork, x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    from cylstm.program.operations.reduce import reduce

    return reduce(net, diagonal(net, x, offset, axis1, axis2), "sum", -1)


def one_dim(net: KerasNetwork, x: Any, k: int = 0) -> Any:
    x = tensor(net, x)
    if not is_constant(x) or isinstance(x, Constant):
        raise net.refuse("a diagonal matrix of computed numbers is not supported; multiply by keras.ops.eye")
    return np.diag(np.asarray(x), k)


def extract_sequences(net: KerasNetwork, x: Any, sequence_length: int, sequence_stride: int) -> Any:
    """Frames of the last axis: (..., frames, length)."""
    x = tensor(net, x)
    inner_axis(net, x, -1)
    size = shape_of(x)[-1]
    if not isinstance(size, int):
        raise net.needs_time("frames of the time")
    if not 0 < sequence_length <= size or sequence_stride < 1:
        raise ShapeError(f"{net.what}: frames of {sequence_length} numbers, {sequence_stride} apart, of {size}")
    starts = np.arange(0, size - sequence_length + 1, sequence_stride)
    net.checked(len(starts) * sequence_length)
    return parts.take(net, x, starts[:, np.newaxis] + np.arange(sequence_length), -1)


# Numbers that are made


def arange(net: KerasNetwork, start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Any:
    step = 1 if step is None else step
    if stop is None:
        start, stop = 0, start
    kind = None if dtype is None else dtype_named(net, dtype)
    if all(isinstance(one, (int, float)) for one in (start, stop, step)):
        if step == 0:
            raise net.refuse("a range with a step of 0")
        net.checked(max(math.ceil((stop - start) / step), 0))
        found = np.arange(start, stop, step)
        return found.astype({"float": np.float32, "int": np.int64, "bool": bool, None: found.dtype}[kind])
    return constants.arange(net, start, stop, step, kind)


def linspace(
    net: KerasNetwork,
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: Any = 0,
) -> Any:
    """Equal steps from a number or tensor to another, along a new axis."""
    low, high = tensor(net, start), tensor(net, stop)
    if retstep:
        raise net.refuse("option retstep is not supported")
    if dtype is not None and dtype_named(net, dtype) != "float":
        raise net.refuse(f"option dtype={dtype!r} is not supported")
    net.checked(num)
    if is_constant(low) and is_constant(high) and not any(isinstance(one, Constant) for one in (low, high)):
        return np.linspace(low, high, num, endpoint=endpoint, axis=axis, dtype=np.float32)
    if num < 1:
        raise net.refuse("no numbers at all are not supported")
    count = (num - 1 if endpoint else num) or 1
    rank = max(rank_of(net, low), rank_of(net, high))
    place = axis % (rank + 1)
    low, high = (_widened(net, one, rank, place) for one in (low, high))
    weights = (np.arange(num) / count).reshape([-1 if i == place else 1 for i in range(rank + 1)])
    found = elementwise.add(net, low, elementwise.multiply(net, elementwise.subtract(net, high, low), weights))
    return found


def _widened(net: KerasNetwork, x: Any, rank: int, place: int) -> Any:
    if rank_of(net, x) == 0:
        return x
    while rank_of(net, x) < rank:
        x = shapes.unsqueeze(net, x, 0)
    return shapes.unsqueeze(net, x, place)


def logspace(
    net: KerasNetwork,
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    base: float = 10,
    dtype: Any = None,
    axis: Any = 0,
) -> Any:
    exponents = linspace(net, start, stop, num, endpoint, False, dtype, axis)
    if is_constant(exponents):
        return np.power(float(base), np.asarray(exponents, np.float64)).astype(np.float32)
    return elementwise.function(net, elementwise.multiply(net, exponents, math.log2(base)), "exp2")


def full(net: KerasNetwork, fill_value: Any, shape: Any, dtype: Any = None) -> Any:
    value = tensor(net, fill_value)
    sizes = [shape] if isinstance(shape, int) else list(shape)
    net.checked(math.prod(size for size in sizes if isinstance(size, int)))
    return constants.full(net, sizes, value, "float" if dtype is None else dtype_named(net, dtype))


def meshgrid(net: KerasNetwork, *x: Any, indexing: str = "xy") -> list[Any]:
    arrays = [tensor(net, one) for one in x]
    if not all(is_constant(one) and not isinstance(one, Constant) for one in arrays):
        raise net.refuse("a grid of computed numbers is not supported")
    net.checked(math.prod(np.size(one) for one in arrays))
    if indexing not in ("xy", "ij"):
        raise net.refuse(f"option indexing={indexing!r:.40} is not supported")
    return list(np.meshgrid(*arrays, indexing="xy" if indexing == "xy" else "ij"))


def size_of(net: KerasNetwork, x: Any) -> Any:
    found: Any = 1
    for one in shape_of(tensor(net, x)):
        found = one * found if isinstance(found, int) else found * one
    return found


#: name of the class -> function
SHAPES: Mapping[str, Callable[..., Any]] = {
    "Reshape": reshape,
    "Ravel": ravel,
    "Transpose": transpose,
    "ExpandDims": expand_dims,
    "Squeeze": squeeze,
    "Swapaxes": swap_axes,
    "Moveaxis": move_axis,
    "BroadcastTo": broadcast_to,
    "Concatenate": concatenate,
    "Append": append,
    "Stack": stack,
    "Vstack": stacked_along(0, 2),
    "Hstack": stacked_along(1, 2),
    "Dstack": stacked_along(2, 3),
    "Split": split,
    "ArraySplit": array_split,
    "Vsplit": lambda net, x, indices_or_sections: split(net, x, indices_or_sections, 0),
    "Hsplit": lambda net, x, indices_or_sections: split(net, x, indices_or_sections, 1),
    "Dsplit": lambda net, x, indices_or_sections: split(net, x, indices_or_sections, 2),
    "Unstack": unstack,
    "Flip": flip,
    "Fliplr": lambda net, x: flip(net, x, 1),
    "Flipud": lambda net, x: flip(net, x, 0),
    "GetItem": get_item,
    "Slice": part,
    "SliceUpdate": slice_update,
    "Take": take,
    "TakeAlongAxis": take_along_axis,
    "Repeat": repeat,
    "Tile": tile,
    "Roll": roll,
    "Rot90": rot90,
    "Pad": pad,
    "Tril": triangle(np.tril),
    "Triu": triangle(np.triu),
    "Diagonal": diagonal,
    "Diag": one_dim,
    "Trace": trace,
    "ExtractSequences": extract_sequences,
    "Arange": arange,
    "Linspace": linspace,
    "Logspace": logspace,
    "Full": full,
    "Meshgrid": meshgrid,
    "Size": size_of,
    "Ndim": lambda net, x: rank_of(net, tensor(net, x)),
}
