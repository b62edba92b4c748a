"""Normalisation: with fixed statistics, or with those of the input itself."""

from __future__ import annotations

import math

from cylstm.errors import ShapeError
from cylstm.graph.graph import Value
from cylstm.graph.layers._axes import check_whole_number, need_shape
from cylstm.graph.layers._layer import LayerKind, check_choice, check_kind, check_number, check_roles, check_vectors
from cylstm.graph.weights import StoredTensor


def _same(x: Value) -> Value:
    return Value("", "sequence" if x.has_time else "vector", x.shape, x.mask, x.axis)


def check_variance(where, variance, options, error=ShapeError):
    """Raise `error` unless all numbers are above 0 with epsilon added."""
    if (variance + options["epsilon"] <= 0).any():
        raise error(f"layer {where!r}, tensor 'variance': expected numbers above 0, found one that is not")


class BatchNormLayer(LayerKind):
    """``y = gain * (x - mean) / sqrt(variance + epsilon) + shift`` over the last axis, with fixed statistics.

    Weights, all (features,): ``mean``, ``variance``, optional ``gain`` and ``shift``. Inputs: ``x`` (sequence, vector
    or state). Outputs: ``y``. Option ``epsilon`` (1e-5 in PyTorch, 1e-3 in Keras). Also what Keras's Normalization and
    Rescaling are.
    """

    name = "batch_norm"
    defaults = {"epsilon": 1e-5}

    def infer(self, where, inputs, weights, options):
        check_roles(where, inputs, ("x",), (), "inputs")
        check_roles(where, weights, ("mean", "variance"), ("gain", "shift"), "weights")
        x = inputs["x"]
        check_kind(where, x, ("sequence", "vector", "state"))
        check_number(where, options, "epsilon", least=0.0)
        check_vectors(where, weights, dict.fromkeys(("mean", "variance", "gain", "shift"), x.features))
        if not isinstance(weights["variance"], StoredTensor):  # a file's are checked by the engine
            check_variance(where, weights["variance"], options)
        return {"y": _same(x)}


class LayerNormLayer(LayerKind):
    """Normalisation over the last ``axes`` axes, batch never counted.

    ``mode`` "layer": ``(x - mean) / sqrt(variance + epsilon) * gain + shift``; "rms": ``x / sqrt(mean of x**2 +
    epsilon) * gain + shift``; "scaled": ``x / sqrt(variance + epsilon) * gain + shift``, Keras's ``rms_scaling``.

    Weights: optional ``gain`` and ``shift``, flat, of as many numbers as those axes have. Inputs: ``x`` (sequence,
    vector or state). Outputs: ``y``. Options: ``mode``, ``axes`` (1; more reach to the time, whose steps have then to
    be known in advance), ``epsilon``.
    """

    name = "layer_norm"
    defaults = {"mode": "layer", "axes": 1, "epsilon": 1e-5}

    def infer(self, where, inputs, weights, options):
        check_roles(where, inputs, ("x",), (), "inputs")
        check_roles(where, weights, (), ("gain", "shift"), "weights")
        x = inputs["x"]
        check_kind(where, x, ("sequence", "vector", "state"))
        check_choice(where, options, "mode", ("layer", "rms", "scaled"))
        check_number(where, options, "epsilon", least=0.0)
        axes = check_whole_number(where, options, "axes", 1, len(x.shape))
        shape = x.shape[len(x.shape) - axes :]
        if None in shape:
            need_shape(where, x, "normalisation over time")
        check_vectors(where, weights, dict.fromkeys(("gain", "shift"), math.prod(shape)))
        return {"y": _same(x)}


class GroupNormLayer(LayerKind):
    """``(x - mean) / sqrt(variance + epsilon) * gain + shift`` over all steps and the channels of each group.

    Weights: optional ``gain`` and ``shift`` (channels,). Inputs: ``x`` (sequence, vector or state), channels last.
    Outputs: ``y``. Options: ``groups`` (as many as channels: instance normalisation), ``epsilon``.
    """

    name = "group_norm"
    defaults = {"groups": 1, "epsilon": 1e-5}

    def infer(self, where, inputs, weights, options):
        check_roles(where, inputs, ("x",), (), "inputs")
        check_roles(where, weights, (), ("gain", "shift"), "weights")
        x = inputs["x"]
        check_kind(where, x, ("sequence", "vector", "state"))
        check_number(where, options, "epsilon", least=0.0)
        groups = check_whole_number(where, options, "groups", 1, 10**6)
        if x.features % groups:
            raise ShapeError(f"layer {where!r}: {x.features} channels do not make {groups} groups")
        check_vectors(where, weights, dict.fromkeys(("gain", "shift"), x.features))
        return {"y": _same(x)}

    def streams(self, options):
        return "its statistics are of the whole sequence"
