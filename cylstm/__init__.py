"""CyLSTM: fast, exact CPU inference of trained LSTM networks, without TensorFlow or PyTorch."""

from typing import TYPE_CHECKING

try:
    import cylstm.engine._engine as _engine  # noqa: F401
except ImportError as error:
    if error.name not in (
        "cylstm.engine._engine",
        "_engine",
    ):  # NumPy is missing, or the like; the dynamic linker says _engine
        raise
    from cylstm._unbuilt import explain, hand_over

    if not hand_over():
        raise ImportError(explain(error), name=error.name, path=error.path) from None
    # what follows is of the installed package
from cylstm.errors import (
    ArgumentError,
    BlasNotFoundError,
    CheckError,
    CylstmError,
    CylstmWarning,
    FormatError,
    RowError,
    ShapeError,
    StreamBusyError,
    UnsupportedError,
)
from cylstm.loading import convert, load
from cylstm.model import Model

if TYPE_CHECKING:
    from cylstm._version import __version__
    from cylstm.engine.config import show_config
    from cylstm.estimator import CylstmRegressor
    from cylstm.forecasting import Forecaster
    from cylstm.formats.state_dict.wiring import (
        ELU,
        GELU,
        GLU,
        GRU,
        LSTM,
        RNN,
        SELU,
        Activation,
        AvgPool1d,
        AvgPool2d,
        BatchNorm1d,
        BatchNorm2d,
        Conv1d,
        Conv2d,
        ConvLSTM,
        ConvTranspose1d,
        ConvTranspose2d,
        Dense,
        Dropout,
        Embedding,
        Flatten,
        GlobalPool1d,
        GroupNorm,
        Hardsigmoid,
        Hardtanh,
        Heads,
        Input,
        Last,
        LastState,
        LayerNorm,
        LeakyReLU,
        Linear,
        MaxPool1d,
        MaxPool2d,
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
        Steps,
        Tanh,
        Transpose,
    )
    from cylstm.live import from_keras, from_state_dict, from_torch
    from cylstm.monte_carlo import MonteCarlo
    from cylstm.stream import Stream
    from cylstm.trace import Trace

__all__ = [
    "ELU",
    "GELU",
    "GLU",
    "GRU",
    "LSTM",
    "RNN",
    "SELU",
    "Activation",
    "ArgumentError",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BlasNotFoundError",
    "CheckError",
    "Conv1d",
    "Conv2d",
    "ConvLSTM",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "CylstmError",
    "CylstmRegressor",
    "CylstmWarning",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "Forecaster",
    "FormatError",
    "GlobalPool1d",
    "GroupNorm",
    "Hardsigmoid",
    "Hardtanh",
    "Heads",
    "Input",
    "Last",
    "LastState",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "Model",
    "MonteCarlo",
    "PReLU",
    "RMSNorm",
    "ReLU",
    "ReLU6",
    "Reverse",
    "RowError",
    "ShapeError",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Steps",
    "Stream",
    "StreamBusyError",
    "Tanh",
    "Trace",
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


#: name -> its module, of what many programs never use; the rest that is not here is wiring
_MODULES = {
    "Forecaster": "cylstm.forecasting",
    "CylstmRegressor": "cylstm.estimator",
    "MonteCarlo": "cylstm.monte_carlo",
    "Stream": "cylstm.stream",
    "Trace": "cylstm.trace",
    "__version__": "cylstm._version",
    "from_keras": "cylstm.live",
    "from_state_dict": "cylstm.live",
    "from_torch": "cylstm.live",
    "show_config": "cylstm.engine.config",
}


def __getattr__(name: str) -> object:
    # loaded when it is used: above all the layers that describe a state dict
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES.get(name, "cylstm.formats.state_dict.wiring")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
