"""Zip archives from a file that is not trusted: members are located or read in memory, never extracted.

This reader is used instead of Python's zipfile for security and memory: zipfile keeps the last of two members of one
name, allows members to overlap, and spends a kilobyte on each of any number of members.

The records are those of PKWARE's APPNOTE: the end of the central directory (4.3.16) and its 64-bit form (4.3.14), its
entries (4.3.12), local headers (4.3.7).
"""

from __future__ import annotations

import bisect
import io
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, Self, cast

from cylstm.errors import FormatError, UnsupportedError

_MAX_MEMBERS = 100_000
_MAX_RATIO = 50
# Below these sizes any ratio is harmless; a small array of zeros has a large one.
_FREE_SIZE = 1 << 20
_FREE_TOTAL = 32 << 20
_ENCRYPTED = 0x1
_UTF8 = 0x800
_STORED, _DEFLATED = 0, 8
_MANY = 0xFFFFFFFF
_LOCAL = struct.Struct("<4s5H3I2H")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")


class Member(NamedTuple):
    """A member as the central directory describes it; `offset` is that of its local header."""

    offset: int
    stored_size: int
    size: int
    method: int
    crc: int


class Archive:
    """A zip archive whose directory has been checked.

    Parameters
    ----------
    path : str
        The file, for messages too; it stays open until `close`.
    file : binary file, optional
        What is read instead, such as an archive in another; it is not closed.

    Raises
    ------
    FormatError
        If it is no complete zip, or if a member's name repeats, is absolute or climbs, members overlap, or one is
        compressed beyond any weights file.
    UnsupportedError
        If a member is encrypted.
    """

    def __init__(self, path: str, file: BinaryIO | None = None) -> None:
        self.path = path
        self._is_own = file is None
        self._file: BinaryIO = open(path, "rb") if file is None else file  # noqa: SIM115 - closed by close()
        try:
            self._size = self._file.seek(0, os.SEEK_END)
            self._members: dict[str, Member] = {}
            start, size, count = self._directory()
            for name, member in self._entries(start, size, count):
                self._members[name] = member
            total = sum(member.size for member in self._members.values())
            if total > _MAX_RATIO * self._size + _FREE_TOTAL:
                raise FormatError(f"{path}: the members claim {total} bytes, from a file of {self._size}")
            self._check_overlaps(start)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self.close()

    def close(self) -> None:
        """Close the file; it also closes when nothing needs it any more."""
        if self._is_own:
            self._file.close()

    @property
    def names(self) -> list[str]:
        """Names of the members, in the directory's order."""
        return list(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def size(self, name: str) -> int:
        """Bytes of a member when expanded."""
        return self._members[name].size

    def read(self, name: str, limit: int, *, checksum: bool = True) -> bytearray | bytes:
        """The content of a member of at most `limit` bytes, expanded; PyTorch may leave out the checksum."""
        member = self._members[name]
        if member.size > limit:
            raise FormatError(f"{self.path}: {name} has {member.size} bytes; at most {limit} are read")
        stored = self.read_at(self._data_start(name), member.stored_size, name)
        if member.method == _STORED:
            data: bytearray | bytes = stored
        else:
            expander = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                data = expander.decompress(stored, member.size + 1)
            except zlib.error as error:
                raise FormatError(f"{self.path}: {name} is damaged: {error}") from error
            if len(data) != member.size or not expander.eof:
                raise FormatError(f"{self.path}: {name} expands to another size than {member.size} bytes; damaged?")
        if checksum and zlib.crc32(data) != member.crc:
            raise FormatError(f"{self.path}: {name} is damaged: its checksum is wrong")
        return data

    def locate(self, name: str) -> tuple[int, int]:
        """Offset and size in the file of an uncompressed member's data.

        The sizes come from the central directory: PyTorch leaves them zero in the local headers. Checksums are
        not checked: PyTorch has an option to leave them out.
        """
        member = self._members[name]
        if member.method != _STORED:
            raise FormatError(f"{self.path}: {name} is compressed; a PyTorch checkpoint stores its members plainly")
        return self._data_start(name), member.size

    def read_at(self, offset: int, size: int, name: str) -> bytearray:
        """`size` bytes of the file from `offset` on, writable; `name` is for the message if there are fewer."""
        if offset + size > self._size:
            raise FormatError(f"{self.path}: {name} should end at byte {offset + size}, the file has {self._size}")
        found = bytearray(size)
        self.read_into(offset, found, name)
        return found

    def read_into(self, offset: int, buffer: bytearray | memoryview, name: str) -> None:
        """Fill `buffer` with the file's bytes from `offset` on."""
        self._file.seek(offset)
        view = memoryview(buffer).cast("B")
        if self._file.readinto(view) != len(view):  # type: ignore[attr-defined]
            raise FormatError(f"{self.path}: {name} lies beyond the end of the file; truncated?")

    def open_member(self, name: str) -> BinaryIO:
        """An uncompressed member as a file of its own; it can be read as long as the archive is open."""
        return cast(BinaryIO, _Window(self, name))

    def _damaged(self, what: str) -> FormatError:
        return FormatError(f"{self.path}: a damaged or truncated zip archive: {what}")

    def _directory(self) -> tuple[int, int, int]:
        """Start, size and number of entries of the central directory."""
        tail_size = min(self._size, _END.size + 0xFFFF)
        tail = self.read_at(self._size - tail_size, tail_size, "the end of the directory")
        place = len(tail)
        while True:
            place = tail.rfind(b"PK\x05\x06", 0, place + 3)
            if place < 0:
                raise self._damaged("it has no directory at its end")
            if place + _END.size <= len(tail):
                *_, comment = _END.unpack_from(tail, place)
                if place + _END.size + comment == len(tail):
                    break
            if len(tail) - place > _END.size:
                raise self._damaged("the end of its directory is not the end of the file")
        end = self._size - tail_size + place
        _, disk, first_disk, here, count, size, start, _ = _END.unpack_from(tail, place)
        if place >= _LOCATOR.size and tail[place - _LOCATOR.size :].startswith(b"PK\x06\x07"):
            _, disk, at, disks = _LOCATOR.unpack_from(tail, place - _LOCATOR.size)
            end -= _LOCATOR.size + _END64.size
            if at != end or disk or disks > 1:
                raise self._damaged("its 64-bit directory is not where it should be")
            wide = _END64.unpack(self.read_at(at, _END64.size, "the 64-bit end of the directory"))
            signature, _, _, _, disk, first_disk, here, count, size, start = wide
            if signature != b"PK\x06\x06":
                raise self._damaged("its 64-bit directory has no signature")
        if disk or first_disk or here != count:
            raise self._damaged("it is one of several volumes")
        if start + size != end:
            raise self._damaged(f"its directory should end at byte {start + size}, found {end}")
        if count > _MAX_MEMBERS:
            raise FormatError(f"{self.path}: {count} members in a zip archive; at most {_MAX_MEMBERS} are read")
        return start, size, count

    def _entries(self, start: int, size: int, count: int) -> Iterator[tuple[str, Member]]:
        directory = self.read_at(start, size, "the directory")
        place = 0
        for _ in range(count):
            if place + _ENTRY.size > size:
                raise self._damaged(f"its directory ends before its {count} entries do")
            found = _ENTRY.unpack_from(directory, place)
            signature, _, _, flags, method, _, _, crc, stored, expanded, name_size, extra_size, comment_size = found[
                :13
            ]
            offset = found[-1]
            name_end = place + _ENTRY.size + name_size
            if signature != b"PK\x01\x02" or name_end + extra_size + comment_size > size:
                raise self._damaged("an entry of its directory")
            name = self._name(bytes(directory[place + _ENTRY.size : name_end]), flags)
            if _MANY in (stored, expanded, offset):
                extra = bytes(directory[name_end : name_end + extra_size])
                expanded, stored, offset = self._wide_sizes(name, extra, expanded, stored, offset)
            yield name, self._checked(name, flags, Member(offset, stored, expanded, method, crc), start)
            place = name_end + extra_size + comment_size
        if place != size:
            raise self._damaged(f"its directory holds more than its {count} entries")

    def _name(self, data: bytes, flags: int) -> str:
        try:
            name = data.decode("utf-8" if flags & _UTF8 else "cp437")
        except UnicodeDecodeError as error:
            raise self._damaged("a member's name is not UTF-8") from error
        if not name or name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/"):
            raise FormatError(f"{self.path}: an unsafe member name: {name!r}")
        if name in self._members:
            raise FormatError(f"{self.path}: two members are named {name!r}")
        return name

    def _wide_sizes(self, name: str, extra: bytes, *narrow: int) -> list[int]:
        """The sizes and offset; those that do not fit into 32 bits are in the extra field 1 (APPNOTE 4.5.3)."""
        place = 0
        while place + 4 <= len(extra):
            kind, size = struct.unpack_from("<2H", extra, place)
            wide = extra[place + 4 : place + 4 + size]
            if kind == 1 and len(wide) == size:
                numbers = iter(number for (number,) in struct.iter_unpack("<Q", wide[: size - size % 8]))
                found = [next(numbers, -1) if number == _MANY else number for number in narrow]
                if -1 not in found:
                    return found
            place += 4 + size
        raise self._damaged(f"{name} has no 64-bit sizes")

    def _checked(self, name: str, flags: int, member: Member, directory: int) -> Member:
        if flags & _ENCRYPTED:
            raise UnsupportedError(f"{self.path}: {name} is encrypted")
        if member.method not in (_STORED, _DEFLATED):
            raise UnsupportedError(f"{self.path}: {name} is compressed by method {member.method}; 0 and 8 are read")
        if member.method == _STORED and member.stored_size != member.size:
            raise self._damaged(f"{name} is stored in {member.stored_size} bytes and has {member.size}")
        if member.size > max(_MAX_RATIO * member.stored_size, _FREE_SIZE):
            raise FormatError(
                f"{self.path}: {name} claims {member.size} bytes from {member.stored_size} compressed ones"
            )
        if member.offset + _LOCAL.size + member.stored_size > directory:
            raise FormatError(f"{self.path}: {name} lies outside the archive's data; truncated?")
        return member

    def _check_overlaps(self, directory: int) -> None:
        """Refuse members that share bytes, as far as the directory tells; `_data_start` checks the rest."""
        found = sorted((member.offset, member.stored_size, name) for name, member in self._members.items())
        self._starts = [offset for offset, _, _ in found] + [directory]
        for (offset, size, name), following in zip(found, self._starts[1:]):
            if offset + _LOCAL.size + size > following:
                raise FormatError(f"{self.path}: {name} overlaps what follows it in the archive")

    def _data_start(self, name: str) -> int:
        """Where a member's data begin: behind its local header, whose extra field pads them."""
        member = self._members[name]
        name_size: int
        extra_size: int
        header = _LOCAL.unpack(self.read_at(member.offset, _LOCAL.size, name))
        signature, _, flags, *_, name_size, extra_size = header
        if signature != b"PK\x03\x04":
            raise FormatError(f"{self.path}: {name} has no local header where the directory says")
        local = bytes(self.read_at(member.offset + _LOCAL.size, name_size, name))
        if local.decode("utf-8" if flags & _UTF8 else "cp437", "replace") != name:
            raise FormatError(f"{self.path}: {name} has another name in its local header")
        start = member.offset + _LOCAL.size + name_size + extra_size
        following = self._starts[bisect.bisect(self._starts, member.offset)]
        if start + member.stored_size > following:
            raise FormatError(f"{self.path}: {name} overlaps what follows it in the archive")
        return start


class _Window(io.RawIOBase):
    """An uncompressed member of an archive as a file; it keeps the archive open."""

    def __init__(self, archive: Archive, name: str) -> None:
        self._archive, self._name = archive, name
        self._start, self._size = archive.locate(name)
        self._place = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: max(0, self._size - self._place)]
        self._archive.read_into(self._start + self._place, view, self._name)
        self._place += len(view)
        return len(view)
