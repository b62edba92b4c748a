"""Forecasts from every row of a table on: what calibration and backtests are made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.arguments import check_flag
from cylstm.errors import ShapeError, UnsupportedError
from cylstm.forecasting.dropout import NoisyWalk, noisy_forecasts
from cylstm.forecasting.roll import roll, rows_needed
from cylstm.forecasting.tables import Table, read_table, row_of
from cylstm.forecasting.windows import known_rows, roll_windows, rows_behind

if TYPE_CHECKING:
    from cylstm.forecasting.forecaster import Forecaster
    from cylstm.stream import Stream

#: how many forecasts are made in one batch
_AT_ONCE = 256


def read_frame(forecaster: Forecaster, frame: Any, start: Any, steps: int) -> tuple[Table, int]:
    """A table with the features and the target, and the row of `start`.

    Raises
    ------
    ArgumentError
        As `read_table` and `row_of`.
    ShapeError
        If too few rows are before `start` or after it.
    """
    names = forecaster.columns
    names = names if forecaster.target in names else (*names, forecaster.target)
    table = read_table("frame", frame, names, time=forecaster._time)
    first = row_of("frame", start, table, "start")
    window = (forecaster.window or 1) + rows_behind(forecaster)
    if first < window:
        raise ShapeError(f"start: expected at least {window} rows before it, found {first}")
    if table.rows - first < steps:
        raise ShapeError(f"start: expected at least {steps} rows from it on, found {table.rows - first}")
    return table, first


def truths(forecaster: Forecaster, table: Table, first: int, steps: int) -> np.ndarray:
    """The target, (forecasts, steps): of row n that of the rows first + n, first + n + 1, ..."""
    return np.lib.stride_tricks.sliding_window_view(table.columns[forecaster.target][first:], steps)


def forecast_all(
    forecaster: Forecaster, table: Table, first: int, steps: int, progress: object
) -> dict[str, np.ndarray]:
    """All outputs, (forecasts, steps), in units and clipped: row n is forecast from the rows before first + n.

    Beyond the horizon the known features are those of the table.

    Raises
    ------
    ShapeError
        If the network is still warming up at `first`.
    UnsupportedError
        If a progress bar is asked for and tqdm is not installed.
    """
    if forecaster._is_windowed:
        return _of_windows(forecaster, table, first, steps, progress)
    units = table.array(forecaster.features)
    scaled = forecaster._scaled("frame", units, forecaster.features)
    needed = rows_needed(forecaster, steps)
    columns = [forecaster.features.index(name) for name in forecaster.known_features]
    walker = _walk(forecaster, scaled, first - 1)
    total = table.rows - first - steps + 1
    parts: dict[str, list[np.ndarray]] = {name: [] for name in forecaster.outputs}
    with _bar(total, progress) as bar:
        for begin in range(first - 1, first - 1 + total, _AT_ONCE):
            origins = np.arange(begin, min(begin + _AT_ONCE, first - 1 + total))
            ahead = forecaster.model.stream(len(origins), window=forecaster.window)
            if forecaster.window is not None:
                windows = origins[:, None] + np.arange(1 - forecaster.window, 1)
                raw = forecaster._reader.read(ahead.run(scaled[windows]))
                assert raw is not None
            else:
                found = []
                for i in range(len(origins)):
                    one, stream = next(walker)
                    found.append(one)
                    if needed:
                        ahead.replace(i, stream)
                raw = np.concatenate(found)
            known = scaled[origins[:, None] + 1 + np.arange(needed)][:, :, columns]
            last = np.full(len(origins), np.nan)
            if forecaster.target in forecaster.features:
                last = units[origins, forecaster.features.index(forecaster.target)]
            rolled = roll(forecaster, ahead, raw, last, steps, known)
            for name, array in rolled.items():
                parts[name].append(forecaster._clipped(name, array))
            if bar is not None:
                bar.update(len(origins))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _of_windows(
    forecaster: Forecaster, table: Table, first: int, steps: int, progress: object
) -> dict[str, np.ndarray]:
    """`forecast_all` of a forecaster that is scaled anew at each window; as many as the table knows the columns for."""
    total = _total(forecaster, table, first, steps)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in forecaster.outputs}
    with _bar(total, progress) as bar:
        for begin in range(first, first + total, _AT_ONCE):
            now = np.arange(begin, min(begin + _AT_ONCE, first + total))[:, None]
            past, known = _windows_at(forecaster, table, now, steps)
            for name, array in roll_windows(forecaster, forecaster.model, past, known, steps).items():
                parts[name].append(forecaster._clipped(name, array))
            if bar is not None:
                bar.update(len(now))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _total(forecaster: Forecaster, table: Table, first: int, steps: int) -> int:
    """How many forecasts there are whose steps, and what they read of later rows, the table has."""
    rows = known_rows(forecaster, steps)
    total = table.rows - first - max([steps, *rows.values()]) + 1
    if total < 1:
        raise ShapeError(f"start: expected at least {max(rows.values())} rows from it on, found {table.rows - first}")
    return total


def _windows_at(
    forecaster: Forecaster, table: Table, now: np.ndarray, steps: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What forecasts that begin at rows `now` (forecasts, 1) read before and after them, as for `roll_windows`."""
    assert forecaster.window is not None
    behind = np.arange(-rows_behind(forecaster) - forecaster.window, 0)
    past = {name: table.columns[name][now + behind] for name in forecaster.columns}
    rows = known_rows(forecaster, steps)
    return past, {name: table.columns[name][now + np.arange(count)] for name, count in rows.items()}


def sample_all(
    forecaster: Forecaster, table: Table, first: int, steps: int, progress: object
) -> Iterator[tuple[slice, np.ndarray]]:
    """Some of the forecasts of `forecast_all`, and their samples with dropout (samples, forecasts, steps)."""
    if forecaster.window is not None:
        total = _total(forecaster, table, first, steps)
        with _bar(total, progress) as bar:
            for begin in range(0, total, _AT_ONCE):
                end = min(begin + _AT_ONCE, total)
                past, known = _windows_at(forecaster, table, first + np.arange(begin, end)[:, None], steps)
                yield slice(begin, end), noisy_forecasts(forecaster, past, known, steps)
                if bar is not None:
                    bar.update(end - begin)
        return
    units = table.array(forecaster.features)
    scaled = forecaster._scaled("frame", units, forecaster.features)
    needed, total = rows_needed(forecaster, steps), table.rows - first - steps + 1
    columns = [forecaster.features.index(name) for name in forecaster.known_features]
    walk = NoisyWalk(forecaster)
    walk.run(scaled[: first - 1])
    with _bar(total, progress) as bar:
        for begin in range(0, total, _AT_ONCE):
            end, found = min(begin + _AT_ONCE, total), []
            for row in range(first - 1 + begin, first - 1 + end):
                walk.run(scaled[row : row + 1])
                last = np.full(1, np.nan)
                if forecaster.target in forecaster.features:
                    last = units[row : row + 1, forecaster.features.index(forecaster.target)]
                ahead = scaled[None, row + 1 : row + 1 + needed][:, :, columns]
                found.append(walk.forecast(last, steps, ahead))
            yield slice(begin, end), np.stack(found, axis=1)
            if bar is not None:
                bar.update(end - begin)


def _walk(forecaster: Forecaster, scaled: np.ndarray, row: int) -> Iterator[tuple[np.ndarray, Stream]]:
    """What the network gives at this row and each one after it, with its stream there."""
    stream = forecaster.model.stream(window=None)
    found = forecaster._reader.read(stream.run(scaled[None, : row + 1]))
    while True:
        if found is None:
            raise ShapeError(f"start: expected at least {stream.warm_up + 1} rows before it, found {row + 1}")
        yield found, stream
        row += 1
        found = forecaster._reader.read(stream.run(scaled[None, row : row + 1]))


def _bar(total: int, progress: object) -> AbstractContextManager[Any]:
    if not check_flag("progress", progress):
        return nullcontext()
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise UnsupportedError("progress=True needs tqdm: pip install tqdm") from None
    bar: AbstractContextManager[Any] = tqdm(total=total, unit=" forecasts", unit_scale=True)
    return bar
