"""Parquet files, through pyarrow, or through pandas with what it reads them with."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from cylstm.cli.tables.results import Output, Pieces, one_table
from cylstm.cli.tables.table import Columns, Table, chosen, fits
from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.whole_file import whole_file

_MISSING = "parquet files need pyarrow: pip install pyarrow"


def _pyarrow() -> tuple[Any, Any] | None:
    """pyarrow and its module of parquet files, if it is installed."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        return None
    return pyarrow, parquet


def _pandas(path: str) -> Any:
    try:
        import pandas
    except ImportError:
        raise UnsupportedError(f"{path}: {_MISSING}") from None
    return pandas


@contextlib.contextmanager
def open_parquet(path: str, columns: Columns) -> Iterator[Table]:
    """The rows of a parquet file.

    Raises
    ------
    FormatError
        Also as rows are read: if a column has no numbers, or one is missing; the message says where.
    UnsupportedError
        If nothing is installed that reads such files.
    """
    found = _pyarrow()
    with open(path, "rb") as file:
        if found is None:
            frame = _frame(path, file)
            names, rows = [str(name) for name in frame.columns], len(frame)
        else:
            try:
                table = found[1].ParquetFile(file)
            except (ValueError, OSError) as error:
                raise FormatError(f"{path}: expected a parquet file: {error}") from error
            names, rows = list(table.schema_arrow.names), table.metadata.num_rows
        places = chosen(path, names, columns)
        places = list(range(len(names))) if places is None else places
        if not rows:
            raise FormatError(f"{path}: expected at least one row of numbers, found none")

        def blocks(most: int) -> Iterator[np.ndarray]:
            first = 0
            if found is None:
                pieces = (frame.iloc[row : row + most] for row in range(0, rows, most))
                batches = ([piece.iloc[:, place].to_numpy() for place in places] for piece in pieces)
            else:
                batches = (
                    [batch.column(place).to_numpy(zero_copy_only=False) for place in places]
                    for batch in table.iter_batches(most)
                )
            for batch in batches:
                block = np.stack([_numbers(path, names, place, one, first) for place, one in zip(places, batch)], 1)
                yield block
                first += len(block)

        yield Table(path, tuple(names[place] for place in places), rows, blocks)


def _frame(path: str, file: io.BufferedReader) -> Any:
    pandas = _pandas(path)
    try:
        return pandas.read_parquet(io.BytesIO(file.read()))
    except ImportError:
        raise UnsupportedError(f"{path}: {_MISSING}") from None
    except (ValueError, OSError) as error:
        raise FormatError(f"{path}: expected a parquet file: {error}") from error


def _numbers(path: str, names: Sequence[str], place: int, column: np.ndarray, first: int) -> np.ndarray:
    """A column as float64."""
    where = f"{path}, column {place + 1} ({names[place]!r})"
    if column.dtype.kind not in "fiub":
        raise FormatError(f"{where}: expected numbers, found {column.dtype}; choose columns with --columns")
    numbers = column.astype(np.float64)
    for row, number in enumerate(numbers.tolist()):
        if not fits(number):
            raise FormatError(f"{where}, row {first + row + 1}: expected a number, found {number}")
    return numbers


@contextlib.contextmanager
def write_parquet(path: str, outputs: Sequence[Output]) -> Iterator[Callable[[Pieces], None]]:
    """Takes pieces of results, and writes them as rows: see `one_table`."""
    found = _pyarrow()
    pandas: Any = None if found else _pandas(path)
    with whole_file(path) as file, contextlib.ExitStack() as stack:
        rows = 0
        writer: Any = None
        frames: list[Any] = []

        def write(pieces: Pieces) -> None:
            nonlocal rows, writer
            names, columns, count = one_table(path, outputs, pieces, rows)
            rows += count
            if len(set(names)) != len(names):
                raise FormatError(f"{path}: two columns have the same name: {', '.join(names)}")
            if found is None:
                frames.append(pandas.DataFrame(dict(zip(names, columns))))
                return
            table = found[0].table(dict(zip(names, columns)))
            if writer is None:
                writer = stack.enter_context(found[1].ParquetWriter(file, table.schema))
            writer.write_table(table)

        yield write
        if found is None:
            held = io.BytesIO()
            try:
                pandas.concat(frames).to_parquet(held, index=False)
            except ImportError:
                raise UnsupportedError(f"{path}: {_MISSING}") from None
            file.write(held.getvalue())
