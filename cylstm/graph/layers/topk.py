"""The largest and smallest numbers along one axis, in their order."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.errors import ShapeError
from cylstm.graph.layers._axes import check_whole_number, find_axis
from cylstm.graph.layers._layer import DATA, Inputs, LayerKind, Options, Outputs, Weights, check_kind, like
from cylstm.graph.values import Option, StaticTimeNeeded


class TopkLayer(LayerKind):
    """The ``k`` largest numbers along one axis, the largest first, or the smallest, the smallest first.

    Of equal numbers the first comes first; NaN counts as larger than every number. With k = 0 all numbers: a sort.

    Inputs: ``x`` (sequence, vector or state). Outputs: ``y``, whose axis has k numbers, and ``indices``, their places
    along the axis of x as numbers, exact below 2**24. Options: ``axis`` (batch not counted; a time of any length only
    with k = 0), ``k``, ``largest``.
    """

    name = "topk"
    defaults = {"axis": -1, "k": 1, "largest": True}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["x"]
        check_kind(where, x, DATA)
        axis = options["axis"] = find_axis(where, x, options["axis"])
        k = check_whole_number(where, options, "k", 0)
        size = x.shape[axis]
        if k and size is None:
            raise StaticTimeNeeded(
                f"layer {where!r}: {k} of all steps need the number of steps in advance, found shape {x.shape} of "
                f"{x.name!r}"
            )
        if size is not None and k > size:
            raise ShapeError(f"layer {where!r}: axis {axis} of {x.shape} has less than {k} numbers")
        y = like(x, (*x.shape[:axis], k or size, *x.shape[axis + 1 :]))
        if axis == 0 and x.has_time:
            y = y._replace(mask=None)  # the steps are others
        return {"y": y, "indices": y}

    def streams(self, options: Mapping[str, Option]) -> str | None:
        return "it needs all steps at once" if options["axis"] == 0 else None
