"""Arrays of .npy and .npz files."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO

import numpy as np

from cylstm.cli.tables.results import Output, Pieces
from cylstm.errors import FormatError
from cylstm.formats.whole_file import whole_file

_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = 512  # bytes, with room for any number of rows


class _GrowingArray:
    """A .npy file that is written in pieces along its first axis."""

    def __init__(self, file: IO[bytes], is_whole: bool) -> None:
        self._file, self._is_whole = file, is_whole
        self._kind: tuple[np.dtype, tuple[int, ...]] | None = None
        self._rows = 0
        file.write(bytes(_HEADER))

    def add(self, piece: np.ndarray) -> None:
        kind = piece.dtype, piece.shape[not self._is_whole :]
        if self._kind not in (None, kind):
            raise FormatError(f"expected {self._kind}, found {kind}")
        self._kind = kind
        self._rows += 1 if self._is_whole else len(piece)
        self._file.write(np.ascontiguousarray(piece).tobytes())

    def finish(self) -> None:
        assert self._kind is not None
        dtype, shape = self._kind
        shape = shape if self._is_whole else (self._rows, *shape)
        described = repr({"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
        size = _HEADER - len(_MAGIC) - 2
        self._file.seek(0)
        self._file.write(_MAGIC + size.to_bytes(2, "little") + described.ljust(size - 1).encode("latin1") + b"\n")


@contextlib.contextmanager
def write_npy(path: str, outputs: Sequence[Output]) -> Iterator[Callable[[Pieces], None]]:
    """Takes pieces of the only output, and writes the array that `Model.predict` gives."""
    if len(outputs) > 1:
        raise FormatError(f"{path}: the network has {len(outputs)} outputs: write them to an .npz file")
    with whole_file(path) as file:
        array = _GrowingArray(file, outputs[0].is_whole)

        def write(pieces: Pieces) -> None:
            if pieces[0] is not None:
                array.add(pieces[0])

        yield write
        array.finish()


@contextlib.contextmanager
def write_npz(path: str, outputs: Sequence[Output]) -> Iterator[Callable[[Pieces], None]]:
    """Takes pieces of the outputs, and writes the arrays that `Model.predict` gives, by name."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(whole_file(path))
        # an archive has one array after the other
        folder = os.path.dirname(os.path.abspath(path))
        parts = [stack.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in outputs]
        arrays = [_GrowingArray(part, output.is_whole) for part, output in zip(parts, outputs)]

        def write(pieces: Pieces) -> None:
            for array, piece in zip(arrays, pieces):
                if piece is not None:
                    array.add(piece)

        yield write
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for array, part, output in zip(arrays, parts, outputs):
                array.finish()
                part.seek(0)
                with archive.open(f"{output.value.name}.npy", "w", force_zip64=True) as member:
                    shutil.copyfileobj(part, member)
