"""Activations with weights, or of two halves."""

from __future__ import annotations

import math

from cylstm.errors import ShapeError
from cylstm.graph.graph import Value
from cylstm.graph.layers._layer import LayerKind, check_activation, check_kind, check_roles


class PreluLayer(LayerKind):
    """``y = x where x > 0, else slope * x``.

    Weights: ``slope``, flat: one number, one for each of the last axis, or one for each number of a step (a step whose
    slopes differ by time has to be reshaped to a vector first). Inputs: ``x`` (sequence, vector or state). Outputs:
    ``y``.
    """

    name = "prelu"

    def infer(self, where, inputs, weights, options):
        check_roles(where, inputs, ("x",), (), "inputs")
        check_roles(where, weights, ("slope",), (), "weights")
        x, slope = inputs["x"], weights["slope"]
        check_kind(where, x, ("sequence", "vector", "state"))
        if slope.ndim != 1 or slope.shape[0] not in (1, x.features, x.size):
            raise ShapeError(
                f"layer {where!r}, tensor 'slope': expected shape (1,), ({x.features},) or ({x.size},), "
                f"found {slope.shape}"
            )
        return {"y": Value("", "sequence" if x.has_time else "vector", x.shape, x.mask, x.axis)}


class GluLayer(LayerKind):
    """``y = a * activation(b)``, a and b the halves of the last axis.

    Inputs: ``x`` (sequence, vector or state). Outputs: ``y``. Options: ``activation`` ("sigmoid").
    """

    name = "glu"
    defaults = {"activation": "sigmoid", "activation_alpha": 0.0, "activation_beta": 0.0}

    def infer(self, where, inputs, weights, options):
        check_roles(where, inputs, ("x",), (), "inputs")
        check_roles(where, weights, (), (), "weights")
        x = inputs["x"]
        check_kind(where, x, ("sequence", "vector", "state"))
        check_activation(where, options, "activation", gate=True)
        if x.features % 2 or not math.prod(x.step_shape):
            raise ShapeError(f"layer {where!r}: expected an even number of features, found {x.features}")
        kind = "sequence" if x.has_time else "vector"
        return {"y": Value("", kind, (*x.shape[:-1], x.features // 2), x.mask, x.axis)}
