"""States of recurrent layers that a network takes as inputs and gives as outputs, made states of the layers themselves.

Where a number of such an input or output goes is found by moving numbers that stand for places through the layers
between: what only moves numbers (slices, permutations, concatenations) moves these alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cylstm.errors import FormatError
from cylstm.graph.builder import common_steps
from cylstm.graph.graph import Graph, Layer
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.values import Option

#: layers whose output is their state
_RECURRENT = ("lstm", "gru", "rnn")
#: role of an initial state -> that of the state after the last step
_ROLES = {"h0": "h", "c0": "c"}


class _Part(NamedTuple):
    """One state of one layer, and where its numbers are in an input and an output of the network."""

    layer: str
    role: str
    input: str
    read: np.ndarray
    output: str | None
    written: np.ndarray | None


def tie_states(graph: Graph, states: Mapping[str, str]) -> Graph:
    """The graph whose inputs and outputs that are states are gone: their layers carry them on.

    Parameters
    ----------
    graph : Graph
    states : dict of str to str
        Output -> the input that takes it at the next call.

    Raises
    ------
    FormatError
        If there is no such input or output, or an output is not what a state becomes that the input is.
    """
    for role, names, known in (
        ("output", tuple(states), graph.outputs),
        ("input", tuple(states.values()), graph.inputs),
    ):
        for name in names:
            if name not in known:
                raise FormatError(f"states: the network has no {role} {name!r:.200}; there are {', '.join(known)}")
    if len(set(states.values())) < len(states):
        raise FormatError("states: an input twice")
    parts = _parts(graph, set(states.values()), set(states))
    tied: dict[tuple[str, str], str] = {}
    for output, name in states.items():
        own = [part for part in parts if part.input == name]
        reason = _why_not(graph, output, name, own)
        if reason is not None:
            raise FormatError(f"states: {output!r:.200} is not the state that {name!r:.200} is: {reason}")
        tied |= {(part.layer, f"{part.role}0"): name for part in own}
    _check_whole(graph, set(tied))
    layers = [
        layer._replace(
            inputs={role: name for role, name in layer.inputs.items() if (layer.name, role) not in tied}
        )
        for layer in graph.layers
    ]  # fmt: skip
    outputs = tuple(name for name in graph.outputs if name not in states)
    if not outputs:
        raise FormatError("states: no output is left beside those that are states")
    needed, kept = set(outputs), []
    for layer in reversed(layers):
        if needed & set(layer.outputs.values()):
            kept.append(layer)
            needed |= set(layer.inputs.values())
    gone = set(states.values())
    used = gone & needed
    if used:
        name = sorted(used)[0]
        reader = next(layer for layer in kept if name in layer.inputs.values())
        raise FormatError(
            f"states: {name!r:.200} is not only the initial state of a layer: {reader.name!r:.200} ({reader.kind}) "
            "reads it too"
        )
    kept.reverse()
    stateful = {layer for layer, _ in tied}
    lost = sorted(stateful - {layer.name for layer in kept})
    if lost:
        raise FormatError(f"states: no other output depends on layer {lost[0]!r:.200}, whose state it is")
    inputs = tuple(name for name in graph.inputs if name not in gone)
    if not inputs:
        raise FormatError("states: no input is left beside those that are states")
    values = {name for layer in kept for name in (*layer.outputs.values(), *layer.inputs.values())}
    values |= {*inputs, *(str(graph.values[name].mask) for name in inputs)}
    weights = {name for layer in kept for name in layer.weights.values()}
    carriers = {
        layer.name for layer in kept if LAYER_KINDS[layer.kind].state(graph.stored_tensors(layer), layer.options)
    }
    is_open = any(graph.values[name].axis is not None for name in inputs)
    # where all states go on and there is a time they are those of any recurrent network
    stateful_names = (
        () if is_open and carriers <= stateful else tuple(layer.name for layer in kept if layer.name in stateful)
    )
    return graph._replace(
        values={name: value for name, value in graph.values.items() if name in values},
        layers=tuple(kept),
        inputs=inputs,
        outputs=outputs,
        tensors={name: tensor for name, tensor in graph.tensors.items() if name in weights},
        layouts={name: order for name, order in graph.layouts.items() if name in (*inputs, *outputs)},
        window=common_steps(graph.values[name].shape[0] for name in inputs if graph.values[name].has_time),
        stateful=stateful_names,
    )


def _check_whole(graph: Graph, tied: set[tuple[str, str]]) -> None:
    """Raise `FormatError` if some state of a layer goes on, and another does not."""
    for layer in graph.layers:
        roles = [role for role, state in _ROLES.items() if state in layer.outputs]
        own = [role for role in roles if (layer.name, role) in tied]
        for role in roles:
            if own and role not in own:
                given = layer.inputs.get(role)
                what = "zero at every call" if given is None else f"{given!r:.200}"
                raise FormatError(
                    f"states: layer {layer.name!r:.200} carries all of its states on or none, and its state "
                    f"{_ROLES[role]!r} begins as {what}; name the pair of that too"
                )


def proposed_states(graph: Graph) -> dict[str, str]:
    """The pairs that `tie_states` could tie, as far as each input is that of one output alone."""
    if len(graph.outputs) < 2 or len(graph.inputs) < 2:
        return {}
    parts = _parts(graph, set(graph.inputs), set(graph.outputs))
    found: dict[str, str] = {}
    for name in graph.inputs:
        own = [part for part in parts if part.input == name]
        fitting = [output for output in graph.outputs if own and _why_not(graph, output, name, own) is None]
        if len(fitting) == 1 and fitting[0] not in found:
            found[fitting[0]] = name
    if len(found) in (len(graph.outputs), len(graph.inputs)):
        return {}
    return found


def _why_not(graph: Graph, output: str, name: str, parts: Sequence[_Part]) -> str | None:
    """None if an output is, number by number, what the states become that an input is."""
    if not parts:
        readers = [layer for layer in graph.layers if name in layer.inputs.values()]
        found = f"; layer {readers[0].name!r:.200} ({readers[0].kind}) reads it" if readers else ""
        return f"it is the initial state of no LSTM, GRU or RNN, which alone carry states on{found}"
    size = math.prod(size or 1 for size in graph.values[name].shape)
    read = np.concatenate([part.read for part in parts])
    if len(np.unique(read)) < len(read):
        return "some of its numbers are the initial state of several layers"
    if len(read) < size:
        return f"of its {size} numbers the layers read {len(read)} as initial states"
    if _user_shape(graph, output) != _user_shape(graph, name):
        return f"one has the shape {_user_shape(graph, output)}, the other {_user_shape(graph, name)}"
    for part in parts:
        if part.output != output or part.written is None:
            return f"it does not hold the state {part.role!r} of layer {part.layer!r:.200} after the last step"
        if not np.array_equal(part.written, part.read):
            return f"the state {part.role!r} of layer {part.layer!r:.200} is at another place in it"
    return None


def _user_shape(graph: Graph, name: str) -> tuple[int | None, ...]:
    """The shape of an input or output as its user has it, without batch."""
    shape = graph.values[name].shape
    order = graph.layouts.get(name)
    return shape if order is None else tuple(shape[int(axis)] for axis in order)


def _places(graph: Graph, name: str) -> np.ndarray:
    """For each number of a value where it is in the user's array, flat."""
    shape = tuple(size or 1 for size in graph.values[name].shape)
    order = [int(axis) for axis in graph.layouts.get(name, range(len(shape)))]
    order += [axis for axis in range(len(shape)) if axis not in order]  # of size 1
    users = np.arange(math.prod(shape)).reshape([shape[axis] for axis in order])
    return users.transpose(np.argsort(order))


def _parts(graph: Graph, inputs: set[str], outputs: set[str]) -> list[_Part]:
    """The states of layers that come from these inputs, and where these outputs hold what they become."""
    known: dict[str, np.ndarray] = {}
    owners: list[tuple[str, str]] = []
    starts: list[int] = []
    count = 0
    ends: dict[str, np.ndarray] = {}
    for name in graph.inputs:
        value = graph.values[name]
        if name in inputs and value.axis is None and value.kind != "index":
            known[name] = _places(graph, name) + count
            starts.append(count)
            owners.append((name, ""))
            count += known[name].size
    read: dict[tuple[str, str], tuple[str, np.ndarray]] = {}
    bases: dict[tuple[str, str], int] = {}
    for layer in graph.layers:
        for role, state in _ROLES.items():
            name = layer.inputs.get(role, "")
            if state not in layer.outputs:
                continue
            if name in known:
                numbers = known[name].reshape(-1)
                first = int(np.searchsorted(starts, numbers[0], "right")) - 1
                owner, of_layer = owners[first]
                end = starts[first + 1] if first + 1 < len(starts) else count
                if not of_layer and (numbers >= starts[first]).all() and (numbers < end).all():
                    read[layer.name, state] = (owner, numbers - starts[first])
            size = graph.values[layer.outputs[state]].size
            known[layer.outputs[state]] = np.arange(count, count + size).reshape(
                tuple(one or 1 for one in graph.values[layer.outputs[state]].shape)
            )
            bases[layer.name, state] = count
            starts.append(count)
            owners.append((layer.name, state))
            count += size
        moved = _moved(graph, layer, known)
        if layer.kind in _RECURRENT and not layer.options["reverse"]:
            # the state is the last output too
            ends[layer.outputs["y"]] = known[layer.outputs["h"]]
            if graph.values[layer.outputs["y"]].shape[0] == 1:
                moved = known[layer.outputs["h"]][np.newaxis]
        if layer.kind == "last":
            x = layer.inputs["x"]
            moved = ends[x] if x in ends else known[x][-1] if x in known else None
        if moved is not None:
            known[layer.outputs["y"]] = moved
    found = []
    for (name, state), (owner, places) in read.items():
        base = bases[name, state]
        holder, written = None, None
        for output in graph.outputs:
            if output not in outputs or output not in known:
                continue
            flat = np.empty(known[output].size, np.int64)
            flat[_places(graph, output).reshape(-1)] = known[output].reshape(-1)
            own = np.flatnonzero((flat >= base) & (flat < base + len(places)))
            if len(own) == len(places) and len(np.unique(flat[own])) == len(own):
                holder, written = output, own[np.argsort(flat[own])]
                break
        found.append(_Part(name, state, owner, places, holder, written))
    return found


def _moved(graph: Graph, layer: Layer, known: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """What a layer that only moves numbers makes of these; None for any other."""
    mover = _MOVERS.get(layer.kind)
    roles = ["x", *(f"x{i}" for i in range(1, len(layer.inputs)))]
    sources = [layer.inputs[role] for role in roles if role in layer.inputs]
    if mover is None or not sources or not all(name in known for name in sources):
        return None
    found = mover(graph, layer, [known[name] for name in sources])
    shape = tuple(size or 1 for size in graph.values[layer.outputs["y"]].shape)
    return None if found is None else found.reshape(shape)


def _slice(graph: Graph, layer: Layer, arrays: Sequence[np.ndarray]) -> np.ndarray:
    options: Mapping[str, Any] = layer.options
    (x,) = arrays
    size = x.shape[options["axis"]]
    start, step, count = options["start"], options["step"], options["count"]
    start += size if start < 0 else 0
    stop = start + (count - 1) * step + 1 if count else size - options["before_end"]
    return np.take(x, range(start, stop, step), axis=options["axis"])


def _merge(graph: Graph, layer: Layer, arrays: Sequence[np.ndarray]) -> np.ndarray | None:
    options: Mapping[str, Any] = layer.options
    if options["mode"] != "concat":
        return None
    rank = max(array.ndim for array in arrays)
    if any(array.ndim < rank for array in arrays):
        return None
    return np.concatenate(arrays, axis=options["axis"])


def _take(graph: Graph, layer: Layer, arrays: Sequence[np.ndarray]) -> np.ndarray:
    indices = np.asarray(graph.tensors[layer.weights["indices"]]).astype(np.int64)
    return np.take(arrays[0], indices, axis=int(layer.options["axis"]))


def _permute(graph: Graph, layer: Layer, arrays: Sequence[np.ndarray]) -> np.ndarray:
    return arrays[0].transpose([int(axis) for axis in str(layer.options["order"])])


def _activation(graph: Graph, layer: Layer, arrays: Sequence[np.ndarray]) -> np.ndarray | None:
    option: Option = layer.options["activation"]
    return arrays[0] if option == "linear" else None


#: kind of a layer that only moves numbers -> what it makes of an array
_MOVERS: Mapping[str, Callable[[Graph, Layer, Sequence[np.ndarray]], np.ndarray | None]] = {
    "activation": _activation,
    "dropout": lambda graph, layer, arrays: arrays[0],
    "merge": _merge,
    "permute": _permute,
    "reshape": lambda graph, layer, arrays: arrays[0],
    "slice": _slice,
    "take": _take,
}
