"""Names from files, made fit to be shown: on one line, of bounded length, and nothing in them acts on the page."""

from __future__ import annotations

import unicodedata

from cylstm.errors import ArgumentError, described

#: how many characters of a name are shown
MOST_CHARACTERS = 120


def shown_name(name: str, most: int = MOST_CHARACTERS) -> str:
    """A name of a layer, a feature or the like as it is drawn or written on a page.

    Characters that have no shape of their own are written as escapes, ``\\n`` or ``\\u202e``: control characters, marks
    that turn the direction of writing, halves of surrogate pairs, separators of lines. What is beyond `most` characters
    is left out, and an ellipsis says so.
    """
    kept = name[: most + 1]
    text = "".join(_visible(character) for character in kept[:most])
    return text + "…" if len(kept) > most else text


def _visible(character: str) -> str:
    # Cc, Cf, Cs, Co, Cn; lines and paragraphs
    if unicodedata.category(character)[0] != "C" and unicodedata.category(character) not in ("Zl", "Zp"):
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


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
