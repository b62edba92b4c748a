"""Normalisation with the statistics of the input itself."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cylstm.errors import ShapeError
from cylstm.graph.layers._axes import check_whole_number, need_shape
from cylstm.graph.layers._layer import (
    DATA,
    Inputs,
    LayerKind,
    Options,
    Outputs,
    Weights,
    check_choice,
    check_kind,
    check_number,
    check_vectors,
    like,
)
from cylstm.graph.values import Option


class LayerNormLayer(LayerKind):
    """Normalisation over the last ``axes`` axes, batch never counted.

    ``mode`` "layer": ``(x - mean) / sqrt(variance + epsilon) * gain + shift``; "rms": ``x / sqrt(mean of x**2 +
    epsilon) * gain + shift``; "scaled": ``x / sqrt(variance + epsilon) * gain + shift``, Keras's ``rms_scaling``.

    Weights: optional ``gain`` and ``shift``, flat, of as many numbers as those axes have. Inputs: ``x`` (sequence,
    vector or state). Outputs: ``y``. Options: ``mode``, ``axes`` (1; more reach to the time, whose steps have then to
    be known in advance), ``epsilon``.
    """

    name = "layer_norm"
    optional_weights = ("gain", "shift")
    defaults = {"mode": "layer", "axes": 1, "epsilon": 1e-5}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["x"]
        check_kind(where, x, DATA)
        check_choice(where, options, "mode", ("layer", "rms", "scaled"))
        check_number(where, options, "epsilon", least=0.0)
        axes = check_whole_number(where, options, "axes", 1, len(x.shape))
        over_time = x.has_time and axes == len(x.shape)
        shape = need_shape(where, x, "normalisation over time") if over_time else x.step_shape
        check_vectors(where, weights, dict.fromkeys(("gain", "shift"), math.prod(shape[len(shape) - axes :])))
        return {"y": like(x)}


class GroupNormLayer(LayerKind):
    """``(x - mean) / sqrt(variance + epsilon) * gain + shift`` over all steps and the channels of each group.

    Weights: optional ``gain`` and ``shift`` (channels,). Inputs: ``x`` (sequence, vector or state), channels last.
    Outputs: ``y``. Options: ``groups`` (as many as channels: instance normalisation), ``epsilon``.
    """

    name = "group_norm"
    optional_weights = ("gain", "shift")
    defaults = {"groups": 1, "epsilon": 1e-5}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["x"]
        check_kind(where, x, DATA)
        check_number(where, options, "epsilon", least=0.0)
        groups = check_whole_number(where, options, "groups", 1, 10**6)
        if x.features % groups:
            raise ShapeError(f"layer {where!r}: {x.features} channels do not make {groups} groups")
        check_vectors(where, weights, dict.fromkeys(("gain", "shift"), x.features))
        return {"y": like(x)}

    def streams(self, options: Mapping[str, Option]) -> str | None:
        return "its statistics are of the whole sequence"
