"""Axes made longer or shorter as PyTorch does it: by the nearest places, or by interpolation between two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cylstm.program.network import Network
from cylstm.program.operations import parts
from cylstm.program.operations.linear import linear
from cylstm.program.operations.shape import repeat_interleave, transpose
from cylstm.program.tensor import Tensor

#: the numbers of the largest matrix that interpolates an axis
_MOST_SHARES = 1 << 22


def resize(
    net: Network,
    x: Any,
    mode: str,
    sizes: Sequence[Any] | None,
    factors: Sequence[float] | None,
    align_corners: bool = False,
) -> Tensor:
    """(batch, channels, *axes) with other sizes of the axes, by mode "nearest" or "linear".

    With factors, PyTorch's places are those of the factors, whatever the sizes. Of a time of any length the nearest
    are repeated by a whole factor alone.
    """
    y = net.tensor(x)
    count = len(y.axes) - 2
    if count not in (1, 2):
        raise net.refuse(
            f"only (batch, channels, time) and (batch, channels, rows, columns) are resized, not {y.shape}"
        )
    for i in range(count):
        before = y.shape[i + 2]
        factor = factors[i if len(factors) > 1 else 0] if factors else None
        size = sizes[i if len(sizes) > 1 else 0] if sizes else None
        times = factor if size is None else _ratio(net, before, size)
        if mode == "nearest" and times is not None and float(times).is_integer() and factor in (None, times):
            if times > 1:
                y = repeat_interleave(net, y, int(times), i + 2)
            continue
        if isinstance(before, int) and size is None:
            size = math.floor(before * factor)  # type: ignore[operator]  # there are either
        if not isinstance(before, int) or not isinstance(size, int):
            raise net.needs_time("resizing the time by other than a whole factor with mode='nearest'")
        if mode == "nearest":
            y = parts.take(net, y, _places(before, size, factor), i + 2)
        elif size != before or factor not in (None, 1):
            if before * size > _MOST_SHARES:
                raise net.refuse(f"an interpolation of {before} steps to {size} is not supported, as it would be slow")
            matrix = _shares(before, size, factor, align_corners).astype(net.dtype)
            turned = linear(net, transpose(net, y, i + 2, -1), matrix, part="" if i == 0 else "columns")
            y = net.tensor(transpose(net, turned, i + 2, -1))
    return y


def _ratio(net: Network, before: Any, after: Any) -> float | None:
    """How many times the size it is, None if that depends on the number of steps."""
    found = {a / b for a, b in zip(net.numbers(after), net.numbers(before))}
    return found.pop() if len(found) == 1 else None


def _scale(before: int, after: int, factor: float | None) -> np.float32:
    """How far two places after lie apart before; PyTorch computes with these numbers in float32."""
    return np.float32(1.0 / factor) if factor else np.float32(before) / np.float32(after)


def _places(before: int, after: int, factor: float | None) -> np.ndarray:
    """Which place each of the places after takes."""
    k = np.arange(after)
    if after == before:
        return k
    if after == 2 * before:
        return k // 2
    found = np.floor(k.astype(np.float32) * _scale(before, after, factor)).astype(np.int64)
    places: np.ndarray = np.minimum(found, before - 1)
    return places


def _shares(before: int, after: int, factor: float | None, align_corners: bool) -> np.ndarray:
    """How much of each place before (after, before) each of the places after takes."""
    k = np.arange(after, dtype=np.float32)
    if align_corners:
        found = k * (np.float32(before - 1) / np.float32(max(after - 1, 1)))
    else:
        half = np.float32(0.5)
        found = np.maximum((k + half) * _scale(before, after, factor) - half, np.float32(0))
    lower = np.minimum(found.astype(np.int64), before - 1)
    upper = np.minimum(lower + 1, before - 1)
    share = (found - lower).astype(np.float32)
    shares = np.zeros((after, before), np.float32)
    np.add.at(shares, (np.arange(after), lower), 1 - share)
    np.add.at(shares, (np.arange(after), upper), share)
    return shares
