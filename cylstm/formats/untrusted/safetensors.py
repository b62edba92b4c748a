"""safetensors: a JSON header and raw tensors; used for state dicts and for the native ``.cylstm``.

The layout: the header's length as a little-endian uint64, the header, the data. Each tensor's entry holds its type,
shape and its begin and end in the data; sorted by begin, the tensors are contiguous, with nothing left over.
``__metadata__`` maps strings to strings.

This reader is used instead of the library of that name, which would be one more dependency: tensors are read a piece
at a time as they are packed, and the header has limits.
"""

from __future__ import annotations

import math
import os
import warnings
from functools import partial

import numpy as np

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.untrusted.json import parse_json
from cylstm.graph.weights import StoredTensor

#: bytes of the header of a file, as in the safetensors package
MAX_HEADER = 100_000_000
_MAX_RANK = 32
#: numbers that are tested for NaN at a time
_PIECE = 1 << 18
_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}
#: those that become weights: floating point
REAL_TYPES = ("F64", "F32", "F16", "BF16")


class SafetensorsFile:
    """An open safetensors file whose header is read and checked; tensors are read when asked for.

    Attributes
    ----------
    path : str
    metadata : dict of str to str
    entries : dict of str to (begin, end, name, type, shape)
        In the order of the header; `begin` and `end` count from the start of the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - lives as long as tensors to read
        self._warned: set[str] = set()
        self.size = size = os.fstat(self._file.fileno()).st_size
        start = self._file.read(8)
        if len(start) < 8:
            raise FormatError(f"{path}: {size} bytes are too few for a safetensors file; truncated?")
        length = int.from_bytes(start, "little")
        if length > min(MAX_HEADER, size - 8):
            raise FormatError(f"{path}: a header of {length} bytes in a file of {size}; truncated?")
        header = parse_json(self._file.read(length), f"{path}: header")
        if not isinstance(header, dict):
            raise FormatError(f"{path}: header: expected an object, found a {type(header).__name__}")
        self.metadata = header.pop("__metadata__", {})
        if not isinstance(self.metadata, dict) or not all(isinstance(text, str) for text in self.metadata.values()):
            raise FormatError(f"{path}: __metadata__ expected strings only")
        self.entries = {name: _entry(path, name, entry, 8 + length) for name, entry in header.items()}
        end = 8 + length
        for begin, next_end, name, *_ in sorted(self.entries.values(), key=lambda entry: entry[:2]):
            if begin != end:
                raise FormatError(f"{path}: tensor {name!r} begins at {begin}, expected {end}: a gap or an overlap")
            end = next_end
        if end != size:
            raise FormatError(f"{path}: the tensors end at byte {end}, the file at {size}; truncated?")

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def fileno(self) -> int:
        """The descriptor of the open file, which stays this object's own."""
        return self._file.fileno()

    def storage(self) -> dict[str, str]:
        """Name -> type, shape and place of each tensor as stored."""
        return {name: f"{kind} {shape} at byte {begin}" for name, (begin, _, _, kind, shape) in self.entries.items()}

    def stored(self, name: str) -> StoredTensor:
        """One tensor that is read when asked for, with a warning if it holds NaN or infinity."""
        *_, kind, shape = self.entries[name]
        return StoredTensor(shape, self.dtype(kind), partial(self._checked_rows, name))

    @staticmethod
    def dtype(kind: str) -> np.dtype:
        """The type of a tensor of this kind once read."""
        return np.dtype({"F64": "f8"}.get(kind, "f4") if kind in REAL_TYPES else _TYPES[kind]).newbyteorder("=")

    def rows(self, name: str, first: int, count: int) -> np.ndarray:
        """Rows of one tensor; half precision becomes float32."""
        begin, end, _, kind, shape = self.entries[name]
        array = np.empty((count, *shape[1:]), _TYPES[kind])
        row = (end - begin) // max(1, shape[0]) if shape else end - begin
        self.read_into(name, begin + first * row, array.reshape(-1).view(np.uint8))
        if kind == "BF16":
            from cylstm.formats.arrays import bfloat16_bits_to_float32

            return bfloat16_bits_to_float32(array)
        if kind == "F16":
            return array.astype(np.float32)
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def _checked_rows(self, name: str, first: int, count: int) -> np.ndarray:
        array = self.rows(name, first, count)
        self.warn_not_finite(name, array)
        return array

    def read_into(self, name: str, begin: int, target: np.ndarray) -> None:
        """Fill `target` (bytes, one axis) from byte `begin` of the file. Raises `FormatError` where it ends early."""
        self._file.seek(begin)
        view, done = memoryview(target.data), 0
        while done < len(view):
            count = self._file.readinto(view[done:])
            if not count:
                raise FormatError(f"{self.path}: tensor {name!r} ends early; truncated?")
            done += count

    def warn_not_finite(self, name: str, array: np.ndarray) -> None:
        """Warn, once per tensor, if `array` holds NaN or infinity."""
        if name in self._warned or array.dtype.kind != "f":
            return
        numbers = array.reshape(-1)
        if not all(np.isfinite(numbers[i : i + _PIECE]).all() for i in range(0, numbers.size, _PIECE)):
            self._warned.add(name)
            warnings.warn(f"{self.path}: NaN or infinity in {name}", UserWarning, stacklevel=2)


def _entry(path: str, name: str, entry: object, start: int) -> tuple[int, int, str, str, tuple[int, ...]]:
    """``(begin, end, name, type, shape)`` of one tensor, its size checked; the data start at byte `start`."""
    what = f"{path}: tensor {name!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{what}: expected dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _TYPES:
        raise UnsupportedError(f"{what}: type {kind!r} is not supported; known are {', '.join(_TYPES)}")
    if not are_counts(shape) or len(shape) > _MAX_RANK or not are_counts(offsets) or len(offsets) != 2:
        raise FormatError(f"{what}: shape and data_offsets expected natural numbers, found {shape} and {offsets}")
    begin, end = offsets
    if math.prod(max(size, 1) for size in shape) >= 1 << 59:
        raise FormatError(f"{what}: shape {tuple(shape)} is too large")
    expected = math.prod(shape) * np.dtype(_TYPES[kind]).itemsize
    if end - begin != expected:
        raise FormatError(f"{what}: {kind} of shape {tuple(shape)} takes {expected} bytes, found {end - begin}")
    return start + begin, start + end, name, kind, tuple(shape)


def are_counts(numbers: object) -> bool:
    """Whether it is a list of natural numbers of at most 62 bits."""
    return isinstance(numbers, list) and all(type(number) is int and 0 <= number < 1 << 62 for number in numbers)
