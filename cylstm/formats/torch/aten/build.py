"""The graph of a program of ATen operations: its inputs as values, then all that its results need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cylstm.errors import FormatError
from cylstm.formats.torch.aten.run import Run
from cylstm.graph.graph import Graph
from cylstm.graph.weights import as_stored
from cylstm.program.interface import Given, Interface
from cylstm.program.network import Network
from cylstm.program.program import Program


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
    interface = Interface(net)
    inputs: dict[str, Any] = {}
    for name, one in zip(programs[0].inputs, given, strict=True):
        net.name = one.name
        inputs[name] = interface.add_input(one, taken, one_time=one_time)
    run.run(inputs)
    run.add_outputs(interface, programs[0].outputs)
    if not interface.outputs:
        raise FormatError(f"{what}: it gives no tensor")
    return interface.build(), tuple(interface.batch)


def _names(outputs: Any) -> list[str]:
    if isinstance(outputs, str):
        return [outputs]
    return [] if outputs is None else [name for one in outputs for name in _names(one)]
