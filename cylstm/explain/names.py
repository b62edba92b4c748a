"""Names that users give to features, steps and the like."""

from __future__ import annotations

from cylstm.errors import ArgumentError, described
from cylstm.shown import shown_name


def checked_names(argument: str, names: object, count: int, default: str) -> list[str]:
    """The names of `count` things as they are shown, ``default 0`` and so on where none are given.

    Raises
    ------
    ArgumentError
        If they are not so many texts.
    """
    if names is None:
        return [f"{default} {k}" for k in range(count)]
    if isinstance(names, str) or not hasattr(names, "__iter__"):
        raise ArgumentError(f"{argument}: expected {count} texts, found {described(names)}")
    found = [name for name in names if isinstance(name, str)]
    if len(found) != count or len(found) != len(list(names)):
        raise ArgumentError(f"{argument}: expected {count} texts, found {described(names)}")
    return [shown_name(name) for name in found]
