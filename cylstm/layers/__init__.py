"""The layers: what each needs and gives (one file per operation), and how a state dict's user names them."""

from __future__ import annotations

from ._layer import Layer
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
from .conv_lstm import ConvLSTM, ConvLstmOp
from .dense import Dense, DenseOp, Linear
from .dropout import Dropout, DropoutOp
from .gru import GRU, GruOp
from .last import Last, LastOp, LastState
from .lstm import LSTM, LstmOp
from .merge import MergeOp
from .reverse import Reverse, ReverseOp
from .rnn import RNN, RnnOp

OPS: dict[str, Op] = {
    op.name: op
    for op in (
        LstmOp(),
        GruOp(),
        RnnOp(),
        ConvLstmOp(),
        DenseOp(),
        ActivationOp(),
        DropoutOp(),
        LastOp(),
        MergeOp(),
        ReverseOp(),
    )
}

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "OPS",
    "RNN",
    "SELU",
    "Activation",
    "ConvLSTM",
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
    "Reverse",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
]
