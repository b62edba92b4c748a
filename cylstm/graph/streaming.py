"""Whether a network can run piece by piece over time, and how its time axes follow from those of its inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cylstm.errors import ShapeError
from cylstm.graph.graph import Graph
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.values import Axis


def why_no_stream(graph: Graph) -> str | None:
    """None if the network can run piece by piece over time, else which layer or input cannot and why.

    Of a network without time some of whose states go on from call to call, each call is a step.
    """
    inputs = [graph.values[name] for name in graph.inputs]
    if not any([value.has_time for value in inputs]):
        return None if graph.stateful else f"input {inputs[0].name!r} has no time axis, so there are no steps to stream"
    for name, value in zip(graph.inputs, inputs):
        if value.has_time and value.axis is None:
            return f"input {name!r} has a fixed number of steps, {value.shape[0]}, so there is nothing to stream"
    late: set[str] = set()
    for layer in graph.layers:
        reads = [graph.values[name] for name in layer.inputs.values()]
        writes = [graph.values[name] for name in layer.outputs.values()]
        in_pieces = any(value.axis is not None for value in (*reads, *writes))
        kind = LAYER_KINDS[layer.kind]
        reason = kind.streams(layer.options) if in_pieces else None
        multiple = kind.needs_multiple(layer.options) if in_pieces else 1
        if reason is None and multiple > 1 and reads[0].axis and reads[0].axis.length(settles(graph)) % multiple:
            reason = (
                f"it pads a sequence whose steps are no multiple of {multiple}, by their number, and those that come "
                "to it never are one"
            )
        if reason is None and {"h0", "c0"} & set(layer.inputs):
            reason = "its initial state comes from another layer"
        if reason is None and in_pieces and any(value.name in late for value in reads):
            reason = "it needs at every step what is known after the last one only"
        if reason is None and not in_pieces and kind.state(graph.stored_tensors(layer), layer.options):
            reason = "its sequence is not the input's, so its state would not go on from one piece to the next"
        if reason is not None:
            return f"layer {layer.name!r} cannot run step by step: {reason}"
        if in_pieces or any(value.name in late for value in reads):
            late.update(value.name for value in writes if value.axis is None)
    return None


def how_states_go_on(graph: Graph) -> str:
    """What a user has to do so that the states of Keras's stateful layers carry over from call to call."""
    by_hand = "give predict the states of these layers with initial_state= and return_state=True"
    return by_hand if why_no_stream(graph) else f"use stream(), which carries their state on, or {by_hand}"


def step_multiple(graph: Graph) -> int:
    """The number of steps of which a stream takes multiples: 1, unless a layer has a stride."""
    divides = (math.prod(rule[1] for rule in value.axis.rules) for value in graph.values.values() if value.axis)
    return math.lcm(1, *divides)


def settles(graph: Graph) -> int:
    """The steps, a multiple of `step_multiple`, after which as many steps come out of every call as of another of its
    length; until then fewer do.
    """
    multiple = step_multiple(graph)
    least = max([value.axis.settles() for value in graph.values.values() if value.axis], default=0)
    return -(-least // multiple) * multiple


def kept_groups(
    graph: Graph, sizes: Sequence[tuple[int, int]], warms_up: bool
) -> tuple[tuple[str, tuple[tuple[int, ...], ...]], ...]:
    """What a stream has as its state after those of `Graph.states`, from what the engine keeps of layers: of each the
    last steps that it has read; and, if it warms up, the steps taken, one number.
    """
    found: list[tuple[str, tuple[tuple[int, ...], ...]]] = []
    for index, size in sizes:
        layer = graph.layers[index]
        x = graph.values[layer.inputs["x"]]
        found.append((layer.name, ((size // x.size, *x.step_shape),)))
    return (*found, ("steps", ((1,),))) if warms_up else tuple(found)


def limited_axes(graph: Graph) -> list[tuple[str, str, Axis, int | None]]:
    """``[(layer, input, axis, most), ...]`` of the values whose time follows from an input's by rules or may only have
    `most` steps.
    """
    found: list[tuple[str, str, Axis, int | None]] = []
    for layer in graph.layers:
        most = LAYER_KINDS[layer.kind].most_steps(graph.stored_tensors(layer))
        for name in layer.outputs.values():
            axis = graph.values[name].axis
            if axis is not None and (axis.rules or most) and all((axis, most) != known[2:] for known in found):
                found.append((layer.name, axis.source, axis, most))
    return found


def check_lengths(limited: Sequence[tuple[str, str, Axis, int | None]], times: Mapping[str, int]) -> None:
    """Raise `ShapeError` if an input, by its name, has too few or too many steps for a layer of `limited_axes`."""
    for layer, source, axis, most in limited:
        steps = axis.length(times[source])
        if steps < 1:
            raise ShapeError(f"input {source!r}: {times[source]} steps are too few for layer {layer!r}")
        if most is not None and steps > most:
            raise ShapeError(f"input {source!r}: layer {layer!r} has a row for each of {most} steps, found {steps}")


def index_limits(graph: Graph) -> dict[str, int]:
    """Input name -> the number that all its indices must be below."""
    limits: dict[str, int] = {}
    for layer in graph.layers:
        limit = LAYER_KINDS[layer.kind].limit(graph.stored_tensors(layer), layer.options)
        name = layer.inputs.get("indices")
        if limit is not None and name is not None:
            limits[name] = min(limit, limits.get(name, limit))
    return limits
