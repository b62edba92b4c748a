"""Functions of single numbers, and softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cylstm.graph.activations import activation_options
from cylstm.program.network import Network
from cylstm.program.operations.attention import softmax_of_scores
from cylstm.program.operations.elementwise import fold, multiply, subtract
from cylstm.program.tensor import Constant, Scores, Tensor, is_constant


def activation(net: Network, x: Any, name: str, alpha: float | None = None, beta: float | None = None) -> Any:
    options = activation_options("activation", name, alpha, beta, where=f"layer {net.name!r}")
    if is_constant(x):
        return fold(net, _FOLDED[name](float(options["activation_alpha"]), float(options["activation_beta"])), x)
    x = net.tensor(x)
    return Tensor(net.add_layer("activation", x.value, options=options, part=""), x.axes)


def _sigmoid(x: np.ndarray) -> Any:
    return np.where(x >= 0, 1.0 / (1.0 + np.exp(-np.abs(x))), 1.0 - 1.0 / (1.0 + np.exp(-np.abs(x))))


_ERF = np.vectorize(math.erf, otypes=[np.float64])

#: name -> alpha, beta -> NumPy's function of a constant
_FOLDED: Mapping[str, Callable[[float, float], Callable[[np.ndarray], np.ndarray]]] = {
    "linear": lambda a, b: lambda x: x,
    "tanh": lambda a, b: np.tanh,
    "sigmoid": lambda a, b: _sigmoid,
    "relu": lambda a, b: lambda x: np.maximum(x, 0),
    "leaky_relu": lambda a, b: lambda x: np.where(x > 0, x, a * x),
    "elu": lambda a, b: lambda x: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))),
    "selu": lambda a, b: (
        lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
    ),
    "softplus": lambda a, b: lambda x: np.logaddexp(x, 0),
    "softsign": lambda a, b: lambda x: x / (1 + np.abs(x)),
    "silu": lambda a, b: lambda x: x * _sigmoid(x),
    "gelu": lambda a, b: lambda x: 0.5 * x * (1 + _ERF(x / math.sqrt(2))),
    "gelu_tanh": lambda a, b: lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "exponential": lambda a, b: np.exp,
    "hard_sigmoid": lambda a, b: lambda x: np.clip(a * x + b, 0, 1),
    "clip": lambda a, b: lambda x: np.clip(x, a, b),
}


def softmax(net: Network, x: Any, dim: int, log: bool = False) -> Any:
    """Along an axis; of the scores of an attention over the keys, what its values will be weighted with."""
    if isinstance(x, Scores) and not log and dim in (-1, x.ndim - 1) and not x.is_softmax:
        return softmax_of_scores(x)
    if is_constant(x) and not isinstance(x, Constant):
        shifted = np.asarray(x) - np.max(x, axis=dim, keepdims=True)
        logarithm = shifted - np.log(np.exp(shifted).sum(axis=dim, keepdims=True))
        return logarithm if log else np.exp(logarithm)
    x = net.tensor(x)
    x, place = net.stored_axis(x, net.axis(x, dim))
    return Tensor(net.add_layer("softmax", x.value, options={"axis": place, "log": log}), x.axes)


def glu(net: Network, x: Any, dim: int = -1) -> Tensor:
    x = net.tensor(x)
    x = net.last(x, net.axis(x, dim))
    return Tensor(net.add_layer("glu", x.value), x.axes)


def gelu(net: Network, x: Any, approximate: str = "none") -> Any:
    return activation(net, x, {"none": "gelu", "tanh": "gelu_tanh"}[approximate])


def hardswish(net: Network, x: Any) -> Any:
    """x hard_sigmoid(x)."""
    return multiply(net, x, activation(net, x, "hard_sigmoid", 1 / 6, 0.5))


def mish(net: Network, x: Any) -> Any:
    """x tanh(softplus(x))."""
    return multiply(net, x, activation(net, activation(net, x, "softplus"), "tanh"))


def celu(net: Network, x: Any, alpha: float) -> Any:
    """alpha elu(x / alpha)."""
    return multiply(net, activation(net, multiply(net, x, 1 / alpha), "elu"), alpha)


def log_sigmoid(net: Network, x: Any) -> Any:
    """-softplus(-x)."""
    return multiply(net, activation(net, multiply(net, x, -1.0), "softplus"), -1.0)


def softplus(net: Network, x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """softplus(beta x) / beta; beyond the threshold PyTorch's x differs from it by less than e^-threshold."""
    if threshold < 15:
        raise net.refuse(f"softplus with a threshold of {threshold}, at which it jumps, is not supported")
    if beta == 1:
        return activation(net, x, "softplus")
    return multiply(net, activation(net, multiply(net, x, beta), "softplus"), 1 / beta)


def softshrink(net: Network, x: Any, limit: float) -> Any:
    """x - clip(x, -limit, limit)."""
    return subtract(net, x, activation(net, x, "clip", -limit, limit))


def tanhshrink(net: Network, x: Any) -> Any:
    """x - tanh(x)."""
    return subtract(net, x, activation(net, x, "tanh"))


def prelu(net: Network, x: Any, weight: Any) -> Tensor:
    x = net.tensor(x)
    slope = net.array(weight).reshape(-1)
    if slope.size > 1:
        x = net.last(x, net.axis(x, 1))
    return Tensor(net.add_layer("prelu", x.value, {"slope": slope}), x.axes)
