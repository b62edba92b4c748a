"""Texts of variable length in the attributes of an HDF5 file, read without the library.

A text is kept in a heap, and the attribute has its length once more: the library allocates and clears what an attribute
claims, up to 4 GB each, before it looks into the heap, in which damage can also make it loop for ever. The layouts are
those of the HDF5 File Format Specification: III.E (heap), IV.A.1 (object headers), IV.A.2.m (attributes).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator

from cylstm.errors import FormatError

_REFERENCE = struct.Struct("<IQI")
_MAX_OBJECTS = 100_000
_CONTINUATION, _ATTRIBUTE = 0x10, 0x0C
_SHARED = 0x02


class Texts:
    """The attributes' texts in the bytes of a file; `path` is for messages."""

    def __init__(self, path: str, data: bytes | bytearray | mmap.mmap) -> None:
        self.path = path
        self.data = data
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}
        # sizes of offsets and lengths, by version of the superblock
        place = 13 if len(data) > 16 and data[8] < 2 else 9
        if data[place : place + 2] != b"\x08\x08":
            raise self._damaged("offsets of another size than 8 bytes")

    def read(self, header: int, name: str, count: int, limit: int) -> list[bytes]:
        """The `count` texts of an attribute.

        Parameters
        ----------
        header : int
            Address of the object header that has the attribute.
        name : str
        count : int
        limit : int
            Bytes of all texts together.

        Raises
        ------
        FormatError
            If they are not in the file as it says, or longer than `limit`.
        """
        start, end = self._attribute(header, name.encode())
        if end - start < count * _REFERENCE.size:
            raise self._damaged(f"attribute {name!r} ends before its {count} texts")
        places = []
        for length, heap, index in _REFERENCE.iter_unpack(self.data[start : start + count * _REFERENCE.size]):
            place, size = self._object(heap, index) if length else (0, 0)
            if length > size:
                raise self._damaged(f"attribute {name!r} has a text of {length} bytes, {size} are stored")
            places.append((place, length))
            limit -= length
            if limit < 0:
                raise FormatError(f"{self.path}: attribute {name!r}: the texts are too long, or all the same one")
        return [bytes(self.data[place : place + length]).partition(b"\0")[0] for place, length in places]

    def _damaged(self, what: str) -> FormatError:
        return FormatError(f"{self.path}: a damaged or truncated HDF5 file: {what}")

    def _number(self, place: int, size: int) -> int:
        if place < 0 or place + size > len(self.data):
            raise self._damaged(f"it should have {size} bytes at {place}")
        return int.from_bytes(self.data[place : place + size], "little")

    def _attribute(self, header: int, name: bytes) -> tuple[int, int]:
        """Where the data of an attribute begin and end."""
        for kind, flags, start, end in self._messages(header):
            if kind != _ATTRIBUTE:
                continue
            version = self._number(start, 1)
            name_size, type_size, space_size = (self._number(start + 2 + 2 * k, 2) for k in range(3))
            begin = start + (9 if version == 3 else 8)
            if self.data[begin : begin + name_size].partition(b"\0")[0] != name:
                continue
            if version not in (1, 2, 3) or flags & _SHARED or (version > 1 and self._number(start + 1, 1)):
                raise self._damaged(f"attribute {name!r} is stored in an unusual way")
            sizes = (name_size, type_size, space_size)
            return begin + sum((size + 7) // 8 * 8 if version == 1 else size for size in sizes), end
        raise self._damaged(f"attribute {name!r} is not stored with its object")

    def _messages(self, header: int) -> Iterator[tuple[int, int, int, int]]:
        """Kind, flags, start and end of each message of an object header."""
        is_new = self.data[header : header + 4] == b"OHDR"
        if is_new:
            flags = self._number(header + 5, 1)
            start = header + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            width = 1 << (flags & 3)
            blocks = [(start + width, self._number(start, width))]
            prefix = 6 if flags & 4 else 4
        else:
            blocks = [(header + 16, self._number(header + 8, 4))]
            prefix = 8
        seen = 0
        while blocks:
            start, size = blocks.pop(0)
            end = start + size
            while start + prefix <= end:
                kind, length = self._number(start, 1 if is_new else 2), self._number(start + 1 + (not is_new), 2)
                begin, flags = start + prefix, self._number(start + (3 if is_new else 4), 1)
                start = begin + length
                seen += 1
                if start > end or end > len(self.data) or seen > _MAX_OBJECTS:
                    raise self._damaged(f"the object header at {header}")
                if kind == _CONTINUATION:
                    place, size = self._number(begin, 8), self._number(begin + 8, 8)
                    # a continuation of the new kind has a signature before and a checksum behind it
                    blocks.append((place + 4, size - 8) if is_new else (place, size))
                yield kind, flags, begin, start

    def _object(self, heap: int, index: int) -> tuple[int, int]:
        """Where an object of a heap begins, and its size."""
        if heap not in self._heaps:
            self._heaps[heap] = self._objects(heap)
        if index not in self._heaps[heap]:
            raise self._damaged(f"the text heap at byte {heap} has no object {index}")
        return self._heaps[heap][index]

    def _objects(self, heap: int) -> dict[int, tuple[int, int]]:
        """Index -> start and size: a header of 16 bytes, then objects; index 0 is the free rest."""
        if self.data[heap : heap + 5] != b"GCOL\x01":
            raise self._damaged(f"no text heap at byte {heap}")
        place, end = heap + 16, heap + self._number(heap + 8, 8)
        found: dict[int, tuple[int, int]] = {}
        while place + 16 <= end and (index := self._number(place, 2)):
            size = self._number(place + 8, 8)
            found[index] = (place + 16, size)
            place += 16 + (size + 7) // 8 * 8
        if place > end or end > len(self.data):
            raise self._damaged(f"the text heap at byte {heap}")
        return found
