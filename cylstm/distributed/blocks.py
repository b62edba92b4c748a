"""A block of rows, a frame of pandas or a table of Arrow: its columns as arrays, and predictions as new columns."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from cylstm.array_like import to_array
from cylstm.distributed.arrow_columns import Cells, array_of_cells, column_of
from cylstm.errors import ShapeError


class Block(Protocol):
    """Some rows of a table. What reads a column raises `ShapeError` with its name."""

    @property
    def names(self) -> list[Any]:
        """Of all columns."""

    @property
    def rows(self) -> int:
        """How many."""

    def numbers(self, columns: Sequence[Any]) -> np.ndarray:
        """(rows, columns), of columns of numbers."""

    def cells(self, column: Any, what: str) -> Cells:
        """Of a column whose cells are arrays."""

    def result(self, kept: Sequence[Any], made: Sequence[tuple[str, Cells]]) -> Any:
        """A table of the same kind, of some columns of this one and new ones."""


class Frame:
    """Of pandas."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    @property
    def names(self) -> list[Any]:
        return list(self._frame.columns)

    @property
    def rows(self) -> int:
        return len(self._frame)

    def numbers(self, columns: Sequence[Any]) -> np.ndarray:
        return to_array(self._frame[list(columns)], "the table")

    def cells(self, column: Any, what: str) -> Cells:
        cells = self._frame[column]
        if cells.isna().any():
            raise ShapeError(f"{what}: {cells.isna().sum()} cells are missing; fill them or drop their rows")
        for row, cell in enumerate(cells):
            if isinstance(cell, str):
                raise ShapeError(f"{what}, row {row}: expected an array, found text, {cell[:40]!r}")
        listed = [_unnested(cell) for cell in cells]
        with contextlib.suppress(ShapeError):  # of cells of different shapes, or of what is said again of one of them
            return to_array(listed, what)
        return [to_array(cell, f"{what}, row {row}") for row, cell in enumerate(listed)]

    def result(self, kept: Sequence[Any], made: Sequence[tuple[str, Cells]]) -> Any:
        columns = {name: y if isinstance(y, np.ndarray) and y.ndim == 1 else _objects(y) for name, y in made}
        return self._frame[list(kept)].assign(**columns)


class ArrowTable:
    """Of Arrow."""

    def __init__(self, table: Any) -> None:
        self._table = table

    @property
    def names(self) -> list[Any]:
        return list(self._table.column_names)

    @property
    def rows(self) -> int:
        return len(self._table)

    def numbers(self, columns: Sequence[Any]) -> np.ndarray:
        return to_array(self._table.select(list(columns)), "the table")

    def cells(self, column: Any, what: str) -> Cells:
        return array_of_cells(self._table.column(column), what)

    def result(self, kept: Sequence[Any], made: Sequence[tuple[str, Cells]]) -> Any:
        found = self._table.select(list(kept))
        for name, y in made:
            found = found.append_column(name, column_of(y))
        return found


def _unnested(cell: Any) -> Any:
    """An array of arrays, as lists of lists come from Parquet, as a list of them."""
    if isinstance(cell, np.ndarray) and cell.dtype == object and cell.size and isinstance(cell[0], np.ndarray):
        return [_unnested(item) for item in cell]
    return cell


def _objects(items: Cells) -> np.ndarray:
    """Arrays as the cells of one column."""
    found = np.empty(len(items), object)
    for i, item in enumerate(items):
        found[i] = item
    return found
