"""PyTorch's activations, by the names of their modules."""

from __future__ import annotations

from collections.abc import Callable

from cylstm.errors import UnsupportedError, described
from cylstm.formats.state_dict.wiring.layer import Activation, is_whole


def _without_parameters(torch_name: str, name: str) -> Callable[[], Activation]:
    def make() -> Activation:
        return Activation(name)

    make.__name__ = make.__qualname__ = torch_name
    make.__doc__ = f"``torch.nn.{torch_name}()``: ``Activation({name!r})``."
    return make


ReLU = _without_parameters("ReLU", "relu")
ReLU6 = _without_parameters("ReLU6", "relu6")
Tanh = _without_parameters("Tanh", "tanh")
Sigmoid = _without_parameters("Sigmoid", "sigmoid")
SELU = _without_parameters("SELU", "selu")
Softplus = _without_parameters("Softplus", "softplus")
Softsign = _without_parameters("Softsign", "softsign")
SiLU = _without_parameters("SiLU", "silu")
Hardsigmoid = _without_parameters("Hardsigmoid", "hard_sigmoid")


def ELU(alpha: float = 1.0) -> Activation:
    """``torch.nn.ELU(alpha)``."""
    return Activation("elu", alpha)


def LeakyReLU(negative_slope: float = 0.01) -> Activation:
    """``torch.nn.LeakyReLU(negative_slope)``; Keras's own default slopes are 0.3 (layer) and 0.2 (by name)."""
    return Activation("leaky_relu", negative_slope)


def Hardtanh(min_val: float = -1.0, max_val: float = 1.0) -> Activation:
    """``torch.nn.Hardtanh(min_val, max_val)``."""
    return Activation("clip", min_val, max_val)


def GELU(approximate: str = "none") -> Activation:
    """``torch.nn.GELU(approximate)`` with "none" (by erf) or "tanh"."""
    if not isinstance(approximate, str) or approximate not in ("none", "tanh"):
        raise UnsupportedError(f"GELU: approximate expected 'none' or 'tanh', found {described(approximate)}")
    return Activation("gelu" if approximate == "none" else "gelu_tanh")


def Softmax(dim: int = -1) -> Activation:
    """``torch.nn.Softmax(dim=-1)``, over the last axis; others are refused."""
    if not is_whole(dim) or dim != -1:
        raise UnsupportedError(f"Softmax: only the last axis, dim=-1, is supported; found dim={described(dim)}")
    return Activation("softmax")
