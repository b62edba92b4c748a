"""Dropout: inert at inference. The graph keeps its rate; `cylstm.graph.passes` removes it before packing."""

from __future__ import annotations

from cylstm.errors import ShapeError
from cylstm.graph.graph import Value
from cylstm.graph.layers._layer import LayerKind, check_kind, check_roles


class DropoutLayer(LayerKind):
    """``y = x``. Option: ``rate``, the probability of dropping in training."""

    name = "dropout"
    defaults = {"rate": 0.5}

    def infer(self, where, inputs, weights, options):
        check_roles(where, inputs, ("x",), (), "inputs")
        check_roles(where, weights, (), (), "weights")
        x = inputs["x"]
        check_kind(where, x, ("sequence", "vector", "state"))
        if not 0.0 <= options["rate"] <= 1.0:
            raise ShapeError(f"layer {where!r}: dropout rate expected in [0, 1], found {options['rate']}")
        return {"y": Value("", "sequence" if x.kind == "sequence" else "vector", x.shape, x.mask, x.axis)}
