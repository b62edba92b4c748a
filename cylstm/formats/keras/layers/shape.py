"""Layers that rearrange their input or hand it on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from cylstm.errors import FormatError, ShapeError, UnsupportedError
from cylstm.formats.keras.call import Flow, LayerCall, Mask, shape_text, sizes_text
from cylstm.formats.keras.layers.spatial import check_channels_last, one_after_the_other, spatial_axes
from cylstm.formats.keras.masks import mask_behind
from cylstm.graph.values import Option, Value


def add_flatten(call: LayerCall) -> list[Flow]:
    call.layer.check_options({"data_format"})
    check_channels_last(call)
    call = call.natural()
    y = call.add("reshape", call.x, shape="time,-1" if call.first else "-1")
    return call.result(y, mask_behind(call))


def add_reshape(call: LayerCall) -> list[Flow]:
    call.layer.check_options({"target_shape"})
    target = call.layer.config.get("target_shape")
    if not isinstance(target, list) or not target or not all(type(size) is int for size in target):
        raise FormatError(f"{call.what}: option target_shape expected a list of whole numbers, found {target!r:.80}")
    if not call.flow.is_natural and any(size is None for size in call.x.shape[call.first :]):
        made = call.maker.reshaped(call, target)
        return call.result(made.value, mask_behind(call), made.order)
    call = call.natural()
    return call.result(_reshaped(call, call.x, target), mask_behind(call))


def _reshaped(call: LayerCall, x: Value, target: Sequence[int]) -> Value:
    """`x` in the shape `target`, batch not counted."""
    sizes = list(target)
    if call.first:
        return call.add("reshape", x, shape=",".join(["time", *map(str, sizes)]))
    if x.has_time and x.axis is not None and len(sizes) > 1 and sizes[0] == -1 and math.prod(sizes[1:]) == x.size:
        return call.add("reshape", x, shape=",".join(["time", *map(str, sizes[1:])]))
    return call.add("reshape", x, shape=",".join(map(str, sizes)))


def add_permute(call: LayerCall) -> list[Flow]:
    """The axes under other names: layers that need them to lie so move them."""
    call.layer.check_options({"dims"})
    flow, first = call.flow, call.first
    call.numbers(flow)
    dims, rank = call.layer.config.get("dims"), len(flow.order) - first
    if not isinstance(dims, list) or sorted(map(str, dims)) != sorted(str(k + 1) for k in range(rank)):
        raise ShapeError(
            f"{call.what}: option dims expected each axis of {sizes_text(flow.shape)} once, the batch left out, "
            f"found {dims!r:.80}"
        )
    order = [*flow.order[:first], *(flow.order[dim - 1 + first] for dim in dims)]
    return call.result(flow.value, mask_behind(call), order)


def add_repeat_vector(call: LayerCall) -> Value:
    call.layer.check_options({"n"})
    count, x = call.layer.size("n"), call.x
    if len(x.shape) - call.first != 1:
        raise ShapeError(f"{call.what}: expected an input (batch, features), found {shape_text(x)}")
    if call.first:
        x = call.add("reshape", x, None, ".rows", shape=f"time,1,{x.features}")
        return call.add("upsample", x, axis=1, size=count)
    return call.add("repeat_vector", x, count=count)


def cropping_of(count: int) -> Callable[[LayerCall], Value]:
    """Cropping of `count` axes."""

    def add(call: LayerCall) -> Value:
        call.layer.check_options({"cropping", "data_format"})
        pairs = zip(spatial_axes(call, count), call.layer.pairs("cropping", count), strict=True)
        steps: list[dict[str, Option]] = [
            {"axis": axis, "start": before, "before_end": after} for axis, (before, after) in pairs if before or after
        ]
        return one_after_the_other(call, "slice", steps)

    return add


def zero_padding_of(count: int) -> Callable[[LayerCall], Value]:
    """Zeros around `count` axes."""

    def add(call: LayerCall) -> Value:
        call.layer.check_options({"padding", "data_format"})
        pairs = zip(spatial_axes(call, count), call.layer.pairs("padding", count), strict=True)
        steps: list[dict[str, Option]] = [
            {"axis": axis, "before": before, "after": after} for axis, (before, after) in pairs if before or after
        ]
        return one_after_the_other(call, "pad", steps)

    return add


def up_sampling_of(count: int) -> Callable[[LayerCall], list[Flow]]:
    """Repetition along `count` axes."""

    def add(call: LayerCall) -> list[Flow]:
        layer = call.layer
        layer.check_options({"size", "data_format", "interpolation"})
        mode, axes = layer.config.get("interpolation", "nearest"), spatial_axes(call, count)
        if mode not in ("nearest", "bilinear"):
            raise UnsupportedError(
                f"{call.what}: option interpolation expected 'nearest' or 'bilinear', found {mode!r:.80}; of the "
                "others Keras's backends compute different numbers"
            )
        sizes = layer.each("size", count)
        if mode == "bilinear":
            return _interpolated(call, sizes)
        pairs = zip(axes, sizes, strict=True)
        steps: list[dict[str, Option]] = [{"axis": axis, "size": size} for axis, size in pairs if size > 1]
        y = one_after_the_other(call, "upsample", steps)
        return call.result(y, mask_behind(call), call.flow.order)

    return add


#: of a matrix that interpolates
_MOST_NUMBERS = 1 << 24


def _interpolated(call: LayerCall, sizes: Sequence[int]) -> list[Flow]:
    """Each number between the two whose centres are next to its own: along each axis a product with a matrix."""
    flow = call.flow
    for k, size in enumerate(sizes):
        at, rank = call.first + k, len(flow.order)
        if size == 1:
            continue
        moved = [place - (place > flow.order[at]) for place in flow.order]
        moved[at] = rank - 1
        flow = call.maker.arranged(flow, moved)
        count = call.known_sizes(flow.value, rank - 1)[0]
        if count * count * size > _MOST_NUMBERS:
            raise UnsupportedError(f"{call.what}: {count} places made {size} times as many are more than is supported")
        centres = np.clip((np.arange(count * size) + 0.5) / size - 0.5, 0, count - 1)
        weight = np.maximum(1.0 - np.abs(centres[:, np.newaxis] - np.arange(count)), 0.0).astype(np.float32)
        flow = Flow(call.add("dense", flow.value, {"weight": weight}, f".axis{k}"), flow.mask, flow.order)
    return call.result(flow.value, mask_behind(call), flow.order)


#: what layers draw that is no plain dropout
_FORMS = {"GaussianDropout": "gaussian", "GaussianNoise": "additive", "AlphaDropout": "alpha"}


def _shared_axes(call: LayerCall) -> str:
    """The axes of the value that share one draw, as `Graph.noise` has them."""
    layer, order = call.layer, call.flow.order[call.first :]
    if layer.class_name.startswith("SpatialDropout"):
        is_first = layer.config.get("data_format") == "channels_first"
        return "".join(str(axis) for axis in sorted(order[1:] if is_first else order[:-1]))
    sizes = layer.config.get("noise_shape")
    if not isinstance(sizes, (list, tuple)):
        return ""
    if len(sizes) != len(order) + 1:
        raise FormatError(f"{call.what}: option noise_shape expected {len(order) + 1} sizes, found {sizes!r:.80}")
    batch = "b" if sizes[0] == 1 else ""
    return batch + "".join(sorted(str(axis) for axis, size in zip(order, sizes[1:]) if size == 1))


def add_inert(call: LayerCall) -> list[Flow]:
    """Layers that work in training only. Keras 3 hands the very tensor on, so its mask is one with the input's."""
    layer = call.layer
    layer.check_options({"rate", "stddev", "l1", "l2", "data_format"})
    rate = next((layer.number(key, None) for key in ("rate", "stddev") if key in layer.config), 0.0)
    y = call.add("dropout", call.x, rate=rate)
    noise = {"form": _FORMS.get(layer.class_name, "dropout"), "shared": _shared_axes(call)}
    noise = {key: entry for key, entry in noise.items() if entry not in ("", "dropout")}
    if noise:
        call.maker.noise[y.name] = noise
    return [Flow(y, call.flow.mask if layer.version >= (3, 0) else Mask(mask_behind(call)), call.flow.order)]
