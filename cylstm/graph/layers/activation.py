"""An activation function as a layer of its own."""

from __future__ import annotations

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


class ActivationLayer(LayerKind):
    """``y = activation(x)``, element by element (softmax: over the last axis).

    Inputs: ``x`` (sequence, vector or state). Outputs: ``y``, a sequence or a vector.
    """

    name = "activation"
    defaults = activation_defaults(activation="linear")

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        check_kind(where, inputs["x"], DATA)
        check_activation(where, options, "activation")
        return {"y": like(inputs["x"])}
