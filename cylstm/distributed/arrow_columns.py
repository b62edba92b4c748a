"""Columns of Arrow whose cells are arrays, as arrays of NumPy and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from cylstm.array_like import to_array
from cylstm.errors import ShapeError


def array_of_cells(column: Any, what: str) -> np.ndarray:
    """A column whose cells are arrays of one shape, as (rows, ...).

    Parameters
    ----------
    column : pyarrow.ChunkedArray
        Of lists, which may be nested, or of tensors.
    what : str
        Its name in messages.

    Raises
    ------
    ShapeError
        If a cell or a number is missing, the cells have different lengths, or they hold no numbers.
    """
    pieces = [_of_chunk(chunk, what) for chunk in column.chunks if len(chunk)]
    shapes = sorted({piece.shape[1:] for piece in pieces})
    if len(shapes) > 1:
        raise _ragged(what, shapes[:12])
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _of_chunk(chunk: Any, what: str) -> np.ndarray:
    from pyarrow import types

    _refuse_nulls(chunk, what)
    if hasattr(chunk, "to_numpy_ndarray"):
        return np.asarray(chunk.to_numpy_ndarray())
    if isinstance(chunk.type, _extension_type()):  # tensors of Ray
        found = chunk.to_numpy(zero_copy_only=False)
        return found if found.dtype.kind != "O" else to_array(list(found), what, "; pad them to one length")
    shape = [len(chunk)]
    while types.is_list(chunk.type) or types.is_large_list(chunk.type) or types.is_fixed_size_list(chunk.type):
        if types.is_fixed_size_list(chunk.type):
            lengths = [chunk.type.list_size]
        else:
            lengths = sorted(chunk.value_lengths().unique().to_pylist())
        if len(lengths) > 1:
            raise _ragged(what, lengths[:12])
        shape.append(lengths[0])
        chunk = chunk.flatten()
        _refuse_nulls(chunk, what)
    return to_array(chunk, what).reshape(shape)


def _extension_type() -> type:
    import pyarrow

    found: type = pyarrow.BaseExtensionType
    return found


def _refuse_nulls(chunk: Any, what: str) -> None:
    if chunk.null_count:
        raise ShapeError(f"{what}: {chunk.null_count} values are missing; fill them or drop their rows")


def _ragged(what: str, found: list[Any]) -> ShapeError:
    return ShapeError(
        f"{what}: expected cells of one shape, found {', '.join(map(str, found))}; pad them to one length"
    )


def column_of(array: np.ndarray) -> Any:
    """(rows,) as a column of numbers, and (rows, ...) as one of lists."""
    import pyarrow

    column = pyarrow.array(array.reshape(-1))
    for axis in range(array.ndim - 1, 0, -1):
        count = int(np.prod(array.shape[:axis], dtype=np.int64))
        offsets = np.arange(count + 1) * array.shape[axis]
        column = pyarrow.ListArray.from_arrays(pyarrow.array(offsets, pyarrow.int32()), column)
    return column
