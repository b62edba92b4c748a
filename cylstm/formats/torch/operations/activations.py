"""Functions of single numbers, and softmax."""

from __future__ import annotations

from typing import Any

from cylstm.formats.torch.network import Network
from cylstm.formats.torch.tensor import Tensor
from cylstm.graph.activations import activation_options


def activation(net: Network, x: Any, name: str, alpha: float | None = None, beta: float | None = None) -> Tensor:
    x = net.tensor(x)
    options = activation_options("activation", name, alpha, beta, where=f"layer {net.name!r}")
    return Tensor(net.add_layer("activation", x.value, options=options, part=""), x.axes)


def softmax(net: Network, x: Any, dim: int | None, log: bool = False) -> Tensor:
    x = net.tensor(x)
    if dim is None:
        # PyTorch's old rule: axis 0 of 0, 1 or 3 axes, else axis 1
        dim = 0 if len(x.axes) in (0, 1, 3) else 1
    axis = net.axis(x, dim)
    if x.axes[axis] is None:
        x = net.last(x, axis)
    return Tensor(net.add_layer("softmax", x.value, options={"axis": x.axes[axis], "log": log}), x.axes)


def glu(net: Network, x: Any, dim: int = -1) -> Tensor:
    x = net.tensor(x)
    x = net.last(x, net.axis(x, dim))
    return Tensor(net.add_layer("glu", x.value), x.axes)


def gelu(net: Network, x: Any, approximate: str = "none") -> Tensor:
    return activation(net, x, {"none": "gelu", "tanh": "gelu_tanh"}[approximate])


def hardswish(net: Network, x: Any) -> Tensor:
    """x hard_sigmoid(x)."""
    x = net.tensor(x)
    return net.merge("mul", [x, activation(net, x, "hard_sigmoid", 1 / 6, 0.5)])


def mish(net: Network, x: Any) -> Tensor:
    """x tanh(softplus(x))."""
    x = net.tensor(x)
    return net.merge("mul", [x, activation(net, activation(net, x, "softplus"), "tanh")])


def celu(net: Network, x: Any, alpha: float) -> Tensor:
    """alpha elu(x / alpha)."""
    return net.affine(activation(net, net.affine(net.tensor(x), 1 / alpha, 0.0), "elu"), alpha, 0.0)


def log_sigmoid(net: Network, x: Any) -> Tensor:
    """-softplus(-x)."""
    return net.affine(activation(net, net.affine(net.tensor(x), -1.0, 0.0), "softplus"), -1.0, 0.0)


def softplus(net: Network, x: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """softplus(beta x) / beta; beyond the threshold PyTorch's x differs from it by less than e^-threshold."""
    if threshold < 15:
        raise net.refuse(f"softplus with a threshold of {threshold}, at which it jumps, is not supported")
    if beta == 1:
        return activation(net, x, "softplus")
    return net.affine(activation(net, net.affine(net.tensor(x), beta, 0.0), "softplus"), 1 / beta, 0.0)


def softshrink(net: Network, x: Any, limit: float) -> Tensor:
    """x - clip(x, -limit, limit)."""
    x = net.tensor(x)
    return net.merge("sub", [x, activation(net, x, "clip", -limit, limit)])


def tanhshrink(net: Network, x: Any) -> Tensor:
    """x - tanh(x)."""
    x = net.tensor(x)
    return net.merge("sub", [x, activation(net, x, "tanh")])


def prelu(net: Network, x: Any, weight: Any) -> Tensor:
    x = net.tensor(x)
    slope = net.array(weight).reshape(-1)
    if slope.size > 1:
        x = net.last(x, net.axis(x, 1))
    return Tensor(net.add_layer("prelu", x.value, {"slope": slope}), x.axes)


def unchanged(net: Network, x: Any, *args: Any, **kwargs: Any) -> object:
    """Operations that change nothing in prediction."""
    return x
