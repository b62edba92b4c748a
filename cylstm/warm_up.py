"""Streams of networks whose windows over time reach into earlier steps: fewer steps come out at first than later on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.prediction import result_arrays, to_users

if TYPE_CHECKING:
    from cylstm.graph.values import Value
    from cylstm.packing import PackedModel
    from cylstm.stream import Stream


#: runs a stream on inputs, into results, by so many steps, of active rows
Run = Callable[[list[np.ndarray], list[np.ndarray], int, np.ndarray | None], None]


def run_warming_up(
    stream: Stream,
    packed: PackedModel,
    run: Run,
    inputs: list[np.ndarray],
    is_alone: bool,
    time: int,
    active: np.ndarray | None,
    out: Any,
    is_step: bool,
) -> Any:
    """As `Stream.step` and `Stream.run`, for inputs that were read, with the outputs of `packed`, which `run` computes.

    Rows that have taken different numbers of steps may have different numbers of results: each has them at the end,
    behind NaN.
    """
    stream._check_multiple(time)
    taken = np.empty(stream.batch, np.int64)
    stream._count_taken(taken)
    phases = np.unique(taken if active is None else taken[active]).tolist() or [packed.settles]
    counts = [[_count(packed, value, phase, time) for value in packed.outputs] for phase in phases]
    most = [max(found) for found in zip(*counts)]
    layouts = {} if is_step else packed.layouts
    shapes = [_shape(packed, value, count, stream.batch, is_step) for value, count in zip(packed.outputs, most)]
    results, given = result_arrays(packed, shapes, is_alone, out, inputs, layouts)
    if packed.limits:
        packed.check_indices(inputs, active)
    if len(phases) == 1:
        # what has no result yet must leave `out` as it is
        written = [array if count else np.empty_like(array) for array, count in zip(results, most)]
        run(inputs, written, time, active)
        for array, count in zip(results, most):
            if not count and not is_step:
                rows = array[np.newaxis] if is_alone else array
                rows[...] = np.nan
                rows[slice(0) if active is None else ~active] = 0.0
    else:
        for array in results:
            array[...] = 0.0
        for phase, found in zip(phases, counts):
            rows = taken == phase if active is None else (taken == phase) & active
            _run_rows(stream, packed, run, inputs, results, found, most, time, rows)
    if layouts:
        results = to_users(packed, results, given)
    returned = [array if count or not is_step else None for array, count in zip(results, most)]
    return returned if len(returned) > 1 else returned[0]


def _run_rows(
    stream: Stream,
    packed: PackedModel,
    run: Run,
    inputs: list[np.ndarray],
    results: Sequence[np.ndarray],
    counts: Sequence[int],
    most: Sequence[int],
    time: int,
    rows: np.ndarray,
) -> None:
    """Advance rows that have taken equally many steps, and put what comes out at the end of their results."""
    parts = [
        np.empty(_shape(packed, value, count, stream.batch, is_step=False), packed.dtype)
        for value, count in zip(packed.outputs, counts)
    ]
    run(inputs, parts, time, rows)
    for value, result, part, count, longest in zip(packed.outputs, results, parts, counts, most):
        if value.axis is None:
            result[rows] = part[rows] if count else np.nan
        else:
            steps = result.reshape(stream.batch, longest, *value.step_shape)
            steps[rows, : longest - count] = np.nan
            steps[rows, longest - count :] = part[rows]


def _count(packed: PackedModel, value: Value, taken: int, time: int) -> int:
    """The steps of an output that `time` more steps of the inputs give. Without time 1, or 0 while `Model.predict`
    would refuse so few steps as have come.
    """
    if value.axis is not None:
        return value.axis.length(taken + time) - value.axis.length(taken)
    return int(all([axis.length(taken + time) > 0 for axis in packed.axes]))


def _shape(packed: PackedModel, value: Value, count: int, batch: int, is_step: bool) -> tuple[int, ...]:
    """Of an output of so many steps; that of a single step has no time where each step gives one."""
    if value.axis is None:
        return (batch, *value.shape)  # type: ignore[arg-type]  # every size is known
    is_single = is_step and _count(packed, value, packed.settles, 1) == 1
    return (batch, *value.step_shape) if is_single else (batch, count, *value.step_shape)
