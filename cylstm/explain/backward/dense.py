"""``y = activation(weight @ x + bias)``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cylstm.explain.backward.activations import softmax_refusal, through
from cylstm.explain.backward.rule import Arrays, Call, Relevance, Rule
from cylstm.graph.values import Option


class DenseRule(Rule):
    """An affine map of the last axis, then an activation, through which relevance goes as it is."""

    def relevance_refusal(self, options: Mapping[str, Option], inputs: int) -> str | None:
        return softmax_refusal(options)

    @staticmethod
    def scores(call: Call) -> np.ndarray:
        """What goes into the activation."""
        return np.asarray(call.x @ call.weights["weight"].T + call.weights.get("bias", 0.0))

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        of_scores = out["y"]
        if call.options["activation"] != "linear":
            of_scores = through(call.options, "activation", self.scores(call), of_scores)
        return {"x": of_scores @ call.weights["weight"]}

    def relevance(self, call: Call, out: Arrays, how: Relevance) -> Arrays:
        z, weight = self.scores(call), call.weights["weight"]
        quotient = how.quotient(out["y"], z)
        return {"x": how.linear(call.x, weight, call.weights.get("bias", 0.0), z, quotient, weight.shape[1])}
