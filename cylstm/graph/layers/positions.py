"""The numbers of the steps."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.graph.layers._layer import (
    Inputs,
    LayerKind,
    Options,
    Outputs,
    States,
    Weights,
    check_kind,
    check_number,
    like,
)
from cylstm.graph.values import Option


class PositionsLayer(LayerKind):
    """``y[t] = start + step * t``: with the defaults 0, 1, 2, ..., which are exact up to 2^24.

    Inputs: ``x`` (sequence), of which only the time is read. Outputs: ``y`` (time, 1), with the mask of x; masked steps
    are counted too. Options: ``start``, ``step``; ``length``, filled in: the steps of x if it fixes them, else 0.

    A stream goes on counting. Its state is the number n of steps taken, as n mod 2^24 and floor(n / 2^24); a time that
    is fixed has none, since every call then has all of it.
    """

    name = "positions"
    defaults = {"start": 0.0, "step": 1.0, "length": 0}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["x"]
        check_kind(where, x, ("sequence",))
        for name in ("start", "step"):
            check_number(where, options, name, least=-3e38)
        options["length"] = x.shape[0] or 0
        return {"y": like(x, (x.shape[0], 1))}

    def state(self, weights: Weights, options: Mapping[str, Option]) -> States:
        return () if options["length"] else (("steps", (2,)),)
