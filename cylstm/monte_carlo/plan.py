"""The network with an input for each thing that is drawn.

What a dropout reads is multiplied by such an input, and the recurrent product of a layer with recurrent dropout reads
its state times a mask (the input ``h_mask`` of recurrent layers). With a mask for each gate, the layer reads as many
masked copies side by side, and each gate has weights for its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.errors import UnsupportedError
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.graph import Graph, Layer
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.layers.lstm import lstm_gates
from cylstm.graph.noise import RECURRENT
from cylstm.graph.passes import drop_inert_layers
from cylstm.graph.values import Value
from cylstm.monte_carlo.draws import RESULT, STATE, Draw, Role
from cylstm.monte_carlo.rates import OUTPUT
from cylstm.trace import packed_beside

if TYPE_CHECKING:
    from cylstm.model import Model


#: that the engine takes
_MOST_INPUTS = 64


class FixedTimeNeeded(Exception):
    """The steps of something that is drawn step by step follow from an input's by rules."""


class Plan:
    """The network with what is drawn as inputs, packed.

    It uses the packed weights of the model where they lie, unless a layer has a mask for each gate, or the engine is
    "blas": then it holds its own.
    """

    def __init__(self, model: Model, rates: Mapping[str, Mapping[str, Any]], times: Mapping[str, int] | None) -> None:
        self.draws: list[Draw] = []
        self.has_own_weights = False
        self.builder = GraphBuilder()
        graph = drop_inert_layers(self._rewritten(model.graph, rates, times))
        del self.builder  # which has weights
        self.graph = graph
        self.packed = packed_beside(model, graph, shares_weights=not self.has_own_weights)

    def run_bytes(self, times: Mapping[str, int]) -> int:
        """Bytes of working memory of one row with so many steps of each input of the network."""
        steps = []
        for value in self.packed.inputs:
            source = value.axis.source if value.axis is not None else value.name
            steps.append(times.get(source, int(value.shape[0] or 1)) if value.has_time else 1)
        return self.packed.run_bytes(steps)

    def _rewritten(
        self, graph: Graph, rates: Mapping[str, Mapping[str, Any]], times: Mapping[str, int] | None
    ) -> Graph:
        builder = self.builder
        found: dict[str, Value] = {}
        same_time = {} if times else dict(graph.inputs_of_one_time())
        for name in graph.inputs:
            value = graph.values[name]
            shape = (times[name], *value.shape[1:]) if times and value.shape[0] is None else value.shape
            made = builder.input(
                name,
                shape,
                masked=value.mask is not None,
                indices=value.kind == "index",
                time_of=same_time.get(name),
            )
            found[name] = made
            if value.mask is not None and made.mask is not None:
                found[value.mask] = builder.value(made.mask)
        read = {name for layer in graph.layers for name in layer.inputs.values()} | set(graph.outputs)
        for index, layer in enumerate(graph.layers):
            entries = rates.get(layer.name, {})
            self._add(graph, layer, 4 * index, entries, found)
            if entries.get(OUTPUT):
                # what is read: the sequence, or the last state alone
                role = "y" if layer.outputs.get("y") in read or "h" not in layer.outputs else "h"
                name = layer.outputs[role]
                found[name] = self._noisy(
                    layer.name, 4 * index + RESULT, OUTPUT, "dropout", found[name], "", f"{layer.name}:output_dropout"
                )
        drawn = sum(len(draw.inputs) for draw in self.draws)
        if drawn + len(graph.inputs) > _MOST_INPUTS:
            raise UnsupportedError(
                f"predict_mc: {drawn} things are drawn, of at most {_MOST_INPUTS - len(graph.inputs)} at once; leave "
                f"some without, such as rates={{{self.draws[-1].layer!r}: 0}}"
            )
        for name in graph.outputs:
            builder.output(found[name])
        # the results are given by their order, whatever the names of their values are
        return builder.build()._replace(weight_types=graph.weight_types)

    def _add(self, graph: Graph, layer: Layer, key: int, entries: Mapping[str, Any], found: dict[str, Value]) -> None:
        """One layer, with what it draws of what it reads and of its state."""
        inputs: dict[str, Value | None] = {role: found[name] for role, name in layer.inputs.items()}
        inputs.setdefault("mask", None)
        if layer.kind == "dropout" and entries:
            x = found[layer.inputs["x"]]
            form, shared = entries.get("form", "dropout"), entries.get("shared", "")
            found[layer.outputs["y"]] = self._noisy(layer.name, key, "rate", form, x, shared, layer.name)
            return
        replaced: dict[str, np.ndarray] = {}
        if layer.kind in RECURRENT and entries.get("dropout"):
            inputs["x"] = self._read_noisy(graph, layer, key, entries["masks"], found[layer.inputs["x"]], replaced)
        if layer.kind in RECURRENT and entries.get("recurrent_dropout"):
            tensors = graph.stored_tensors(layer)
            gates = _gates(layer)
            size = int(tensors["weight_hh"].shape[1])
            copies = gates if entries["masks"] == "gates" else 1
            if copies > 1:
                replaced["weight_hh"] = _block_diagonal(graph.layer_tensors(layer)["weight_hh"], gates)
            draw = Draw(key + STATE, layer.name, "recurrent_dropout", "dropout", (copies * size,), None, False)
            inputs["h_mask"] = self._input(draw, "factor", f"{layer.name}:recurrent_dropout")
        weights: dict[str, Any] = {}
        for role, name in layer.weights.items():
            if role in replaced:
                self.has_own_weights = True
                weights[role] = self.builder.tensor(f"{layer.name}:{role}", replaced[role])
                continue
            if name not in self.builder.tensors():
                self.builder.tensor(name, graph.tensors[name])
            weights[role] = name
        names = {role: self._free(name) for role, name in layer.outputs.items()}
        made = self.builder.add(layer.kind, layer.name, inputs, weights, layer.options, names)
        for role, name in layer.outputs.items():
            found[name] = made[role]

    def _free(self, name: str) -> str:
        """The name of a value, changed if a layer that multiplies has it already."""
        taken = {value.name for value in self.builder.values()}
        while name in taken:
            name += "_"
        return name

    def _read_noisy(
        self, graph: Graph, layer: Layer, key: int, masks: str, x: Value, replaced: dict[str, np.ndarray]
    ) -> Value:
        """What a recurrent layer reads, times its masks; with one for each gate as often side by side."""
        name = f"{layer.name}:dropout"
        gates = _gates(layer)
        if masks != "gates" or gates == 1:
            return self._noisy(layer.name, key, "dropout", "dropout", x, "" if masks == "steps" else "0", name)
        replaced["weight_ih"] = _block_diagonal(graph.layer_tensors(layer)["weight_ih"], gates)
        draw = Draw(key, layer.name, "dropout", "dropout", (gates * x.features,), None, False)
        mask = self._input(draw, "factor", name)
        parts: dict[str, Value | None] = {}
        for gate in range(gates):
            options = {"axis": 0, "start": gate * x.features, "count": x.features}
            part = self.builder.add("slice", f"{name}.mask{gate}", {"x": mask}, None, options)["y"]
            pair = {"x": x, "x1": part}
            product = self.builder.add("merge", f"{name}.gate{gate}", pair, None, {"mode": "mul"})["y"]
            parts[f"x{gate}" if gate else "x"] = product
        return self.builder.add("merge", f"{name}.gates", parts, None, {"mode": "concat"})["y"]

    def _noisy(self, layer: str, key: int, rate: str, form: str, x: Value, shared: str, name: str) -> Value:
        """A value times what is drawn, or with it added."""
        shape = tuple(1 if str(axis) in shared else size for axis, size in enumerate(x.shape))
        time_of = None
        if shape[0] is None:
            assert x.axis is not None
            if x.axis.rules:
                raise FixedTimeNeeded
            time_of = x.axis.source
        draw = Draw(key, layer, rate, form, shape, time_of, "b" in shared)
        roles: tuple[Role, ...] = {"additive": ("term",), "alpha": ("factor", "term")}.get(form, ("factor",))  # type: ignore[assignment]
        for role in roles:
            drawn = self._input(draw, role, f"{name}:{role}")
            mode = "mul" if role == "factor" else "sum"
            x = self.builder.add("merge", f"{name}:{mode}", {"x": x, "x1": drawn}, None, {"mode": mode})["y"]
        return x

    def _input(self, draw: Draw, role: Role, name: str) -> Value:
        """An input for what is drawn, in its shape."""
        if not draw.inputs:
            self.draws.append(draw)
        draw.inputs[role] = name = self._free(f"drawn:{name}")
        if draw.shape[0] is None:
            return self.builder.input(name, draw.shape, masked=False, time_of=draw.time_of)
        count = draw.count({})
        flat = self.builder.input(name, (count,))
        if len(draw.shape) == 1 or count == draw.shape[-1]:
            return flat
        text = ",".join(map(str, draw.shape))
        return self.builder.add("reshape", f"{name}:shape", {"x": flat}, None, {"shape": text})["y"]


def _gates(layer: Layer) -> int:
    """The gates of a recurrent layer that have weights."""
    return len(lstm_gates(layer.options)) if layer.kind == "lstm" else len(LAYER_KINDS[layer.kind].gates)


def _block_diagonal(weight: np.ndarray, gates: int) -> np.ndarray:
    """(gates * hidden, size) -> (gates * hidden, gates * size), whose gate k reads the k-th part alone."""
    rows, size = weight.shape[0] // gates, weight.shape[1]
    wide = np.zeros((weight.shape[0], gates * size), weight.dtype)
    for gate in range(gates):
        part = slice(gate * rows, (gate + 1) * rows)
        wide[part, gate * size : (gate + 1) * size] = weight[part]
    return wide
