"""ONNX Runtime: LSTM, GRU or RNN nodes, inputs, outputs and states bound to memory once (IO binding).

With weights of int8 the LSTM is ``com.microsoft.DynamicQuantizeLSTM``, made by ONNX Runtime's own ``quantize_dynamic``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ._peer import Cell, Peer

#: the gates i, f, g, o of an LSTM, or r, z, n of a GRU, in ONNX's order
GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}


class OnnxRuntime(Peer):
    """Two sessions, shapes fixed: a step with states in and out, a sequence of `time` from zero states.

    A step copies its input into the bound memory and returns bound memory, which the step after the next one
    overwrites: the least that ONNX Runtime can be made to do.
    """

    name = "onnxruntime"
    kinds = tuple(GATES)

    def __init__(self, cell: Cell, *, batch: int, time: int, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        # With two or more threads its workers by default spin for a while after each run. That disturbs whoever comes
        # next, but forbidding it (session.intra_op.allow_spinning, session.force_spinning_stop) would cost this engine
        # speed, as each run would have to wake them. So it spins, as it would in use, and the benchmark waits before
        # every round of every engine until no thread of the process is busy.
        shape = (1, batch, cell.hidden_size)
        step = onnxruntime.InferenceSession(self.model(cell, batch, 1, True), options, ["CPUExecutionProvider"])
        self.x = np.zeros((1, batch, cell.input_size), np.float32)
        # the states go from one set of buffers to the other and back
        self.states = [[np.zeros(shape, np.float32) for _ in _state_names(cell)] for _ in range(2)]
        self.turns, self.turn = [], 0
        for source, target in ((0, 1), (1, 0)):
            binding = step.io_binding()
            _bind_input(binding, "x", self.x)
            for name, given, new in zip(_state_names(cell), self.states[source], self.states[target]):
                _bind_input(binding, f"{name}_given", given)
                _bind_output(binding, f"{name}_new", new)
            # the last layer's h is the output
            self.turns.append((binding, self.states[target][-cell.states]))
        self.run_step = step.run_with_iobinding

        sequence = onnxruntime.InferenceSession(self.model(cell, batch, time, False), options, ["CPUExecutionProvider"])
        self.sequence_x = np.zeros((time, batch, cell.input_size), np.float32)
        self.sequence_y = np.zeros((time, 1, batch, cell.hidden_size), np.float32)
        self.binding = sequence.io_binding()
        _bind_input(self.binding, "x", self.sequence_x)
        _bind_output(self.binding, "y", self.sequence_y)
        self.run_sequence = sequence.run_with_iobinding

    @classmethod
    def version(cls) -> str:
        return onnxruntime.__version__

    def model(self, cell: Cell, batch: int, time: int, with_states: bool) -> bytes:
        """The file of a step (with states) or of a sequence."""
        return _model(cell, batch, time, with_states)

    def reset(self) -> None:
        for arrays in self.states:
            for array in arrays:
                array[:] = 0.0

    def sequence_input(self, x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(x.transpose(1, 0, 2))

    def step(self, x: np.ndarray) -> np.ndarray:
        self.x[0] = x
        binding, y = self.turns[self.turn]
        self.turn ^= 1
        self.run_step(binding)
        return y

    def sequence(self, x: np.ndarray) -> np.ndarray:
        self.sequence_x[:] = x
        self.run_sequence(self.binding)
        return self.sequence_y

    def result(self, y: np.ndarray) -> np.ndarray:
        return np.array(y[0] if y.ndim == 3 else y[:, 0].transpose(1, 0, 2))


def _bind_input(binding, name: str, array: np.ndarray) -> None:
    binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)


def _bind_output(binding, name: str, array: np.ndarray) -> None:
    binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)


def _state_names(cell: Cell) -> list[str]:
    return [f"{state}{k}" for k in range(cell.layers) for state in "hc"[: cell.states]]


def _model(cell: Cell, batch: int, time: int, with_states: bool) -> bytes:
    """Recurrent nodes (layout (time, batch, features)) with a Squeeze between layers."""
    hidden = cell.hidden_size
    tensors, nodes, inputs, outputs = [], [], [_value("x", (time, batch, cell.input_size))], []
    if cell.layers > 1:
        tensors.append(numpy_helper.from_array(np.array([1], np.int64), "direction_axis"))
    source = "x"
    for k in range(cell.layers):
        weight_ih, weight_hh, bias_ih, bias_hh = (_reordered(tensor, cell.kind) for tensor in cell.layer(k))
        tensors.append(numpy_helper.from_array(weight_ih[np.newaxis], f"W{k}"))
        tensors.append(numpy_helper.from_array(weight_hh[np.newaxis], f"R{k}"))
        tensors.append(numpy_helper.from_array(np.concatenate([bias_ih, bias_hh])[np.newaxis], f"B{k}"))
        is_last = k == cell.layers - 1
        reads, writes = [source, f"W{k}", f"R{k}", f"B{k}"], ["y" if is_last else f"y{k}"]
        if with_states:
            states = "hc"[: cell.states]
            reads += ["", *(f"{state}{k}_given" for state in states)]
            writes = ["" if is_last else f"y{k}", *(f"{state}{k}_new" for state in states)]
            inputs += [_value(name, (1, batch, hidden)) for name in reads[-cell.states :]]
            outputs += [_value(name, (1, batch, hidden)) for name in writes[-cell.states :]]
        # PyTorch's GRU applies r after the recurrent product
        options = {"linear_before_reset": 1} if cell.kind == "gru" else {}
        nodes.append(helper.make_node(cell.kind.upper(), reads, writes, hidden_size=hidden, **options))
        if not is_last:
            source = f"x{k + 1}"
            nodes.append(helper.make_node("Squeeze", [f"y{k}", "direction_axis"], [source]))
    if not with_states:
        outputs.append(_value("y", (time, 1, batch, hidden)))
    graph = helper.make_graph(nodes, cell.kind, inputs, outputs, tensors)
    # the oldest versions that have these operators: every ONNX Runtime of the last years reads them
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _value(name: str, shape: tuple[int, ...]):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _reordered(tensor: np.ndarray, kind: str) -> np.ndarray:
    """The gate blocks of the first axis in ONNX's order."""
    blocks = np.split(tensor, len(GATES[kind]))
    return np.concatenate([blocks[gate] for gate in GATES[kind]])


class OnnxRuntimeInt8(OnnxRuntime):
    """Weights of int8 with a scale for each row; it has such an operator for LSTMs only."""

    name = "onnxruntime int8"
    kinds = ("lstm",)
    dtype = "int8"
    tolerance = 0.05

    def model(self, cell: Cell, batch: int, time: int, with_states: bool) -> bytes:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with tempfile.TemporaryDirectory() as folder:
            given, made = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
            given.write_bytes(super().model(cell, batch, time, with_states))
            quantize_dynamic(given, made, per_channel=True, weight_type=QuantType.QInt8)
            model = onnx.load(made)
        if not all(node.op_type in ("DynamicQuantizeLSTM", "Squeeze") for node in model.graph.node):
            raise NotImplementedError("quantize_dynamic left a layer in float32")
        return model.SerializeToString()


QUANTISED = (OnnxRuntimeInt8,)
PEERS = (OnnxRuntime,)
