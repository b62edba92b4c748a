"""Weights that stay elsewhere, in a file or packed in the engine, until their numbers are needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

#: Type of a matrix's weights -> the kind of its packed array in a safetensors file. Those of int8 compute with
#: activations of 16 or of 8 bits.
WEIGHT_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8a16": "I8", "int8a8": "I8"}
#: kind in a safetensors file -> the NumPy type of a packed array; NumPy has no bfloat16, whose bits it holds
PACKED_DTYPES = {"F32": "f4", "F16": "f2", "BF16": "u2", "I8": "i1"}


def is_int8(kind: object) -> bool:
    """Whether a type of weights is whole numbers of 8 bits with a scale for each row."""
    return isinstance(kind, str) and WEIGHT_TYPES.get(kind) == "I8"


#: how many bytes are read at a time
PIECE_BYTES = 1 << 20


class StoredTensor:
    """A tensor whose shape and type are known and whose numbers are read on request.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    read_rows : callable
        ``read_rows(first, count)`` returns rows of the first axis as a new array of `dtype`.
    """

    __slots__ = ("_dtype", "_read_rows", "_shape")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, read_rows: Callable[[int, int], np.ndarray]) -> None:
        self._shape = shape
        self._dtype = dtype
        self._read_rows = read_rows

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole tensor."""
        return self._shape

    @property
    def dtype(self) -> np.dtype:
        """The type of the numbers once they are read."""
        return self._dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size in bytes of all numbers as an array."""
        return self.size * self.dtype.itemsize

    @property
    def itemsize(self) -> int:
        """Size in bytes of one number."""
        return self.dtype.itemsize

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("these weights are not in memory as an array: a copy is needed")
        array = self._read_rows(0, self.shape[0]) if self.shape else self._read_rows(0, 1).reshape(())
        return array if dtype is None else array.astype(dtype, copy=False)

    def rows(self, first: int, count: int) -> np.ndarray:
        """Rows of the first axis."""
        return self._read_rows(first, count)

    def pieces(self) -> Iterator[tuple[int, np.ndarray]]:
        """``(first row, rows)`` of the whole tensor, about a megabyte at a time."""
        row_bytes = max(1, self.nbytes // max(1, self.shape[0]))
        step = max(1, PIECE_BYTES // row_bytes)
        for first in range(0, self.shape[0], step):
            yield first, self._read_rows(first, min(step, self.shape[0] - first))


#: what has the shape, dtype and size of a layer's weight
Tensor: TypeAlias = StoredTensor | np.ndarray


class StoredTensors(Mapping[str, np.ndarray]):
    """Name -> ndarray, read-only and read anew on each request; `stored` has the tensors as they are.

    A copy or a pickle of it is a plain dict of arrays.
    """

    __slots__ = ("__weakref__", "_stored")

    def __init__(self, stored: Mapping[str, Tensor]) -> None:
        self._stored = MappingProxyType(dict(stored))

    @property
    def stored(self) -> Mapping[str, Tensor]:
        """The tensors as they are; no numbers are read."""
        return self._stored

    def __getitem__(self, name: str) -> np.ndarray:
        array = np.asarray(self._stored[name]).view()
        array.flags.writeable = False
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


def as_stored(tensors: Mapping[str, np.ndarray]) -> Mapping[str, Tensor]:
    """The same tensors where only shapes, dtypes and sizes are needed: no numbers are read."""
    return tensors.stored if isinstance(tensors, StoredTensors) else tensors
