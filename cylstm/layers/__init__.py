"""The layers: what each needs and gives (one file per operation), and how a state dict's user names them.

A layer's file is imported when it is first used: a program that loads an LSTM starts faster without the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._op import Layer, Op
    from .activation import (
        ELU,
        GELU,
        SELU,
        Activation,
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
    from .conv1d import AvgPool1d, Conv1d, MaxPool1d
    from .conv_lstm import ConvLSTM
    from .dense import Dense, Linear
    from .dropout import Dropout
    from .embedding import Embedding
    from .gated import GLU, PReLU
    from .gru import GRU
    from .input import Input
    from .last import Last, LastState
    from .lstm import LSTM
    from .norm import BatchNorm1d, GroupNorm, LayerNorm, RMSNorm
    from .rearrange import Flatten, Transpose
    from .reduce import GlobalPool1d
    from .reverse import Reverse
    from .rnn import RNN

#: operation -> its file, and its class there
_OPS = {
    "lstm": ("lstm", "LstmOp"),
    "gru": ("gru", "GruOp"),
    "rnn": ("rnn", "RnnOp"),
    "conv_lstm": ("conv_lstm", "ConvLstmOp"),
    "dense": ("dense", "DenseOp"),
    "activation": ("activation", "ActivationOp"),
    "dropout": ("dropout", "DropoutOp"),
    "last": ("last", "LastOp"),
    "merge": ("merge", "MergeOp"),
    "reverse": ("reverse", "ReverseOp"),
    "conv1d": ("conv1d", "Conv1dOp"),
    "pool1d": ("conv1d", "Pool1dOp"),
    "batch_norm": ("norm", "BatchNormOp"),
    "layer_norm": ("norm", "LayerNormOp"),
    "group_norm": ("norm", "GroupNormOp"),
    "embedding": ("embedding", "EmbeddingOp"),
    "prelu": ("gated", "PreluOp"),
    "glu": ("gated", "GluOp"),
    "reshape": ("rearrange", "ReshapeOp"),
    "permute": ("rearrange", "PermuteOp"),
    "slice": ("rearrange", "SliceOp"),
    "pad": ("rearrange", "PadOp"),
    "upsample": ("rearrange", "UpsampleOp"),
    "repeat_vector": ("rearrange", "RepeatVectorOp"),
    "reduce": ("reduce", "ReduceOp"),
    "softmax": ("reduce", "SoftmaxOp"),
    "masking": ("masking", "MaskingOp"),
    "index_mask": ("masking", "IndexMaskOp"),
    "mask_merge": ("masking", "MaskMergeOp"),
    "attention": ("attention", "AttentionOp"),
    "dot": ("attention", "DotOp"),
}
#: layer of a state dict -> its file, where that is not ``activation``
_LAYERS = {
    "LSTM": "lstm",
    "GRU": "gru",
    "RNN": "rnn",
    "ConvLSTM": "conv_lstm",
    "Dense": "dense",
    "Linear": "dense",
    "Dropout": "dropout",
    "Last": "last",
    "LastState": "last",
    "Layer": "_op",
    "Reverse": "reverse",
    "AvgPool1d": "conv1d",
    "Conv1d": "conv1d",
    "MaxPool1d": "conv1d",
    "Embedding": "embedding",
    "GLU": "gated",
    "PReLU": "gated",
    "Input": "input",
    "BatchNorm1d": "norm",
    "GroupNorm": "norm",
    "LayerNorm": "norm",
    "RMSNorm": "norm",
    "Flatten": "rearrange",
    "Transpose": "rearrange",
    "GlobalPool1d": "reduce",
}


class _Operations(Mapping):
    """Name -> `Op`; each is made when first asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Op] = {}

    def __getitem__(self, name: str) -> Op:
        if name not in self._made:
            file, kind = _OPS[name]
            self._made[name] = getattr(import_module(f"{__name__}.{file}"), kind)()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in _OPS

    def __iter__(self) -> Iterator[str]:
        return iter(_OPS)

    def __len__(self) -> int:
        return len(_OPS)


OPS: Mapping[str, Op] = _Operations()

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


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module(f"{__name__}.{_LAYERS.get(name, 'activation')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
