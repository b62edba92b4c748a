"""Arguments that are no arrays: flags, texts and numbers, each checked in one place."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from cylstm.errors import ArgumentError, FormatError, MetadataArgumentError, UnsupportedError, described

if TYPE_CHECKING:
    from cylstm.graph.values import Value


def check_flag(name: str, flag: object) -> bool:
    """An argument that is True or False. Raises `ArgumentError`."""
    if not isinstance(flag, (bool, np.bool_)):
        raise ArgumentError(f"{name}: expected True or False, found {described(flag)}")
    return bool(flag)


def check_metadata(metadata: object) -> dict[str, Any]:
    """Metadata as the user gives it, checked. Raises `ArgumentError`."""
    from cylstm.formats.native.metadata import checked_metadata

    try:
        return checked_metadata(metadata)
    except FormatError as error:
        raise MetadataArgumentError(str(error)) from error


def _whole_number(number: object) -> int:
    """An int, or what NumPy has for one; 0 for anything else, which no argument may be."""
    if isinstance(number, bool) or not isinstance(number, SupportsIndex):
        return 0
    try:
        return index(number)
    except TypeError:  # an array of several
        return 0


def check_threads(threads: object) -> int:
    """At most how many threads a call uses, 1 to 1024. Raises `ArgumentError`."""
    number = _whole_number(threads)
    if not 1 <= number <= 1024:
        raise ArgumentError(f"threads: expected a whole number of 1 to 1024 or None, found {described(threads)}")
    return number


def check_count(name: str, count: object) -> int:
    """How many of something, at least 1. Raises `ArgumentError`."""
    number = _whole_number(count)
    if not 1 <= number < 1 << 31:
        raise ArgumentError(f"{name}: expected a whole number of at least 1, found {described(count)}")
    return number


def check_batch(batch: object) -> int:
    """The number of rows of a stream. Raises `ArgumentError`, and `MemoryError` if no machine holds so many."""
    number = _whole_number(batch)
    if number < 1:
        raise ArgumentError(f"batch: expected a whole number of at least 1, found {described(batch)}")
    if number >= 1 << 62:
        raise MemoryError(f"a stream of {number} rows does not fit in memory; expected a smaller batch")
    return number


def check_window(inputs: Sequence[Value], window: object) -> int:
    """The steps of a window that moves along these inputs.

    Raises
    ------
    ArgumentError
        If it is no number of steps, or not the one that an input fixes.
    UnsupportedError
        If no input has time.
    """
    steps = _whole_number(window)
    if not 1 <= steps < 1 << 28:
        raise ArgumentError(f"window: expected a whole number of at least 1, or None, found {described(window)}")
    values = [value for value in inputs if value.has_time]
    if not values:
        raise UnsupportedError(f"input {inputs[0].name!r} has no time axis, so there are no steps to stream")
    for value in values:
        if value.shape[0] not in (None, steps):
            raise ArgumentError(f"window: input {value.name!r} has {value.shape[0]} steps, found {steps}")
    return steps
