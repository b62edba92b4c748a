"""A model as a table: its layers, their sizes, and the memory that it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cylstm.errors import CylstmError
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.streaming import how_states_go_on, why_no_stream
from cylstm.graph.weights import as_stored
from cylstm.shown import html_table, shown_name, table_lines

if TYPE_CHECKING:
    from cylstm.graph.graph import Graph, Layer
    from cylstm.graph.values import Value
    from cylstm.model import Model

# used to report memory where the number of steps matters but is not known
_STEPS = 1000
# characters of a line about the model as a whole
_LONGEST = 10_000


def summary_text(model: Model) -> str:
    """What `Model.summary` prints."""
    rows = summary_table(model)
    widths = [max(len(shown_name(row[i])) for row in rows) for i in range(len(rows[0]))]
    lines = table_lines(rows)
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, "", *[shown_name(line, _LONGEST) for line in summary_facts(model)]])


def summary_html(model: Model) -> str:
    """What a notebook shows of a model."""
    return html_table(repr(model), summary_table(model), summary_facts(model))


def summary_table(model: Model) -> list[tuple[str, ...]]:
    """The head of a table of inputs and layers, and its rows."""
    values = model.graph.values
    rows: list[tuple[str, ...]] = [("layer", "kind", "reads", "output", "parameters", "weights", "bytes")]
    for name in model.inputs:
        rows.append((name, "input", "", _shape_text(values[name]), "", "", ""))
    counted: set[str] = set()
    stored = as_stored(model.graph.tensors)
    sizes = {name: sum(array.nbytes for array in arrays) for name, arrays in model._packed.arrays_of_files().items()}
    for layer in model.graph.layers:
        tensors = [stored[name] for name in layer.weights.values() if name not in counted]
        counted.update(layer.weights.values())
        data = [name for name in layer.inputs.values() if values[name].kind != "mask"]
        if len(data) > 4:
            data[2:-1] = [f"{len(data) - 3} more"]
        y = values[layer.outputs.get("y", next(iter(layer.outputs.values())))]
        size = sizes.get(layer.name, 0)
        kind = "shared" if layer.name in model._packed.shared else _types_text(model, layer) if size else ""
        count = f"{sum(t.size for t in tensors):,}"
        rows.append((layer.name, layer.kind, ", ".join(data), _shape_text(y), count, kind, f"{size:,}" if size else ""))
    return rows


def summary_facts(model: Model) -> list[str]:
    """Lines about the model as a whole: its size, memory and engine, and how it streams."""
    streams = why_no_stream(model.graph) or "yes"
    chosen = "" if model._reason is None else f" (auto: {model._reason})"
    lines = [
        f"{model.graph.parameters():,} parameters, {model._packed.nbytes / 1024:,.1f} KB packed, "
        f"{model._packed.work:,} multiply-adds a step",
        f"working memory: {_run_memory_text(model)}",
        f"engine {model.engine}{chosen}, {model.dtype}; outputs: {', '.join(model.outputs)}; streams: {streams}",
    ]
    lines += [
        f"quantised: {part.layer}.{part.role}: {part.type}, {part.bytes:,} of {part.bytes_before:,} bytes, "
        f"error {part.error:.2g} of the weights' rms{f' ({part.reason})' if part.reason else ''}"
        for part in model.quantization
    ]
    if model.graph.window is not None:
        lines.append(_window_text(model.graph, model.graph.window))
    if model.graph.stateful:
        names = ", ".join(model.graph.stateful)
        lines.append(f"stateful: {names}: predict starts them from zero; {how_states_go_on(model.graph)}")
    return lines


def _types_text(model: Model, layer: Layer) -> str:
    """The types of a layer's matrices, in the order of their roles."""
    found = model.graph.types_of(layer.name)
    matrices = LAYER_KINDS[layer.kind].matrices_of(layer.weights, layer.options)
    return ", ".join(dict.fromkeys(found.get(role, str(model.dtype)) for role in matrices)) or str(model.dtype)


def _window_text(graph: Graph, steps: int) -> str:
    """What the number of steps means that the inputs fix: that of the rows if these are images."""
    if not graph.states() and all(len(graph.values[name].shape) > 2 for name in graph.inputs):
        return f"rows of its images: {steps:,}"
    start = " from a zero state" if graph.states() else ""
    return f"trained on windows of {steps:,} step{'' if steps == 1 else 's'}{start}"


def _run_memory_text(model: Model) -> str:
    """What values, states and scratch take: of a stream, else of a prediction of so many steps."""
    if model.can_stream:
        return f"{model._packed.run_bytes(None) / 1024:,.1f} KB per single-row stream, plus the weights"
    times = [
        1 if not value.has_time else value.shape[0] if value.shape[0] is not None else _STEPS
        for value in model._packed.inputs
    ]
    steps = f" and {max(times):,} steps" if any(value.has_time for value in model._packed.inputs) else ""
    try:
        return f"{model._packed.run_bytes(times) / 1024:,.1f} KB for predict of one row{steps}, plus the weights"
    except CylstmError as error:
        return f"not known for one row{steps}: {error}"


def _shape_text(value: Value) -> str:
    return "(" + ", ".join(["batch", *("time" if size is None else str(size) for size in value.shape)]) + ")"
