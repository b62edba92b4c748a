"""Random networks of every kind of layer, and how they become the bytes that tests/csrc/fuzz_test.c reads.

``python -m tests.fuzz.networks`` writes ``corpora/network/built.txt``: the networks of the builders of tests and random
ones, one a line. It never changes by itself; write it again when there is a new kind of layer or option, whose words go
to the end of their kind in tests/csrc/fuzz_words.def.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
import struct
from pathlib import Path

import numpy as np

from cylstm.errors import CylstmError
from cylstm.graph.activations import ACTIVATIONS
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.functions import FUNCTIONS
from cylstm.graph.graph import Graph
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.passes import drop_inert_layers
from cylstm.graph.values import Value
from cylstm.graph.weights import WEIGHT_TYPES

from tests.builders import layers as made_layers
from tests.builders import recurrent as made_recurrent
from tests.fuzz import corpora
from tests.fuzz.dice import Dice

ROOT = Path(__file__).resolve().parents[2]
WORDS = ROOT / "tests" / "csrc" / "fuzz_words.def"
MODES = ("concat", "sum", "mul", "ave", "sub", "max", "min", "mod", "atan2", "hypot", "less", "equal", "and", "pow")


# ---- random networks ----


class _Drawing(Dice):
    """A graph that is being drawn: its builder, and the values that layers may read."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__(rng)
        self.builder = GraphBuilder()
        self.values: list[Value] = []
        self.count = 0

    def size(self) -> int:
        """Mostly small, at times around a block of 16 units or beyond."""
        return self.one_of([1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 20, 33]) if self.often(0.8) else self.whole(1, 70)

    def weight(self, *shape: int) -> np.ndarray:
        scale = self.one_of([0.3, 0.6, 1.5]) / math.sqrt(max(shape[-1], 1))
        return self.rng.uniform(-scale, scale, shape).astype(np.float32)

    def vector(self, size: int) -> np.ndarray:
        return self.rng.uniform(-0.8, 0.8, size).astype(np.float32)

    def activation(self, slot: str = "activation", *, gate: bool = False) -> dict:
        if self.often(0.6):
            return {}
        name = self.one_of([name for name in sorted(ACTIVATIONS) if not (gate and name == "softmax")])
        alpha, beta = {"hard_sigmoid": (1 / 6, 0.5), "clip": (-1.0, 1.0)}.get(name, (0.3, 0.0))
        return {slot: name, f"{slot}_alpha": alpha, f"{slot}_beta": beta}

    def add(self, kind: str, inputs: dict, weights: dict | None = None, options: dict | None = None) -> None:
        """One layer, if it can be added; its outputs may be read."""
        self.count += 1
        try:
            outputs = self.builder.add(kind, f"l{self.count}", inputs, weights or {}, options or {})
        except CylstmError:
            return
        size = [math.prod(size or 1 for size in value.shape) for value in outputs.values()]
        if max(size) <= 4000:
            self.values += outputs.values()

    def data(self) -> Value | None:
        """A value of numbers, the last ones more often."""
        found = [value for value in self.values if value.kind in ("sequence", "vector", "state")]
        return (found[-1] if self.often() else self.one_of(found)) if found else None

    def like(self, x: Value) -> Value:
        """Another value with the time of `x` if there is one."""
        found = [v for v in self.values if v.kind == x.kind and v.axis == x.axis and v.shape[:1] == x.shape[:1]]
        return self.one_of(found or [x])


def _recurrent_options(d: _Drawing) -> dict:
    return {
        "reverse": d.often(0.2),
        "padding": d.one_of(["zero", "repeat"]),
        "empty_state": d.one_of(["initial", "initial", "zero"]),
    }


def _lstm(d: _Drawing, x: Value) -> None:
    hidden, projection = d.size(), d.size() if d.often(0.2) else 0
    has_norm, coupled = d.often(0.15), d.one_of(["", "", "", "f=1-i", "i=1-f"])
    gates = 4 if not coupled else 3
    options = {**_recurrent_options(d), "coupled": coupled}
    if gates == 4 and d.often(0.1):
        options["forget_gate"], gates = False, 3
    if has_norm:
        options |= {"layer_norm": d.one_of(["output", "carried"]), "epsilon": 1e-2}
        projection = 0
    output = projection or hidden
    weights = {"weight_ih": d.weight(gates * hidden, x.features), "weight_hh": d.weight(gates * hidden, output)}
    if d.often(0.8):
        weights["bias"] = d.vector(gates * hidden)
    if projection:
        weights["weight_hr"] = d.weight(projection, hidden)
    if d.often(0.2) and not has_norm:
        left = {"f=1-i": "io", "i=1-f": "fo"}.get(coupled, "ifo" if options.get("forget_gate", True) else "io")
        weights |= {f"peephole_{gate}": d.vector(hidden) for gate in left}
    if has_norm:
        weights |= {f"norm_{of}_{part}": d.vector(gates * hidden) for of in ("ih", "hh") for part in ("gain", "shift")}
        weights |= {f"norm_c_{part}": d.vector(hidden) for part in ("gain", "shift")}
    if d.often(0.2):
        options |= {"cell_clip": 0.7, "gate_clip": 0.9}
    for slot in ("activation", "recurrent_activation", "output_activation"):
        options |= d.activation(slot, gate=True)
    d.add("lstm", {"x": x}, weights, options)


def _gru(d: _Drawing, x: Value) -> None:
    hidden, after = d.size(), d.often()
    weights = {"weight_ih": d.weight(3 * hidden, x.features), "weight_hh": d.weight(3 * hidden, hidden)}
    weights |= {role: d.vector(3 * hidden) for role in (("bias_ih", "bias_hh") if after else ("bias_ih",))}
    options = {**_recurrent_options(d), "reset_after": after}
    for slot in ("activation", "recurrent_activation"):
        options |= d.activation(slot, gate=True)
    d.add("gru", {"x": x}, weights, options)


def _rnn(d: _Drawing, x: Value) -> None:
    hidden = d.size()
    weights = {"weight_ih": d.weight(hidden, x.features), "weight_hh": d.weight(hidden, hidden)}
    weights["bias"] = d.vector(hidden)
    d.add("rnn", {"x": x}, weights, {**_recurrent_options(d), **d.activation(gate=True)})


def _conv_lstm(d: _Drawing, x: Value) -> None:
    if len(x.shape) not in (3, 4):
        return
    sizes, filters = (1, 1, *x.shape[1:])[-3:-1], d.whole(1, 6)
    kernel = [d.whole(1, min(3, size)) for size in sizes]
    options = {**_recurrent_options(d), "conv_padding": d.one_of(["same", "valid"]), "spatial_axes": len(x.shape) - 2}
    for axis, size, taps in zip(("rows", "columns"), sizes, kernel):
        options |= {f"input_{axis}": size, f"kernel_{axis}": taps, f"stride_{axis}": d.whole(1, 2)}
    taps = math.prod(kernel)
    weights = {
        "weight_ih": d.weight(4 * filters, taps * x.features),
        "weight_hh": d.weight(4 * filters, taps * filters),
    }
    d.add("conv_lstm", {"x": x}, weights | {"bias": d.vector(4 * filters)}, options)


def _dense(d: _Drawing, x: Value) -> None:
    units = d.size()
    weights = {"weight": d.weight(units, x.features)}
    d.add("dense", {"x": x}, weights | ({"bias": d.vector(units)} if d.often() else {}), d.activation())


def _window(d: _Drawing) -> dict:
    padding = d.one_of(["valid", "same", "causal", "explicit"])
    options = {"stride": d.whole(1, 3), "dilation": d.whole(1, 3), "padding": padding}
    return options | ({"pad_before": d.whole(0, 2), "pad_after": d.whole(0, 2)} if padding == "explicit" else {})


def _conv1d(d: _Drawing, x: Value) -> None:
    groups = d.one_of([1, 1, x.features])
    filters, kernel = groups * d.whole(1, 1 + 20 // groups), d.whole(1, 4)
    weights = {"weight": d.weight(filters, kernel, x.features // groups), "bias": d.vector(filters)}
    d.add("conv1d", {"x": x}, weights, {**_window(d), "groups": groups, **d.activation()})


def _conv2d(d: _Drawing, x: Value) -> None:
    filters, rows, columns = d.whole(1, 9), d.whole(1, 3), d.whole(1, 3)
    weights = {"weight": d.weight(filters, rows, columns, x.features), "bias": d.vector(filters)}
    options = {"stride_rows": d.whole(1, 2), "stride_columns": d.whole(1, 2), "dilation_columns": d.whole(1, 2)}
    d.add("conv2d", {"x": x}, weights, options | {"padding": d.one_of(["valid", "causal", "same"]), **d.activation()})


def _conv_transpose(d: _Drawing, x: Value) -> None:
    filters, rows, columns = d.whole(1, 6), d.whole(1, 3), d.whole(1, 3) if len(x.shape) == 3 else 1
    options = {"stride_rows": d.whole(1, rows), "stride_columns": d.whole(1, columns), "crop_before": d.whole(0, 1)}
    weights = {"weight": d.weight(filters, rows, columns, x.features)}
    d.add("conv_transpose", {"x": x}, weights, options)


def _pool1d(d: _Drawing, x: Value) -> None:
    options = {**_window(d), "pool": d.whole(1, 4), "mode": d.one_of(["max", "average"]), "ceil_mode": d.often(0.3)}
    d.add("pool1d", {"x": x}, {}, options | {"axis": d.whole(0, len(x.shape) - 1), "count_include_pad": d.often(0.3)})


def _norms(d: _Drawing, x: Value) -> None:
    gain = {"gain": d.vector(x.features), "shift": d.vector(x.features)}
    statistics = {"mean": d.vector(x.features), "variance": np.abs(d.vector(x.features)) + np.float32(0.1)}
    divisors = [groups for groups in range(1, x.features + 1) if x.features % groups == 0]
    kind, weights, options = d.one_of(
        [
            ("batch_norm", gain | statistics, {"epsilon": 1e-3}),
            ("layer_norm", gain, {"mode": d.one_of(["layer", "rms", "scaled"])}),
            ("group_norm", gain, {"groups": d.one_of(divisors)}),
        ]
    )
    d.add(kind, {"x": x}, weights, options)


def _numbers(d: _Drawing, x: Value) -> None:
    kind, options = d.one_of(
        [
            ("function", {"function": d.one_of(sorted(FUNCTIONS))}),
            ("activation", {"activation": "tanh", **d.activation()}),
            ("positions", {"start": -1.5, "step": 0.25}),
            ("softmax", {"axis": d.whole(0, len(x.shape) - 1), "log": d.often()}),
            ("cumulate", {"mode": d.one_of(["sum", "prod", "max", "min"]), "axis": d.whole(0, len(x.shape) - 1),
                          "reverse": d.often(0.3)}),
            ("reduce", {"mode": d.one_of(["mean", "sum", "max", "min", "prod", "var", "norm", "any", "argmax",
                                          "logsumexp"]), "axis": d.whole(0, len(x.shape) - 1)}),
            ("topk", {"k": d.whole(1, 3), "axis": d.whole(0, len(x.shape) - 1), "largest": d.often()}),
            ("glu", {}),
            ("reverse", {}),
            ("last", {}),
        ]
    )  # fmt: skip
    d.add(kind, {"x": x}, {}, options)


def _shapes(d: _Drawing, x: Value) -> None:
    rank = len(x.shape)
    divisors = [n for n in range(1, x.size + 1) if x.size % n == 0]
    into = f"time,{d.one_of(divisors)},-1" if x.has_time else f"{d.one_of(divisors)},-1"
    order = "0" + "".join(map(str, 1 + d.rng.permutation(rank - 1))) if d.often() else "".join(
        map(str, d.rng.permutation(rank))
    )  # fmt: skip
    axis = d.whole(0, rank - 1)
    kind, options = d.one_of(
        [
            ("reshape", {"shape": d.one_of([into, "time,-1", "-1"])}),
            ("permute", {"order": order}),
            ("slice", {"axis": axis, "start": d.whole(-3, 3), "count": d.whole(0, 3), "step": d.whole(1, 2),
                       "before_end": d.whole(0, 1)}),
            ("pad", {"axis": axis, "before": d.whole(0, 2), "after": d.whole(0, 2),
                     "mode": d.one_of(["zero", "replicate", "reflect", "circular"])}),
            ("upsample", {"axis": axis, "size": d.whole(1, 3)}),
            ("repeat_vector", {"count": d.whole(1, 4)}),
        ]
    )  # fmt: skip
    d.add(kind, {"x": x}, {}, options)


def _pairs(d: _Drawing, x: Value) -> None:
    other, third = d.like(x), d.like(x)
    kind, inputs, options = d.one_of(
        [
            ("merge", {"x": x, "x1": other}, {"mode": d.one_of(MODES)}),
            ("merge", {"x": x, "x1": other, "x2": third}, {"mode": d.one_of(MODES[:4])}),
            ("where", {"condition": third, "x": x, "x1": other}, {}),
            ("slice_like", {"x": x, "x1": d.one_of(d.values)}, {"start": d.whole(0, 2)}),
            ("dot", {"x": x, "x1": other}, {"normalize": d.often()}),
            ("matmul", {"x": x, "x1": other}, {"transpose_x": d.often(), "transpose_x1": d.often()}),
            ("attention", {"x": x, "key": other, "value": third},
             {"causal": d.often(), "heads": d.whole(1, 2), "scale": 0.5}),
        ]
    )  # fmt: skip
    d.add(kind, inputs, {}, options)


def _tables(d: _Drawing, x: Value) -> None:
    axis = d.whole(0, len(x.shape) - 1)
    size = x.shape[axis] or 3
    indices = d.rng.integers(0, size, d.whole(1, 6)).astype(np.float32)
    kind, weights, options = d.one_of(
        [
            ("take", {"indices": indices}, {"axis": axis}),
            ("step_table", {"table": d.weight(40, x.features)}, {}),
            ("prelu", {"slope": d.vector(x.size)}, {}),
        ]
    )
    d.add(kind, {"x": x}, weights, options)


def _masks(d: _Drawing, x: Value) -> None:
    masks = [value for value in d.values if value.kind == "mask" and value.shape == x.shape[:1]]
    if x.mask is not None:
        masks.append(d.builder.value(x.mask))
    if not masks:
        d.add("masking", {"x": x}, {}, {"mask_value": 0.0})
        return
    mask = d.one_of(masks)
    kind, inputs, options = d.one_of(
        [
            ("mask_fill", {"x": x, "mask": mask}, {"value": -0.5}),
            ("mask_numbers", {"mask": mask}, {}),
            ("mask_merge", {"mask": mask, "mask1": d.one_of(masks)}, {}),
            ("reduce", {"x": x, "mask": mask}, {"mode": d.one_of(["mean", "sum", "var"])}),
        ]
    )
    d.add(kind, inputs, {}, options)


_MAKERS = [_lstm, _lstm, _lstm, _gru, _gru, _rnn, _conv_lstm, _dense, _dense, _conv1d, _conv1d, _conv2d,
           _conv_transpose, _pool1d, _norms, _numbers, _numbers, _shapes, _shapes, _pairs, _pairs, _tables,
           _masks]  # fmt: skip


def random_graph(rng: np.random.Generator, most_layers: int = 6) -> Graph:
    """A network of one or two inputs and some layers, any value of which may be an output."""
    while True:
        d = _Drawing(rng)
        time = d.one_of([None, None, None, d.whole(1, 12)])
        if d.often(0.1):
            indices = d.builder.input("x", (time,), indices=True)
            size = d.size()
            d.add("embedding", {"indices": indices}, {"weight": d.weight(d.whole(2, 20), size)})
        else:
            inner = [d.size()] if d.often(0.75) else [d.whole(1, 4) for _ in range(d.whole(2, 3))]
            d.values.append(d.builder.input("x", (time, *inner)))
            if d.often(0.15):
                other = d.builder.input("x2", (time, d.size()), time_of="x" if time is None else None)
                d.values.append(other)
        inputs = len(d.values)
        for _ in range(d.whole(1, most_layers)):
            x = d.data()
            if x is not None:
                d.one_of(_MAKERS)(d, x)
        outputs = [value for value in d.values[inputs:] if value.kind in ("sequence", "vector", "state")]
        if not outputs:
            continue
        chosen = {outputs[-1].name: outputs[-1]}
        if d.often(0.3):
            other = d.one_of(outputs)
            chosen[other.name] = other
        for value in chosen.values():
            d.builder.output(value)
        try:
            graph = d.builder.build()
        except CylstmError:
            continue
        used = {name for layer in graph.layers for name in layer.weights.values()}
        graph = graph._replace(tensors={name: graph.tensors[name] for name in graph.tensors if name in used})
        return with_types(rng, graph) if d.often(0.35) else graph


def with_types(rng: np.random.Generator, graph: Graph) -> Graph:
    """The graph with matrices of random types."""
    types = {}
    for layer in graph.layers:
        kind = LAYER_KINDS[layer.kind]
        for role in kind.matrices_of(layer.weights, layer.options):
            name = list(WEIGHT_TYPES)[int(rng.integers(len(WEIGHT_TYPES)))]
            if name == "float32" or (name.startswith("int8") and role not in kind.int8_matrices):
                continue
            types[layer.name, role] = name
        roles = kind.matrices_of(layer.weights, layer.options)
        if kind.has_one_type and len({types.get((layer.name, role)) for role in roles}) > 1:
            types = {place: name for place, name in types.items() if place[0] != layer.name}
    return graph._replace(weight_types=types)


# ---- as bytes ----

#: as in tests/csrc/fuzz_test.c
_ODD = (math.nan, math.inf, -math.inf, 0.5, 0.25, 0.1, 1e-3, 1e-5, 1e-12, 1e30, 1e31, 1e300, -0.5, 2.0**24, 2.0**31 - 1,
        -(2.0**31), 2.0**53, 1.5, 0.7, -1e30)  # fmt: skip
_TYPES = (None, "float16", "bfloat16", "int8a16", "int8a8", "float32", "int8", "float24")
_VALUE_KINDS = ("sequence", "vector", "mask", "state", "index")


class TooLargeError(ValueError):
    """The bytes cannot say this network."""


@functools.cache
def words() -> dict[str, list[str]]:
    """The words of tests/csrc/fuzz_words.def by what they are."""
    found: dict[str, list[str]] = {"KIND": [], "ROLE": [], "OPTION": [], "TEXT": []}
    for what, word in re.findall(r'^(\w+)\("(.*)"\)$', WORDS.read_text(), re.MULTILINE):
        found[what].append(word)
    return found


def _index(what: str, word: str) -> int:
    try:
        return words()[what].index(word)
    except ValueError:
        raise TooLargeError(f"{what} {word!r} is not in {WORDS.name}") from None


def _size(number: int) -> bytes:
    if number < 240:
        return bytes([number])
    if number < 1 << 16:
        return b"\xf0" + struct.pack("<H", number)
    raise TooLargeError(str(number))


def _number(number: float) -> bytes:
    number = float(number)
    if number.is_integer() and -64 <= number < 146:
        return bytes([int(number) + 64])
    if number in _ODD:
        return bytes([210 + _ODD.index(number)])
    return b"\xff" + struct.pack("<d", number)


def _fill(role: str, tensor: np.ndarray) -> int:
    if role == "variance":
        return 2
    if role == "indices":
        return 1 + 8 * min(int(np.min(tensor)), 30)
    return 0


def _ports(ports: dict[str, str], places: dict[str, int]) -> bytes:
    return bytes([len(ports)]) + bytes(n for role, name in ports.items() for n in (_index("ROLE", role), places[name]))


def bytes_of(graph: Graph, rng: np.random.Generator) -> bytes:
    """The network with its weights drawn anew, and a random script of what is done with it."""
    graph = drop_inert_layers(graph)
    places = {name: place for place, name in enumerate(graph.values)}
    if len(places) > 120 or len(graph.layers) > 60 or len(graph.inputs) > 7 or len(graph.outputs) > 7:
        raise TooLargeError
    data = bytearray([int(rng.integers(16)), int(rng.integers(8)), int(rng.integers(8)), len(places)])
    for value in graph.values.values():
        data += bytes([_VALUE_KINDS.index(value.kind), len(value.shape)])
        data += b"".join(_size(size or 0) for size in value.shape)
    data.append(len(graph.layers))
    for layer in graph.layers:
        data.append(_index("KIND", layer.kind))
        data += _ports(layer.inputs, places) + _ports(layer.outputs, places)
        data.append(len(layer.options))
        for name, option in layer.options.items():
            data.append(_index("OPTION", name))
            data += bytes([_index("TEXT", option) + 1]) if isinstance(option, str) else b"\0" + _number(option)
        tensors, types = graph.stored_tensors(layer), graph.types_of(layer.name)
        data.append(len(tensors))
        for role, tensor in tensors.items():
            data += bytes([_index("ROLE", role), _TYPES.index(types.get(role)), len(tensor.shape)])
            data += b"".join(_size(size) for size in tensor.shape)
            data.append(_fill(role, np.asarray(tensor)))
    shared = [(places[name], places[other]) for name, other in graph.inputs_of_one_time()]
    data += bytes([len(shared), *(place for pair in shared for place in pair), len(graph.inputs)])
    for name in graph.inputs:
        mask = graph.values[name].mask
        data += bytes([places[name], 255 if mask is None else places[mask]])
    data += bytes([len(graph.outputs), *(places[name] for name in graph.outputs)])
    data += rng.bytes(4) + bytes([int(rng.integers(20))]) + rng.bytes(12)
    return bytes(data)


def _graphs(rng: np.random.Generator) -> list[Graph]:
    from tests.builders.native_networks import networks

    found = [made_layers.graph_of(rng, case) for case in made_layers.CASES]
    found += [model.graph for model, _ in networks().values()]
    for make in made_recurrent.KINDS:
        builder = GraphBuilder()
        kind, weights, options = make(rng, 5, 17)
        x = builder.input("x", (None, 5))
        outputs = builder.add(kind, "l", {"x": x}, weights, options)
        for value in outputs.values():
            builder.output(value)
        found.append(with_types(rng, builder.build()))
    return found + [random_graph(rng) for _ in range(150)]


def main() -> None:
    rng = np.random.default_rng(20261130)
    found = {}
    for graph in _graphs(rng):
        with contextlib.suppress(TooLargeError):
            found[bytes_of(graph, rng)] = None
    corpora.write_inputs("network", [data for data in found if len(data) < 1500], "built.txt")


if __name__ == "__main__":
    main()
