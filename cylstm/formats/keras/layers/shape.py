"""Layers that rearrange their input or hand it on."""

from __future__ import annotations

import math

from cylstm.errors import FormatError, ShapeError
from cylstm.formats.keras.call import Flow, LayerCall, Mask, shape_text
from cylstm.formats.keras.layers.conv import check_channels_last
from cylstm.formats.keras.masks import mask_behind
from cylstm.graph.values import Value


def add_flatten(call: LayerCall) -> Value:
    call.layer.check_options({"data_format"})
    check_channels_last(call)
    return call.add("reshape", call.x, shape="time,-1" if call.first else "-1")


def add_reshape(call: LayerCall) -> Value:
    call.layer.check_options({"target_shape"})
    return reshape(call, call.x, call.layer.config.get("target_shape"), "target_shape")


def reshape(call: LayerCall, x: Value, target: object, option: str) -> Value:
    """`x` in the shape `target`, batch not counted."""
    if not isinstance(target, list) or not target or not all(type(size) is int for size in target):
        raise FormatError(f"{call.what}: option {option} expected a list of whole numbers, found {target!r:.80}")
    sizes = list(target)
    if call.first:
        return call.add("reshape", x, shape=",".join(["time", *map(str, sizes)]))
    if x.has_time and x.axis is not None and len(sizes) > 1 and sizes[0] == -1 and math.prod(sizes[1:]) == x.size:
        return call.add("reshape", x, shape=",".join(["time", *map(str, sizes[1:])]))
    return call.add("reshape", x, shape=",".join(map(str, sizes)))


def add_permute(call: LayerCall) -> Value:
    call.layer.check_options({"dims"})
    dims, rank = call.layer.config.get("dims"), len(call.x.shape) - call.first
    if not isinstance(dims, list) or sorted(map(str, dims)) != sorted(str(k + 1) for k in range(rank)):
        raise ShapeError(
            f"{call.what}: option dims expected each axis of {shape_text(call.x)} once, the batch left out, "
            f"found {dims!r:.80}"
        )
    order = [*range(call.first), *(dim - 1 + call.first for dim in dims)]
    return call.add("permute", call.x, order="".join(map(str, order)))


def add_repeat_vector(call: LayerCall) -> Value:
    call.layer.check_options({"n"})
    count, x = call.layer.size("n"), call.x
    if len(x.shape) - call.first != 1:
        raise ShapeError(f"{call.what}: expected an input (batch, features), found {shape_text(x)}")
    if call.first:
        x = call.add("reshape", x, None, ".rows", shape=f"time,1,{x.features}")
        return call.add("upsample", x, axis=1, size=count)
    return call.add("repeat_vector", x, count=count)


def _along_time(call: LayerCall) -> None:
    check_channels_last(call)
    if len(call.x.shape) - call.first != 2:
        raise ShapeError(f"{call.what}: expected an input (batch, time, features), found {shape_text(call.x)}")


def add_cropping(call: LayerCall) -> Value:
    call.layer.check_options({"cropping", "data_format"})
    _along_time(call)
    before, after = call.layer.pair("cropping")
    return call.add("slice", call.x, axis=call.first, start=before, before_end=after)


def add_zero_padding(call: LayerCall) -> Value:
    call.layer.check_options({"padding", "data_format"})
    _along_time(call)
    before, after = call.layer.pair("padding")
    return call.add("pad", call.x, axis=call.first, before=before, after=after)


def add_up_sampling(call: LayerCall) -> Value:
    call.layer.check_options({"size", "data_format"})
    _along_time(call)
    return call.add("upsample", call.x, axis=call.first, size=call.layer.size("size"))


def add_inert(call: LayerCall) -> list[Flow]:
    """Layers that work in training only. Keras 3 hands the very tensor on, so its mask is one with the input's."""
    layer = call.layer
    layer.check_options({"rate", "stddev", "l1", "l2"})
    rate = next((layer.number(key, None) for key in ("rate", "stddev") if key in layer.config), 0.0)
    y = call.add("dropout", call.x, rate=rate)
    return [Flow(y, call.flow.mask if layer.version >= (3, 0) else Mask(mask_behind(call)))]
