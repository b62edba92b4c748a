"""What the rules of all kinds have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from cylstm.graph.graph import Layer
    from cylstm.graph.values import Option
    from cylstm.trace import LayerTrace

#: role -> an array (batch, ...)
Arrays = Mapping[str, np.ndarray]


class Relevance(NamedTuple):
    """How relevance is shared out.

    Attributes
    ----------
    epsilon : float
        Added to each denominator, with its sign.
    bias_factor : float
        Which part of the relevance of a bias and of epsilon the inputs share evenly; 0: it is nobody's.
    """

    epsilon: float
    bias_factor: float

    def signed(self, z: np.ndarray) -> np.ndarray:
        """Epsilon with the sign of `z`."""
        return np.where(z >= 0.0, self.epsilon, -self.epsilon)

    def quotient(self, relevance: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Relevance for each part of a sum `z`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = relevance / (z + self.signed(z))
        return np.where(relevance == 0.0, 0.0, found)  # with epsilon 0 a sum of 0 has no parts

    def linear(
        self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | float, z: np.ndarray, quotient: np.ndarray,
        units: int,
    ) -> np.ndarray:  # fmt: skip
        """Relevance of x (..., inputs), of that of ``z = weight @ x + bias``, or of more than that, (..., outputs).

        ``R[i] = sum over j of (weight[j, i] x[i] + bias_factor (bias[j] + epsilon sign z[j]) / units) / (z[j] + epsilon
        sign z[j]) R[j]``, where `units` inputs share z (Arras et al., arXiv 1706.07206).
        """
        return np.asarray(x * (quotient @ weight) + self.shared(bias, z, quotient, units))

    def shared(self, bias: np.ndarray | float, z: np.ndarray, quotient: np.ndarray, units: int) -> np.ndarray | float:
        """What each of `units` inputs has of the bias and of epsilon."""
        if not self.bias_factor:
            return 0.0
        rest = (bias + self.signed(z)) * quotient
        return np.asarray(self.bias_factor * rest.sum(axis=-1, keepdims=True) / units)


class Call:
    """A layer, and what it read and computed in one prediction; all arrays are (batch, ...) in float64.

    Attributes
    ----------
    layer : Layer
    weights : dict of str to ndarray
    inputs : dict of str to ndarray
        Role -> numbers.
    masks : dict of str to ndarray of bool
        Role -> the steps that count, of masks that are known.
    y : ndarray
    trace : LayerTrace
    initial : dict of str to ndarray
        "h0" and "c0" of a recurrent layer.
    """

    def __init__(
        self, layer: Layer, weights: Arrays, inputs: Arrays, masks: Arrays, y: np.ndarray, trace: LayerTrace,
        initial: Arrays,
    ) -> None:  # fmt: skip
        self.layer = layer
        self.weights = weights
        self.inputs = inputs
        self.masks = masks
        self.y = y
        self.trace = trace
        self.initial = initial

    @property
    def options(self) -> Mapping[str, Option]:
        return self.layer.options

    @property
    def x(self) -> np.ndarray:
        return self.inputs["x"]

    def number(self, option: str) -> float:
        return float(self.options[option])

    def count(self, option: str) -> int:
        return int(self.options[option])


class Rule:
    """How one kind of layer hands back gradients and relevance."""

    def refusal(self, options: Mapping[str, Option], inputs: int) -> str | None:
        """Why there is no gradient of a layer with these options; None where there is one."""
        return None

    def relevance_refusal(self, options: Mapping[str, Option], inputs: int) -> str | None:
        """Why there is no relevance, where there is a gradient."""
        return None

    def states(self, call: Call) -> Arrays:
        """The states after the last step, of a recurrent layer."""
        return {}

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        """Of gradients with respect to the layer's outputs, by role, those with respect to its inputs.

        A recurrent layer has "h0" and "c0" too.
        """
        raise NotImplementedError

    def relevance(self, call: Call, out: Arrays, how: Relevance) -> Arrays:
        """The same of relevance. A layer that only moves numbers moves it alike."""
        return self.gradient(call, out)
