"""One number of an axis."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cylstm.explain.backward.rule import Arrays, Call, Relevance, Rule
from cylstm.graph.values import Option


class ReduceRule(Rule):
    """Sums, means and extremes along one axis."""

    def refusal(self, options: Mapping[str, Option], inputs: int) -> str | None:
        known = ("mean", "sum", "max", "min")
        return None if options["mode"] in known else f"mode {options['mode']!r} has no gradient here"

    def relevance_refusal(self, options: Mapping[str, Option], inputs: int) -> str | None:
        return None if options["mode"] in ("mean", "sum") else f"relevance has no rule for mode {options['mode']!r}"

    @staticmethod
    def _slope(call: Call) -> np.ndarray:
        """Of the result along each number of x."""
        axis, mode = 1 + call.count("axis"), call.options["mode"]
        if mode in ("max", "min"):
            # all of it is the first extreme's, as in PyTorch's max along an axis
            place = call.x.argmax(axis=axis) if mode == "max" else call.x.argmin(axis=axis)
            slope = np.zeros_like(call.x)
            np.put_along_axis(slope, np.expand_dims(place, axis), 1.0, axis)
            return slope
        slope = np.ones_like(call.x)
        if "mask" in call.masks:
            mask = call.masks["mask"]
            slope *= mask.reshape(*mask.shape, *[1] * (call.x.ndim - 2))
        if mode == "mean":
            with np.errstate(divide="ignore", invalid="ignore"):
                slope /= slope.sum(axis=axis, keepdims=True)
        return slope

    def _out(self, call: Call, out: np.ndarray) -> np.ndarray:
        """With the axis that was reduced."""
        shape = list(call.x.shape)
        shape[1 + call.count("axis")] = 1
        return out.reshape(shape)

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        return {"x": self._out(call, out["y"]) * self._slope(call)}

    def relevance(self, call: Call, out: Arrays, how: Relevance) -> Arrays:
        axis, slope = 1 + call.count("axis"), self._slope(call)
        terms = slope * call.x
        z = terms.sum(axis=axis, keepdims=True)
        quotient = how.quotient(self._out(call, out["y"]), z)
        counts = (slope != 0.0).sum(axis=axis, keepdims=True)
        return {"x": terms * quotient + how.bias_factor * how.signed(z) * quotient * (slope != 0.0) / counts}
