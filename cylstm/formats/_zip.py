"""Zip archives from a file that is not trusted: members are located or read in memory, never extracted."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from typing import Self

from ..errors import FormatError, UnsupportedError

_MAX_MEMBERS = 100_000
_MAX_RATIO = 200
_ENCRYPTED = 0x1
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")


class Archive:
    """A zip archive whose directory has been checked.

    Parameters
    ----------
    path : str
        The file; it stays open until `close`.

    Raises
    ------
    FormatError
        If it is no readable zip, or if a member's name repeats, is absolute or climbs, a member is encrypted, or
        is compressed beyond any weights file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = open(path, "rb")  # noqa: SIM115 - closed by close()
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            try:
                self._zip = zipfile.ZipFile(self._file)
            except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, UnicodeDecodeError) as error:
                raise FormatError(f"{path}: a damaged or truncated zip archive: {error}") from error
            infos = self._zip.infolist()
            if len(infos) > _MAX_MEMBERS:
                raise FormatError(f"{path}: {len(infos)} members in a zip archive; at most {_MAX_MEMBERS} are read")
            self._infos: dict[str, zipfile.ZipInfo] = {}
            for info in infos:
                self._check(info)
                self._infos[info.filename] = info
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._zip.close()
        self._file.close()

    @property
    def names(self) -> list[str]:
        """Names of the members, in the directory's order."""
        return list(self._infos)

    def read(self, name: str, limit: int) -> bytes:
        """The content of a member of at most `limit` bytes."""
        info = self._infos[name]
        if info.file_size > limit:
            raise FormatError(f"{self.path}: {name} has {info.file_size} bytes; at most {limit} are read")
        try:
            return self._zip.read(info)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, struct.error) as error:
            raise FormatError(f"{self.path}: {name} is damaged: {error}") from error

    def locate(self, name: str) -> tuple[int, int]:
        """Offset and size in the file of an uncompressed member's data.

        The sizes come from the central directory: PyTorch leaves them zero in the local headers. Checksums are
        not looked at: PyTorch can be told to leave them out.
        """
        info = self._infos[name]
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise FormatError(f"{self.path}: {name} is compressed; a PyTorch checkpoint stores its members plainly")
        header = self.read_at(info.header_offset, _LOCAL_HEADER.size, name)
        signature, *_, name_size, extra_size = _LOCAL_HEADER.unpack(header)
        if signature != b"PK\x03\x04":
            raise FormatError(f"{self.path}: {name} has no local header where the directory says")
        start = info.header_offset + _LOCAL_HEADER.size + name_size + extra_size
        end = start + info.file_size
        if end > self._size:
            raise FormatError(f"{self.path}: {name} should end at byte {end}, the file has {self._size}; truncated?")
        return start, info.file_size

    def read_at(self, offset: int, size: int, name: str) -> bytearray:
        """`size` bytes of the file from `offset` on, writable; `name` is for the message if there are fewer."""
        found = bytearray(size)
        self._file.seek(offset)
        if self._file.readinto(found) != size:
            raise FormatError(f"{self.path}: {name} lies beyond the end of the file; truncated?")
        return found

    def _check(self, info: zipfile.ZipInfo) -> None:
        name = info.filename
        if name in self._infos:
            raise FormatError(f"{self.path}: two members are named {name!r}")
        parts = info.orig_filename.split("/")
        if info.orig_filename != name or name.startswith("/") or "\\" in name or ".." in parts or not name:
            raise FormatError(f"{self.path}: an unsafe member name: {info.orig_filename!r}")
        if info.flag_bits & _ENCRYPTED:
            raise UnsupportedError(f"{self.path}: {name} is encrypted")
        if info.file_size > _MAX_RATIO * max(info.compress_size, 1) and info.file_size > _MAX_RATIO:
            raise FormatError(
                f"{self.path}: {name} claims {info.file_size} bytes from {info.compress_size} compressed ones"
            )
        if info.header_offset < 0 or info.compress_size > self._size:
            raise FormatError(f"{self.path}: {name} lies outside the file")
