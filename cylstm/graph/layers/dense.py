"""Dense (Keras) or Linear (PyTorch): an affine map of the last axis, then an activation."""

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
    check_shape,
    check_vectors,
    like,
)


class DenseLayer(LayerKind):
    """``y = activation(weight @ x + bias)`` at every step.

    Weights: ``weight`` (output, input), optional ``bias`` (output,).
    Inputs: ``x`` (sequence, vector or state). Outputs: ``y``, a sequence or a vector.
    """

    name = "dense"
    weights = ("weight",)
    optional_weights = ("bias",)
    matrices = ("weight",)
    int8_matrices = matrices
    defaults = activation_defaults(activation="linear")

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x, weight = inputs["x"], weights["weight"]
        check_kind(where, x, DATA)
        check_activation(where, options, "activation")
        if weight.ndim != 2 or not weight.size:
            raise ShapeError(
                f"layer {where!r}, tensor 'weight': expected shape (output, {x.features}), found {weight.shape}"
            )
        output = weight.shape[0]
        check_shape(where, "weight", weight, (output, x.features))
        check_vectors(where, weights, {"bias": output})
        return {"y": like(x, (*x.shape[:-1], output))}
