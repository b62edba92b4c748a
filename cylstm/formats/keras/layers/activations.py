"""Activations, as layers and within others."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.keras.call import Flow, LayerCall
from cylstm.formats.keras.config import LayerConfig
from cylstm.formats.keras.masks import mask_behind
from cylstm.graph.activations import activation_options
from cylstm.graph.values import Option, Value

_LARGEST = float(np.finfo(np.float32).max)


def output_activation(layer: LayerConfig) -> str | dict[str, Option]:
    """Layer options of a layer's activation, or which of `COMPOSED` it is."""
    return layer.composed_activation("activation") or layer.activation("activation")


def activated(
    call: LayerCall,
    activation: str | dict[str, Option],
    kind: str,
    x: Value,
    weights: Mapping[str, np.ndarray] | None = None,
    /,
    **options: Option,
) -> Value:
    """A layer of the graph with an activation, or with layers behind it that compute the activation."""
    if isinstance(activation, dict):
        return call.add(kind, x, weights, **options, **activation)
    if weights:
        x = call.add(kind, x, weights, ".linear", **options)
    return _mish(call, x) if activation == "mish" else call.add("softmax", x, log=True)


def _mish(call: LayerCall, x: Value) -> Value:
    """x tanh(softplus(x))."""
    y = call.add("activation", x, None, ".softplus", activation="softplus")
    y = call.add("activation", y, None, ".tanh", activation="tanh")
    return call.add("merge", {"x": x, "x1": y}, mode="mul")


def add_activation(call: LayerCall) -> list[Flow]:
    call.layer.check_options({"activation"})
    activation = output_activation(call.layer)
    if is_over_last(activation):
        call = call.last_is_last()
    y = activated(call, activation, "activation", call.x)
    return call.result(y, mask_behind(call), call.flow.order)


def is_over_last(activation: str | dict[str, Option]) -> bool:
    """Whether an activation reads the whole last axis of Keras."""
    return activation == "log_softmax" or (isinstance(activation, dict) and activation["activation"] == "softmax")


def add_activation_layer(call: LayerCall) -> Value:
    options = activation_options("activation", *call.layer.as_activation(), where=call.what)
    return call.add("activation", call.x, **options)


def add_thresholded_relu(call: LayerCall) -> Value:
    """``x where x > theta else 0`` (Keras 2)."""
    layer = call.layer
    layer.check_options({"theta"})
    theta = layer.number("theta", 1.0)
    if not 0 <= theta < 1e8:
        raise UnsupportedError(f"{call.what}: option theta expected 0 to 1e8, found {theta}")
    if not theta:
        return call.add("activation", call.x, activation="relu")
    return _kept_above(call, call.x, theta)


def _kept_above(call: LayerCall, x: Value, threshold: float) -> Value:
    """``x where x > threshold else 0``: times 1 above the threshold, else 0.

    The ramp between the two is so steep that no float32 number lies on it.
    """
    steep = 2.0**90
    above = call.add(
        "activation", x, None, ".above", activation="hard_sigmoid",
        activation_alpha=steep, activation_beta=-steep * float(np.float32(threshold)),
    )  # fmt: skip
    return call.add("merge", {"x": x, "x1": above}, None, ".kept", mode="mul")


def add_relu(call: LayerCall) -> Value:
    """``x where x > threshold else 0``, limited to max_value, less ``slope * max(threshold - x, 0)``."""
    layer, x = call.layer, call.x
    if layer.config.get("threshold") in (None, 0, 0.0) and not (
        layer.config.get("max_value") is not None and layer.config.get("negative_slope") not in (None, 0, 0.0)
    ):
        return add_activation_layer(call)
    layer.check_options({"max_value", "negative_slope", "threshold"})
    threshold, slope = layer.number("threshold", 0.0), layer.number("negative_slope", 0.0)
    limit = None if layer.config.get("max_value") is None else layer.number("max_value", None)
    if not 0 <= threshold < 1e8:
        raise UnsupportedError(f"{call.what}: option threshold expected 0 to 1e8, found {threshold}")
    y = _kept_above(call, x, threshold) if threshold else x
    top = _LARGEST if limit is None else limit
    y = call.add("activation", y, None, ".limited", activation="clip", activation_alpha=0.0, activation_beta=top)
    if not slope:
        return y
    ones = np.ones(x.features, np.float32)
    weights = {"mean": ones * np.float32(threshold), "variance": ones, "gain": ones * np.float32(slope)}
    below = call.add("batch_norm", x, weights, ".below", epsilon=0.0)
    below = call.add(
        "activation", below, None, ".slope", activation="clip", activation_alpha=-_LARGEST, activation_beta=0.0
    )
    return call.add("merge", {"x": y, "x1": below}, mode="sum")


def add_prelu(call: LayerCall) -> list[Flow]:
    call = call.natural()
    return call.result(_prelu(call), mask_behind(call))


def _prelu(call: LayerCall) -> Value:
    layer, x = call.layer, call.x
    layer.check_options({"shared_axes"})
    shared = layer.config.get("shared_axes") or []
    shared = [shared] if type(shared) is int else shared
    if not isinstance(shared, list):
        raise FormatError(f"{call.what}: option shared_axes expected a list of axes, found {shared!r:.80}")
    axes = {call.axis(axis, "shared_axes") for axis in shared}
    inner = x.shape[call.first :] if 0 in axes else call.known_sizes(x, call.first)
    shape = tuple(1 if size is None or k + call.first in axes else size for k, size in enumerate(inner))
    alpha = call.take({"alpha": shape}, {"alpha": "slope"})["alpha"]
    known = tuple(1 if size is None else int(size) for size in inner)
    if math.prod(shape) == 1 or math.prod(shape) == shape[-1]:
        return call.add("prelu", x, {"slope": alpha.reshape(-1)})
    if x.has_time and not call.first and shape[0] != 1:
        # slopes that differ by step: as one vector
        flat = call.add("reshape", x, None, ".flat", shape="-1")
        y = call.add("prelu", flat, {"slope": np.broadcast_to(alpha, known).reshape(-1)}, ".slopes")
        return call.add("reshape", y, shape=",".join(map(str, known)))
    step = known if call.first or not x.has_time else known[1:]
    slope = alpha if call.first or not x.has_time else alpha[0]
    return call.add("prelu", x, {"slope": np.broadcast_to(slope, step).reshape(-1)})


def add_softmax(call: LayerCall) -> Value:
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
