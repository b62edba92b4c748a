"""NumPy: the LSTM as someone who knows NumPy would write it by hand."""

from __future__ import annotations

import numpy as np
import threadpoolctl

from ._peer import Cell, Peer


class Layer:
    """One layer; its gates in the order i, f, o, g, so that the three sigmoids are one block.

    One tanh does all four: sigmoid(x) = 0.5 + 0.5 * tanh(0.5 * x), and the inner 0.5 is folded, exactly, into the
    weights.
    """

    def __init__(self, weight_ih, weight_hh, bias_ih, bias_hh, batch: int) -> None:
        hidden = self.hidden = weight_hh.shape[1]
        order = np.r_[0 : 2 * hidden, 3 * hidden : 4 * hidden, 2 * hidden : 3 * hidden]
        scale = np.repeat(np.float32([0.5, 0.5, 0.5, 1.0]), hidden)[:, np.newaxis]
        self.weight_ih = np.ascontiguousarray((weight_ih[order] * scale).T)
        self.weight_hh = np.ascontiguousarray((weight_hh[order] * scale).T)
        self.bias = (bias_ih + bias_hh)[order] * scale[:, 0]
        # one product a step: [x, h, 1] times the three stacked
        self.stacked = np.vstack([self.weight_ih, self.weight_hh, self.bias])
        self.z = np.zeros((batch, len(self.stacked)), np.float32)
        self.z[:, -1] = 1.0
        self.z_x, self.z_h = self.z[:, : weight_ih.shape[1]], self.z[:, weight_ih.shape[1] : -1]
        self.c = np.zeros((batch, hidden), np.float32)
        self.gates = np.empty((batch, 4 * hidden), np.float32)
        self.sigmoids = self.gates[:, : 3 * hidden]
        self.i, self.f, self.o, self.g = np.split(self.gates, 4, axis=1)

    def cell(self, h: np.ndarray, c: np.ndarray) -> None:
        """Activations and state from `gates`, into `h` and `c`."""
        np.tanh(self.gates, out=self.gates)
        self.sigmoids *= 0.5
        self.sigmoids += 0.5
        c *= self.f
        self.g *= self.i
        c += self.g
        np.tanh(c, out=h)
        h *= self.o

    def step(self, x: np.ndarray) -> np.ndarray:
        self.z_x[:] = x
        np.dot(self.z, self.stacked, out=self.gates)
        h = np.empty_like(self.c)
        self.cell(h, self.c)
        self.z_h[:] = h
        return h

    def sequence(self, x: np.ndarray) -> np.ndarray:
        batch, time, features = x.shape
        projected = x.reshape(batch * time, features) @ self.weight_ih
        projected += self.bias
        projected = projected.reshape(batch, time, -1)
        y = np.empty((batch, time, self.hidden), np.float32)
        h, c = np.zeros((2, batch, self.hidden), np.float32)
        for t in range(time):
            np.dot(h, self.weight_hh, out=self.gates)
            self.gates += projected[:, t]
            self.cell(h, c)
            y[:, t] = h
        return y


class Numpy(Peer):
    """float32 throughout, buffers reused, one matrix product a step; a sequence's input half is one product."""

    name = "numpy"

    def __init__(self, cell: Cell, *, batch: int, time: int, threads: int) -> None:
        # for the rest of the process, and so for engine="blas" too: every engine gets the same number
        threadpoolctl.threadpool_limits(threads, user_api="blas")
        self.layers = [Layer(*cell.layer(k), batch) for k in range(cell.layers)]

    @classmethod
    def version(cls) -> str:
        blas = [info for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"]
        names = [f"{info['internal_api']} {info['version']} for {info.get('architecture')}" for info in blas]
        return ", ".join([np.__version__, *names])

    def reset(self) -> None:
        for layer in self.layers:
            layer.z_h[:] = 0.0
            layer.c[:] = 0.0

    def step(self, x: np.ndarray) -> np.ndarray:
        for layer in self.layers:
            x = layer.step(x)
        return x

    def sequence(self, x: np.ndarray) -> np.ndarray:
        for layer in self.layers:
            x = layer.sequence(x)
        return x


PEERS = (Numpy,)
