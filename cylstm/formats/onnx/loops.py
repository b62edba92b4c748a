"""A ``Loop`` or a ``Scan`` that is exactly one LSTM, GRU or RNN, written out step by step, as that layer.

tf2onnx writes a Loop that counts the steps, takes each from a sequence and computes a cell; PyTorch and this package's
export write a Scan. The body is built as a network of one step. If that is one cell whose states are what the loop
carries on, and nothing besides, the loop is the layer; any other loop is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.errors import CylstmError, FormatError
from cylstm.formats.onnx.call import Call
from cylstm.formats.onnx.model import Node, Subgraph
from cylstm.formats.onnx.operators.recurrent import of_any_batch
from cylstm.formats.onnx.tensors import read_array
from cylstm.program.interface import Given, Interface
from cylstm.program.network import Network
from cylstm.program.operations import shape
from cylstm.program.operations.parts import select
from cylstm.program.operations.recurrent import Direction, recurrent
from cylstm.program.patterns import Cell, cell_of, with_biases
from cylstm.program.tensor import BATCH, Tensor, is_constant, shape_of

if TYPE_CHECKING:
    from cylstm.formats.onnx.run import Run, Scope

_WHAT = {
    "Loop": "Loop, which repeats its nodes as often as the numbers say, is supported where it is one LSTM, GRU or RNN",
    "Scan": "Scan, which repeats its nodes for each step, is supported where it is one LSTM, GRU or RNN",
}
_ADVICE = (
    "; tf2onnx writes such loops for an RNN with masks and for cells on top of one another: save the Keras model as a "
    ".keras file and load that, or export the layer as an LSTM, GRU or RNN"
)
#: the types of numbers, as TensorProto has them, in which a number of steps stays what it is, and that of truths
_WIDE = (1, 6, 7, 9, 11)
#: a number of repetitions that only says that there is no other limit
_ANY_COUNT = (1 << 31) - 1


class _NoCell(Exception):
    """Why a loop is no layer."""


@dataclass
class _Body:
    """What a loop repeats.

    Attributes
    ----------
    graph : Subgraph
    steps : dict of str to str or None
        Value of one step -> that of all steps outside; None where it is `_Body.given` that has them.
    given : dict of str to Any
        What is known of the inputs: that of all steps, of a step's values; else what never changes.
    states : dict of str to str
        Input -> the output that it becomes.
    first : dict of str to Any
        Input -> the state that it begins with.
    results : tuple of str
        Outputs of each step.
    is_reverse : bool
    """

    graph: Subgraph
    steps: dict[str, Any]
    given: dict[str, Any]
    states: dict[str, str]
    first: dict[str, Any]
    results: tuple[str, ...]
    is_reverse: bool = False


def loop(run: Run, scope: Scope, node: Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """The results of a Loop or Scan. Raises `UnsupportedError` if it is no layer."""
    net, place = run.net, (run.net.name, run.net.where)
    try:
        return (_of_loop if node.key == "Loop" else _of_scan)(run, scope, node, inputs)
    except _NoCell as error:
        net.name, net.where = place
        raise net.refuse(f"{_WHAT[node.key]}; here {error}{_ADVICE}") from None


def _origin(producers: Mapping[str, Node], name: str, *through: str) -> str:
    """The value that a value is a copy of, or one of another type."""
    for _ in range(len(producers)):
        maker = producers.get(name)
        if maker is None or maker.key not in ("Identity", *through) or len(maker.inputs) != 1:
            break
        if maker.key == "Cast" and maker.attributes.get("to") not in _WIDE:
            break
        name = maker.inputs[0]
    return name


def _outside(run: Run, scope: Scope, name: str) -> Any:
    """A value of the graph around the loop."""
    net, place = run.net, (run.net.name, run.net.where)
    found = run.read(scope, name)
    net.name, net.where = place
    return found


def _body(run: Run, node: Node) -> Subgraph:
    body = node.attributes.get("body")
    if not isinstance(body, Subgraph):
        raise FormatError(f"{run.net.place_name}: without a body")
    return body


def _of_scan(run: Run, scope: Scope, node: Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    graph = _body(run, node)
    taken = node.attributes.get("num_scan_inputs")
    if not isinstance(taken, int) or not 0 < taken <= len(inputs) or len(graph.inputs) != len(inputs):
        raise FormatError(f"{run.net.place_name}: num_scan_inputs does not fit its inputs")
    carried = len(inputs) - taken
    given = len(graph.outputs) - carried
    directions = _numbers(node, "scan_input_directions", taken) + _numbers(node, "scan_output_directions", given)
    axes = _numbers(node, "scan_input_axes", taken) + _numbers(node, "scan_output_axes", given)
    if scope.opsets.get("", 0) < 9 or any(axes) or len(set(directions)) != 1 or given < 0:
        raise _NoCell("steps lie along another axis than the first, or in two directions")
    names, results = [one.name for one in graph.inputs], [one.name for one in graph.outputs]
    body = _Body(
        graph,
        dict(zip(names[carried:], inputs[carried:])),
        {},
        dict(zip(names[:carried], results)),
        dict(zip(names[:carried], inputs)),
        tuple(results[carried:]),
        bool(directions[0]),
    )
    y, last = _layer(run, scope, node, body)
    return (*(last[name] for name in names[:carried]), *[y] * given)


def _numbers(node: Node, name: str, count: int) -> list[int]:
    found = node.attributes.get(name) or (0,) * max(count, 0)
    return list(found) if isinstance(found, tuple) else [-1]


def _of_loop(run: Run, scope: Scope, node: Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    graph = _body(run, node)
    carried = len(graph.inputs) - 2
    if carried < 1 or len(inputs) != carried + 2 or len(graph.outputs) < carried + 1:
        raise FormatError(f"{run.net.place_name}: its body does not fit its inputs")
    producers = {output: one for one in graph.nodes for output in one.outputs if output}

    origin = partial(_origin, producers)

    def known(name: str) -> Any:
        """What never changes: of the body's own, of what the loop takes, or of the graph around it."""
        name = origin(name)
        if name in same:
            return same[name]
        if name in names or name in producers:
            return None
        if name in graph.initializers:
            return read_array(graph.initializers[name], run.model.path, run.net.place_name)
        return _outside(run, scope, name)

    names = [one.name for one in graph.inputs]
    outputs = [one.name for one in graph.outputs]
    same = {
        name: first for name, first, out in zip(names[2:], inputs[2:], outputs[1:]) if origin(out) == name
    }  # fmt: skip
    counters = {names[0]: ""}
    for name, first, out in zip(names[2:], inputs[2:], outputs[1:]):
        if _is_whole(first) and name not in same:
            if first.item() != 0 or not _adds_one(producers.get(origin(out)), name, origin, known):
                raise _NoCell(f"{name!r:.200} is a whole number that is no count of the steps")
            counters[name] = origin(out)
    states = {name: out for name, out in zip(names[2:], outputs[1:]) if name not in same and name not in counters}
    steps: dict[str, Any] = {}
    for one in graph.nodes:
        if one.key == "Gather" and len(one.inputs) == 2 and origin(one.inputs[1]) in counters:
            data = known(one.inputs[0])
            if data is None or one.attributes.get("axis", 0) != 0:
                raise _NoCell(f"{one.name!r:.200} takes a step of what is no sequence (time, batch, features)")
            steps[one.outputs[0]] = data
    body = _Body(
        graph, steps, same, states, {name: inputs[names.index(name)] for name in states}, tuple(outputs[carried + 1 :])
    )
    count = _count(run, scope, node, graph, inputs, _Reader(producers, origin, known, counters))
    for data in steps.values():
        if shape_of(data)[:1] != (count,):
            raise _NoCell(f"there are {count} steps of {shape_of(data)}")
    y, last = _layer(run, scope, node, body)
    found = [last[name] if name in last else same.get(name, count) for name in names[2:]]
    return (*found, *[y] * len(body.results))


@dataclass
class _Reader:
    """What is known of the nodes of a Loop's body, as `_of_loop` has it."""

    producers: Mapping[str, Node]
    origin: Any
    known: Any
    counters: Mapping[str, str]


def _count(run: Run, scope: Scope, node: Node, graph: Subgraph, inputs: Sequence[Any], reader: _Reader) -> Any:
    """How often a Loop repeats its body."""
    limits = []
    if inputs[0] is not None and not (_is_whole(inputs[0]) and int(inputs[0]) >= _ANY_COUNT):
        limits.append(inputs[0])
    if inputs[1] is not None and not _is_true(inputs[1]):
        begins = _origin(scope.producers, node.inputs[1])
        first = scope.producers.get(begins)
        if first is None or first.key != "Less" or len(first.inputs) != 2:
            raise _NoCell("it depends on the numbers whether it begins")
        zero, limit = (_outside(run, scope, _origin(scope.producers, name, "Cast")) for name in first.inputs)
        if not isinstance(zero, np.ndarray) or zero.size != 1 or zero.dtype == object or zero.any():
            raise _NoCell("it depends on the numbers whether it begins")
        limits.append(limit)
    waiting = [graph.outputs[0].name]
    while waiting:
        name = reader.origin(waiting.pop(), "Cast")
        maker = reader.producers.get(name)
        if name == graph.inputs[1].name:
            continue
        if maker is None:
            if not _is_true(reader.known(name)):
                raise _NoCell("it depends on the numbers when it ends")
        elif maker.key == "And" and len(maker.inputs) == 2:
            waiting += maker.inputs
        elif maker.key == "Less" and len(maker.inputs) == 2 and _is_next(maker.inputs[0], reader):
            limits.append(reader.known(reader.origin(maker.inputs[1], "Cast")))
        else:
            raise _NoCell("it depends on the numbers when it ends")
    sizes = {_size(run, limit) for limit in limits}
    if len(sizes) != 1 or None in sizes:
        raise _NoCell("it does not say how often it repeats them")
    return sizes.pop()


def _size(run: Run, limit: Any) -> Any:
    """A number of repetitions as a size; None if it is none."""
    if not isinstance(limit, np.ndarray) or limit.size != 1 or limit.dtype.kind not in "iuO":
        return None
    found = limit.reshape(-1)[0]
    return run.net.size(found if limit.dtype == object else int(found))


def _is_true(found: Any) -> bool:
    return isinstance(found, np.ndarray) and found.size == 1 and found.dtype == np.bool_ and bool(found.all())


def _is_whole(found: Any) -> bool:
    return isinstance(found, np.ndarray) and found.size == 1 and found.ndim == 0 and found.dtype.kind in "iu"


def _is_next(name: str, reader: _Reader) -> bool:
    """Whether a value is the number of the step after this one."""
    name = reader.origin(name, "Cast")
    if name in [one for one in reader.counters.values() if one]:
        return True
    return any(
        _adds_one(reader.producers.get(name), counter, reader.origin, reader.known) for counter in reader.counters
    )


def _adds_one(node: Node | None, name: str, origin: Any, known: Any) -> bool:
    """Whether a node adds 1 to a value."""
    if node is None or node.key != "Add" or len(node.inputs) != 2:
        return False
    a, b = map(origin, node.inputs)
    one = known(b if a == name else a) if name in (a, b) and a != b else None
    return isinstance(one, np.ndarray) and _is_whole(one) and one.item() == 1


def _layer(run: Run, scope: Scope, node: Node, body: _Body) -> tuple[Any, dict[str, Any]]:
    """The output of each step, (time, batch, size), and the last states by the names of the body's inputs."""
    net = run.net
    sequences: dict[str, Tensor] = {}
    first: dict[str, Any] = {}
    for name, data in body.steps.items():
        if not isinstance(data, Tensor) or data.ndim != 3 or data.axes[1] != BATCH or not isinstance(data.size(2), int):
            raise _NoCell("it takes steps of what is no sequence (time, batch, features)")
        sequences[name] = data
    for name, given in body.first.items():
        sizes = shape_of(given) if is_constant(given) or isinstance(given, Tensor) else ()
        if len(sizes) != 2 or not isinstance(sizes[1], int):
            raise _NoCell(f"{name!r:.200}, which it carries on, is no state (batch, size)")
        first[name] = given
    cell, names = _cell(run, scope, node, body, sequences, first)
    if len(cell.inputs) != 1 or names[cell.inputs[0]] not in sequences:
        raise _NoCell("its cell does not read the steps of one sequence")
    x = sequences[names[cell.inputs[0]]]
    call = Call(net, node.key, net.name, (), {}, scope.opsets.get("", 0))
    states = [of_any_batch(call, shape.unsqueeze(net, first[names[one]], 0)) for one in cell.states.values()]
    direction = Direction(cell.weights, body.is_reverse, cell.options)
    y, *last = recurrent(net, cell.kind, x, states, [[direction]], batch_first=False)
    return y, {names[one]: select(net, state, 0, 0) for one, state in zip(cell.states.values(), last)}


def _cell(
    run: Run,
    scope: Scope,
    node: Node,
    body: _Body,
    sequences: Mapping[str, Tensor],
    first: Mapping[str, Any],
) -> tuple[Cell, dict[str, str]]:
    """The cell that the body is, and the body's names of the values that the cell reads."""
    net = Network(run.net.dtype)
    net.name, net.where = run.net.name, run.net.where
    interface = Interface(net)
    values = dict(body.given)
    sizes: dict[str, Any] = {name: x.size(2) for name, x in sequences.items()}
    sizes |= {name: shape_of(state)[1] for name, state in first.items()}
    for name, size in sizes.items():
        values[name] = interface.add_input(Given(name, ("N", int(size))))
    outputs = dict.fromkeys((*body.states.values(), *body.results))
    try:
        for name, found in run.of_body(scope, node, body.graph, values, net, tuple(outputs)).items():
            interface.add_output(found)
            outputs[name] = interface.outputs[-1].name
        graph = with_biases(interface.build())
    except CylstmError as error:
        raise _NoCell(f"its body is no network of one step ({error})") from None
    cell = cell_of(graph, {interface.named_inputs[name]: str(outputs[out]) for name, out in body.states.items()})
    if cell is None:
        raise _NoCell("its body is no such cell")
    if any(cell.resolve(str(outputs[name])) != cell.results["h"] for name in body.results):
        raise _NoCell("each of its steps gives something else than the cell's state")
    return cell, {given: name for name, given in interface.named_inputs.items()}
