"""The last step of a sequence."""

from __future__ import annotations

from cylstm.graph.layers._layer import Inputs, LayerKind, Options, Outputs, Weights, check_kind, check_mask
from cylstm.graph.values import Value


class LastLayer(LayerKind):
    """``y = x[:, length - 1]``, the last step whose mask is true; zeros for a batch row without one.

    Inputs: ``x`` (sequence), optional ``mask``. Outputs: ``y`` (vector).
    """

    name = "last"
    optional_inputs = ("mask",)
    reads_mask = True

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        check_kind(where, inputs["x"], ("sequence",))
        if "mask" in inputs:
            check_mask(where, inputs["mask"], inputs["x"])
        return {"y": Value("", "vector", inputs["x"].shape[1:])}
