"""Functions of single numbers, and softmax."""

from __future__ import annotations

from typing import Any

from cylstm.program.network import Network
from cylstm.program.operations.elementwise import activation, binary, multiply, subtract, where
from cylstm.program.tensor import Tensor


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
    """softplus(beta x) / beta; beyond the threshold x, which only differs from it where that is small."""
    scaled = x if beta == 1 else multiply(net, x, beta)
    y = activation(net, scaled, "softplus")
    y = y if beta == 1 else multiply(net, y, 1 / beta)
    return y if threshold >= 15 else where(net, binary(net, "greater", scaled, float(threshold)), x, y)


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
