"""Layers over one axis, wherever it is."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.errors import UnsupportedError
from cylstm.graph.layers._axes import find_axis, kind_of
from cylstm.graph.layers._layer import (
    DATA,
    Inputs,
    LayerKind,
    Options,
    Outputs,
    Weights,
    check_choice,
    check_kind,
    check_mask,
    check_number,
    like,
)
from cylstm.graph.values import Option, Value

#: the modes that are taken step by step in the engine's type, and those in double
STEPWISE_MODES = ("mean", "sum", "max", "min")
FOLD_MODES = ("prod", "var", "norm", "any", "all", "argmax", "argmin", "logsumexp")
#: those that have a number for no steps, and so take a mask
MASKED_MODES = ("mean", "sum", "prod", "var", "norm", "any", "all")


class ReduceLayer(LayerKind):
    """One number of x along one axis, which y does not have; global pooling is over axis 0, time.

    ``mode``: "mean", "sum", "max", "min"; "prod", the product; "var", the sum of ``(x - mean)**2`` over ``count -
    correction``, or over 0 where that is less; "norm", the root of the sum of squares; "any", "all", 1 or 0, of numbers
    that are not 0 (NaN is not); "argmax", "argmin", the place of the first extreme as a number, exact below 2**24, a
    NaN before all others; "logsumexp", ``m + ln sum of e**(x - m)``, m the maximum.

    Inputs: ``x`` (sequence, vector or state), optional ``mask`` for `MASKED_MODES` over time: invalid steps are left
    out, and the mean and the variance of no steps are NaN. The caller has to connect it. Outputs: ``y``: the first of
    several axes is its time; for x of one axis it is a vector of one number. Options: ``mode``, ``axis`` (batch not
    counted), ``correction`` (of "var"; 0 for that of all numbers, 1 for that of a sample).
    """

    name = "reduce"
    optional_inputs = ("mask",)
    defaults = {"mode": "mean", "axis": 0, "correction": 0.0}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["x"]
        check_kind(where, x, DATA)
        mode = check_choice(where, options, "mode", (*STEPWISE_MODES, *FOLD_MODES))
        check_number(where, options, "correction", least=0.0)
        options["correction"] = float(options["correction"])
        if options["correction"] and mode != "var":
            raise UnsupportedError(f"layer {where!r}: option correction is for mode 'var', found mode {mode!r}")
        axis = options["axis"] = find_axis(where, x, options["axis"])
        over_time = x.has_time and axis == 0
        if "mask" in inputs:
            if not over_time or mode not in MASKED_MODES:
                raise UnsupportedError(
                    f"layer {where!r}: a mask is for {', '.join(MASKED_MODES)} over time, found mode {mode!r} over "
                    f"axis {axis} of {x.shape}"
                )
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
