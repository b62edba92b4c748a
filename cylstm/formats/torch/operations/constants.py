"""Constants that are made with the batch's size in their shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cylstm.formats.torch.network import Network
from cylstm.formats.torch.tensor import Dim, listed


def made(function: str) -> Callable[..., Any]:
    """``torch.zeros`` and the like with the batch's size in the shape: a constant that is the same for all rows."""

    def make(net: Network, *shape: Any, dtype: Any = None, device: Any = None, **kwargs: Any) -> Any:
        import torch

        fill = [shape[-1]] if function == "full" else []
        shape = shape[:-1] if fill else shape
        shape = tuple(listed(shape))
        sizes = [1 if one == Dim("batch") else one for one in shape]
        if any(isinstance(one, Dim) for one in sizes):
            raise net.refuse("a constant along a time needs the number of steps in advance")
        return getattr(torch, function)(sizes, *fill)

    return make


def made_like(function: str) -> Callable[..., Any]:
    return lambda net, x, *shape, **kwargs: made(function)(net, *(shape or net.tensor(x).shape))
