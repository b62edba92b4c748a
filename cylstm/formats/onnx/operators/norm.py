"""Normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cylstm.formats.onnx.call import Call
from cylstm.formats.onnx.folding import check_count
from cylstm.program.network import MIXES
from cylstm.program.operations import elementwise, norm, reduce, shape
from cylstm.program.operations.frames import on_frames
from cylstm.program.operations.linear import linear
from cylstm.program.tensor import BATCH, BATCH_SIZE, Dim, Tensor, Unavailable, is_constant, shape_of

#: of a normalisation, beside its result
_STATISTICS = Unavailable("the mean and the deviation that a normalisation computes are not results")


def _epsilon(call: Call, default: float = 1e-5) -> float:
    return float(call.attribute("epsilon", default))


def batch_normalization(call: Call) -> Any:
    if call.attribute("training_mode", 0):
        raise call.refuse(f"with training_mode it takes the statistics of the batch and {MIXES}; export after eval()")
    if call.opset < 7 and not call.attribute("is_test", 0):
        raise call.refuse(f"without is_test it takes the statistics of the batch and {MIXES}; export after eval()")
    if not call.attribute("spatial", 1):
        raise call.refuse("statistics of each place (spatial=0) are not supported")
    x, scale, bias, mean, variance = (call.input(k) for k in range(5))
    if not (is_constant(mean) and is_constant(variance)):
        y = _with_computed_statistics(call, x, scale, bias, mean, variance)
        return (y, *[_STATISTICS] * (call.outputs - 1)) if call.outputs > 1 else y
    tensor = call.net.tensor(x)
    joined = tensor.axes[1] if tensor.ndim > 1 else None
    if tensor.axes[0] is None and isinstance(joined, tuple) and joined[0] == BATCH and len(joined) == 2:
        # (1, batch * channels, ...), as an instance normalisation with statistics is exported
        apart = tensor.with_axes((*joined, *tensor.axes[2:]))
        each = [_of_one_row(call, apart.size(1), one) for one in (mean, variance, scale, bias)]
        y = norm.batch_norm(call.net, apart, each[0], each[1], each[2], each[3], _epsilon(call))
        together: Any = y.axes[:2]
        y = y.with_axes((None, together, *y.axes[2:]))
    else:
        y = norm.batch_norm(call.net, x, mean, variance, scale, bias, _epsilon(call))
    return (y, *[_STATISTICS] * (call.outputs - 1)) if call.outputs > 1 else y


def _with_computed_statistics(call: Call, x: Any, *given: Any) -> Any:
    """As the formula says, where the network computes the mean and the variance: tf2onnx's LayerNormalization."""
    net, rank = call.net, len(shape_of(x))

    def along(one: Any) -> Any:
        """Numbers for each channel beside (batch, channels, ...)."""
        if len(shape_of(one)) != 1:
            raise call.refuse(f"expected a number for each channel, found {shape_of(one)}")
        for _ in range(rank - 2):
            one = shape.unsqueeze(net, one, -1)
        return one

    scale, bias, mean, variance = map(along, given)
    deviation = elementwise.function(net, elementwise.add(net, variance, _epsilon(call)), "sqrt")
    y = elementwise.divide(net, elementwise.subtract(net, x, mean), deviation)
    return elementwise.add(net, elementwise.multiply(net, y, scale), bias)


def _of_one_row(call: Call, channels: Any, given: Any) -> Any:
    """Numbers for each channel, of numbers for each channel of every row."""
    array = call.net.array(given)
    if isinstance(channels, int) and array.size % channels == 0:
        rows = array.reshape(-1, channels)
        if np.array_equal(rows, np.broadcast_to(rows[:1], rows.shape)):
            return rows[0]
    raise call.refuse(f"numbers of its own for each row of a batch: {MIXES}")


def _of_channels(call: Call, x: Any, groups: int | None, scale: Any, bias: Any) -> Any:
    """(batch, channels, ...) less the mean of each group, by its deviation; None is a group for each channel."""
    net = call.net
    channels = shape_of(x)[1] if len(shape_of(x)) > 2 else None
    if not isinstance(channels, int):
        raise call.refuse(f"expected (batch, channels, ...), found {shape_of(x)}")
    scale, bias = (net.array(one, "a scale or a bias") for one in (scale, bias))
    each = channels if groups is None else groups

    def on_rows(y: Any) -> Any:
        y = net.tensor(y)
        if y.axes[0] != BATCH:
            raise call.refuse(f"expected (batch, channels, ...), found {y.shape}")
        return norm.group_norm(net, y, each, scale, bias, _epsilon(call))

    return on_frames(net, on_rows, (x,))


def instance_normalization(call: Call) -> Any:
    return _of_channels(call, call.input(0), None, call.input(1), call.input(2))


def group_normalization(call: Call) -> Any:
    """Before opset 21, scale and bias have a number for each group; since then for each channel."""
    x, groups = call.input(0), int(call.attribute("num_groups", 0))
    channels = shape_of(x)[1] if len(shape_of(x)) > 1 else 0
    if not isinstance(channels, int) or groups < 1 or channels % groups:
        raise call.refuse(f"num_groups expected a part of the channels of {shape_of(x)}, found {groups}")
    scale, bias = (call.net.array(call.input(k), "a scale or a bias") for k in (1, 2))
    if call.opset < 21:
        if len(scale) != groups or len(bias) != groups:
            raise call.refuse(f"expected {groups} numbers as scale and bias, found {len(scale)} and {len(bias)}")
        scale, bias = (np.repeat(one, channels // groups) for one in (scale, bias))
    return _of_channels(call, x, groups, scale, bias)


def _of_last(call: Call, x: Any, scale: Any, bias: Any, mode: str, axis: int) -> Any:
    """x normalised over its axes from `axis` on, times a scale, plus a bias."""
    net = call.net
    x = net.constant(x) if is_constant(x) else net.tensor(x)
    sizes: list[Any] = list(x.shape[axis % x.ndim :])
    if BATCH_SIZE in sizes:
        raise call.refuse(f"a normalisation over the batch {MIXES}")
    if any(isinstance(size, Dim) for size in sizes):
        raise net.needs_time("a normalisation over the time")
    widened = []
    for one in (scale, bias):
        fits = isinstance(one, np.ndarray) and one.ndim <= len(sizes)
        widened.append(np.broadcast_to(one, sizes) if fits else None)
    y = norm.layer_norm(net, x, sizes, widened[0], widened[1], _epsilon(call), mode)
    # those that the network computes, or that differ from place to place of other axes
    for one, taken, combine in zip((scale, bias), widened, (elementwise.multiply, elementwise.add)):
        y = combine(net, y, one) if one is not None and taken is None else y
    return y


def layer_normalization(call: Call) -> Any:
    net, x, axis = call.net, call.input(0), int(call.attribute("axis", -1))
    y = _of_last(call, x, call.input(1), call.input(2), "layer", axis)
    if call.outputs == 1:
        return y
    rank = len(shape_of(x))
    axes = list(range(axis % rank, rank))
    mean = reduce.reduce(net, x, "mean", axes, True)
    variance = reduce.reduce(net, elementwise.power(net, elementwise.subtract(net, x, mean), 2), "mean", axes, True)
    deviation = elementwise.add(net, variance, _epsilon(call))
    return (y, mean, elementwise.function(net, deviation, "rsqrt"))[: call.outputs]


def rms_normalization(call: Call) -> Any:
    y = _of_last(call, call.input(0), call.input(1), None, "rms", int(call.attribute("axis", -1)))
    return (y, *[_STATISTICS] * (call.outputs - 1)) if call.outputs > 1 else y


def skip_layer_normalization(call: Call) -> Any:
    """The sum of an input, another and a bias, normalised; and the sum."""
    return _of_sum(call, call.input(2), call.input(3), call.input(4), "layer")


def skip_simplified_layer_normalization(call: Call) -> Any:
    return _of_sum(call, call.input(2), None, call.input(3), "rms")


def _of_sum(call: Call, scale: Any, shift: Any, bias: Any, mode: str) -> Any:
    net = call.net
    total = elementwise.add(net, call.input(0), call.input(1))
    total = total if bias is None else elementwise.add(net, total, bias)
    y = _of_last(call, total, scale, shift, mode, -1)
    return (y, _STATISTICS, _STATISTICS, total)[: call.outputs] if call.outputs > 1 else y


def lp_normalization(call: Call) -> Any:
    """x by its norm along an axis; 0 where that is 0."""
    net, x = call.net, call.input(0)
    p, axis = int(call.attribute("p", 2)), int(call.attribute("axis", -1))
    if p not in (1, 2):
        raise call.refuse(f"p expected 1 or 2, found {p}")
    size = reduce.norm(net, x, p, axis, True)
    return elementwise.divide(net, x, elementwise.where(net, elementwise.binary(net, "equal", size, 0.0), 1.0, size))


def mean_variance_normalization(call: Call) -> Any:
    """x less its mean, by its deviation and 1e-9."""
    net, x = call.net, call.input(0)
    axes = [int(axis) for axis in call.attribute("axes", (0, 2, 3))]
    centred = elementwise.subtract(net, x, reduce.reduce(net, x, "mean", axes, True))
    squares = reduce.reduce(net, elementwise.power(net, centred, 2), "mean", axes, True)
    deviation = elementwise.add(net, elementwise.function(net, squares, "sqrt"), 1e-9)
    return elementwise.divide(net, centred, deviation)


def local_response_normalization(call: Call) -> Any:
    """x by (bias + alpha / size times the squares of the channels around)^beta: a product with a matrix of bands."""
    net, x = call.net, call.input(0)
    size = int(call.attribute("size", 0))
    alpha, beta, bias = (float(call.attribute(*one)) for one in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    x = net.tensor(x)
    channels = x.size(1) if x.ndim > 2 else None
    if not isinstance(channels, int) or size < 1:
        raise call.refuse(f"expected (batch, channels, ...) and a size of at least 1, found {x.shape} and {size}")
    check_count(call, [channels, channels])
    rows, columns = np.indices((channels, channels))
    near = (columns >= rows - (size - 1) // 2) & (columns <= rows + math.ceil((size - 1) / 2))
    squares = shape.moveaxis(net, elementwise.power(net, x, 2), 1, -1)
    sums = linear(net, squares, (near * (alpha / size)).astype(net.dtype), np.full(channels, bias, net.dtype))
    found: Tensor = elementwise.power(net, shape.moveaxis(net, sums, -1, 1), -beta)
    return elementwise.multiply(net, x, found)


OPERATORS: Mapping[str, Callable[[Call], Any]] = {
    "BatchNormalization": batch_normalization,
    "InstanceNormalization": instance_normalization,
    "GroupNormalization": group_normalization,
    "LayerNormalization": layer_normalization,
    "RMSNormalization": rms_normalization,
    "SimplifiedLayerNormalization": rms_normalization,
    "com.microsoft.SkipLayerNormalization": skip_layer_normalization,
    "com.microsoft.SkipSimplifiedLayerNormalization": skip_simplified_layer_normalization,
    "LpNormalization": lp_normalization,
    "MeanVarianceNormalization": mean_variance_normalization,
    "LRN": local_response_normalization,
}
