"""The layers: what each needs and gives (one file per operation), and how a state dict's user names them."""

from __future__ import annotations

from ._op import Op
from .activation import (
    ELU,
    GELU,
    SELU,
    Activation,
    ActivationOp,
    Hardsigmoid,
    Hardtanh,
    LeakyReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)
from .dense import Dense, DenseOp, Linear
from .dropout import Dropout, DropoutOp
from .last import Last, LastOp, LastState
from .lstm import LSTM, LstmOp
from .merge import MergeOp

OPS: dict[str, Op] = {op.name: op for op in (LstmOp(), DenseOp(), ActivationOp(), DropoutOp(), LastOp(), MergeOp())}

#: What may stand in the ``layers=[...]`` of a state dict.
Layer = LSTM | Linear | Dropout | Last | LastState | Activation

__all__ = [
    "ELU",
    "GELU",
    "LSTM",
    "OPS",
    "SELU",
    "Activation",
    "Dense",
    "Dropout",
    "Hardsigmoid",
    "Hardtanh",
    "Last",
    "LastState",
    "Layer",
    "LeakyReLU",
    "Linear",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
]
