"""From a graph to the file of an ONNX model."""

from __future__ import annotations

import json
from typing import Literal

import numpy as np

from cylstm._version import __version__
from cylstm.errors import ArgumentError, UnsupportedError
from cylstm.formats.onnx.export.call import Call, Mask
from cylstm.formats.onnx.export.layers import EXPORTERS, REFUSED
from cylstm.formats.onnx.export.nodes import (
    IR_VERSION,
    OPSET,
    Nodes,
    node_message,
    rename,
    tensor_message,
    value_message,
)
from cylstm.formats.onnx.write_protobuf import Message
from cylstm.formats.whole_file import whole_file
from cylstm.graph.graph import Graph, Layer
from cylstm.graph.values import Axis, Value

#: what a protobuf message holds
MOST_BYTES = (1 << 31) - 1

#: how a file takes which steps count
Steps = Literal["all", "lengths", "mask"]


def write_onnx(graph: Graph, path: str, dtype: np.dtype, *, states: bool, steps: Steps) -> None:
    """Write a graph as an ONNX model; see `cylstm.model.Model.export_onnx`.

    The file appears complete or not at all: it is written beside `path` under another name, then renamed.
    """
    message = onnx_message(graph, dtype, states=states, steps=steps)
    if message.size > MOST_BYTES:
        raise UnsupportedError(
            f"{path}: the model takes {message.size:,} bytes, and an ONNX file holds at most {MOST_BYTES:,}"
        )
    with whole_file(path) as file:
        for piece in message.pieces():
            file.write(piece)


def onnx_message(graph: Graph, dtype: np.dtype, *, states: bool, steps: Steps) -> Message:
    """The whole file."""
    return _Export(graph, dtype, states, steps).message()


class _Export:
    """One export: the nodes, and the inputs and outputs of the file."""

    def __init__(self, graph: Graph, dtype: np.dtype, states: bool, steps: Steps) -> None:
        self._graph = graph
        self._dtype = dtype
        labels = [f"{name}.{label}" for name, parts in graph.states() for label, _ in parts] if states else []
        extra = [f"{label}.{end}" for label in labels for end in ("initial", "final")]
        extra += [f"{name}.{steps}" for name in graph.inputs] if steps != "all" else []
        for name in extra:
            if name in graph.inputs or name in graph.outputs:
                raise UnsupportedError(
                    f"the network has an input or output {name!r}, which the export needs for itself"
                )
        self._nodes = Nodes(dtype, [*graph.inputs, *graph.outputs, *extra])
        #: value -> tensor
        self._names: dict[str, str] = {}
        self._masks: dict[str, Mask] = {}
        self._inputs: list[Message] = []
        self._outputs: list[Message] = []
        #: tensor -> the name of the output that it is
        self._ends: dict[str, str] = {}
        self._times: dict[Axis, str] = {}
        for name in graph.inputs:
            self._add_input(graph.values[name])
        for name in graph.inputs:
            self._add_steps(graph.values[name], steps)
        self._batch = self._nodes.size(graph.inputs[0], 0)
        self._carried = dict(graph.states()) if states else {}
        #: state -> its tensor after the last step, and its sizes
        self._finals: dict[str, tuple[str, list[str | int]]] = {}
        for layer in graph.layers:
            self._add_layer(layer)
        self._nodes.where = ""
        for name in graph.outputs:
            self._add_output(graph.values[name])
        for name, (tensor, shape) in self._finals.items():
            self._end(tensor, f"{name}.final", dtype.name, shape)

    def _add_layer(self, layer: Layer) -> None:
        self._nodes.where = layer.name
        if layer.kind not in EXPORTERS:
            why = REFUSED.get(layer.kind, "there is no form of this kind of layer")
            raise UnsupportedError(f"layer {layer.name!r} ({layer.kind}) cannot be exported to ONNX: {why}")
        shapes = dict(self._carried.get(layer.name, ()))
        call = Call(self._graph, layer, self._nodes, self._names, self._masks, self._batch, shapes, self._new_state)
        EXPORTERS[layer.kind](call)
        call.finish()
        for label, tensor in call.finals.items():
            self._finals[f"{layer.name}.{label}"] = (tensor, ["batch", *shapes[label]])

    def _time(self, value: Value) -> str | int:
        """The size of the time, or a name for it: those of one length share it."""
        if value.axis is None:
            return int(value.shape[0] or 0)
        if value.axis not in self._times:
            is_plain = not value.axis.rules
            of = value.axis.source if is_plain else value.name
            only = is_plain and len({axis.source for axis in self._input_axes()}) == 1
            self._times[value.axis] = "time" if only else f"{of}.time"
        return self._times[value.axis]

    def _input_axes(self) -> list[Axis]:
        axes = [self._graph.values[name].axis for name in self._graph.inputs]
        return [axis for axis in axes if axis is not None]

    def _shape(self, value: Value) -> list[str | int]:
        """Batch and sizes as the user has them."""
        sizes: list[str | int] = [self._time(value), *value.step_shape] if value.has_time else [*value.step_shape]
        layout = self._graph.layouts.get(value.name)
        return ["batch", *(sizes if layout is None else [sizes[int(axis)] for axis in layout])]

    def _add_input(self, value: Value) -> None:
        name, nodes = value.name, self._nodes
        kind = "int64" if value.kind == "index" else self._dtype.name
        self._inputs.append(value_message(name, kind, self._shape(value)))
        x = name
        layout = self._graph.layouts.get(name)
        if layout is not None:
            x = nodes.transpose(x, [0, *(1 + layout.index(axis) for axis in sorted(layout))])
            x = nodes.unsqueeze(x, *(1 + axis for axis in range(len(value.shape)) if str(axis) not in layout))
        self._names[name] = x

    def _add_steps(self, value: Value, steps: Steps) -> None:
        """Which steps of an input count."""
        if value.mask is None:
            return
        name, nodes, x = value.name, self._nodes, self._names[value.name]
        mask = Mask(None, x)
        is_read = any(value.mask in layer.inputs.values() for layer in self._graph.layers)
        if steps == "mask" and is_read:
            mask = Mask(f"{name}.mask", x)
            self._inputs.append(value_message(f"{name}.mask", "bool", ["batch", self._time(value)]))
        elif steps == "lengths" and is_read:
            lengths = f"{name}.lengths"
            self._inputs.append(value_message(lengths, "int64", ["batch"]))
            places = nodes.unsqueeze(nodes.count_up(nodes.size(x, 1)), 0)
            mask = Mask(nodes.op("Less", places, nodes.unsqueeze(lengths, 1)), x, lengths)
        self._masks[value.mask] = mask

    def _new_state(self, label: str, shape: tuple[int, ...]) -> str:
        name = f"{label}.initial"
        self._inputs.append(value_message(name, self._dtype.name, ["batch", *shape]))
        return name

    def _add_output(self, value: Value) -> None:
        nodes, y = self._nodes, self._names[value.name]
        layout = self._graph.layouts.get(value.name)
        kind = "int64" if value.kind == "index" else self._dtype.name
        if layout is not None:
            y = nodes.squeeze(y, *(1 + axis for axis in range(len(value.shape)) if str(axis) not in layout))
            kept = sorted(layout)
            y = nodes.transpose(y, [0, *(1 + kept.index(axis) for axis in layout)])
        self._end(y, value.name, kind, self._shape(value))

    def _end(self, tensor: str, name: str, kind: str, shape: list[str | int]) -> None:
        """Make a tensor an output of the file."""
        made = {output for node in self._nodes.nodes for output in node.outputs}
        if tensor in self._ends or tensor not in made:  # an output has a name and a node of its own
            tensor = self._nodes.op("Identity", tensor)
        self._ends[tensor] = name
        self._outputs.append(value_message(name, kind, shape))

    def message(self) -> Message:
        """The model."""
        nodes = self._nodes.used(self._ends)
        rename(nodes, self._ends)
        body = Message()
        for node in nodes:
            body.add_message(1, node_message(node))
        body.add_text(2, "cylstm")
        for name, array in self._nodes.constants.items():
            body.add_message(5, tensor_message(name, array))
        for message in self._inputs:
            body.add_message(11, message)
        for message in self._outputs:
            body.add_message(12, message)
        opset = Message()
        opset.add_text(1, "")
        opset.add_int(2, OPSET)
        found = Message()
        found.add_int(1, IR_VERSION)
        found.add_text(2, "cylstm")
        found.add_text(3, __version__)
        found.add_message(7, body)
        found.add_message(8, opset)
        for key, text in self._graph.metadata.items():
            entry = Message()
            entry.add_text(1, key)
            entry.add_text(2, text if isinstance(text, str) else json.dumps(text))
            found.add_message(14, entry)
        return found


def check_steps(graph: Graph, *, lengths: bool, mask: bool) -> Steps:
    """Which of the two the file takes. Raises `ArgumentError`."""
    if lengths and mask:
        raise ArgumentError("lengths and mask: a file takes one of both, found True for both")
    steps: Steps = "lengths" if lengths else "mask" if mask else "all"
    given = {graph.values[name].mask for name in graph.inputs}
    if steps != "all" and not any(name in given for layer in graph.layers for name in layer.inputs.values()):
        raise ArgumentError(
            f"{steps}: expected False, since no layer of the network reads which steps of an input count"
        )
    return steps
