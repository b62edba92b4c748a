"""What the head of a network reads out of a recurrent layer that is not the one it was trained behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.engine.mode import in_standard_mode
from cylstm.errors import ArgumentError, UnsupportedError, described
from cylstm.explain.coalitions import is_model
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.layers import LAYER_KINDS

if TYPE_CHECKING:
    from cylstm.graph.graph import Layer
    from cylstm.graph.values import Value
    from cylstm.model import Model
    from cylstm.trace import Trace

#: kinds that compute each step by itself
_OF_A_STEP = ("activation", "batch_norm", "dense", "dropout", "function", "glu", "layer_norm", "prelu", "softmax")


@in_standard_mode
def readouts(
    model: Model, trace: Trace, layers: list[str] | str | None = None, *, output: str | None = None
) -> dict[str, np.ndarray]:
    """What the network would predict from each recurrent layer, at each step, if its head read that layer.

    The head is all that follows the topmost recurrent layer: of stacked layers of one size it can read each one's
    output ``h``, which shows where and when a prediction is made (for transformers the "logit lens"). What it reads of
    the topmost layer at the last step is the prediction, with the same bits.

    Parameters
    ----------
    model : Model
    trace : Trace
        Of `Model.trace`, with the part ``h`` of the layers.
    layers : list of str, optional
        Names of recurrent layers; by default all of the trace.
    output : str, optional
        Of several outputs of the network the one whose head it is.

    Returns
    -------
    dict of str to ndarray
        Layer -> (batch, time, outputs), without a batch axis where the trace has none. Steps that do not count are NaN
        if the trace has a gate or the cell of the layer, of a simple RNN ``h_pre``.

    Raises
    ------
    UnsupportedError
        If a layer has another size than the head reads, or the head reads several layers, or more than one step;
        names the layer.
    ArgumentError
        If there is no such layer or output, or the trace does not have its ``h``.
    """
    if not is_model(model):
        raise ArgumentError(f"model: expected a Model, found {described(model)}")
    names = model.outputs
    if output is None and len(names) > 1:
        raise ArgumentError(f"output: the network has {', '.join(names)}; choose one by its name")
    name = names[0] if output is None else output
    if name not in names:
        raise ArgumentError(f"output: expected one of {', '.join(names)}, found {described(output)}")
    head, size, top = _head(model, name)
    found = {}
    for layer in _chosen(trace, layers):
        one = trace[layer]
        h = one.h
        if h.shape[-1] != size or h.ndim != (3 if one.has_batch else 2):
            raise UnsupportedError(
                f"layer {layer!r}: the head reads {size} numbers, those of layer {top!r}, and a step of this one has "
                f"{h.shape[(2 if one.has_batch else 1) :]}; choose others with layers=[...]"
            )
        y = head.predict(np.ascontiguousarray(h.reshape(-1, size)))
        y = y.reshape(*h.shape[:-1], *y.shape[1:])
        # gates are NaN where a step does not count; before its activation also one without weights
        gate = next((part for part in one.parts if part != "h" and not part.endswith("_pre")), "h_pre")
        if gate in one.parts:
            y = np.where(np.isnan(one[gate]).all(axis=-1, keepdims=True), np.asarray(np.nan, y.dtype), y)
        found[layer] = y
    return found


def _head(model: Model, output: str) -> tuple[Model, int, str]:
    """What follows the topmost recurrent layer, as a model of one step; what it reads, and that layer."""
    graph = model.graph
    made_by = {value: layer for layer in graph.layers for value in layer.outputs.values()}
    chain: list[Layer] = []
    value = output
    while True:
        if value not in made_by:
            raise UnsupportedError(f"output {output!r}: there is no recurrent layer before it")
        layer = made_by[value]
        if LAYER_KINDS[layer.kind].gates:
            break
        reads = [name for role, name in layer.inputs.items() if role != "mask"]
        if len(reads) != 1 or not _is_of_a_step(layer, graph.values[layer.inputs["x"]]):
            what = "reads several values" if len(reads) > 1 else "computes with more than one step"
            raise UnsupportedError(
                f"layer {layer.name!r} ({layer.kind}), behind the recurrent layers, {what}: no readout of one layer is "
                "what it gives"
            )
        chain.append(layer)
        value = reads[0]
    size = graph.values[value].features
    if not chain or len(graph.values[value].step_shape) != 1:
        raise UnsupportedError(f"output {output!r}: there is no head behind layer {layer.name!r}")
    builder = GraphBuilder()
    y = builder.input("h", (size,))
    for one in reversed(chain):
        if one.kind in ("last", "dropout", "slice", "reshape"):
            continue
        options = dict(one.options)
        if one.kind == "softmax":
            options["axis"] = -1
        y = builder.add(one.kind, one.name, {"x": y}, graph.layer_tensors(one), options)["y"]
    if y.name == "h":
        raise UnsupportedError(f"output {output!r}: there is no head behind layer {layer.name!r}")
    builder.output(y)
    return type(model)(builder.build(), engine=model.engine, dtype=str(model.dtype)), size, layer.name


def _is_of_a_step(layer: Layer, x: Value) -> bool:
    """Whether it computes each step by itself, or takes the last one."""
    options = layer.options
    if layer.kind == "layer_norm":
        return options["axes"] == 1
    if layer.kind == "softmax":
        return options["axis"] == len(x.shape) - 1
    if layer.kind == "slice":
        return x.has_time and (options["axis"], options["start"], options["count"]) == (0, -1, 1)
    if layer.kind == "reshape":
        # of the one step that a slice has taken
        return x.has_time and x.shape[0] == 1 and options["shape"] == "-1"
    return layer.kind in (*_OF_A_STEP, "last")


def _chosen(trace: Trace, layers: Any) -> list[str]:
    recurrent = [name for name in trace if "h" in trace[name].parts]
    if layers is None:
        if not recurrent:
            raise ArgumentError(f"trace: expected the part h of a recurrent layer, found {', '.join(trace)}")
        return recurrent
    names = [layers] if isinstance(layers, str) else layers
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise ArgumentError(f"layers: expected a text or a list of texts, found {described(layers)}")
    for name in names:
        if name not in recurrent:
            raise ArgumentError(f"layers: the trace has h of {', '.join(recurrent) or 'no layer'}, not of {name!r}")
    return list(names)
