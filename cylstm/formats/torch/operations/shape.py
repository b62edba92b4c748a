"""Operations on shapes, of rows too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cylstm.formats.torch.network import Network
from cylstm.formats.torch.operations.axes import matrix_transpose, reshape_axes
from cylstm.formats.torch.operations.rows import as_rows, reshape_rows, together
from cylstm.formats.torch.tensor import Dim, Frames, Rows, Stack, Tensor, listed


def reshape(net: Network, x: Any, shape: Sequence[Any]) -> Tensor | Rows:
    """Into another shape, in which the batch stays an axis of its own, or steps become rows."""
    shape = list(listed(tuple(shape)))
    if isinstance(x, (Rows, Frames)):
        return reshape_rows(net, x, shape)
    x = net.tensor(x)
    rows = as_rows(net, x, shape)
    return reshape_axes(net, x, shape) if rows is None else rows


def view(net: Network, x: Any, *shape: Any) -> Tensor | Rows:
    return reshape(net, x, shape)


def flatten(net: Network, x: Any, start: int = 0, end: int = -1) -> Tensor | Rows:
    if isinstance(x, (Rows, Frames)):
        x = together(net, x)
        sizes = list(x.steps.shape)
        start, end = start % (len(sizes) - 1) + 1, end % (len(sizes) - 1) + 1
        if start < 2:
            raise net.refuse("flattening the rows of steps with what is behind them is not supported")
        return Rows(reshape_axes(net, x.steps, [*sizes[:start], math.prod(sizes[start : end + 1]), *sizes[end + 1 :]]))
    x = net.tensor(x)
    rank = len(x.axes)
    start, end = start % rank, end % rank
    if (start, end) == (0, 1):
        rows = as_rows(net, x, [Dim(x.shape[:2]), *x.shape[2:]])
        if rows is not None:
            return rows
    if start <= x.batch <= end and end > start:
        raise net.refuse("flattening the batch mixes its rows, which are predicted each for itself")
    sizes = [x.size(i) for i in range(rank)]
    inside = sizes[start : end + 1]
    merged: Any = -1 if any(isinstance(size, Dim) for size in inside) else math.prod(inside)
    return reshape(net, x, [*sizes[:start], merged, *sizes[end + 1 :]])


def unflatten(net: Network, x: Any, dim: int, sizes: Sequence[int]) -> Tensor | Rows:
    x = net.tensor(x)
    axis = net.axis(x, dim)
    before = [x.size(i) for i in range(len(x.axes))]
    sizes = list(sizes)
    if -1 in sizes and isinstance(before[axis], int):
        sizes[sizes.index(-1)] = before[axis] // -math.prod(sizes)
    return reshape(net, x, [*before[:axis], *sizes, *before[axis + 1 :]])


def size(net: Network, x: Any, dim: int | None = None) -> Any:
    shape = x.shape if isinstance(x, (Tensor, Stack, Rows, Frames)) else net.tensor(x).shape
    return shape if dim is None else shape[dim]


def attribute(net: Network, x: Any, name: str) -> object:
    if isinstance(x, tuple) and name in ("values", "indices"):
        return x[0 if name == "values" else 1]
    if name == "shape":
        return size(net, x)
    if name in ("mT", "T") and (name == "mT" or len(net.tensor(x).axes) == 2):
        return matrix_transpose(net, x)
    if name in ("device", "dtype", "requires_grad", "is_cuda"):
        import torch

        return {"device": torch.device("cpu"), "dtype": torch.float32}.get(name, False)
    if name == "ndim":
        return len(size(net, x))
    raise net.refuse(f"the attribute {name!r} of a tensor is not supported")
