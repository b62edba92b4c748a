"""Writing the wire format of protobuf, by hand: a message is fields, each a number, a type and its bytes.

Numbers and lengths are varints, 7 bits a byte, the lowest first; a float is 4 bytes; texts, bytes and messages are
preceded by their length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeAlias

#: what a piece of a message is: large arrays stay where they are
Piece: TypeAlias = bytes | memoryview

_VARINT, _BYTES, _FIXED32 = 0, 2, 5


def varint(number: int) -> bytes:
    """A whole number, as one of 64 bits; a negative one takes 10 bytes."""
    number &= (1 << 64) - 1
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


class Message:
    """A message while it is written.

    Attributes
    ----------
    size : int
        In bytes.
    """

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self.size = 0

    def pieces(self) -> Iterator[Piece]:
        """Its bytes, one piece after the other."""
        return iter(self._pieces)

    def add_int(self, field: int, number: int) -> None:
        """A whole number or an enum."""
        self._add(varint(field << 3 | _VARINT) + varint(number))

    def add_float(self, field: int, number: float) -> None:
        """A number of 32 bits."""
        self._add(varint(field << 3 | _FIXED32) + struct.pack("<f", number))

    def add_bytes(self, field: int, data: Piece) -> None:
        """Bytes as they are; an array's are not copied."""
        self._add(varint(field << 3 | _BYTES) + varint(len(data)))
        self._add(data)

    def add_text(self, field: int, text: str) -> None:
        """A text in UTF-8."""
        self.add_bytes(field, text.encode())

    def add_message(self, field: int, message: Message) -> None:
        """A message within this one, which is complete by now."""
        self._add(varint(field << 3 | _BYTES) + varint(message.size))
        self._pieces += message._pieces
        self.size += message.size

    def _add(self, piece: Piece) -> None:
        self._pieces.append(piece)
        self.size += len(piece)
