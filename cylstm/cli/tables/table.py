"""Tables: numbers in columns that may have names, read in blocks of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cylstm.errors import FormatError

if TYPE_CHECKING:
    from cylstm.graph.values import Value

_LARGEST = float(np.finfo(np.float32).max)


class Table(NamedTuple):
    """A file of rows.

    Attributes
    ----------
    path : str
    names : tuple of str or None
        Of the columns that `blocks` has, if the file says them.
    rows : int or None
        How many there are, if that is known in advance.
    blocks : callable
        Gives the rows in order, at most so many at a time: float64 (rows, columns).
    """

    path: str
    names: tuple[str, ...] | None
    rows: int | None
    blocks: Callable[[int], Iterator[np.ndarray]]


class Columns(NamedTuple):
    """Which columns of a table are read.

    Attributes
    ----------
    wanted : sequence of str or None
        Their names in order; None: all. They count where the table has names.
    are_asked_for : bool
        Whether a table without names is refused.
    header : {"auto", "yes", "no"}
        Whether the first line of text has names; "auto": if no cell of it is a number.
    """

    wanted: Sequence[str] | None = None
    are_asked_for: bool = False
    header: str = "auto"


def number_in(cell: str) -> float | None:
    """A number that float32 has, or None if it is no such."""
    try:
        number = float(cell)
    except ValueError:
        return None
    # Python's own numbers may have underscores
    return number if fits(number) and "_" not in cell else None


def fits(number: float) -> bool:
    """Whether float32 has a finite number for it."""
    return math.isfinite(number) and abs(number) <= _LARGEST


def chosen(path: str, names: Sequence[str] | None, columns: Columns) -> list[int] | None:
    """Where the wanted columns are; None: all in their order.

    Raises
    ------
    FormatError
        If one is missing or there twice, or the table has no names and they were asked for.
    """
    wanted = columns.wanted
    if wanted is None:
        return None
    if names is None:
        if columns.are_asked_for:
            raise FormatError(f"{path}: expected a first line with names, by which columns are chosen, found numbers")
        return None
    if any(names.count(name) != 1 for name in wanted):
        raise FormatError(f"{path}: expected the columns {', '.join(wanted)}, each once, found {', '.join(names)}")
    return [names.index(name) for name in wanted]


def as_input(block: np.ndarray, value: Value, path: str) -> np.ndarray:
    """Rows of a table as an input of a network: float32 (rows, features), or indices (rows,) or (rows, features).

    Raises
    ------
    FormatError
        If indices are not whole numbers.
    """
    if value.kind == "index":
        if (block != np.floor(block)).any():
            raise FormatError(f"{path}: input {value.name!r} takes whole numbers")
        block = block.astype(np.int64)
    else:
        block = block.astype(np.float32)
    return block[:, 0] if not value.step_shape and block.shape[1] == 1 else block
