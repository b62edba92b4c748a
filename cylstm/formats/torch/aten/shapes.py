"""ATen's operations on shapes, parts and axes, and those that make constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cylstm.formats.torch.aten.arithmetic import dtype as dtype_named
from cylstm.formats.torch.aten.places import joined_places
from cylstm.program.network import MIXES, Network
from cylstm.program.operations import constants, elementwise, parts, reduce, shape
from cylstm.program.operations.linear import einsum, embedding, linear, matmul
from cylstm.program.tensor import BATCH, Constant, Dim, RowNumbers, Scores, Tensor, dtype_of, is_constant, shape_of


def view(net: Network, self: Any, size: Sequence[Any]) -> Any:
    if isinstance(self, Scores):
        found = _regrouped(net, self, size)
        if found is not None:
            return found
    return shape.reshape(net, self, size)


def _regrouped(net: Network, scores: Scores, size: Sequence[Any]) -> Scores | None:
    """Scores (batch * heads, time, time) as (batch, heads, time, time), and the other way round."""
    if scores.query.ndim != 4:
        return None
    other = replace(scores, joined=not scores.joined)
    same = len(size) == other.ndim and all(
        (isinstance(one, int) and one == -1) or net.numbers(one) == net.numbers(own)
        for one, own in zip(size, other.shape)
    )
    return other if same else None


def full(net: Network, size: Sequence[Any], fill_value: Any, dtype: Any = None, **others: Any) -> Any:
    kind = dtype_of(fill_value) if dtype is None else dtype_named(net, dtype)
    return constants.full(net, [net.size(one) for one in size], fill_value, kind)


def made(value: float) -> Callable[..., Any]:
    def found(net: Network, size: Sequence[Any], dtype: Any = None, **others: Any) -> Any:
        return full(net, size, value, dtype or "float32")

    return found


def made_like(value: float | None) -> Callable[..., Any]:
    def found(net: Network, self: Any, fill_value: Any = None, dtype: Any = None, **others: Any) -> Any:
        kind = dtype_of(self) if dtype is None else dtype_named(net, dtype)
        size = others.get("size", shape_of(self))
        return constants.full(net, [net.size(one) for one in size], fill_value if value is None else value, kind)

    return found


def arange(net: Network, end: Any = None, start: Any = 0, step: Any = 1, dtype: Any = None, **others: Any) -> Any:
    kind = dtype_named(net, dtype) if dtype is not None else None
    return constants.arange(net, start, net.size(end), step, kind)


def select(net: Network, self: Any, dim: int, index: Any) -> Any:
    return parts.select(net, self, dim, index)


def slice_(net: Network, self: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    return parts.slice_axis(net, self, dim, start, end, step)


def index(net: Network, self: Any, indices: Sequence[Any]) -> Any:
    given = [(k, one) for k, one in enumerate(indices) if one is not None]
    if len(given) == 1 and is_constant(given[0][1]):
        k, chosen = given[0]
        chosen = np.asarray(chosen.array if isinstance(chosen, Constant) else chosen)
        return parts.take(net, self, np.flatnonzero(chosen) if chosen.dtype == bool else chosen, k)
    if all(is_constant(one) for _, one in given) and is_constant(self) and not isinstance(self, Constant):
        places: list[Any] = [slice(None)] * np.ndim(self)
        for k, one in given:
            places[k] = np.asarray(one)
        return np.asarray(self)[tuple(places)]
    if is_constant(self) and len(given) == 1 and dtype_of(given[0][1]) == "int" and given[0][0] == 0:
        chosen = given[0][1]
        if not (isinstance(chosen, Tensor) and chosen.value.kind == "index"):
            chosen = constants.from_front(net, chosen, len(self))
        return rows_of(net, self, chosen)
    if len(given) > 1:
        found = joined_places(net, shape_of(self), indices)
        if found is not None:
            first, joined, chosen = found
            sizes = list(shape_of(self))
            flat = shape.reshape(net, self, [*sizes[:first], int(np.prod(joined)), *sizes[first + len(joined) :]])
            return parts.take(net, flat, chosen, first)
    of_rows = _of_each_row(net, self, given)
    if of_rows is not None:
        return of_rows
    if any(dtype_of(one) == "bool" for _, one in given):
        raise net.refuse("a choice by truths, whose number depends on the numbers, is not supported; use torch.where")
    raise net.refuse("places chosen by several computed indices are not supported; use gather or index_select")


def rows_of(net: Network, table: Any, chosen: Any) -> Any:
    """Rows of a constant that computed whole numbers choose, or that an input gives."""
    table = np.asarray(table)
    rows = embedding(net, chosen, table.reshape(len(table), -1)).of(dtype_of(table))
    return shape.reshape(net, rows, [*shape_of(chosen), *table.shape[1:]])


def _of_each_row(net: Network, x: Any, given: Sequence[tuple[int, Any]]) -> Any:
    """``x[torch.arange(batch), lengths - 1]``: one place of the second axis for each row."""
    if len(given) != 2 or [k for k, _ in given] != [0, 1] or not isinstance(given[0][1], RowNumbers):
        return None
    places = given[1][1]
    if is_constant(places):
        return parts.select(net, x, 1, int(np.asarray(places).reshape(-1)[0])) if np.size(places) == 1 else None
    return constants.take_along(net, x, places, 1)


def index_select(net: Network, self: Any, dim: int, index: Any) -> Any:
    if is_constant(index):
        return parts.take(net, self, np.asarray(index), dim)
    if is_constant(self) and dim == 0:
        return rows_of(net, self, index)
    raise net.refuse("places of an axis chosen by numbers that the network computes are not supported; use gather")


def gather(net: Network, self: Any, dim: int, index: Any, sparse_grad: bool = False) -> Any:
    """Of the other axes the first places, as many as `index` has: also where it has one, which is not matched."""
    rank = len(shape_of(self))
    for k, (size, count) in enumerate(zip(shape_of(self), shape_of(index))):
        if k != dim % max(rank, 1) and isinstance(count, int) and count != size:
            self = parts.slice_axis(net, self, k, 0, count)
    return take_along(net, self, dim, index)


def take_along(net: Network, self: Any, dim: int, index: Any) -> Any:
    if is_constant(self) and is_constant(index):
        return np.take_along_axis(np.asarray(self), np.asarray(index), dim)
    return constants.gather(net, self, index, dim)


def take_along_dim(net: Network, self: Any, indices: Any, dim: Any = None) -> Any:
    if dim is None:
        self, indices, dim = shape.flatten(net, self), shape.flatten(net, indices), 0
    return take_along(net, self, dim, constants.from_front(net, indices, shape_of(self)[dim]))


def expand_as(net: Network, self: Any, other: Any) -> Any:
    return shape.expand(net, self, shape_of(other))


def roll(net: Network, self: Any, shifts: Sequence[int], dims: Sequence[int] = ()) -> Any:
    if not dims:
        raise net.refuse("a roll over all axes is not supported; say dims=")
    return parts.roll(net, self, shifts, dims)


def repeat_interleave(net: Network, self: Any, repeats: Any, dim: Any = None, output_size: Any = None) -> Any:
    if not isinstance(repeats, int) or repeats < 1:
        raise net.refuse("each place of an axis another number of times, or none, is not supported")
    if dim is None:
        self, dim = shape.flatten(net, self), 0
    return shape.repeat_interleave(net, self, repeats, dim)


def whole_numbers(net: Network, found: Any) -> Any:
    """A constant tensor of whole numbers as plain ones."""
    if isinstance(found, np.ndarray):
        return found.tolist()
    if isinstance(found, (Tensor, Constant)):
        return of_numbers(net)
    return found


def one_hot(net: Network, self: Any, num_classes: int = -1) -> Any:
    if num_classes < 0:
        raise net.refuse("one_hot without num_classes depends on the numbers; say num_classes=")
    classes = np.arange(num_classes)
    if is_constant(self):
        return (np.asarray(self)[..., np.newaxis] == classes).astype(np.int64)
    found = elementwise.binary(net, "equal", shape.unsqueeze(net, self, -1), classes)
    return found.of("int")


def reduction(mode: str) -> Callable[..., Any]:
    def found(net: Network, self: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
        x = self if dtype is None else elementwise.cast(net, self, dtype_named(net, dtype))
        return reduce.reduce(net, x, mode, dim, keepdim)

    return found


def extreme(mode: str) -> Callable[..., Any]:
    """``max`` and ``min``: of two tensors, of all numbers, or along an axis with the places."""

    def found(net: Network, self: Any, dim: Any = None, keepdim: bool = False, other: Any = None) -> Any:
        if other is not None:
            return elementwise.binary(net, mode, self, other)
        if dim is None:
            return reduce.reduce(net, self, mode)
        return (
            reduce.reduce(net, self, mode, dim, keepdim),
            lambda: reduce.reduce(net, self, f"arg{mode}", dim, keepdim),
        )

    return found


def argument(mode: str) -> Callable[..., Any]:
    def found(net: Network, self: Any, dim: Any = None, keepdim: bool = False) -> Any:
        if dim is None:
            self = shape.flatten(net, self)
            dim = 0
        return reduce.reduce(net, self, mode, dim, keepdim)

    return found


def variance(is_root: bool, with_mean: bool = False) -> Callable[..., Any]:
    def found(
        net: Network, self: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, correction: Any = None
    ) -> Any:
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        count = correction if correction is not None else 1 if unbiased in (None, True) else 0
        y = reduce.variance(net, self, dim, float(count), keepdim)
        y = elementwise.function(net, y, "sqrt") if is_root else y
        return (y, reduce.reduce(net, self, "mean", dim, keepdim)) if with_mean else y

    return found


def cumulated(mode: str, *, with_places: bool = False) -> Callable[..., Any]:
    def found(net: Network, self: Any, dim: int, dtype: Any = None) -> Any:
        x = self if dtype is None else elementwise.cast(net, self, dtype_named(net, dtype))
        y = reduce.cumulate(net, x, mode, dim)
        return (y, net_unavailable(f"the places of a running {mode} are not computed")) if with_places else y

    return found


def net_unavailable(why: str) -> Any:
    from cylstm.program.tensor import Unavailable

    return Unavailable(why)


def topk(net: Network, self: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    return reduce.top(net, self, k, dim, largest)


def sort(net: Network, self: Any, dim: int = -1, descending: bool = False, stable: Any = None) -> Any:
    count = shape_of(self)[dim]
    if not isinstance(count, int):
        raise net.needs_time("a sort over the time")
    return reduce.top(net, self, count, dim, descending)


def norm(
    net: Network, self: Any, p: Any = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None, ord: Any = None
) -> Any:
    return reduce.norm(net, self, p if ord is None else ord, dim, keepdim)


def linalg_norm(
    net: Network, self: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Any:
    """A norm of vectors, or with an `ord` over two axes one of matrices."""
    rank = len(shape_of(self))
    if ord is not None and dim is None and rank == 2:
        dim = (0, 1)
    if ord is not None and isinstance(dim, (tuple, list)) and len(dim) == 2:
        return matrix_norm(net, self, ord, dim, keepdim)
    return norm(net, self, 2 if ord is None else ord, dim, keepdim)


def matrix_norm(
    net: Network, self: Any, ord: Any = "fro", dim: Sequence[int] = (-2, -1), keepdim: bool = False, dtype: Any = None
) -> Any:
    """The root of the sum of squares, or the largest or smallest sum of magnitudes of a column or of a row."""
    rank = len(shape_of(self))
    rows, columns = (one % rank for one in dim)
    if ord in ("fro", None):
        return norm(net, self, 2, [rows, columns], keepdim)
    if ord not in (1, -1, math.inf, -math.inf):
        raise net.refuse(f"a norm of matrices of the order {ord}, by their singular values, is not supported")
    summed, left = (rows, columns) if abs(ord) == 1 else (columns, rows)
    found = reduce.reduce(net, elementwise.function(net, self, "abs"), "sum", summed, True)
    found = reduce.reduce(net, found, "max" if ord > 0 else "min", left, True)
    return found if keepdim else shape.squeeze(net, found, [rows, columns])


def typed(net: Network, product: Any, *operands: Any) -> Any:
    """A product as whole numbers, where all that is multiplied is."""
    kind = elementwise.joined_dtype(*operands)
    if kind == "bool":
        raise net.refuse("a product of matrices of truths is not supported; make them numbers")
    return product if kind == "float" or is_constant(product) else net.tensor(product).of(kind)


def linear_(net: Network, input: Any, weight: Any, bias: Any = None) -> Any:
    return typed(net, linear(net, input, weight, bias), input, weight)


def matmul_(net: Network, self: Any, other: Any) -> Any:
    return typed(net, matmul(net, self, other), self, other)


def addmm(net: Network, self: Any, mat1: Any, mat2: Any, beta: Any = 1, alpha: Any = 1) -> Any:
    y = matmul_(net, mat1, mat2)
    y = y if alpha == 1 else elementwise.multiply(net, y, alpha)
    return elementwise.add(net, y, self, beta) if beta else y


def baddbmm(net: Network, self: Any, batch1: Any, batch2: Any, beta: Any = 1, alpha: Any = 1) -> Any:
    from cylstm.formats.torch.aten.arithmetic import add, mul

    y = matmul_(net, batch1, batch2)
    y = y if alpha == 1 else mul(net, y, alpha)
    return add(net, y, self if beta == 1 else mul(net, self, beta)) if beta else y


def tril(keeps: Callable[..., Any]) -> Callable[..., Any]:
    def found(net: Network, self: Any, diagonal: int = 0) -> Any:
        sizes = shape_of(self)[-2:]
        if any(isinstance(size, Dim) for size in sizes):
            raise net.needs_time("a triangle over the time")
        kept = keeps(np.ones(sizes, bool), diagonal)
        if is_constant(self):
            return keeps(np.asarray(self), diagonal)
        return elementwise.where(net, kept, self, elementwise.cast(net, 0, dtype_of(self)))

    return found


def meshgrid(net: Network, tensors: Sequence[Any], indexing: Any = "ij") -> Any:
    """Each tensor along an axis of its own, repeated over those of the others."""
    flat = [one if shape_of(one) else shape.unsqueeze(net, one, 0) for one in tensors]
    sizes = [shape_of(one)[0] for one in flat]
    grids = []
    for k, one in enumerate(flat):
        for at in range(len(flat)):
            one = one if at == k else shape.unsqueeze(net, one, at)
        grids.append(shape.expand(net, one, sizes))
    if indexing == "xy" and len(flat) > 1:
        grids = [shape.transpose(net, one, 0, 1) for one in grids]
    return tuple(grids)


def select_scatter(net: Network, self: Any, src: Any, dim: int, index: int) -> Any:
    return written(net, self, shape.unsqueeze(net, src, dim), dim, index, index + 1 if index != -1 else None, 1)


def slice_scatter(
    net: Network, self: Any, src: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Any:
    return written(net, self, src, dim, start, end, step)


def written(net: Network, x: Any, new: Any, dim: int, start: Any, stop: Any, step: int) -> Any:
    """`x` with other numbers in a part of one axis."""
    size = shape_of(x)[dim]
    if isinstance(size, Dim):
        begin, before_end = parts.of_time(net, size, start, stop) if step == 1 else (None, None)
        if step != 1 or begin is None:
            raise net.needs_time("a part of the time that is written")
        pieces = []
        if begin:
            pieces.append(parts.slice_axis(net, x, dim, 0, begin, 1))
        pieces.append(new)
        if before_end:
            pieces.append(parts.slice_axis(net, x, dim, -before_end, None, 1))
        return new if len(pieces) == 1 else parts.concat(net, pieces, dim)
    first, last, step = slice(start, stop, step).indices(size)
    chosen = range(first, last, step)
    if step == 1:
        pieces = [new]
        if first > 0:
            pieces.insert(0, parts.slice_axis(net, x, dim, 0, first))
        if last < size:
            pieces.append(parts.slice_axis(net, x, dim, last, None))
        return new if len(pieces) == 1 else parts.concat(net, pieces, dim)
    pieces = [
        parts.slice_axis(net, new, dim, chosen.index(k), chosen.index(k) + 1) if k in chosen
        else parts.slice_axis(net, x, dim, k, k + 1)
        for k in range(size)
    ]  # fmt: skip
    return parts.concat(net, pieces, dim)


DRAWS = (
    "draws random numbers, so that no two calls give the same, which is not supported; draw them outside and give them "
    "as an input"
)


def draws(net: Network, *args: Any, **others: Any) -> Any:
    raise net.refuse(DRAWS)


def mixes(net: Network, *args: Any, **others: Any) -> Any:
    raise net.refuse(MIXES)


def sized_by_numbers(net: Network, *args: Any, **others: Any) -> Any:
    raise net.refuse("a tensor whose size depends on the numbers in a tensor is not supported; use torch.where")


def of_numbers(net: Network, *args: Any, **others: Any) -> Any:
    raise net.refuse("a number of a tensor that decides what the program does is not supported")


def atleast(net: Network, tensors: Sequence[Any], rank: int) -> list[Any]:
    """Tensors with axes of size 1 where PyTorch adds them: in front, the third behind."""
    found = []
    for one in tensors:
        while len(shape_of(one)) < rank:
            one = shape.unsqueeze(net, one, -1 if len(shape_of(one)) == 2 else 0)
        found.append(one)
    return found


def unfold(net: Network, self: Any, dimension: int, size: int, step: int) -> Any:
    """Windows along an axis, ``y[..., i, ..., j] = x[..., i step + j, ...]``; the places in a window come last."""
    total = shape_of(self)[dimension]
    if not isinstance(total, int):
        raise net.needs_time("windows of the time")
    axis = dimension % len(shape_of(self))
    starts = np.arange(0, total - size + 1, step)
    windows = parts.take(net, self, starts[:, np.newaxis] + np.arange(size), axis)
    return shape.moveaxis(net, windows, axis + 1, -1)


def diff(net: Network, self: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """Each place of an axis less the one before, `n` times."""
    pieces = [one for one in (prepend, self, append) if one is not None]
    x = pieces[0] if len(pieces) == 1 else parts.concat(net, pieces, dim)
    for _ in range(n):
        later, earlier = parts.slice_axis(net, x, dim, 1, None), parts.slice_axis(net, x, dim, 0, -1)
        is_truth = dtype_of(x) == "bool"
        x = elementwise.binary(net, "xor", later, earlier) if is_truth else elementwise.subtract(net, later, earlier)
    return x


def without_nan(net: Network, x: Any) -> Any:
    if dtype_of(x) != "float":
        return x
    return elementwise.where(net, elementwise.function(net, x, "isnan"), 0.0, x)


def cosine_similarity(net: Network, x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """The sum of the products of two vectors, each divided by its length or `eps`."""
    shape_of_both = elementwise.broadcast_shapes(net, [shape_of(x1), shape_of(x2)])
    directions = []
    for x in (x1, x2):
        while len(shape_of(x)) < len(shape_of_both):
            x = shape.unsqueeze(net, x, 0)
        length = elementwise.binary(net, "max", reduce.norm(net, x, 2, dim, True), eps)
        directions.append(elementwise.divide(net, x, length))
    return reduce.reduce(net, elementwise.multiply(net, *directions), "sum", dim)


#: ATen's name without its overload -> function
SHAPES: Mapping[str, Callable[..., Any]] = {
    "view": view,
    "reshape": lambda net, self, shape: view(net, self, shape),
    "_unsafe_view": view,
    "_reshape_alias": lambda net, self, size, stride=None: view(net, self, size),
    "view_as": lambda net, self, other: view(net, self, shape_of(other)),
    "reshape_as": lambda net, self, other: view(net, self, shape_of(other)),
    "flatten": lambda net, self, start_dim=0, end_dim=-1: shape.flatten(net, self, start_dim, end_dim),
    "unflatten": lambda net, self, dim, sizes: shape.unflatten(net, self, dim, sizes),
    "permute": lambda net, self, dims: shape.permute(net, self, dims),
    "transpose": lambda net, self, dim0, dim1: shape.transpose(net, self, dim0, dim1),
    "swapaxes": lambda net, self, axis0, axis1: shape.transpose(net, self, axis0, axis1),
    "swapdims": lambda net, self, dim0, dim1: shape.transpose(net, self, dim0, dim1),
    "t": lambda net, self: shape.transpose(net, self, 0, -1) if len(shape_of(self)) > 1 else self,
    "numpy_T": lambda net, self: shape.permute(net, self, list(range(len(shape_of(self))))[::-1]),
    "mT": lambda net, self: shape.transpose(net, self, -2, -1),
    "movedim": lambda net, self, source, destination: shape.moveaxis(net, self, source, destination),
    "moveaxis": lambda net, self, source, destination: shape.moveaxis(net, self, source, destination),
    "squeeze": lambda net, self, dim=None: shape.squeeze(net, self, dim),
    "unsqueeze": lambda net, self, dim: shape.unsqueeze(net, self, dim),
    "expand": lambda net, self, size, implicit=False: shape.expand(net, self, size),
    "expand_as": expand_as,
    "broadcast_to": lambda net, self, size: shape.expand(net, self, size),
    "repeat": lambda net, self, repeats: shape.tile(net, self, repeats),
    "tile": lambda net, self, dims: shape.tile(net, self, dims),
    "repeat_interleave": repeat_interleave,
    "contiguous": lambda net, self, memory_format=None: self,
    "clone": lambda net, self, memory_format=None: self,
    "detach": lambda net, self: self,
    "alias": lambda net, self: self,
    "lift_fresh_copy": lambda net, self: self,
    "lift_fresh": lambda net, self: self,
    "detach_copy": lambda net, self: self,
    "positive": lambda net, self: self,
    "resolve_conj": lambda net, self: self,
    "resolve_neg": lambda net, self: self,
    "real": lambda net, self: self,
    "dropout": lambda net, input, p, train: dropout(net, input, p, train),
    "native_dropout": lambda net, input, p, train=False: (
        dropout(net, input, p, train), net_unavailable("the mask of a dropout is not a result")),
    "alpha_dropout": lambda net, input, p, train: dropout(net, input, p, train, form="alpha"),
    "feature_dropout": lambda net, input, p, train: dropout(net, input, p, train, of_channels=True),
    "feature_alpha_dropout": lambda net, input, p, train: dropout(net, input, p, train, "alpha", of_channels=True),
    "full": full,
    "zeros": made(0),
    "ones": made(1),
    "empty": made(0),
    "scalar_tensor": lambda net, s, dtype=None, **others: np.asarray(
        s, {"float": net.dtype, "int": np.int64, "bool": bool}[dtype_named(net, dtype or "float32")]),
    "zeros_like": made_like(0),
    "ones_like": made_like(1),
    "full_like": made_like(None),
    "new_zeros": made_like(0),
    "new_ones": made_like(1),
    "new_full": made_like(None),
    "new_empty": made_like(0),
    "empty_like": made_like(0),
    "arange": arange,
    "linspace": lambda net, start, end, steps, dtype=None, **others: np.linspace(
        start, end, steps, dtype=net.dtype),
    "eye": lambda net, n, m=None, dtype=None, **others: np.eye(n, m, dtype=net.dtype),
    "tril": tril(np.tril),
    "triu": tril(np.triu),
    "meshgrid": meshgrid,
    "select": select,
    "slice": slice_,
    "narrow": lambda net, self, dim, start, length: parts.narrow(
        net, self, dim, whole_numbers(net, start), length),
    "index": index,
    "index_select": index_select,
    "gather": gather,
    "take_along_dim": take_along_dim,
    "split": lambda net, self, split_size=None, dim=0, split_sizes=None: parts.split(
        net, self, split_size if split_sizes is None else split_sizes, dim),
    "split_with_sizes": lambda net, self, split_sizes, dim=0: parts.split(net, self, split_sizes, dim),
    "unsafe_split": lambda net, self, split_size, dim=0: parts.split(net, self, split_size, dim),
    "chunk": lambda net, self, chunks, dim=0: parts.chunk(net, self, chunks, dim),
    "unsafe_chunk": lambda net, self, chunks, dim=0: parts.chunk(net, self, chunks, dim),
    "tensor_split": lambda net, self, sections=None, indices=None, dim=0, tensor_indices_or_sections=None: tensor_split(
        net, self, indices if sections is None and indices is not None else whole_numbers(
            net, sections if tensor_indices_or_sections is None else tensor_indices_or_sections), dim),
    "vstack": lambda net, tensors: parts.concat(net, atleast(net, tensors, 2), 0),
    "dstack": lambda net, tensors: parts.concat(net, atleast(net, tensors, 3), 2),
    "column_stack": lambda net, tensors: parts.concat(net, [
        one if len(shape_of(one)) > 1 else shape.unsqueeze(net, atleast(net, [one], 1)[0], -1) for one in tensors], 1),
    "atleast_1d": lambda net, self: atleast(net, [self], 1)[0],
    "atleast_2d": lambda net, self: atleast(net, [self], 2)[0],
    "atleast_3d": lambda net, self: atleast(net, [self], 3)[0],
    "ravel": lambda net, self: shape.flatten(net, self),
    "mH": lambda net, self: shape.transpose(net, self, -2, -1),
    "flipud": lambda net, self: parts.flip(net, self, [0]),
    "unfold": unfold,
    "diff": diff,
    "nansum": lambda net, self, dim=None, keepdim=False, dtype=None: reduction("sum")(
        net, without_nan(net, self), dim, keepdim, dtype),
    "count_nonzero": lambda net, self, dim=None: reduce.reduce(net, elementwise.cast(net, self, "bool"), "sum", dim),
    "linalg_vecdot": lambda net, x, y, dim=-1: reduce.reduce(net, elementwise.multiply(net, x, y), "sum", dim),
    "addmv": lambda net, self, mat, vec, beta=1, alpha=1: addmm(net, self, mat, vec, beta, alpha),
    "cosine_similarity": cosine_similarity,
    "pairwise_distance": lambda net, x1, x2, p=2, eps=1e-6, keepdim=False: reduce.norm(
        net, elementwise.add(net, elementwise.subtract(net, x1, x2), eps), p, -1, keepdim),
    "special_logsumexp": reduction("logsumexp"),
    "unbind": lambda net, self, dim=0: parts.unbind(net, self, dim),
    "cat": lambda net, tensors, dim=0: parts.concat(net, tensors, dim),
    "concat": lambda net, tensors, dim=0: parts.concat(net, tensors, dim),
    "concatenate": lambda net, tensors, dim=0: parts.concat(net, tensors, dim),
    "stack": lambda net, tensors, dim=0: parts.stack(net, tensors, dim),
    "hstack": lambda net, tensors: parts.concat(net, tensors, 1 if len(shape_of(tensors[0])) > 1 else 0),
    "flip": lambda net, self, dims: parts.flip(net, self, dims),
    "fliplr": lambda net, self: parts.flip(net, self, [1]),
    "roll": roll,
    "one_hot": one_hot,
    "select_scatter": select_scatter,
    "slice_scatter": slice_scatter,
    "mean": reduction("mean"),
    "sum": reduction("sum"),
    "prod": reduction("prod"),
    "amax": reduction("max"),
    "amin": reduction("min"),
    "any": reduction("any"),
    "all": reduction("all"),
    "logsumexp": reduction("logsumexp"),
    "max": extreme("max"),
    "min": extreme("min"),
    "aminmax": lambda net, self, dim=None, keepdim=False: (
        reduce.reduce(net, self, "min", dim, keepdim), reduce.reduce(net, self, "max", dim, keepdim)),
    "argmax": argument("argmax"),
    "argmin": argument("argmin"),
    "var": variance(False),
    "std": variance(True),
    "var_mean": variance(False, True),
    "std_mean": variance(True, True),
    "cumsum": cumulated("sum"),
    "cumprod": cumulated("prod"),
    "cummax": cumulated("max", with_places=True),
    "cummin": cumulated("min", with_places=True),
    "topk": topk,
    "sort": sort,
    "argsort": lambda net, self, dim=-1, descending=False, stable=None: sort(net, self, dim, descending)[1],
    "norm": norm,
    "linalg_vector_norm": norm,
    "linalg_norm": linalg_norm,
    "linalg_matrix_norm": matrix_norm,
    "linear": linear_,
    "matmul": matmul_,
    "linalg_matmul": matmul_,
    "mm": lambda net, self, mat2: matmul_(net, self, mat2),
    "bmm": lambda net, self, mat2: matmul_(net, self, mat2),
    "mv": lambda net, self, vec: matmul_(net, self, vec),
    "dot": lambda net, self, tensor: matmul_(net, self, tensor),
    "addmm": addmm,
    "baddbmm": baddbmm,
    "einsum": lambda net, equation, tensors, path=None: typed(net, einsum(net, equation, tensors), *tensors),
    "embedding": lambda net, weight, indices, padding_idx=-1, scale_grad_by_freq=False, sparse=False: embedding(
        net, indices, weight),
    **dict.fromkeys((
        "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "bernoulli", "multinomial",
        "normal", "uniform", "poisson", "binomial", "exponential", "geometric", "cauchy", "log_normal", "random",
        "rrelu_with_noise", "normal_functional"), draws),
    "nonzero": sized_by_numbers,
    "item": of_numbers,
    "_local_scalar_dense": of_numbers,
    "masked_select": sized_by_numbers,
    "unique": sized_by_numbers,
}  # fmt: skip
#: operations of which PyTorch has one more that copies, ``view_copy``, where it does without views
_COPIED = (
    "view", "permute", "transpose", "t", "squeeze", "unsqueeze", "expand", "select", "slice", "narrow", "split",
    "split_with_sizes", "unbind", "alias", "unfold",
)  # fmt: skip
SHAPES = {**SHAPES, **{f"{name}_copy": SHAPES[name] for name in _COPIED}}


def dropout(net: Network, x: Any, p: Any, train: Any, form: str = "dropout", *, of_channels: bool = False) -> Any:
    """Inert; the layer keeps its rate. `of_channels`: a channel (batch, channels, ...) is dropped as a whole."""
    if train:
        raise net.refuse(f"a dropout that is on, also after eval(), {DRAWS}")
    if is_constant(x) or not isinstance(x, Tensor) or x.value.kind == "index":
        return x
    y = net.add_layer("dropout", x.value, options={"rate": float(p)})
    noise = {"form": form} if form != "dropout" else {}
    shared = shared_axes(x.axes[2:]) if of_channels else ""
    if shared:
        noise["shared"] = shared
    if noise:
        net.builder.noise[y.name] = noise
    return Tensor(y, x.axes, x.dtype)


def shared_axes(places: Iterable[Any]) -> str:
    """Axes of a tensor that share one draw, as `Graph.noise` has them."""
    found = [one for place in places for one in (place if isinstance(place, tuple) else (place,)) if one is not None]
    return "".join(sorted("b" if place == BATCH else str(place) for place in found))


def tensor_split(net: Network, x: Any, sections: Any, dim: int) -> Any:
    total = shape_of(x)[dim]
    if not isinstance(total, int):
        raise net.needs_time("a split of the time")
    if isinstance(sections, int):
        sizes = [total // sections + (k < total % sections) for k in range(sections)]
    else:
        ends = [*sections, total]
        sizes = [end - start for start, end in zip([0, *ends], ends)]
    return parts.split(net, x, sizes, dim)
