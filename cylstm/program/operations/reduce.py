"""Operations over axes: sums, means, extremes and the like, running sums, norms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cylstm.graph.values import Option
from cylstm.program.network import MIXES, Network
from cylstm.program.operations.elementwise import binary, cast, function, multiply, power
from cylstm.program.tensor import BATCH, BATCH_SIZE, Constant, Dim, DType, Tensor, constant, is_constant, shape_of

#: mode -> NumPy's function
_FOLDED: Mapping[str, Callable[..., Any]] = {
    "sum": np.sum,
    "mean": np.mean,
    "max": np.max,
    "min": np.min,
    "prod": np.prod,
    "any": np.any,
    "all": np.all,
    "argmax": np.argmax,
    "argmin": np.argmin,
    "var": np.var,
}
_DTYPES: Mapping[str, DType] = {"any": "bool", "all": "bool", "argmax": "int", "argmin": "int"}


def reduce(net: Network, x: Any, mode: str, dims: Any = None, keepdim: bool = False, **options: Option) -> Any:
    """A mode of the reduce layer over axes; None is all of them."""
    shape = shape_of(x)
    rank = len(shape)
    if dims is None or (isinstance(dims, (tuple, list)) and not dims):
        dims = range(rank)
    axes = sorted({d % rank for d in ([dims] if isinstance(dims, int) else dims)}, reverse=True) if rank else []
    if is_constant(x):
        return _reduce_constant(net, x, mode, axes, keepdim, options)
    x = net.tensor(x)
    for axis in axes:
        if x.size(axis) == BATCH_SIZE or (isinstance(x.size(axis), Dim) and BATCH in _places(x, axis)):
            raise net.refuse(f"over all axes, or over that of the batch, it {MIXES}; say which axes")
    gone = axes
    if mode in ("argmax", "argmin", "var"):
        for axis in axes:
            x = net.solid(x, axis)
    if mode in ("argmax", "argmin", "logsumexp", "var") and len(axes) > 1:
        x, axes = _one_axis(net, x, axes)
    dtype = _DTYPES.get(mode, "float" if mode in ("mean", "var", "norm", "logsumexp") else x.dtype)
    if mode in ("sum", "prod") and x.dtype == "bool":
        dtype = "int"
    counts = [len(p) if isinstance(p, tuple) else 1 for p in x.axes]
    plain = net.plain(x)
    for axis in axes:
        for at in reversed(range(sum(counts[:axis]), sum(counts[: axis + 1]))):
            plain = _over_one(net, plain, at, mode, options)
    y = net.rejoin(plain, counts).of(dtype)
    return y if keepdim else y.with_axes([places for i, places in enumerate(y.axes) if i not in gone])


def _places(x: Tensor, axis: int) -> tuple[Any, ...]:
    places = x.axes[axis]
    return places if isinstance(places, tuple) else (places,)


def _one_axis(net: Network, x: Tensor, axes: list[int]) -> tuple[Tensor, list[int]]:
    """Several axes as the last of them, the others of size 1."""
    order = sorted(axes)
    plain = net.plain(x)
    if len(plain.axes) != len(x.axes):
        raise net.refuse("over several axes of which some are joined is not supported")
    kept = [i for i in plain.stored if i not in order]
    value = net.arrange(plain, kept + order)
    sizes: list[Any] = [plain.size(i) for i in order]
    if any(isinstance(size, Dim) for size in sizes):
        raise net.needs_time("over the time and other axes at once")
    value = net.reshaped(value, [*value.shape[: len(kept)], math.prod(sizes)])
    y = net.place(value, [*kept, order[-1]], plain)
    return y, [order[-1]]


def _over_one(net: Network, x: Tensor, axis: int, mode: str, options: Mapping[str, Option]) -> Tensor:
    stored = x.axes[axis]
    assert not isinstance(stored, tuple)
    if stored == 0 and x.value.has_time and mode != "sum":
        advice = "total_length=x.size(1), or divide the sum by the lengths"
        net.refuse_unpacked(x.value, f"the {mode} over the time", advice, net.shortened)
    kept: list[Any] = list(x.axes)
    kept[axis] = None
    if stored is None:
        if mode in ("any", "all"):
            return cast(net, x, "bool").with_axes(kept)  # type: ignore[no-any-return]
        if mode in ("mean", "sum", "max", "min", "prod"):
            return x.with_axes(kept)
        x = net.last(x, axis)
        stored = x.axes[axis]
        kept = list(x.axes)
        kept[axis] = None
    rank = len(x.value.shape)
    value = net.add_layer("reduce", x.value, options={"mode": mode, "axis": stored, **options})
    kept = [a - 1 if isinstance(a, int) and a > stored else a for a in kept]  # type: ignore[operator]
    if rank == 1:
        kept = [BATCH if a == BATCH else None for a in kept]
    return Tensor(value, tuple(kept), x.dtype)


def _reduce_constant(
    net: Network, x: Any, mode: str, axes: Sequence[int], keepdim: bool, options: Mapping[str, Any]
) -> Any:
    shape = shape_of(x)
    gone: list[Any] = [shape[axis] for axis in axes if isinstance(shape[axis], Dim)]
    if gone and mode in ("sum", "prod", "argmax", "argmin"):
        if mode == "sum" and len(gone) == 1 and gone[0].axis is not None:
            kept = _reduce_constant(net, x, "mean", axes, keepdim, options)
            return binary(net, "mul", kept, gone[0])
        raise net.refuse(f"the {mode} of a constant over a size that is not known is not supported")
    array = np.asarray(x.array if isinstance(x, Constant) else x)
    if mode == "norm":
        found = np.sqrt(np.sum(np.square(array), axis=tuple(axes), keepdims=keepdim))
    elif mode == "logsumexp":
        largest = np.max(array, axis=tuple(axes), keepdims=True)
        largest = np.where(np.isfinite(largest), largest, 0)
        found = np.log(np.sum(np.exp(array - largest), axis=tuple(axes), keepdims=True)) + largest
        found = found if keepdim else np.squeeze(found, tuple(axes))
    elif mode in ("argmax", "argmin"):
        found = _FOLDED[mode](array, axis=axes[0] if len(axes) == 1 else None, keepdims=keepdim)
    elif mode == "var":
        found = np.var(array, axis=tuple(axes), keepdims=keepdim, ddof=options.get("correction", 1))
    else:
        found = _FOLDED[mode](array, axis=tuple(axes), keepdims=keepdim)
    left = [1 if i in axes else size for i, size in enumerate(shape) if keepdim or i not in axes]
    return constant(np.asarray(found), left)


def variance(net: Network, x: Any, dims: Any = None, correction: float = 1.0, keepdim: bool = False) -> Any:
    """The mean of the squares of what numbers differ from their mean, for `correction` 1 with a number less."""
    return reduce(net, x, "var", dims, keepdim, correction=float(correction))


def normalize(net: Network, x: Any, dim: Any = 1, eps: float = 1e-12) -> Tensor:
    """x / |x| along an axis: by the root of the mean of squares, and by that of the count."""
    x = net.tensor(x)
    x = net.last(x, net.axis(x, dim))
    count = x.value.features
    gain = np.full(count, 1.0 / math.sqrt(count), net.dtype)
    options: dict[str, Option] = {"mode": "rms", "epsilon": eps * eps / count}
    return Tensor(net.add_layer("layer_norm", x.value, {"gain": gain}, options, part="unit"), x.axes)


def norm(net: Network, x: Any, p: Any = 2.0, dims: Any = None, keepdim: bool = False) -> Any:
    """The p-norm of the numbers along axes."""
    if p is None or p in ("fro", 2):
        return reduce(net, x, "norm", dims, keepdim)
    if p == math.inf or p == -math.inf:
        return reduce(net, function(net, x, "abs"), "max" if p > 0 else "min", dims, keepdim)
    if p == 0:
        return reduce(net, cast(net, cast(net, x, "bool"), "float"), "sum", dims, keepdim)
    if p == 1:
        return reduce(net, function(net, x, "abs"), "sum", dims, keepdim)
    return power(net, reduce(net, power(net, function(net, x, "abs"), float(p)), "sum", dims, keepdim), 1.0 / p)


def cumulate(net: Network, x: Any, mode: str, dim: int, *, exclusive: bool = False, reverse: bool = False) -> Any:
    """Running sums, products or extremes along an axis; exclusive ones without the number itself, or from the end."""
    if is_constant(x) and not isinstance(x, Constant):
        return _cumulate_constant(np.asarray(x), mode, dim, exclusive, reverse)
    if isinstance(x, Constant):
        size = x.shape[dim]
        if isinstance(size, Dim) and size.axis is not None and mode == "sum" and not reverse:
            # of equal numbers: the first, twice the first, ...
            steps = net.positions(size.axis, 0.0 if exclusive else 1.0)
            rank = x.ndim
            axes: list[Any] = [None] * rank
            axes[dim % rank] = 0
            return multiply(net, steps.with_axes(axes), Constant(x.array, tuple(
                1 if i == dim % rank else s for i, s in enumerate(x.shape))))  # fmt: skip
        x = net.constant(x)
    x = net.tensor(x)
    axis = net.axis(x, dim)
    if x.size(axis) == 1 and not exclusive:
        return x
    x, place = net.stored_axis(x, axis)
    options: dict[str, Option] = {"mode": mode, "axis": place, "exclusive": exclusive, "reverse": reverse}
    value = net.add_layer("cumulate", x.value, options=options)
    return Tensor(value, x.axes, "int" if x.dtype == "bool" and mode in ("sum", "prod") else x.dtype)


def _cumulate_constant(array: np.ndarray, mode: str, dim: int, exclusive: bool, reverse: bool) -> np.ndarray:
    functions: dict[str, tuple[Callable[..., Any], float]] = {
        "sum": (np.cumsum, 0),
        "prod": (np.cumprod, 1),
        "max": (np.maximum.accumulate, -math.inf),
        "min": (np.minimum.accumulate, math.inf),
    }
    function, neutral = functions[mode]
    found = function(np.flip(array, dim) if reverse else array, axis=dim)
    if exclusive:
        first = np.full_like(np.take(found, [0], dim), neutral)
        found = np.concatenate([first, np.delete(found, -1, dim)], dim)
    return np.asarray(np.flip(found, dim) if reverse else found)


def top(net: Network, x: Any, count: int, dim: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """The largest or smallest numbers along an axis in order, and where they are."""
    x = net.tensor(x)
    axis = net.axis(x, dim)
    x = net.last(x, axis)
    place = x.axes[axis]
    outputs = net.add_layers("topk", x.value, options={"k": int(count), "largest": bool(largest), "axis": place})
    return Tensor(outputs["y"], x.axes, x.dtype), Tensor(outputs["indices"], x.axes, "int")
