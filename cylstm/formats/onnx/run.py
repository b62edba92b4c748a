"""Goes through the nodes of a model and builds its graph.

What depends on constants alone is computed as it is reached. A branch of an ``If`` whose condition is known then, and
the nodes of a function, are computed where they are called; nodes that no output needs are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats.onnx.call import Call, settled
from cylstm.formats.onnx.lengths import check_call
from cylstm.formats.onnx.limits import MOST_IN_ALL, MOST_TIMES, check_result, check_sizes
from cylstm.formats.onnx.loops import loop
from cylstm.formats.onnx.model import AttributeReference, Function, Node, OnnxModel, StoredTensor, Subgraph
from cylstm.formats.onnx.operators import OPERATORS
from cylstm.formats.onnx.tensors import read_array
from cylstm.program.network import Network
from cylstm.program.tensor import is_constant

#: functions and branches within one another
_MOST_DEPTH = 32
#: nodes that are computed, those of functions at each call
_MOST_NODES = 200_000

_LOOPS = ("Loop", "Scan")


@dataclass
class Scope:
    """The values that nodes can refer to: those of a graph, of a branch within it, or of one call of a function.

    Attributes
    ----------
    producers : dict of str to Node
        Value -> the node that computes it.
    values : dict
        Those that are known.
    initializers : mapping of str to StoredTensor
    opsets : mapping of str to int
    attributes : mapping
        Those of the function that is called.
    outer : Scope or None
        The graph around a branch.
    prefix : str
        In front of the names of nodes.
    depth : int
    """

    producers: dict[str, Node]
    values: dict[str, Any]
    initializers: Mapping[str, StoredTensor]
    opsets: Mapping[str, int]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outer: Scope | None = None
    prefix: str = ""
    depth: int = 0

    def of(self, name: str) -> Scope | None:
        """The scope that a value belongs to: this one or one around it."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values or name in scope.producers or name in scope.initializers:
                return scope
            scope = scope.outer
        return None


class Run:
    """Builds the graph of a model.

    Parameters
    ----------
    net : Network
    model : OnnxModel
    """

    def __init__(self, net: Network, model: OnnxModel) -> None:
        self.net = net
        self.model = model
        self.names: set[str] = set()
        self.computed = self.numbers = self.stored = 0
        self.outputs: Sequence[str] = ()
        self.calling: set[tuple[int, int]] = set()
        self.readers: dict[str, list[Node]] = {}
        for node in model.graph.nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)
        self.main = Scope(_producers(model.graph.nodes), {}, model.graph.initializers, model.opsets)

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Any]:
        """The values of these outputs, with those of the inputs given."""
        self.names |= set(inputs)
        self.outputs = outputs
        self.main.values.update(inputs)
        needed = alive(self.model.graph.nodes, outputs)
        for node in self.model.graph.nodes:
            if any(output in needed for output in node.outputs):
                self.compute(self.main, node)
        found = [self.read(self.main, name) for name in outputs]
        self.net.name, self.net.where = "output", ""
        return found

    def read(self, scope: Scope, name: str) -> Any:
        """A value by its name, computed first if need be."""
        home = scope.of(name)
        if home is None:
            raise FormatError(f"the value {name!r:.200} is computed by no node, and is no input and no initializer")
        if name not in home.values:
            if name in home.producers:
                self.compute(home, home.producers[name])
            else:
                tensor = home.initializers[name]
                home.values[name] = read_array(tensor, self.model.path, "initializer")
                self.stored += home.values[name].size
        found = home.values[name]
        if callable(found):
            found = home.values[name] = found()
        return found

    def compute(self, scope: Scope, node: Node) -> None:
        """Compute a node, and before it those that it needs."""
        waiting = [(scope, node)]
        running: set[tuple[int, int]] = set()
        while waiting:
            scope, node = waiting[-1]
            if _is_done(scope, node):
                waiting.pop()
                continue
            missing = []
            for name in node.inputs:
                home = scope.of(name) if name else None
                if home is not None and name not in home.values and name in home.producers:
                    missing.append((home, home.producers[name]))
            if not missing:
                waiting.pop()
                self.call(scope, node)
                continue
            if (id(scope), id(node)) in running:
                raise _cycle(node)
            running.add((id(scope), id(node)))
            waiting += missing

    def call(self, scope: Scope, node: Node) -> None:
        """Compute one node whose inputs are known, and keep its results."""
        self.computed += 1
        if self.computed > _MOST_NODES:
            raise FormatError(f"more than {_MOST_NODES:,} nodes, those of functions at each call")
        self.locate(scope, node)
        key = (id(scope), id(node))
        if key in self.calling:
            raise _cycle(node)
        self.calling.add(key)
        try:
            results = self.results(scope, node)
        except CylstmError as error:
            if self.net.name in str(error) or "layer " in str(error)[:6] or "node " in str(error)[:5]:
                raise
            raise type(error)(f"{self.net.place_name}: {error}") from error
        except MemoryError:
            raise
        except Exception as error:  # an argument that an operator is not written for
            raise self.net.refuse(
                f"{node.key} with these inputs and attributes is not supported ({type(error).__name__}: {error})"
            ) from error
        finally:
            self.calling.discard(key)
        outputs = _without_end(node.outputs)
        if len(results) < len(outputs):
            raise self.net.refuse(f"{len(outputs)} outputs, of which {len(results)} are computed, are not supported")
        for name, found in zip(node.outputs, results):
            if name:
                scope.values[name] = settled(found)

    def locate(self, scope: Scope, node: Node) -> None:
        """Name what follows after a node, in layers and in messages."""
        name = scope.prefix + node.name
        while name in self.names:
            name += "_"
        self.names.add(name)
        self.net.name, self.net.where = name, node.key

    def results(self, scope: Scope, node: Node) -> tuple[Any, ...]:
        """What a node gives."""
        function = self.model.functions.get((node.domain, node.operator, node.overload))
        inputs = tuple(self.read(scope, name) if name else None for name in _without_end(node.inputs))
        if function is not None:
            return self.of_function(scope, node, function, inputs)
        if node.key == "If":
            return self.of_branch(scope, node, inputs)
        if node.key in _LOOPS:
            return loop(self, scope, node, inputs)
        operator = OPERATORS.get(node.key)
        if operator is None:
            raise self.net.refuse(f"the operator {node.key} is not supported")
        opset = scope.opsets.get(node.domain)
        if opset is None:
            raise FormatError(f"{self.net.place_name}: the model imports no operators of domain {node.domain!r:.200}")
        attributes = {name: self.attribute(scope, found) for name, found in node.attributes.items()}
        attributes = {name: found for name, found in attributes.items() if found is not None}
        call = Call(self.net, node.key, self.net.name, inputs, attributes, opset, len(_without_end(node.outputs)))
        if len(self.net.examples) == 1:
            check_call(call, node.outputs, self.readers)
        call = replace(call, readers=lambda i: self.read_by(scope, node.outputs[i]) if i < len(node.outputs) else set())
        check_result(call)
        found = operator(call)
        check_sizes(call, found)
        results = found if isinstance(found, tuple) else (found,)
        self.numbers += sum(one.size for one in results if isinstance(one, np.ndarray))
        most = MOST_IN_ALL + MOST_TIMES * self.stored
        if self.numbers > most:
            raise call.refuse(f"more than {most:,} numbers of constants that are computed")
        return results

    def read_by(self, scope: Scope, name: str) -> set[str]:
        """The operators that read a value; one with a branch may read any."""
        found = set()
        for node in scope.producers.values():
            has_branch = any(isinstance(one, Subgraph) for one in node.attributes.values())
            if name in node.inputs or (name and has_branch):
                found.add(node.key)
        if scope is not self.main or name in self.outputs:
            found.add("output")
        return found

    def attribute(self, scope: Scope, found: Any) -> Any:
        """An attribute's value, None if it is one of the function's that its call does not give."""
        if isinstance(found, AttributeReference):
            found = scope.attributes.get(found.name)
        if isinstance(found, StoredTensor):
            return read_array(found, self.model.path, self.net.place_name)
        if isinstance(found, tuple) and any(isinstance(one, StoredTensor) for one in found):
            return tuple(read_array(one, self.model.path, self.net.place_name) for one in found)
        return found

    def of_branch(self, scope: Scope, node: Node, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The results of the branch of an ``If`` that a condition known now takes."""
        condition = inputs[0] if inputs else None
        if not isinstance(condition, np.ndarray) or condition.size != 1 or condition.dtype == object:
            raise self.net.refuse(
                "If with a condition that depends on the numbers or on a size of any length is not supported; if it "
                "depends on an input that never changes, give that with constants={...}"
            )
        branch = node.attributes.get("then_branch" if bool(condition.reshape(-1)[0]) else "else_branch")
        if not isinstance(branch, Subgraph) or branch.inputs or len(branch.outputs) < len(_without_end(node.outputs)):
            raise FormatError(f"{self.net.place_name}: an If without two branches that give its outputs")
        inner = Scope(
            _producers(branch.nodes), {}, branch.initializers, scope.opsets, scope.attributes, scope, scope.prefix,
            self.deeper(scope),
        )  # fmt: skip
        return tuple(self.read(inner, one.name) for one in branch.outputs)

    def of_function(self, scope: Scope, node: Node, function: Function, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The results of a function that the model defines."""
        if len(inputs) > len(function.inputs):
            raise FormatError(f"{self.net.place_name}: {len(inputs)} inputs for a function of {len(function.inputs)}")
        given = {name: self.given(scope, found) for name, found in node.attributes.items()}
        given = {name: found for name, found in given.items() if found is not None}
        unknown = [name for name in given if name not in (*function.attributes, *function.defaults)]
        missing = [name for name in function.attributes if name not in given]
        if unknown:
            raise FormatError(f"{self.net.place_name}: the function has no attribute {unknown[0]!r:.200}")
        if missing:
            raise FormatError(f"{self.net.place_name}: the function's attribute {missing[0]!r:.200} is missing")
        values = dict.fromkeys(function.inputs) | dict(zip(function.inputs, inputs))
        inner = Scope(
            _producers(function.nodes), values, {}, function.opsets, {**function.defaults, **given},
            None, f"{self.net.name}/", self.deeper(scope),
        )  # fmt: skip
        return tuple(self.read(inner, name) for name in function.outputs[: len(_without_end(node.outputs))])

    def of_body(
        self, scope: Scope, node: Node, body: Subgraph, values: Mapping[str, Any], net: Network, names: Sequence[str]
    ) -> dict[str, Any]:
        """Values of a loop's body, built in a network of its own from these of its inputs and from constants."""
        inner = Scope(
            _producers(body.nodes), dict(values), body.initializers, scope.opsets, scope.attributes, None,
            f"{self.net.name}/", self.deeper(scope),
        )  # fmt: skip
        needed = alive([one for one in body.nodes if not set(one.outputs) & set(values)], names)
        kept, place = self.net, (self.net.name, self.net.where)
        for name in needed:
            if inner.of(name) is None and scope.of(name) is not None:
                found = self.read(scope, name)
                if is_constant(found):
                    inner.values[name] = found
        kept.name, kept.where = place
        self.net = net
        try:
            return {name: self.read(inner, name) for name in names}
        finally:
            self.net = kept

    @staticmethod
    def given(scope: Scope, found: Any) -> Any:
        """An attribute that a function is called with."""
        return scope.attributes.get(found.name) if isinstance(found, AttributeReference) else found

    def deeper(self, scope: Scope) -> int:
        if scope.depth >= _MOST_DEPTH:
            raise FormatError(
                f"{self.net.place_name}: more than {_MOST_DEPTH} functions or branches within one another"
            )
        return scope.depth + 1


def alive(nodes: Sequence[Node], outputs: Iterable[str]) -> set[str]:
    """The values that the outputs need; of branches, what they read is not among them."""
    producers = _producers(nodes)
    needed: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in producers:
            waiting += filter(None, producers[name].inputs)
    return needed


def check_operators(model: OnnxModel, outputs: Iterable[str]) -> None:
    """Raise `UnsupportedError` that names every operator that is needed and not known, before anything is computed."""
    needed = alive(model.graph.nodes, outputs)
    unknown: dict[str, list[str]] = {}
    for node in model.graph.nodes:
        is_function = (node.domain, node.operator, node.overload) in model.functions
        is_known = is_function or node.key in OPERATORS or node.key in ("If", *_LOOPS)
        if not is_known and any(output in needed for output in node.outputs):
            unknown.setdefault(node.key, []).append(node.name)
    if unknown:
        listed = ", ".join(f"{key:.200} (node {names[0]!r:.200})" for key, names in unknown.items())
        raise UnsupportedError(f"these operators are not supported: {listed}")


def _cycle(node: Node) -> FormatError:
    return FormatError(f"node {node.name!r:.200}: it needs its own result: the nodes form a cycle")


def _producers(nodes: Sequence[Node]) -> dict[str, Node]:
    return {output: node for node in nodes for output in node.outputs if output}


def _is_done(scope: Scope, node: Node) -> bool:
    return all(output in scope.values for output in node.outputs if output)


def _without_end(names: Sequence[str]) -> tuple[str, ...]:
    """Names without those at the end that are left out."""
    kept = list(names)
    while kept and not kept[-1]:
        kept.pop()
    return tuple(kept)
