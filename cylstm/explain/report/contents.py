"""What a report shows, as plain data: the arrays of a trace, thinned where they are large, and names as shown."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm._version import __version__
from cylstm.array_like import to_array
from cylstm.errors import ArgumentError, UnsupportedError, described
from cylstm.explain.memory import Memory, memory
from cylstm.explain.names import checked_names
from cylstm.explain.order import similar_order
from cylstm.explain.units import units
from cylstm.graph.layers import LAYER_KINDS
from cylstm.shown import shown_name
from cylstm.summary import summary_facts, summary_table
from cylstm.trace import parts_of

if TYPE_CHECKING:
    from cylstm.graph.graph import Layer
    from cylstm.model import Model
    from cylstm.trace import LayerTrace

#: numbers of heat maps, of 4 bytes: 4 MB as text
MOST_IN_MAPS = 750_000
#: numbers of series: inputs, outputs and contributions to results
MOST_IN_SERIES = 250_000
#: steps that are shown of the longest traces, at least
LEAST_STEPS = 64
#: units that are shown apart
MOST_UNITS = 1024
#: layers that are shown
MOST_LAYERS = 48
#: rows of a table
MOST_ROWS = 2000
#: heads through which contributions are followed, of one layer
_MOST_HEADS = 4
#: numbers that are traced at once
_TRACED = 50_000_000

_PARTS = {
    "i": "input gate", "f": "forget gate", "g": "candidate", "o": "output gate", "r": "reset gate",
    "z": "update gate, the share that is kept", "n": "candidate", "c": "cell", "h": "output", "y": "result",
    "left": "share of the input of each step that is left at the last step",
    "contribution": "contribution of each step to the state at the last step",
}  # fmt: skip


class Grid:
    """How many numbers of a page an array may take, of several that share them.

    Attributes
    ----------
    steps, units : int
        At most so many are shown apart.
    dtype : dtype
        Of the numbers on the page.
    """

    def __init__(self, widths: Sequence[int], numbers: int, dtype: np.dtype) -> None:
        """`widths` are the numbers of units of all arrays, `numbers` how many of 4 bytes these may take together."""
        self.dtype = dtype
        numbers = numbers * 4 // dtype.itemsize
        self.units = MOST_UNITS
        while self.units > 1 and sum(min(width, self.units) for width in widths) * LEAST_STEPS > numbers:
            self.units //= 2
        shown = sum(min(width, self.units) for width in widths)
        self.steps = max(1, numbers // max(1, shown))

    def thinned(self, values: np.ndarray, how: str = "mean") -> dict[str, Any]:
        """An array (time, units) for the page: neighbours are joined where there are more than may be shown apart.

        `how` is "mean" or, of steps, "sum". What is not a number does not count.
        """
        steps, count = values.shape
        per_step, per_unit = math.ceil(steps / self.steps), math.ceil(count / self.units)
        joined = _joined(values, per_step, 0, how)
        joined = _joined(joined, per_unit, 1, "mean")
        raw = np.ascontiguousarray(joined, f"<f{self.dtype.itemsize}")
        return {
            "steps": steps, "units": count, "perStep": per_step, "perUnit": per_unit, "how": how,
            "type": f"f{self.dtype.itemsize}", "shape": list(raw.shape),
            "data": base64.b64encode(raw.tobytes()).decode("ascii"),
        }  # fmt: skip


def _joined(values: np.ndarray, per: int, axis: int, how: str) -> np.ndarray:
    if per == 1:
        return values
    places = np.arange(0, values.shape[axis], per)
    counts = np.add.reduceat((~np.isnan(values)).astype(np.int64), places, axis=axis)
    sums = np.add.reduceat(
        np.nan_to_num(np.asarray(values, np.float64), posinf=np.inf, neginf=-np.inf), places, axis=axis
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(counts > 0, sums if how == "sum" else sums / counts, np.nan)
    return found.astype(values.dtype)


def contents_of(
    model: Model, x: Any, row: Any, title: str | None, names: Any, given: Mapping[str, Any]
) -> dict[str, Any]:
    """All that a page shows; the arguments are those of `report`."""
    arrays = _arrays_of(model, x)
    one_row, one_given, number = _row_of(model, arrays, row, given)
    layers, left_out = _chosen_layers(model)
    notes = []
    if left_out:
        notes.append(f"{left_out:,} of {left_out + len(layers):,} layers are left out; the recurrent ones come first.")
    given_row = one_row if len(one_row) > 1 else one_row[0]
    predicted = model.predict(given_row, **one_given)
    outputs = predicted if isinstance(predicted, list) else [predicted]
    features = [_table_of(model, name, array) for name, array in zip(model.inputs, one_row)]
    heads = {layer.name: _heads_of(model, layer) for layer in layers}
    widths = _Widths(model, one_row)
    maps = Grid(widths.of_maps(layers), MOST_IN_MAPS, model.dtype)
    series = Grid(widths.of_series(layers, heads, features), MOST_IN_SERIES, model.dtype)
    found = []
    for group in _groups(widths, layers, max(len(array) for array in features)):
        trace = model.trace(given_row, [layer.name for layer in group], **one_given)
        found += [_layer_contents(model, layer, trace, heads[layer.name], maps, series) for layer in group]
    shown_inputs: list[dict[str, Any]] = []
    for k, (name, array) in enumerate(zip(model.inputs, features)):
        labels = checked_names("names", names if k == 0 else None, array.shape[1], "feature")
        values = series.thinned(array)
        per, has_time = values["perUnit"], model.graph.values[name].has_time
        if per > 1:
            firsts = range(0, len(labels), per)
            labels = [f"features {first} to {min(first + per, len(labels)) - 1}" for first in firsts]
        shown_inputs.append({"name": shown_name(name), "names": labels, "hasTime": has_time, "values": values})
    shown_outputs: list[dict[str, Any]] = []
    for name, array in zip(model.outputs, outputs):
        values = series.thinned(_table_of(model, name, array))
        has_time = model.graph.values[name].has_time
        shown_outputs.append({"name": shown_name(name), "hasTime": has_time, "values": values})
    in_series = [one["values"] for one in (*shown_inputs, *shown_outputs)]
    in_series += [head["values"] for one in found if one["memory"] for head in one["memory"].get("heads", ())]
    notes += _notes_of([part["values"] for layer in found for part in layer["parts"]], in_series)
    rows = len(arrays[0]) if _has_batch(model, arrays) else 1
    if rows > 1:
        notes.append(f"Row {number} of {rows:,} is shown; the table of units is of all rows.")
    tables, note = _unit_tables(model, arrays, given)
    notes += [note] if note else []
    table = [[shown_name(cell) for cell in line] for line in summary_table(model)]
    if len(table) > MOST_ROWS:
        notes.append(f"The table of layers has the first {MOST_ROWS:,} of {len(table):,} rows.")
    return {
        "title": shown_name(_title_of(model, title)),
        "version": __version__,
        "notes": notes,
        "inputs": shown_inputs,
        "outputs": shown_outputs,
        "layers": found,
        "units": tables,
        "network": table[:MOST_ROWS],
        "facts": [shown_name(line, 400) for line in summary_facts(model)],
        "metadata": [
            [shown_name(k), shown_name(" ".join(str(v)[:4000].split()), 400)]
            for k, v in list(model.metadata.items())[:100]
        ],
    }


def _title_of(model: Model, title: str | None) -> str:
    return title if title is not None else str(model.metadata.get("title") or "A network inside")


def _arrays_of(model: Model, x: Any) -> list[np.ndarray]:
    """The inputs in the order of the model."""
    if isinstance(x, Mapping):
        missing = [name for name in model.inputs if name not in x]
        if missing or len(x) != len(model.inputs):
            raise ArgumentError(
                f"x: expected the inputs {', '.join(map(shown_name, model.inputs))}, found {described(x)}"
            )
        return [to_array(x[name], f"x {name!r}") for name in model.inputs]
    if len(model.inputs) > 1:
        if not isinstance(x, (list, tuple)) or len(x) != len(model.inputs):
            raise ArgumentError(f"x: expected a list of {len(model.inputs)} inputs, found {described(x)}")
        return [to_array(array, "x") for array in x]
    return [to_array(x, "x")]


def _rank(model: Model, name: str) -> int:
    layout = model.graph.layouts.get(name)
    return len(model.graph.values[name].shape if layout is None else layout)


def _has_batch(model: Model, arrays: Sequence[np.ndarray]) -> bool:
    return arrays[0].ndim == _rank(model, model.inputs[0]) + 1


def _row_of(
    model: Model, arrays: Sequence[np.ndarray], row: Any, given: Mapping[str, Any]
) -> tuple[list[np.ndarray], dict[str, Any], int]:
    """One row of the inputs, what is given about it, and its number."""
    has_batch = _has_batch(model, arrays)
    rows = len(arrays[0]) if has_batch else 1
    if isinstance(row, bool) or not isinstance(row, (int, np.integer)) or not -rows <= row < rows:
        raise ArgumentError(f"row: expected one of {rows}, found {described(row)}")
    number = int(row) % rows
    if not has_batch:
        return list(arrays), dict(given), number
    one = slice(number, number + 1)
    found: dict[str, Any] = {}
    found |= {name: np.asarray(value)[one] for name, value in given.items() if name != "initial_state"}
    if "initial_state" in given:
        found["initial_state"] = [tuple(np.asarray(array)[one] for array in state) for state in given["initial_state"]]
    return [array[one] for array in arrays], found, number


def _table_of(model: Model, name: str, array: np.ndarray) -> np.ndarray:
    """One row of an input or an output as (time, features); (1, features) without time."""
    array = np.asarray(array, model.dtype)
    array = array[0] if array.ndim == _rank(model, name) + 1 else array
    if not model.graph.values[name].has_time or not array.ndim:
        return array.reshape(1, -1)
    layout = model.graph.layouts.get(name)
    # the place of the time among the user's axes
    place = 0 if layout is None else layout.find("0")
    if place < 0:
        return array.reshape(1, -1)
    array = np.moveaxis(array, place, 0)
    return array.reshape(len(array), -1)


def _chosen_layers(model: Model) -> tuple[list[Layer], int]:
    """The layers that are shown, in the order of the network, and how many are not."""
    known = [layer for layer in model.graph.layers if parts_of(layer)]
    first = sorted(known, key=lambda layer: not LAYER_KINDS[layer.kind].gates)[:MOST_LAYERS]
    return [layer for layer in known if layer in first], len(known) - len(first)


def _shown_parts(layer: Layer) -> list[str]:
    return [part for part in parts_of(layer) if not part.endswith("_pre")]


class _Widths:
    """The numbers of units of what is shown, from the graph; sizes that it leaves open are the input's largest."""

    def __init__(self, model: Model, row: Sequence[np.ndarray]) -> None:
        self.values = model.graph.values
        self.outputs = model.outputs
        self.unknown = max(size for array in row for size in (1, *array.shape))

    def of(self, name: str) -> int:
        """Of a value, without its time."""
        value = self.values[name]
        shape = value.shape[1:] if value.has_time else value.shape
        return math.prod(self.unknown if size is None else size for size in shape)

    def of_maps(self, layers: Sequence[Layer]) -> list[int]:
        """Of all heat maps."""
        found = []
        for layer in layers:
            extra = 2 if LAYER_KINDS[layer.kind].gates else 0
            found += [self.of(layer.outputs["y"])] * (len(_shown_parts(layer)) + extra)
        return found

    def of_series(
        self, layers: Sequence[Layer], heads: Mapping[str, list[Layer]], features: Sequence[np.ndarray]
    ) -> list[int]:
        """Of inputs, outputs and contributions."""
        found = [array.shape[1] for array in features] + [self.of(name) for name in self.outputs]
        for layer in layers:
            found += [1, *(self.of(head.outputs["y"]) for head in heads[layer.name])]
        return found


def _groups(widths: _Widths, layers: Sequence[Layer], steps: int) -> Iterator[list[Layer]]:
    """Layers whose parts are traced at once."""
    group: list[Layer] = []
    size = 0
    for layer in layers:
        numbers = widths.of(layer.outputs["y"]) * len(parts_of(layer)) * steps
        if group and (size + numbers > _TRACED or len(group) == 32):
            yield group
            group, size = [], 0
        group.append(layer)
        size += numbers
    if group:
        yield group


def _layer_contents(
    model: Model, layer: Layer, trace: Any, heads: Sequence[Layer], maps: Grid, series: Grid
) -> dict[str, Any]:
    one: LayerTrace = trace[layer.name]
    has_time = model.graph.values[layer.outputs["y"]].has_time

    def table(array: np.ndarray) -> np.ndarray:
        array = array[0] if one.has_batch else array
        return array.reshape(len(array), -1) if has_time and array.ndim > 1 else array.reshape(1, -1)

    parts = []
    for part in _shown_parts(layer):
        parts.append(_part(part, table(one[part]), maps))
    found: dict[str, Any] = {
        "name": shown_name(layer.name), "kind": layer.kind, "hasTime": has_time, "parts": parts, "memory": None,
    }  # fmt: skip
    ordered = table(one["f" if "f" in one.parts else "z" if "z" in one.parts else one.parts[0]])
    found["order"] = similar_order(_joined(ordered, parts[-1]["values"]["perUnit"], 1, "mean")).tolist()
    if LAYER_KINDS[layer.kind].gates:
        try:
            past = memory(trace, layer.name)
        except UnsupportedError as error:
            found["memory"] = {"refused": shown_name(str(error), 300)}
        else:
            parts.append(_part("left", table(past.left), maps))
            parts.append(_part("contribution", table(past.contributions), maps, "sum"))
            found["memory"] = _memory_contents(model, past, heads, series, table)
    return found


def _part(part: str, values: np.ndarray, grid: Grid, how: str = "mean") -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    is_share = part in ("i", "f", "o", "r", "z", "left") and low >= 0.0 and high <= 1.0
    # one number in 200 may lie beyond the colours, so that a few large ones leave colours to the rest
    most = (float(np.percentile(np.abs(finite), 99.5)) or max(abs(low), abs(high))) if finite.size else 1.0
    limits = [0.0, 1.0] if is_share else [-(most or 1.0), most or 1.0]
    return {"part": part, "said": _PARTS[part], "limits": limits, "values": grid.thinned(values, how)}


def _memory_contents(model: Model, past: Memory, heads: Sequence[Layer], series: Grid, table: Any) -> dict[str, Any]:
    """Contributions to the state, and through heads to results, at the last step."""
    contributions = table(past.contributions)
    initial = past.initial[0] if past.has_batch else past.initial
    half_life = past.half_life()
    lives = np.ravel(half_life[0] if past.has_batch else half_life)
    finite = lives[np.isfinite(lives)]
    found: dict[str, Any] = {
        "step": past.step,
        "reverse": past.reverse,
        "sizes": series.thinned(np.abs(contributions).mean(axis=1, keepdims=True), "sum"),
        "initial": float(np.abs(initial).mean()),
        "halfLife": [float(q) for q in np.percentile(finite, [25, 50, 75])] if finite.size else None,
        "heads": [],
    }
    for head in heads:
        weight = model.graph.layer_tensors(head)["weight"]
        try:
            through, start, rest = past.through(weight)
        except UnsupportedError:
            break
        if past.has_batch:
            through, start, rest = through[0], start[0], rest[0]
        found["heads"].append(
            {
                "name": shown_name(head.name),
                "values": series.thinned(through, "sum"),
                "initial": [float(one) for one in start[:MOST_UNITS]],
                "residual": [float(one) for one in rest[:MOST_UNITS]],
            }
        )
    return found


def _heads_of(model: Model, layer: Layer) -> list[Layer]:
    """The linear layers that read a recurrent layer's output and nothing else: at every step, or at the last one."""
    if layer.kind not in ("lstm", "gru"):
        return []
    graph = model.graph
    reached = {layer.outputs["y"]}
    found: list[Layer] = []
    for other in graph.layers:
        if other.inputs.get("x") not in reached:
            continue
        if other.kind == "dropout" or (other.kind == "last" and not layer.options["reverse"]):
            # the last step of a layer that runs backwards is the first that it takes
            reached.add(other.outputs["y"])
        elif other.kind == "dense" and len(found) < _MOST_HEADS:
            found.append(other)
    return found


def _notes_of(maps: Sequence[Mapping[str, Any]], series: Sequence[Mapping[str, Any]]) -> list[str]:
    """What of the arrays is not shown one by one."""
    found: list[str] = []
    for what, arrays in (("heat map", maps), ("series", series)):
        longest = max(arrays, key=lambda one: int(one["perStep"]), default={"perStep": 1})
        if longest["perStep"] > 1:
            found.append(
                f"The trace is long: a column of a {what} stands for up to {longest['perStep']:,} of "
                f"{longest['steps']:,} steps, and shows their mean (of contributions, their sum)."
            )
        widest = max(arrays, key=lambda one: int(one["perUnit"]), default={"perUnit": 1})
        if widest["perUnit"] > 1:
            found.append(
                f"There are many units: a row of a {what} stands for up to {widest['perUnit']:,} of "
                f"{widest['units']:,}, and shows their mean."
            )
    return found


def _unit_tables(
    model: Model, arrays: Sequence[np.ndarray], given: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], str]:
    """What the units of recurrent layers did over all rows, and what is left out of it."""
    if not any(LAYER_KINDS[layer.kind].gates for layer in model.graph.layers):
        return [], ""
    if len(arrays) > 1 and given:
        return [], "The table of units is left out: it is not made for several inputs with lengths, masks or states."
    found = units(model, arrays[0] if len(arrays) == 1 else [list(arrays)], **given)
    tables, cut = [], 0
    for one in list(found.values())[:MOST_LAYERS]:
        gates = list(one.open)
        head = ["unit", "minimum", "maximum", "mean", "variance"]
        head += [f"{gate} {state}, %" for gate in gates for state in ("open", "shut")]
        rows: list[list[Any]] = []
        for k in range(min(len(one.dead), MOST_ROWS)):
            line: list[Any] = [k, *(float(a[k]) for a in (one.minimum, one.maximum, one.mean, one.variance))]
            # a projection has an output of another size than the gates
            has_gates = all(len(one.open[gate]) == len(one.dead) for gate in gates)
            line += [100.0 * float(a[gate][k]) if has_gates else None for gate in gates for a in (one.open, one.shut)]
            remark = "never changes" if one.dead[k] else ""
            if one.duplicate_of[k] >= 0:
                remark = f"the same as unit {one.duplicate_of[k]}"
            rows.append([*(cell if cell is None or math.isfinite(cell) else None for cell in line), remark])
        cut = max(cut, len(one.dead) - MOST_ROWS)
        tables.append(
            {"layer": shown_name(one.layer), "kind": one.kind, "steps": one.steps, "head": head, "rows": rows}
        )
    note = f"Tables of units have the first {MOST_ROWS:,} units." if cut > 0 else ""
    return tables, note
