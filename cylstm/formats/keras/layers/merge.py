"""Layers with several inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.keras.call import Flow, LayerCall, shape_text
from cylstm.formats.keras.masks import add_merge, merged_mask
from cylstm.graph.values import Value


def merge_of(mode: str) -> Callable[[LayerCall], list[Flow]]:
    def add(call: LayerCall) -> list[Flow]:
        call.layer.check_options(set())
        if mode == "sub" and len(call.flows) != 2:
            raise FormatError(f"{call.what}: expected two inputs, found {len(call.flows)}")
        if len(call.flows) < 2:
            return [call.flow]
        return add_merge(_of_one_order(call), mode)

    return add


def add_concatenate(call: LayerCall) -> list[Flow]:
    call.layer.check_options({"axis"})
    call = _of_one_order(call)
    axis = call.axis(call.layer.config.get("axis", -1), of=call.flows[0])
    if len(call.flows) < 2:
        return [call.flow]
    roles = {f"x{k or ''}": value for k, value in enumerate(call.values)}
    is_time = axis == 0 and call.values[0].has_time
    if not is_time:
        call.maker.share_time(call.values)
    mask = merged_mask(call, call.listed_masks(), along_time=is_time)
    return call.result(call.add("merge", roles, mode="concat", axis=axis), mask, call.flows[0].order)


def _of_one_order(call: LayerCall) -> LayerCall:
    """The call with all inputs as the first lies whose time may have any length; of several ranks, as in Keras."""
    if len({len(flow.order) for flow in call.flows}) > 1:
        return call.natural()
    first = next((flow for flow in call.flows if flow.value.axis is not None), call.flows[0])
    return replace(call, flows=[call.maker.arranged(flow, first.order) for flow in call.flows])


def add_dot(call: LayerCall) -> Value:
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
    for k, (flow, axis) in enumerate(zip(call.flows, axes, strict=True)):
        value = call.numbers(flow)
        if len(value.shape) > 2:
            raise UnsupportedError(
                f"{call.what}: expected inputs (batch, time, features) or (batch, features), found {shape_text(value)}"
            )
        if call.axis(axis, "axes", of=flow) != len(value.shape) - 1:
            value = call.add("permute", value, None, f".input{k}", order="10")
        values.append(value)
    y = {"x": values[0], "x1": values[1]}
    normalize = layer.flag("normalize", False)
    if len(values[0].shape) == 2 and len(values[1].shape) == 1:
        column = call.add("dot", y, None, ".column", normalize=normalize)
        return call.add("reshape", column, shape="-1")
    return call.add("dot", y, normalize=normalize)
