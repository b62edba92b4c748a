"""The graph of a program of ATen operations: its inputs as values, then all that its results need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from cylstm.errors import FormatError
from cylstm.formats.torch.aten.run import Run
from cylstm.graph.graph import Graph
from cylstm.graph.values import Value
from cylstm.graph.weights import as_stored
from cylstm.program.network import Network
from cylstm.program.operations.elementwise import function
from cylstm.program.operations.reduce import reduce
from cylstm.program.program import Program
from cylstm.program.tensor import BATCH, Place, Tensor

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
    """

    name: str
    shape: tuple[str | int, ...]
    kind: InputKind = "numbers"
    of: str | None = None


def build_graph(
    programs: Sequence[Program],
    given: Sequence[Given],
    examples: Sequence[tuple[int, int | Mapping[str, int]]],
    dtype: np.dtype,
    what: str,
    *,
    one_time: bool = False,
) -> tuple[Graph, tuple[int, ...]]:
    """The graph of a program, and which axis of each result is the batch.

    Parameters
    ----------
    programs : sequence of Program
        The same network as recorded with each of `examples`, (batch, time).
    given : sequence of Given
        The inputs, in the order of the program's.
    dtype : numpy.dtype
    what : str
        The network's name in messages.
    one_time : bool
        All inputs with a time of any length have the same one.
    """
    net = Network(dtype)
    times = [one.name for one in given if "T" in one.shape]
    net.examples = tuple(
        (batch, dict.fromkeys(times, time) if isinstance(time, int) else time) for batch, time in examples
    )
    if len(programs) == 1:
        stored = as_stored(programs[0].constants).values()
        net.static_sizes = frozenset(size for tensor in stored for size in tensor.shape)
    net.has_own_masks = any(one.kind in ("lengths", "padding") for one in given)
    run = Run(net, programs)
    taken = {operation.layer for operation in programs[0].operations} | {
        name for operation in programs[0].operations for name in _names(operation.outputs)
    }
    inputs: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for name, one in zip(programs[0].inputs, given, strict=True):
        net.name = one.name
        inputs[name] = add_input(net, run, one, tensors, taken, one_time=one_time)
    run.run(inputs)
    run.add_outputs(programs[0].outputs)
    if not run.outputs:
        raise FormatError(f"{what}: it gives no tensor")
    for value in run.outputs:
        net.builder.output(value)
    graph = without_unused(net.builder.build())
    return graph._replace(layouts=run.axis_orders), tuple(run.batch)


def _names(outputs: Any) -> list[str]:
    if isinstance(outputs, str):
        return [outputs]
    return [] if outputs is None else [name for one in outputs for name in _names(one)]


def add_input(
    net: Network, run: Run, given: Given, tensors: dict[str, Tensor], taken: set[str], *, one_time: bool = False
) -> Any:
    """An input as a tensor; with `one_time` it has the time of those before it."""
    if given.kind in ("lengths", "padding"):
        return _of_mask(net, tensors[str(given.of)], given)
    name = given.name
    while name in taken:
        name += "_"
    if name != given.name:  # times are known by the names of the graph's inputs
        net.examples = tuple(
            (batch, {**times, name: times[given.name]} if given.name in times else times)
            for batch, times in net.examples
        )
    time_of = None
    if one_time and "T" in given.shape:
        axes_before = (net.builder.value(other).axis for other in run.input_names)
        time_of = next((axis.source for axis in axes_before if axis is not None), None)
    run.input_names.append(name)
    run.named_inputs[given.name] = name
    rest: list[Any] = [size for size in given.shape if size != "N"]
    if given.kind == "indices":
        sizes = tuple(None if size == "T" else size for size in rest)
        value = net.builder.input(name, sizes or (1,), indices=True, time_of=time_of)
        if not sizes:
            run.axis_orders[name] = ""
        tensor = Tensor(value, tuple(BATCH if s == "N" else rest.index(s) if s == "T" else _place(rest, given.shape, k)
                                     for k, s in enumerate(given.shape)), "int")  # fmt: skip
        tensors[given.name] = tensor
        return tensor
    order = sorted(range(len(rest)), key=lambda i: rest[i] != "T")
    stored = [None if rest[i] == "T" else rest[i] for i in order]
    if stored in ([None], []):
        stored.append(1)
    value = net.builder.input(name, tuple(stored), time_of=time_of)
    places = [order.index(i) for i in range(len(rest))]
    if places != list(range(len(stored))):
        run.axis_orders[name] = "".join(map(str, places))
    remaining = iter(places)
    axes: list[Place] = [BATCH if size == "N" else next(remaining) for size in given.shape]
    tensor = Tensor(value, tuple(axes), "bool" if given.kind == "truths" else "float")
    tensors[given.name] = tensor
    return tensor


def _place(rest: Sequence[Any], shape: Sequence[Any], axis: int) -> int:
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
