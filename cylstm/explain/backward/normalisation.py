"""Normalisation with fixed statistics, and with those of the input."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cylstm.explain.backward.rule import Arrays, Call, Relevance, Rule
from cylstm.graph.values import Option


class BatchNormRule(Rule):
    """``y = gain * (x - mean) / sqrt(variance + epsilon) + shift``, an affine function of each number."""

    @staticmethod
    def _slope(call: Call) -> np.ndarray:
        weights = call.weights
        return np.asarray(weights.get("gain", 1.0) / np.sqrt(weights["variance"] + call.number("epsilon")))

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        return {"x": out["y"] * self._slope(call)}

    def relevance(self, call: Call, out: Arrays, how: Relevance) -> Arrays:
        """What does not depend on x is a bias, of which x alone has its share."""
        slope = self._slope(call)
        bias = call.weights.get("shift", 0.0) - slope * call.weights["mean"]
        z = slope * call.x + bias
        quotient = how.quotient(out["y"], z)
        return {"x": (slope * call.x + how.bias_factor * (bias + how.signed(z))) * quotient}


class LayerNormRule(Rule):
    """Over the last axes, in its three modes."""

    def relevance_refusal(self, options: Mapping[str, Option], inputs: int) -> str | None:
        return "relevance has no rule for a normalisation with the statistics of the input"

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        axes = tuple(range(call.x.ndim - call.count("axes"), call.x.ndim))
        gain = call.weights.get("gain", np.ones(()))
        if gain.ndim:
            gain = gain.reshape(call.x.shape[axes[0] :])
        return {
            "x": normalised_gradient(call.x, out["y"] * gain, call.number("epsilon"), axes, str(call.options["mode"]))
        }


def normalised_gradient(
    x: np.ndarray, out: np.ndarray, epsilon: float, axes: tuple[int, ...] = (-1,), mode: str = "layer"
) -> np.ndarray:
    """The gradient with respect to x, of that with respect to ``(x - mean) / sqrt(variance + epsilon)``."""
    mean = x.mean(axis=axes, keepdims=True)
    centred = x - mean
    square = x**2 if mode == "rms" else centred**2
    scale = 1.0 / np.sqrt(square.mean(axis=axes, keepdims=True) + epsilon)
    above = centred if mode == "layer" else x  # what is divided
    of_square = -(out * above).sum(axis=axes, keepdims=True) * scale**3
    count = square.size // scale.size
    of_x = out * scale + of_square * (x if mode == "rms" else centred) / count
    return np.asarray(of_x - of_x.mean(axis=axes, keepdims=True) if mode == "layer" else of_x)
