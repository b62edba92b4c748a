"""The graph of a ``.pt2`` file: which axes of its inputs are the batch and the time, and the program from there on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats.torch.aten.build import build_graph
from cylstm.formats.torch.pt2 import read_program
from cylstm.graph.graph import Graph
from cylstm.graph.weights import as_stored
from cylstm.program.interface import Given, InputKind
from cylstm.program.program import Program, TensorType
from cylstm.program.size import Size

#: what stands for sizes that the file leaves open: primes that no network has
_ANY_BATCH, _ANY_TIME = 7919, 104_729


def graph_from_pt2(path: str | os.PathLike[str], *, time: str | int | None = None) -> Graph:
    """The graph of a program that ``torch.export.save`` wrote.

    Parameters
    ----------
    path : str or os.PathLike
    time : "T", int or None
        "T" for a time of any length, or the number of steps that the program was exported with and keeps. By default
        any length where the program shows that it does not depend on it, else the exported one.

    Raises
    ------
    FormatError
        If the file is damaged, or `time` is another number than the program's.
    UnsupportedError
        For operations that are not computed, and inputs without a batch.
    """
    program = read_program(path)
    wide = any(tensor.dtype == np.float64 for tensor in as_stored(program.constants).values())
    dtype = np.dtype(np.float64 if wide else np.float32)
    failures: list[CylstmError] = []
    for given_for in _possible(program, time):
        try:
            given, batch, times = given_for()
            graph, _ = build_graph([program], given, [(batch, times)], dtype, os.fspath(path))
        except CylstmError as error:
            failures.append(error)
            continue
        provenance = {"format": "torch", "version": None, "framework_version": program.source, "source": "torch.export"}
        return graph._replace(provenance={**graph.provenance, **provenance})
    raise failures[-1] if time is None else failures[0]


def _possible(
    program: Program, time: str | int | None
) -> Iterator[Callable[[], tuple[list[Given], int, dict[str, int]]]]:
    """What gives the inputs with each axis that may be a time, and last with all sizes as they were exported."""
    if time is not None and time != "T" and type(time) is not int:
        raise FormatError(f"time expected 'T' or a number of steps, found {time!r:.60}")
    kinds = {name: _type_of(program, name) for name in program.inputs}
    first = next(iter(kinds.values()), None)
    if first is None:
        raise UnsupportedError("a program without inputs is not supported")
    places: list[int | None] = [None]
    least = 2 if first.dtype.startswith("int") else 3
    open_axes = [k for k, size in enumerate(first.shape) if k and isinstance(size, Size)]
    if open_axes:
        places = [open_axes[0]]
    elif len(first.shape) >= least and not isinstance(time, int):
        last = len(first.shape) if least == 3 and _has_windows(program) else 2
        places = [*(k for k in range(1, last) if first.shape[k] != 1 or time == "T"), None]
    if time == "T":
        places = [place for place in places if place is not None]
    if isinstance(time, int) and time not in first.shape[1:] and not open_axes:
        raise FormatError(f"time={time}: the program was exported with the shape {first.shape}")
    fixed = time if open_axes else None
    for place in places:
        yield partial(_given, program, kinds, place, fixed)
    if any(_may_have_layers_first(kind, first.shape[0]) for kind in list(kinds.values())[1:]):
        for place in places:
            yield partial(_given, program, kinds, place, fixed, layers_first=True)
    if len(first.shape) == 3 and _is_time_first(program) and not open_axes and fixed is None:
        for time_axis in (0, None) if time is None else (0,) if time == "T" else (None,):
            yield partial(_given, program, kinds, time_axis, None, batch_axis=1)


def _may_have_layers_first(kind: TensorType, batch: int | Size) -> bool:
    """Whether an input may be states (layers, batch, size) of as many layers as rows."""
    return len(kind.shape) == 3 and kind.shape[0] == kind.shape[1] == batch


def _is_time_first(program: Program) -> bool:
    """Whether a recurrent layer takes (time, batch, features)."""
    return any(operation.arguments.get("batch_first") is False for operation in program.operations)


def _has_windows(program: Program) -> bool:
    """Whether something shows which axis is the time, where that is not the first behind the batch."""
    names = ("conv", "pool", "lstm", "gru", "rnn", "upsample", "batch_norm", "instance_norm")
    return any(name in operation.target for operation in program.operations for name in names)


def _type_of(program: Program, name: str) -> TensorType:
    kind = program.types.get(name)
    if not isinstance(kind, TensorType) or not kind.shape:
        raise UnsupportedError(f"input {name!r}: expected a tensor with a batch, found {kind}")
    return kind


def _given(
    program: Program,
    kinds: dict[str, TensorType],
    place: int | None,
    time: str | int | None,
    *,
    layers_first: bool = False,
    batch_axis: int = 0,
) -> tuple[list[Given], int, dict[str, int]]:
    """The inputs where axis `place` of the first is a time, the number that stands for the batch, and for the times.

    With `layers_first` the batch is the second axis of those that may be states of as many layers.
    """
    first = next(iter(kinds.values()))
    own = None if place is None else first.shape[place]
    steps = _ANY_TIME if isinstance(own, Size) else own
    batch_size = first.shape[batch_axis]
    batch = _ANY_BATCH if isinstance(batch_size, Size) else int(batch_size)
    found, times = [], {}
    for name, kind in kinds.items():
        shape: list[str | int] = []
        may_be_states = kind is not first and layers_first and _may_have_layers_first(kind, batch_size)
        batch_from = batch_axis if kind is first else 1 if may_be_states or (batch_axis and len(kind.shape) > 1) else 0
        for k, size in enumerate(kind.shape):
            is_batch = size == batch_size and "N" not in shape and k >= batch_from
            if is_batch and (k == batch_from or len(kind.shape) == 3):
                shape.append("N")
            elif own is not None and size == own and "T" not in shape and (k == place or len(kind.shape) > 2):
                shape.append("T" if not isinstance(time, int) else time)
            elif isinstance(size, Size):
                raise UnsupportedError(
                    f"input {name!r}: a third size that is open, beside batch and time ({size}), is not supported"
                )
            else:
                shape.append(size)
        if "N" not in shape:
            raise UnsupportedError(f"input {name!r}: no axis of {_text(kind.shape)} is the batch")
        if "T" in shape:
            times[name] = int(steps or 0)
        given: InputKind = (
            "truths" if kind.dtype == "bool" else "indices" if kind.dtype.startswith(("int", "uint")) else "numbers"
        )
        found.append(Given(name, tuple(shape), given))
    return found, batch, times


def _text(shape: Sequence[int | Size]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"
