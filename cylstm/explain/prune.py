"""Smaller networks: without the units that never change, that repeat another, or that matter least."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.arguments import check_flag
from cylstm.engine.mode import in_standard_mode
from cylstm.errors import ArgumentError, ShapeError, UnsupportedError, described
from cylstm.explain.channels import CONV_LSTM, KEEPS, RULES, Network
from cylstm.explain.units import LayerUnits, UnitReport, batches, fingerprint, units
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.graph import Graph, Layer
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.streaming import step_multiple
from cylstm.graph.values import Option, Value
from cylstm.graph.weights import StoredTensors, Tensor, as_stored, is_int8
from cylstm.shown import shown_name, table_lines

if TYPE_CHECKING:
    from cylstm.model import Model

#: makes a model of a graph, with the engine and the dtype of another
Make = Callable[[Graph], "Model"]

#: how long the two networks are timed
_SECONDS = 0.2


class LayerPruning:
    """What became of the units of one recurrent layer.

    Attributes
    ----------
    layer, kind : str
    units : int
        How many there were; with a projection, its outputs.
    removed : dict of int to str
        Unit -> why it could go: "always 0", "always 0.7616", "as unit 3", or "little used".
    kept : dict of int to str
        Unit that was to go, and could not -> why.
    remaining : ndarray of int
        The units that are left, by their numbers in the full network: of a state of that, ``h[:, remaining]`` is the
        state here.
    """

    def __init__(self, layer: str, kind: str, units: int, removed: Mapping[int, str], kept: Mapping[int, str]) -> None:
        self.layer = layer
        self.kind = kind
        self.units = units
        self.removed = dict(removed)
        self.kept = dict(kept)

    @property
    def remaining(self) -> np.ndarray:
        return np.setdiff1d(np.arange(self.units), np.array([*self.removed], np.int64))

    def __repr__(self) -> str:
        return f"<LayerPruning {self.layer!r} ({self.kind}): {len(self.removed)} of {self.units} units removed>"


class Pruning(Mapping[str, LayerPruning]):
    """Layer -> `LayerPruning`: what `Model.prune` took out and what it had to keep. Printed, it is a table.

    Attributes
    ----------
    is_exact : bool
        Whether only units went that the data never showed to matter.
    bytes_before, bytes_after : int
        Of the packed weights.
    parameters_before, parameters_after : int
    error_max, error_rms, output_rms : float or None
        The largest difference of an output from that of the full network on the data, the root of the mean square of
        all differences, and that of the full network's outputs; None if no data were given.
    speed : float or None
        How many times as fast as the full network a step (of a network that cannot stream, a call for some of the data)
        was, measured once; None if no data were given.
    """

    def __init__(
        self, layers: Sequence[LayerPruning], is_exact: bool, sizes: Mapping[str, int], figures: Mapping[str, float]
    ) -> None:
        self._layers = {one.layer: one for one in layers}
        self._sizes = dict(sizes)
        self._figures = dict(figures)
        self.is_exact = is_exact
        self.bytes_before, self.bytes_after = sizes["bytes_before"], sizes["bytes_after"]
        self.parameters_before, self.parameters_after = sizes["parameters_before"], sizes["parameters_after"]
        self.error_max, self.error_rms = figures.get("error_max"), figures.get("error_rms")
        self.output_rms, self.speed = figures.get("output_rms"), figures.get("speed")

    def __getitem__(self, layer: str) -> LayerPruning:
        if layer not in self._layers:
            raise KeyError(f"the network has the recurrent layers {', '.join(self._layers)}, no {layer!r}")
        return self._layers[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __str__(self) -> str:
        head = ("layer", "kind", "units before", "after", "removed", "kept")
        rows: list[tuple[str, ...]] = [head]
        for one in self._layers.values():
            counts = (one.units, one.units - len(one.removed), len(one.removed), len(one.kept))
            rows.append((one.layer, one.kind, *map(str, counts)))
        lines = table_lines(rows)
        for one in self._layers.values():
            by_reason: dict[str, list[int]] = {}
            for unit, why in one.kept.items():
                by_reason.setdefault(why, []).append(unit)
            for why, found in by_reason.items():
                shown = ", ".join(map(str, found[:8])) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
                lines.append(f"{shown_name(one.layer)}: kept {shown}: {why}")
        lines.append(
            f"{self.parameters_before:,} parameters before, {self.parameters_after:,} after; "
            f"{self.bytes_before:,} bytes packed before, {self.bytes_after:,} after"
        )
        if self.error_max is not None:
            lines.append(
                f"on the data: error at most {self.error_max:.3g}, rms {self.error_rms:.3g}, of outputs of rms "
                f"{self.output_rms:.3g}"
            )
        if self.speed is not None:
            lines.append(f"{self.speed:.2f} times as fast as the full network, measured once")
        return "\n".join(lines)

    def __repr__(self) -> str:
        counts = [
            f"{shown_name(one.layer)} {one.units} -> {one.units - len(one.removed)}" for one in self._layers.values()
        ]
        return f"<Pruning: {', '.join(counts)} units>"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain texts and numbers, which `from_dict` reads."""
        layers = [
            [one.layer, one.kind, one.units, [[*item] for item in one.removed.items()],
             [[*item] for item in one.kept.items()]]
            for one in self._layers.values()
        ]  # fmt: skip
        return {"layers": layers, "is_exact": self.is_exact, "sizes": self._sizes, "figures": self._figures}

    @staticmethod
    def from_dict(found: Mapping[str, Any]) -> Pruning:
        """What `to_dict` gave."""
        layers = [
            LayerPruning(layer, kind, count, dict(removed), dict(kept))
            for layer, kind, count, removed, kept in found["layers"]
        ]
        return Pruning(layers, found["is_exact"], found["sizes"], found["figures"])


@in_standard_mode
def prune(
    model: Model,
    make: Make,
    report: object,
    fraction: object,
    data: Any,
    layers: Any,
    multiple_of: object,
    given: Mapping[str, Any],
    progress: object,
) -> tuple[Model, Pruning]:
    """As `Model.prune`; ``make(graph)`` makes the smaller model."""
    is_shown = check_flag("progress", progress)
    rest = {name: value for name, value in given.items() if value is not None}
    for (layer, role), kind in model.graph.weight_types.items():
        if is_int8(kind):
            raise UnsupportedError(
                f"layer {layer!r}: {role} is of {kind}, and what is left of its rows would be rounded again, with "
                "other scales; prune the model of float32, and quantise the smaller one"
            )
    if (report is None) == (fraction is None):
        raise ArgumentError("prune: expected a report of cylstm.explain.units, or fraction= with data=")
    if report is not None:
        found = _checked_report(model, report, layers)
        if multiple_of != 1:
            raise ArgumentError("multiple_of: goes with fraction; a report says itself which units go")
        if data is None and rest:
            raise ArgumentError(f"{sorted(rest)[0]}: is said of data, and none were given")
    else:
        share = _checked_fraction(fraction)
        step = _checked_multiple(multiple_of)
        if data is None:
            raise ArgumentError("data: fraction= ranks units by what they do on data, and none were given")
        if not isinstance(data, Mapping) and hasattr(data, "__next__"):
            raise ArgumentError("data: expected an array or a list of batches, which are read twice, found an iterator")
        found = dict(units(model, data, layers, progress=is_shown, **rest))
    graph = model.graph
    net = Network(graph, found, report is not None, partial(_computed, graph, make))
    groups, why = net.reasons()
    gone = net.removable() if report is not None else _least_used(net, groups, why, share, step)
    smaller = make(_edited(net, gone, model.dtype))
    sizes = {
        "bytes_before": model._packed.nbytes,
        "bytes_after": smaller._packed.nbytes,
        "parameters_before": graph.parameters(),
        "parameters_after": smaller.graph.parameters(),
    }
    figures = {} if data is None else _compared(model, smaller, data, rest)
    told = [_told(net, layer, gone, groups, why) for layer in graph.layers if layer.name in found]
    return smaller, Pruning(told, report is not None, sizes, figures)


def _checked_report(model: Model, report: object, layers: Any) -> dict[str, LayerUnits]:
    """The layers of a report that are chosen. Raises `ArgumentError` unless it is of this very model."""
    if not isinstance(report, UnitReport):
        hint = "; a share of the units goes by fraction=" if isinstance(report, float) else ""
        raise ArgumentError(f"report: expected what cylstm.explain.units gives, found {described(report)}{hint}")
    graph = model.graph
    known = {layer.name: layer for layer in graph.layers}
    for name, one in report.items():
        if name not in known or known[name].kind != one.kind:
            raise ArgumentError(f"report: it is of another network: this one has no {one.kind} layer {name!r}")
        size = graph.values[known[name].outputs["y"]].size
        if size != len(one.dead):
            raise ArgumentError(
                f"report: it is of another network: layer {name!r} has {size} units, found {len(one.dead)}"
            )
    if report.model != fingerprint(model):
        raise ArgumentError("report: it is of a network with other weights, options or dtype; make one of this model")
    names = [layers] if isinstance(layers, str) else list(report) if layers is None else layers
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise ArgumentError(f"layers: expected a text or a list of texts, found {described(layers)}")
    for name in names:
        if name not in report:
            raise ArgumentError(f"layers: the report has no layer {name!r}; it has {', '.join(report)}")
    for name, one in report.items():
        if not one.is_from_zero and name in names and not {"h0", "c0"} & set(known[name].inputs):
            raise ArgumentError(
                f"report: the data of layer {name!r} began with an initial state, which the smaller network would "
                "count for the units that are left alone; make the report of sequences from zero"
            )
    return {name: report[name] for name in report if name in names}


def _checked_fraction(fraction: object) -> float:
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0.0 < fraction < 1.0:
        raise ArgumentError(f"fraction: expected a number between 0 and 1, found {described(fraction)}")
    return float(fraction)


def _checked_multiple(multiple_of: object) -> int:
    if isinstance(multiple_of, bool) or not isinstance(multiple_of, int) or multiple_of < 1:
        raise ArgumentError(f"multiple_of: expected a whole number from 1 on, found {described(multiple_of)}")
    return multiple_of


def _least_used(
    net: Network, groups: np.ndarray, why: Mapping[int, str], fraction: float, multiple_of: int
) -> dict[str, np.ndarray]:
    """The channels to go, by value: of each layer its share of units, those with the least variance times weights.

    A group of several units, which only go together, counts with the sum of theirs. Of groups that reach into a layer
    that has given its share none is taken.
    """
    outgoing = net.outgoing()
    outputs = {layer.name: layer.outputs["y"] for layer in net.graph.layers if layer.name in net.units}
    of_layer = {name: net.of(y, groups) for name, y in outputs.items() if len(net.facts[y].constant)}
    scores = np.zeros(len(groups))
    for name, y in outputs.items():
        if not _is_by_place(net, name):
            np.add.at(scores, of_layer[name], net.units[name].variance * outgoing[y])
    chosen: set[int] = set()
    done: set[int] = set()
    for own in of_layer.values():
        size = len(own)
        already = int(np.isin(own, list(chosen)).sum())
        free = [group for group in dict.fromkeys(own.tolist()) if group not in why and group not in chosen | done]
        free.sort(key=lambda group: scores[group])
        counts = [int((own == group).sum()) for group in free]
        wanted = min(int(fraction * size), already + sum(counts), size - 1)
        most = size - min(-(-(size - wanted) // multiple_of) * multiple_of, size) - already
        for group, count in zip(free, counts):
            if count <= most:
                chosen.add(group)
                most -= count
        done |= set(own.tolist())
    gone = net.chosen(groups, [*chosen])
    while empty := [name for name, channels in gone.items() if channels.all()]:  # a part of a layer, cut out
        chosen.remove(max(set(net.of(empty[0], groups).tolist()), key=lambda group: scores[group]))
        gone = net.chosen(groups, [*chosen])
    return gone


def _is_by_place(net: Network, name: str) -> bool:
    """Whether the units of a report are more than the channels: those of a ConvLSTM."""
    layer = next(layer for layer in net.graph.layers if layer.name == name)
    return layer.kind == "conv_lstm"


def _computed(graph: Graph, make: Make, layer: Layer, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """What a layer makes of vectors, by the engine's own arithmetic."""
    builder = GraphBuilder()
    inputs: dict[str, Value | None] = {role: builder.input(role, array.shape) for role, array in arrays.items()}
    result = builder.add(layer.kind, layer.name, inputs, dict(graph.layer_tensors(layer)), layer.options)["y"]
    builder.output(result)
    given = list(arrays.values())
    found: np.ndarray = make(builder.build()).predict(given if len(given) > 1 else given[0])
    return found


def _edited(net: Network, gone: dict[str, np.ndarray], dtype: np.dtype) -> Graph:
    """The graph without these channels."""
    graph = net.graph
    gone = dict(gone)
    for layer in graph.layers:
        if layer.name in net.units and layer.kind != "conv_lstm":
            for role in ("h", "c"):
                if role in layer.outputs and not (role == "c" and "weight_hr" in layer.weights):
                    gone[layer.outputs[role]] = gone[layer.outputs["y"]]
    values = dict(graph.values)
    for name, channels in gone.items():
        if channels.any():
            values[name] = values[name]._replace(shape=(*values[name].shape[:-1], int((~channels).sum())))
    tensors: dict[str, Tensor] = dict(as_stored(graph.tensors))
    layers = []
    for layer in graph.layers:
        touched = [name for name in (*layer.inputs.values(), *layer.outputs.values()) if name in gone]
        if not any(gone[name].any() for name in touched):
            layers.append(layer)
            continue
        weights, changed = RULES.get(layer.kind, KEEPS).edit(net, layer, gone)
        names = dict(layer.weights)
        for role, array in weights.items():
            names.setdefault(role, _free_name(tensors, f"{layer.name}.{role}"))
            tensors[names[role]] = np.ascontiguousarray(array, dtype)
        options: dict[str, Option] = {**layer.options, **changed}
        # a shape that does not fit would be a fault of the rules: found here, by name
        read = {role: values[name] for role, name in layer.inputs.items()}
        own = {role: tensors[name] for role, name in names.items()}
        for role, value in LAYER_KINDS[layer.kind].infer(layer.name, read, own, options).items():
            expected = values[layer.outputs[role]]
            if value.shape != expected.shape:
                raise ShapeError(f"prune: layer {layer.name!r} gives {value.shape}, expected {expected.shape}")
        layers.append(layer._replace(weights=names, options=options))
    return graph._replace(values=values, layers=tuple(layers), tensors=StoredTensors(tensors))


def _free_name(tensors: Mapping[str, object], name: str) -> str:
    while name in tensors:
        name += "_"
    return name


def _told(
    net: Network, layer: Layer, gone: Mapping[str, np.ndarray], groups: np.ndarray, why: Mapping[int, str]
) -> LayerPruning:
    """What became of a layer's units."""
    report, y = net.units[layer.name], layer.outputs["y"]
    if _is_by_place(net, layer.name):
        idle = np.flatnonzero(report.dead | (report.duplicate_of >= 0)) if net.is_exact else np.arange(len(report.dead))
        return LayerPruning(layer.name, layer.kind, len(report.dead), {}, dict.fromkeys(idle.tolist(), CONV_LSTM))
    removed, kept = {}, {}
    for k, group in enumerate(net.of(y, groups).tolist()):
        is_idle = bool(report.dead[k]) or report.duplicate_of[k] >= 0
        if gone[y][k]:
            if not net.is_exact:
                removed[k] = "little used"
            elif report.dead[k]:
                removed[k] = f"always {report.constant[k]:.6g}"
            else:
                removed[k] = f"as unit {report.duplicate_of[k]}"
        elif (is_idle or not net.is_exact) and group in why:
            kept[k] = why[group]
    return LayerPruning(layer.name, layer.kind, len(report.dead), removed, kept)


def _compared(model: Model, smaller: Model, data: Any, given: Mapping[str, Any]) -> dict[str, float]:
    """The errors of the smaller network on the data, and its speed."""
    largest = squares = full_squares = 0.0
    count = 0
    first: tuple[Any, dict[str, Any]] | None = None
    for _, x, more in batches(model, data, given):
        if "initial_state" in more:
            raise ArgumentError("data: a batch with an initial state, which the smaller network has smaller ones of")
        first = (x, more) if first is None else first
        pairs = [model.predict(x, **more), smaller.predict(x, **more)]
        full, other = (found if isinstance(found, list) else [found] for found in pairs)
        for name, a, b in zip(model.outputs, full, other):
            counts = _counting(model, name, x, a, more)
            wanted, found = np.asarray(a[counts], np.float64), np.asarray(b[counts], np.float64)
            differences = np.abs(wanted - found)
            largest = max(largest, float(differences.max(initial=0.0)))
            squares += float((differences**2).sum())
            full_squares += float((wanted**2).sum())
            count += differences.size
    if first is None or not count:
        raise ArgumentError("data: expected at least one step that counts, found none")
    return {
        "error_max": largest,
        "error_rms": float(np.sqrt(squares / count)),
        "output_rms": float(np.sqrt(full_squares / count)),
        "speed": _speed(model, smaller, *first),
    }


def _counting(model: Model, name: str, x: Any, y: np.ndarray, more: Mapping[str, Any]) -> Any:
    """Which (row, step) of an output count."""
    value = model.graph.values[name]
    if value.mask is None or name in model.graph.layouts or isinstance(x, (list, dict)):
        return ...
    if more.get("mask") is not None:
        found = np.asarray(more["mask"], bool)
    elif more.get("lengths") is not None:
        found = np.arange(y.shape[1]) < np.asarray(more["lengths"])[:, np.newaxis]
    else:
        return ...
    return found if found.shape == y.shape[:2] else ...


def _speed(model: Model, smaller: Model, x: Any, more: Mapping[str, Any]) -> float:
    """How many times as fast the smaller network is: the ratio of the least times of runs that take turns."""
    runs = [_run_of(one, x, more) for one in (model, smaller)]
    least = [np.inf, np.inf]
    for run in runs:
        run()
    begin = time.perf_counter()
    rounds = 0
    while rounds < 5 or (rounds < 1000 and time.perf_counter() - begin < _SECONDS):
        for k, run in enumerate(runs):
            start = time.perf_counter()
            run()
            least[k] = min(least[k], time.perf_counter() - start)
        rounds += 1
    return float(least[0] / least[1])


def _run_of(model: Model, x: Any, more: Mapping[str, Any]) -> Callable[[], object]:
    """Some steps of a stream; of a network that cannot stream step by step, a prediction."""
    graph = model.graph
    value = graph.values[model.inputs[0]]
    is_plain = len(model.inputs) == 1 and value.kind == "sequence" and value.axis is not None and not graph.layouts
    if not (is_plain and isinstance(x, np.ndarray) and model.can_stream and step_multiple(graph) == 1):
        return lambda: model.predict(x, **more)
    stream = model.stream(window=None)
    steps = [np.ascontiguousarray(one, model.dtype) for one in x[0, :32]]

    def run() -> None:
        for one in steps:
            stream.step(one)

    return run
