"""ONNX's operators that take numbers by their places, write them there, or give places."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cylstm.errors import ShapeError
from cylstm.formats.onnx import rows
from cylstm.formats.onnx.call import Call
from cylstm.formats.onnx.folding import (
    axes_of,
    axis_of,
    check_count,
    computed,
    is_array,
    is_sizes,
    known,
    numbers,
    shape,
    size_array,
    unknown,
)
from cylstm.program.network import MIXES
from cylstm.program.operations import elementwise as ops
from cylstm.program.operations import parts
from cylstm.program.operations import shape as shapes
from cylstm.program.operations.constants import from_front
from cylstm.program.operations.constants import gather as gather_along
from cylstm.program.operations.linear import embedding
from cylstm.program.tensor import BATCH_SIZE, Constant, Dim, Tensor, dtype_of, is_constant

#: from here on a place is "the end", and below its negative "before the beginning"
_FAR = (1 << 31) - 1


# Parts


def slice_operator(call: Call) -> Any:
    x = call.required(0)
    own = shape(call, x)
    steps: Sequence[Any] | None = None
    if call.opset < 10:
        starts, stops = list(call.attribute("starts")), list(call.attribute("ends"))
        axes: Sequence[int] | None = call.attribute("axes", None)
    else:
        starts, stops = call.sizes(1, "the start of a part"), call.sizes(2, "the end of a part")
        axes, steps = numbers(call, 3, "axes"), numbers(call, 4, "steps")
    chosen = axes_of(call, range(len(starts)) if axes is None else axes, len(own))
    steps = [1] * len(chosen) if steps is None else steps
    if not len(chosen) == len(starts) == len(stops) == len(steps):
        raise call.refuse(f"expected as many starts, ends and steps as axes, found {starts}, {stops}, {steps}, {axes}")
    for axis, start, stop, step in zip(chosen, starts, stops, steps):
        if step == 0:
            raise call.refuse("a part by steps of 0")
        x = _part(call, x, axis, start, stop, step)
    return x


def _part(call: Call, x: Any, axis: int, start: Any, stop: Any, step: int) -> Any:
    size = shape(call, x)[axis]
    start, stop = (_from_end(size, place) for place in (start, stop))
    if step > 0:
        start = None if start is not None and _is_far(start, -1) else start
        stop = None if _is_far(stop, 1) else stop
    else:
        start = None if start is None or _is_far(start, 1) or (isinstance(start, int) and start == -1) else start
        stop = None if stop is not None and _is_far(stop, -1) else stop
    if is_array(x):
        if isinstance(start, Dim) or isinstance(stop, Dim):
            if isinstance(stop, Dim) and not isinstance(start, Dim) and step == 1 and not is_sizes(x):
                return parts.slice_axis(call.net, x, axis, start, stop)
            raise unknown(call, "a part of a constant whose place is a size", size_array([start or 0, stop or 0]))
        places: list[Any] = [slice(None)] * x.ndim
        places[axis] = slice(start, stop, step)
        return x[tuple(places)]
    if step == -1 and start is None and stop is None:
        return parts.flip(call.net, x, [axis])
    return parts.slice_axis(call.net, x, axis, start, stop, step)


def _from_end(size: Any, place: Any) -> Any:
    """A place in an axis of any length that is a few before its end, as counted from there; None for the end itself."""
    if isinstance(size, Dim) and isinstance(place, Dim):
        try:
            short = size - place
        except MemoryError:
            raise
        except Exception:
            return place
        if isinstance(short, int) and short >= 0:
            return -short if short else None
    return place


def _is_far(place: Any, sign: int) -> bool:
    return place is None or (isinstance(place, int) and sign * place >= _FAR)


# Places


def gather(call: Call) -> Any:
    x, places = call.required(0), call.required(1)
    own = shape(call, x)
    axis = axis_of(call, call.attribute("axis", 0), len(own))
    if rows.are_rows(places) and axis == 0:
        return rows.taken(call, x, places)
    if is_array(places):
        if is_sizes(places):
            if places.ndim == 0:
                return parts.select(call.net, x, axis, places.item())
            raise unknown(call, "places that are sizes", places)
        if is_array(x):
            return _taken(call, x, places, axis)
        size = own[axis]
        if isinstance(size, int) and places.size and (places.min() < -size or places.max() >= size):
            raise ShapeError(f"{call.net.place_name}: expected places in an axis of {size}, found others")
        if places.size == 1:
            found = parts.select(call.net, x, axis, int(places.reshape(-1)[0]))
            for _ in range(places.ndim):
                found = shapes.unsqueeze(call.net, found, axis)
            return found
        return parts.take(call.net, computed(call, x), places, axis)
    if is_array(x) and not is_sizes(x):
        return _rows_of(call, x, places, axis)
    raise call.refuse("places of an axis chosen by numbers that the network computes are not supported")


def _taken(call: Call, x: np.ndarray, places: np.ndarray, axis: int) -> Any:
    check_count(call, [*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]])
    try:
        found = np.take(x, places, axis)
    except IndexError:
        raise ShapeError(
            f"{call.net.place_name}: expected places in an axis of {x.shape[axis]}, found others"
        ) from None
    return size_array(found) if is_sizes(x) else found


def _rows_of(call: Call, table: np.ndarray, places: Any, axis: int) -> Any:
    """Parts of a constant that computed whole numbers choose, or that an input gives."""
    net = call.net
    table = np.moveaxis(table, axis, 0)
    if not (isinstance(places, Tensor) and places.value.kind == "index"):
        places = from_front(net, places, len(table))
    chosen = shape(call, places)
    found = embedding(net, places, table.reshape(len(table), -1)).of(dtype_of(table))
    found = shapes.reshape(net, found, [*chosen, *table.shape[1:]])
    if not axis:
        return found
    count, rank = len(chosen), len(chosen) + table.ndim - 1
    before = list(range(count, count + axis))
    return shapes.permute(net, found, [*before, *range(count), *range(count + axis, rank)])


def gather_elements(call: Call) -> Any:
    x, places = call.required(0), call.required(1)
    own, chosen = shape(call, x), shape(call, places)
    axis = axis_of(call, call.attribute("axis", 0), len(own))
    if len(own) != len(chosen):
        raise ShapeError(f"{call.net.place_name}: expected places of {len(own)} axes, found shape {chosen}")
    if is_array(places):
        size = own[axis]
        if isinstance(size, int) and places.size and (places.min() < -size or places.max() >= size):
            raise ShapeError(f"{call.net.place_name}: expected places in an axis of {size}, found others")
    for i, (size, other) in enumerate(zip(own, chosen)):
        if i != axis and size != other:
            if not isinstance(size, int) or not isinstance(other, int) or other > size:
                raise call.refuse(f"places of shape {chosen} in {own}: {MIXES}")
            x = x[(slice(None),) * i + (slice(other),)] if is_array(x) else parts.slice_axis(call.net, x, i, 0, other)
    if is_array(x) and is_array(places):
        return np.take_along_axis(x, places, axis)
    if not is_array(places) or (places < 0).any():
        places = from_front(call.net, places, own[axis])
    return gather_along(call.net, x, places, axis)


def gather_nd(call: Call) -> Any:
    """Parts of a tensor, each by the places of its first axes."""
    x, shared = call.required(0), call.attribute("batch_dims", 0)
    if rows.are_rows(call.required(1)) and not shared:
        return rows.taken(call, x, call.required(1))
    own, places = shape(call, x), known(call, 1, "places")
    if is_array(x):
        if shared:
            count = math.prod(own[:shared])
            flat, given = x.reshape(count, *own[shared:]), places.reshape(count, *places.shape[shared:])
            found = np.stack([flat[row][tuple(np.moveaxis(given[row], -1, 0))] for row in range(count)])
            return found.reshape(*own[:shared], *found.shape[1:])
        return np.asarray(x[tuple(np.moveaxis(places, -1, 0))])
    if shared or is_sizes(places):
        raise call.refuse("places that differ between the rows of the batch are not supported")
    flat_x, flat = _flat_places(call, x, own, places)
    found = parts.take(call.net, flat_x, flat.reshape(-1), 0)
    return shapes.reshape(call.net, found, [*flat.shape, *own[places.shape[-1] :]])


def _flat_places(call: Call, x: Any, own: Sequence[Any], places: np.ndarray) -> tuple[Any, np.ndarray]:
    """`x` with the axes that places are in as one, and the places in that."""
    count = places.shape[-1]
    sizes = own[:count]
    if BATCH_SIZE in sizes:
        raise call.refuse(MIXES)
    if any(isinstance(size, Dim) for size in sizes):
        raise call.net.needs_time("places in the time")
    limits = np.array(sizes)
    if ((places < -limits) | (places >= limits)).any():
        raise ShapeError(f"{call.net.place_name}: expected places in {tuple(sizes)}, found others")
    flat = np.ravel_multi_index(tuple(np.moveaxis(places % limits, -1, 0)), sizes)
    return shapes.reshape(call.net, computed(call, x), [math.prod(sizes), *own[count:]]), np.asarray(flat)


# Writing


_REDUCTIONS: Mapping[str, tuple[Callable[..., Any], str]] = {
    "add": (np.add, "sum"),
    "mul": (np.multiply, "mul"),
    "max": (np.maximum, "max"),
    "min": (np.minimum, "min"),
}


def _reduction(call: Call) -> str:
    mode: str = call.attribute("reduction", "none")
    if mode != "none" and mode not in _REDUCTIONS:
        raise call.refuse(f"reduction expected none, add, mul, max or min, found {mode!r}")
    return mode


def scatter_nd(call: Call) -> Any:
    """Parts of a tensor, by the places of its first axes, replaced by others or joined with them."""
    x, places, new = call.required(0), known(call, 1, "places"), call.required(2)
    own, mode = shape(call, x), _reduction(call)
    if is_sizes(places):
        raise unknown(call, "places that are sizes", places)
    if is_array(x) and is_array(new) and not is_sizes(x) and not is_sizes(new):
        return _written_constant(call, x, tuple(np.moveaxis(places, -1, 0)), new, mode)
    flat_x, flat = _flat_places(call, x, own, places)
    rest = own[places.shape[-1] :]
    flat_new = shapes.reshape(call.net, new, [flat.size, *rest])
    found = _written(call, flat_x, flat.reshape(-1), flat_new, 0, mode)
    return shapes.reshape(call.net, found, own)


def _written_constant(call: Call, x: np.ndarray, places: Any, new: np.ndarray, mode: str) -> np.ndarray:
    found = x.copy()
    try:
        if mode == "none":
            found[places] = new
        else:
            _REDUCTIONS[mode][0].at(found, places, new)  # type: ignore[attr-defined]
    except (IndexError, ValueError) as error:
        raise ShapeError(f"{call.net.place_name}: {error}") from None
    return found


def _written(call: Call, x: Any, places: np.ndarray, new: Any, axis: int, mode: str) -> Any:
    """`x` with `new` at places of an axis, one after the other where there are several at one."""
    net = call.net
    x, new = net.solid(computed(call, x), axis), computed(call, new)
    if BATCH_SIZE in x.shape and BATCH_SIZE not in new.shape:
        new = shapes.expand(net, new, [x.size(i) if i != axis else new.size(i) for i in range(x.ndim)])
    size = x.size(axis)
    both = parts.concat(net, [x, new], axis)
    left = list(range(len(places)))
    while left:
        turn: dict[int, int] = {}
        for k in left:
            if mode == "none":
                turn[int(places[k])] = k
            else:
                turn.setdefault(int(places[k]), k)
        chosen = np.arange(size)
        for place, k in turn.items():
            chosen[place] = size + k
        taken = parts.take(net, both, chosen, axis)
        if mode == "none":
            return taken
        mask = np.zeros([size if i == axis else 1 for i in range(x.ndim)], bool)
        mask.reshape(-1)[list(turn)] = True
        x = ops.where(net, mask, ops.binary(net, _REDUCTIONS[mode][1], x, taken), x)
        left = [k for k in left if k not in turn.values()]
    return x


def scatter_elements(call: Call) -> Any:
    """Numbers of a tensor, by their places along one axis, replaced by others or joined with them."""
    x, places, new = call.required(0), call.required(1), call.required(2)
    own, chosen, mode = shape(call, x), shape(call, places), _reduction(call)
    axis = axis_of(call, call.attribute("axis", 0), len(own))
    if not is_constant(places) or is_sizes(places):
        raise call.refuse("places that the network computes are not supported; they have to be constants")
    if chosen != shape(call, new) or len(chosen) != len(own):
        raise ShapeError(f"{call.net.place_name}: places of shape {chosen} for {shape(call, new)} in {own} do not fit")
    array = np.asarray(places.array if isinstance(places, Constant) else places)
    if is_array(x) and is_array(new) and is_array(places) and not is_sizes(x) and not is_sizes(new):
        spread: list[Any] = list(np.indices(places.shape, sparse=True))
        spread[axis] = places
        return _written_constant(call, x, tuple(spread), new, mode)
    for i, (size, other) in enumerate(zip(own, chosen)):
        if isinstance(size, Dim) and (i == axis or size != other):
            raise call.refuse(MIXES) if size == BATCH_SIZE else call.net.needs_time("places in the time")
    size = own[axis]
    if (array < -size).any() or (array >= size).any():
        raise ShapeError(f"{call.net.place_name}: expected places in an axis of {size}, found others")
    open_axes = [i for i, size in enumerate(own) if isinstance(size, Dim)]
    inner = [i for i in range(len(own)) if i not in open_axes]
    sizes: Any = [own[i] for i in inner]
    index: list[Any] = list(np.indices(array.shape))
    index[axis] = array % size
    flat: Any = np.ravel_multi_index(tuple(index[i] for i in inner), sizes).reshape(-1)
    order = [*open_axes, *inner]
    back = [order.index(i) for i in range(len(own))]
    flat = flat if not open_axes else np.transpose(flat.reshape(array.shape), order).reshape(-1)
    fronts = [own[i] for i in open_axes]
    net = call.net
    flat_x = shapes.reshape(net, shapes.permute(net, computed(call, x), order), [*fronts, math.prod(sizes)])
    flat_new = shapes.reshape(net, shapes.permute(net, computed(call, new), order), [*fronts, flat.size])
    found = _written(call, flat_x, flat, flat_new, len(fronts), mode)
    return shapes.permute(net, shapes.reshape(net, found, [*fronts, *sizes]), back)


# Places of truths and of classes


def one_hot(call: Call) -> Any:
    """`values` [off, on] along a new axis: on where a place is that of the axis."""
    x, values = call.required(0), known(call, 2, "values")
    depth = numbers(call, 1, "the depth") or []
    if len(depth) != 1 or depth[0] < 1 or values.size != 2 or is_sizes(values):
        raise call.refuse(f"expected one depth and two values, found {depth} and shape {values.shape}")
    own = shape(call, x)
    axis = axis_of(call, call.attribute("axis", -1), len(own) + 1)
    count = depth[0]
    check_count(call, [*own, count])
    classes = np.arange(count).reshape([count if i == axis else 1 for i in range(len(own) + 1)])
    off, on = values.reshape(-1)
    if is_array(x) and not is_sizes(x):
        places = np.expand_dims(x.astype(np.int64), axis)
        return np.where(np.where(places < 0, places + count, places) == classes, on, off).astype(values.dtype)
    net = call.net
    places = ops.cast(net, from_front(net, ops.cast(net, net.tensor(x), "int"), count), "int")
    found = ops.binary(net, "equal", shapes.unsqueeze(net, places, axis), classes)
    if off == 0 and on == 1:
        return found.of(dtype_of(values))
    return ops.where(net, found, values[1:2].reshape(()), values[:1].reshape(()))


def trilu(call: Call) -> Any:
    """The triangle above or below a diagonal of matrices, zeros elsewhere."""
    x = call.required(0)
    own = shape(call, x)
    if len(own) < 2:
        raise call.refuse(f"expected matrices, found shape {own}")
    diagonal = (numbers(call, 1, "a diagonal") or [0])[0]
    keeps = np.triu if call.attribute("upper", 1) else np.tril
    if is_array(x):
        return keeps(x, diagonal)
    sizes: Any = own[-2:]
    if BATCH_SIZE in sizes:
        raise call.refuse(MIXES)
    if any(isinstance(size, Dim) for size in sizes):
        raise call.net.needs_time("a triangle over the time")
    check_count(call, sizes)
    zero = {"float": 0.0, "int": 0, "bool": False}[dtype_of(x)]
    return ops.where(call.net, keeps(np.ones(sizes, bool), diagonal), x, zero)


def nonzero(call: Call) -> Any:
    x = call.required(0)
    if not is_array(x) or is_sizes(x):
        raise call.refuse("places whose number depends on the numbers are not supported")
    return np.asarray(np.nonzero(np.atleast_1d(x)), np.int64)


def unique(call: Call) -> Any:
    """The numbers of a constant, each once, where each of them was first, which of them each was, and how often."""
    x = call.required(0)
    if not is_array(x) or is_sizes(x):
        raise call.refuse("a tensor whose size depends on the numbers is not supported")
    axis = call.attribute("axis", None)
    axis = None if axis is None else axis_of(call, axis, x.ndim)
    found, first, which, counts = np.unique(x, True, True, True, axis)
    which = which.reshape(-1)
    if not call.attribute("sorted", 1):
        order = np.argsort(first, kind="stable")
        found = np.take(found, order, 0 if axis is None else axis)
        first, counts, which = first[order], counts[order], np.argsort(order, kind="stable")[which]
    return found, *(one.astype(np.int64) for one in (first, which, counts))


def compress(call: Call) -> Any:
    """The places of an axis, or of all numbers, where a constant is true."""
    x, condition = call.required(0), known(call, 1, "a condition")
    axis = call.attribute("axis", None)
    if axis is None:
        x = x.reshape(-1) if is_array(x) else shapes.flatten(call.net, x)
        axis = 0
    places = np.flatnonzero(condition)
    axis = axis_of(call, axis, len(shape(call, x)))
    if is_array(x):
        return np.take(x, places, axis)
    if not places.size:
        raise call.refuse("a tensor without numbers is not supported")
    return parts.take(call.net, x, places, axis)


def reverse_sequence(call: Call) -> Any:
    """The first steps of each row, as many as its length, the other way round."""
    x, lengths = call.required(0), call.required(1)
    own = shape(call, x)
    time = axis_of(call, call.attribute("time_axis", 0), len(own))
    batch = axis_of(call, call.attribute("batch_axis", 1), len(own))
    if time == batch:
        raise call.refuse("expected another axis of the batch than of the time")
    if is_array(x):
        if not is_array(lengths) or lengths.shape != (own[batch],) or is_sizes(lengths):
            raise call.refuse(f"expected {own[batch]} lengths that are constants")
        found = np.moveaxis(x, (batch, time), (0, 1)).copy()
        for row, length in enumerate(lengths):
            if not 0 <= length <= own[time]:
                raise ShapeError(f"{call.net.place_name}: a length of {length} of {own[time]} steps")
            found[row, :length] = found[row, :length][::-1]
        return np.moveaxis(found, (0, 1), (batch, time))
    net = call.net
    size = own[time]
    if is_array(lengths) and not is_sizes(lengths):
        if lengths.size and (lengths == lengths.reshape(-1)[0]).all() and lengths.reshape(-1)[0] == size:
            return parts.flip(net, x, [time])
        if isinstance(own[batch], Dim):
            raise call.refuse("lengths that are constants are those of one batch; give them as an input")
    if is_sizes(lengths) or isinstance(lengths, Constant):
        array = np.asarray(lengths.array if isinstance(lengths, Constant) else lengths)
        if all(one == size for one in array.reshape(-1)):
            return parts.flip(net, x, [time])
    steps: Any = np.arange(size) if isinstance(size, int) else net.positions(size.axis, 0.0)
    wide: list[Any] = [1] * len(own)
    counts = computed(call, lengths)
    if counts.shape != (own[batch],):
        raise ShapeError(f"{net.place_name}: expected lengths of shape ({own[batch]},), found {counts.shape}")
    axes: list[Any] = [None] * len(own)
    axes[batch] = counts.axes[0]
    counts = counts.with_axes(axes)
    wide[time] = size
    if isinstance(steps, Tensor):
        axes = [None] * len(own)
        axes[time] = steps.axes[0]
        steps = steps.with_axes(axes)
    else:
        steps = steps.reshape(wide)
    turned = ops.subtract(net, ops.subtract(net, counts, 1), steps)
    places = ops.where(net, ops.binary(net, "less", steps, counts), turned, steps)
    return gather_along(net, x, places, time)


OPERATORS: Mapping[str, Callable[[Call], Any]] = {
    "Slice": slice_operator,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "Scatter": scatter_elements,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "OneHot": one_hot,
    "Trilu": trilu,
    "NonZero": nonzero,
    "Unique": unique,
    "Compress": compress,
    "ReverseSequence": reverse_sequence,
}
