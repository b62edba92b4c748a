"""Random changes of bytes: any, and such that a container, a text of JSON or a message around them stays whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.fuzz.containers import BETWEEN

#: what a value of JSON becomes
_ODD: tuple[Any, ...] = (None, True, False, 0, 1, -1, 2, 3, 7, 16, 255, 1 << 31, 1 << 63, -(1 << 40), 10**400, 0.5,
                         -0.0, 1e-9, 1e308, float("nan"), float("inf"), "", "0", "x", "\ud800", "\x00", "tanh", [], {},
                         [None], [1, 2], [[]], {"": 0}, {"class_name": "LSTM", "config": {}},
                         ["x", 0, 0, {}])  # fmt: skip
_PIECES = (b"\xff" * 8, bytes(8), b"9" * 30, b"[" * 200, b"-1", b"\x7f", b'{"a":' * 60, b"[" * 3000, b"\n" * 9,
           "\ufeff\u2028é".encode(), b"1e999", b"nan", b"\\ud800")  # fmt: skip
_DEEPEST = 12


def changed(data: bytes, others: Sequence[bytes], rng: np.random.Generator) -> bytes:
    """`data` with one to four random changes; `others` are what pieces are taken from."""
    for _ in range(int(rng.integers(1, 5))):
        data = _changed_once(data, others, rng)
    return data


def _changed_once(data: bytes, others: Sequence[bytes], rng: np.random.Generator) -> bytes:
    if rng.random() < 0.5:
        return _changed_bytes(data, others, rng)
    if BETWEEN in data:
        return _changed_member(data, others, rng)
    first = data[:1]
    head, end, rest = data.partition(b"\n")
    for text, after in ((data, b""), (head, end + rest)):
        if first in (b"{", b"["):
            try:
                return json.dumps(_changed_json(json.loads(text), rng)).encode("utf-8", "replace") + after
            except (ValueError, RecursionError):
                continue
    fields = _fields(data)
    return _message(_changed_fields(fields, rng, 0)) if fields else _changed_bytes(data, others, rng)


def _changed_bytes(data: bytes, others: Sequence[bytes], rng: np.random.Generator) -> bytes:
    """Bits, bytes, or pieces removed, repeated or taken from elsewhere."""
    found = bytearray(data)
    start = int(rng.integers(len(found) + 1))
    end = min(len(found), start + int(rng.integers(1, 9)))
    match int(rng.integers(6)):
        case 0 if end > start:
            found[start] ^= 1 << int(rng.integers(8))
        case 1:
            found[start:end] = rng.bytes(end - start)
        case 2:
            del found[start:end]
        case 3:
            found[start:start] = found[start:end] * int(rng.integers(1, 4))
        case 4:
            other = others[int(rng.integers(len(others)))]
            place = int(rng.integers(len(other) + 1))
            found[start:end] = other[place : place + int(rng.integers(1, 33))]
        case 5:
            found[start:end] = _PIECES[int(rng.integers(len(_PIECES)))]
    return bytes(found)


def _changed_member(data: bytes, others: Sequence[bytes], rng: np.random.Generator) -> bytes:
    """A member of a container changed, removed, or there twice."""
    members = data.split(BETWEEN)
    place = int(rng.integers(len(members)))
    name, end, content = members[place].partition(b"\n")
    match int(rng.integers(8)):
        case 0:
            del members[place]
        case 1:
            members.append(members[place])
        case 2:
            members[place] = _changed_bytes(name, [b"*../a/data.pkl"], rng) + end + content
        case 3:
            other = members[int(rng.integers(len(members)))].partition(b"\n")[2]
            members[place] = name + end + other
        case _:
            members[place] = name + end + _changed_once(content, [content, *others], rng)
    return BETWEEN.join(members)


# JSON


def _changed_json(found: Any, rng: np.random.Generator) -> Any:
    """One place of it changed."""
    places = _places(found)
    if not places:
        return _ODD[int(rng.integers(len(_ODD)))]
    holder, key = places[int(rng.integers(len(places)))]
    other, other_key = places[int(rng.integers(len(places)))]
    match int(rng.integers(7)):
        case 0:
            del holder[key]
        case 1:
            holder[key] = _copy(other[other_key])
        case 2 if isinstance(holder, list):
            holder.insert(key, _copy(other[other_key]))
        case 2 | 3 if isinstance(holder, dict):
            holder[str(other_key)] = _copy(holder.pop(key))
        case 4 if isinstance(holder[key], (int, float)) and not isinstance(holder[key], bool):
            holder[key] += int(rng.integers(-3, 4))
        case 5 if isinstance(holder[key], str) and holder[key]:
            text = holder[key]
            at = int(rng.integers(len(text)))
            holder[key] = text[:at] + "09-*/(), aé"[int(rng.integers(11))] + text[at + int(rng.integers(2)) :]
        case _:
            holder[key] = _ODD[int(rng.integers(len(_ODD)))]
    return found


def _copy(found: Any) -> Any:
    return json.loads(json.dumps(found))


def _places(found: Any) -> list[tuple[Any, Any]]:
    """Each value within a value, as what holds it and where."""
    places: list[tuple[Any, Any]] = []
    waiting = [found]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, (dict, list)):
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            places += [(holder, key) for key in keys]
            waiting += [holder[key] for key in keys]
    return places


# messages of protobuf: (number, kind, value) for each field, a value that is a message again in turn


def _fields(data: bytes, depth: int = 0) -> list[tuple[int, int, Any]] | None:
    """The fields of a message; None if the bytes are none."""
    found: list[tuple[int, int, Any]] = []
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind, value = tag & 7, None
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = data[at : at + size], at + size
        elif kind == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        if value is None or at > len(data) or tag < 8:
            return None
        found.append((tag >> 3, kind, value))
    return found or None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        number |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return number, at
    return 0, len(data) + 1


def _message(fields: Sequence[tuple[int, int, Any]]) -> bytes:
    found = bytearray()
    for number, kind, value in fields:
        found += _written(number << 3 | kind)
        if kind == 0:
            found += _written(value)
        else:
            found += (_written(len(value)) if kind == 2 else b"") + value
    return bytes(found)


def _written(number: int) -> bytes:
    found = bytearray()
    number &= (1 << 64) - 1
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes(found) + bytes([number])


def _changed_fields(
    fields: list[tuple[int, int, Any]], rng: np.random.Generator, depth: int
) -> list[tuple[int, int, Any]]:
    """One field changed, at any depth; the lengths around it stay right."""
    place = int(rng.integers(len(fields)))
    number, kind, value = fields[place]
    inner = _fields(value) if kind == 2 and depth < _DEEPEST else None
    if inner and rng.random() < 0.85:
        fields[place] = (number, kind, _message(_changed_fields(inner, rng, depth + 1)))
        return fields
    match int(rng.integers(7)):
        case 0:
            del fields[place]
        case 1:
            fields.insert(place, fields[int(rng.integers(len(fields)))])
        case 2:
            fields[place] = (max(1, number + int(rng.integers(-2, 3))), kind, value)
        case 3 if kind == 2:
            fields[place] = (number, kind, fields[int(rng.integers(len(fields)))][2])
            if not isinstance(fields[place][2], bytes):
                fields[place] = (number, kind, b"")
        case _ if kind == 0:
            odd = [0, 1, 2, -1, 7, 1 << 31, 1 << 62, value + 1, value - 1]
            fields[place] = (number, kind, odd[int(rng.integers(len(odd)))])
        case _:
            changed_value = _changed_bytes(value, [value], rng)
            fields[place] = (number, kind, changed_value if kind == 2 else (changed_value + bytes(8))[: len(value)])
    return fields
