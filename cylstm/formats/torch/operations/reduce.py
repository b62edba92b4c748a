"""Operations that reduce axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cylstm.formats.torch.network import Network
from cylstm.formats.torch.tensor import BATCH, Tensor


def reduce(net: Network, x: object, mode: str, dim: Any = None, keepdim: bool = False) -> Tensor:
    x = net.tensor(x)
    if dim is None or dim == ():
        raise net.refuse("over all axes mixes the rows of a batch; say dim=")
    axes = sorted((net.axis(x, one) for one in ([dim] if isinstance(dim, int) else dim)), reverse=True)
    for axis in axes:
        stored = x.axes[axis]
        kept: list[int | None] = list(x.axes)
        kept[axis] = None
        if stored is None:
            if mode not in ("mean", "sum", "max", "min"):
                raise net.refuse(f"{mode} is not supported")
            value = x.value
        else:
            rank = len(x.value.shape)
            value = net.add_layer("reduce", x.value, options={"mode": mode, "axis": stored})
            kept = [a - 1 if a is not None and a > stored else a for a in kept]
            if rank == 1:
                kept = [BATCH if a == BATCH else None for a in kept]
        x = Tensor(value, tuple(kept))
    if not keepdim:
        x = Tensor(x.value, tuple(a for i, a in enumerate(x.axes) if i not in axes))
    return x


def reduction(mode: str) -> Callable[..., Tensor]:
    return lambda net, x, dim=None, keepdim=False: reduce(net, x, mode, dim, keepdim)


def normalize(net: Network, x: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: None = None) -> Tensor:
    """x / |x| along an axis: by the root of the mean of squares, and by that of the count."""
    if p != 2 or type(dim) is not int:
        raise net.refuse(f"only the norm p=2 along one axis is supported, found p={p!r}, dim={dim!r}")
    x = net.tensor(x)
    x = net.last(x, net.axis(x, dim))
    count = x.value.features
    gain = np.full(count, 1.0 / math.sqrt(count), net.dtype)
    options = {"mode": "rms", "epsilon": eps * eps / count}
    return Tensor(net.add_layer("layer_norm", x.value, {"gain": gain}, options, part="unit"), x.axes)


def norm(
    net: Network,
    x: Any,
    p: Any = "fro",
    dim: Any = None,
    keepdim: bool = False,
    out: None = None,
    dtype: None = None,
) -> Tensor:
    """|x| along an axis: the sum of x (x / |x|)."""
    dim = dim[0] if isinstance(dim, (tuple, list)) and len(dim) == 1 else dim
    x = net.tensor(x)
    return reduce(net, net.merge("mul", [x, normalize(net, x, 2.0 if p == "fro" else p, dim)]), "sum", dim, keepdim)
