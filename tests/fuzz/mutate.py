"""Random changes of bytes: any, and such that a container, a text of JSON or a message around them stays whole."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

from tests.fuzz.containers import BETWEEN

#: what a value of JSON becomes
_ODD: tuple[Any, ...] = (None, True, False, 0, 1, -1, 2, 3, 7, 16, 255, 1 << 31, 1 << 63, -(1 << 40), 10**400, 0.5,
                         -0.0, 1e-9, 1e308, float("nan"), float("inf"), "", "0", "x", "\ud800", "\x00", "tanh", [], {},
                         [None], [1, 2], [[]], {"": 0}, {"class_name": "LSTM", "config": {}},
                         ["x", 0, 0, {}])  # fmt: skip
_PIECES = (b"\xff" * 8, bytes(8), b"9" * 30, b"[" * 200, b"-1", b"\x7f", b'{"a":' * 60, b"[" * 3000, b"\n" * 9,
           "\ufeff\u2028é".encode(), b"1e999", b"nan", b"\\ud800")  # fmt: skip
_DEEPEST = 12


class Changes:
    """Changes drawn by chance.

    Parameters
    ----------
    others : sequence of bytes
        What pieces are taken from.
    words : sequence of bytes
        What is written into the bytes, or in the place of a text of JSON, as it is.
    rng : random.Random
    """

    def __init__(self, others: Sequence[bytes], words: Sequence[bytes], rng: random.Random) -> None:
        self.others, self.rng = others, rng
        self.words = words
        self.odd = [*_ODD, *(word.decode("utf-8", "replace") for word in words)]

    def changed(self, data: bytes, most: int = 4) -> bytes:
        """`data` with one to `most` changes."""
        for _ in range(self.rng.randint(1, most)):
            data = self._once(data, self.others)
        return data

    def _once(self, data: bytes, others: Sequence[bytes]) -> bytes:
        if self.rng.random() < 0.5:
            return self._bytes(data, others)
        if BETWEEN in data:
            return self._member(data, others)
        first = data[:1]
        head, end, rest = data.partition(b"\n")
        for text, after in ((data, b""), (head, end + rest)):
            if first in (b"{", b"["):
                try:
                    return json.dumps(self._json(json.loads(text))).encode("utf-8", "replace") + after
                except (ValueError, RecursionError):
                    continue
        fields = _fields(data)
        return _message(self._fields(fields, 0)) if fields else self._bytes(data, others)

    def _bytes(self, data: bytes, others: Sequence[bytes]) -> bytes:
        """Bits, bytes, or pieces removed, repeated or taken from elsewhere."""
        rng = self.rng
        found = bytearray(data)
        start = rng.randrange(len(found) + 1)
        end = min(len(found), start + rng.randint(1, 8))
        match rng.randrange(7 if self.words else 6):
            case 0 if end > start:
                found[start] ^= 1 << rng.randrange(8)
            case 1:
                found[start:end] = rng.randbytes(end - start)
            case 2:
                del found[start:end]
            case 3:
                found[start:start] = found[start:end] * rng.randint(1, 3)
            case 4:
                other = rng.choice(others)
                place = rng.randrange(len(other) + 1)
                found[start:end] = other[place : place + rng.randint(1, 32)]
            case 5:
                found[start:end] = rng.choice(_PIECES)
            case 6:
                found[start : end if rng.random() < 0.5 else start] = rng.choice(self.words)
        return bytes(found)

    def _member(self, data: bytes, others: Sequence[bytes]) -> bytes:
        """A member of a container changed, removed, or there twice."""
        members = data.split(BETWEEN)
        place = self.rng.randrange(len(members))
        name, end, content = members[place].partition(b"\n")
        match self.rng.randrange(8):
            case 0:
                del members[place]
            case 1:
                members.append(members[place])
            case 2:
                members[place] = self._bytes(name, [b"*../a/data.pkl"]) + end + content
            case 3:
                members[place] = name + end + self.rng.choice(members).partition(b"\n")[2]
            case _:
                members[place] = name + end + self._once(content, [content, *others])
        return BETWEEN.join(members)

    def _json(self, found: Any) -> Any:
        """One place of it changed."""
        rng = self.rng
        places = _places(found)
        if not places:
            return rng.choice(self.odd)
        holder, key = rng.choice(places)
        other, other_key = rng.choice(places)
        match rng.randrange(7):
            case 0:
                del holder[key]
            case 1:
                holder[key] = _copy(other[other_key])
            case 2 if isinstance(holder, list):
                holder.insert(key, _copy(other[other_key]))
            case 2 | 3 if isinstance(holder, dict):
                holder[str(other_key)] = _copy(holder.pop(key))
            case 4 if isinstance(holder[key], (int, float)) and not isinstance(holder[key], bool):
                holder[key] += rng.randint(-3, 3)
            case 5 if isinstance(holder[key], str) and holder[key]:
                text = holder[key]
                at = rng.randrange(len(text))
                holder[key] = text[:at] + rng.choice("09-*/(), aé") + text[at + rng.randrange(2) :]
            case _:
                holder[key] = rng.choice(self.odd)
        return found

    def _fields(self, fields: list[tuple[int, int, Any]], depth: int) -> list[tuple[int, int, Any]]:
        """One field of a message changed, at any depth; the lengths around it stay right."""
        rng = self.rng
        place = rng.randrange(len(fields))
        number, kind, value = fields[place]
        inner = _fields(value) if kind == 2 and depth < _DEEPEST else None
        if inner and rng.random() < 0.85:
            fields[place] = (number, kind, _message(self._fields(inner, depth + 1)))
            return fields
        match rng.randrange(7):
            case 0:
                del fields[place]
            case 1:
                fields.insert(place, rng.choice(fields))
            case 2:
                fields[place] = (max(1, number + rng.randint(-2, 2)), kind, value)
            case 3 if kind == 2:
                taken = rng.choice(fields)[2]
                fields[place] = (number, kind, taken if isinstance(taken, bytes) else b"")
            case _ if kind == 0:
                fields[place] = (number, kind, rng.choice([0, 1, 2, -1, 7, 1 << 31, 1 << 62, value + 1, value - 1]))
            case _:
                other = self._bytes(value, [value])
                fields[place] = (number, kind, other if kind == 2 else (other + bytes(8))[: len(value)])
        return fields


# values of JSON


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


def _fields(data: bytes) -> list[tuple[int, int, Any]] | None:
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
