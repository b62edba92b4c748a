"""An activation function as a layer of its own."""

from __future__ import annotations

from cylstm.graph.graph import Value
from cylstm.graph.layers._layer import LayerKind, check_activation, check_kind, check_roles


class ActivationLayer(LayerKind):
    """``y = activation(x)``, element by element (softmax: over the last axis).

    Inputs: ``x`` (sequence, vector or state). Outputs: ``y``, a sequence or a vector.
    """

    name = "activation"
    defaults = {"activation": "linear", "activation_alpha": 0.0, "activation_beta": 0.0}

    def infer(self, where, inputs, weights, options):
        check_roles(where, inputs, ("x",), (), "inputs")
        check_roles(where, weights, (), (), "weights")
        x = inputs["x"]
        check_kind(where, x, ("sequence", "vector", "state"))
        check_activation(where, options, "activation")
        return {"y": Value("", "sequence" if x.kind == "sequence" else "vector", x.shape, x.mask, x.axis)}
