"""Convolution and pooling over time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cylstm.errors import ShapeError, UnsupportedError
from cylstm.formats.keras.call import LayerCall, shape_text
from cylstm.formats.keras.layers.activations import activated, output_activation
from cylstm.graph.values import Option, Value


def check_channels_last(call: LayerCall) -> None:
    found = call.layer.config.get("data_format", "channels_last")
    if found not in (None, "channels_last"):
        raise UnsupportedError(
            f"{call.what}: option data_format={found!r:.80} is not supported; build the layer with 'channels_last', "
            "whose weights are the same, and give the channels last"
        )


def window_options(call: LayerCall, *paddings: str) -> dict[str, Option]:
    """Layer options of a convolution."""
    check_channels_last(call)
    layer = call.layer
    padding = layer.config.get("padding", "valid")
    if padding not in paddings:
        raise UnsupportedError(
            f"{call.what}: option padding expected one of {', '.join(paddings)}, found {padding!r:.80}"
        )
    if len(call.x.shape) != 2:
        raise ShapeError(f"{call.what}: expected an input (batch, time, channels), found {shape_text(call.x)}")
    found: dict[str, Option] = {"padding": padding, "stride": layer.size("strides")}
    return found | ({"dilation": layer.size("dilation_rate")} if "dilation_rate" in layer.config else {})


_CONVOLUTION = {"filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate", "groups", "use_bias",
                "activation"}  # fmt: skip


def add_conv1d(call: LayerCall) -> Value:
    layer = call.layer
    layer.check_options(_CONVOLUTION)
    window, activation = window_options(call, "valid", "same", "causal"), output_activation(layer)
    filters, kernel = layer.whole("filters"), layer.size("kernel_size")
    groups = layer.size("groups") if "groups" in layer.config else 1
    channels = call.x.features
    if channels % groups or filters % groups:
        raise ShapeError(f"{call.what}: {channels} channels and {filters} filters do not make {groups} groups")
    bias = layer.flag("use_bias", True)
    shapes = {"kernel": (kernel, channels // groups, filters)} | ({"bias": (filters,)} if bias else {})
    arrays = call.take(shapes, {"kernel": "weight", "bias": "bias"})
    weights = {"weight": arrays["kernel"].transpose(2, 0, 1)} | ({"bias": arrays["bias"]} if bias else {})
    return activated(call, activation, "conv1d", call.x, weights, groups=groups, **window)


def _depthwise_weight(kernel: np.ndarray) -> np.ndarray:
    """(kernel, channels, multiplier) as (channels * multiplier, kernel, 1)."""
    return kernel.reshape(kernel.shape[0], -1).T[:, :, np.newaxis]


def add_depthwise_conv1d(call: LayerCall) -> Value:
    layer = call.layer
    known = _CONVOLUTION - {"filters", "groups"} | {"depth_multiplier"}
    # Keras 2 writes this too
    layer.check_options(known | ({"groups"} if layer.config.get("groups") == 1 else set()))
    window, activation = window_options(call, "valid", "same", "causal"), output_activation(layer)
    channels, bias = call.x.features, layer.flag("use_bias", True)
    multiplier = layer.size("depth_multiplier")
    name = "kernel" if layer.version >= (3, 0) else "depthwise_kernel"
    shapes: dict[str, tuple[int, ...]] = {name: (layer.size("kernel_size"), channels, multiplier)}
    shapes |= {"bias": (channels * multiplier,)} if bias else {}
    arrays = call.take(shapes, {name: "weight", "bias": "bias"})
    weights = {"weight": _depthwise_weight(arrays[name])} | ({"bias": arrays["bias"]} if bias else {})
    return activated(call, activation, "conv1d", call.x, weights, groups=channels, **window)


def add_separable_conv1d(call: LayerCall) -> Value:
    layer = call.layer
    layer.check_options(_CONVOLUTION - {"groups"} | {"depth_multiplier", "groups"})
    window, activation = window_options(call, "valid", "same", "causal"), output_activation(layer)
    channels, bias = call.x.features, layer.flag("use_bias", True)
    filters, multiplier = layer.whole("filters"), layer.size("depth_multiplier")
    shapes: dict[str, tuple[int, ...]] = {
        "depthwise_kernel": (layer.size("kernel_size"), channels, multiplier),
        "pointwise_kernel": (1, channels * multiplier, filters),
    }
    shapes |= {"bias": (filters,)} if bias else {}
    arrays = call.take(shapes, {"depthwise_kernel": "depthwise.weight", "pointwise_kernel": "weight", "bias": "bias"})
    depthwise = {"weight": _depthwise_weight(arrays["depthwise_kernel"])}
    inner = call.add("conv1d", call.x, depthwise, ".depthwise", groups=channels, **window)
    weights = {"weight": arrays["pointwise_kernel"][0].T} | ({"bias": arrays["bias"]} if bias else {})
    return activated(call, activation, "dense", inner, weights)


def pooling_of(mode: str) -> Callable[[LayerCall], Value]:
    def add(call: LayerCall) -> Value:
        layer = call.layer
        layer.check_options({"pool_size", "strides", "padding", "data_format"})
        options = window_options(call, "valid", "same")
        return call.add("pool1d", call.x, mode=mode, pool=layer.size("pool_size"), **options)

    return add


def global_pooling_of(mode: str) -> Callable[[LayerCall], Value]:
    def add(call: LayerCall) -> Value:
        layer, x = call.layer, call.x
        layer.check_options({"data_format", "keepdims"})
        check_channels_last(call)
        if len(x.shape) - call.first != 2:
            raise ShapeError(f"{call.what}: expected an input (batch, time, features), found {shape_text(x)}")
        inputs: dict[str, Value | None] = {"x": x}
        if mode == "mean":
            is_explicit, mask = call.explicit_mask()
            mask = call.readable(mask if is_explicit else call.flow.mask.value)
            if mask is not None and call.first:
                call.refuse_mask(mask, "a mask inside TimeDistributed is not supported")
            inputs["mask"] = mask
        keeps = layer.flag("keepdims", False)
        y = call.add("reduce", inputs, None, ".flat" if keeps else "", mode=mode, axis=call.first)
        if not keeps:
            return y
        return call.add("reshape", y, shape=("time," if call.first else "") + f"1,{x.features}")

    return add
