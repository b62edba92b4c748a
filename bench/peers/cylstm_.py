"""CyLSTM itself: the packed engine with and without ``out=``, its weights of fewer bytes, and the BLAS engine."""

from __future__ import annotations

from functools import partial

import numpy as np

import cylstm
from cylstm.engine.blas import find_blas

from ._peer import Cell, Peer

LAYERS = {"lstm": cylstm.LSTM, "gru": cylstm.GRU, "rnn": cylstm.RNN}
KINDS = tuple(LAYERS)


def load(cell: Cell, engine: str = "packed", weights: str | None = None) -> cylstm.Model:
    """The network of a cell, alone."""
    tensors = {f"net.{name}": tensor for name, tensor in cell.tensors.items()}
    return cylstm.from_state_dict(tensors, [LAYERS[cell.kind]("net")], engine=engine, weights=weights)


class Packed(Peer):
    """``stream.step(x)`` and ``model.predict(x)``."""

    name = "cylstm"
    kinds = KINDS
    is_ours = True
    ratio_title = "ratio"
    engine = "packed"
    weights: str | None = None

    def __init__(self, cell: Cell, *, batch: int, time: int, threads: int) -> None:
        self.model = load(cell, self.engine, self.weights)
        if self.model.can_stream:
            self.stream = self.model.stream(batch, threads=threads)
            self.step = self.stream.step
        self.sequence = partial(self.model.predict, threads=threads)

    @classmethod
    def version(cls) -> str:
        return cylstm.__version__

    def reset(self) -> None:
        self.stream.reset()

    def step_input(self, x: np.ndarray) -> np.ndarray:
        return x[0] if len(x) == 1 else x

    def result(self, y: np.ndarray) -> np.ndarray:
        return np.array(y if y.ndim > 1 else y[np.newaxis])


class PackedOut(Packed):
    """``stream.step(x, out=y)``, which allocates nothing."""

    name = "cylstm out="
    modes = ("step",)
    ratio_title = "ratio out="

    def __init__(self, cell: Cell, *, batch: int, time: int, threads: int) -> None:
        super().__init__(cell, batch=batch, time=time, threads=threads)
        self.y = np.empty((batch, cell.hidden_size) if batch > 1 else (cell.hidden_size,), np.float32)
        self.step = partial(self.stream.step, out=self.y)

    def repeat_step(self, inputs: list) -> None:
        step, y = self.stream.step, self.y
        for x in inputs:
            step(x, out=y)


class PackedHalf(Packed):
    """The same calls with ``weights="float16"``; its error is mostly that of rounding the weights."""

    name = "cylstm float16"
    ratio_title = None
    beside = "cylstm"
    tolerance = 1e-2
    weights = "float16"


class Blas(Packed):
    """The same calls with ``engine="blas"``."""

    name = "cylstm blas"
    ratio_title = None
    engine = "blas"

    @classmethod
    def version(cls) -> str:
        return f"{cylstm.__version__}, {find_blas().origin}"


class Weights(PackedOut):
    """``stream.step(x, out=y)`` and ``model.predict(x)`` with the weights of one type, all matrices alike."""

    name = "cylstm float32"
    modes = ("step", "sequence")
    ratio_title = None
    tolerance = 0.05
    weights = "float32"


class Float16(Weights):
    name = "cylstm float16"
    weights = dtype = "float16"


class BFloat16(Weights):
    name = "cylstm bfloat16"
    weights = dtype = "bfloat16"


class Int8Wide(Weights):
    """Activations of 16 bits."""

    name = "cylstm int8a16"
    weights, dtype = "int8a16", "int8"


class Int8(Weights):
    """Activations of 8 bits."""

    name = "cylstm int8a8"
    weights, dtype = "int8a8", "int8"


QUANTISED = (Weights, Float16, BFloat16, Int8Wide, Int8)
PEERS = (Packed, PackedOut, PackedHalf, Blas)
