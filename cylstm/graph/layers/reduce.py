"""Layers over one axis, wherever it is."""

from __future__ import annotations

from cylstm.errors import UnsupportedError
from cylstm.graph.graph import Value
from cylstm.graph.layers._axes import find_axis, kind_of
from cylstm.graph.layers._layer import LayerKind, check_choice, check_kind, check_mask, check_roles


class ReduceLayer(LayerKind):
    """``y = mean, sum, max or min of x along one axis``, which y has no more; global pooling is over axis 0, the time.

    Inputs: ``x`` (sequence, vector or state), optional ``mask`` for the mean or sum over time: steps that do not count
    are left out, and the mean of none is NaN. It is not wired by itself. Outputs: ``y``, of several axes the first is
    its time; a vector of one number for x of one axis. Options: ``mode``, ``axis`` (batch not counted).
    """

    name = "reduce"
    defaults = {"mode": "mean", "axis": 0}

    def infer(self, where, inputs, weights, options):
        check_roles(where, inputs, ("x",), ("mask",), "inputs")
        check_roles(where, weights, (), (), "weights")
        x = inputs["x"]
        check_kind(where, x, ("sequence", "vector", "state"))
        check_choice(where, options, "mode", ("mean", "sum", "max", "min"))
        axis = options["axis"] = find_axis(where, x, options["axis"])
        of_time = x.has_time and axis == 0
        if "mask" in inputs:
            if not of_time or options["mode"] not in ("mean", "sum"):
                raise UnsupportedError(f"layer {where!r}: a mask is for the mean or the sum over time")
            check_mask(where, inputs["mask"], x)
        shape = x.shape[:axis] + x.shape[axis + 1 :]
        if not shape:
            shape = (1,)
        if x.has_time and not of_time and len(shape) == 1:
            shape = (*shape, 1)  # a number for each step
        keeps_time = x.has_time and not of_time
        kind = "sequence" if keeps_time else kind_of(shape)
        return {"y": Value("", kind, shape, x.mask if keeps_time else None, x.axis if keeps_time else None)}

    def streams(self, options):
        return "it needs all steps at once" if options["axis"] == 0 else None


class SoftmaxLayer(LayerKind):
    """``y = e**x / sum of e**x`` along one axis, or with ``log`` its logarithm, m the maximum of x there:
    ``y = x - m - ln sum of e**(x - m)``.

    Inputs: ``x``. Outputs: ``y``. Options: ``axis`` (batch not counted), ``log``.
    """

    name = "softmax"
    defaults = {"axis": -1, "log": False}

    def infer(self, where, inputs, weights, options):
        check_roles(where, inputs, ("x",), (), "inputs")
        check_roles(where, weights, (), (), "weights")
        x = inputs["x"]
        check_kind(where, x, ("sequence", "vector", "state"))
        options["axis"] = find_axis(where, x, options["axis"])
        return {"y": Value("", "sequence" if x.has_time else "vector", x.shape, x.mask, x.axis)}

    def streams(self, options):
        return "it needs all steps at once" if options["axis"] == 0 else None
