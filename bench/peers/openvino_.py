"""OpenVINO: LSTM cells and sequences on the CPU plugin, infer requests and their memory reused.

In float32, or in bfloat16 by the hint. Its int8 needs a calibrated graph, which another package makes: left out.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import openvino
from openvino import opset8 as ops

from ._peer import Cell, Peer


class OpenVino(Peer):
    """Two compiled models, shapes fixed: a step with states in and out, a sequence of `time` from zero states.

    Inputs, outputs and states lie in tensors that are set once. A step copies its input into one and returns another,
    which the step after the next one overwrites.
    """

    name = "openvino"
    #: by default the plugin may compute in bfloat16 where the CPU can
    precision: ClassVar[str] = "f32"

    def __init__(self, cell: Cell, *, batch: int, time: int, threads: int) -> None:
        core = openvino.Core()
        config = {
            "INFERENCE_PRECISION_HINT": self.precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        shape = (batch, cell.hidden_size)
        step = core.compile_model(_step_model(cell, batch), "CPU", config)
        self.x = np.zeros((batch, cell.input_size), np.float32)
        # the states go from one set of tensors to the other and back
        self.states = [[np.zeros(shape, np.float32) for _ in range(2 * cell.layers)] for _ in range(2)]
        self.turns, self.turn = [], 0
        for source, target in ((0, 1), (1, 0)):
            request = step.create_infer_request()
            for index, array in enumerate([self.x, *self.states[source]]):
                request.set_input_tensor(index, openvino.Tensor(array, shared_memory=True))
            for index, array in enumerate(self.states[target]):
                request.set_output_tensor(index, openvino.Tensor(array, shared_memory=True))
            # the last layer's h is the output
            self.turns.append((request, self.states[target][-2]))

        sequence = core.compile_model(_sequence_model(cell, batch, time), "CPU", config)
        self.request = sequence.create_infer_request()
        self.sequence_x = np.zeros((batch, time, cell.input_size), np.float32)
        self.sequence_y = np.zeros((batch, 1, time, cell.hidden_size), np.float32)
        self.request.set_input_tensor(0, openvino.Tensor(self.sequence_x, shared_memory=True))
        self.request.set_output_tensor(0, openvino.Tensor(self.sequence_y, shared_memory=True))

    @classmethod
    def version(cls) -> str:
        return openvino.__version__

    def reset(self) -> None:
        for arrays in self.states:
            for array in arrays:
                array[:] = 0.0

    def step(self, x: np.ndarray) -> np.ndarray:
        self.x[:] = x
        request, y = self.turns[self.turn]
        self.turn ^= 1
        request.infer(share_outputs=True)
        return y

    def sequence(self, x: np.ndarray) -> np.ndarray:
        self.sequence_x[:] = x
        self.request.infer(share_outputs=True)
        return self.sequence_y

    def result(self, y: np.ndarray) -> np.ndarray:
        return np.array(y if y.ndim == 2 else y[:, 0])


def _step_model(cell: Cell, batch: int) -> openvino.Model:
    shape = (batch, cell.hidden_size)
    y = ops.parameter((batch, cell.input_size), np.float32)
    inputs, outputs = [y], []
    for k in range(cell.layers):
        h, c = ops.parameter(shape, np.float32), ops.parameter(shape, np.float32)
        node = ops.lstm_cell(y, h, c, *_weights(cell, k), cell.hidden_size)
        y = node.output(0)
        inputs += [h, c]
        outputs += [ops.result(node.output(0)), ops.result(node.output(1))]
    return openvino.Model(outputs, inputs)


def _sequence_model(cell: Cell, batch: int, time: int) -> openvino.Model:
    x = ops.parameter((batch, time, cell.input_size), np.float32)
    zeros = np.zeros((batch, 1, cell.hidden_size), np.float32)
    lengths = np.full(batch, time, np.int32)
    y = x
    for k in range(cell.layers):
        if k:
            y = ops.squeeze(y, np.array([1]))
        weights = (array[np.newaxis] for array in _weights(cell, k))
        y = ops.lstm_sequence(y, zeros, zeros, lengths, *weights, cell.hidden_size, "forward").output(0)
    return openvino.Model([ops.result(y)], [x])


def _weights(cell: Cell, k: int) -> list[np.ndarray]:
    """W, R and the sum of the biases in OpenVINO's order of gates: f, i, c, o."""
    weight_ih, weight_hh, bias_ih, bias_hh = cell.layer(k)
    tensors = (weight_ih, weight_hh, bias_ih + bias_hh)
    return [
        np.concatenate([tensor.reshape(4, -1, *tensor.shape[1:])[gate] for gate in (1, 0, 2, 3)]) for tensor in tensors
    ]


class OpenVinoBFloat16(OpenVino):
    """Products in bfloat16, where the CPU has instructions for them."""

    name = "openvino bfloat16"
    dtype = "bfloat16"
    tolerance = 0.05
    precision = "bf16"

    def __init__(self, cell: Cell, *, batch: int, time: int, threads: int) -> None:
        if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise NotImplementedError("this CPU has no arithmetic in bfloat16")
        super().__init__(cell, batch=batch, time=time, threads=threads)


QUANTISED = (OpenVinoBFloat16,)
PEERS = (OpenVino,)
