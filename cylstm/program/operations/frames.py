"""Layers that read whole sequences or images, on joined axes (batch * time, ...): on one frame after the other.

``x.view(b * t, c, n)``, a convolution or an LSTM, and ``view(b, t, -1)`` again: the rows of a batch stay apart in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cylstm.program.network import Network
from cylstm.program.operations.parts import slice_axis
from cylstm.program.operations.shape import squeeze
from cylstm.program.tensor import BATCH, Stack, Tensor

_MOST_FRAMES = 256


def has_frames(x: Any) -> bool:
    """Whether the first axis is the batch joined with others."""
    return isinstance(x, Tensor) and bool(x.axes) and isinstance(x.axes[0], tuple) and BATCH in x.axes[0]


def on_frames(net: Network, call: Callable[..., Any], tensors: tuple[Any, ...]) -> Any:
    """``call(*tensors)``, of one frame of joined axes after the other.

    A tensor whose first axis is not joined is given to every frame; None is None.
    """
    if not any(has_frames(x) for x in tensors):
        return call(*tensors)
    joined = next(x for x in tensors if has_frames(x))
    places = joined.axes[0]
    at = next(i for i, place in enumerate(places) if place != BATCH)
    count = joined._size(places[at])
    if len(places) > 2:
        raise net.refuse("steps that are rows, of more than two axes")
    if not isinstance(count, int):
        raise net.needs_time("a layer on single steps as rows")
    if count > _MOST_FRAMES:
        raise net.refuse(f"more than {_MOST_FRAMES} steps as rows are not supported, found {count}")
    apart = [x.with_axes((*x.axes[0], *x.axes[1:])) if has_frames(x) else x for x in tensors]
    found = [
        call(
            *(
                squeeze(net, slice_axis(net, one, at, k, k + 1), at) if has_frames(x) else one
                for x, one in zip(tensors, apart)
            )
        )
        for k in range(count)
    ]
    return _together(net, found, at)


def _together(net: Network, found: list[Any], at: int) -> Any:
    """What each frame gave, with the frames joined to the batch again."""
    first = found[0]
    if isinstance(first, (tuple, list)):
        return tuple(_together(net, [one[k] for one in found], at) for k in range(len(first)))
    if isinstance(first, Stack):
        return Stack(tuple(_together(net, [one.parts[k] for one in found], at) for k in range(len(first.parts))))
    if first is None:
        return None
    tensors = [net.tensor(one) for one in found]
    batch = tensors[0].batch
    place = batch + at
    widened = [t.with_axes((*t.axes[:place], None, *t.axes[place:])) for t in tensors]
    y = net.concat(widened, place)
    pair: Any = y.axes[batch : batch + 2]
    return y.with_axes((*y.axes[:batch], pair, *y.axes[batch + 2 :]))
