"""Parts of a network: graph to graph, cut by the names of values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from cylstm.errors import ArgumentError, ShapeError
from cylstm.graph.builder import GraphBuilder, common_steps
from cylstm.graph.graph import Graph, Layer
from cylstm.graph.values import Axis, Value

_MOST_NAMES = 40


def extract(graph: Graph, inputs: Iterable[str] | None = None, outputs: Iterable[str] | None = None) -> Graph:
    """The part of a graph that computes `outputs` from `inputs`.

    Each layer of it is the same as in the whole, so its results have the same bits. A value that becomes an input has
    a mask of its own, which `predict` may be given, in place of that which the layers before it had made.

    Parameters
    ----------
    graph : Graph
    inputs, outputs : iterable of str, optional
        Names of values, or of layers, which stand for their output; those of the whole network if not given: of its
        inputs then those that the outputs depend on.

    Raises
    ------
    ArgumentError
        If there is no value of such a name, or the outputs depend on something that is not among the inputs.
    ShapeError
        If a layer needs a number of steps that only the whole network gives.
    """
    wanted = [
        _value(graph, name, "outputs") for name in _names(graph.outputs if outputs is None else outputs, "outputs")
    ]
    given = None if inputs is None else [_value(graph, name, "inputs") for name in _names(inputs, "inputs")]
    starts = list(graph.inputs) if given is None else [value.name for value in given]
    for value in wanted:
        if value.name in starts:
            raise ArgumentError(f"outputs: {value.name!r} is an input too; nothing computes it")
    makers = {output: layer for layer in graph.layers for output in layer.outputs.values()}
    # a mask belongs to the value whose steps it tells, and comes with it where that is an input
    own_masks = {graph.values[name].mask: name for name in reversed(starts) if graph.values[name].mask is not None}
    needed: set[str] = set()
    used: set[str] = set()
    missing: dict[str, str] = {}
    waiting = [value.name for value in wanted]
    while waiting:
        name = waiting.pop()
        if name in starts or name in own_masks:
            used.add(name)
            continue
        if name not in makers:
            missing.setdefault(name, name)
            continue
        layer = makers[name]
        if layer.name not in needed:
            needed.add(layer.name)
            waiting += layer.inputs.values()
    if missing:
        raise ArgumentError(_incomplete(graph, missing, wanted, starts))
    if given is None:
        starts = [name for name in starts if name in used or graph.values[name].mask in used]
    else:
        idle = [name for name in starts if name not in used and graph.values[name].mask not in used]
        if idle:
            raise ArgumentError(
                f"inputs: {', '.join(map(repr, idle))} is not needed for {_listed(value.name for value in wanted)}"
            )
    return _built(graph, starts, [value.name for value in wanted], needed, own_masks)


def _built(
    graph: Graph, starts: Sequence[str], wanted: Sequence[str], needed: set[str], own_masks: Mapping[str | None, str]
) -> Graph:
    """The part as a graph, whose shapes are found anew from its inputs."""
    builder = GraphBuilder()
    found: dict[str, Value] = {}
    layers = [layer for layer in graph.layers if layer.name in needed]
    read = {name for layer in layers for name in layer.inputs.values()}
    times: dict[Axis, str] = {}
    computed = {name for layer in layers for name in layer.outputs.values()}
    for name in starts:
        value = graph.values[name]
        if not value.has_time and len(value.shape) > 1:
            sizes = ", ".join(["batch", *map(str, value.shape)])
            raise ArgumentError(f"inputs: {name!r} ({sizes}) has several axes and no time, which no input has")
        is_masked = value.mask in read and value.mask not in computed and own_masks[value.mask] == name
        # values of one time in the whole have one in the part
        first = times.setdefault(value.axis, name) if value.axis is not None else name
        made = builder.input(
            name,
            value.shape,
            masked=is_masked,
            indices=value.kind == "index",
            time_of=None if first == name else first,
        )
        found[name] = made
        if is_masked:
            assert made.mask is not None and value.mask is not None
            found[value.mask] = builder.value(made.mask)
    for layer in layers:
        inputs: dict[str, Value | None] = {role: found[name] for role, name in layer.inputs.items()}
        inputs.setdefault("mask", None)
        weights = {role: name for role, name in layer.weights.items()}
        for name in weights.values():
            if name not in builder.tensors():
                builder.tensor(name, graph.tensors[name])
        try:
            made_outputs = builder.add(layer.kind, layer.name, inputs, weights, layer.options, dict(layer.outputs))
        except ShapeError as error:
            raise type(error)(f"extract: {error}") from error
        for role, name in layer.outputs.items():
            found[name] = made_outputs[role]
    for name in wanted:
        builder.output(found[name])
    part = builder.build(graph.metadata, {**graph.provenance, "part": {"inputs": [*starts], "outputs": [*wanted]}})
    ends = {*starts, *wanted}
    fixed = common_steps(part.values[name].shape[0] for name in starts if part.values[name].has_time)
    is_whole = any(name in graph.inputs and graph.values[name].has_time for name in starts)
    return part._replace(
        layouts={name: layout for name, layout in graph.layouts.items() if name in ends},
        window=graph.window if is_whole else fixed,
        stateful=tuple(name for name in graph.stateful if name in needed),
        weight_types={place: kind for place, kind in graph.weight_types.items() if place[0] in needed},
        noise={name: entries for name, entries in graph.noise.items() if name in needed},
    )


def computed_masks(graph: Graph, part: Graph) -> list[tuple[str, str]]:
    """Inputs of a part whose mask a layer of the whole computes, and that layer's name."""
    makers = {output: layer.name for layer in graph.layers for output in layer.outputs.values()}
    found = []
    for name in part.inputs:
        mask = graph.values[name].mask
        if part.values[name].mask is not None and mask in makers:
            found.append((name, makers[mask]))
    return found


def _names(given: object, what: str) -> list[str]:
    """Names that are given: one, or several."""
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise ArgumentError(f"{what}: expected a list of names, found {given!r:.80}")
    if len(set(names)) < len(names):
        raise ArgumentError(f"{what}: a name twice: {', '.join(map(repr, names))}")
    return list(names)


def _value(graph: Graph, name: str, what: str) -> Value:
    """The value that a name is of, or the only one that a layer of this name gives."""
    value = graph.values.get(name)
    if value is None:
        layer = next((layer for layer in graph.layers if layer.name == name), None)
        if layer is not None:
            value = graph.values[_main_output(layer, what)]
    if value is None:
        known = [*graph.inputs, *(one for layer in graph.layers for one in layer.outputs.values())]
        known = [one for one in dict.fromkeys(known) if graph.values[one].kind != "mask"]
        near = difflib.get_close_matches(name, known, 3, 0.6)
        hint = f"; near: {', '.join(map(repr, near))}" if near else ""
        raise ArgumentError(f"{what}: no layer and no value is named {name!r}{hint}; there are {_listed(known)}")
    if value.kind == "mask":
        raise ArgumentError(f"{what}: {name!r} is a mask, which goes with the steps that it tells of")
    return value


def _main_output(layer: Layer, what: str) -> str:
    if "y" in layer.outputs:
        return layer.outputs["y"]
    if len(layer.outputs) == 1:
        return next(iter(layer.outputs.values()))
    raise ArgumentError(f"{what}: layer {layer.name!r} gives {_listed(layer.outputs.values())}; name one")


def _incomplete(graph: Graph, missing: Mapping[str, str], wanted: Sequence[Value], starts: Sequence[str]) -> str:
    """What to say where the outputs depend on more than the inputs."""
    needs = []
    for name in missing:
        owner = next((one for one in graph.inputs if graph.values[one].mask == name), None)
        if owner in missing:
            continue
        needs.append(f"the mask of {owner!r}" if owner is not None else repr(name))
    return (
        f"inputs: {_listed(value.name for value in wanted)} also depends on {', '.join(needs)}; name that too, or a "
        f"value between; given are {_listed(starts)}"
    )


def _listed(names: Iterable[str]) -> str:
    found = [repr(name) for name in names]
    left = len(found) - _MOST_NAMES
    return ", ".join(found[:_MOST_NAMES]) + (f" and {left} more" if left > 0 else "")
