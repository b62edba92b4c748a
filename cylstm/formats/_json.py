"""JSON from a file that is not trusted."""

from __future__ import annotations

import json
import math

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
        return json.loads(text, object_pairs_hook=pairs, parse_int=integer, parse_float=real, parse_constant=constant)
    except UnicodeDecodeError as error:
        raise FormatError(f"{what}: not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise FormatError(f"{what}: not valid JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise FormatError(f"{what}: JSON nested too deeply") from error
