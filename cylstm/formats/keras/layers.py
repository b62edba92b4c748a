"""Keras's layers as nodes of a graph: one function per class, in the table `LAYERS`.

A function adds the layer's nodes and returns its outputs with the masks that Keras gives them. Most return values
alone, and the table says whether the layer hands its input's mask on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from cylstm.errors import FormatError, ShapeError, UnsupportedError
from cylstm.formats.keras.call import Flow, LayerCall, Mask, NoMask, Rebuild, shape_text
from cylstm.formats.keras.config import LayerConfig
from cylstm.formats.keras.masks import (
    add_merge,
    attention_masks,
    inner_mask,
    loses_masks,
    mask_behind,
    mask_of_frames,
    merged_mask,
    passed_mask,
)
from cylstm.formats.keras.network import MODELS
from cylstm.formats.keras.recurrent import RECURRENT_LAYERS, add_bidirectional, add_recurrent
from cylstm.formats.keras.weights import Part
from cylstm.graph.activations import activation_options
from cylstm.graph.graph import Option, StaticTimeNeeded, Value

_LARGEST = float(np.finfo(np.float32).max)


class LayerKind(NamedTuple):
    """How a class of layers is added.

    Attributes
    ----------
    add : callable
        `LayerCall` -> outputs: a `Value`, whose mask follows from `MASKS`, or a list of `Flow`, whose masks are final.
    weighted : callable
        `LayerConfig` -> whether the layer has weights.
    arguments : tuple of str
        What the layer is called with, in order, beside the first.
    """

    add: Callable[[LayerCall], Value | list[Flow]]
    weighted: Callable[[LayerConfig], bool] = lambda layer: False
    arguments: tuple[str, ...] = ()


def _always(layer: LayerConfig) -> bool:
    return True


def _scaled(layer: LayerConfig) -> bool:
    return bool(layer.config.get("scale", True) or layer.config.get("center", True) or layer.config.get("rms_scaling"))


# Per step, over the last axis


def _output_activation(layer: LayerConfig) -> str | dict[str, object]:
    """Node options of a layer's activation, or which of `COMPOSED` it is."""
    return layer.composed_activation("activation") or layer.activation("activation")


def _activated(
    call: LayerCall,
    activation: str | dict[str, object],
    op: str,
    x: Value,
    weights: Mapping[str, np.ndarray] | None = None,
    **options: Option,
) -> Value:
    """A node with an activation, or with the nodes behind it that the activation is."""
    if isinstance(activation, dict):
        return call.add(op, x, weights, **options, **activation)
    if weights:
        x = call.add(op, x, weights, ".linear", **options)
    return _mish(call, x) if activation == "mish" else call.add("softmax", x, log=True)


def _mish(call: LayerCall, x: Value) -> Value:
    """x tanh(softplus(x))."""
    y = call.add("activation", x, suffix=".softplus", activation="softplus")
    y = call.add("activation", y, suffix=".tanh", activation="tanh")
    return call.add("merge", {"x": x, "x1": y}, mode="mul")


def _dense(call: LayerCall) -> Value:
    layer = call.layer
    layer.check_options({"units", "use_bias", "activation"})
    units, bias = layer.whole("units", old_name="output_dim"), layer.flag("use_bias", True)
    activation = _output_activation(layer)
    shapes = {"kernel": (call.x.features, units)} | ({"bias": (units,)} if bias else {})
    arrays = call.take(shapes, {"kernel": "weight", "bias": "bias"})
    weights = {"weight": arrays["kernel"].T} | ({"bias": arrays["bias"]} if bias else {})
    return _activated(call, activation, "dense", call.x, weights)


def _embedding(call: LayerCall) -> list[Flow]:
    layer = call.layer
    layer.check_options({"input_dim", "output_dim", "mask_zero", "weights"})
    rows, size = layer.whole("input_dim"), layer.whole("output_dim")
    flow = call.flow
    if flow.value.kind != "index":
        if not call.maker.is_input(flow.value):
            raise UnsupportedError(
                f"{call.what}: indices that the network computes are not supported, found {flow.value.name!r}; "
                "an Embedding reads an input of the model"
            )
        raise Rebuild(indices=[flow.value.name])
    arrays = call.take({"embeddings": (rows, size)}, {"embeddings": "weight"})
    y = call.add("embedding", {"indices": flow.value}, {"weight": arrays["embeddings"]})
    mask: Value | NoMask | None = None
    if layer.flag("mask_zero", False):
        if len(flow.value.shape) == 1 and not call.first:
            mask = call.maker.mask_of(flow.value, 0, call.what)
        else:
            mask = NoMask(f"mask_zero of indices of shape {shape_text(flow.value)}, for (batch, time) it is")
    return [Flow(y, Mask(mask))]


def _activation(call: LayerCall) -> Value:
    call.layer.check_options({"activation"})
    return _activated(call, _output_activation(call.layer), "activation", call.x)


def _activation_layer(call: LayerCall) -> Value:
    options = activation_options("activation", *call.layer.as_activation(), where=call.what)
    return call.add("activation", call.x, **options)


def _relu(call: LayerCall) -> Value:
    """``x where x > threshold else 0``, limited to max_value, less ``slope * max(threshold - x, 0)``."""
    layer, x = call.layer, call.x
    if layer.config.get("threshold") in (None, 0, 0.0) and not (
        layer.config.get("max_value") is not None and layer.config.get("negative_slope") not in (None, 0, 0.0)
    ):
        return _activation_layer(call)
    layer.check_options({"max_value", "negative_slope", "threshold"})
    threshold, slope = layer.number("threshold", 0.0), layer.number("negative_slope", 0.0)
    limit = None if layer.config.get("max_value") is None else layer.number("max_value", None)
    if not 0 <= threshold < 1e8:
        raise UnsupportedError(f"{call.what}: option threshold expected 0 to 1e8, found {threshold}")
    y = x
    if threshold:
        # 1 above the threshold, else 0: a step so steep that no float32 number stands on it
        steep = 2.0**90
        above = call.add(
            "activation", x, suffix=".above", activation="hard_sigmoid",
            activation_alpha=steep, activation_beta=-steep * float(np.float32(threshold)),
        )  # fmt: skip
        y = call.add("merge", {"x": x, "x1": above}, suffix=".kept", mode="mul")
    top = _LARGEST if limit is None else limit
    y = call.add("activation", y, suffix=".limited", activation="clip", activation_alpha=0.0, activation_beta=top)
    if not slope:
        return y
    ones = np.ones(x.features, np.float32)
    weights = {"mean": ones * np.float32(threshold), "variance": ones, "gain": ones * np.float32(slope)}
    below = call.add("batch_norm", x, weights, ".below", epsilon=0.0)
    below = call.add(
        "activation", below, suffix=".slope", activation="clip", activation_alpha=-_LARGEST, activation_beta=0.0
    )
    return call.add("merge", {"x": y, "x1": below}, mode="sum")


def _prelu(call: LayerCall) -> Value:
    layer, x = call.layer, call.x
    layer.check_options({"shared_axes"})
    shared = layer.config.get("shared_axes") or []
    shared = [shared] if type(shared) is int else shared
    if not isinstance(shared, list):
        raise FormatError(f"{call.what}: option shared_axes expected a list of axes, found {shared!r:.80}")
    axes = {call.axis(axis, "shared_axes") for axis in shared}
    inner = x.shape[call.first :]
    if None in inner and 0 not in axes:
        raise Rebuild(fixed=[x.axis.source])
    shape = tuple(1 if k + call.first in axes else int(size) for k, size in enumerate(inner))
    alpha = call.take({"alpha": shape}, {"alpha": "slope"})["alpha"]
    known = tuple(1 if size is None else int(size) for size in inner)
    if math.prod(shape) == 1 or math.prod(shape) == shape[-1]:
        return call.add("prelu", x, {"slope": alpha.reshape(-1)})
    if x.has_time and not call.first and shape[0] != 1:
        # slopes that differ by step: as one vector
        flat = call.add("reshape", x, suffix=".flat", shape="-1")
        y = call.add("prelu", flat, {"slope": np.broadcast_to(alpha, known).reshape(-1)}, ".slopes")
        return call.add("reshape", y, shape=",".join(map(str, known)))
    step = known if call.first or not x.has_time else known[1:]
    slope = alpha if call.first or not x.has_time else alpha[0]
    return call.add("prelu", x, {"slope": np.broadcast_to(slope, step).reshape(-1)})


def _softmax(call: LayerCall) -> Value:
    layer, x = call.layer, call.x
    layer.check_options({"axis"})
    is_explicit, mask = call.explicit_mask()
    mask = mask if is_explicit else call.flow.mask.value
    if mask is not None:
        call.refuse_mask(
            mask, "a softmax layer with a mask is not supported; use Activation('softmax'), which does not read it"
        )
    axis = layer.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if isinstance(axis, list):
        raise UnsupportedError(f"{call.what}: a softmax over several axes at once is not supported, found {axis!r:.80}")
    found = call.axis(axis)
    if found == len(x.shape) - 1:
        return call.add("activation", x, activation="softmax")
    return call.add("softmax", x, axis=found)


def _inert(call: LayerCall) -> list[Flow]:
    """Layers that work in training only. Keras 3 hands the very tensor on, so its mask is one with the input's."""
    layer = call.layer
    layer.check_options({"rate", "stddev", "l1", "l2"})
    rate = next((layer.number(key, None) for key in ("rate", "stddev") if key in layer.config), 0.0)
    y = call.add("dropout", call.x, rate=rate)
    return [Flow(y, call.flow.mask if layer.version >= (3, 0) else Mask(mask_behind(call)))]


# Normalisation


def _last_axes(call: LayerCall, axis: object) -> int:
    """How many of the last axes the option `axis`, a number or a list, names."""
    axes = axis if isinstance(axis, list) else [axis]
    found = sorted({call.axis(one) for one in axes})
    rank = len(call.x.shape)
    if not found or found != list(range(rank - len(found), rank)):
        raise UnsupportedError(
            f"{call.what}: option axis expected the last of {shape_text(call.x)}, or several up to the last, "
            f"found {axis!r:.80}; put Permute before and after"
        )
    return len(found)


def _batch_normalization(call: LayerCall) -> Value:
    layer, size = call.layer, call.x.features
    layer.check_options({"axis", "epsilon", "center", "scale", "synchronized", "virtual_batch_size", "fused"})
    if _last_axes(call, layer.config.get("axis", -1)) != 1:
        raise UnsupportedError(f"{call.what}: option axis expected the last, found {layer.config['axis']!r:.80}")
    roles = {"gamma": "gain", "beta": "shift", "moving_mean": "mean", "moving_variance": "variance"}
    kept = {"gamma": layer.flag("scale", True), "beta": layer.flag("center", True)}
    arrays = call.take({key: (size,) for key in roles if kept.get(key, True)}, roles)
    weights = {roles[key]: array for key, array in arrays.items()}
    return call.add("batch_norm", call.x, weights, epsilon=layer.number("epsilon", 1e-3))


def _layer_normalization(call: LayerCall) -> Value:
    layer, x = call.layer, call.x
    layer.check_options({"axis", "epsilon", "center", "scale", "rms_scaling"})
    is_rms = layer.flag("rms_scaling", False)
    axes = _last_axes(call, layer.config.get("axis", -1))
    shape = x.shape[len(x.shape) - axes :]
    if None in shape:
        raise Rebuild(fixed=[x.axis.source])
    kept = {
        "gamma": layer.flag("scale", True) or is_rms,
        "beta": layer.flag("center", True) and not is_rms,
    }
    roles = {"gamma": "gain", "beta": "shift"}
    arrays = call.take({key: shape for key in roles if kept[key]}, roles)
    weights = {roles[key]: array.reshape(-1) for key, array in arrays.items()}
    mode = "scaled" if is_rms else "layer"
    return call.add("layer_norm", x, weights, mode=mode, axes=axes, epsilon=layer.number("epsilon", 1e-3))


def _rms_normalization(call: LayerCall) -> Value:
    layer, x = call.layer, call.x
    layer.check_options({"axis", "epsilon"})
    axes = _last_axes(call, layer.config.get("axis", -1))
    shape = x.shape[len(x.shape) - axes :]
    if None in shape:
        raise Rebuild(fixed=[x.axis.source])
    scale = call.take({"scale": shape}, {"scale": "gain"})["scale"].reshape(-1)
    return call.add("layer_norm", x, {"gain": scale}, mode="rms", axes=axes, epsilon=layer.number("epsilon", 1e-6))


def _unit_normalization(call: LayerCall) -> Value:
    """``x / |x|``: divided by the root of the mean of squares, and by that of the count."""
    call.layer.check_options({"axis"})
    x = call.x
    axes = _last_axes(call, call.layer.config.get("axis", -1))
    shape = x.shape[len(x.shape) - axes :]
    if None in shape:
        raise Rebuild(fixed=[x.axis.source])
    count = math.prod(shape)
    gain = np.full(count, 1.0 / math.sqrt(count), np.float32)
    return call.add("layer_norm", x, {"gain": gain}, mode="rms", axes=axes, epsilon=1e-24 / count)


def _group_normalization(call: LayerCall) -> Value:
    layer, size = call.layer, call.x.features
    layer.check_options({"groups", "axis", "epsilon", "center", "scale"})
    if _last_axes(call, layer.config.get("axis", -1)) != 1:
        raise UnsupportedError(f"{call.what}: option axis expected the last, found {layer.config['axis']!r:.80}")
    mask = call.flow.mask.value
    if mask is not None and (2, 14) <= layer.version < (3, 0):
        call.refuse_mask(mask, "Keras 2.14 and 2.15 weigh the statistics by the mask, which is not supported")
    groups = layer.config.get("groups", 32)
    groups = size if groups == -1 else groups
    roles = {"gamma": "gain", "beta": "shift"}
    kept = {"gamma": layer.flag("scale", True), "beta": layer.flag("center", True)}
    arrays = call.take({key: (size,) for key in roles if kept[key]}, roles)
    weights = {roles[key]: array for key, array in arrays.items()}
    return call.add("group_norm", call.x, weights, groups=groups, epsilon=layer.number("epsilon", 1e-3))


def _numbers(call: LayerCall, key: str, default: float | None, size: int) -> np.ndarray | None:
    """An option that is a number, or a list of `size` numbers however it is nested and serialised."""
    given = call.layer.config.get(key, default)
    if isinstance(given, dict):
        inner = given.get("config", given)
        given = inner.get("value") if isinstance(inner, dict) else inner
    if given is None:
        return None
    try:
        array = np.asarray(given, np.float64).reshape(-1)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.size not in (1, size) or not np.isfinite(array).all():
        raise FormatError(f"{call.what}: option {key} expected {size} numbers, found {given!r:.80}")
    return np.broadcast_to(array.astype(np.float32), size)


def _normalization(call: LayerCall) -> Value:
    """``(x - mean) / max(sqrt(variance), 1e-7)``, and the way back."""
    layer, size = call.layer, call.x.features
    layer.check_options({"axis", "mean", "variance", "invert"})
    axis = layer.config.get("axis", -1)
    axes = [] if axis is None else axis if isinstance(axis, list) else [axis]
    if axes and _last_axes(call, axes) != 1:
        raise UnsupportedError(f"{call.what}: option axis expected the last or none, found {axis!r:.80}")
    mean, variance = _numbers(call, "mean", None, size), _numbers(call, "variance", None, size)
    if mean is None or variance is None:
        shape = (size,) if axes else ()
        roles = {"mean": "mean", "variance": "variance", "count": "(not used)"}
        arrays = call.take({"mean": shape, "variance": shape, "count": ()}, roles, ignored=["count"])
        mean, variance = (np.broadcast_to(arrays[key], size) for key in ("mean", "variance"))
    variance = np.maximum(variance, np.asarray(1e-14, variance.dtype))
    if layer.flag("invert", False):
        ones = np.ones_like(mean)
        weights = {"mean": ones * 0, "variance": ones, "gain": np.sqrt(variance), "shift": mean}
    else:
        weights = {"mean": mean, "variance": variance}
    return call.add("batch_norm", call.x, weights, epsilon=0.0)


def _rescaling(call: LayerCall) -> Value:
    call.layer.check_options({"scale", "offset"})
    size = call.x.features
    scale, offset = _numbers(call, "scale", None, size), _numbers(call, "offset", 0.0, size)
    if scale is None:
        raise FormatError(f"{call.what}: option scale is missing")
    ones = np.ones(size, np.float32)
    return call.add(
        "batch_norm", call.x, {"mean": ones * 0, "variance": ones, "gain": scale, "shift": offset}, epsilon=0.0
    )


# Convolution and pooling over time


def _channels_last(call: LayerCall) -> None:
    found = call.layer.config.get("data_format", "channels_last")
    if found not in (None, "channels_last"):
        raise UnsupportedError(
            f"{call.what}: option data_format={found!r:.80} is not supported; build the layer with 'channels_last', "
            "whose weights are the same, and give the channels last"
        )


def _window(call: LayerCall, *paddings: str) -> dict[str, object]:
    """Node options of a convolution."""
    _channels_last(call)
    layer = call.layer
    padding = layer.config.get("padding", "valid")
    if padding not in paddings:
        raise UnsupportedError(
            f"{call.what}: option padding expected one of {', '.join(paddings)}, found {padding!r:.80}"
        )
    if len(call.x.shape) != 2:
        raise ShapeError(f"{call.what}: expected an input (batch, time, channels), found {shape_text(call.x)}")
    found = {"padding": padding, "stride": layer.size("strides")}
    return found | ({"dilation": layer.size("dilation_rate")} if "dilation_rate" in layer.config else {})


_CONVOLUTION = {"filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate", "groups", "use_bias",
                "activation"}  # fmt: skip


def _conv1d(call: LayerCall) -> Value:
    layer = call.layer
    layer.check_options(_CONVOLUTION)
    window, activation = _window(call, "valid", "same", "causal"), _output_activation(layer)
    filters, kernel = layer.whole("filters"), layer.size("kernel_size")
    groups = layer.size("groups") if "groups" in layer.config else 1
    channels = call.x.features
    if channels % groups or filters % groups:
        raise ShapeError(f"{call.what}: {channels} channels and {filters} filters do not make {groups} groups")
    bias = layer.flag("use_bias", True)
    shapes = {"kernel": (kernel, channels // groups, filters)} | ({"bias": (filters,)} if bias else {})
    arrays = call.take(shapes, {"kernel": "weight", "bias": "bias"})
    weights = {"weight": arrays["kernel"].transpose(2, 0, 1)} | ({"bias": arrays["bias"]} if bias else {})
    return _activated(call, activation, "conv1d", call.x, weights, groups=groups, **window)


def _depthwise_weight(kernel: np.ndarray) -> np.ndarray:
    """(kernel, channels, multiplier) as (channels * multiplier, kernel, 1)."""
    return kernel.reshape(kernel.shape[0], -1).T[:, :, np.newaxis]


def _depthwise_conv1d(call: LayerCall) -> Value:
    layer = call.layer
    known = _CONVOLUTION - {"filters", "groups"} | {"depth_multiplier"}
    # Keras 2 writes this too
    layer.check_options(known | ({"groups"} if layer.config.get("groups") == 1 else set()))
    window, activation = _window(call, "valid", "same", "causal"), _output_activation(layer)
    channels, bias = call.x.features, layer.flag("use_bias", True)
    multiplier = layer.size("depth_multiplier")
    name = "kernel" if layer.version >= (3, 0) else "depthwise_kernel"
    shapes = {name: (layer.size("kernel_size"), channels, multiplier)}
    shapes |= {"bias": (channels * multiplier,)} if bias else {}
    arrays = call.take(shapes, {name: "weight", "bias": "bias"})
    weights = {"weight": _depthwise_weight(arrays[name])} | ({"bias": arrays["bias"]} if bias else {})
    return _activated(call, activation, "conv1d", call.x, weights, groups=channels, **window)


def _separable_conv1d(call: LayerCall) -> Value:
    layer = call.layer
    layer.check_options(_CONVOLUTION - {"groups"} | {"depth_multiplier", "groups"})
    window, activation = _window(call, "valid", "same", "causal"), _output_activation(layer)
    channels, bias = call.x.features, layer.flag("use_bias", True)
    filters, multiplier = layer.whole("filters"), layer.size("depth_multiplier")
    shapes = {
        "depthwise_kernel": (layer.size("kernel_size"), channels, multiplier),
        "pointwise_kernel": (1, channels * multiplier, filters),
    }
    shapes |= {"bias": (filters,)} if bias else {}
    arrays = call.take(shapes, {"depthwise_kernel": "depthwise.weight", "pointwise_kernel": "weight", "bias": "bias"})
    depthwise = {"weight": _depthwise_weight(arrays["depthwise_kernel"])}
    inner = call.add("conv1d", call.x, depthwise, ".depthwise", groups=channels, **window)
    weights = {"weight": arrays["pointwise_kernel"][0].T} | ({"bias": arrays["bias"]} if bias else {})
    return _activated(call, activation, "dense", inner, weights)


def _pooling(mode: str) -> Callable[[LayerCall], Value]:
    def add(call: LayerCall) -> Value:
        layer = call.layer
        layer.check_options({"pool_size", "strides", "padding", "data_format"})
        options = _window(call, "valid", "same")
        return call.add("pool1d", call.x, mode=mode, pool=layer.size("pool_size"), **options)

    return add


def _global_pooling(mode: str) -> Callable[[LayerCall], Value]:
    def add(call: LayerCall) -> Value:
        layer, x = call.layer, call.x
        layer.check_options({"data_format", "keepdims"})
        _channels_last(call)
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
        y = call.add("reduce", inputs, suffix=".flat" if keeps else "", mode=mode, axis=call.first)
        if not keeps:
            return y
        return call.add("reshape", y, shape=("time," if call.first else "") + f"1,{x.features}")

    return add


# Shapes


def _flatten(call: LayerCall) -> Value:
    call.layer.check_options({"data_format"})
    _channels_last(call)
    return call.add("reshape", call.x, shape="time,-1" if call.first else "-1")


def _reshape(call: LayerCall) -> Value:
    call.layer.check_options({"target_shape"})
    return reshape(call, call.x, call.layer.config.get("target_shape"), "target_shape")


def reshape(call: LayerCall, x: Value, target: object, option: str) -> Value:
    """A node that gives `x` the shape `target`, batch not counted."""
    if not isinstance(target, list) or not target or not all(type(size) is int for size in target):
        raise FormatError(f"{call.what}: option {option} expected a list of whole numbers, found {target!r:.80}")
    sizes = list(target)
    if call.first:
        return call.add("reshape", x, shape=",".join(["time", *map(str, sizes)]))
    if x.has_time and x.axis is not None and len(sizes) > 1 and sizes[0] == -1 and math.prod(sizes[1:]) == x.size:
        return call.add("reshape", x, shape=",".join(["time", *map(str, sizes[1:])]))
    return call.add("reshape", x, shape=",".join(map(str, sizes)))


def _permute(call: LayerCall) -> Value:
    call.layer.check_options({"dims"})
    dims, rank = call.layer.config.get("dims"), len(call.x.shape) - call.first
    if not isinstance(dims, list) or sorted(map(str, dims)) != sorted(str(k + 1) for k in range(rank)):
        raise ShapeError(
            f"{call.what}: option dims expected each axis of {shape_text(call.x)} once, the batch left out, "
            f"found {dims!r:.80}"
        )
    order = [*range(call.first), *(dim - 1 + call.first for dim in dims)]
    return call.add("permute", call.x, order="".join(map(str, order)))


def _repeat_vector(call: LayerCall) -> Value:
    call.layer.check_options({"n"})
    count, x = call.layer.size("n"), call.x
    if len(x.shape) - call.first != 1:
        raise ShapeError(f"{call.what}: expected an input (batch, features), found {shape_text(x)}")
    if call.first:
        x = call.add("reshape", x, suffix=".rows", shape=f"time,1,{x.features}")
        return call.add("upsample", x, axis=1, size=count)
    return call.add("repeat_vector", x, count=count)


def _along_time(call: LayerCall) -> None:
    _channels_last(call)
    if len(call.x.shape) - call.first != 2:
        raise ShapeError(f"{call.what}: expected an input (batch, time, features), found {shape_text(call.x)}")


def _cropping(call: LayerCall) -> Value:
    call.layer.check_options({"cropping", "data_format"})
    _along_time(call)
    before, after = call.layer.pair("cropping")
    return call.add("slice", call.x, axis=call.first, start=before, before_end=after)


def _zero_padding(call: LayerCall) -> Value:
    call.layer.check_options({"padding", "data_format"})
    _along_time(call)
    before, after = call.layer.pair("padding")
    return call.add("pad", call.x, axis=call.first, before=before, after=after)


def _up_sampling(call: LayerCall) -> Value:
    call.layer.check_options({"size", "data_format"})
    _along_time(call)
    return call.add("upsample", call.x, axis=call.first, size=call.layer.size("size"))


# Several inputs


def _merge(mode: str) -> Callable[[LayerCall], list[Flow]]:
    def add(call: LayerCall) -> list[Flow]:
        call.layer.check_options(set())
        if mode == "sub" and len(call.flows) != 2:
            raise FormatError(f"{call.what}: expected two inputs, found {len(call.flows)}")
        if len(call.flows) < 2:
            return [Flow(call.x, call.flow.mask)]
        return add_merge(call, mode)

    return add


def _concatenate(call: LayerCall) -> list[Flow]:
    call.layer.check_options({"axis"})
    axis = call.axis(call.layer.config.get("axis", -1), of=call.values[0])
    if len(call.flows) < 2:
        return [Flow(call.x, call.flow.mask)]
    roles = {f"x{k or ''}": value for k, value in enumerate(call.values)}
    is_time = axis == 0 and call.values[0].has_time
    mask = merged_mask(call, call.listed_masks(), along_time=is_time)
    return [Flow(call.add("merge", roles, mode="concat", axis=axis), Mask(mask))]


def _dot(call: LayerCall) -> Value:
    """Products over one axis of each, which is made the last."""
    layer = call.layer
    layer.check_options({"axes", "normalize"})
    if len(call.flows) != 2:
        raise FormatError(f"{call.what}: expected two inputs, found {len(call.flows)}")
    axes = layer.config.get("axes")
    axes = [axes, axes] if type(axes) is int else axes
    if not isinstance(axes, list) or len(axes) != 2:
        raise FormatError(f"{call.what}: option axes expected one axis or two, found {axes!r:.80}")
    values = []
    for k, (value, axis) in enumerate(zip(call.values, axes, strict=True)):
        if len(value.shape) > 2:
            raise UnsupportedError(
                f"{call.what}: expected inputs (batch, time, features) or (batch, features), found {shape_text(value)}"
            )
        if call.axis(axis, "axes", of=value) != len(value.shape) - 1:
            value = call.add("permute", value, suffix=f".input{k}", order="10")
        values.append(value)
    y = {"x": values[0], "x1": values[1]}
    normalize = layer.flag("normalize", False)
    if len(values[0].shape) == 2 and len(values[1].shape) == 1:
        column = call.add("dot", y, suffix=".column", normalize=normalize)
        return call.add("reshape", column, shape="-1")
    return call.add("dot", y, normalize=normalize)


# Attention


def _refuse_scores(call: LayerCall) -> None:
    if call.flag_argument("return_attention_scores"):
        raise UnsupportedError(f"{call.what}: argument return_attention_scores=True is not supported; leave it out")


def _attention(call: LayerCall) -> list[Flow]:
    layer = call.layer
    is_additive = layer.class_name == "AdditiveAttention"
    layer.check_options({"use_scale", "score_mode", "causal", "dropout"})
    _refuse_scores(call)
    if not 2 <= len(call.flows) <= 3:
        raise FormatError(f"{call.what}: expected the inputs [query, value] or [query, value, key]")
    query, value, *rest = call.values
    key = rest[0] if rest else value
    use_scale = layer.flag("use_scale", is_additive)
    options: dict[str, object] = {"score": "dot", "masked": "penalty"}
    options["causal"] = call.flag_argument("use_causal_mask") or layer.flag("causal", False)
    weights = {}
    if is_additive:
        options["score"] = "additive"
        weights["weight"] = np.ones(query.features, np.float32)
        if use_scale:
            weights["weight"] = call.take({"scale": (query.features,)}, {"scale": "weight"})["scale"]
    else:
        mode = layer.config.get("score_mode", "dot")
        if mode not in ("dot", "concat"):
            raise UnsupportedError(f"{call.what}: option score_mode expected 'dot' or 'concat', found {mode!r:.80}")
        names = [*(["scale"] if use_scale else []), *(["concat_score_weight"] if mode == "concat" else [])]
        arrays = call.take(dict.fromkeys(names, ()), {name: name for name in names}) if names else {}
        scale = float(arrays["scale"]) if use_scale else 1.0
        if mode == "concat":
            options |= {"score": "concat", "factor": scale}
            weights["weight"] = arrays["concat_score_weight"].reshape(1)
        else:
            options["scale"] = scale
    masks = [*call.listed_masks(), None, None]
    inputs = {
        "x": query, "key": key, "value": value,
        "mask": call.readable(masks[0]), "mask_value": call.readable(masks[1]),
    }  # fmt: skip
    mask = None if loses_masks(call) else masks[0]
    return [Flow(call.add("attention", inputs, weights, **options), Mask(mask))]


def _multi_head_attention(call: LayerCall) -> list[Flow]:
    layer = call.layer
    layer.check_options(
        {"num_heads", "key_dim", "value_dim", "use_bias", "use_gate", "output_shape", "attention_axes", "dropout",
         "flash_attention", "query_shape", "key_shape", "value_shape"}
    )  # fmt: skip
    _refuse_scores(call)
    query = call.flow
    value = call.arguments.get("value")
    key = call.arguments.get("key")
    key = value if key is None else key
    if not isinstance(value, Flow) or not isinstance(key, Flow):
        raise FormatError(f"{call.what}: expected the inputs query and value")
    for flow in (query, value, key):
        if len(call.numbers(flow).shape) != 2:
            raise UnsupportedError(
                f"{call.what}: expected inputs (batch, time, features), found {shape_text(flow.value)}"
            )
    if call.arguments.get("attention_mask") is not None:
        raise UnsupportedError(f"{call.what}: argument attention_mask is not supported; use_causal_mask and masks are")
    axes = layer.config.get("attention_axes")
    if axes not in (None, 1, -2, [1], [-2]):
        raise UnsupportedError(f"{call.what}: option attention_axes expected the time, found {axes!r:.80}")
    heads, size = layer.whole("num_heads"), layer.whole("key_dim")
    value_size = layer.whole("value_dim") if layer.config.get("value_dim") is not None else size
    out = layer.config.get("output_shape")
    width = query.value.features if out is None else layer.size("output_shape")
    has_gate, bias = layer.flag("use_gate", False), layer.flag("use_bias", True)
    masks, rule, mask = attention_masks(call, query, value, key)
    parts = [("query", query, size), ("key", key, size), ("value", value, value_size)]
    parts += [("gate", query, value_size)] if has_gate else []
    under = "" if layer.version >= (3, 0) else "_"
    # Keras 3 has public names of the others, which it prefers
    places = [
        Part((f"{'_' if name == 'gate' else under}{name}_dense",), (f"_{name}_dense",), ((name,),))
        for name, _, _ in parts
    ]
    places.append(Part((f"{under}output_dense",), ("_output_dense",), (("attention_output",),)))
    inputs = {}
    for k, (name, flow, each) in enumerate(parts):
        shapes = {"kernel": (flow.value.features, heads, each)} | ({"bias": (heads, each)} if bias else {})
        node = f"{call.name}.{name}"
        arrays = call.take_part(places, k, shapes, {"kernel": f"{node}/weight", "bias": f"{node}/bias"})
        weights = {"weight": arrays["kernel"].reshape(-1, heads * each).T}
        weights |= {"bias": arrays["bias"].reshape(-1)} if bias else {}
        options = {"activation": "sigmoid"} if name == "gate" else {}
        inputs[name] = call.add("dense", flow.value, weights, f".{name}", **options)
    options = {
        "heads": heads,
        "scale": 1.0 / math.sqrt(size),
        "causal": call.flag_argument("use_causal_mask"),
        "masked": rule,
    }
    roles = {"x": inputs["query"], "key": inputs["key"], "value": inputs["value"], **masks}
    y = call.add("attention", roles, suffix=".attention", **options)
    if has_gate:
        y = call.add("merge", {"x": y, "x1": inputs["gate"]}, suffix=".gated", mode="mul")
    shapes = {"kernel": (heads, value_size, width)} | ({"bias": (width,)} if bias else {})
    roles = {"kernel": f"{call.name}/weight", "bias": f"{call.name}/bias"}
    arrays = call.take_part(places, len(parts), shapes, roles)
    weights = {"weight": arrays["kernel"].reshape(-1, width).T} | ({"bias": arrays["bias"]} if bias else {})
    return [Flow(call.add("dense", y, weights), Mask(mask))]


# Masks, and layers in layers


def _masking(call: LayerCall) -> list[Flow]:
    layer, x = call.layer, call.x
    layer.check_options({"mask_value"})
    if call.first or x.kind != "sequence" or len(x.shape) != 2:
        raise UnsupportedError(f"{call.what}: expected an input (batch, time, features), found {shape_text(x)}")
    made = call.add_layer("masking", call.name, {"x": x}, None, {"mask_value": layer.number("mask_value", 0.0)})
    return [Flow(made["y"], Mask(made["mask"]))]


def _time_distributed(call: LayerCall) -> list[Flow]:
    call.layer.check_options({"layer"})
    inner = call.layer.inner(call.layer.config.get("layer"), "layer")
    x, (is_explicit, mask) = call.flow.value, call.explicit_mask()
    flow = Flow(x, Mask(mask)) if is_explicit else call.flow
    if call.first or not x.has_time or len(x.shape) < 2:
        raise UnsupportedError(f"{call.what}: expected an input (batch, time, ...), found {shape_text(x)}")
    within = Part((*call.within.path, "layer"), (*call.within.attributes, "layer"), (), call.within.below)
    if not _works_on_each_step(inner):
        return _frame_by_frame(call, inner, within, flow)
    given = Flow(x, Mask(inner_mask(call, inner, flow.mask.value)))
    made = call.maker.call_layer(
        LayerCall(call.maker, inner, call.name, call.owner, within, [given], first=1, is_last=call.is_last)
    )
    mask = passed_mask(call)
    return [Flow(one.value, Mask(mask_of_frames(call, one, mask))) for one in made]


def _works_on_each_step(layer: LayerConfig) -> bool:
    """Whether a layer, or all that a model holds, can be given all steps at once."""
    if layer.class_name in MODELS:
        entries = layer.config.get("layers") or []
        inside = [layer.inner(entry, "layer") for entry in entries if isinstance(entry, dict)]
        return all(one.class_name == "InputLayer" or _works_on_each_step(one) for one in inside)
    return layer.class_name in _PER_STEP and not layer.is_operation


def _frame_by_frame(call: LayerCall, inner: LayerConfig, within: Part, flow: Flow) -> list[Flow]:
    """What is inside TimeDistributed called on each of a fixed number of frames, with one set of weights."""
    x = flow.value
    if x.kind == "index":
        raise UnsupportedError(
            f"{inner.what}: on frames of indices is not supported; put the Embedding into a TimeDistributed "
            "of its own, before this one"
        )
    if flow.mask.value is not None:
        call.refuse_mask(flow.mask.value, "a mask inside TimeDistributed is not supported")
    if x.shape[0] is None:
        raise StaticTimeNeeded(
            f"{inner.what}: inside TimeDistributed it needs the number of frames in advance: say it in the "
            f"shape of the input, found {shape_text(x)}"
        )
    if x.shape[0] > _MOST_FRAMES:
        raise UnsupportedError(f"{inner.what}: more than {_MOST_FRAMES} frames are not supported, found {x.shape[0]}")
    results: list[list[Value]] = []
    for k in range(x.shape[0]):
        frame = call.add("slice", {"x": x}, None, "/frame", axis=0, start=k, count=1)
        frame = call.add("reshape", frame, None, "/frame/shape", shape=",".join(map(str, x.shape[1:])))
        made = call.maker.call_layer(
            LayerCall(call.maker, inner, call.name, call.owner, within, [Flow(frame)], is_last=call.is_last)
        )
        rows = [
            call.add("reshape", one.value, None, "/row", shape=",".join(map(str, (1, *one.value.shape))))
            for one in made
        ]
        results.append(rows)
    joined = []
    for rows in zip(*results, strict=True):
        inputs = {f"x{k or ''}": row for k, row in enumerate(rows)}
        joined.append(Flow(call.add("merge", inputs, None, "/frames", mode="concat", axis=0)))
    return joined


def _network(call: LayerCall) -> list[Flow]:
    return call.maker.call_network(call)


def _weighted_inside(layer: LayerConfig) -> bool:
    """Whether the layers in a model or wrapper have weights."""
    entries = layer.config.get("layers") if layer.class_name in MODELS else [layer.config.get("layer")]
    return any(has_weights(layer.inner(entry, "layer")) for entry in entries or [])


def has_weights(layer: LayerConfig) -> bool:
    """Whether a layer has weights, so that an ``.h5`` file counts it."""
    kind = LAYERS.get(layer.class_name)
    return not layer.is_operation and kind is not None and kind.weighted(layer)


_RECURRENT = ("initial_state", "mask", "training")
_OLD_RECURRENT = ("mask", "training", "initial_state", "constants")

#: Layers by Keras's class name.
LAYERS: dict[str, LayerKind] = {
    "Dense": LayerKind(_dense, _always),
    "Embedding": LayerKind(_embedding, _always),
    "Activation": LayerKind(_activation),
    "LeakyReLU": LayerKind(_activation_layer),
    "ELU": LayerKind(_activation_layer),
    "ReLU": LayerKind(_relu),
    "PReLU": LayerKind(_prelu, _always),
    "Softmax": LayerKind(_softmax, arguments=("mask",)),
    **dict.fromkeys(
        ("Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization",
         "Identity"),
        LayerKind(_inert),
    ),
    "BatchNormalization": LayerKind(_batch_normalization, _always, ("training", "mask")),
    "LayerNormalization": LayerKind(_layer_normalization, _scaled),
    "RMSNormalization": LayerKind(_rms_normalization, _always),
    "UnitNormalization": LayerKind(_unit_normalization),
    "GroupNormalization": LayerKind(_group_normalization, _scaled),
    "Normalization": LayerKind(_normalization, lambda layer: layer.config.get("mean") is None),
    "Rescaling": LayerKind(_rescaling),
    "Conv1D": LayerKind(_conv1d, _always),
    "DepthwiseConv1D": LayerKind(_depthwise_conv1d, _always),
    "SeparableConv1D": LayerKind(_separable_conv1d, _always),
    "MaxPooling1D": LayerKind(_pooling("max")),
    "AveragePooling1D": LayerKind(_pooling("average")),
    "GlobalMaxPooling1D": LayerKind(_global_pooling("max")),
    "GlobalAveragePooling1D": LayerKind(_global_pooling("mean"), arguments=("mask",)),
    "Flatten": LayerKind(_flatten),
    "Reshape": LayerKind(_reshape),
    "Permute": LayerKind(_permute),
    "RepeatVector": LayerKind(_repeat_vector),
    "Cropping1D": LayerKind(_cropping),
    "ZeroPadding1D": LayerKind(_zero_padding),
    "UpSampling1D": LayerKind(_up_sampling),
    "Add": LayerKind(_merge("sum"), arguments=("mask",)),
    "Subtract": LayerKind(_merge("sub"), arguments=("mask",)),
    "Multiply": LayerKind(_merge("mul"), arguments=("mask",)),
    "Average": LayerKind(_merge("ave"), arguments=("mask",)),
    "Maximum": LayerKind(_merge("max"), arguments=("mask",)),
    "Minimum": LayerKind(_merge("min"), arguments=("mask",)),
    "Concatenate": LayerKind(_concatenate, arguments=("mask",)),
    "Dot": LayerKind(_dot, arguments=("mask",)),
    "Attention": LayerKind(
        _attention,
        lambda layer: bool(layer.config.get("use_scale") or layer.config.get("score_mode") == "concat"),
        ("mask", "training", "return_attention_scores", "use_causal_mask"),
    ),
    "AdditiveAttention": LayerKind(
        _attention, lambda layer: bool(layer.config.get("use_scale", True)),
        ("mask", "training", "return_attention_scores", "use_causal_mask"),
    ),
    "MultiHeadAttention": LayerKind(
        _multi_head_attention, _always,
        ("value", "key", "query_mask", "value_mask", "key_mask", "attention_mask", "return_attention_scores",
         "training", "use_causal_mask"),
    ),
    "Masking": LayerKind(_masking),
    "TimeDistributed": LayerKind(_time_distributed, _weighted_inside, ("training", "mask")),
    "Bidirectional": LayerKind(add_bidirectional, _always, _RECURRENT),
    **dict.fromkeys(RECURRENT_LAYERS, LayerKind(add_recurrent, _always, _RECURRENT)),
    **dict.fromkeys(MODELS, LayerKind(_network, _weighted_inside, ("training", "mask"))),
}  # fmt: skip

#: Inside TimeDistributed, layers that are called on single frames add as many nodes.
_MOST_FRAMES = 256

#: Layers that TimeDistributed gives all its steps at once; any other is called frame by frame.
_PER_STEP = {
    "Dense", "Embedding", "Activation", "LeakyReLU", "ELU", "ReLU", "PReLU", "Softmax", "Dropout", "SpatialDropout1D",
    "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization", "Identity", "BatchNormalization",
    "LayerNormalization", "RMSNormalization", "UnitNormalization", "Normalization", "Rescaling", "GlobalMaxPooling1D",
    "GlobalAveragePooling1D", "Flatten", "Reshape", "Permute", "RepeatVector", "Cropping1D", "ZeroPadding1D",
    "UpSampling1D", *MODELS,
}  # fmt: skip

#: Layers that are not computed -> what to do instead.
INSTEAD: Mapping[str, str] = {
    "ConvLSTM3D": "ConvLSTM1D and ConvLSTM2D are",
    "Lambda": "a Lambda is a program, which is not run; build the model of Keras's own layers and operations, such as "
    "x[:, -1] or keras.ops.sum(x, axis=1) in a Functional one, and set_weights(old.get_weights())",
    "Conv2D": "Conv1D is: convolutions over time",
    "Conv1DTranspose": "UpSampling1D and Conv1D are",
    "GroupQueryAttention": "MultiHeadAttention is",
    "EinsumDense": "Dense is",
    "StringLookup": "look the words up before predict, and give indices",
    "TextVectorization": "look the words up before predict, and give indices",
    "IntegerLookup": "look the numbers up before predict, and give indices",
}
