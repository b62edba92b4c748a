"""Activations and other functions of one number: their values and slopes in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from cylstm.explain.backward.rule import Arrays, Call, Relevance, Rule
from cylstm.graph.values import Option

_erf = np.vectorize(math.erf, [float])
_SCALE, _SLOPE = 1.0507009873554805, 1.6732632423543772  # of selu
_TO_TANH = math.sqrt(2.0 / math.pi)  # of gelu_tanh


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def _sigmoid_slope(x: np.ndarray) -> np.ndarray:
    """Also where the sigmoid rounds to 1."""
    small = np.exp(-np.abs(x))
    return np.asarray(small / (1.0 + small) ** 2)


def _gelu_tanh_inner(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.tanh(_TO_TANH * (x + 0.044715 * x**3)))


def _gelu_tanh_slope(x: np.ndarray) -> np.ndarray:
    inner = _gelu_tanh_inner(x)
    return np.asarray(
        0.5 * (1.0 + inner) + 0.5 * x * (1.0 - inner**2) * _TO_TANH * (1.0 + 3.0 * 0.044715 * x**2)
    )  # fmt: skip


_Function = Callable[[np.ndarray, float, float], np.ndarray]

#: activation -> its value and its slope at x with alpha and beta; at a kink the slope is that of PyTorch
_ACTIVATIONS: Mapping[str, tuple[_Function, _Function]] = {
    "linear": (lambda x, a, b: x, lambda x, a, b: np.ones_like(x)),
    "tanh": (lambda x, a, b: np.tanh(x), lambda x, a, b: 4.0 * _sigmoid_slope(2.0 * x)),
    "sigmoid": (lambda x, a, b: sigmoid(x), lambda x, a, b: _sigmoid_slope(x)),
    "relu": (lambda x, a, b: np.maximum(x, 0.0), lambda x, a, b: np.where(x > 0.0, 1.0, 0.0)),
    "leaky_relu": (lambda x, a, b: np.where(x > 0.0, x, a * x), lambda x, a, b: np.where(x > 0.0, 1.0, a)),
    "elu": (
        lambda x, a, b: np.where(x > 0.0, x, a * np.expm1(np.minimum(x, 0.0))),
        lambda x, a, b: np.where(x > 0.0, 1.0, a * np.exp(np.minimum(x, 0.0))),
    ),
    "selu": (
        lambda x, a, b: _SCALE * np.where(x > 0.0, x, _SLOPE * np.expm1(np.minimum(x, 0.0))),
        lambda x, a, b: _SCALE * np.where(x > 0.0, 1.0, _SLOPE * np.exp(np.minimum(x, 0.0))),
    ),
    "softplus": (lambda x, a, b: np.logaddexp(x, 0.0), lambda x, a, b: sigmoid(x)),
    "softsign": (lambda x, a, b: x / (1.0 + np.abs(x)), lambda x, a, b: 1.0 / (1.0 + np.abs(x)) ** 2),
    "silu": (lambda x, a, b: x * sigmoid(x), lambda x, a, b: sigmoid(x) + x * _sigmoid_slope(x)),
    "gelu": (
        lambda x, a, b: 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0))),
        lambda x, a, b: (
            0.5 * (1.0 + _erf(x / math.sqrt(2.0))) + x * np.exp(-0.5 * x**2) / math.sqrt(2.0 * math.pi)
        ),
    ),
    "gelu_tanh": (lambda x, a, b: 0.5 * x * (1.0 + _gelu_tanh_inner(x)), lambda x, a, b: _gelu_tanh_slope(x)),
    "exponential": (lambda x, a, b: np.exp(x), lambda x, a, b: np.exp(x)),
    "hard_sigmoid": (
        lambda x, a, b: np.clip(a * x + b, 0.0, 1.0),
        lambda x, a, b: np.where((a * x + b > 0.0) & (a * x + b < 1.0), a, 0.0),
    ),
    "clip": (lambda x, a, b: np.clip(x, a, b), lambda x, a, b: np.where((x > a) & (x < b), 1.0, 0.0)),
}  # fmt: skip


def value_of(options: Mapping[str, Option], slot: str, x: np.ndarray) -> np.ndarray:
    """The activation in a slot of a layer, of x; softmax over the last axis."""
    if options[slot] == "softmax":
        powers = np.exp(x - x.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
    alpha, beta = float(options[f"{slot}_alpha"]), float(options[f"{slot}_beta"])
    return np.asarray(_ACTIVATIONS[str(options[slot])][0](x, alpha, beta))


def slope_of(options: Mapping[str, Option], slot: str, x: np.ndarray) -> np.ndarray:
    """The slope of an activation of one number at x."""
    alpha, beta = float(options[f"{slot}_alpha"]), float(options[f"{slot}_beta"])
    return np.asarray(_ACTIVATIONS[str(options[slot])][1](x, alpha, beta))


def through(options: Mapping[str, Option], slot: str, x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The gradient with respect to x, of that with respect to the activation of x."""
    if options[slot] == "softmax":
        y = value_of(options, slot, x)
        return np.asarray(y * (out - (out * y).sum(axis=-1, keepdims=True)))
    return np.asarray(out * slope_of(options, slot, x))


def softmax_refusal(options: Mapping[str, Option]) -> str | None:
    """Relevance goes through an activation of one number as it is; a softmax mixes numbers."""
    if options["activation"] == "softmax":
        return "relevance has no rule for a softmax but at the output, where that of its scores is taken"
    return None


class ActivationRule(Rule):
    """``y = activation(x)``; relevance goes through."""

    def relevance_refusal(self, options: Mapping[str, Option], inputs: int) -> str | None:
        return softmax_refusal(options)

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        return {"x": through(call.options, "activation", call.x, out["y"])}

    def relevance(self, call: Call, out: Arrays, how: Relevance) -> Arrays:
        return {"x": out["y"]}


class SoftmaxRule(Rule):
    """Softmax along an axis, or its logarithm."""

    def relevance_refusal(self, options: Mapping[str, Option], inputs: int) -> str | None:
        return softmax_refusal({"activation": "softmax"})

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        axis, of_y = 1 + call.count("axis"), out["y"]
        powers = np.exp(call.x - call.x.max(axis=axis, keepdims=True))
        y = powers / powers.sum(axis=axis, keepdims=True)
        if call.options["log"]:
            return {"x": of_y - y * of_y.sum(axis=axis, keepdims=True)}
        return {"x": y * (of_y - (of_y * y).sum(axis=axis, keepdims=True))}

    def relevance(self, call: Call, out: Arrays, how: Relevance) -> Arrays:
        return {"x": out["y"]}


class GluRule(Rule):
    """``y = a * activation(b)``, of the halves of x. All relevance is a's: b only says how much of it goes through."""

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        a, b = np.split(call.x, 2, axis=-1)
        of_a = out["y"] * value_of(call.options, "activation", b)
        return {"x": np.concatenate([of_a, through(call.options, "activation", b, out["y"] * a)], axis=-1)}

    def relevance(self, call: Call, out: Arrays, how: Relevance) -> Arrays:
        return {"x": np.concatenate([out["y"], np.zeros_like(out["y"])], axis=-1)}


class PreluRule(Rule):
    """``y = x where x > 0, else slope * x``."""

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        slope = call.weights["slope"]
        if slope.size not in (1, call.x.shape[-1]):
            steps = call.x.shape[1:] if math.prod(call.x.shape[1:]) == slope.size else call.x.shape[2:]
            slope = slope.reshape(steps)
        return {"x": out["y"] * np.where(call.x > 0.0, 1.0, slope)}

    def relevance(self, call: Call, out: Arrays, how: Relevance) -> Arrays:
        return {"x": out["y"]}


#: function -> its slope at x; those that are flat between steps are not here
_SLOPES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "neg": lambda x: np.full_like(x, -1.0),
    "abs": np.sign,
    "square": lambda x: 2.0 * x,
    "reciprocal": lambda x: -1.0 / x**2,
    "sqrt": lambda x: 0.5 / np.sqrt(x),
    "rsqrt": lambda x: -0.5 / x**1.5,
    "cbrt": lambda x: 1.0 / (3.0 * np.cbrt(x) ** 2),
    "exp": np.exp,
    "exp2": lambda x: math.log(2.0) * np.exp2(x),
    "expm1": np.exp,
    "log": lambda x: 1.0 / x,
    "log2": lambda x: 1.0 / (x * math.log(2.0)),
    "log10": lambda x: 1.0 / (x * math.log(10.0)),
    "log1p": lambda x: 1.0 / (1.0 + x),
    "sin": np.cos,
    "cos": lambda x: -np.sin(x),
    "tan": lambda x: 1.0 / np.cos(x) ** 2,
    "asin": lambda x: 1.0 / np.sqrt(1.0 - x**2),
    "acos": lambda x: -1.0 / np.sqrt(1.0 - x**2),
    "atan": lambda x: 1.0 / (1.0 + x**2),
    "sinh": np.cosh,
    "cosh": np.sinh,
    "asinh": lambda x: 1.0 / np.sqrt(x**2 + 1.0),
    "acosh": lambda x: 1.0 / np.sqrt(x**2 - 1.0),
    "atanh": lambda x: 1.0 / (1.0 - x**2),
    "erf": lambda x: 2.0 / math.sqrt(math.pi) * np.exp(-(x**2)),
    "erfc": lambda x: -2.0 / math.sqrt(math.pi) * np.exp(-(x**2)),
}


class FunctionRule(Rule):
    """``y = f(x)``."""

    def refusal(self, options: Mapping[str, Option], inputs: int) -> str | None:
        name = str(options["function"])
        return None if name in _SLOPES else f"the function {name!r} is flat or jumps, and has no slope"

    def relevance_refusal(self, options: Mapping[str, Option], inputs: int) -> str | None:
        return f"relevance has no rule for the function {options['function']!r}"

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        with np.errstate(divide="ignore", invalid="ignore"):
            return {"x": out["y"] * _SLOPES[str(call.options["function"])](call.x)}
