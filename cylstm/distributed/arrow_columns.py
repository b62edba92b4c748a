"""Columns of Arrow whose cells are arrays, as arrays of NumPy and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from cylstm.array_like import to_array
from cylstm.errors import ShapeError

#: a column whose cells are arrays: (rows, ...), or a list of them where their first axes differ
Cells = np.ndarray | list[np.ndarray]


def array_of_cells(column: Any, what: str) -> Cells:
    """A column whose cells are arrays.

    Parameters
    ----------
    column : pyarrow.ChunkedArray
        Of lists, which may be nested, or of tensors.
    what : str
        Its name in messages.

    Raises
    ------
    ShapeError
        If a cell or a number is missing, the cells differ in more than their first axis, or they hold no numbers.
    """
    pieces = [_of_chunk(chunk, what) for chunk in column.chunks if len(chunk)]
    if all(isinstance(piece, np.ndarray) for piece in pieces) and len({piece[0].shape for piece in pieces}) == 1:
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    return [cell for piece in pieces for cell in piece]


def _of_chunk(chunk: Any, what: str) -> Cells:
    _refuse_nulls(chunk, what)
    if hasattr(chunk, "to_numpy_ndarray"):
        return np.asarray(chunk.to_numpy_ndarray())
    if isinstance(chunk.type, _extension_type()):  # tensors of Ray
        found = chunk.to_numpy(zero_copy_only=False)
        return found if found.dtype.kind != "O" else [to_array(cell, what) for cell in found]
    if not _is_list(chunk.type):
        return to_array(chunk, what)
    steps = _lengths(chunk)
    if steps.min() == steps.max():
        return _steps(chunk, what, (len(chunk), int(steps[0])))
    return np.split(_steps(chunk, what, (int(steps.sum()),)), np.cumsum(steps)[:-1])


def _steps(chunk: Any, what: str, shape: tuple[int, ...]) -> np.ndarray:
    """What lists hold, of whose items the first axes are known."""
    while True:
        chunk = chunk.flatten()
        _refuse_nulls(chunk, what)
        if not _is_list(chunk.type):
            return to_array(chunk, what).reshape(shape)
        lengths = np.unique(_lengths(chunk))
        if len(lengths) > 1:
            raise ShapeError(f"{what}: expected steps of one length, found {', '.join(map(str, lengths[:12]))}")
        shape = (*shape, int(lengths[0]) if len(lengths) else 0)


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _lengths(chunk: Any) -> np.ndarray:
    """(rows,) of a chunk of lists, none of which is null."""
    from pyarrow import types

    if types.is_fixed_size_list(chunk.type):
        return np.full(len(chunk), chunk.type.list_size)
    return np.asarray(chunk.value_lengths())


def _extension_type() -> type:
    import pyarrow

    found: type = pyarrow.BaseExtensionType
    return found


def _refuse_nulls(chunk: Any, what: str) -> None:
    if chunk.null_count:
        raise ShapeError(f"{what}: {chunk.null_count} values are missing; fill them or drop their rows")


def column_of(array: Cells) -> Any:
    """(rows,) as a column of numbers, (rows, ...) as one of lists, and so is a list of arrays."""
    import pyarrow

    if isinstance(array, list):
        offsets = np.cumsum([0, *map(len, array)])
        return pyarrow.ListArray.from_arrays(pyarrow.array(offsets, pyarrow.int32()), column_of(np.concatenate(array)))
    column = pyarrow.array(array.reshape(-1))
    for axis in range(array.ndim - 1, 0, -1):
        count = int(np.prod(array.shape[:axis], dtype=np.int64))
        offsets = np.arange(count + 1) * array.shape[axis]
        column = pyarrow.ListArray.from_arrays(pyarrow.array(offsets, pyarrow.int32()), column)
    return column
