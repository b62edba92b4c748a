"""Pickles of models say how their classes are laid out, so that one of another version is refused in words."""

from __future__ import annotations

from collections.abc import Callable

from cylstm.errors import FormatError

#: to be raised when the attributes of `Graph`, `Layer`, `Value` or `Axis` change; a test knows those of this number
LAYOUT = 1


class Layout:
    """The first thing in a pickle: its number is checked before anything else is read."""

    def __reduce__(self) -> tuple[Callable[[object], object], tuple[object, ...]]:
        return check_layout, (LAYOUT,)


def check_layout(found: object) -> object:
    """What pickle calls. Raises `FormatError`."""
    if found != LAYOUT:
        raise FormatError(
            f"this pickle of a model is of another version of CyLSTM (its objects have layout {found!r}, here it is "
            f"{LAYOUT}); pickles are for processes of one version: load it with that version and keep it with "
            "model.save('model.cylstm')"
        )
    return found
