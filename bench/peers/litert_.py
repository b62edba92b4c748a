"""LiteRT (TensorFlow Lite), in three forms, its graphs written without TensorFlow; on its delegate XNNPACK.

Each form also with "dynamic range" weights: int8, the activations quantised at each call. A FULLY_CONNECTED then has a
scale for each row, which XNNPACK takes; the whole LSTM has one for each gate's matrix, which is all that it knows.
"""

from __future__ import annotations

from importlib.metadata import version

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from ._peer import Cell, Peer


class LiteRt(Peer):
    """Two graphs, shapes fixed: a step with states in and out, a sequence of `time` from zero states.

    A step's gates are two FULLY_CONNECTED over input and state together, all of whose operations XNNPACK takes. A
    sequence is LiteRT's own UNIDIRECTIONAL_SEQUENCE_LSTM, what TensorFlow's converter makes of ``keras.layers.LSTM``.
    The interpreter copies what goes in and out.
    """

    name = "litert"

    def __init__(self, cell: Cell, *, batch: int, time: int, threads: int) -> None:
        self.shape = (batch, cell.hidden_size)
        is_int8 = self.dtype == "int8"
        self.stepper = Interpreter(model_content=_step_graph(cell, batch, is_int8), num_threads=threads)
        self.stepper.allocate_tensors()
        self.x_index, *self.given = (detail["index"] for detail in self.stepper.get_input_details())
        self.new = [detail["index"] for detail in self.stepper.get_output_details()]
        self.runner = Interpreter(model_content=_sequence_graph(cell, batch, time, is_int8), num_threads=threads)
        self.runner.allocate_tensors()
        self.sequence_x = self.runner.get_input_details()[0]["index"]
        self.sequence_y = self.runner.get_output_details()[0]["index"]
        self.reset()

    @classmethod
    def version(cls) -> str:
        return version("ai-edge-litert")

    def reset(self) -> None:
        self.states = [np.zeros(self.shape, np.float32) for _ in self.given]

    def sequence_input(self, x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(x.transpose(1, 0, 2))

    def step(self, x: np.ndarray) -> np.ndarray:
        stepper = self.stepper
        stepper.set_tensor(self.x_index, x)
        for index, state in zip(self.given, self.states):
            stepper.set_tensor(index, state)
        stepper.invoke()
        self.states = [stepper.get_tensor(index) for index in self.new]
        return self.states[-2]

    def sequence(self, x: np.ndarray) -> np.ndarray:
        self.runner.reset_all_variables()
        self.runner.set_tensor(self.sequence_x, x)
        self.runner.invoke()
        return self.runner.get_tensor(self.sequence_y)

    def result(self, y: np.ndarray) -> np.ndarray:
        return np.array(y if y.ndim == 2 else y.transpose(1, 0, 2))


class LiteRtFused(LiteRt):
    """A step of LiteRT's own operator for a whole LSTM, which keeps its states in variables between calls.

    It moves only x in and y out, so that it is LiteRT's fastest step for small layers; for large ones the products
    that XNNPACK takes over from the other graph count for more.
    """

    name = "litert fused"
    modes = ("step",)

    def __init__(self, cell: Cell, *, batch: int, time: int, threads: int) -> None:
        graph = _sequence_graph(cell, batch, 1, self.dtype == "int8")
        self.stepper = Interpreter(model_content=graph, num_threads=threads)
        self.stepper.allocate_tensors()
        self.x_index = self.stepper.get_input_details()[0]["index"]
        self.y_index = self.stepper.get_output_details()[0]["index"]
        self.reset()

    def reset(self) -> None:
        self.stepper.reset_all_variables()

    def step_input(self, x: np.ndarray) -> np.ndarray:
        return x[np.newaxis]

    def step(self, x: np.ndarray) -> np.ndarray:
        stepper = self.stepper
        stepper.set_tensor(self.x_index, x)
        stepper.invoke()
        return stepper.get_tensor(self.y_index)

    def result(self, y: np.ndarray) -> np.ndarray:
        return np.array(y[0])


class LiteRtSteps(LiteRt):
    """A sequence as `time` calls of the step's graph: more calls, but XNNPACK's products."""

    name = "litert steps"
    modes = ("sequence",)

    def sequence(self, x: np.ndarray) -> np.ndarray:
        self.reset()
        y = np.empty((len(x), *self.shape), np.float32)
        for t in range(len(x)):
            y[t] = self.step(x[t])
        return y


class Graph:
    """A ``.tflite`` graph in the making, its tensors of float32, its weights perhaps of int8."""

    def __init__(self, is_int8: bool = False) -> None:
        self.is_int8 = is_int8
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]  # the first one is empty, for tensors that are computed
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []

    def tensor(self, shape: tuple[int, ...], *, is_variable: bool = False) -> int:
        tensor = schema.TensorT()
        tensor.name = f"t{len(self.graph.tensors)}"
        tensor.shape, tensor.type, tensor.isVariable = list(shape), schema.TensorType.FLOAT32, is_variable
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, array: np.ndarray) -> int:
        index = self.tensor(array.shape)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self.graph.tensors[index].buffer = len(self.model.buffers)
        if array.dtype == np.int32:
            self.graph.tensors[index].type = schema.TensorType.INT32
        self.model.buffers.append(buffer)
        return index

    def weights(self, array: np.ndarray, *, by_row: bool = False) -> int:
        """A matrix, in int8 with one scale or with one for each row where the graph has such weights."""
        if not self.is_int8:
            return self.constant(array)
        scales = np.abs(array).max(axis=1 if by_row else None, keepdims=True) / 127.0
        scales = np.where(scales > 0, scales, 1.0).astype(np.float32)
        index = self.constant(np.rint(array / scales).astype(np.int8))
        tensor = self.graph.tensors[index]
        tensor.type, tensor.quantization = schema.TensorType.INT8, schema.QuantizationParametersT()
        tensor.quantization.scale = scales.ravel().tolist()
        tensor.quantization.zeroPoint = [0] * scales.size
        tensor.quantization.quantizedDimension = 0
        return index

    def add(self, name: str, inputs: list[int], outputs: list[int], options: str = "", **values) -> None:
        """An operator; `options` names its table of options and `values` fills that."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode, code.version = code.builtinCode, 1
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes)
        operator.inputs, operator.outputs = inputs, outputs
        if options:
            operator.builtinOptions = getattr(schema, f"{options}T")()
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            for key, value in values.items():
                setattr(operator.builtinOptions, key, value)
        self.model.operatorCodes.append(code)
        self.graph.operators.append(operator)

    def finish(self, inputs: list[int], outputs: list[int]) -> bytes:
        self.graph.inputs, self.graph.outputs = inputs, outputs
        self.model.subgraphs = [self.graph]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _step_graph(cell: Cell, batch: int, is_int8: bool = False) -> bytes:
    """Inputs x, h0, c0, h1, ...; outputs h0, c0, h1, ...."""
    graph, hidden = Graph(is_int8), cell.hidden_size
    shape = (batch, hidden)
    x = graph.tensor((batch, cell.input_size))
    inputs, outputs = [x], []
    axis = graph.constant(np.array(1, np.int32))

    def result(name: str, reads: list[int], shape=shape, options: str = "", **values) -> int:
        index = graph.tensor(shape)
        graph.add(name, reads, [index], options, **values)
        return index

    for k in range(cell.layers):
        weight_ih, weight_hh, bias_ih, bias_hh = cell.layer(k)
        i, f, g, o = np.split(np.hstack([weight_ih, weight_hh, (bias_ih + bias_hh)[:, np.newaxis]]), 4)
        h, c = graph.tensor(shape), graph.tensor(shape)
        inputs += [h, c]
        size = weight_ih.shape[1] + hidden
        both = result("CONCATENATION", [x, h], (batch, size), "ConcatenationOptions", axis=1)

        def product(weights: np.ndarray, both: int = both) -> int:
            reads = [both, graph.weights(weights[:, :-1], by_row=True), graph.constant(weights[:, -1])]
            options = {"asymmetricQuantizeInputs": True} if is_int8 else {}
            return result("FULLY_CONNECTED", reads, (batch, len(weights)), "FullyConnectedOptions", **options)

        sigmoids = result("LOGISTIC", [product(np.vstack([i, f, o]))], (batch, 3 * hidden))
        gates = [graph.tensor(shape) for _ in range(3)]
        graph.add("SPLIT", [axis, sigmoids], gates, "SplitOptions", numSplits=3)
        candidate = result("MUL", [gates[0], result("TANH", [product(g)])], options="MulOptions")
        c = result("ADD", [candidate, result("MUL", [gates[1], c], options="MulOptions")], options="AddOptions")
        x = result("MUL", [gates[2], result("TANH", [c])], options="MulOptions")
        outputs += [x, c]
    return graph.finish(inputs, outputs)


def _sequence_graph(cell: Cell, batch: int, time: int, is_int8: bool = False) -> bytes:
    """Input (time, batch, input), output (time, batch, hidden)."""
    graph, hidden = Graph(is_int8), cell.hidden_size
    y = x = graph.tensor((time, batch, cell.input_size))
    for k in range(cell.layers):
        weight_ih, weight_hh, bias_ih, bias_hh = cell.layer(k)
        # gates in the order i, f, g, o; -1 for peepholes, projection and normalisation, which there are not
        weights = [graph.weights(part) for tensor in (weight_ih, weight_hh) for part in np.split(tensor, 4)]
        biases = [graph.constant(part) for part in np.split(bias_ih + bias_hh, 4)]
        states = [graph.tensor((batch, hidden), is_variable=True) for _ in range(2)]
        reads = [y, *weights, -1, -1, -1, *biases, -1, -1, *states, -1, -1, -1, -1]
        y = graph.tensor((time, batch, hidden))
        options = {"fusedActivationFunction": schema.ActivationFunctionType.TANH, "timeMajor": True}
        if is_int8:
            options["asymmetricQuantizeInputs"] = True
        graph.add("UNIDIRECTIONAL_SEQUENCE_LSTM", reads, [y], "UnidirectionalSequenceLSTMOptions", **options)
    return graph.finish([x], [y])


class LiteRtInt8(LiteRt):
    name = "litert int8"
    dtype = "int8"
    tolerance = 0.05


class LiteRtFusedInt8(LiteRtFused):
    name = "litert fused int8"
    dtype = "int8"
    tolerance = 0.05


class LiteRtStepsInt8(LiteRtSteps):
    name = "litert steps int8"
    dtype = "int8"
    tolerance = 0.05


QUANTISED = (LiteRtInt8, LiteRtFusedInt8, LiteRtStepsInt8)
PEERS = (LiteRt, LiteRtFused, LiteRtSteps)
