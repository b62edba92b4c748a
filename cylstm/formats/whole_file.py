"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write to, which becomes `path` when all is written, in the place of one that was there.

    It is written beside `path` under another name, then renamed; after an error nothing of it is left. An `OSError`
    names `path` as it was given.
    """
    folder, name = os.path.split(os.path.abspath(os.fspath(path)))
    beside = os.path.join(folder, f".{name}.{os.urandom(4).hex()}.tmp")
    try:
        with naming(beside, path):
            with open(beside, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise


@contextlib.contextmanager
def naming(beside: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """An `OSError` about the file `beside` names the path that the user gave."""
    try:
        yield
    except OSError as error:
        if error.filename != beside:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
