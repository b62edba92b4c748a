"""Histories as users give them: arrays, dicts of columns and pandas DataFrames, checked column by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cylstm.errors import ArgumentError, ShapeError, described


class Table(NamedTuple):
    """Columns by name, float64 (time,), and the times of the rows if they have any."""

    columns: Mapping[str, np.ndarray]
    times: np.ndarray | None
    rows: int

    def array(self, names: Sequence[str]) -> np.ndarray:
        """(time, names), float64."""
        return np.stack([self.columns[name] for name in names], axis=1) if names else np.empty((self.rows, 0))


def read_table(
    what: str, data: Any, names: Sequence[str], also: Sequence[str] = (), time: str | None = None, rows: int = 1
) -> Table:
    """Read a table with these columns.

    Parameters
    ----------
    what : str
        For messages.
    data : array_like, mapping or pandas.DataFrame
        (time, names), or columns by name.
    names : sequence of str
        The columns that it must have.
    also : sequence of str
        Those that it may have.
    time : str, optional
        The column of the times, which it may have. The times of a DataFrame's ``DatetimeIndex`` are checked too.
    rows : int
        At least how many rows.

    Raises
    ------
    ArgumentError
        If a column is missing or one too many, a number is missing or infinite, or times are doubled or not in order;
        the message names the column and the row.
    ShapeError
        If the shape does not fit.
    """
    times: np.ndarray | None = None
    if hasattr(data, "columns") and hasattr(data, "index"):
        times = _index_times(what, data.index)
        labels = list(data.columns)
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise ArgumentError(f"{what}: the column {described(twice)} is there twice")
        given = {label: data[label] for label in labels}
    elif isinstance(data, Mapping):
        given = dict(data)
    else:
        array = _as_array(what, data)
        if array.ndim != 2 or array.shape[1] != len(names):
            raise ShapeError(
                f"{what}: expected (time, {len(names)}), the columns {', '.join(names) or 'none'}, found shape "
                f"{array.shape}"
            )
        if len(array) < rows:
            raise ShapeError(f"{what}: expected at least {_rows(rows)}, found {len(array)}")
        return Table({name: array[:, i] for i, name in enumerate(names)}, None, len(array))
    missing = [name for name in names if name not in given]
    extra = [name for name in given if name not in names and name not in also and name != time]
    if missing:
        raise ArgumentError(f"{what}: the column {missing[0]!r} is missing; found {_listed(given)}")
    if extra:
        hint = "" if time is not None else " (a column of times is named by Forecaster(time=))"
        raise ArgumentError(
            f"{what}: the column {described(extra[0])} is one too many; expected {_listed(names)}{hint}"
        )
    columns = {name: _column(what, name, given[name]) for name in [*names, *also] if name in given}
    lengths = {name: len(column) for name, column in columns.items()}
    if time is not None and time in given:
        times = _time_column(what, time, given[time])
    if times is not None:
        lengths[time or "index"] = len(times)
    if len(set(lengths.values())) > 1:
        raise ShapeError(f"{what}: expected columns of one length, found {lengths}")
    count = next(iter(lengths.values()), 0)
    if hasattr(data, "columns") and not lengths:
        count = len(data.index)
    if count < rows:
        raise ShapeError(f"{what}: expected at least {_rows(rows)}, found {count}")
    if times is not None:
        check_order(what, times)
    return Table(columns, times, count)


def check_order(what: str, times: np.ndarray) -> None:
    """Times are there, each later than the one before. Raises `ArgumentError`."""
    for row in np.flatnonzero(np.isnat(times) if times.dtype.kind == "M" else np.isnan(times))[:1]:
        raise ArgumentError(f"{what}: row {row}: the time is missing")
    for row in (np.flatnonzero(times[1:] <= times[:-1]) + 1)[:1]:
        if times[row] == times[row - 1]:
            raise ArgumentError(f"{what}: row {row}: the time {times[row]} is that of the row before")
        raise ArgumentError(f"{what}: row {row}: the time {times[row]} is before {times[row - 1]}; sort the rows")


def row_of(what: str, start: Any, table: Table, name: str) -> int:
    """The row of a start: a number of a row, or the first row at this time or later. Raises `ArgumentError`."""
    if isinstance(start, (int, np.integer)) and not isinstance(start, bool):
        row = int(start)
    else:
        if table.times is None or table.times.dtype.kind != "M":
            raise ArgumentError(f"{name}: expected the number of a row, because {what} has no dates, found {start!r}")
        try:
            row = int(np.searchsorted(table.times, np.datetime64(start)))
        except (TypeError, ValueError):
            raise ArgumentError(f"{name}: expected a row or a date, found {described(start)}") from None
    if not 0 < row < table.rows:
        raise ArgumentError(f"{name}: expected a row of {what} after its first, found {start!r} ({table.rows} rows)")
    return row


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _listed(names: Any) -> str:
    return ", ".join([described(name) for name in list(names)[:40]]) or "none"


def _as_array(what: str, data: Any) -> np.ndarray:
    try:
        array = np.asarray(data)
        if array.dtype.kind not in "biuf":
            raise TypeError
        array = array.astype(np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(f"{what}: expected numbers, found {described(data)}") from None
    is_finite = np.isfinite(array)
    if not is_finite.all():
        row, *rest = np.argwhere(~is_finite)[0]
        raise ArgumentError(f"{what}: row {row}, column {rest[0] if rest else 0}: found {array[(row, *rest)]}")
    return array


def _column(what: str, name: str, given: Any) -> np.ndarray:
    try:
        array = np.asarray(given)
        if array.dtype.kind == "O":  # nullable columns of pandas, and whatever is not a number
            array = np.array([np.nan if _is_missing(one) else float(one) for one in array.ravel()]).reshape(array.shape)
        if array.dtype.kind not in "biuf":
            raise TypeError
        array = array.astype(np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(f"{what}: the column {name!r} expected numbers, found {described(given)}") from None
    if array.ndim != 1:
        raise ShapeError(f"{what}: the column {name!r} expected (time,), found shape {array.shape}")
    is_finite = np.isfinite(array)
    if not is_finite.all():
        row = int(np.argmin(is_finite))
        raise ArgumentError(f"{what}: row {row}: the column {name!r} is {array[row]}; fill it or drop these rows")
    return array


def _is_missing(one: object) -> bool:
    return one is None or type(one).__name__ in ("NAType", "NaTType")


def _time_column(what: str, name: str, given: Any) -> np.ndarray:
    array = np.asarray(_without_zone(given))
    if array.dtype.kind == "O":
        try:
            array = array.astype("datetime64[us]")
        except (TypeError, ValueError):
            array = np.empty(0, object)
    if array.ndim != 1 or array.dtype.kind not in "iufM":
        raise ArgumentError(f"{what}: the column {name!r} expected dates or numbers (time,), found {described(given)}")
    return array


def _index_times(what: str, index: Any) -> np.ndarray | None:
    """The times of an index of pandas that has any, in UTC if they have a time zone."""
    values = np.asarray(_without_zone(index))
    if values.dtype.kind == "M":
        return values
    ordinals = getattr(index, "asi8", None)  # of periods
    return None if ordinals is None else np.asarray(ordinals)


def _without_zone(times: Any) -> Any:
    """Times of pandas, an index or a column, in UTC if they have a time zone; all else as it is."""
    if getattr(getattr(times, "dtype", None), "tz", None) is None:
        return times
    return getattr(times, "dt", times).tz_convert(None)
