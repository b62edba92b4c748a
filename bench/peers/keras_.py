"""Keras 3 on its PyTorch backend (or the one that ``KERAS_BACKEND`` names)."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import torch

from ._peer import Cell, Peer

if keras.backend.backend() != "torch":
    raise ImportError(f"the adapter is for Keras's PyTorch backend, and KERAS_BACKEND={keras.backend.backend()}")


class Keras(Peer):
    """The model called like a function, which costs less than ``predict_on_batch`` and gives the same numbers.

    A sequence is a model of ``keras.layers.LSTM``, a step a call of ``keras.layers.LSTMCell`` per layer; both in
    PyTorch's inference mode.
    """

    name = "keras"

    def __init__(self, cell: Cell, *, batch: int, time: int, threads: int) -> None:
        torch.set_num_threads(threads)
        lstms = [keras.layers.LSTM(cell.hidden_size, return_sequences=True) for _ in range(cell.layers)]
        self.sequence = keras.Sequential([keras.Input((time, cell.input_size)), *lstms])
        self.cells = [lstm.cell for lstm in lstms]
        for k, lstm in enumerate(lstms):
            weight_ih, weight_hh, bias_ih, bias_hh = cell.layer(k)
            lstm.set_weights([weight_ih.T, weight_hh.T, bias_ih + bias_hh])
        self.state_shape = (batch, cell.hidden_size)
        self.reset()

    @classmethod
    def version(cls) -> str:
        return f"{keras.__version__}, backend {keras.backend.backend()}"

    def running(self) -> AbstractContextManager:
        return torch.inference_mode()

    def reset(self) -> None:
        with torch.inference_mode():
            self.states = [[torch.zeros(self.state_shape), torch.zeros(self.state_shape)] for _ in self.cells]

    def step_input(self, x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(x)

    def sequence_input(self, x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(x)

    def step(self, x: torch.Tensor) -> torch.Tensor:
        for k, cell in enumerate(self.cells):
            x, self.states[k] = cell(x, self.states[k])
        return x

    def result(self, y: torch.Tensor) -> np.ndarray:
        return np.array(y.numpy())


PEERS = (Keras,)
