"""The activation functions, their parameters, and the names other frameworks give them."""

from __future__ import annotations

import math

from cylstm.errors import UnsupportedError, described
from cylstm.graph.values import Option

#: name -> default (alpha, beta); the formulas are in ``csrc/kernels/activation.h``
ACTIVATIONS: dict[str, tuple[float, float]] = {
    "linear": (0.0, 0.0),
    "tanh": (0.0, 0.0),
    "sigmoid": (0.0, 0.0),
    "relu": (0.0, 0.0),
    "leaky_relu": (0.01, 0.0),
    "elu": (1.0, 0.0),
    "selu": (0.0, 0.0),
    "softplus": (0.0, 0.0),
    "softsign": (0.0, 0.0),
    "silu": (0.0, 0.0),
    "gelu": (0.0, 0.0),
    "gelu_tanh": (0.0, 0.0),
    "exponential": (0.0, 0.0),
    # clip(alpha*x + beta, 0, 1): (0.2, 0.5) in Keras 2, (1/6, 0.5) in Keras 3 and PyTorch
    "hard_sigmoid": (1.0 / 6.0, 0.5),
    # clip(x, alpha, beta)
    "clip": (-1.0, 1.0),
    # over the last axis, so a layer's or an output's activation, never a gate's
    "softmax": (0.0, 0.0),
}

#: other names of activations -> (name, alpha or None, beta or None)
ALIASES: dict[str, tuple[str, float | None, float | None]] = {
    "swish": ("silu", None, None),
    "identity": ("linear", None, None),
    "exp": ("exponential", None, None),
    "hard_tanh": ("clip", -1.0, 1.0),
    "hardtanh": ("clip", -1.0, 1.0),
    "relu6": ("clip", 0.0, 6.0),
}


def resolve_activation(
    name: object, alpha: float | None = None, beta: float | None = None, *, where: str
) -> tuple[str, float, float]:
    """Canonical ``(name, alpha, beta)`` of an activation, defaults filled in.

    Parameters
    ----------
    name : str or None
        One of `ACTIVATIONS` or `ALIASES`; None is "linear".
    alpha, beta : float, optional
        Parameters; None takes the activation's default.
    where : str
        What is being built, for the message.

    Raises
    ------
    UnsupportedError
        If the name is unknown or a parameter is not finite.
    """
    if name is None:
        name = "linear"
    if isinstance(name, str) and name in ALIASES:
        name, alias_alpha, alias_beta = ALIASES[name]
        alpha = alias_alpha if alpha is None else alpha
        beta = alias_beta if beta is None else beta
    if not isinstance(name, str) or name not in ACTIVATIONS:
        known = ", ".join(sorted([*ACTIVATIONS, *ALIASES]))
        raise UnsupportedError(f"{where}: unknown activation {described(name)}; known are {known}")
    default_alpha, default_beta = ACTIVATIONS[name]
    alpha = default_alpha if alpha is None else float(alpha)
    beta = default_beta if beta is None else float(beta)
    if not (math.isfinite(alpha) and math.isfinite(beta)):
        raise UnsupportedError(f"{where}: activation {name!r} has a parameter that is not finite: {alpha}, {beta}")
    return name, alpha, beta


def activation_options(
    slot: str, name: object, alpha: float | None = None, beta: float | None = None, *, where: str
) -> dict[str, Option]:
    """Layer options ``{slot, slot_alpha, slot_beta}`` that describe an activation (see `resolve_activation`)."""
    name, alpha, beta = resolve_activation(name, alpha, beta, where=where)
    return {slot: name, f"{slot}_alpha": alpha, f"{slot}_beta": beta}
