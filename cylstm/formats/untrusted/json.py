"""JSON from a file that is not trusted: Python's own parser, behind limits and checks that it does not have.

The parser alone accepts duplicate keys and NaN, takes quadratic time for long integers, and makes 200 MB of objects
out of 3 MB of text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from cylstm.errors import FormatError

# An int64 has 19 digits; converting a longer text to an int takes quadratic time.
_MAX_DIGITS = 20
_MAX_DEPTH = 100
# Roughly what parsing takes, so that three bytes "[]," times a million do not become 200 MB.
_MAX_MEMORY = 32 << 20
_CONTAINER_BYTES, _ITEM_BYTES = 64, 100


def parse_json(data: bytes | bytearray | str, what: str, memory: int = _MAX_MEMORY, *, not_finite: bool = False) -> Any:
    """Parse `data`, with limits for what a hostile or careless writer may have put there.

    Parameters
    ----------
    data : bytes or str
        UTF-8 if bytes. Its size is for the caller to limit.
    what : str
        For messages.
    memory : int
        About how many bytes the elements may take.
    not_finite : bool
        Whether ``NaN``, ``Infinity`` and ``-Infinity`` are numbers, as some writers have it.

    Raises
    ------
    FormatError
        On anything but strict JSON, and on duplicate keys, NaN or infinity, integers beyond 20 digits, nesting
        more than 100 deep and more elements than any network has.
    """

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(items)
        if len(found) != len(items):
            seen: set[str] = set()
            for key, _ in items:
                if key in seen:
                    raise FormatError(f"{what}: the key {key!r} stands twice in one object")
                seen.add(key)
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
        if not_finite:
            return float(text)
        raise FormatError(f"{what}: {text} is not JSON")

    try:
        _check_extent(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data, what, memory)
        text = data if isinstance(data, str) else data.decode("utf-8")
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


def _check_extent(data: bytes | bytearray, what: str, limit: int) -> None:
    """Refuse what nests too deeply or holds too many elements, before anything is made of it."""
    if data.count(b"[") + data.count(b"{") <= _MAX_DEPTH and len(data) * _ITEM_BYTES <= limit:
        return  # few enough brackets and bytes, even if none of them are in strings
    depth = memory = 0
    in_string = False
    for match in re.finditer(rb'\\.|["\[\]{},]', data, re.DOTALL):
        mark = match[0]
        if mark == b'"':
            in_string = not in_string
        elif in_string or len(mark) > 1:
            continue
        elif mark in b"]}":
            depth -= 1
        else:
            memory += _ITEM_BYTES if mark == b"," else _CONTAINER_BYTES
            depth += mark != b","
            if depth > _MAX_DEPTH:
                raise FormatError(f"{what}: JSON nested too deeply: more than {_MAX_DEPTH} levels")
            if memory > limit:
                raise FormatError(f"{what}: too many elements: more than {limit >> 20} MB of them")


def _scanner(
    pairs: Callable[[list[tuple[str, object]]], dict[str, object]],
    integer: Callable[[str], int],
    real: Callable[[str], float],
    constant: Callable[[str], object],
) -> Callable[[str, int], tuple[object, int]]:
    """``scan(text, start)`` gives a value and where it ends, as `json.JSONDecoder` does.

    CPython has the scanner in C apart from that module, whose import takes 1.0 ms where this one takes 0.2: a fifth of
    loading a small model. Other Pythons import the module.
    """
    hooks: Any = {"object_pairs_hook": pairs, "parse_int": integer, "parse_float": real, "parse_constant": constant}
    try:
        from _json import make_scanner
    except ImportError:
        from json import JSONDecoder

        decoder: Any = JSONDecoder(**hooks)
        return decoder.scan_once  # type: ignore[no-any-return]
    context: Any = SimpleNamespace(strict=True, object_hook=None, **hooks)
    return make_scanner(context)


def numbers(value: object, what: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Nested lists of numbers as a float32 array.

    Parameters
    ----------
    value : object
        What JSON holds.
    what : str
        For messages.
    shape : tuple of int, optional
        That it must have.

    Raises
    ------
    FormatError
        If it is anything but lists of equal lengths of numbers that float32 can hold, or of another shape.
    """
    found: list[int] = []
    level: list[object] = [value]
    while isinstance(level[0], list):
        size = len(level[0])
        if any(not isinstance(item, list) or len(item) != size for item in level):
            raise FormatError(f"{what}: lists of different lengths")
        found.append(size)
        level = [inner for item in level if isinstance(item, list) for inner in item]
        if not level:
            break
    wrong = next((item for item in level if type(item) not in (int, float)), None)
    if wrong is not None or None in level:
        raise FormatError(f"{what}: expected numbers, found a {type(wrong).__name__}")
    if shape is not None and tuple(found) != shape:
        raise FormatError(f"{what}: expected shape {shape}, found {tuple(found)}")
    with np.errstate(over="ignore"):
        array = np.array(level, np.float64).astype(np.float32).reshape(found)
    if not np.isfinite(array).all():
        raise FormatError(f"{what}: a number out of range")
    return array
