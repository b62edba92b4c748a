"""PyTorch, eager, in inference mode: ``nn.LSTM``, and for single steps also ``nn.LSTMCell``; GRU and RNN alike.

With weights of int8 (dynamic quantisation) and of bfloat16 too.
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager

import numpy as np
import torch

from ._peer import Cell, Peer

MODULES = {
    "lstm": (torch.nn.LSTM, torch.nn.LSTMCell),
    "gru": (torch.nn.GRU, torch.nn.GRUCell),
    "rnn": (torch.nn.RNN, torch.nn.RNNCell),
}


class TorchLstm(Peer):
    """``torch.nn.LSTM`` in its native layout (time, batch, features); a step is a sequence of one."""

    name = "torch"
    kinds = tuple(MODULES)

    def __init__(self, cell: Cell, *, batch: int, time: int, threads: int) -> None:
        torch.set_num_threads(threads)  # of the process; PyTorch's workers sleep between calls
        self.state_count = cell.states
        self.state_shape = (cell.layers, batch, cell.hidden_size)
        self.lstm = MODULES[cell.kind][0](cell.input_size, cell.hidden_size, cell.layers)
        self.lstm.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in cell.tensors.items()})
        self.lstm = self.converted(self.lstm.eval())
        self.reset()

    @classmethod
    def version(cls) -> str:
        return torch.__version__

    def converted(self, module: torch.nn.Module) -> torch.nn.Module:
        """The module as it is run."""
        return module

    def running(self) -> AbstractContextManager:
        return torch.inference_mode()

    def reset(self) -> None:
        with torch.inference_mode():
            states = tuple(torch.zeros(self.state_shape) for _ in range(self.state_count))
        self.state = states if self.state_count > 1 else states[0]

    def step_input(self, x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(x)[None]

    def sequence_input(self, x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(x.transpose(1, 0, 2)))

    def step(self, x: torch.Tensor) -> torch.Tensor:
        y, self.state = self.lstm(x, self.state)
        return y

    def sequence(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x)[0]

    def result(self, y: torch.Tensor) -> np.ndarray:
        y = y.numpy()
        return np.array(y[0] if len(y) == 1 else y.transpose(1, 0, 2))


class TorchCell(TorchLstm):
    """``torch.nn.LSTMCell``, one per layer: a step without the set-up that ``nn.LSTM`` does for each sequence."""

    name = "torch cell"
    modes = ("step",)

    def __init__(self, cell: Cell, *, batch: int, time: int, threads: int) -> None:
        super().__init__(cell, batch=batch, time=time, threads=threads)
        self.cells = []
        for k in range(cell.layers):
            tensors = (torch.from_numpy(tensor) for tensor in cell.layer(k))
            layer = MODULES[cell.kind][1](cell.input_size if k == 0 else cell.hidden_size, cell.hidden_size)
            layer.load_state_dict(dict(zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), tensors)))
            self.cells.append(self.converted(layer.eval()))

    def reset(self) -> None:
        super().reset()
        self.states = list(zip(*self.state)) if self.state_count > 1 else list(self.state)

    def step_input(self, x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(x)

    def step(self, x: torch.Tensor) -> torch.Tensor:
        has_pairs = self.state_count > 1
        for k, cell in enumerate(self.cells):
            state = self.states[k] = cell(x, self.states[k])
            x = state[0] if has_pairs else state
        return x

    def result(self, y: torch.Tensor) -> np.ndarray:
        return np.array(y.numpy())


class TorchInt8(TorchLstm):
    """``quantize_dynamic``: weights of int8, activations quantised at each call."""

    name = "torch int8"
    kinds = ("lstm", "gru")  # it has none for nn.RNN
    dtype = "int8"
    tolerance = 0.05

    def converted(self, module: torch.nn.Module) -> torch.nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the function will move to another package
            return torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(module), {type(module)}, torch.qint8)[0]


class TorchCellInt8(TorchInt8, TorchCell):
    """The same with ``LSTMCell``."""

    name = "torch cell int8"
    modes = ("step",)


class TorchBFloat16(TorchLstm):
    """``nn.LSTM`` in bfloat16 throughout, states and arithmetic too."""

    name = "torch bfloat16"
    dtype = "bfloat16"
    tolerance = 0.05

    def converted(self, module: torch.nn.Module) -> torch.nn.Module:
        return module.to(torch.bfloat16)

    def reset(self) -> None:
        super().reset()
        states = (self.state,) if self.state_count == 1 else self.state
        states = tuple(state.to(torch.bfloat16) for state in states)
        self.state = states if self.state_count > 1 else states[0]

    def step_input(self, x: np.ndarray) -> torch.Tensor:
        return super().step_input(x).to(torch.bfloat16)

    def sequence_input(self, x: np.ndarray) -> torch.Tensor:
        return super().sequence_input(x).to(torch.bfloat16)

    def result(self, y: torch.Tensor) -> np.ndarray:
        return super().result(y.float())


QUANTISED = (TorchInt8, TorchCellInt8, TorchBFloat16)
PEERS = (TorchLstm, TorchCell)
