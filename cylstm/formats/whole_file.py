"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write to, which becomes `path` when all is written, in the place of one that was there.

    It is written beside `path` under another name, then renamed; after an error nothing of it is left.
    """
    folder, name = os.path.split(os.path.abspath(os.fspath(path)))
    beside = os.path.join(folder, f".{name}.{os.urandom(4).hex()}.tmp")
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise
