"""Predictions for a file of any size, in pieces that fit into memory, with the bits of one call of `Model.predict`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.arguments import check_window
from cylstm.engine.threads import available_threads
from cylstm.errors import FormatError, UnsupportedError

if TYPE_CHECKING:
    from cylstm.cli.tables import Inputs
    from cylstm.model import Model

#: memory that a piece should take with what is computed from it, in bytes
_PIECE = 64 << 20
#: most rows of a batch at once
_MOST_ROWS = 1 << 16
#: numbers of a sequence at once
_NUMBERS = 1 << 18


def predict_in_pieces(
    model: Model,
    inputs: Inputs,
    window: int | None,
    threads: int | None,
    report: Callable[[int], object],
) -> Iterator[list[np.ndarray | None]]:
    """What `Model.predict` gives for the inputs, in pieces along the first axis.

    A batch is predicted in groups of rows. One sample that does not fit into a piece goes through a stream, if the
    network can stream and takes any number of steps; else it is read as a whole.

    Parameters
    ----------
    window : int or None
        Predict from so many steps at each step of one sample, as a batch: NaN for the first steps, of which there are
        not enough.
    report : callable
        Takes how many more rows or steps are done.

    Yields
    ------
    list of ndarray or None
        Of each output the next piece; None if there is none this time.
    """
    if window is not None:
        yield from _windows(model, inputs, window, threads, report)
    elif inputs.is_batch:
        for piece in inputs.pieces(_rows_at_once(model, _times(model, inputs))):
            yield [*_predict(model, piece, threads)]
            report(len(piece[0]))
    else:
        yield from _sample(model, inputs, threads, report)


def _predict(model: Model, inputs: Sequence[np.ndarray], threads: int | None) -> list[np.ndarray]:
    found = model.predict(_argument(inputs), threads=threads)
    return found if isinstance(found, list) else [found]


def _argument(inputs: Sequence[np.ndarray]) -> Any:
    return list(inputs) if len(inputs) > 1 else inputs[0]


def _times(model: Model, inputs: Inputs) -> list[int]:
    """The steps that each row of a batch has."""
    found = []
    for name, shape in zip(model.inputs, inputs.shapes):
        value, layout = model.graph.values[name], model.graph.layouts.get(name)
        if not value.has_time:
            found.append(1)
        elif layout is None:
            found.append(shape[0])
        else:
            found.append(shape[layout.index("0")] if "0" in layout else value.shape[0] or 1)
    return found


def _rows_at_once(model: Model, times: list[int]) -> int:
    """How many rows of so many steps are predicted in one call."""
    if 0 in times:
        return 1  # which predict refuses, with the input's name
    read = sum(math.prod(model.graph.values[name].step_shape) * time for name, time in zip(model.inputs, times))
    return max(1, min(_MOST_ROWS, _PIECE // (model._packed.run_bytes(times) + 8 * read + 1)))


def _sample(
    model: Model, inputs: Inputs, threads: int | None, report: Callable[[int], object]
) -> Iterator[list[np.ndarray | None]]:
    graph = model.graph
    values = [graph.values[name] for name in model.inputs]
    if graph.layouts or not all(value.has_time for value in values):
        yield [*_predict(model, inputs.whole(), threads)]
        report(1)
        return
    numbers = sum(math.prod(graph.values[name].step_shape) for name in (*model.inputs, *model.outputs))
    pieces = inputs.pieces(max(256, _NUMBERS // numbers))
    start = list(itertools.islice(pieces, 2))
    streams = (
        model.can_stream
        and not graph.stateful
        and model._packed.step_multiple == 1
        and all(value.shape[0] is None for value in values)
    )
    if len(start) < 2 or not streams:
        # a piece is small, or all of them have to be there
        parts = [*start, *pieces]
        whole = [np.concatenate(arrays) for arrays in zip(*parts)] if len(parts) > 1 else parts[0]
        yield [*_predict(model, whole, threads)]
        report(len(whole[0]))
        return
    stream = model.stream(threads=available_threads() if threads is None else threads, window=None)
    grows = [graph.values[name].has_time for name in model.outputs]
    last: list[np.ndarray | None] = [None] * len(grows)
    for piece in itertools.chain(start, pieces):
        found = stream.run(_argument(piece))
        results = found if isinstance(found, list) else [found]
        last = [None if grown else result for grown, result in zip(grows, results)]
        if any(grows):
            yield [result if grown else None for grown, result in zip(grows, results)]
        report(len(piece[0]))
    if not all(grows):
        yield last


def _windows(
    model: Model, inputs: Inputs, window: int, threads: int | None, report: Callable[[int], object]
) -> Iterator[list[np.ndarray | None]]:
    graph = model.graph
    values = [graph.values[name] for name in model.inputs]
    steps = check_window(values, window)
    if inputs.is_batch or graph.layouts or not all(value.has_time for value in values):
        raise UnsupportedError("--window: expected one sequence, (time, features), found a batch or an input without")
    kept: list[np.ndarray] = []
    is_first = True
    for piece in inputs.pieces(_rows_at_once(model, [steps] * len(values))):
        joined = [np.concatenate(arrays) for arrays in zip(kept, piece)] if kept else piece
        if len(joined[0]) >= steps:
            windows = [
                np.moveaxis(np.lib.stride_tricks.sliding_window_view(array, steps, axis=0), -1, 1) for array in joined
            ]
            results = _predict(model, windows, threads)
            if is_first:
                results = [_after_nan(result, steps - 1) for result in results]
                is_first = False
            yield [*results]
            joined = [array[len(array) - steps + 1 :] for array in joined]
        kept = joined
        report(len(piece[0]))
    if is_first:
        raise FormatError(f"--window: expected at least {steps} steps, found {len(kept[0])}")


def _after_nan(results: np.ndarray, rows: int) -> np.ndarray:
    return np.concatenate([np.full((rows, *results.shape[1:]), np.nan, results.dtype), results])
