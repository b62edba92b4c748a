"""Where in the data an error is, which its message begins with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from cylstm.errors import CylstmError, RowError, ShapeError


@contextlib.contextmanager
def at(place: str) -> Iterator[None]:
    """An error of ours says that it is of this place: a block, a partition, a file."""
    try:
        yield
    except CylstmError as error:
        # the rows of a `RowError` are those of the block, and there may be a million
        kind = ShapeError if isinstance(error, RowError) else type(error)
        raise kind(f"{place}: {error}") from error
