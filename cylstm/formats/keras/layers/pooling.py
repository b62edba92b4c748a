"""Pooling over time, or over rows and columns: one axis after the other, of which each is apart from the others."""

from __future__ import annotations

from collections.abc import Callable

from cylstm.errors import UnsupportedError
from cylstm.formats.keras.call import Flow, LayerCall
from cylstm.formats.keras.layers.spatial import (
    as_sequence,
    check_channels_last,
    one_after_the_other,
    spatial_axes,
)
from cylstm.formats.keras.masks import mask_behind
from cylstm.graph.values import Option, Value

#: Windows of different sizes are layers of their own each.
_MOST_WINDOWS = 256


def pooling_of(mode: str, count: int) -> Callable[[LayerCall], Value]:
    """Keras counts no padding in an average; the mean of the means along each axis is then that of the window."""

    def add(call: LayerCall) -> Value:
        layer = call.layer
        layer.check_options({"pool_size", "strides", "padding", "data_format"})
        axes = spatial_axes(call, count)
        padding = layer.config.get("padding", "valid")
        if padding not in ("valid", "same"):
            raise UnsupportedError(f"{call.what}: option padding expected one of valid, same, found {padding!r:.80}")
        windows = list(zip(axes, layer.each("pool_size", count), layer.each("strides", count), strict=True))
        if (mode, padding, call.maker.backend) == ("average", "same", "torch"):
            for axis, size, stride in windows:
                _refuse_odd(call, axis, size, stride)
        steps: list[dict[str, Option]] = [
            {"axis": axis, "mode": mode, "pool": size, "stride": stride, "padding": padding}
            for axis, size, stride in windows
            if (size, stride) != (1, 1)
        ]
        return one_after_the_other(call, "pool1d", steps)

    return add


def _refuse_odd(call: LayerCall, axis: int, size: int, stride: int) -> None:
    """Refuse an odd number of steps of padding, which Keras on PyTorch counts in averages as no other backend does."""
    padding = size - 1
    if stride > 1:
        steps = call.known_sizes(call.x, axis)[0]
        padding = max((-(-steps // stride) - 1) * stride + size - steps, 0)
    if padding % 2:
        raise UnsupportedError(
            f"{call.what}: padding='same' of an odd number of steps ({padding}): an average of Keras on PyTorch counts "
            "these, on other backends it does not; choose sizes that need none or an even number, or padding='valid'"
        )


def adaptive_pooling_of(mode: str, count: int) -> Callable[[LayerCall], Value]:
    """Pooling into numbers of windows that divide an axis: window i from i * size / n to (i + 1) * size / n."""

    def add(call: LayerCall) -> Value:
        layer = call.layer
        layer.check_options({"output_size", "data_format"})
        y = as_sequence(call, call.x)
        for k, (axis, windows) in enumerate(
            zip(spatial_axes(call, count), layer.each("output_size", count), strict=True)
        ):
            y = _divided(call, y, axis, windows, mode, "" if k == count - 1 else f".axis{k}")
        return y

    return add


def _divided(call: LayerCall, x: Value, axis: int, count: int, mode: str, suffix: str) -> Value:
    """`count` windows of one axis."""
    size = call.known_sizes(x, axis)[0]
    if size % count == 0:
        pool = size // count
        return call.add(
            "pool1d", x, None, suffix, axis=axis, mode="max" if mode == "max" else "average", pool=pool, stride=pool
        )
    if count > _MOST_WINDOWS:
        raise UnsupportedError(f"{call.what}: more than {_MOST_WINDOWS} windows are not supported, found {count}")
    sizes = ["time" if size is None else str(size) for size in x.shape]
    sizes[axis] = "1"
    rows = {}
    for k in range(count):
        begin, end = k * size // count, -(-(k + 1) * size // count)
        part = call.add("slice", x, None, f"{suffix}.window{k}", axis=axis, start=begin, count=end - begin)
        part = call.add("reduce", part, None, f"{suffix}.pool{k}", mode=mode, axis=axis)
        rows[f"x{k or ''}"] = call.add("reshape", part, None, f"{suffix}.row{k}", shape=",".join(sizes))
    return call.add("merge", rows, None, suffix, mode="concat", axis=axis)


def global_pooling_of(mode: str, count: int) -> Callable[[LayerCall], list[Flow]]:
    def add(call: LayerCall) -> list[Flow]:
        layer = call.layer
        layer.check_options({"data_format", "keepdims"})
        check_channels_last(call)
        mask = None
        if mode == "mean" and count == 1:
            is_explicit, given = call.explicit_mask()
            mask = call.readable(given if is_explicit else call.flow.mask.value)
            if mask is not None and call.first:
                call.refuse_mask(mask, "a mask inside TimeDistributed is not supported")
            call = call if mask is None else call.natural()
        axes = sorted(spatial_axes(call, count), reverse=True)
        y, keeps = call.x, layer.flag("keepdims", False)
        features = call.known_sizes(y, call.flow.order[-1])[0] if keeps else -1
        for k, axis in enumerate(axes):
            inputs: dict[str, Value | None] = {"x": y}
            inputs |= {"mask": mask} if mode == "mean" else {}
            suffix = f".axis{k}" if k < count - 1 else ".flat" if keeps else ""
            y = call.add("reduce", inputs, None, suffix, mode=mode, axis=axis)
        frames = ["time"] * call.first
        if keeps:
            y = call.add("reshape", y, shape=",".join([*frames, *"1" * count, str(features)]))
        elif len(y.shape) > 1 + call.first:
            # of channels that came first, each is left with an axis of its own
            y = call.add("reshape", y, None, ".flat", shape=",".join([*frames, "-1"]))
        return call.result(y, mask_behind(call))

    return add
