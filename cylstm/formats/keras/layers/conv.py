"""Convolution over time, or over rows and columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from cylstm.errors import ShapeError, UnsupportedError
from cylstm.formats.keras.call import Flow, LayerCall
from cylstm.formats.keras.config import LayerConfig
from cylstm.formats.keras.layers.activations import activated, output_activation
from cylstm.formats.keras.layers.quantized import take_with_lora
from cylstm.formats.keras.layers.spatial import as_sequence, spatial_axes
from cylstm.formats.keras.masks import mask_behind
from cylstm.graph.values import Option, Value


class _Window(NamedTuple):
    """The windows of a convolution: a number for each of Keras's axes."""

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    padding: str


def _window(call: LayerCall, count: int) -> _Window:
    layer = call.layer
    spatial_axes(call, count)
    paddings = ("valid", "same", "causal") if count == 1 else ("valid", "same")
    padding = layer.config.get("padding", "valid")
    if padding not in paddings:
        raise UnsupportedError(
            f"{call.what}: option padding expected one of {', '.join(paddings)}, found {padding!r:.80}"
        )
    dilations = layer.each("dilation_rate", count) if "dilation_rate" in layer.config else (1,) * count
    return _Window(layer.each("strides", count), dilations, padding)


def _convolved(
    call: LayerCall,
    kernel: np.ndarray,
    bias: np.ndarray | None,
    groups: int,
    window: _Window,
    activation: str | dict[str, Option],
) -> list[Flow]:
    """A convolution with a kernel (taps..., channels, filters), over the axes before the channels wherever they are.

    Rows and columns are not moved: where they have changed places in the value, they have in the kernel.
    """
    call = call.last_is_last()
    x, axes = call.x, call.flow.order[call.first : -1]
    if len(axes) == 3:
        return _in_slices(call, kernel, bias, groups, window, activation)
    places = sorted(range(len(axes)), key=axes.__getitem__)
    weights = {"weight": kernel.transpose(-1, *places, -2)} | ({} if bias is None else {"bias": bias})
    strides, dilations = ([numbers[k] for k in places] for numbers in window[:2])
    options: dict[str, Option] = {"groups": groups, "padding": window.padding}
    if len(axes) == 1 and not call.first:
        options |= {"stride": strides[0], "dilation": dilations[0]}
        y = activated(call, activation, "conv1d", x, weights, **options)
    elif len(axes) == 1:
        # the steps of frames are rows of one column
        if window.padding == "causal":
            options |= {"padding": "explicit", "pad_before": (kernel.shape[0] - 1) * dilations[0]}
        options |= {"stride_rows": strides[0], "dilation_rows": dilations[0]}
        weights["weight"] = weights["weight"][:, :, np.newaxis]
        steps = call.add("reshape", x, None, ".rows", shape=f"time,{x.shape[1]},1,{x.features}")
        y = call.add("conv2d", steps, weights, ".columns", **options)
        flat = call.add("reshape", y, None, ".steps", shape=f"time,{y.shape[1]},{y.features}")
        y = activated(call, activation, "activation", flat)
    else:
        options |= dict(zip(("stride_rows", "stride_columns"), strides, strict=True))
        options |= dict(zip(("dilation_rows", "dilation_columns"), dilations, strict=True))
        y = activated(call, activation, "conv2d", x, weights, **options)
    return call.result(y, mask_behind(call), call.flow.order)


def _in_slices(
    call: LayerCall,
    kernel: np.ndarray,
    bias: np.ndarray | None,
    groups: int,
    window: _Window,
    activation: str | dict[str, Option],
) -> list[Flow]:
    """A convolution in three dimensions."""
    call = call.natural()
    x, taps, stride, dilation = call.x, kernel.shape[0], window.strides[0], window.dilations[0]
    reach = (taps - 1) * dilation + 1
    if window.padding == "same" and reach > 1:
        both = reach - 1
        if stride > 1:
            depth = call.known_sizes(x, 0)[0]
            both = max((-(-depth // stride) - 1) * stride + reach - depth, 0)
        x = call.add("pad", x, None, ".padded", axis=0, before=both // 2, after=both - both // 2)
    options: dict[str, Option] = {"groups": groups, "padding": window.padding}
    options |= dict(zip(("stride_rows", "stride_columns"), window.strides[1:], strict=True))
    options |= dict(zip(("dilation_rows", "dilation_columns"), window.dilations[1:], strict=True))
    weights = [one.transpose(3, 0, 1, 2) for one in kernel]
    y = _summed_slices(call, x, "conv2d", weights, bias, stride, dilation, options)
    return call.result(activated(call, activation, "activation", y), mask_behind(call))


def _summed_slices(
    call: LayerCall,
    x: Value,
    kind: str,
    weights: Sequence[np.ndarray],
    bias: np.ndarray | None,
    stride: int,
    dilation: int,
    options: dict[str, Option],
) -> Value:
    """Along the depth: the sum of what each tap's layer of images gives for the slices that it reads."""
    reach = (len(weights) - 1) * dilation + 1
    parts: dict[str, Value | None] = {}
    for k, weight in enumerate(weights):
        start = k * dilation
        slices = {"axis": 0, "start": start, "before_end": reach - 1 - start, "step": stride}
        part = call.add("slice", x, None, f".slices{k}", **slices)
        given = {"weight": weight} | ({"bias": bias} if bias is not None and not k else {})
        parts[f"x{k or ''}"] = call.add(kind, part, given, f".tap{k}", **options)
    first = parts["x"]
    assert first is not None
    return first if len(weights) == 1 else call.add("merge", parts, None, ".sum", mode="sum")


_CONVOLUTION = {"filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate", "groups", "use_bias",
                "activation"}  # fmt: skip


def convolution_of(count: int) -> Callable[[LayerCall], list[Flow]]:
    def add(call: LayerCall) -> list[Flow]:
        layer = call.layer
        layer.check_options(_CONVOLUTION | {"lora_rank", "lora_alpha"})
        window, activation = _window(call, count), output_activation(layer)
        filters, taps = layer.whole("filters"), layer.each("kernel_size", count)
        groups = layer.size("groups") if "groups" in layer.config else 1
        channels = call.channels
        if channels % groups or filters % groups:
            raise ShapeError(f"{call.what}: {channels} channels and {filters} filters do not make {groups} groups")
        others = {"bias": (filters,)} if layer.flag("use_bias", True) else {}
        roles = {"kernel": "weight", "bias": "bias"}
        arrays = take_with_lora(call, "kernel", (*taps, channels // groups, filters), others, roles)
        return _convolved(call, arrays["kernel"], arrays.get("bias"), groups, window, activation)

    return add


def depthwise_of(count: int) -> Callable[[LayerCall], list[Flow]]:
    def add(call: LayerCall) -> list[Flow]:
        layer = call.layer
        known = _CONVOLUTION - {"filters", "groups"} | {"depth_multiplier"}
        # Keras 2 writes this too
        layer.check_options(known | ({"groups"} if layer.config.get("groups") == 1 else set()))
        window, activation = _window(call, count), output_activation(layer)
        channels, multiplier = call.channels, layer.size("depth_multiplier")
        name = "kernel" if layer.version >= (3, 0) else "depthwise_kernel"
        shapes: dict[str, tuple[int, ...]] = {name: (*layer.each("kernel_size", count), channels, multiplier)}
        shapes |= {"bias": (channels * multiplier,)} if layer.flag("use_bias", True) else {}
        arrays = call.take(shapes, {name: "weight", "bias": "bias"})
        return _convolved(call, _depthwise(arrays[name]), arrays.get("bias"), channels, window, activation)

    return add


def _depthwise(kernel: np.ndarray) -> np.ndarray:
    """(taps..., channels, multiplier) as (taps..., 1, channels * multiplier)."""
    return kernel.reshape(*kernel.shape[:-2], 1, -1)


def separable_of(count: int) -> Callable[[LayerCall], list[Flow]]:
    def add(call: LayerCall) -> list[Flow]:
        layer = call.layer
        layer.check_options(_CONVOLUTION | {"depth_multiplier"})
        window, activation = _window(call, count), output_activation(layer)
        channels, bias = call.channels, layer.flag("use_bias", True)
        filters, multiplier = layer.whole("filters"), layer.size("depth_multiplier")
        shapes: dict[str, tuple[int, ...]] = {
            "depthwise_kernel": (*layer.each("kernel_size", count), channels, multiplier),
            "pointwise_kernel": (*(1,) * count, channels * multiplier, filters),
        }
        shapes |= {"bias": (filters,)} if bias else {}
        roles = {"depthwise_kernel": "depthwise.weight", "pointwise_kernel": "weight", "bias": "bias"}
        arrays = call.take(shapes, roles)
        (inner,) = _convolved(
            replace(call, name=f"{call.name}.depthwise"), _depthwise(arrays["depthwise_kernel"]), None, channels,
            window, {"activation": "linear"},
        )  # fmt: skip
        weights = {"weight": arrays["pointwise_kernel"].reshape(-1, filters).T}
        weights |= {"bias": arrays["bias"]} if bias else {}
        y = activated(call, activation, "dense", inner.value, weights)
        return call.result(y, mask_behind(call), inner.order)

    return add


def transposed_of(count: int) -> Callable[[LayerCall], list[Flow]]:
    """``y[i * stride + k * dilation] += x[i] * kernel[k]``; Keras's padding cuts the ends off, or adds to them."""

    def add(call: LayerCall) -> list[Flow]:
        layer = call.layer
        known = _CONVOLUTION - {"groups"} | {"output_padding"}
        # Keras 2 writes this too
        layer.check_options(known | ({"groups"} if layer.config.get("groups") == 1 else set()))
        window, activation = _window(call, count), output_activation(layer)
        if window.padding == "causal":
            raise UnsupportedError(f"{call.what}: option padding expected one of valid, same, found 'causal'")
        if max(window.strides) > 1 and max(window.dilations) > 1:
            raise UnsupportedError(f"{call.what}: strides and dilation_rate together are not supported")
        taps, filters = layer.each("kernel_size", count), layer.whole("filters")
        shapes = {"kernel": (*taps, filters, call.channels)}
        shapes |= {"bias": (filters,)} if layer.flag("use_bias", True) else {}
        arrays = call.take(shapes, {"kernel": "weight", "bias": "bias"})
        kernel, bias = arrays["kernel"], arrays.get("bias")
        call = call.last_is_last()
        if count == 3:
            return _in_slices_transposed(call, kernel, bias, window, activation)
        axes = call.flow.order[call.first : -1]
        places = sorted(range(count), key=axes.__getitem__)
        weights = {"weight": kernel.transpose(-2, *places, -1)} | ({} if bias is None else {"bias": bias})
        options = _transposed_options(layer, taps, window, places)
        y = activated(call, activation, "conv_transpose", as_sequence(call, call.x), weights, **options)
        return call.result(y, mask_behind(call), call.flow.order)

    return add


_OF_ROWS = ("stride_rows", "dilation_rows", "crop_before", "crop_after", "output_padding_rows")
_OF_COLUMNS = ("stride_columns", "dilation_columns", "crop_left", "crop_right", "output_padding_columns")


def _transposed_options(
    layer: LayerConfig, taps: Sequence[int], window: _Window, places: Sequence[int]
) -> dict[str, Option]:
    """The options of the graph's layer for Keras's axes `places`, in order."""
    options: dict[str, Option] = {}
    for names, k in zip((_OF_ROWS, _OF_COLUMNS), places, strict=False):
        before, after = _transposed_padding(layer, taps, window, k)
        rest = (taps[k] - 1) * window.dilations[k]
        cut = (rest - before, max(rest - after, 0), max(after - rest, 0))
        options |= dict(zip(names, (window.strides[k], window.dilations[k], *cut), strict=True))
    return options


def _transposed_padding(layer: LayerConfig, taps: Sequence[int], window: _Window, k: int) -> tuple[int, int]:
    """Steps of padding around axis k of an input whose steps lie a stride apart: Keras's for TensorFlow and JAX."""
    reach, stride = (taps[k] - 1) * window.dilations[k] + 1, window.strides[k]
    extra = None
    if layer.config.get("output_padding") is not None:
        extra = layer.each("output_padding", len(taps), least=0)[k]
    if window.padding == "valid":
        return reach - 1, reach - 1 + (max(reach, stride) - reach if extra is None else extra)
    total = stride + reach - 2 if extra is None else reach + reach % 2 - 2 + extra
    before = min(-(-total // 2), reach - 1)
    return before, total - before


def _in_slices_transposed(
    call: LayerCall,
    kernel: np.ndarray,
    bias: np.ndarray | None,
    window: _Window,
    activation: str | dict[str, Option],
) -> list[Flow]:
    """A transposed convolution in three dimensions: slices of zeros between those of x are what a stride makes."""
    call = call.natural()
    x, taps, stride = as_sequence(call, call.x), kernel.shape[:3], window.strides[0]
    if stride > 1:
        step = ",".join(map(str, x.step_shape))
        x = call.add("reshape", x, None, ".one", shape=f"time,1,{step}")
        x = call.add("pad", x, None, ".apart", axis=1, after=stride - 1)
        x = call.add("reshape", x, None, ".slices", shape=f"time*{stride},{step}")
        x = call.add("slice", x, None, ".between", axis=0, start=0, before_end=stride - 1)
    before, after = _transposed_padding(call.layer, taps, window, 0)
    x = call.add("pad", x, None, ".padded", axis=0, before=before, after=after)
    weights = [one.transpose(2, 0, 1, 3) for one in kernel[::-1]]
    options = _transposed_options(call.layer, taps, window, [1, 2])
    y = _summed_slices(call, x, "conv_transpose", weights, bias, 1, window.dilations[0], options)
    return call.result(activated(call, activation, "activation", y), mask_behind(call))
