"""Convolution over time."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.errors import ShapeError
from cylstm.graph.layers._axes import check_whole_number
from cylstm.graph.layers._layer import (
    Inputs,
    Options,
    Outputs,
    States,
    Weights,
    activation_defaults,
    check_activation,
    check_kind,
    check_shape,
    check_vectors,
)
from cylstm.graph.layers._window import WINDOW_DEFAULTS, WindowLayer
from cylstm.graph.values import Option, Value


class Conv1dLayer(WindowLayer):
    """``y[t] = activation(bias + sum over k, c of weight[f, k, c] * x[t*stride + k*dilation - before, c])``.

    Channels last. In ``groups``, of which each reads its share of the channels; a group of one channel is a depthwise
    convolution (Keras: filters in the order channel, multiplier).

    Weights: ``weight`` (filters, kernel, channels/groups), optional ``bias`` (filters,).
    Inputs: ``x`` (sequence of (time, channels)). Outputs: ``y``, without mask.
    Options: those of `WindowLayer`, ``groups``, ``activation``; ``reach``, filled in. With padding "causal" the layer
    carries (reach - 1, channels) steps of history.
    """

    name = "conv1d"
    weights = ("weight",)
    matrices = ("weight",)
    optional_weights = ("bias",)
    defaults = {**WINDOW_DEFAULTS, "groups": 1, "reach": 1, **activation_defaults(activation="linear")}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x, weight = inputs["x"], weights["weight"]
        check_activation(where, options, "activation")
        groups = check_whole_number(where, options, "groups", 1, 10**6)
        check_kind(where, x, ("sequence",))
        if len(x.shape) != 2:
            raise ShapeError(f"layer {where!r}: expected (time, channels), found {x.shape}")
        if x.features % groups or weight.ndim != 3 or not weight.size or weight.shape[0] % groups:
            raise ShapeError(
                f"layer {where!r}, tensor 'weight': expected shape (filters, kernel, {x.features}/{groups}) with "
                f"filters a multiple of {groups}, found {weight.shape}"
            )
        filters, kernel = weight.shape[:2]
        check_shape(where, "weight", weight, (filters, kernel, x.features // groups))
        check_vectors(where, weights, {"bias": filters})
        steps, axis = self.window(where, x, kernel, options)
        options["reach"] = self.reach(kernel, options)
        return {"y": Value("", "sequence", (steps, filters), None, axis)}

    def state(self, weights: Weights, options: Mapping[str, Option]) -> States:
        if options["padding"] != "causal" or options["reach"] == 1:
            return ()
        channels = weights["weight"].shape[2] * int(options["groups"])
        return (("history", (int(options["reach"]) - 1, channels)),)

    def streams(self, options: Mapping[str, Option]) -> str | None:
        return self.why_whole(int(options["reach"]), options)

    def needs_multiple(self, options: Mapping[str, Option]) -> int:
        return 1 if options["reach"] == 1 else super().needs_multiple(options)
