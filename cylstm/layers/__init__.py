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
from .attention import AttentionOp, DotOp
from .conv1d import AvgPool1d, Conv1d, Conv1dOp, MaxPool1d, Pool1dOp
from .conv_lstm import ConvLSTM, ConvLstmOp
from .dense import Dense, DenseOp, Linear
from .dropout import Dropout, DropoutOp
from .embedding import Embedding, EmbeddingOp
from .gated import GLU, GluOp, PReLU, PreluOp
from .gru import GRU, GruOp
from .input import Input
from .last import Last, LastOp, LastState
from .lstm import LSTM, LstmOp
from .masking import IndexMaskOp, MaskingOp, MaskMergeOp
from .merge import MergeOp
from .norm import BatchNorm1d, BatchNormOp, GroupNorm, GroupNormOp, LayerNorm, LayerNormOp, RMSNorm
from .rearrange import (
    Flatten,
    PadOp,
    PermuteOp,
    RepeatVectorOp,
    ReshapeOp,
    SliceOp,
    Transpose,
    UpsampleOp,
)
from .reduce import GlobalPool1d, ReduceOp, SoftmaxOp
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
        Conv1dOp(),
        Pool1dOp(),
        BatchNormOp(),
        LayerNormOp(),
        GroupNormOp(),
        EmbeddingOp(),
        PreluOp(),
        GluOp(),
        ReshapeOp(),
        PermuteOp(),
        SliceOp(),
        PadOp(),
        UpsampleOp(),
        RepeatVectorOp(),
        ReduceOp(),
        SoftmaxOp(),
        MaskingOp(),
        IndexMaskOp(),
        MaskMergeOp(),
        AttentionOp(),
        DotOp(),
    )
}

__all__ = [
    "ELU",
    "GELU",
    "GLU",
    "GRU",
    "LSTM",
    "OPS",
    "RNN",
    "SELU",
    "Activation",
    "AvgPool1d",
    "BatchNorm1d",
    "Conv1d",
    "ConvLSTM",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalPool1d",
    "GroupNorm",
    "Hardsigmoid",
    "Hardtanh",
    "Input",
    "Last",
    "LastState",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MaxPool1d",
    "PReLU",
    "RMSNorm",
    "ReLU",
    "ReLU6",
    "Reverse",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
    "Transpose",
]
