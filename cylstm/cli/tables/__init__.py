"""Files of numbers: the inputs that a command reads, and the predictions that it writes; a kind of file is a module."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cylstm.cli.tables.arrays import write_npy, write_npz
from cylstm.cli.tables.csv_table import open_csv, write_csv
from cylstm.cli.tables.parquet_table import open_parquet, write_parquet
from cylstm.cli.tables.results import Output, Pieces
from cylstm.cli.tables.table import Columns, Table, as_input
from cylstm.errors import FormatError, ShapeError
from cylstm.formats.numpy_file import load_arrays
from cylstm.inputs import input_list, to_layout

if TYPE_CHECKING:
    from cylstm.model import Model

#: ending -> what reads rows of such a file; all others are arrays
_TABLES: dict[str, Callable[[str, Columns], contextlib.AbstractContextManager[Table]]] = {
    ".csv": open_csv,
    ".parquet": open_parquet,
}
#: ending -> what writes predictions to such a file
_RESULTS: dict[str, Callable[[str, Sequence[Output]], contextlib.AbstractContextManager[Callable[[Pieces], None]]]] = {
    ".csv": write_csv,
    ".npy": write_npy,
    ".npz": write_npz,
    ".parquet": write_parquet,
}


class Inputs(NamedTuple):
    """What a file has for the inputs of a network.

    Attributes
    ----------
    names : tuple of str or None
        Of the features, if the file says them.
    is_batch : bool
        Whether the first axis is that of a batch; otherwise it is one sample, without a batch axis.
    length : int or None
        Of the first axis, if it is known.
    shapes : list of tuple
        Of each input behind the first axis.
    pieces : callable
        Gives the inputs in order, in pieces along the first axis of at most so many; None: all in one piece.
    """

    names: tuple[str, ...] | None
    is_batch: bool
    length: int | None
    shapes: list[tuple[int, ...]]
    pieces: Callable[[int | None], Iterator[list[np.ndarray]]]

    def whole(self) -> list[np.ndarray]:
        """All in one piece."""
        (found,) = self.pieces(None)
        return found


@contextlib.contextmanager
def open_inputs(path: str, model: Model, columns: Columns) -> Iterator[Inputs]:
    """The inputs of a network from a .csv, .parquet, .npy or .npz file.

    A table is one sample of a network with time, a row for each step, and otherwise a batch.

    Raises
    ------
    FormatError, ShapeError
        If the file is none of these, or has not what the network takes; some of it as pieces are read.
    """
    opened = _TABLES.get(os.path.splitext(path)[1].lower())
    if opened is None:
        yield _of_arrays(load_arrays(path, is_mapped=True), model)
        return
    if len(model.inputs) > 1:
        raise FormatError(
            f"{path}: the network has {len(model.inputs)} inputs ({', '.join(model.inputs)}), and a table is one: give "
            "an .npz file with their names"
        )
    with opened(path, columns) as table:
        yield _of_table(table, model)


def _of_table(table: Table, model: Model) -> Inputs:
    value = model.graph.values[model.inputs[0]]
    layout = model.graph.layouts.get(value.name)

    def pieces(most: int | None) -> Iterator[list[np.ndarray]]:
        blocks = table.blocks(1 << 16 if most is None else most)
        if most is None:
            blocks = iter([np.concatenate(list(blocks))])
        for block in blocks:
            array = as_input(block, value, table.path)
            if layout is not None and array.ndim == len(value.shape):
                array = to_layout(array, layout, array.ndim)
            yield [array]

    return Inputs(table.names, not value.has_time, table.rows, [value.step_shape], pieces)


def _of_arrays(found: Any, model: Model) -> Inputs:
    if isinstance(found, dict) and len(found) == len(model.inputs) == 1:
        (found,) = found.values()
    arrays: list[np.ndarray] = input_list(model._packed, found)
    layouts = model.graph.layouts
    values = [model.graph.values[name] for name in model.inputs]
    ranks = [len(layouts.get(value.name, value.shape)) for value in values]
    for value, array, rank in zip(values, arrays, ranks):
        if array.ndim not in (rank, rank + 1):
            raise ShapeError(
                f"input {value.name!r}: expected {rank + 1} axes with a batch or {rank} without, found shape "
                f"{array.shape}"
            )
    is_batch = arrays[0].ndim == ranks[0] + 1
    # a sample grows along its first axis only where that is the time of each input
    grows = is_batch or (not layouts and all(value.has_time for value in values))
    length = max(len(array) if array.ndim else 1 for array in arrays) if grows else 1

    def pieces(most: int | None) -> Iterator[list[np.ndarray]]:
        if most is None or not grows:
            yield arrays
            return
        for first in range(0, max(length, 1), most):
            yield [array[first : first + most] for array in arrays]

    return Inputs(None, is_batch, length, [array.shape[1:] for array in arrays], pieces)


def check_result_path(path: str) -> None:
    """Raise `FormatError` unless a file of this name can have predictions, or its folder is not there."""
    if os.path.splitext(path)[1].lower() not in _RESULTS:
        raise FormatError(f"{path}: predictions are written to {', '.join(_RESULTS)} files")
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise FormatError(f"{path}: there is no such folder")


def open_results(path: str, outputs: Sequence[Output]) -> contextlib.AbstractContextManager[Callable[[Pieces], None]]:
    """What takes predictions piece by piece; the file is complete once it is left without an error, or is not there."""
    return _RESULTS[os.path.splitext(path)[1].lower()](path, outputs)
