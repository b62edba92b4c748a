"""Pooling over time, or over rows and columns."""

from __future__ import annotations

from collections.abc import Callable

from cylstm.formats.keras.call import Flow, LayerCall
from cylstm.formats.keras.layers.spatial import check_channels_last, spatial_axes
from cylstm.formats.keras.masks import mask_behind
from cylstm.graph.values import Value


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
