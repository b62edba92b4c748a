"""ATen's operations that write to chosen places of a tensor: constant ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cylstm.formats.torch.aten.arithmetic import add, mul
from cylstm.program.network import Network
from cylstm.program.operations import elementwise, parts, shape
from cylstm.program.tensor import Constant, Dim, dtype_of, is_constant, shape_of


def index_put(net: Network, self: Any, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Any:
    found = joined_places(net, shape_of(self), indices)
    if found is None:
        raise net.refuse(
            "writing to places that the network computes, or of axes that are apart, is not supported; use torch.where"
        )
    first, joined, places = found
    sizes = list(shape_of(self))
    before, rest = sizes[:first], sizes[first + len(joined) :]
    if not shape_of(values) and not accumulate:
        written = np.zeros(joined, bool)
        written.reshape(-1)[places.reshape(-1)] = True
        written = written.reshape([*[1] * len(before), *joined, *[1] * len(rest)])
        return elementwise.where(net, written, elementwise.cast(net, values, dtype_of(self)), self)
    x = self if len(joined) == 1 else shape.reshape(net, self, [*before, int(np.prod(joined)), *rest])
    if shape_of(values):
        values = shape.expand(net, values, [*before, *places.shape, *rest])
        values = values if places.ndim == 1 else shape.reshape(net, values, [*before, places.size, *rest])
    y = _placed(net, x, first, places.reshape(-1), values, accumulate)
    return y if len(joined) == 1 else shape.reshape(net, y, sizes)


def joined_places(
    net: Network, sizes: Sequence[Any], indices: Sequence[Any]
) -> tuple[int, list[int], np.ndarray] | None:
    """The first of the axes that constant indices choose places of, their sizes, and the places in all of them joined;
    None if these are computed, or of axes that are apart from each other.
    """
    if not all(one is None or (is_constant(one) and not isinstance(one, Constant)) for one in indices):
        return None
    chosen: list[np.ndarray] = []
    axes: list[int] = []
    axis = 0
    for one in indices:
        array = np.asarray(one)
        several = array.ndim if one is not None and array.dtype == bool else 1
        if one is not None:
            axes += range(axis, axis + several)
            chosen += np.nonzero(array) if array.dtype == bool else [array]
        axis += several
    first = axes[0] if axes else 0
    if not axes or axes != list(range(first, first + len(axes))):
        return None
    joined = _known(net, sizes[first : first + len(axes)])
    places = [np.where(one < 0, one + size, one) for one, size in zip(np.broadcast_arrays(*chosen), joined)]
    if any(((one < 0) | (one >= size)).any() for one, size in zip(places, joined)):
        raise net.refuse(f"places outside of axes of {joined}")
    return first, joined, np.atleast_1d(np.ravel_multi_index(places, joined))


def index_copy(net: Network, self: Any, dim: int, index: Any, source: Any) -> Any:
    return _placed(net, self, dim, _constant_places(net, index), source, False)


def index_fill(net: Network, self: Any, dim: int, index: Any, value: Any) -> Any:
    return _placed(net, self, dim, _constant_places(net, index), value, False)


def index_add(net: Network, self: Any, dim: int, index: Any, source: Any, alpha: Any = 1) -> Any:
    source = source if alpha == 1 else mul(net, source, alpha)
    return _placed(net, self, dim, _constant_places(net, index), source, True)


def scatter(
    net: Network, self: Any, dim: int, index: Any, src: Any = None, value: Any = None, reduce: Any = None
) -> Any:
    if reduce not in (None, "add", "sum"):
        raise net.refuse(f"scatter with reduce={reduce!r} is not supported")
    return _scattered(net, self, dim, index, value if src is None else src, reduce is not None)


def scatter_add(net: Network, self: Any, dim: int, index: Any, src: Any) -> Any:
    return _scattered(net, self, dim, index, src, True)


def _scattered(net: Network, x: Any, dim: int, index: Any, new: Any, accumulate: bool) -> Any:
    """Where all lines along the axis write to the same places."""
    axis = dim % len(shape_of(x))
    if not is_constant(index):
        raise net.refuse("writing to places that the network computes is not supported; use torch.where")
    others = [(a, b) for k, (a, b) in enumerate(zip(shape_of(index), shape_of(x))) if k != axis]
    lines = np.asarray(index.array if isinstance(index, Constant) else index)
    lines = np.moveaxis(lines, axis, -1).reshape(-1, lines.shape[axis])
    if any(net.numbers(a) != net.numbers(b) for a, b in others) or not (lines == lines[:1]).all():
        raise net.refuse("scatter to other places in each line along the axis is not supported; use torch.where")
    if shape_of(new):
        for k, size in enumerate(shape_of(index)):
            if net.numbers(shape_of(new)[k]) != net.numbers(size):
                new = parts.slice_axis(net, new, k, 0, size)
    return _placed(net, x, axis, lines[0], new, accumulate)


def _known(net: Network, sizes: Sequence[Any]) -> list[int]:
    if any(isinstance(size, Dim) for size in sizes):
        raise net.needs_time("writing to chosen steps or rows")
    return [int(size) for size in sizes]


def _constant_places(net: Network, index: Any) -> np.ndarray:
    if not is_constant(index) or isinstance(index, Constant):
        raise net.refuse("writing to places that the network computes is not supported; use torch.where")
    return np.asarray(index).reshape(-1)


def _placed(net: Network, x: Any, dim: int, places: np.ndarray, new: Any, accumulate: bool) -> Any:
    """`x` with other numbers, or with numbers added, at places of one axis; `new` is one number, or one for each."""
    axis = dim % len(shape_of(x))
    (size,) = _known(net, shape_of(x)[axis : axis + 1])
    places = np.where(places < 0, places + size, places).astype(np.int64)
    if places.size == 0:
        return x
    if not 0 <= places.min() <= places.max() < size:
        raise net.refuse(f"places from {places.min()} to {places.max()} of an axis of {size} are written")
    is_number = not shape_of(new)
    if is_number and not accumulate:
        where = np.isin(np.arange(size), places).reshape([-1 if k == axis else 1 for k in range(len(shape_of(x)))])
        return elementwise.where(net, where, elementwise.cast(net, new, dtype_of(x)), x)
    if not accumulate and len(np.unique(places)) < len(places):
        raise net.refuse("one place is written twice, and PyTorch does not say which number it has then")
    if is_number:
        new = shape.expand(net, new, [len(places) if k == axis else one for k, one in enumerate(shape_of(x))])
    new = elementwise.cast(net, new, dtype_of(x))
    while places.size:
        # the first number for each place, in the order of the places; what is added to one again comes after
        _, chosen = np.unique(places, return_index=True)
        part = new if chosen.tolist() == list(range(len(places))) else parts.take(net, new, chosen, axis)
        if accumulate:
            part = elementwise.cast(net, add(net, parts.take(net, x, places[chosen], axis), part), dtype_of(x))
        order = np.arange(size)
        order[places[chosen]] = size + np.arange(len(chosen))
        x = parts.take(net, parts.concat(net, [x, part], axis), order, axis)
        left = np.setdiff1d(np.arange(len(places)), chosen)
        places = places[left]
        new = parts.take(net, new, left, axis) if places.size else new
    return x


PLACES: Mapping[str, Callable[..., Any]] = {
    "index_put": index_put,
    "index_copy": index_copy,
    "index_fill": index_fill,
    "index_add": index_add,
    "scatter": scatter,
    "scatter_add": scatter_add,
}
