"""One of two values, chosen element by element."""

from __future__ import annotations

from cylstm.graph.layers._layer import DATA, Inputs, LayerKind, Options, Outputs, Weights, check_kind
from cylstm.graph.layers.merge import broadcast


class WhereLayer(LayerKind):
    """``y = x`` where ``condition`` is not 0, else ``x1``; NaN is not 0.

    Inputs: ``condition``, ``x``, ``x1``: sequences, vectors or states, whose shapes are matched as `MergeLayer` does.
    What is not chosen is not computed with, NaN or infinite. The mask is that of x, else of x1, else of the condition.
    """

    name = "where"
    inputs = ("condition", "x", "x1")

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        values = [inputs[role] for role in ("x", "x1", "condition")]
        for value in values:
            check_kind(where, value, DATA)
        return {"y": broadcast(where, values)}
