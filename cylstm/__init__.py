"""CyLSTM: fast, exact CPU inference of trained LSTM networks, without TensorFlow or PyTorch."""

from typing import TYPE_CHECKING

try:
    from ._engine import Stream
except ImportError as error:
    if error.name not in (
        "cylstm._engine",
        "_engine",
    ):  # NumPy is missing, or the like; the dynamic linker says _engine
        raise
    from ._loading import explain, hand_over

    if not hand_over():
        raise ImportError(explain(error), name=error.name, path=error.path) from None
    from ._engine import Stream  # of the installed package, as all that follows
from .errors import (
    BlasNotFoundError,
    CylstmError,
    CylstmWarning,
    FormatError,
    ShapeError,
    StreamBusyError,
    UnsupportedError,
)
from .model import Model, load

if TYPE_CHECKING:
    from ._version import __version__
    from .checks import CheckError
    from .conversion import convert, from_keras, from_state_dict, from_torch
    from .layers import (
        ELU,
        GELU,
        GLU,
        GRU,
        LSTM,
        RNN,
        SELU,
        Activation,
        AvgPool1d,
        BatchNorm1d,
        Conv1d,
        ConvLSTM,
        Dense,
        Dropout,
        Embedding,
        Flatten,
        GlobalPool1d,
        GroupNorm,
        Hardsigmoid,
        Hardtanh,
        Input,
        Last,
        LastState,
        LayerNorm,
        LeakyReLU,
        Linear,
        MaxPool1d,
        PReLU,
        ReLU,
        ReLU6,
        Reverse,
        RMSNorm,
        Sigmoid,
        SiLU,
        Softmax,
        Softplus,
        Softsign,
        Tanh,
        Transpose,
    )
    from .show import show_config

__all__ = [
    "ELU",
    "GELU",
    "GLU",
    "GRU",
    "LSTM",
    "RNN",
    "SELU",
    "Activation",
    "AvgPool1d",
    "BatchNorm1d",
    "BlasNotFoundError",
    "CheckError",
    "Conv1d",
    "ConvLSTM",
    "CylstmError",
    "CylstmWarning",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "FormatError",
    "GlobalPool1d",
    "GroupNorm",
    "Hardsigmoid",
    "Hardtanh",
    "Input",
    "Last",
    "LastState",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MaxPool1d",
    "Model",
    "PReLU",
    "RMSNorm",
    "ReLU",
    "ReLU6",
    "Reverse",
    "ShapeError",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Stream",
    "StreamBusyError",
    "Tanh",
    "Transpose",
    "UnsupportedError",
    "__version__",
    "convert",
    "from_keras",
    "from_state_dict",
    "from_torch",
    "load",
    "show_config",
]


#: name -> its module, of what many programs never use; the rest that is not here is in ``layers``
_MODULES = {
    "CheckError": "checks",
    "__version__": "_version",
    "convert": "conversion",
    "from_keras": "conversion",
    "from_state_dict": "conversion",
    "from_torch": "conversion",
    "show_config": "show",
}


def __getattr__(name: str) -> object:
    # loaded when it is used: above all the layers that describe a state dict
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_MODULES.get(name, 'layers')}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
