"""Cells of recurrent networks that a program writes out as products, gates and sums, as layers.

Exporters write an LSTM or a GRU cell as ``x W + h R + b``, parts of it, sigmoids, tanhs, products and sums. Where these
compute exactly one cell it becomes one layer of one step; anything else stays what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cylstm.graph.graph import Graph, Layer
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.values import Option

#: name, alpha and beta of an activation
_Function = tuple[str, float, float]


@dataclass(frozen=True, eq=False)
class _Affine:
    """The sum of matrices times values, and a bias.

    Attributes
    ----------
    terms : dict
        Value -> matrix (size, size of the value).
    bias : numpy.ndarray
    """

    terms: Mapping[str, np.ndarray]
    bias: np.ndarray

    def rows(self, places: np.ndarray) -> _Affine:
        return _Affine({name: matrix[places] for name, matrix in self.terms.items()}, self.bias[places])


class _Plain(NamedTuple):
    """A value, or several side by side, each with its size."""

    parts: tuple[tuple[str, int], ...]


class _Gate(NamedTuple):
    """An activation of an affine map."""

    function: _Function
    of: _Affine

    def rows(self, places: np.ndarray) -> _Gate:
        return _Gate(self.function, self.of.rows(places))


_LINEAR: _Function = ("linear", 0.0, 0.0)


class _Found(NamedTuple):
    """A cell: the layer to add and the values that its states become."""

    kind: str
    inputs: tuple[str, ...]
    states: dict[str, str]
    weights: dict[str, np.ndarray]
    options: dict[str, Option]
    results: dict[str, str]


def with_cells(graph: Graph) -> Graph:
    """The graph with each LSTM or GRU cell that is written out as one layer."""
    return _Cells(graph).replaced()


@dataclass(frozen=True, eq=False)
class Cell:
    """The one cell that a graph of one step is.

    Attributes
    ----------
    kind : {"lstm", "gru", "rnn"}
    inputs : tuple of str
        The graph's inputs that it reads as x, side by side.
    states : dict
        ``h0`` and ``c0``: the graph's inputs that are its states.
    results : dict
        ``h`` and ``c``: the values that these become.
    weights : dict
        Role -> array, in the canonical layout.
    options : dict
    resolve : callable
        The value that a value is a copy of.
    """

    kind: str
    inputs: tuple[str, ...]
    states: Mapping[str, str]
    results: Mapping[str, str]
    weights: Mapping[str, np.ndarray]
    options: Mapping[str, Option]
    resolve: Callable[[str], str]


def cell_of(graph: Graph, states: Mapping[str, str]) -> Cell | None:
    """The one cell that a graph of one step is; None if it is none.

    Parameters
    ----------
    graph : Graph
        Of vectors: its inputs are x and the states, its outputs what these become.
    states : mapping
        Input that is a state -> the output that it becomes.
    """
    cells = _Cells(graph)
    becomes = {name: cells.copied(result) for name, result in states.items()}
    for name, result in becomes.items():
        layer = cells.makers.get(result)
        found = None if layer is None else cells.lstm(layer) or cells.gru(layer) if layer.kind == "merge" else None
        found = found or cells.rnn(result, name)
        if found is None or not found.inputs:
            continue
        pairs = {found.states[f"{role}0"]: one for role, one in found.results.items()}
        if pairs == becomes and not set(found.inputs) & set(states) and set(found.inputs) <= set(graph.inputs):
            results = found.results
            return Cell(
                found.kind, found.inputs, found.states, results, found.weights, found.options, cells.copied
            )  # fmt: skip
    return None


def with_biases(graph: Graph) -> Graph:
    """The graph with what is added to a product, and to nothing else, as the bias of its layer."""
    readers: dict[str, int] = {}
    for name in (*graph.outputs, *(name for layer in graph.layers for name in layer.inputs.values())):
        readers[name] = readers.get(name, 0) + 1
    makers = {name: layer for layer in graph.layers for name in layer.outputs.values()}
    tensors, values = dict(graph.tensors), dict(graph.values)
    replaced: dict[str, Layer] = {}
    for layer in graph.layers:
        product = makers.get(layer.inputs.get("x", ""))
        if layer.kind != "batch_norm" or product is None or product.kind != "dense":
            continue
        gain, shift = _gain_and_shift(layer, graph.layer_tensors(layer))
        if (gain != 1).any() or readers[product.outputs["y"]] > 1 or _function(product.options) != _LINEAR:
            continue
        weights = {"weight": product.weights["weight"], "bias": f"{layer.name}.bias"}
        before = graph.layer_tensors(product).get("bias", np.zeros(len(shift)))
        tensors[weights["bias"]] = (before + shift).astype(graph.tensors[weights["weight"]].dtype)
        replaced[product.name] = product._replace(outputs={"y": layer.outputs["y"]}, weights=weights)
        replaced[layer.name] = layer
        values.pop(product.outputs["y"])
    if not replaced:
        return graph
    layers = [replaced.get(layer.name, layer) for layer in graph.layers]
    layers = [layer for layer in layers if layer.kind != "batch_norm" or layer.name not in replaced]
    used = {name for layer in layers for name in layer.weights.values()}
    kept = {name: array for name, array in tensors.items() if name in used}
    return graph._replace(layers=tuple(layers), tensors=kept, values=values)


class _Cells:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.makers = {name: layer for layer in graph.layers for name in layer.outputs.values()}
        self.known: dict[str, _Plain | _Affine | _Gate] = {}
        #: results of cells that were found before, which are rather a cell's old state than its input
        self.results: set[str] = set()
        self.left = _MOST_NUMBERS_AT_ONCE

    # What a value is

    def is_vector(self, name: str) -> bool:
        value = self.graph.values[name]
        return not value.has_time and len(value.shape) >= 1

    def maker(self, name: str, kind: str, **options: Option) -> Layer | None:
        """The layer that makes a value, if it is of this kind."""
        layer = self.makers.get(name)
        fits = layer is not None and layer.kind == kind
        return layer if fits and all(layer.options[key] == one for key, one in options.items()) else None  # type: ignore[union-attr]

    def expression(self, name: str) -> _Plain | _Affine | _Gate:
        waiting = [name]
        while name not in self.known:
            last = waiting[-1]
            layer = self.makers.get(last)
            needed = list(layer.inputs.values()) if layer is not None and _is_seen_through(layer) else []
            missing = [one for one in needed if one not in self.known and self.is_small(one)]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            if last not in self.known:
                is_known = layer is not None and all(one in self.known for one in needed)
                found = self.of_layer(layer) if layer is not None and is_known else None
                self.known[last] = found or _Plain(((last, self.graph.values[last].size),))
        return self.known[name]

    def has_room(self, numbers: int) -> bool:
        """Whether so many more numbers may be made; those of networks without cells would have no end."""
        self.left -= numbers
        return self.left >= 0

    def is_small(self, name: str) -> bool:
        return self.graph.values[name].size <= _MOST_NUMBERS

    def affine(self, found: _Plain | _Affine | _Gate) -> _Affine | None:
        """An affine map: a value is the identity times it."""
        if not isinstance(found, _Plain):
            return found if isinstance(found, _Affine) else None
        if not self.has_room(sum(size for _, size in found.parts) ** 2):
            return None
        return _stacked([_Affine({name: np.eye(size)}, np.zeros(size)) for name, size in found.parts])

    def of_layer(self, layer: Layer) -> _Plain | _Affine | _Gate | None:
        """What a layer makes of what its inputs are; None if it is nothing of this kind."""
        result = layer.outputs.get("y")
        if not _is_seen_through(layer) or result is None or not self.is_vector(result):
            return None
        if not all(map(self.is_vector, layer.inputs.values())):
            return None
        inputs = [self.known[name] for name in layer.inputs.values()]
        tensors = {role: np.asarray(array, np.float64) for role, array in self.graph.layer_tensors(layer).items()}
        if layer.kind == "constant":
            return _Affine({}, tensors["value"].reshape(-1))
        first = inputs[0]
        if layer.kind in ("slice", "reshape", "permute", "take"):
            # a part of a value is a value of its own
            return None if isinstance(first, _Plain) else first.rows(self.places(layer, tensors))
        if layer.kind == "dense":
            is_flat = len(self.graph.values[layer.inputs["x"]].shape) == 1
            name = layer.inputs["x"]
            x = first if isinstance(first, _Plain) else _Plain(((name, self.graph.values[name].size),))
            return _of_dense(layer, x, tensors) if is_flat else None
        if layer.kind == "merge" and layer.options["mode"] == "concat":
            return self.joined(layer, inputs)
        affine = [one for one in map(self.affine, inputs) if one is not None]
        if len(affine) < len(inputs):
            return None
        if layer.kind == "merge":
            return self.added(layer, affine)
        if layer.kind == "batch_norm":
            gain, shift = _gain_and_shift(layer, tensors)
            if len(affine[0].bias) != len(gain):
                return None
            terms = {name: matrix * gain[:, np.newaxis] for name, matrix in affine[0].terms.items()}
            return _Affine(terms, affine[0].bias * gain + shift)
        function = _function(layer.options)
        return first if function == _LINEAR else _Gate(function, affine[0])

    def places(self, layer: Layer, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        """Which numbers of its input a layer that only moves numbers gives, in their order."""
        shape = self.graph.values[layer.inputs["x"]].step_shape
        places = np.arange(np.prod(shape)).reshape(shape)
        options = layer.options
        if layer.kind == "permute":
            places = places.transpose([int(one) for one in str(options["order"])])
        elif layer.kind == "take":
            places = np.take(places, tensors["indices"].astype(np.int64), axis=int(options["axis"]))
        elif layer.kind == "slice":
            axis, start, step = (int(options[key]) for key in ("axis", "start", "step"))
            size = shape[axis]
            start += size if start < 0 else 0
            count = int(options["count"])
            stop = start + (count - 1) * step + 1 if count else size - int(options["before_end"])
            places = np.take(places, np.arange(start, stop, step), axis=axis)
        return places.reshape(-1)

    def joined(self, layer: Layer, inputs: Sequence[_Plain | _Affine | _Gate]) -> _Plain | _Affine | _Gate | None:
        """Vectors side by side."""
        if any(len(self.graph.values[name].shape) != 1 for name in layer.inputs.values()):
            return None
        if all(isinstance(one, _Plain) for one in inputs):
            return _Plain(tuple(part for one in inputs if isinstance(one, _Plain) for part in one.parts))
        gates = [one for one in inputs if isinstance(one, _Gate)]
        if len(gates) == len(inputs) and len({one.function for one in gates}) == 1:
            return _Gate(gates[0].function, _stacked([one.of for one in gates]))
        affine = [one for one in map(self.affine, inputs) if one is not None]
        return _stacked(affine) if len(affine) == len(inputs) else None

    def added(self, layer: Layer, inputs: Sequence[_Affine]) -> _Affine | None:
        """A sum or a difference of vectors of one size."""
        signs = {"sum": [1.0] * len(inputs), "sub": [1.0, -1.0]}.get(str(layer.options["mode"]))
        if signs is None or len({len(one.bias) for one in inputs}) > 1:
            return None
        if not self.has_room(sum(matrix.size for one in inputs for matrix in one.terms.values())):
            return None
        terms: dict[str, np.ndarray] = {}
        bias = np.zeros(len(inputs[0].bias))
        for sign, one in zip(signs, inputs):
            bias = bias + sign * one.bias
            for name, matrix in one.terms.items():
                terms[name] = terms.get(name, 0.0) + sign * matrix
        return _Affine(terms, bias)

    # Cells

    def copied(self, name: str) -> str:
        """The value that a value is a copy of."""
        layer = self.maker(name, "activation", activation="linear")
        while layer is not None:
            name = layer.inputs["x"]
            layer = self.maker(name, "activation", activation="linear")
        return name

    def replaced(self) -> Graph:
        found: dict[str, _Found] = {}
        for layer in self.graph.layers:
            if layer.kind != "merge" or not self.is_vector(layer.outputs["y"]):
                continue
            self.known.clear()
            self.left = _MOST_NUMBERS_AT_ONCE
            cell = self.lstm(layer) or self.gru(layer)
            if cell is not None and not self.results & set(cell.results.values()) and _is_worth_it(cell):
                found[layer.outputs["y"]] = cell
                self.results |= set(cell.results.values())
        return self.rebuilt(found) if found else self.graph

    def operands(self, name: str, mode: str) -> list[str] | None:
        """The two values whose sum or product a value is."""
        layer = self.maker(name, "merge", mode=mode)
        operands = [] if layer is None else [layer.inputs[role] for role in sorted(layer.inputs)]
        shapes = {self.graph.values[one].shape for one in operands}
        return operands if len(operands) == 2 and len(shapes) == 1 and len(shapes.pop()) == 1 else None

    def gate(self, name: str) -> _Gate | None:
        found = self.expression(name) if self.is_small(name) else None
        return found if isinstance(found, _Gate) and found.function[0] != "softmax" else None

    def lstm(self, layer: Layer) -> _Found | None:
        """h = o f(c), c = f c0 + i g."""
        result = layer.outputs["y"]
        for out, squashed in _both_ways(self.operands(result, "mul")):
            squash = self.maker(squashed, "activation")
            new = "" if squash is None else squash.inputs["x"]
            for kept, added in _both_ways(self.operands(new, "sum")):
                pairs = self.operands(kept, "mul"), self.operands(added, "mul")
                if squash is None or pairs[0] is None or pairs[1] is None:
                    continue
                o = self.gate(out)
                for forget, old in _both_ways(pairs[0]):
                    f = self.gate(forget)
                    if o is None or f is None or self.gate(old) is not None or f.function != o.function:
                        continue
                    for gate, candidate in _both_ways(pairs[1]):
                        i, g = self.gate(gate), self.gate(candidate)
                        if i is None or g is None or i.function != f.function:
                            continue
                        affine = [i.of, f.of, g.of, o.of]
                        hidden = self.old_state(affine, len(o.of.bias), {old})
                        if hidden is None:
                            continue
                        options = {
                            **_options("recurrent_activation", f.function),
                            **_options("activation", g.function),
                            **_options("output_activation", _function(squash.options)),
                        }
                        inputs, weights, bias = self.weights(affine, hidden)
                        states = {"h0": hidden, "c0": old}
                        return _Found("lstm", inputs, states, {**weights, "bias": bias}, options,
                                      {"h": result, "c": new})  # fmt: skip
        return None

    def rnn(self, result: str, hidden: str) -> _Found | None:
        """h = f(W x + R h0 + b)."""
        gate = self.expression(result) if self.is_small(result) else None
        function, affine = gate if isinstance(gate, _Gate) else (_LINEAR, gate)
        if not isinstance(affine, _Affine) or function[0] == "softmax" or hidden not in affine.terms:
            return None
        inputs, weights, bias = self.weights([affine], hidden)
        options = _options("activation", function)
        return _Found("rnn", inputs, {"h0": hidden}, {**weights, "bias": bias}, options, {"h": result})

    def gru(self, layer: Layer) -> _Found | None:
        """h = z h0 + (1 - z) n, or n + z (h0 - n)."""
        result = layer.outputs["y"]
        for one, other in _both_ways(self.operands(result, "sum")):
            for a, b in _both_ways(self.operands(one, "mul")):
                z = self.gate(a)
                if z is None:
                    continue
                difference = self.operands(b, "sub")
                if difference is not None and difference[1] == other:
                    found = self.gru_of(result, z, difference[0], other)
                    if found is not None:
                        return found
                for c, new in _both_ways(self.operands(other, "mul")):
                    if self.is_complement(c, a):
                        found = self.gru_of(result, z, b, new)
                        if found is not None:
                            return found
        return None

    def is_complement(self, name: str, of: str) -> bool:
        """Whether a value is 1 - another."""
        scaled = self.maker(name, "batch_norm")
        if scaled is not None and scaled.inputs["x"] == of:
            gain, shift = _gain_and_shift(scaled, self.graph.layer_tensors(scaled))
            return bool((gain == -1).all() and (shift == 1).all())
        layer = self.maker(name, "merge", mode="sub")
        if layer is None or layer.inputs.get("x1") != of:
            return False
        one = self.maker(layer.inputs["x"], "constant")
        return one is not None and bool((self.graph.layer_tensors(one)["value"] == 1).all())

    def gru_of(self, result: str, z: _Gate, hidden: str, new: str) -> _Found | None:
        """The cell of a gate z, an old state and a candidate n."""
        n, size = self.gate(new), len(z.of.bias)
        if n is None or self.graph.values[hidden].shape != (size,):
            return None
        for name, matrix in n.of.terms.items():
            for gate, other in _both_ways(self.operands(name, "mul")):
                r = self.gate(gate)
                if r is None or r.function != z.function:
                    continue
                own = {key: one for key, one in n.of.terms.items() if key != name}
                product = None if other == hidden else self.affine(self.expression(other))
                if hidden in own or (other != hidden and product is None):
                    continue
                if product is not None:
                    if set(product.terms) != {hidden} or not np.array_equal(matrix, np.eye(size)):
                        continue
                    matrix = product.terms[hidden]
                affine = [r.of, z.of, _Affine({**own, hidden: matrix}, n.of.bias)]
                inputs, weights, bias = self.weights(affine, hidden)
                if not inputs:
                    continue
                weights["bias_ih"] = bias
                if product is not None:
                    weights["bias_hh"] = np.concatenate([np.zeros(2 * size), product.bias]).astype(bias.dtype)
                options: dict[str, Option] = {
                    "reset_after": product is not None,
                    **_options("recurrent_activation", z.function),
                    **_options("activation", n.function),
                }
                return _Found("gru", inputs, {"h0": hidden}, weights, options, {"h": result})
        return None

    def old_state(self, affine: Sequence[_Affine], size: int, others: set[str]) -> str | None:
        """The value that is the old h: of the right size, and rather a result of a cell, or a last input."""
        names = list(dict.fromkeys(name for one in affine for name in one.terms))
        if others & set(names):
            return None  # peepholes, as they may be
        able = [name for name in names if self.graph.values[name].shape == (size,)]
        inputs = list(self.graph.inputs)
        able.sort(key=lambda name: (name in self.results, inputs.index(name) if name in inputs else -1))
        return able[-1] if able and len(names) > 1 else None

    def weights(self, affine: Sequence[_Affine], hidden: str) -> tuple[tuple[str, ...], dict[str, Any], np.ndarray]:
        """The inputs, their weights and those of the old state, and the bias, of gates one below the other."""
        whole = _stacked(affine)
        inputs = tuple(name for name in whole.terms if name != hidden)
        dtype = next((np.asarray(one).dtype for one in self.graph.tensors.values()), np.dtype(np.float32))
        matrices = [whole.terms[name] for name in inputs]
        rows, size = len(whole.bias), self.graph.values[hidden].size
        recurrent = whole.terms.get(hidden, np.zeros((rows, size)))
        weights = {"weight_hh": recurrent.astype(dtype)}
        if matrices:
            weights["weight_ih"] = np.concatenate(matrices, axis=1).astype(dtype)
        return inputs, weights, whole.bias.astype(dtype)

    # The graph

    def rebuilt(self, found: Mapping[str, _Found]) -> Graph:
        values, tensors = dict(self.graph.values), dict(self.graph.tensors)
        replaced = {name: cell for cell in found.values() for name in cell.results.values()}
        layers: list[Layer] = []
        shared: dict[str, list[str]] = {}
        alias: dict[str, str] = {}

        def tensor(name: str, role: str, array: np.ndarray) -> str:
            """The name of a weight, the same for steps with the same numbers."""
            for known in shared.setdefault(role, []):
                if np.array_equal(tensors[known], array):
                    return known
            tensors[f"{name}.{role}"] = np.ascontiguousarray(array)
            shared[role].append(f"{name}.{role}")
            return f"{name}.{role}"

        def add(
            kind: str,
            name: str,
            inputs: Mapping[str, str],
            outputs: Mapping[str, str],
            weights: Mapping[str, np.ndarray] | None = None,
            options: Mapping[str, Option] | None = None,
        ) -> None:
            spec, weights = LAYER_KINDS[kind], weights or {}
            chosen = {**spec.defaults, **(options or {})}
            read = {role: values[one] for role, one in inputs.items()}
            spec.check_roles(name, read, weights)
            for role, value in spec.infer(name, read, weights, chosen).items():
                values[outputs[role]] = value._replace(name=outputs[role])
            stored = {role: tensor(name, role, array) for role, array in weights.items()}
            layers.append(Layer(kind, name, inputs, outputs, stored, chosen))

        for layer in self.graph.layers:
            mine = next((name for name in layer.outputs.values() if name in replaced), None)
            if mine is None:
                layers.append(layer)
                continue
            cell = replaced[mine]
            if mine != cell.results["h"]:
                continue  # c, which the cell gives itself
            name = f"{layer.name}.cell"
            source = cell.inputs[0]
            if len(cell.inputs) > 1:
                source = f"{name}.inputs"
                roles = {f"x{k or ''}": one for k, one in enumerate(cell.inputs)}
                add("merge", source, roles, {"y": source}, options={"mode": "concat"})
            step = f"{name}.step"
            add("reshape", step, {"x": source}, {"y": step}, options={"shape": f"1,{values[source].size}"})
            outputs = {"y": name, **{role: f"{name}.{role}" for role in cell.results}}
            add(cell.kind, name, {"x": step, **cell.states}, outputs, cell.weights, cell.options)
            for role, result in cell.results.items():
                if result in self.graph.outputs:
                    add("activation", result, {"x": outputs[role]}, {"y": result})
                else:
                    alias[result] = outputs[role]
        layers = [
            layer._replace(inputs={role: alias.get(name, name) for role, name in layer.inputs.items()})
            for layer in layers
        ]
        layers = _in_order(layers, self.graph.outputs)
        written = {name for layer in layers for name in layer.outputs.values()}
        kept = {value.mask for value in map(values.__getitem__, self.graph.inputs)} | set(self.graph.inputs) | written
        used = {name for layer in layers for name in layer.weights.values()}
        return self.graph._replace(
            values={name: value for name, value in values.items() if name in kept},
            layers=tuple(layers),
            tensors={name: array for name, array in tensors.items() if name in used},
        )


def _is_worth_it(cell: _Found) -> bool:
    """Whether the cell's product with its input is one of the program too.

    Where that was computed before, for all steps at once, the cell multiplies by ones and zeros instead, which costs
    more than its layers from some size on.
    """
    weight = cell.weights["weight_ih"]
    return len(weight) <= _MOST_SELECTED or not bool(((weight == 0) | (weight == 1)).all())


#: rows of such a product
_MOST_SELECTED = 256


def _in_order(layers: Sequence[Layer], outputs: Sequence[str]) -> list[Layer]:
    """The layers that outputs need, each after those that it reads: c was computed before h."""
    makers = {name: layer for layer in layers for name in layer.outputs.values()}
    ordered: list[Layer] = []
    done: set[str] = set()
    waiting = list(reversed(outputs))
    while waiting:
        name = waiting[-1]
        layer = makers.get(name)
        if layer is None or layer.name in done:
            waiting.pop()
            continue
        missing = [one for one in layer.inputs.values() if one in makers and makers[one].name not in done]
        if missing:
            waiting += reversed(missing)
            continue
        waiting.pop()
        done.add(layer.name)
        ordered.append(layer)
    return ordered


#: the kinds of layers whose results are affine maps or gates of what they read
_SEEN_THROUGH = frozenset(
    ("activation", "batch_norm", "constant", "dense", "merge", "permute", "reshape", "slice", "take")
)
#: numbers of the largest value that is looked into, and of all matrices for one cell
_MOST_NUMBERS = 4096
_MOST_NUMBERS_AT_ONCE = 1 << 24


def _is_seen_through(layer: Layer) -> bool:
    """Whether its result is looked at as what it makes of its inputs; a product of two values is a value of its own."""
    return layer.kind in _SEEN_THROUGH and (layer.kind != "merge" or layer.options["mode"] in ("concat", "sum", "sub"))


def _stacked(parts: Sequence[_Affine]) -> _Affine:
    """Affine maps one below the other."""
    names = dict.fromkeys(name for one in parts for name in one.terms)
    terms = {}
    for name in names:
        width = next(one.terms[name].shape[1] for one in parts if name in one.terms)
        terms[name] = np.concatenate([one.terms.get(name, np.zeros((len(one.bias), width))) for one in parts])
    return _Affine(terms, np.concatenate([one.bias for one in parts]))


def _of_dense(layer: Layer, x: _Plain, tensors: Mapping[str, np.ndarray]) -> _Affine | _Gate:
    weight = tensors["weight"]
    terms: dict[str, Any] = {}
    start = 0
    for name, size in x.parts:
        terms[name] = terms.get(name, 0.0) + weight[:, start : start + size]
        start += size
    found = _Affine(terms, tensors.get("bias", np.zeros(len(weight))))
    function = _function(layer.options)
    return found if function == _LINEAR else _Gate(function, found)


def _gain_and_shift(layer: Layer, tensors: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """What a batch_norm multiplies by and adds."""
    tensors = {role: np.asarray(array, np.float64) for role, array in tensors.items()}
    gain = tensors.get("gain", np.ones(())) / np.sqrt(tensors["variance"] + float(layer.options["epsilon"]))
    return gain, tensors.get("shift", np.zeros(())) - tensors["mean"] * gain


def _both_ways(pair: Sequence[str] | None) -> list[tuple[str, str]]:
    return [] if pair is None else [(pair[0], pair[1]), (pair[1], pair[0])]


def _function(options: Mapping[str, Option]) -> _Function:
    found = str(options["activation"])
    return (
        _LINEAR if found == "linear" else (found, float(options["activation_alpha"]), float(options["activation_beta"]))
    )


def _options(slot: str, function: _Function) -> dict[str, Option]:
    return {slot: function[0], f"{slot}_alpha": function[1], f"{slot}_beta": function[2]}
