"""The inputs and outputs of a program as those of its graph: which axes are the batch and a time, in which order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from cylstm.graph.graph import Graph
from cylstm.graph.values import Value
from cylstm.program.network import Network
from cylstm.program.operations.elementwise import function
from cylstm.program.operations.reduce import reduce
from cylstm.program.tensor import BATCH, Dim, Packed, Place, Tensor, is_constant

#: what an input is: numbers, whole numbers that choose rows of an embedding, truths, how many steps of another input
#: count in each row
InputKind: TypeAlias = Literal["numbers", "indices", "truths", "lengths", "padding"]


@dataclass(frozen=True)
class Given:
    """An input of a program.

    Attributes
    ----------
    name : str
    shape : tuple of int or str
        "N" for the batch and "T" for a time of any length.
    kind : {"numbers", "indices", "truths", "lengths", "padding"}
    of : str or None
        Of lengths and padding: the input whose steps they are about.
    time_of : str or None
        An input before it whose time it always has.
    """

    name: str
    shape: tuple[str | int, ...]
    kind: InputKind = "numbers"
    of: str | None = None
    time_of: str | None = None


class Interface:
    """Adds the inputs and outputs of a program to its graph.

    Attributes
    ----------
    net : Network
    input_names : list of str
        Those of the graph.
    named_inputs : dict of str to str
        Input of the program -> that of the graph.
    axis_orders : dict of str to str
        As `Graph.layouts`.
    outputs : list of Value
    batch : list of int
        Which axis of each output is the batch.
    """

    def __init__(self, net: Network) -> None:
        self.net = net
        self.input_names: list[str] = []
        self.named_inputs: dict[str, str] = {}
        self.axis_orders: dict[str, str] = {}
        self.outputs: list[Value] = []
        self.batch: list[int] = []
        self._tensors: dict[str, Tensor] = {}

    def add_input(self, given: Given, taken: Collection[str] = (), *, one_time: bool = False) -> Any:
        """An input as a tensor, under a name that is not `taken`; with `one_time` it has the time of those before it.

        Lengths and padding are computed only if something reads them: a function gives the tensor.
        """
        net = self.net
        if given.kind in ("lengths", "padding"):
            return _of_mask(net, self._tensors[str(given.of)], given)
        name = given.name
        while name in taken:
            name += "_"
        if name != given.name:  # times are known by the names of the graph's inputs
            net.examples = tuple(
                (batch, {**times, name: times[given.name]} if given.name in times else times)
                for batch, times in net.examples
            )
        time_of = None if given.time_of is None else self.named_inputs[given.time_of]
        if one_time and "T" in given.shape:
            axes_before = (net.builder.value(other).axis for other in self.input_names)
            time_of = next((axis.source for axis in axes_before if axis is not None), None)
        self.input_names.append(name)
        self.named_inputs[given.name] = name
        rest: list[Any] = [size for size in given.shape if size != "N"]
        if given.kind == "indices":
            sizes = tuple(None if size == "T" else size for size in rest)
            value = net.builder.input(name, sizes or (1,), indices=True, time_of=time_of)
            if not sizes:
                self.axis_orders[name] = ""
            places = [
                BATCH if size == "N" else rest.index(size) if size == "T" else _place(given.shape, k)
                for k, size in enumerate(given.shape)
            ]
            tensor = Tensor(value, tuple(places), "int")
            self._tensors[given.name] = tensor
            return tensor
        order = sorted(range(len(rest)), key=lambda i: rest[i] != "T")
        stored = [None if rest[i] == "T" else rest[i] for i in order]
        if stored in ([None], []):
            stored.append(1)
        value = net.builder.input(name, tuple(stored), time_of=time_of)
        places = [order.index(i) for i in range(len(rest))]
        if places != list(range(len(stored))):
            self.axis_orders[name] = "".join(map(str, places))
        remaining = iter(places)
        axes: list[Place] = [BATCH if size == "N" else next(remaining) for size in given.shape]
        tensor = Tensor(value, tuple(axes), "bool" if given.kind == "truths" else "float")
        self._tensors[given.name] = tensor
        return tensor

    def add_output(self, found: Any) -> None:
        """One output, and how its axes lie in what the program returns."""
        net = self.net
        found = found.tensor if isinstance(found, Packed) else found
        if found is None:
            return
        if is_constant(found):
            found = net.constant(found, part="constant")
        tensor = net.tensor(found)
        for i, places in enumerate(tensor.axes):
            if isinstance(places, tuple) and BATCH not in places:
                tensor = net.solid(tensor, i)
        if tensor.is_joined:
            raise net.refuse(
                "steps that are rows, (batch * time, ...), as a result: put them apart again, .view(batch, time, -1)"
            )
        if tensor.batch < 0:
            raise net.refuse("a result without a batch, the same for all rows, is not supported")
        self.batch.append(tensor.batch)
        inner = tensor.inner
        order = net.order([tensor], inner)
        if not any(isinstance(tensor.size(i), Dim) for i in inner):
            order = inner
        value = net.arrange(tensor, order)
        if value.name in self.input_names or value in self.outputs or value.kind == "state":
            value = net.add_layer("activation", value)
        kept = [order.index(i) for i in inner]
        if kept != list(range(len(value.shape))):
            self.axis_orders[value.name] = "".join(map(str, kept))
        self.outputs.append(value)

    def build(self) -> Graph:
        """The graph with these inputs and outputs, without what no output needs."""
        for value in self.outputs:
            self.net.builder.output(value)
        return without_unused(self.net.builder.build())._replace(layouts=self.axis_orders)


def _place(shape: Sequence[Any], axis: int) -> int:
    """Which of the axes without batch one of the axes is."""
    return sum(size != "N" for size in shape[:axis])


def _of_mask(net: Network, tensor: Tensor, given: Given) -> Callable[[], Tensor] | Tensor:
    """Lengths, or the padding, as what `predict` is given besides: a mask; computed if the program computes with it."""
    assert tensor.value.mask is not None
    mask = net.builder.value(tensor.value.mask)

    def steps() -> Tensor:
        value = net.add_layer("mask_numbers", None, part=given.name, mask=mask)
        return Tensor(value, (BATCH, 0), "bool")

    if given.kind == "padding":
        return lambda: function(net, steps(), "logical_not")

    def lengths() -> Tensor:
        found: Tensor = reduce(net, steps(), "sum", 1)
        net.lengths[found.value.name] = mask
        return found.of("int")

    return lengths


def without_unused(graph: Graph) -> Graph:
    """The graph without layers that no output needs, and without their weights."""
    needed = set(graph.outputs)
    kept = []
    for layer in reversed(graph.layers):
        if needed & set(layer.outputs.values()):
            kept.append(layer)
            needed |= set(layer.inputs.values())
    kept.reverse()
    inputs = graph.inputs
    masks = {graph.values[name].mask for name in inputs}
    written = {name for layer in kept for name in layer.outputs.values()}
    values: Mapping[str, Value] = {
        name: value for name, value in graph.values.items() if name in written or name in inputs or name in masks
    }
    weights = {name for layer in kept for name in layer.weights.values()}
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name in weights}
    return graph._replace(values=values, layers=tuple(kept), tensors=tensors)
