"""JSON from a file that is not trusted."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

from ..errors import FormatError

# An int64 has 19 digits; converting a longer text to an int takes quadratic time.
_MAX_DIGITS = 20


def parse_json(data: bytes | str, what: str) -> object:
    """Parse `data`; what a hostile or a careless writer could slip in is refused.

    Parameters
    ----------
    data : bytes or str
        UTF-8 if bytes. Its size is for the caller to limit.
    what : str
        For messages.

    Raises
    ------
    FormatError
        On anything but strict JSON, and on duplicate keys, NaN or infinity, integers beyond 20 digits and
        nesting deeper than Python's recursion limit.
    """

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(items)
        if len(found) != len(items):
            keys = [key for key, _ in items]
            repeated = next(key for key in keys if keys.count(key) > 1)
            raise FormatError(f"{what}: the key {repeated!r} stands twice in one object")
        return found

    def integer(text: str) -> int:
        if len(text) > _MAX_DIGITS:
            raise FormatError(f"{what}: an integer of {len(text)} digits")
        return int(text)

    def real(text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            raise FormatError(f"{what}: a number out of range: {text[:40]}")
        return number

    def constant(text: str) -> object:
        raise FormatError(f"{what}: {text} is not JSON")

    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        text = text.strip(" \t\n\r")
        value, stop = _scanner(pairs, integer, real, constant)(text, 0)
    except UnicodeDecodeError as error:
        raise FormatError(f"{what}: not UTF-8 at byte {error.start}") from error
    except StopIteration as error:
        raise FormatError(f"{what}: not valid JSON: expected a value at character {error.value}") from error
    except RecursionError as error:
        raise FormatError(f"{what}: JSON nested too deeply") from error
    except FormatError:
        raise
    except ValueError as error:  # json.JSONDecodeError
        raise FormatError(f"{what}: not valid JSON: {error}") from error
    if stop != len(text):
        raise FormatError(f"{what}: not valid JSON: more after the end at character {stop}")
    return value


def _scanner(
    pairs: Callable[[list[tuple[str, object]]], dict],
    integer: Callable[[str], int],
    real: Callable[[str], float],
    constant: Callable[[str], object],
) -> Callable[[str, int], tuple[object, int]]:
    """``scan(text, start)`` gives a value and where it ends: that of `json.JSONDecoder`, whose import takes 1 ms.

    CPython has it in C beside that module; elsewhere the module is used.
    """
    try:
        from _json import make_scanner
    except ImportError:
        from json import JSONDecoder

        return JSONDecoder(
            object_pairs_hook=pairs, parse_int=integer, parse_float=real, parse_constant=constant
        ).scan_once
    return make_scanner(
        SimpleNamespace(
            strict=True,
            object_hook=None,
            object_pairs_hook=pairs,
            parse_int=integer,
            parse_float=real,
            parse_constant=constant,
        )
    )
