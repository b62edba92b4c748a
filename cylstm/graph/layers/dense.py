"""Dense (Keras) or Linear (PyTorch): an affine map of the last axis, then an activation."""

from __future__ import annotations

from cylstm.errors import ShapeError
from cylstm.graph.graph import Value
from cylstm.graph.layers._layer import LayerKind, check_activation, check_kind, check_roles, check_shape


class DenseLayer(LayerKind):
    """``y = activation(weight @ x + bias)`` at every step.

    Weights: ``weight`` (output, input), optional ``bias`` (output,).
    Inputs: ``x`` (sequence, vector or state). Outputs: ``y``, a sequence or a vector.
    """

    name = "dense"
    defaults = {"activation": "linear", "activation_alpha": 0.0, "activation_beta": 0.0}

    def infer(self, where, inputs, weights, options):
        check_roles(where, inputs, ("x",), (), "inputs")
        check_roles(where, weights, ("weight",), ("bias",), "weights")
        x, weight = inputs["x"], weights["weight"]
        check_kind(where, x, ("sequence", "vector", "state"))
        check_activation(where, options, "activation")
        if weight.ndim != 2 or not weight.size:
            raise ShapeError(
                f"layer {where!r}, tensor 'weight': expected shape (output, {x.features}), found {weight.shape}"
            )
        check_shape(where, "weight", weight, (weight.shape[0], x.features))
        if "bias" in weights:
            check_shape(where, "bias", weights["bias"], (weight.shape[0],))
        kind = "sequence" if x.kind == "sequence" else "vector"
        return {"y": Value("", kind, (*x.shape[:-1], weight.shape[0]), x.mask, x.axis)}
