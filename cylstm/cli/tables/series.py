"""Series of columns by name, which may have times: what a forecaster reads of a .csv, .parquet, .npy or .npz file."""

from __future__ import annotations

import csv
import datetime
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from cylstm.cli.tables.parquet_table import pyarrow_of
from cylstm.errors import FormatError
from cylstm.formats.numpy_file import load_arrays

#: a step that is so many times the median one is a gap
_GAP = 1.5


class Series(NamedTuple):
    """A file as a history or a future.

    Attributes
    ----------
    columns : dict of str to ndarray, or ndarray
        As a forecaster takes it.
    times : ndarray or None
        datetime64[us] or float64.
    row_name : callable
        How messages call a row, by its number.
    """

    columns: Any
    times: np.ndarray | None
    row_name: Callable[[int], str]


def read_series(path: str, names: Sequence[str], also: Sequence[str] = (), time: str | None = None) -> Series:
    """The columns of a file, of which `also` and the one of times may be missing.

    Raises
    ------
    FormatError
        If a column is missing, one too many or there twice, a cell is no number or no time, or times are not in order;
        the message says in which line and column.
    UnsupportedError
        If pyarrow is needed and not installed.
    """
    ending = os.path.splitext(path)[1].lower()
    if ending in (".npy", ".npz"):
        found = load_arrays(path)
        return Series(found, None, lambda row: f"row {row}")
    if ending not in (".csv", ".parquet"):
        raise FormatError(f"{path}: series are read from .csv, .parquet, .npy and .npz files")
    series = (_read_csv if ending == ".csv" else _read_parquet)(path, names, also, time)
    if series.times is not None:
        _check_order(path, series.times, series.row_name)
    return series


def median_step(times: np.ndarray) -> Any:
    """Of times in order, at least two; None of fewer."""
    return np.sort(np.diff(times))[(len(times) - 2) // 2] if len(times) > 1 else None


def check_gaps(path: str, series: Series, step: Any, last: Any = None) -> None:
    """Raises `FormatError` if a step of times is a gap; `last` is the time before the first."""
    if series.times is None or step is None:
        return
    times = series.times if last is None else np.concatenate([[last], series.times])
    for row in np.flatnonzero(np.diff(times) > step * _GAP)[:1]:
        where = series.row_name(int(row) + (last is None))
        raise FormatError(
            f"{path}, {where}: a gap: {times[row + 1]} is {_shown(times[row + 1] - times[row])} after {times[row]}, "
            f"and rows are {_shown(step)} apart; fill it, or forecast as if there was none with --allow-gaps"
        )


def _shown(step: Any) -> str:
    return str(step.astype("timedelta64[us]").item()) if isinstance(step, np.timedelta64) else f"{step:g}"


def _check_columns(
    path: str, found: Sequence[str], names: Sequence[str], also: Sequence[str], time: str | None
) -> dict[str, int]:
    """Column -> its place, of those that are read."""
    where = f"{path}, line 1" if path.lower().endswith(".csv") else path
    for name in names:
        if name not in found:
            raise FormatError(f"{where}: the column {name!r} is missing; found {', '.join(found)}")
    known = {*names, *also, *([] if time is None else [time])}
    for place, name in enumerate(found):
        if name not in known:
            hint = "" if time is not None else " (a column of times is named by Forecaster(time=))"
            raise FormatError(
                f"{where}, column {place + 1}: {name!r} is one too many; expected {', '.join(names)}{hint}"
            )
        if name in found[:place]:
            raise FormatError(f"{where}, column {place + 1}: {name!r} is there twice")
    return {name: place for place, name in enumerate(found)}


def _read_csv(path: str, names: Sequence[str], also: Sequence[str], time: str | None) -> Series:
    lines: list[int] = []
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        try:
            rows = []
            for cells in reader:
                if any(cell.strip() for cell in cells) and not cells[0].lstrip().startswith("#"):
                    rows.append(cells)
                    lines.append(reader.line_num)
        except (csv.Error, UnicodeDecodeError) as error:
            raise FormatError(f"{path}, line {reader.line_num + 1}: expected a .csv file in UTF-8: {error}") from error
    if not rows:
        raise FormatError(f"{path}: expected a first line with the names of columns, found none")
    places = _check_columns(path, [cell.strip() for cell in rows[0]], names, also, time)
    if len(rows) == 1:
        raise FormatError(f"{path}: expected at least one line of numbers, found none")
    for line, cells in zip(lines[1:], rows[1:]):
        if len(cells) != len(rows[0]):
            raise FormatError(f"{path}, line {line}: expected {len(rows[0])} columns, found {len(cells)}")
    columns: dict[str, np.ndarray] = {}
    times = None
    for name, place in places.items():
        cells = [row[place].strip() for row in rows[1:]]
        at = [f"{path}, line {line}, column {place + 1} ({name})" for line in lines[1:]]
        if name == time:
            times = _times(cells, at)
        else:
            columns[name] = np.array([_number(cell, where) for cell, where in zip(cells, at)])
    if times is not None and time is not None:
        columns[time] = times
    return Series(columns, times, lambda row: f"line {lines[row + 1]}")


def _number(cell: str, where: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    # Python's own numbers may have underscores
    if not math.isfinite(number) or "_" in cell:
        raise FormatError(f"{where}: expected a number, found {cell[:40]!r}")
    return number


def _times(cells: Sequence[str], at: Sequence[str]) -> np.ndarray:
    """Numbers, or dates in UTC if they have a time zone; the first one says which."""
    try:
        float(cells[0])
    except ValueError:
        pass
    else:
        return np.array([_number(cell, where) for cell, where in zip(cells, at)])
    found, has_zone = [], None
    for cell, where in zip(cells, at):
        try:
            moment = datetime.datetime.fromisoformat(cell)
        except ValueError:
            raise FormatError(f"{where}: expected a date such as 2025-01-31T08:00, found {cell[:40]!r}") from None
        has_zone = moment.tzinfo is not None if has_zone is None else has_zone
        if has_zone != (moment.tzinfo is not None):
            raise FormatError(f"{where}: some times have a time zone and some have none, found {cell[:40]!r}")
        if has_zone:
            moment = moment.astimezone(datetime.UTC).replace(tzinfo=None)
        found.append(moment)
    return np.array(found, "datetime64[us]")


def _read_parquet(path: str, names: Sequence[str], also: Sequence[str], time: str | None) -> Series:
    pyarrow, parquet = pyarrow_of(path)
    try:
        with open(path, "rb") as file:
            table = parquet.ParquetFile(file).read()
    except pyarrow.ArrowException as error:
        raise FormatError(f"{path}: expected a parquet file: {error}") from error
    places = _check_columns(path, list(table.column_names), names, also, time)
    if not table.num_rows:
        raise FormatError(f"{path}: expected at least one row of numbers, found none")
    columns: dict[str, np.ndarray] = {}
    times = None
    for name, place in places.items():
        where = f"{path}, column {place + 1} ({name})"
        array = table.column(place).to_numpy()
        if name == time:
            if array.dtype.kind == "O":
                try:
                    array = array.astype("datetime64[us]")
                except (TypeError, ValueError):
                    raise FormatError(f"{where}: expected times, found {table.schema.field(place).type}") from None
            times = array.astype("datetime64[us]") if array.dtype.kind == "M" else _numbers(where, array)
            columns[name] = times
        else:
            columns[name] = _numbers(where, array)
    return Series(columns, times, lambda row: f"row {row + 1}")


def _numbers(where: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiub":
        raise FormatError(f"{where}: expected numbers, found {array.dtype}")
    numbers = array.astype(np.float64)
    for row in np.flatnonzero(~np.isfinite(numbers))[:1]:
        raise FormatError(f"{where}, row {row + 1}: expected a number, found {numbers[row]}")
    return numbers


def _check_order(path: str, times: np.ndarray, row_name: Callable[[int], str]) -> None:
    missing = np.isnat(times) if times.dtype.kind == "M" else np.isnan(times)
    for row in np.flatnonzero(missing)[:1]:
        raise FormatError(f"{path}, {row_name(int(row))}: the time is missing")
    for row in (np.flatnonzero(times[1:] <= times[:-1]) + 1)[:1]:
        same = times[row] == times[row - 1]
        raise FormatError(
            f"{path}, {row_name(int(row))}: the time {times[row]} is "
            + ("that of the row before" if same else f"before {times[row - 1]}; sort the rows")
        )
