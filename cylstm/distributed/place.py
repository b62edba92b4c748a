"""Where in the data an error is, which its message begins with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from cylstm.errors import CylstmError


@contextlib.contextmanager
def at(place: str) -> Iterator[None]:
    """An error of ours says that it is of this place: a block, a partition, a file."""
    try:
        yield
    except CylstmError as error:
        raise type(error)(f"{place}: {error}") from error
