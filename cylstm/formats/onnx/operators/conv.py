"""Convolutions and pooling over one axis or two, and the Fourier transforms that are convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from cylstm.formats.onnx.call import Call
from cylstm.formats.onnx.folding import check_count
from cylstm.formats.onnx.operators.linear import activated, requantised, whole
from cylstm.formats.onnx.operators.quantised import check_scaled, constant_parameter, dequantised, dequantised_value
from cylstm.program.operations import conv, elementwise, reduce, shape
from cylstm.program.operations.linear import linear
from cylstm.program.tensor import Dim, Unavailable, dtype_of, is_constant, shape_of

#: padding of one axis: before and after, or `conv.CEIL`
Padding: TypeAlias = tuple[int, int] | str


def sizes_of(call: Call, name: str, count: int, default: int) -> list[int]:
    """An attribute that is a list of one whole number for each axis."""
    given = call.attribute(name, None)
    found = [default] * count if given is None or len(given) == 0 else [int(one) for one in given]
    if len(found) != count or min(found) < 1:
        raise call.refuse(f"{name} expected {count} numbers of at least 1, found {found}")
    return found


def pads_of(
    call: Call, sizes: Sequence[Any], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[Padding]:
    """The padding of each axis, by ``pads`` or by ``auto_pad``."""
    mode, count = str(call.attribute("auto_pad", "NOTSET") or "NOTSET"), len(kernel)
    if mode == "VALID":
        return [(0, 0)] * count
    if mode == "NOTSET":
        given = call.attribute("pads", None)
        pads = [0] * (2 * count) if given is None or len(given) == 0 else [int(one) for one in given]
        if len(pads) != 2 * count or min(pads) < 0:
            raise call.refuse(f"pads expected {2 * count} numbers of at least 0, found {pads}")
        return list(zip(pads[:count], pads[count:]))
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise call.refuse(f"auto_pad expected NOTSET, VALID, SAME_UPPER or SAME_LOWER, found {mode!r}")
    found: list[Padding] = []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations):
        reach = (width - 1) * dilation
        if isinstance(size, Dim) and stride > 1:
            if mode == "SAME_LOWER":
                raise call.net.needs_time("auto_pad SAME_LOWER with a stride")
            found.append(conv.CEIL)
            continue
        total = reach if isinstance(size, Dim) else max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
        found.append(halves(total, odd_behind=mode == "SAME_UPPER"))
    return found


def halves(total: int, *, odd_behind: bool) -> tuple[int, int]:
    """Padding before and after of which one is the other, or one more."""
    less = total // 2
    return (less, total - less) if odd_behind else (total - less, less)


def spatial(call: Call, x: Any) -> int:
    """How many axes of x come after batch and channels."""
    count = len(shape_of(x)) - 2
    if count == 3:
        raise call.refuse(
            f"a convolution or pooling over volumes is not supported, found {shape_of(x)}; those over time and over "
            "images are"
        )
    if count not in (1, 2):
        raise call.refuse(f"expected (batch, channels, time) or (batch, channels, rows, columns), found {shape_of(x)}")
    return count


def checked_numbers(call: Call, x: Any) -> None:
    if not is_constant(x) and dtype_of(x) != "float":
        raise call.refuse("a convolution of whole numbers is not supported; Cast them to floating-point ones")


def check_kernel(call: Call, weight: np.ndarray, count: int) -> list[int]:
    """The sizes of a weight over the spatial axes, which the attribute kernel_shape repeats."""
    if weight.ndim != count + 2:
        raise call.refuse(f"expected a weight of {count + 2} axes, found shape {weight.shape}")
    kernel = [int(size) for size in weight.shape[2:]]
    if sizes_of(call, "kernel_shape", count, 1) != kernel and call.attribute("kernel_shape", None) is not None:
        raise call.refuse(f"kernel_shape expected {kernel}, found {call.attribute('kernel_shape', None)}")
    return kernel


def convolved(call: Call, x: Any, weight: np.ndarray, bias: np.ndarray | None) -> Any:
    """The convolution that the call's attributes describe."""
    checked_numbers(call, x)
    count = spatial(call, x)
    kernel = check_kernel(call, weight, count)
    strides, dilations = (sizes_of(call, name, count, 1) for name in ("strides", "dilations"))
    pads = pads_of(call, shape_of(x)[2:], kernel, strides, dilations)
    return conv.conv(call.net, x, weight, bias, strides, pads, dilations, int(call.attribute("group", 1)))


def conv_(call: Call) -> Any:
    net = call.net
    return convolved(call, call.input(0), net.array(call.input(1)), net.array(call.input(2), "a bias"))


def fused_conv(call: Call) -> Any:
    """A convolution, a tensor added to it, and an activation."""
    y, other = conv_(call), call.input(3)
    y = y if other is None else elementwise.add(call.net, y, other)
    return activated(call, y, "activation", "activation_params")


def conv_integer(call: Call) -> Any:
    weight = call.input(1)
    if not isinstance(weight, np.ndarray):
        raise call.refuse("a weight that the network computes is not supported")
    check_scaled(call, call.input(0))
    zero = constant_parameter(call, call.input(3), "a zero point")
    return convolved(call, whole(call, call.input(0), call.input(2)), dequantised(weight, None, zero, 0), None)


def q_linear_conv(call: Call) -> Any:
    x_scale, x_zero, w_scale, w_zero = (
        constant_parameter(call, call.input(k), "a scale or zero point") for k in (1, 2, 4, 5)
    )
    weight, bias = call.input(3), constant_parameter(call, call.input(8), "a bias")
    if not isinstance(weight, np.ndarray) or x_scale is None or w_scale is None:
        raise call.refuse("a weight or a scale that the network computes is not supported")
    x = dequantised_value(call, call.input(0), x_scale, x_zero)
    if bias is not None:
        bias = dequantised(bias, (x_scale.astype(np.float64) * w_scale).astype(np.float32), None, 0)
    y = convolved(call, x, dequantised(weight, w_scale, w_zero, 0), bias)
    return requantised(call, y, call.input(6), call.input(7))


def conv_transpose(call: Call) -> Any:
    """What ``pads`` cuts off, or what is more than ``output_shape``, or for ``auto_pad`` than size * stride."""
    net, x = call.net, call.input(0)
    checked_numbers(call, x)
    count = spatial(call, x)
    weight = net.array(call.input(1))
    kernel = check_kernel(call, weight, count)
    strides, dilations = (sizes_of(call, name, count, 1) for name in ("strides", "dilations"))
    more = [int(one) for one in call.attribute("output_padding", None) or [0] * count]
    mode = str(call.attribute("auto_pad", "NOTSET") or "NOTSET")
    wanted = call.attribute("output_shape", None)
    sizes: list[Any] = list(shape_of(x)[2:])
    reaches = [(width - 1) * dilation + 1 for width, dilation in zip(kernel, dilations)]
    if wanted is not None and len(wanted):
        if any(isinstance(size, Dim) for size in sizes):
            raise net.needs_time("a transposed convolution with an output_shape")
        given = [int(one) for one in wanted][-count:]
        whole = [(size - 1) * one + end + reach for size, one, end, reach in zip(sizes, strides, more, reaches)]
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        given, whole = [0] * count, [reach + end - one for reach, end, one in zip(reaches, more, strides)]
    else:
        pads = pads_of(call, sizes, kernel, strides, dilations)
        return _transposed(call, weight, strides, pads, more, dilations)
    left = [a - b for a, b in zip(whole, given)]
    more = [end + max(-one, 0) for end, one in zip(more, left)]  # an output that is longer than that goes on
    left = [max(one, 0) for one in left]
    pads = [halves(one, odd_behind=mode == "SAME_UPPER") for one in left]
    return _transposed(call, weight, strides, pads, more, dilations)


def _transposed(
    call: Call, weight: np.ndarray, strides: list[int], pads: list[Any], more: list[int], dilations: list[int]
) -> Any:
    net, groups = call.net, int(call.attribute("group", 1))
    bias = net.array(call.input(2), "a bias")
    return conv.conv_transpose(net, call.input(0), weight, bias, strides, pads, more, groups, dilations)


# Pooling


def pooled(call: Call, x: Any, mode: str, *, count_include_pad: bool = False) -> Any:
    """The pooling that the call's attributes describe."""
    count = spatial(call, x)
    if call.attribute("kernel_shape", None) is None:
        raise call.refuse("expected the attribute kernel_shape")
    kernel = sizes_of(call, "kernel_shape", count, 1)
    strides, dilations = (sizes_of(call, name, count, 1) for name in ("strides", "dilations"))
    ceil = bool(call.attribute("ceil_mode", 0))
    pads = pads_of(call, shape_of(x)[2:], kernel, strides, dilations)
    ceil = ceil and str(call.attribute("auto_pad", "NOTSET")) in ("NOTSET", "VALID", "")
    return conv.pool(call.net, x, mode, kernel, strides, pads, dilations, ceil, count_include_pad)


def max_pool(call: Call) -> Any:
    y = pooled(call, call.input(0), "max")
    return (y, Unavailable("the places that a MaxPool found are not supported")) if call.outputs > 1 else y


def average_pool(call: Call) -> Any:
    x = call.input(0)
    return pooled(call, x, "average", count_include_pad=bool(call.attribute("count_include_pad", 0)))


def lp_pool(call: Call) -> Any:
    """The p-th root of the sum of the p-th powers of |x|: of their average, whose count is that of the window."""
    net, p = call.net, int(call.attribute("p", 2))
    if bool(call.attribute("ceil_mode", 0)):
        raise call.refuse("an LpPool with ceil_mode is not supported")
    powers = elementwise.power(net, elementwise.function(net, call.input(0), "abs"), p)
    y = pooled(call, powers, "average", count_include_pad=True)
    y = elementwise.multiply(net, y, float(math.prod(sizes_of(call, "kernel_shape", spatial(call, powers), 1))))
    return elementwise.power(net, y, 1.0 / p)


def global_pool(mode: str) -> Callable[[Call], Any]:
    def found(call: Call) -> Any:
        x = call.input(0)
        return reduce.reduce(call.net, x, mode, list(range(2, len(shape_of(x)))), True)

    return found


def global_lp_pool(call: Call) -> Any:
    x, p = call.input(0), int(call.attribute("p", 2))
    return reduce.norm(call.net, x, p, list(range(2, len(shape_of(x)))), True)


# Fourier transforms


def stft(call: Call) -> Any:
    """The spectrum of windows of a signal: a convolution with sines and cosines, (batch, windows, bins, 2)."""
    net, signal = call.net, call.input(0)
    window = constant_parameter(call, call.input(2), "a window")
    step, length = (constant_parameter(call, call.input(k), "a length") for k in (1, 3))
    if step is None or (length is None and window is None):
        raise call.refuse("expected a step, and a window or a length of it")
    size = int(window.size if length is None else length.reshape(-1)[0])  # type: ignore[union-attr]
    sizes = shape_of(signal)
    if len(sizes) == 3 and sizes[2] == 1:
        signal = shape.squeeze(net, signal, 2)
    elif len(sizes) != 2:
        raise call.refuse(f"expected a signal (batch, time, 1) of real numbers, found {sizes}")
    check_count(call, [size])
    window = np.ones(size) if window is None else window.astype(np.float64)
    if window.shape != (size,):
        raise call.refuse(f"expected a window of {size} numbers, found shape {window.shape}")
    bins = size // 2 + 1 if bool(call.attribute("onesided", 1)) else size
    check_count(call, [size, bins, 2])
    weight = fourier(size, bins) * window[:, np.newaxis, np.newaxis]  # (places, bins, 2)
    weight = weight.reshape(size, 1, 2 * bins).transpose(2, 1, 0).astype(net.dtype)
    y = conv.conv(net, shape.unsqueeze(net, signal, 1), weight, None, int(step.reshape(-1)[0]))
    return shape.unflatten(net, shape.transpose(net, y, 1, 2), 2, (bins, 2))


def fourier(size: int, bins: int, sign: int = -1, places: int | None = None) -> np.ndarray:
    """cos and sin of 2 pi place bin / size, (places, bins, 2); the sine with this sign."""
    # the angle by the rest of the product, which is exact however large it is
    turns = np.outer(np.arange(size if places is None else places), np.arange(bins)) % size
    angle = turns * (2.0 * np.pi / size)
    return np.stack([np.cos(angle), sign * np.sin(angle)], axis=-1)


def dft(call: Call) -> Any:
    """The spectrum along an axis of known size: a product with a matrix."""
    net, x = call.net, call.input(0)
    rank = len(shape_of(x))
    place = constant_parameter(call, call.input(2), "an axis")
    default = 1 if call.opset < 20 else -2
    axis = int(call.attribute("axis", default)) if place is None else int(place.reshape(-1)[0])
    axis %= rank
    inverse, onesided = bool(call.attribute("inverse", 0)), bool(call.attribute("onesided", 0))
    parts, places = shape_of(x)[-1], shape_of(x)[axis]
    length = constant_parameter(call, call.input(1), "a length")
    if not isinstance(places, int):
        raise net.needs_time("a Fourier transform over the time")
    half = onesided and inverse  # of the first half of the bins of real numbers, these numbers
    size = (2 * (places - 1) if half else places) if length is None else int(length.reshape(-1)[0])
    if parts not in (1, 2) or axis == rank - 1 or (onesided and (parts == 1) == inverse):
        raise call.refuse(f"a transform of {shape_of(x)} with inverse={inverse}, onesided={onesided} is not supported")
    if places > (size // 2 + 1 if half else size):
        raise call.refuse(f"a transform of {size} of {places} places is not supported; Slice them before")
    bins = size // 2 + 1 if onesided and not inverse else size
    check_count(call, [places, parts, bins, 2])
    waves = fourier(size, bins, 1 if inverse else -1, places)  # (places, bins, 2)
    if half:
        # all but the first bin and that of half the size stand for two
        waves *= np.where((np.arange(places) == 0) | (2 * np.arange(places) == size), 1.0, 2.0)[:, None, None]
    matrix = waves[:, np.newaxis]
    if parts == 2:
        # i (c + i s) = -s + i c
        matrix = np.stack([waves, np.stack([-waves[..., 1], waves[..., 0]], axis=-1)], axis=1)
    kept = 1 if half else 2
    matrix = matrix[..., :kept].reshape(places * parts, kept * bins) / (size if inverse else 1)
    y = shape.moveaxis(net, x, axis, rank - 2)
    y = linear(net, shape.flatten(net, y, rank - 2, rank - 1), matrix.T.astype(net.dtype))
    return shape.moveaxis(net, shape.unflatten(net, y, rank - 2, (bins, kept)), rank - 2, axis)


OPERATORS: Mapping[str, Callable[[Call], Any]] = {
    "Conv": conv_,
    "ConvInteger": conv_integer,
    "ConvTranspose": conv_transpose,
    "QLinearConv": q_linear_conv,
    "com.microsoft.FusedConv": fused_conv,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "LpPool": lp_pool,
    "GlobalAveragePool": global_pool("mean"),
    "GlobalMaxPool": global_pool("max"),
    "GlobalLpPool": global_lp_pool,
    "STFT": stft,
    "DFT": dft,
}
