"""The nodes of an ONNX graph while it is made, and their messages."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import TypeAlias

import numpy as np

from cylstm.formats.onnx.write_protobuf import Message

#: of every file: in it the axes of all reductions are inputs; ONNX Runtime 1.14 and later read it
OPSET = 18
#: the format of the file that belongs to it
IR_VERSION = 8

#: the first and the last number that an int64 holds: beyond any axis
FIRST, LAST = -(1 << 63), (1 << 63) - 1

_TYPES = {"float32": 1, "int32": 6, "int64": 7, "bool": 9, "float64": 11}

#: sizes, names of sizes that may be any, and None for those without a name
Shape: TypeAlias = Sequence[int | str | None]
Attribute: TypeAlias = "int | float | str | Sequence[int] | Sequence[str] | Body"


class Node:
    """One operator."""

    __slots__ = ("attributes", "inputs", "kind", "name", "outputs")

    def __init__(
        self, kind: str, name: str, inputs: list[str], outputs: list[str], attributes: Mapping[str, Attribute]
    ) -> None:
        self.kind = kind
        self.name = name
        self.inputs = inputs
        self.outputs = outputs
        self.attributes = attributes

    def reads(self) -> Iterator[str]:
        """The names that it and the bodies in it read."""
        yield from self.inputs
        for attribute in self.attributes.values():
            if isinstance(attribute, Body):
                yield from attribute.outputs
                for node in attribute.nodes:
                    yield from node.reads()


class Body:
    """A graph within a node: what a Scan does at each step.

    Attributes
    ----------
    nodes : list of Node
    inputs : list of (name, type)
    outputs : list of str
    dtype : str
        The type of all outputs.
    shapes : list of Shape
        Theirs: older ONNX Runtimes take no Scan that leaves them out.
    """

    def __init__(
        self, nodes: list[Node], inputs: list[tuple[str, str]], outputs: list[str], dtype: str, shapes: list[Shape]
    ) -> None:
        self.nodes = nodes
        self.inputs = inputs
        self.outputs = outputs
        self.dtype = dtype
        self.shapes = shapes


class Nodes:
    """Adds operators, each after those that it reads, and the constants that they read.

    Names of tensors are unique in the whole file. Within `body` operators go to the body of a Scan instead, and may
    read everything that was there before.

    Parameters
    ----------
    dtype : numpy.dtype
        float32 or float64: of all numbers that are no indices.
    taken : collection of str
        Names that inputs and outputs have.

    Attributes
    ----------
    where : str
        The layer whose operators are added: names begin with it.
    constants : dict of str to ndarray
    """

    def __init__(self, dtype: np.dtype, taken: Collection[str]) -> None:
        self.dtype = dtype
        self.where = ""
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self._known: dict[tuple[object, ...], str] = {}
        self._taken = set(taken)
        self._count: dict[str, int] = {}

    def fresh(self, hint: str) -> str:
        """A name that is not taken."""
        base = name = f"{self.where}/{hint}" if self.where else hint
        while name in self._taken:
            self._count[base] = self._count.get(base, 0) + 1
            name = f"{base}_{self._count[base]}"
        self._taken.add(name)
        return name

    def add(self, kind: str, inputs: Sequence[str], outputs: int = 1, /, **attributes: Attribute) -> list[str]:
        """One operator, and the names of what it gives; an input that is not given is ""."""
        first = self.fresh(kind)
        names = [first, *(self.fresh(f"{kind}.{i}") for i in range(1, outputs))]
        self.nodes.append(Node(kind, first, list(inputs), names, attributes))
        return names

    def op(self, kind: str, /, *inputs: str, **attributes: Attribute) -> str:
        """One operator that gives one tensor."""
        return self.add(kind, inputs, 1, **attributes)[0]

    # constants

    def constant(self, array: np.ndarray, hint: str = "constant") -> str:
        """A constant of the file. Equal ones are there once: layers may share weights, which are laid out for each."""
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        key = (array.dtype.name, array.shape, sha256(array.reshape(-1).view(np.uint8).data).digest())
        if key not in self._known:
            self._known[key] = name = self.fresh(hint)
            self.constants[name] = array
        return self._known[key]

    def weight(self, array: np.ndarray, hint: str = "weight") -> str:
        """A constant of the network's type."""
        return self.constant(np.asarray(array, self.dtype), hint)

    def number(self, number: float) -> str:
        """One number of the network's type, without axes."""
        return self.constant(np.asarray(number, self.dtype), "number")

    def ints(self, *numbers: int) -> str:
        """Whole numbers (n,)."""
        return self.constant(np.array(numbers, np.int64), "ints")

    def whole(self, number: int) -> str:
        """A whole number, without axes."""
        return self.constant(np.asarray(number, np.int64), "whole")

    # operators that are used in many places

    def cast(self, x: str, dtype: str = "") -> str:
        """Of the network's type, or of another."""
        return self.op("Cast", x, to=_TYPES[dtype or self.dtype.name])

    def is_true(self, x: str) -> str:
        """bool: whether a number is not 0; NaN is not 0."""
        return self.op("Not", self.op("Equal", x, self.number(0)))

    def transpose(self, x: str, order: Sequence[int]) -> str:
        """The axes in another order."""
        return x if list(order) == sorted(order) else self.op("Transpose", x, perm=list(order))

    def unsqueeze(self, x: str, *axes: int) -> str:
        """Axes of size 1, in the places that they have in the result."""
        return self.op("Unsqueeze", x, self.ints(*axes)) if axes else x

    def squeeze(self, x: str, *axes: int) -> str:
        """Without these axes of size 1."""
        return self.op("Squeeze", x, self.ints(*axes)) if axes else x

    def reshape(self, x: str, *sizes: int) -> str:
        """0 keeps the size in the same place, -1 follows from the others."""
        return self.op("Reshape", x, self.ints(*sizes))

    def slice(self, x: str, axis: int, start: int, end: int = LAST, step: int = 1) -> str:
        """A part of one axis."""
        return self.op("Slice", x, *(self.ints(number) for number in (start, end, axis, step)))

    def pad(self, x: str, rank: int, axis: int, before: int, after: int, number: float, mode: str = "constant") -> str:
        """Numbers before and after one of `rank` axes.

        The operator's input for some axes alone is not used: ONNX Runtime 1.32 moves a Transpose past it wrongly.
        """
        if not before and not after:
            return x
        pads = [0] * (2 * rank)
        pads[axis], pads[rank + axis] = before, after
        numbers = [self.number(number)] if mode == "constant" else []
        return self.op("Pad", x, self.ints(*pads), *numbers, mode=mode)

    def split(self, x: str, count: int, size: int, axis: int = -1) -> list[str]:
        """`count` equal parts of an axis."""
        return self.add("Split", [x, self.ints(*[size] * count)], count, axis=axis) if count > 1 else [x]

    def reduce(self, mode: str, x: str, *axes: int, keepdims: bool = True) -> str:
        """Mode "Sum", "Mean", "Max", ... over axes."""
        return self.op(f"Reduce{mode}", x, self.ints(*axes), keepdims=int(keepdims))

    def size(self, x: str, axis: int) -> str:
        """The size of an axis, (1,)."""
        return self.op("Shape", x, start=axis, end=axis + 1)

    def shape(self, *sizes: str | int) -> str:
        """A shape of sizes that are known and others that are tensors (1,)."""
        if all(isinstance(size, int) for size in sizes):
            return self.ints(*(int(size) for size in sizes))
        return self.op("Concat", *(self.ints(size) if isinstance(size, int) else size for size in sizes), axis=0)

    def expand(self, x: str, *sizes: str | int) -> str:
        """Repeated along axes of size 1, or in front; a size of 1 keeps the axis."""
        return self.op("Expand", x, self.shape(*sizes))

    def count_up(self, size: str) -> str:
        """0, 1, ... below a size (1,), as int64 (size,)."""
        return self.op("Range", self.whole(0), self.squeeze(size, 0), self.whole(1))

    def clip(self, x: str, limit: float) -> str:
        """From -limit to limit; as it is for 0."""
        return self.op("Clip", x, self.number(-limit), self.number(limit)) if limit else x

    # steps

    @contextmanager
    def body(self) -> Iterator[list[Node]]:
        """A list to which operators go meanwhile."""
        outer, self.nodes = self.nodes, []
        try:
            yield self.nodes
        finally:
            self.nodes = outer

    def scan(
        self,
        states: Sequence[str],
        sequences: Sequence[tuple[str, str]],
        step: Callable[[list[str], list[str]], tuple[list[str], list[str]]],
        shapes: Sequence[Shape],
        *,
        axis: int = 1,
        reverse: bool = False,
    ) -> tuple[list[str], list[str]]:
        """A Scan: ``step(states, xs)`` gives the next states and what is collected.

        Parameters
        ----------
        states : sequence of str
            What stands before the first step.
        sequences : sequence of (str, type)
            Read along `axis`, from the end if `reverse`.
        shapes : sequence of Shape
            Of each state, and then of what is collected at one step.

        Returns
        -------
        states, collected : list of str
            After the last step; what was collected along `axis`, in the order of the sequences.
        """
        before = [self.fresh("state") for _ in states]
        xs = [self.fresh("step") for _ in sequences]
        with self.body() as nodes:
            after, collected = step(before, xs)
            # a body gives each of its results under a name of its own
            outputs = [self.op("Identity", name) for name in (*after, *collected)]
        kinds = [*[self.dtype.name] * len(states), *(kind for _, kind in sequences)]
        body = Body(nodes, list(zip([*before, *xs], kinds)), outputs, self.dtype.name, list(shapes))
        attributes: dict[str, Attribute] = {
            "body": body,
            "num_scan_inputs": len(sequences),
            "scan_input_axes": [axis] * len(sequences),
            "scan_input_directions": [int(reverse)] * len(sequences),
            "scan_output_axes": [axis] * len(collected),
            "scan_output_directions": [int(reverse)] * len(collected),
        }
        results = self.add("Scan", [*states, *(name for name, _ in sequences)], len(outputs), **attributes)
        return results[: len(after)], results[len(after) :]

    # the end

    def used(self, outputs: Collection[str]) -> list[Node]:
        """The nodes that the outputs depend on; constants that they do not are forgotten."""
        needed, found = set(outputs), []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                found.append(node)
                needed.update(node.reads())
        self.constants = {name: array for name, array in self.constants.items() if name in needed}
        return found[::-1]


def rename(nodes: Sequence[Node], names: Mapping[str, str]) -> None:
    """Give tensors other names, in bodies too."""
    for node in nodes:
        node.inputs = [names.get(name, name) for name in node.inputs]
        node.outputs = [names.get(name, name) for name in node.outputs]
        for attribute in node.attributes.values():
            if isinstance(attribute, Body):
                rename(attribute.nodes, names)


def tensor_message(name: str, array: np.ndarray) -> Message:
    """A constant; its numbers are not copied."""
    found = Message()
    for size in array.shape:
        found.add_int(1, size)
    found.add_int(2, _TYPES[array.dtype.name])
    found.add_text(8, name)
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    found.add_bytes(9, little.reshape(-1).view(np.uint8).data if little.size else b"")
    return found


def value_message(name: str, dtype: str, shape: Shape | None) -> Message:
    """A name with its type and sizes; without sizes if they are None."""
    tensor = Message()
    tensor.add_int(1, _TYPES[dtype])
    if shape is not None:
        sizes = Message()
        for size in shape:
            one = Message()
            if isinstance(size, int):
                one.add_int(1, size)
            elif size is not None:
                one.add_text(2, size)
            sizes.add_message(1, one)
        tensor.add_message(2, sizes)
    kind = Message()
    kind.add_message(1, tensor)
    found = Message()
    found.add_text(1, name)
    found.add_message(2, kind)
    return found


def node_message(node: Node) -> Message:
    """An operator with its attributes."""
    found = Message()
    for name in node.inputs:
        found.add_text(1, name)
    for name in node.outputs:
        found.add_text(2, name)
    found.add_text(3, node.name)
    found.add_text(4, node.kind)
    for name, attribute in node.attributes.items():
        found.add_message(5, _attribute_message(name, attribute))
    return found


def _attribute_message(name: str, attribute: Attribute) -> Message:
    found = Message()
    found.add_text(1, name)
    if isinstance(attribute, Body):
        found.add_message(6, _body_message(name, attribute))
        kind = 5
    elif isinstance(attribute, str):
        found.add_text(4, attribute)
        kind = 3
    elif isinstance(attribute, float):
        assert math.isfinite(attribute)
        found.add_float(2, attribute)
        kind = 1
    elif isinstance(attribute, int):
        found.add_int(3, attribute)
        kind = 2
    elif all(isinstance(item, str) for item in attribute):
        for item in attribute:
            found.add_text(9, str(item))
        kind = 8
    else:
        for item in attribute:  # not packed: the schema of ONNX is proto2
            found.add_int(8, int(item))
        kind = 7
    found.add_int(20, kind)
    return found


def _body_message(name: str, body: Body) -> Message:
    found = Message()
    for node in body.nodes:
        found.add_message(1, node_message(node))
    found.add_text(2, name)
    for given, dtype in body.inputs:
        found.add_message(11, value_message(given, dtype, None))
    for given, shape in zip(body.outputs, body.shapes, strict=True):
        found.add_message(12, value_message(given, body.dtype, shape))
    return found
