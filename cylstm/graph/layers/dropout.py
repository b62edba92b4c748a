"""Dropout, which does nothing at inference. The graph keeps its rate; `cylstm.graph.passes` removes the layer."""

from __future__ import annotations

from cylstm.errors import ShapeError
from cylstm.graph.layers._layer import DATA, Inputs, LayerKind, Options, Outputs, Weights, check_kind, like


class DropoutLayer(LayerKind):
    """``y = x``. Option: ``rate``, the probability of dropping in training."""

    name = "dropout"
    defaults = {"rate": 0.5}
    is_inert = True

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        check_kind(where, inputs["x"], DATA)
        if not 0.0 <= float(options["rate"]) <= 1.0:
            raise ShapeError(f"layer {where!r}: dropout rate expected in [0, 1], found {options['rate']}")
        return {"y": like(inputs["x"])}
