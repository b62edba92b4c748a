"""The last step of a sequence."""

from __future__ import annotations

from cylstm.graph.graph import Value
from cylstm.graph.layers._layer import LayerKind, check_kind, check_mask, check_roles


class LastLayer(LayerKind):
    """``y = x[:, length - 1]``, the last step whose mask is true; zeros where a row has none.

    Inputs: ``x`` (sequence), optional ``mask``. Outputs: ``y`` (vector).
    """

    name = "last"
    reads_mask = True

    def infer(self, where, inputs, weights, options):
        check_roles(where, inputs, ("x",), ("mask",), "inputs")
        check_roles(where, weights, (), (), "weights")
        check_kind(where, inputs["x"], ("sequence",))
        if "mask" in inputs:
            check_mask(where, inputs["mask"], inputs["x"])
        return {"y": Value("", "vector", inputs["x"].shape[1:])}
