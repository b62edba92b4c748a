"""Parquet files, through pyarrow."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from cylstm.cli.tables.results import Output, Pieces, one_table
from cylstm.cli.tables.table import Columns, Table, chosen, fits
from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.whole_file import whole_file


def pyarrow_of(path: str) -> tuple[Any, Any]:
    """pyarrow and its module of parquet files. Raises `UnsupportedError` if they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        # pandas needs it too
        raise UnsupportedError(f"{path}: parquet files need pyarrow: pip install pyarrow") from None
    return pyarrow, parquet


@contextlib.contextmanager
def open_parquet(path: str, columns: Columns) -> Iterator[Table]:
    """The rows of a parquet file.

    Raises
    ------
    FormatError
        Also as rows are read: if a column has no numbers, or one is missing; the message says where.
    UnsupportedError
        If pyarrow is not installed.
    """
    pyarrow, parquet = pyarrow_of(path)
    with open(path, "rb") as file:
        try:
            table = parquet.ParquetFile(file)
        except (pyarrow.ArrowException, OSError) as error:
            raise FormatError(f"{path}: expected a parquet file: {error}") from error
        names, rows = list(table.schema_arrow.names), table.metadata.num_rows
        places = chosen(path, names, columns)
        places = list(range(len(names))) if places is None else places
        if not rows or not places:
            raise FormatError(f"{path}: expected at least one row of numbers, found none")

        def blocks(most: int) -> Iterator[np.ndarray]:
            first = 0
            try:
                for batch in table.iter_batches(most, columns=[names[place] for place in dict.fromkeys(places)]):
                    arrays = [batch.column(names[place]).to_numpy(zero_copy_only=False) for place in places]
                    yield np.stack(
                        [_numbers(path, names, place, array, first) for place, array in zip(places, arrays)], axis=1
                    )
                    first += len(arrays[0])
            except (pyarrow.ArrowException, OSError) as error:
                raise FormatError(f"{path}: expected a parquet file: {error}") from error

        yield Table(path, tuple(names[place] for place in places), rows, blocks)


def _numbers(path: str, names: Sequence[str], place: int, column: np.ndarray, first: int) -> np.ndarray:
    """A column as float64. Raises `FormatError`."""
    where = f"{path}, column {place + 1} ({names[place]!r})"
    if column.dtype.kind not in "fiub":
        raise FormatError(f"{where}: expected numbers, found {column.dtype}; --columns chooses columns")
    numbers = column.astype(np.float64)
    for row, number in enumerate(numbers.tolist()):
        if not fits(number):
            raise FormatError(f"{where}, row {first + row + 1}: expected a number, found {number}")
    return numbers


@contextlib.contextmanager
def write_parquet(path: str, outputs: Sequence[Output]) -> Iterator[Callable[[Pieces], None]]:
    """Takes pieces of results, and writes them as rows: see `one_table`."""
    pyarrow, parquet = pyarrow_of(path)
    with whole_file(path) as file, contextlib.ExitStack() as stack:
        rows = 0
        writer: Any = None

        def write(pieces: Pieces) -> None:
            nonlocal rows, writer
            names, columns, count = one_table(path, outputs, pieces, rows)
            rows += count
            table = pyarrow.table([pyarrow.array(column) for column in columns], names=names)
            if writer is None:
                writer = stack.enter_context(parquet.ParquetWriter(file, table.schema))
            writer.write_table(table)

        yield write
