"""The wiring: what stands in the ``layers=[...]`` of a state dict, in PyTorch's names.

A layer's module is imported when its name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cylstm.formats.state_dict.wiring.activation import (
        ELU as ELU,
    )
    from cylstm.formats.state_dict.wiring.activation import (
        GELU as GELU,
    )
    from cylstm.formats.state_dict.wiring.activation import (
        SELU as SELU,
    )
    from cylstm.formats.state_dict.wiring.activation import (
        Hardsigmoid as Hardsigmoid,
    )
    from cylstm.formats.state_dict.wiring.activation import (
        Hardtanh as Hardtanh,
    )
    from cylstm.formats.state_dict.wiring.activation import (
        LeakyReLU as LeakyReLU,
    )
    from cylstm.formats.state_dict.wiring.activation import (
        ReLU as ReLU,
    )
    from cylstm.formats.state_dict.wiring.activation import (
        ReLU6 as ReLU6,
    )
    from cylstm.formats.state_dict.wiring.activation import (
        Sigmoid as Sigmoid,
    )
    from cylstm.formats.state_dict.wiring.activation import (
        SiLU as SiLU,
    )
    from cylstm.formats.state_dict.wiring.activation import (
        Softmax as Softmax,
    )
    from cylstm.formats.state_dict.wiring.activation import (
        Softplus as Softplus,
    )
    from cylstm.formats.state_dict.wiring.activation import (
        Softsign as Softsign,
    )
    from cylstm.formats.state_dict.wiring.activation import (
        Tanh as Tanh,
    )
    from cylstm.formats.state_dict.wiring.convolution import (
        AvgPool1d as AvgPool1d,
    )
    from cylstm.formats.state_dict.wiring.convolution import (
        Conv1d as Conv1d,
    )
    from cylstm.formats.state_dict.wiring.convolution import (
        ConvLSTM as ConvLSTM,
    )
    from cylstm.formats.state_dict.wiring.convolution import (
        ConvTranspose1d as ConvTranspose1d,
    )
    from cylstm.formats.state_dict.wiring.convolution import (
        MaxPool1d as MaxPool1d,
    )
    from cylstm.formats.state_dict.wiring.heads import (
        Heads as Heads,
    )
    from cylstm.formats.state_dict.wiring.images import (
        AvgPool2d as AvgPool2d,
    )
    from cylstm.formats.state_dict.wiring.images import (
        Conv2d as Conv2d,
    )
    from cylstm.formats.state_dict.wiring.images import (
        ConvTranspose2d as ConvTranspose2d,
    )
    from cylstm.formats.state_dict.wiring.images import (
        MaxPool2d as MaxPool2d,
    )
    from cylstm.formats.state_dict.wiring.images import (
        Steps as Steps,
    )
    from cylstm.formats.state_dict.wiring.layer import (
        Activation as Activation,
    )
    from cylstm.formats.state_dict.wiring.layer import (
        Input as Input,
    )
    from cylstm.formats.state_dict.wiring.layer import (
        Layer as Layer,
    )
    from cylstm.formats.state_dict.wiring.linear import (
        Dense as Dense,
    )
    from cylstm.formats.state_dict.wiring.linear import (
        Embedding as Embedding,
    )
    from cylstm.formats.state_dict.wiring.linear import (
        Linear as Linear,
    )
    from cylstm.formats.state_dict.wiring.linear import (
        PReLU as PReLU,
    )
    from cylstm.formats.state_dict.wiring.norm import (
        BatchNorm1d as BatchNorm1d,
    )
    from cylstm.formats.state_dict.wiring.norm import (
        BatchNorm2d as BatchNorm2d,
    )
    from cylstm.formats.state_dict.wiring.norm import (
        GroupNorm as GroupNorm,
    )
    from cylstm.formats.state_dict.wiring.norm import (
        LayerNorm as LayerNorm,
    )
    from cylstm.formats.state_dict.wiring.norm import (
        RMSNorm as RMSNorm,
    )
    from cylstm.formats.state_dict.wiring.recurrent import (
        GRU as GRU,
    )
    from cylstm.formats.state_dict.wiring.recurrent import (
        LSTM as LSTM,
    )
    from cylstm.formats.state_dict.wiring.recurrent import (
        RNN as RNN,
    )
    from cylstm.formats.state_dict.wiring.recurrent import (
        Dropout as Dropout,
    )
    from cylstm.formats.state_dict.wiring.recurrent import (
        Last as Last,
    )
    from cylstm.formats.state_dict.wiring.recurrent import (
        LastState as LastState,
    )
    from cylstm.formats.state_dict.wiring.steps import (
        GLU as GLU,
    )
    from cylstm.formats.state_dict.wiring.steps import (
        Flatten as Flatten,
    )
    from cylstm.formats.state_dict.wiring.steps import (
        GlobalPool1d as GlobalPool1d,
    )
    from cylstm.formats.state_dict.wiring.steps import (
        Reverse as Reverse,
    )
    from cylstm.formats.state_dict.wiring.steps import (
        Transpose as Transpose,
    )

#: name -> its module
_MODULES = {
    "Activation": "layer",
    "AvgPool1d": "convolution",
    "AvgPool2d": "images",
    "BatchNorm1d": "norm",
    "BatchNorm2d": "norm",
    "Conv1d": "convolution",
    "Conv2d": "images",
    "ConvLSTM": "convolution",
    "ConvTranspose1d": "convolution",
    "ConvTranspose2d": "images",
    "Dense": "linear",
    "Dropout": "recurrent",
    "ELU": "activation",
    "Embedding": "linear",
    "Flatten": "steps",
    "GELU": "activation",
    "GLU": "steps",
    "GRU": "recurrent",
    "GlobalPool1d": "steps",
    "GroupNorm": "norm",
    "Hardsigmoid": "activation",
    "Hardtanh": "activation",
    "Heads": "heads",
    "Input": "layer",
    "LSTM": "recurrent",
    "Last": "recurrent",
    "LastState": "recurrent",
    "Layer": "layer",
    "LayerNorm": "norm",
    "LeakyReLU": "activation",
    "Linear": "linear",
    "MaxPool1d": "convolution",
    "MaxPool2d": "images",
    "PReLU": "linear",
    "RMSNorm": "norm",
    "RNN": "recurrent",
    "ReLU": "activation",
    "ReLU6": "activation",
    "Reverse": "steps",
    "SELU": "activation",
    "SiLU": "activation",
    "Sigmoid": "activation",
    "Softmax": "activation",
    "Softplus": "activation",
    "Softsign": "activation",
    "Steps": "images",
    "Tanh": "activation",
    "Transpose": "steps",
}

__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
