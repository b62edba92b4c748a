"""Protocol buffers: the wire format by hand, by schemas that say which fields a message may have.

The library of that name would be one more dependency. What it lets pass is refused here where an honest writer does not
produce it: a field that occurs twice though it is no list, a field of another wire type than its own, groups. Fields
that a schema does not know are of a newer version of the format and may change what the others mean, so they are
refused too. Bytes and numbers that lie together are views of what was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cylstm.errors import FormatError, UnsupportedError

#: the most messages within one another
MOST_DEPTH = 64
#: the most fields of a file; each costs memory of its own
MOST_FIELDS = 8_000_000

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIRE_TYPES = {"int": _VARINT, "uint": _VARINT, "double": _FIXED64, "float": _FIXED32}


class Field(NamedTuple):
    """A field of a message.

    Attributes
    ----------
    name : str
    kind : str
        "int" (signed, of 64 bits), "uint", "float", "double", "text", "bytes", the name of a message's schema, or
        "skipped" for one of no matter.
    is_list : bool
    """

    name: str
    kind: str
    is_list: bool = False


#: name of a message -> field number -> field
Schemas = Mapping[str, Mapping[int, Field]]


def read_message(data: bytes | memoryview, schemas: Schemas, kind: str, where: str) -> dict[str, Any]:
    """A message and all messages in it, as dicts by the names of fields; those that do not occur are left out.

    Numbers of a list are a NumPy array, other lists are lists. Bytes are views of `data`.

    Parameters
    ----------
    data : bytes-like
    schemas : mapping
    kind : str
        The message's schema.
    where : str
        The file's name, for messages.

    Raises
    ------
    FormatError
        If the bytes are no such message, or there are more fields or nested messages than any honest file has.
    UnsupportedError
        If a field is not in the schema.
    """
    return _Reader(schemas, where).message(memoryview(data).cast("B"), kind, 0)


class _Reader:
    def __init__(self, schemas: Schemas, where: str) -> None:
        self.schemas = schemas
        self.where = where
        self.fields = 0

    def message(self, data: memoryview, kind: str, depth: int) -> dict[str, Any]:
        if depth > MOST_DEPTH:
            raise FormatError(f"{self.where}: more than {MOST_DEPTH} messages within one another ({kind})")
        schema = self.schemas[kind]
        found: dict[str, Any] = {}
        at, end = 0, len(data)
        while at < end:
            self.fields += 1
            if self.fields > MOST_FIELDS:
                raise FormatError(f"{self.where}: more than {MOST_FIELDS:,} fields")
            tag, at = self.varint(data, at, kind)
            number, wire_type = tag >> 3, tag & 7
            value: Any
            if wire_type == _VARINT:
                value, at = self.varint(data, at, kind)
            elif wire_type == _BYTES:
                size, at = self.varint(data, at, kind)
                value, at = self.piece(data, at, size, kind), at + size
            elif wire_type in (_FIXED64, _FIXED32):
                size = 8 if wire_type == _FIXED64 else 4
                value, at = self.piece(data, at, size, kind), at + size
            else:
                raise FormatError(
                    f"{self.where}: {kind}: a field of wire type {wire_type}, which is not used; damaged?"
                )
            field = schema.get(number)
            if field is None:
                if not 0 < number < 1 << 29:
                    raise FormatError(f"{self.where}: {kind}: field number {number} is none; damaged?")
                raise UnsupportedError(
                    f"{self.where}: {kind}: field {number} is not known; the file is damaged or of a newer version"
                )
            if field.kind != "skipped":
                self.add(found, field, wire_type, value, kind, depth)
        for field in schema.values():
            if field.is_list and field.name in found and field.kind in _WIRE_TYPES:
                found[field.name] = _joined(found[field.name], field.kind)
        return found

    def add(self, found: dict[str, Any], field: Field, wire_type: int, value: Any, kind: str, depth: int) -> None:
        """Keep one occurrence of a field."""
        name, own = field.name, _WIRE_TYPES.get(field.kind, _BYTES)
        what = f"{self.where}: {kind}.{name}"
        if field.is_list and wire_type == _BYTES and own != _BYTES:
            found.setdefault(name, []).append(self.packed(value, field.kind, what))
            return
        if wire_type != own:
            raise FormatError(f"{what}: expected wire type {own}, found {wire_type}; damaged?")
        if field.kind == "text":
            try:
                value = str(value, "utf-8")
            except UnicodeDecodeError:
                raise FormatError(f"{what}: expected a text in UTF-8") from None
        elif field.kind in ("float", "double"):
            value = float(np.frombuffer(value, "<f4" if field.kind == "float" else "<f8")[0])
        elif field.kind == "int":
            value = value - (1 << 64) if value >> 63 else value
        elif field.kind in self.schemas:
            value = self.message(value, field.kind, depth + 1)
        if field.is_list:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise FormatError(f"{what}: a field that occurs once is there twice")
        else:
            found[name] = value

    def varint(self, data: memoryview, at: int, kind: str) -> tuple[int, int]:
        """A number of at most 64 bits, seven in each byte, and where it ends."""
        found = shift = 0
        for byte in data[at : at + 10]:
            at += 1
            found |= (byte & 0x7F) << shift
            if byte < 0x80:
                if found >> 64:
                    break
                return found, at
            shift += 7
        raise FormatError(f"{self.where}: {kind}: a number that does not end or has more than 64 bits; truncated?")

    def piece(self, data: memoryview, at: int, size: int, kind: str) -> memoryview:
        if size > len(data) - at:
            raise FormatError(f"{self.where}: {kind}: {size} bytes expected, {len(data) - at} found; truncated?")
        return data[at : at + size]

    def packed(self, data: memoryview, kind: str, what: str) -> np.ndarray:
        """Numbers that lie together."""
        if kind in ("float", "double"):
            size = 4 if kind == "float" else 8
            if len(data) % size:
                raise FormatError(f"{what}: {len(data)} bytes are no whole number of numbers")
            return np.frombuffer(data, f"<f{size}")
        bytes_ = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(bytes_ < 0x80)
        if len(bytes_) and (not len(ends) or ends[-1] != len(bytes_) - 1):
            raise FormatError(f"{what}: a number that does not end; truncated?")
        starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
        lengths = ends - starts + 1
        most = int(lengths.max(initial=0))
        if most > 10 or (bytes_[ends[lengths == 10]] > 1).any():
            raise FormatError(f"{what}: a number of more than 64 bits")
        found = np.zeros(len(ends), np.uint64)
        for k in range(most):
            longer = np.flatnonzero(lengths > k)
            found[longer] |= (bytes_[starts[longer] + k] & 0x7F).astype(np.uint64) << np.uint64(7 * k)
        return found if kind == "uint" else found.view(np.int64)


def _joined(pieces: list[Any], kind: str) -> np.ndarray:
    """Numbers and arrays of them as one array."""
    dtype = {"int": np.int64, "uint": np.uint64, "float": np.float32, "double": np.float64}[kind]
    if len(pieces) == 1 and isinstance(pieces[0], np.ndarray):
        return pieces[0]
    return np.concatenate([np.atleast_1d(np.asarray(piece, dtype)) for piece in pieces])
