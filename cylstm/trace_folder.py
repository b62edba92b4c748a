"""The folder that a trace larger than memory lies in: a ``.npy`` file for each array, and ``trace.json``."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Mapping
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from cylstm.errors import ArgumentError, FormatError
from cylstm.formats.numpy_file import load_arrays
from cylstm.formats.whole_file import naming

#: of the folder; it is written last
_HEAD = "trace.json"


class FolderWriter:
    """Writes arrays in pieces, each in its place, into a folder beside the one that it becomes when all are there.

    A context manager: where it ends by an exception, nothing is left of it, and what was there before is still there.

    Parameters
    ----------
    path : str
        A folder that an earlier trace left there is replaced, and nothing else is.

    Raises
    ------
    ArgumentError
        If something else has this name.
    """

    def __init__(self, path: str) -> None:
        path = os.path.normpath(path)  # of a relative path a relative one
        if os.path.lexists(path) and not os.path.isfile(os.path.join(path, _HEAD)):
            raise ArgumentError(f"path: {path!r} is there already and is no trace; give another name")
        self._path = path
        self._partial = f"{path}.{os.getpid()}.part"
        self._files: dict[str, tuple[BinaryIO, int, tuple[int, ...], np.dtype]] = {}
        self._left: dict[str, int] = {}

    def __enter__(self) -> FolderWriter:
        with naming(self._partial, self._path):
            os.mkdir(self._partial)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for file, *_ in self._files.values():
            file.close()
        shutil.rmtree(self._partial, ignore_errors=True)

    def reserve(self, shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype, has_batch: bool) -> None:
        """Begin the files of arrays (batch, ...) of these shapes, without their first axis unless `has_batch`.

        Raises
        ------
        OSError
            If they are larger than what is free on the disk.
        """
        needed = sum(math.prod(shape) for shape in shapes.values()) * dtype.itemsize
        free = shutil.disk_usage(self._partial).free
        if needed > free:
            raise OSError(
                errno.ENOSPC, f"the trace takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free", self._path
            )
        for name, shape in shapes.items():
            file = open(os.path.join(self._partial, f"{name}.npy"), "w+b")  # noqa: SIM115  (closed by __exit__)
            given = shape if has_batch else shape[1:]
            self._files[name] = (file, 0, shape, dtype)
            np.lib.format.write_array_header_1_0(
                file, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": given}
            )
            self._files[name] = (file, file.tell(), shape, dtype)
            self._left[name] = math.prod(shape)

    def write(self, name: str, array: np.ndarray, row: int, step: int | None) -> None:
        """Write some rows of an array, from `row` on: of each its steps from `step` on, or with None all of it."""
        file, start, shape, dtype = self._files[name]
        inner = math.prod(shape[1:] if step is None else shape[2:]) * dtype.itemsize
        of_row = math.prod(shape[1:]) * dtype.itemsize
        first = 0 if step is None else step * inner
        is_whole = step is None or array.shape[1] == shape[1]
        for k, piece in enumerate([array] if is_whole else array):
            file.seek(start + (row + k) * of_row + first)
            file.write(np.ascontiguousarray(piece, dtype).data)
        self._left[name] -= array.size

    def finish(self, head: object) -> None:
        """Write what the arrays are, and give the folder its name.

        Raises
        ------
        FormatError
            If not all was written.
        """
        for name, left in self._left.items():
            if left:
                raise FormatError(f"{self._path}: {left} numbers of {name} were not written")
        with open(os.path.join(self._partial, _HEAD), "w", encoding="utf-8") as file:
            json.dump(head, file)
        for opened, *_ in self._files.values():
            opened.close()
        if os.path.lexists(self._path):
            before = f"{self._partial}.before"
            os.rename(self._path, before)
            os.rename(self._partial, self._path)
            shutil.rmtree(before, ignore_errors=True)
        else:
            os.rename(self._partial, self._path)


class FolderReader:
    """The arrays of such a folder, mapped into memory when asked for.

    Attributes
    ----------
    head
        What `FolderWriter.finish` was given.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        if not os.path.isfile(os.path.join(path, _HEAD)):
            raise FormatError(f"{path}: expected a folder that a trace was written to, found no {_HEAD} in it")
        with open(os.path.join(path, _HEAD), encoding="utf-8") as file:
            self.head: Any = json.load(file)

    def __getitem__(self, name: str) -> np.ndarray:
        if not name.isidentifier():
            raise FormatError(f"{self._path}: {name!r:.40} is no name of an array")
        path = os.path.join(self._path, f"{name}.npy")
        try:
            found = load_arrays(path, is_mapped=True)
        except FormatError:
            # nothing can be mapped of an array without numbers
            found = load_arrays(path)
            if isinstance(found, np.ndarray) and found.size:
                raise
        if not isinstance(found, np.ndarray):
            raise FormatError(f"{path}: expected an array, found an archive")
        return found
