"""Text with a line for each row, and a comma between columns."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

import numpy as np

from cylstm.cli.tables.results import Output, Pieces, one_table
from cylstm.cli.tables.table import Columns, Table, chosen, number_in
from cylstm.errors import FormatError
from cylstm.formats.whole_file import whole_file


@contextlib.contextmanager
def open_csv(path: str, columns: Columns) -> Iterator[Table]:
    """The rows of a file in UTF-8, whose first line may have names.

    Lines that are empty or begin with ``#`` are skipped.

    Raises
    ------
    FormatError
        Also as rows are read: if a cell is no number, or a line has another number of cells; the message says where.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines = _lines(path, file)
        first = next(lines, None)
        if first is None:
            raise FormatError(f"{path}: expected at least one line of numbers, found none")
        names = None
        if is_header(first[1], columns.header):
            names = tuple(cell.strip() for cell in first[1])
        places = chosen(path, names, columns)
        rest = itertools.chain([] if names is not None else [first], lines)
        shown = names if places is None or names is None else tuple(names[place] for place in places)
        yield Table(path, shown, None, lambda most: _blocks(path, rest, len(first[1]), places, most))


def _lines(path: str, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """The lines that count, with their numbers."""
    reader = csv.reader(file)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells) and not cells[0].lstrip().startswith("#"):
                yield reader.line_num, cells
    except (csv.Error, UnicodeDecodeError) as error:
        # the line that could not be read
        at = f"{path}, line {reader.line_num + 1}" if isinstance(error, UnicodeDecodeError) else path
        raise FormatError(f"{at}: expected a .csv file in UTF-8: {error}") from error


def is_header(cells: Sequence[str], header: str = "auto") -> bool:
    """Whether a first line has names: it has text, and not one number."""
    if header != "auto":
        return header == "yes"
    return any(cell.strip() for cell in cells) and not any(_is_float(cell) for cell in cells)


def _is_float(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def numbers_of(cells: Sequence[str], places: Sequence[int] | None, at: str) -> list[float]:
    """The numbers of a line, of those columns.

    Raises
    ------
    FormatError
        If one is no number; `at` says which line.
    """
    found = []
    for place in range(len(cells)) if places is None else places:
        number = number_in(cells[place])
        if number is None:
            raise FormatError(f"{at}, column {place + 1}: expected a number, found {cells[place][:40]!r}")
        found.append(number)
    return found


def _blocks(
    path: str, lines: Iterator[tuple[int, list[str]]], width: int, places: Sequence[int] | None, most: int
) -> Iterator[np.ndarray]:
    is_empty = True
    while True:
        rows = []
        for number, cells in itertools.islice(lines, most):
            if len(cells) != width:
                raise FormatError(f"{path}, line {number}: expected {width} columns, found {len(cells)}")
            rows.append(numbers_of(cells, places, f"{path}, line {number}"))
        if not rows:
            break
        is_empty = False
        yield np.array(rows, np.float64)
    if is_empty:
        raise FormatError(f"{path}: expected at least one line of numbers, found none")


@contextlib.contextmanager
def write_csv(path: str, outputs: Sequence[Output]) -> Iterator[Callable[[Pieces], None]]:
    """Takes pieces of results, and writes them as lines below one with names: see `one_table`."""
    with whole_file(path) as file:
        rows = 0

        def write(pieces: Pieces) -> None:
            nonlocal rows
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            names, columns, count = one_table(path, outputs, pieces, rows)
            if not rows:
                writer.writerow(names)
            # text of a float32 is the shortest that gives it again
            writer.writerows(zip(*[map(str, column) for column in columns]))
            file.write(text.getvalue().encode("utf-8"))
            rows += count

        yield write
