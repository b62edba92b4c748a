"""Normalisation."""

from __future__ import annotations

import numpy as np

from cylstm.formats.onnx.export.call import Call
from cylstm.formats.onnx.export.nodes import Nodes


def normalised(nodes: Nodes, x: str, axes: tuple[int, ...], epsilon: float, mode: str = "layer") -> str:
    """``(x - mean) / sqrt(variance + epsilon)``; as the layer's mode says.

    Written out: LayerNormalization may take the mean of float64 numbers in float32, and rounds epsilon.
    """
    apart = nodes.op("Sub", x, nodes.reduce("Mean", x, *axes))
    of = x if mode == "rms" else apart
    variance = nodes.reduce("Mean", nodes.op("Mul", of, of), *axes)
    root = nodes.op("Sqrt", nodes.op("Add", variance, nodes.number(epsilon)))
    return nodes.op("Div", apart if mode == "layer" else x, root)


def scaled(nodes: Nodes, y: str, gain: np.ndarray | None, shift: np.ndarray | None) -> str:
    """``y * gain + shift``"""
    if gain is not None:
        y = nodes.op("Mul", y, nodes.weight(gain, "gain"))
    return y if shift is None else nodes.op("Add", y, nodes.weight(shift, "shift"))


def _gain_and_shift(call: Call, shape: tuple[int, ...]) -> list[np.ndarray | None]:
    return [call.weight(role).reshape(shape) if call.has_weight(role) else None for role in ("gain", "shift")]


def batch_norm(call: Call) -> None:
    nodes = call.nodes
    mean, variance = (call.weight(role).astype(np.float64) for role in ("mean", "variance"))
    factor = 1 / np.sqrt(variance + call.number("epsilon"))
    gain, shift = _gain_and_shift(call, mean.shape)
    factor = factor if gain is None else factor * gain
    apart = nodes.op("Sub", call.input(), nodes.weight(mean, "mean")) if mean.any() else call.input()
    call.give(scaled(nodes, apart, factor, shift))


def layer_norm(call: Call) -> None:
    axes, mode = call.whole("axes"), call.text("mode")
    y = normalised(call.nodes, call.input(), tuple(range(-axes, 0)), call.number("epsilon"), mode)
    shape = call.value().shape
    sizes = tuple(size or 0 for size in shape[len(shape) - axes :])
    call.give(scaled(call.nodes, y, *_gain_and_shift(call, sizes)))


def group_norm(call: Call) -> None:
    nodes, value, groups = call.nodes, call.value(), call.whole("groups")
    grouped = nodes.reshape(call.input(), 0, -1, groups, value.features // groups)
    y = normalised(nodes, grouped, (1, 3), call.number("epsilon"))
    before = [-1, *value.step_shape] if value.has_time else value.step_shape
    call.give(scaled(nodes, nodes.reshape(y, 0, *before), *_gain_and_shift(call, (value.features,))))
