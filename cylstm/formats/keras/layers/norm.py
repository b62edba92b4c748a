"""Normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.keras.call import Flow, LayerCall, shape_text
from cylstm.formats.keras.masks import mask_behind
from cylstm.graph.values import Value


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


def axes_last(add: Callable[[LayerCall], Value]) -> Callable[[LayerCall], list[Flow]]:
    """A layer over the axes of its option `axis`, which are moved behind the others where they are not the last."""

    def add_anywhere(call: LayerCall) -> list[Flow]:
        axis = call.layer.config.get("axis", -1)
        if isinstance(axis, list) and len(axis) > 1:
            call = call.natural()
        flow, rank = call.flow, len(call.x.shape)
        found = sorted({call.axis(one) for one in (axis if isinstance(axis, list) else [axis])})
        places = [*(k for k in range(rank) if k not in found), *found]
        flow = call.maker.arranged(flow, [places.index(k) for k in flow.order])
        layer = replace(call.layer, config={**call.layer.config, "axis": list(range(-len(found), 0))})
        y = add(replace(call, layer=layer, flows=[Flow(flow.value, flow.mask)]))
        return call.result(y, mask_behind(call), flow.order)

    return add_anywhere


def add_batch_normalization(call: LayerCall) -> Value:
    layer, size = call.layer, call.x.features
    layer.check_options({"axis", "epsilon", "center", "scale", "synchronized", "virtual_batch_size", "fused"})
    if _last_axes(call, layer.config.get("axis", -1)) != 1:
        raise UnsupportedError(f"{call.what}: option axis expected the last, found {layer.config['axis']!r:.80}")
    roles = {"gamma": "gain", "beta": "shift", "moving_mean": "mean", "moving_variance": "variance"}
    kept = {"gamma": layer.flag("scale", True), "beta": layer.flag("center", True)}
    arrays = call.take({key: (size,) for key in roles if kept.get(key, True)}, roles)
    weights = {roles[key]: array for key, array in arrays.items()}
    return call.add("batch_norm", call.x, weights, epsilon=layer.number("epsilon", 1e-3))


def add_layer_normalization(call: LayerCall) -> Value:
    layer, x = call.layer, call.x
    layer.check_options({"axis", "epsilon", "center", "scale", "rms_scaling"})
    is_rms = layer.flag("rms_scaling", False)
    axes = _last_axes(call, layer.config.get("axis", -1))
    shape = call.known_sizes(x, len(x.shape) - axes)
    kept = {
        "gamma": layer.flag("scale", True) or is_rms,
        "beta": layer.flag("center", True) and not is_rms,
    }
    roles = {"gamma": "gain", "beta": "shift"}
    arrays = call.take({key: shape for key in roles if kept[key]}, roles)
    weights = {roles[key]: array.reshape(-1) for key, array in arrays.items()}
    mode = "scaled" if is_rms else "layer"
    return call.add("layer_norm", x, weights, mode=mode, axes=axes, epsilon=layer.number("epsilon", 1e-3))


def add_rms_normalization(call: LayerCall) -> Value:
    layer, x = call.layer, call.x
    layer.check_options({"axis", "epsilon"})
    axes = _last_axes(call, layer.config.get("axis", -1))
    shape = call.known_sizes(x, len(x.shape) - axes)
    scale = call.take({"scale": shape}, {"scale": "gain"})["scale"].reshape(-1)
    return call.add("layer_norm", x, {"gain": scale}, mode="rms", axes=axes, epsilon=layer.number("epsilon", 1e-6))


def add_unit_normalization(call: LayerCall) -> Value:
    """``x / |x|``: divided by the root of the mean of squares, and by that of the count."""
    call.layer.check_options({"axis"})
    x = call.x
    axes = _last_axes(call, call.layer.config.get("axis", -1))
    shape = call.known_sizes(x, len(x.shape) - axes)
    count = math.prod(shape)
    gain = np.full(count, 1.0 / math.sqrt(count), np.float32)
    return call.add("layer_norm", x, {"gain": gain}, mode="rms", axes=axes, epsilon=1e-24 / count)


def add_group_normalization(call: LayerCall) -> Value:
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


def add_normalization(call: LayerCall) -> Value:
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


def add_rescaling(call: LayerCall) -> list[Flow]:
    call.layer.check_options({"scale", "offset"})
    call = call.last_is_last()
    size = call.x.features
    scale, offset = _numbers(call, "scale", None, size), _numbers(call, "offset", 0.0, size)
    if scale is None or offset is None:
        raise FormatError(f"{call.what}: option {'scale' if scale is None else 'offset'} is missing")
    ones = np.ones(size, np.float32)
    y = call.add(
        "batch_norm", call.x, {"mean": ones * 0, "variance": ones, "gain": scale, "shift": offset}, epsilon=0.0
    )
    return call.result(y, mask_behind(call), call.flow.order)
