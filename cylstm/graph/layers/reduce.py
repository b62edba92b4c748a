"""Layers over one axis, wherever it is."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.errors import UnsupportedError
from cylstm.graph.layers._checks import DATA, check_choice, check_kind, check_mask, find_axis, kind_of
from cylstm.graph.layers._layer import Inputs, LayerKind, Options, Outputs, Weights, like
from cylstm.graph.values import Option, Value


class ReduceLayer(LayerKind):
    """``y = mean, sum, max or min of x along one axis``, which y does not have; global pooling is over axis 0, time.

    Inputs: ``x`` (sequence, vector or state), optional ``mask`` for the mean or sum over time: invalid steps are left
    out, and the mean of no steps is NaN. The caller has to connect it. Outputs: ``y``: the first of several axes is its
    time; for x of one axis it is a vector of one number. Options: ``mode``, ``axis`` (batch not counted).
    """

    name = "reduce"
    optional_inputs = ("mask",)
    defaults = {"mode": "mean", "axis": 0}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["x"]
        check_kind(where, x, DATA)
        check_choice(where, options, "mode", ("mean", "sum", "max", "min"))
        axis = options["axis"] = find_axis(where, x, options["axis"])
        over_time = x.has_time and axis == 0
        if "mask" in inputs:
            if not over_time or options["mode"] not in ("mean", "sum"):
                raise UnsupportedError(f"layer {where!r}: a mask is for the mean or the sum over time")
            check_mask(where, inputs["mask"], x)
        shape = x.shape[:axis] + x.shape[axis + 1 :]
        if x.has_time and not over_time:
            return {"y": like(x, shape if len(shape) > 1 else (*shape, 1))}  # at least one number for each step
        shape = shape or (1,)
        return {"y": Value("", kind_of(shape), shape)}

    def streams(self, options: Mapping[str, Option]) -> str | None:
        return "it needs all steps at once" if options["axis"] == 0 else None


class SoftmaxLayer(LayerKind):
    """``y = e**x / sum of e**x`` along one axis, or with ``log`` its logarithm, m the maximum of x there:
    ``y = x - m - ln sum of e**(x - m)``.

    Inputs: ``x``. Outputs: ``y``. Options: ``axis`` (batch not counted), ``log``.
    """

    name = "softmax"
    defaults = {"axis": -1, "log": False}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["x"]
        check_kind(where, x, DATA)
        options["axis"] = find_axis(where, x, options["axis"])
        return {"y": like(x)}

    def streams(self, options: Mapping[str, Option]) -> str | None:
        return "it needs all steps at once" if options["axis"] == 0 else None
