"""Operations that give the same numbers another shape: nothing is moved unless an axis is divided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from cylstm.errors import ShapeError
from cylstm.program.network import MIXES, Network
from cylstm.program.tensor import (
    BATCH,
    BATCH_SIZE,
    Constant,
    Dim,
    Place,
    Size,
    Tensor,
    constant,
    is_constant,
    shape_of,
)


def reshape(net: Network, x: Any, shape: Sequence[Any]) -> Any:
    """The same numbers in another shape, of which one size may be -1; the batch stays apart from the rest."""
    if is_constant(x):
        return _reshape_constant(net, x, shape)
    x = net.plain(net.tensor(x))
    sizes = [net.numbers(size) for size in x.shape]
    wanted = _filled(net, x, sizes, shape)
    regrouped = _regrouped(net, x, sizes, wanted)
    if regrouped is not None:
        return regrouped
    elements: list[list[Any]] = [
        [place, size] for place, size in zip(x.axes, sizes) if set(size) != {1} or place == BATCH
    ]
    parts: dict[Any, list[int]] = {}
    found: list[list[Any]] = []
    for k, target in enumerate(wanted):
        places: list[Any] = []
        taken = [1] * len(target)
        # a batch of one row, in all examples, stays at its place if the axes that are made there have size 1 too, and
        # else is the first axis that is made where it is next
        is_single = bool(elements) and elements[0][0] == BATCH and set(elements[0][1]) == {1}
        if (
            is_single
            and k < x.batch < len(wanted)
            and {one for sizes in wanted[k : x.batch + 1] for one in sizes} == {1}
        ):
            is_single = False
        while tuple(taken) != target or (is_single and elements and elements[0][0] == BATCH):
            if not elements:
                raise _unfit(net, x, shape)
            place, size = elements[0]
            whole = [t * s for t, s in zip(taken, size)]
            if all(t % w == 0 for t, w in zip(target, whole)):
                places.append(place if place == BATCH else (place, len(parts.get(place, ()))))
                if place != BATCH:
                    parts.setdefault(place, []).append(size[0])
                elements.pop(0)
                taken = whole
                continue
            left = {t / one for t, one in zip(target, taken)}
            count = int(left.pop())
            if place == BATCH or left or len(set(size)) > 1 or size[0] % max(count, 1) or count < 2:
                raise _unfit(net, x, shape)
            places.append((place, len(parts.get(place, ()))))
            parts.setdefault(place, []).append(count)
            elements[0] = [place, tuple(s // count for s in size)]
            taken = [t * count for t in taken]
        found.append(places)
    if elements:
        raise _unfit(net, x, shape)
    value, first = _divided(net, x, parts)
    axes: list[Any] = []
    for places in found:
        stored: list[Place] = [place if place == BATCH else first[place[0]] + place[1] for place in places]
        axes.append(None if not stored else stored[0] if len(stored) == 1 else tuple(stored))
    return Tensor(value, tuple(axes), x.dtype)


def _regrouped(
    net: Network, x: Tensor, sizes: Sequence[tuple[int, ...]], wanted: Sequence[tuple[int, ...]]
) -> Tensor | None:
    """The numbers of each row in a shape whose axes are no joined or divided ones of `x`, such as (6, 4) as (4, 6)."""
    inner = [axis for axis in x.inner if not isinstance(x.size(axis), int) or x.size(axis) != 1]
    if not (
        x.batch == 0 and wanted and tuple(wanted[0]) == sizes[0] and all(isinstance(x.size(i), int) for i in inner)
    ):
        return None
    if any(len(set(size)) > 1 for size in wanted[1:]):
        return None
    before, after = [sizes[i][0] for i in inner], [size[0] for size in wanted[1:] if size[0] != 1]
    if math.prod(before) != math.prod(after) or _nests(before, after):
        return None
    value = net.reshaped(net.arrange(x, inner), after)
    places = iter(range(len(after)))
    return Tensor(value, (BATCH, *(None if size[0] == 1 else next(places) for size in wanted[1:])), x.dtype)


def _nests(before: Sequence[int], after: Sequence[int]) -> bool:
    """Whether each axis of two shapes is one or several of the other's, or a part of one."""
    ends = [set(np.cumprod(sizes).tolist()) for sizes in (before, after)]
    cuts = sorted(ends[0] | ends[1])
    return all(later % earlier == 0 for earlier, later in pairwise(cuts))


def _divided(net: Network, x: Tensor, parts: dict[Any, list[int]]) -> tuple[Any, dict[Any, int]]:
    """The value with its axes divided into parts, and where those of each axis begin."""
    sizes: list[int | None] = []
    first = {}
    for place, size in enumerate(x.value.shape):
        first[place] = len(sizes)
        sizes += [size] if len(parts.get(place, ())) < 2 else parts[place]
    return net.reshaped(x.value, sizes), first


def _filled(net: Network, x: Any, sizes: Sequence[tuple[int, ...]], shape: Sequence[Any]) -> list[tuple[int, ...]]:
    """The sizes wanted in each example, -1 replaced by what is left over."""
    unknown = [i for i, size in enumerate(shape) if isinstance(size, (int, np.integer)) and size == -1]
    if len(unknown) > 1:
        raise net.refuse(f"several -1 in the shape {tuple(shape)}")
    wanted = [(1,) if i in unknown else net.numbers(size) for i, size in enumerate(shape)]
    examples = len(sizes[0]) if sizes else len(net.numbers(1))
    if unknown:
        left = []
        for k in range(examples):
            have = math.prod(size[k] for size in sizes)
            known = math.prod(size[k] for i, size in enumerate(wanted) if i not in unknown)
            if not known or have % known:
                raise _unfit(net, x, shape)
            left.append(have // known)
        wanted[unknown[0]] = tuple(left)
    return wanted


def _unfit(net: Network, x: Any, shape: Sequence[Any]) -> Exception:
    sizes = shape_of(x)
    text = f"a reshape of {sizes} to {tuple(shape)}"
    if any(isinstance(size, Dim) and size.axis is not None for size in (*sizes, *shape)):
        return net.needs_time(text)
    if any(isinstance(size, Dim) for size in (*sizes, *shape)) and not _have_other_counts(net, sizes, shape):
        return net.refuse(f"{text} {MIXES}")
    return ShapeError(f"{net.place_name}: {text} does not fit")


def _have_other_counts(net: Network, sizes: Sequence[Any], shape: Sequence[Any]) -> bool:
    """Whether two shapes begin with the same rows and differ in how many numbers each row has."""
    if not sizes or not shape or sizes[0] != BATCH_SIZE or net.numbers(shape[0]) != net.numbers(BATCH_SIZE):
        return False
    if any(isinstance(size, int) and size == -1 for size in shape):
        return False
    counts = [math.prod(net.numbers(size)[0] for size in one) for one in (sizes, shape)]
    return counts[0] != counts[1]


def _reshape_constant(net: Network, x: Any, shape: Sequence[Any]) -> Any:
    """A constant's sizes that are not known are those of the new shape that stand for them."""
    if not isinstance(x, Constant):
        array = np.asarray(x)
        if all(isinstance(size, (int, np.integer)) for size in shape):
            return array.reshape([int(size) for size in shape])
        shape = [net.size(size) for size in shape]
        stored = [1 if isinstance(size, Dim) else size for size in shape]
        if -1 not in stored and math.prod(stored) != array.size:
            raise _unfit(net, x, shape)
        return constant(array.reshape(stored), shape)
    sizes = [net.numbers(size) for size in x.shape]
    wanted = _filled(net, x, sizes, shape)
    dims = {net.numbers(size): size for size in x.shape if isinstance(size, Dim)}
    target: list[Size] = []
    for numbers in wanted:
        size: Any = dims.get(numbers, numbers[0] if len(set(numbers)) == 1 and numbers not in dims else None)
        if size is None:
            products = {net.numbers(a * b): a * b for a in dims.values() for b in x.shape}
            size = products.get(numbers)
        if size is None:
            raise _unfit(net, x, shape)
        target.append(size)
    return constant(x.array.reshape([1 if isinstance(size, Dim) else size for size in target]), target)


def permute(net: Network, x: Any, dims: Sequence[int]) -> Any:
    """The axes in another order."""
    rank = len(shape_of(x))
    order = [int(dim) % rank for dim in dims] if rank else []
    if sorted(order) != list(range(rank)):
        raise net.refuse(f"a permutation {tuple(dims)} of {rank} axes")
    if isinstance(x, Constant):
        return Constant(x.array.transpose(order), tuple(x.shape[i] for i in order))
    if is_constant(x):
        return np.asarray(x).transpose(order)
    return _rearranged(as_tensor(net, x), order)


def _rearranged(x: Tensor, order: Sequence[int | None]) -> Tensor:
    """The axes of these numbers in this order, None for a new one of size 1; it stays known what was padded."""
    y = x.with_axes([None if i is None else x.axes[i] for i in order])
    if x.unpadded is None or x.unpadded[1] not in order:
        return y
    whole, axis, before, after = x.unpadded
    return replace(y, unpadded=(_rearranged(whole, order), order.index(axis), before, after))


def as_tensor(net: Network, x: Any) -> Tensor:
    """A tensor, indices as they are."""
    return x if isinstance(x, Tensor) else net.tensor(x)


def transpose(net: Network, x: Any, dim0: int, dim1: int) -> Any:
    """Two axes swapped."""
    order = list(range(len(shape_of(x))))
    if not order:
        return x
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return permute(net, x, order)


def moveaxis(net: Network, x: Any, source: Any, destination: Any) -> Any:
    """Axes moved to other places, the rest in their order."""
    rank = len(shape_of(x))
    sources = [one % rank for one in ([source] if isinstance(source, int) else source)]
    targets = [one % rank for one in ([destination] if isinstance(destination, int) else destination)]
    order = [i for i in range(rank) if i not in sources]
    for target, one in sorted(zip(targets, sources)):
        order.insert(target, one)
    return permute(net, x, order)


def squeeze(net: Network, x: Any, dims: int | Sequence[int] | None = None) -> Any:
    """Axes of size 1 dropped: all of them, or those given if they have size 1."""
    shape = shape_of(x)
    rank = len(shape)
    chosen = range(rank) if dims is None else [dims] if isinstance(dims, int) else dims
    gone = {i % rank for i in chosen if rank and shape[i % rank] == 1}
    if is_constant(x):
        left = [size for i, size in enumerate(shape) if i not in gone]
        array = np.asarray(x.array if isinstance(x, Constant) else x)
        return constant(array.reshape([s for i, s in enumerate(array.shape) if i not in gone]), left)
    return _rearranged(as_tensor(net, x), [i for i in range(rank) if i not in gone])


def unsqueeze(net: Network, x: Any, dim: int) -> Any:
    """A new axis of size 1."""
    shape = list(shape_of(x))
    at = dim % (len(shape) + 1)
    if is_constant(x):
        shape.insert(at, 1)
        array = np.asarray(x.array if isinstance(x, Constant) else x)
        return constant(np.expand_dims(array, at), shape)
    order: list[int | None] = list(range(len(shape)))
    order.insert(at, None)
    return _rearranged(as_tensor(net, x), order)


def flatten(net: Network, x: Any, start: int = 0, end: int = -1) -> Any:
    """Several axes joined into one."""
    shape = shape_of(x)
    rank = len(shape)
    if rank == 0:
        return reshape(net, x, [1])
    start, end = start % rank, end % rank
    joined: Any = 1
    for size in shape[start : end + 1]:
        joined = size * joined if isinstance(joined, int) else joined * size
    return reshape(net, x, [*shape[:start], joined, *shape[end + 1 :]])


def unflatten(net: Network, x: Any, dim: int, sizes: Sequence[Any]) -> Any:
    """One axis divided into several."""
    shape = shape_of(x)
    axis = dim % len(shape)
    sizes = list(sizes)
    unknown = [i for i, size in enumerate(sizes) if isinstance(size, int) and size == -1]
    if unknown:
        known: Any = math.prod(size for i, size in enumerate(sizes) if i not in unknown)
        sizes[unknown[0]] = shape[axis] // known
    return reshape(net, x, [*shape[:axis], *sizes, *shape[axis + 1 :]])


def expand(net: Network, x: Any, shape: Sequence[Any]) -> Any:
    """Axes of size 1 repeated; -1 and the axis's own size keep it."""
    given = shape_of(x)
    rank = len(shape)
    given = (1,) * (rank - len(given)) + given
    wanted = []
    for size, own in zip(shape, given):
        if (isinstance(size, (int, np.integer)) and size == -1) or net.numbers(size) == net.numbers(own):
            wanted.append(own)
        else:
            wanted.append(net.size(size))
    if is_constant(x):
        array = np.asarray(x.array if isinstance(x, Constant) else x)
        return constant(array.reshape((1,) * (rank - array.ndim) + array.shape), wanted)
    x = as_tensor(net, x)
    x = x.with_axes((None,) * (rank - len(x.axes)) + x.axes)
    for i, size in enumerate(wanted):
        if x.size(i) == size:
            continue
        if x.size(i) != 1:
            raise ShapeError(f"{net.place_name}: an expansion of {given} to {tuple(shape)} does not fit")
        x = repeated(net, x, i, size)
    return x


def repeated(net: Network, x: Tensor, axis: int, count: Any) -> Tensor:
    """An axis of size 1 made `count` times as long."""
    if isinstance(count, Dim):
        if count.axis is not None:
            return net.repeated_over(x, axis, count.axis)
        if count == BATCH_SIZE and x.batch < 0:
            return x.with_axes([BATCH if i == axis else place for i, place in enumerate(x.axes)])
        raise net.refuse(f"a repetition {count!r} times {MIXES}")
    counts = [len(places) if isinstance(places, tuple) else 1 for places in x.axes]
    plain, at = net.plain(x), sum(counts[:axis])
    if plain.axes[at] is None:
        if any(isinstance(plain.size(i), Dim) for i in plain.inner):
            plain = net.last(plain, at)
        else:
            order = [at, *plain.stored]
            plain = net.place(net.arrange(plain, order), order, plain)
    stored = plain.axes[at]
    assert isinstance(stored, int)
    value = net.add_layer("upsample", plain.value, options={"axis": stored, "size": int(count)}, part="repeat")
    return net.rejoin(Tensor(value, plain.axes, x.dtype), counts)


def tile(net: Network, x: Any, counts: Sequence[Any]) -> Any:
    """The whole tensor several times along each axis."""
    rank = max(len(counts), len(shape_of(x)))
    counts = [1] * (rank - len(counts)) + [net.size(count) for count in counts]
    if any(isinstance(count, int) and count < 1 for count in counts):
        raise net.refuse(f"a tensor without numbers, repeated {tuple(counts)} times, is not supported")
    while len(shape_of(x)) < rank:
        x = unsqueeze(net, x, 0)
    if is_constant(x):
        shape = shape_of(x)
        array = np.asarray(x.array if isinstance(x, Constant) else x)
        dims = [size * count if count != 1 else size for size, count in zip(shape, counts)]
        if any(isinstance(count, Dim) and size != 1 for size, count in zip(shape, counts)):
            raise net.refuse("a constant repeated as often as there are rows or steps is not supported")
        return constant(np.tile(array, [1 if isinstance(c, Dim) or isinstance(d, Dim) else c
                                        for c, d in zip(counts, dims)]), dims)  # fmt: skip
    x = as_tensor(net, x)
    for i, count in enumerate(counts):
        if count == 1:
            continue
        if x.size(i) == 1:
            x = repeated(net, x, i, count)
        elif isinstance(count, Dim):
            raise net.refuse(f"a repetition of {x.shape} as often as there are rows or steps is not supported")
        else:
            x = net.concat([x] * int(count), i)
    return x


def repeat_interleave(net: Network, x: Any, count: int, dim: int) -> Any:
    """Each place of an axis `count` times in a row."""
    if is_constant(x) and not isinstance(x, Constant):
        return np.repeat(x, count, axis=dim)
    x = net.tensor(x)
    x, place = net.stored_axis(x, net.axis(x, dim))
    value = net.add_layer("upsample", x.value, options={"axis": place, "size": int(count)})
    return Tensor(value, x.axes, x.dtype)


def size(net: Network, x: Any, dim: int | None = None) -> Any:
    """The shape, or one size of it."""
    shape = shape_of(x)
    return shape if dim is None else shape[dim]
