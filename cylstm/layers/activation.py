"""An activation function as a layer of its own."""

from __future__ import annotations

from ..activations import activation_options, resolve_activation
from ..errors import UnsupportedError
from ..graph import Value
from ._op import Layer, Op, check_activation, check_kind, check_roles


class ActivationOp(Op):
    """``y = activation(x)``, element by element (softmax: over the last axis).

    Inputs: ``x`` (sequence, vector or state). Outputs: ``y``, a sequence or a vector.
    """

    name = "activation"
    defaults = {"activation": "linear", "activation_alpha": 0.0, "activation_beta": 0.0}

    def infer(self, where, inputs, weights, options):
        check_roles(where, inputs, ("x",), (), "inputs")
        check_roles(where, weights, (), (), "weights")
        x = inputs["x"]
        check_kind(where, x, ("sequence", "vector", "state"))
        check_activation(where, options, "activation")
        return {"y": Value("", "sequence" if x.kind == "sequence" else "vector", x.shape, x.mask, x.axis)}


class Activation(Layer):
    """An activation function, as a layer of its own or as an option of another layer.

    Parameters
    ----------
    name : str
        A key of `cylstm.activations.ACTIVATIONS` or `cylstm.activations.ALIASES`.
    alpha, beta : float, optional
        Its parameters; by default the activation's own.

    Raises
    ------
    UnsupportedError
        If the name is unknown or a parameter is not finite.
    """

    def __init__(self, name: str, alpha: float | None = None, beta: float | None = None) -> None:
        resolve_activation(name, alpha, beta, where="Activation")
        super().__init__(name=name, alpha=alpha, beta=beta)


def slot_options(slot: str, activation: str | Activation | None, *, where: str) -> dict[str, object]:
    """Node options of the activation in `slot`, given by name or as an `Activation` with parameters."""
    if isinstance(activation, Activation):
        return activation_options(slot, activation.name, activation.alpha, activation.beta, where=where)
    return activation_options(slot, activation, where=where)


def _without_parameters(torch_name: str, name: str):
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
    if approximate not in ("none", "tanh"):
        raise UnsupportedError(f"GELU: approximate expected 'none' or 'tanh', found {approximate!r}")
    return Activation("gelu" if approximate == "none" else "gelu_tanh")


def Softmax(dim: int = -1) -> Activation:
    """``torch.nn.Softmax(dim=-1)``, over the last axis; others are refused."""
    if dim != -1:
        raise UnsupportedError(f"Softmax: only the last axis, dim=-1, is supported; found dim={dim!r}")
    return Activation("softmax")
