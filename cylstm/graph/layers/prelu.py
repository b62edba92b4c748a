"""Activations with weights, or of two halves."""

from __future__ import annotations

from cylstm.errors import ShapeError
from cylstm.graph.layers._layer import (
    DATA,
    Inputs,
    LayerKind,
    Options,
    Outputs,
    Weights,
    activation_defaults,
    check_activation,
    check_kind,
    like,
)


class PreluLayer(LayerKind):
    """``y = x where x > 0, else slope * x``.

    Weights: ``slope``, flat: one number, one for each of the last axis, or one for each number of a step (a step whose
    slopes differ by time has to be reshaped to a vector first). Inputs: ``x`` (sequence, vector or state). Outputs:
    ``y``.
    """

    name = "prelu"
    weights = ("slope",)

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x, slope = inputs["x"], weights["slope"]
        check_kind(where, x, DATA)
        if slope.ndim != 1 or slope.shape[0] not in (1, x.features, x.size):
            raise ShapeError(
                f"layer {where!r}, tensor 'slope': expected shape (1,), ({x.features},) or ({x.size},), "
                f"found {slope.shape}"
            )
        return {"y": like(x)}


class GluLayer(LayerKind):
    """``y = a * activation(b)``, a and b the halves of the last axis.

    Inputs: ``x`` (sequence, vector or state). Outputs: ``y``. Options: ``activation`` ("sigmoid").
    """

    name = "glu"
    defaults = activation_defaults(activation="sigmoid")

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["x"]
        check_kind(where, x, DATA)
        check_activation(where, options, "activation", gate=True)
        if x.features % 2 or not x.size:
            raise ShapeError(f"layer {where!r}: expected an even number of features, found {x.features}")
        return {"y": like(x, (*x.shape[:-1], x.features // 2))}
