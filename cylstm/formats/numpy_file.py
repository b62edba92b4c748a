"""Arrays that NumPy reads from ``.npy`` and ``.npz`` files, which may be damaged."""

from __future__ import annotations

import os

import numpy as np

from cylstm.errors import FormatError


def load_arrays(
    path: str | os.PathLike[str], *, is_mapped: bool = False, what: str = "a .npy or .npz file of numbers"
) -> np.ndarray | dict[str, np.ndarray]:
    """The array of a .npy file, mapped into memory if `is_mapped`, or those of a .npz by name.

    `what` was expected, for messages.

    Raises
    ------
    FormatError
        If it is no such file, is damaged, has more numbers than fit into memory, or holds objects.
    OSError
        If it cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            if not is_mapped:
                return _all_of(np.load(file, allow_pickle=False))
            return _all_of(np.load(path, mmap_mode="r", allow_pickle=False))
        except Exception as error:
            # of a damaged file NumPy, zipfile, zlib and Python's own parser raise what they like, OSError included
            text = str(error) or type(error).__name__
            raise FormatError(f"{os.fspath(path)}: expected {what}: {text:.300}") from error


def _all_of(found: np.ndarray | np.lib.npyio.NpzFile) -> np.ndarray | dict[str, np.ndarray]:
    if isinstance(found, np.ndarray):
        return found
    arrays = {name: found[name] for name in found.files}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name!r:.100} is no array")
    return arrays
