"""Convolution and pooling over time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from cylstm.errors import ShapeError, UnsupportedError
from cylstm.formats.keras.call import LayerCall, shape_text
from cylstm.formats.keras.config import LayerConfig
from cylstm.formats.keras.layers.activations import activated, output_activation
from cylstm.formats.keras.layers.quantized import affine, take_with_lora
from cylstm.formats.keras.layers.spatial import check_channels_last
from cylstm.graph.values import Option, Value

#: Windows of different sizes are layers of their own each.
_MOST_WINDOWS = 256


def window_options(call: LayerCall, *paddings: str) -> dict[str, Option]:
    """Layer options of a convolution."""
    check_channels_last(call)
    layer = call.layer
    padding = layer.config.get("padding", "valid")
    if padding not in paddings:
        raise UnsupportedError(
            f"{call.what}: option padding expected one of {', '.join(paddings)}, found {padding!r:.80}"
        )
    if len(call.x.shape) - call.first != 2:
        raise ShapeError(f"{call.what}: expected an input (batch, time, channels), found {shape_text(call.x)}")
    found: dict[str, Option] = {"padding": padding, "stride": layer.size("strides")}
    return found | ({"dilation": layer.size("dilation_rate")} if "dilation_rate" in layer.config else {})


def _taps_of_frames(call: LayerCall, taps: int, window: Mapping[str, Option]) -> tuple[list[Value], list[int]]:
    """Inside TimeDistributed: what each tap of a window reads, (frames, windows, channels), and the windows' sizes.

    `window` is what `window_options` gives. The padding is 0, or the number at the end where there is no weight: the
    maximum of a window that reaches over the end is then that of what is inside. The sizes count no padding.
    """
    x, stride, dilation = call.x, int(window["stride"]), int(window.get("dilation", 1))
    size, reach = call.known_sizes(x, 1)[0], (taps - 1) * dilation + 1
    before = after = 0
    if window["padding"] == "same":
        both = max((-(-size // stride) - 1) * stride + reach - size, 0)
        before, after = both // 2, both - both // 2
    elif window["padding"] == "causal":
        before = reach - 1
    count = (size + before + after - reach) // stride + 1
    if count < 1:
        raise ShapeError(f"{call.what}: {size} steps are too few for a window of {reach}")
    if before or after:
        mode = "zero" if "dilation" in window else "replicate"
        x = call.add("pad", x, None, ".padded", axis=1, before=before, after=after, mode=mode)
    parts = [
        call.add("slice", x, None, f".tap{k}", axis=1, start=k * dilation, step=stride, count=count)
        for k in range(taps)
    ]
    inside = [
        sum(before <= first + k * dilation < before + size for k in range(taps))
        for first in range(0, count * stride, stride)
    ]
    return parts, inside


def _joined(call: LayerCall, parts: Sequence[Value], mode: str, suffix: str = "") -> Value:
    """The taps of a window as one value; `mode` is that of a merge."""
    if len(parts) == 1:
        return parts[0]
    return call.add("merge", {f"x{k or ''}": part for k, part in enumerate(parts)}, None, suffix, mode=mode)


def _convolved(
    call: LayerCall,
    activation: str | dict[str, Option],
    weights: dict[str, np.ndarray],
    groups: int,
    window: Mapping[str, Option],
) -> Value:
    """A convolution over time, or inside TimeDistributed over the steps of each frame."""
    if not call.first:
        return activated(call, activation, "conv1d", call.x, weights, groups=groups, **window)
    taps = weights["weight"].shape[1]
    parts, _ = _taps_of_frames(call, taps, window)
    if groups == 1:
        y = _joined(call, parts, "concat", ".window")
        flat = weights | {"weight": weights["weight"].reshape(len(weights["weight"]), -1)}
        return activated(call, activation, "dense", y, flat)
    # depthwise: each channel, repeated for each of its filters, times its weights
    many = len(weights["weight"]) // groups
    products = []
    for k, part in enumerate(parts):
        if many > 1:
            part = call.add("upsample", part, None, f".channels{k}", axis=2, size=many)
        ones = np.ones(part.features, np.float32)
        scale = {"mean": ones * 0, "variance": ones, "gain": weights["weight"][:, k, 0]}
        scale |= {"shift": weights["bias"]} if "bias" in weights and not k else {}
        products.append(call.add("batch_norm", part, scale, f".product{k}", epsilon=0.0))
    return activated(call, activation, "activation", _joined(call, products, "sum", ".sum"))


_CONVOLUTION = {"filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate", "groups", "use_bias",
                "activation"}  # fmt: skip


def add_conv1d(call: LayerCall) -> Value:
    layer = call.layer
    layer.check_options(_CONVOLUTION | {"lora_rank", "lora_alpha"})
    window, activation = window_options(call, "valid", "same", "causal"), output_activation(layer)
    filters, kernel = layer.whole("filters"), layer.size("kernel_size")
    groups = layer.size("groups") if "groups" in layer.config else 1
    channels = call.x.features
    if channels % groups or filters % groups:
        raise ShapeError(f"{call.what}: {channels} channels and {filters} filters do not make {groups} groups")
    bias = layer.flag("use_bias", True)
    others = {"bias": (filters,)} if bias else {}
    roles = {"kernel": "weight", "bias": "bias"}
    arrays = take_with_lora(call, "kernel", (kernel, channels // groups, filters), others, roles)
    weights = {"weight": arrays["kernel"].transpose(2, 0, 1)} | ({"bias": arrays["bias"]} if bias else {})
    return _convolved(call, activation, weights, groups, window)


def add_conv1d_transpose(call: LayerCall) -> Value:
    """``y[i * stride + k * dilation] += x[i] * kernel[k]`` over all i and k, some steps cut off or added at each end.

    With a stride, every step of the result of the same remainder is a convolution of its own, with every stride-th tap.
    """
    layer, x = call.layer, call.x
    known = _CONVOLUTION - {"groups"} | {"output_padding"}
    # Keras 2 writes this too
    layer.check_options(known | ({"groups"} if layer.config.get("groups") == 1 else set()))
    activation, window = output_activation(layer), window_options(call, "valid", "same")
    taps, stride, filters = layer.size("kernel_size"), layer.size("strides"), layer.whole("filters")
    dilation = layer.size("dilation_rate") if "dilation_rate" in layer.config else 1
    if stride > 1 and dilation > 1:
        raise UnsupportedError(f"{call.what}: strides and dilation_rate together are not supported")
    bias = layer.flag("use_bias", True)
    shapes = {"kernel": (taps, filters, x.features)} | ({"bias": (filters,)} if bias else {})
    arrays = call.take(shapes, {"kernel": "weight", "bias": "bias"})
    kernel, shift = arrays["kernel"], arrays.get("bias")
    reach = (taps - 1) * dilation + 1
    before, after = _transposed_padding(layer, reach, stride, str(window["padding"]))
    if stride == 1:
        weights = {"weight": kernel[::-1].transpose(1, 0, 2)} | ({"bias": shift} if shift is not None else {})
        return activated(
            call, activation, "conv1d", x, weights,
            padding="explicit", pad_before=before, pad_after=after, dilation=dilation,
        )  # fmt: skip
    # step q * stride + r of the result reads step q + first - j of x with tap (r + cut) % stride + j * stride
    cut, left = reach - 1 - before, after - (reach - 1) + before - (reach - 1) + reach - stride
    more = -(-left // stride)
    phases = [((r + cut) % stride, (r + cut) // stride) for r in range(stride)]
    counts = [len(range(tap, taps, stride)) for tap, _ in phases]
    parts: list[Value] = []
    empty, begin = 0, 0
    while begin < stride:
        end = begin + 1
        while end < stride and (counts[end], phases[end][1]) == (counts[begin], phases[begin][1]):
            end += 1
        count, first = counts[begin], phases[begin][1]
        if not count:
            empty += (end - begin) * filters
        else:
            weight = np.concatenate([kernel[tap::stride][::-1].transpose(1, 0, 2) for tap, _ in phases[begin:end]])
            weights = {"weight": weight}
            if shift is not None and all(counts):
                weights["bias"] = np.tile(shift, end - begin)
            pads = (count - 1 - first, more + first)
            part = x
            if min(pads) < 0:
                part = call.add(
                    "slice", x, None, f".input{begin}", axis=0, start=max(-pads[0], 0), before_end=max(-pads[1], 0)
                )
            part = call.add(
                "conv1d", part, weights, f".phase{begin}",
                padding="explicit", pad_before=max(pads[0], 0), pad_after=max(pads[1], 0),
            )  # fmt: skip
            parts.append(_widened(call, part, empty, 0, f".from{begin}"))
            empty = 0
        begin = end
    parts[-1] = _widened(call, parts[-1], 0, empty, ".to")
    y = parts[0]
    if len(parts) > 1:
        y = call.add("merge", {f"x{k or ''}": part for k, part in enumerate(parts)}, None, ".phases", mode="concat")
    y = call.add("reshape", y, None, ".steps", shape=f"time*{stride},{filters}")
    if more * stride != left:
        y = call.add("slice", y, None, ".cut", axis=0, start=0, before_end=more * stride - left)
    if shift is not None and not all(counts):
        y = affine(call, y, 1.0, shift, ".shifted")
    return activated(call, activation, "activation", y)


def _widened(call: LayerCall, y: Value, before: int, after: int, suffix: str) -> Value:
    """`y` with zeros before and after its channels."""
    if not before and not after:
        return y
    return call.add("pad", y, None, suffix, axis=1, before=before, after=after)


def _transposed_padding(layer: LayerConfig, reach: int, stride: int, padding: str) -> tuple[int, int]:
    """Steps of padding before and after an input whose steps lie a stride apart: Keras's for TensorFlow and JAX."""
    given = layer.config.get("output_padding")
    extra = None if given is None else layer.size("output_padding", least=0)
    if padding == "valid":
        return reach - 1, reach - 1 + (max(reach, stride) - reach if extra is None else extra)
    total = stride + reach - 2 if extra is None else reach + reach % 2 - 2 + extra
    before = min(-(-total // 2), reach - 1)
    return before, total - before


def adaptive_pooling_of(mode: str) -> Callable[[LayerCall], Value]:
    """Pooling into a number of windows that divide the time: window i from i * time / n to (i + 1) * time / n."""

    def add(call: LayerCall) -> Value:
        layer, x = call.layer, call.x
        layer.check_options({"output_size", "data_format"})
        check_channels_last(call)
        count = layer.size("output_size")
        if len(x.shape) != 2 or call.first:
            raise ShapeError(f"{call.what}: expected an input (batch, time, features), found {shape_text(x)}")
        time = call.known_sizes(x, 0)[0]
        if time % count == 0:
            size = time // count
            return call.add("pool1d", x, mode="max" if mode == "max" else "average", pool=size, stride=size)
        if count > _MOST_WINDOWS:
            raise UnsupportedError(f"{call.what}: more than {_MOST_WINDOWS} windows are not supported, found {count}")
        rows = {}
        for k in range(count):
            begin, end = k * time // count, -(-(k + 1) * time // count)
            part = call.add("slice", x, None, f".window{k}", axis=0, start=begin, count=end - begin)
            part = call.add("reduce", part, None, f".pool{k}", mode=mode, axis=0)
            rows[f"x{k or ''}"] = call.add("reshape", part, None, f".row{k}", shape=f"1,{x.features}")
        return call.add("merge", rows, mode="concat", axis=0)

    return add


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
    return _convolved(call, activation, weights, channels, window)


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
    inner = _convolved(
        replace(call, name=f"{call.name}.depthwise"), {"activation": "linear"}, depthwise, channels, window
    )
    weights = {"weight": arrays["pointwise_kernel"][0].T} | ({"bias": arrays["bias"]} if bias else {})
    return activated(call, activation, "dense", inner, weights)


def pooling_of(mode: str) -> Callable[[LayerCall], Value]:
    def add(call: LayerCall) -> Value:
        layer = call.layer
        layer.check_options({"pool_size", "strides", "padding", "data_format"})
        options, size = window_options(call, "valid", "same"), layer.size("pool_size")
        if not call.first:
            return call.add("pool1d", call.x, mode=mode, pool=size, **options)
        if mode == "max" or options["padding"] == "valid":
            parts, _ = _taps_of_frames(call, size, options)
            return _joined(call, parts, "max" if mode == "max" else "ave", ".pooled")
        parts, inside = _taps_of_frames(call, size, {**options, "dilation": 1})
        y = _joined(call, parts, "sum", ".sum")
        flat = call.add("reshape", y, None, ".flat", shape="time,-1")
        ones = np.ones(flat.features, np.float32)
        gain = np.repeat(1.0 / np.array(inside), y.features).astype(np.float32)
        flat = call.add("batch_norm", flat, {"mean": ones * 0, "variance": ones, "gain": gain}, ".mean", epsilon=0.0)
        return call.add("reshape", flat, shape=f"time,{len(inside)},{y.features}")

    return add
