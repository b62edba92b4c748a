"""Running sums, products and extremes along one axis."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.graph.layers._axes import check_whole_number, find_axis
from cylstm.graph.layers._layer import (
    DATA,
    Inputs,
    LayerKind,
    Options,
    Outputs,
    States,
    Weights,
    check_choice,
    check_kind,
    like,
)
from cylstm.graph.values import Option


class CumulateLayer(LayerKind):
    """``y[i] = x[0] + x[1] + ... + x[i]`` along one axis; or the product, the maximum or the minimum of these.

    With ``exclusive`` without ``x[i]``: first comes 0, or 1 for the product, -inf for the maximum, inf for the minimum.
    With ``reverse`` from the end on. NaN is the maximum and the minimum.

    Inputs: ``x`` (sequence, vector or state). Outputs: ``y``. Options: ``mode`` "sum", "prod", "max" or "min"; ``axis``
    (batch not counted), ``exclusive``, ``reverse``; ``size``, filled in: how many numbers a step of x has where they
    are carried on, else 0. Over a time of any length the layer carries, unless reversed, (3, size) numbers: the bits of
    a running float64 of each.
    """

    name = "cumulate"
    defaults = {"mode": "sum", "axis": 0, "exclusive": False, "reverse": False, "size": 0}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["x"]
        check_kind(where, x, DATA)
        check_choice(where, options, "mode", ("sum", "prod", "max", "min"))
        axis = options["axis"] = find_axis(where, x, options["axis"])
        is_carried = axis == 0 and x.axis is not None and not options["reverse"]
        options["size"] = x.size if is_carried else 0
        check_whole_number(where, options, "size", 0, (1 << 28) // 3)
        return {"y": like(x)}

    def state(self, weights: Weights, options: Mapping[str, Option]) -> States:
        size = int(options["size"])
        return (("running", (3, size)),) if size else ()

    def streams(self, options: Mapping[str, Option]) -> str | None:
        over_time = options["axis"] == 0 and options["reverse"]
        return "it begins at the end of the sequence" if over_time else None
