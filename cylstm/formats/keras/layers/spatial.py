"""The axes between batch and channels: time, or rows and columns of images, wherever they are in a value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from cylstm.errors import ShapeError, UnsupportedError
from cylstm.formats.keras.call import Flow, LayerCall, sizes_text
from cylstm.formats.keras.layers.activations import activated, is_over_last, output_activation
from cylstm.formats.keras.masks import mask_behind
from cylstm.graph.values import Option, Value

#: number of these axes -> an input that has them
_INPUTS = {
    1: "(batch, time, features)",
    2: "(batch, rows, columns, channels)",
    3: "(batch, depth, rows, columns, channels)",
}


def channels_last(
    add: Callable[[LayerCall], Value | list[Flow]], *, is_flat: bool = False
) -> Callable[[LayerCall], Value | list[Flow]]:
    """A layer whose input may have the channels first; `is_flat` tells that its result has no channels of its own.

    Nothing moves: `add` is given the same value with the axes named in another order.
    """

    def add_either(call: LayerCall) -> Value | list[Flow]:
        flow, first = call.flow, call.first
        if call.layer.config.get("data_format") != "channels_first" or len(flow.order) - first < 2:
            return add(call)
        if flow.mask.value is not None:
            call.refuse_mask(flow.mask.value, "a mask of an input with the channels first is not supported")
        before, channels, others = flow.order[:first], flow.order[first], flow.order[first + 1 :]
        config = {**call.layer.config, "data_format": "channels_last"}
        view = replace(call, flows=[Flow(flow.value, flow.mask, (*before, *others, channels))])
        activation = output_activation(call.layer) if "activation" in config else "linear"
        if is_over_last(activation):
            # that is not the axis of the channels
            config["activation"] = "linear"
            view = replace(view, name=f"{call.name}.linear")
        made = add(replace(view, layer=replace(call.layer, config=config)))
        flows = made if isinstance(made, list) else call.result(made, mask_behind(call), view.flow.order)
        if is_flat:
            return flows
        flows = [replace(one, order=(*one.order[:first], one.order[-1], *one.order[first:-1])) for one in flows]
        if view.name == call.name:
            return flows
        last = replace(call, flows=flows).last_is_last()
        y = activated(last, activation, "activation", last.x)
        return call.result(y, mask_behind(call), last.flow.order)

    return add_either


def check_channels_last(call: LayerCall) -> None:
    found = call.layer.config.get("data_format", "channels_last")
    if found not in (None, "channels_last"):
        raise UnsupportedError(
            f"{call.what}: option data_format={found!r:.80} is not supported; build the layer with 'channels_last', "
            "whose weights are the same, and give the channels last"
        )


def spatial_axes(call: LayerCall, count: int) -> tuple[int, ...]:
    """Where the `count` axes before the channels are in the value. Raises `ShapeError` if they are not so many."""
    check_channels_last(call)
    flow = call.flow
    call.numbers(flow)
    if len(flow.order) - call.first != count + 1:
        raise ShapeError(f"{call.what}: expected an input {_INPUTS[count]}, found {sizes_text(flow.shape)}")
    return flow.order[call.first : -1]


def as_sequence(call: LayerCall, x: Value) -> Value:
    """A state of several axes as what layers read that have no states, such as pooling."""
    if x.kind != "state" or len(x.shape) < 2:
        return x
    return call.add("reshape", x, None, ".state", shape=",".join(map(str, x.shape)))


def one_after_the_other(call: LayerCall, kind: str, steps: Sequence[dict[str, Option]]) -> Value:
    """A layer for each of `steps`, its options, on the result of the one before."""
    x = as_sequence(call, call.x)
    for k, options in enumerate(steps):
        x = call.add(kind, x, None, "" if k == len(steps) - 1 else f".axis{k}", **options)
    return x
