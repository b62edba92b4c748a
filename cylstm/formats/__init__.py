"""Reading and writing files: a module or a package for each format, listed in ``registry.py``.

Here stands what a format is, and the file that is shown to the formats until one recognises it. ``untrusted/`` has the
readers of containers (zip, JSON, pickle, HDF5, safetensors) that check a file before they trust it. Formats know
nothing of the model and the engine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Self

from cylstm.errors import FormatError, UnsupportedError, described
from cylstm.graph.values import ReadOnly

if TYPE_CHECKING:
    import numpy as np

    from cylstm.formats.untrusted.hdf5 import Hdf5File
    from cylstm.formats.untrusted.safetensors import SafetensorsFile
    from cylstm.graph.graph import Graph

ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# of a text that is looked into before its format is known
_MAX_TEXT_BYTES = 64 << 20


def path_text(what: str, path: object, otherwise: str = "") -> str:
    """A path as a text. Raises `UnsupportedError` about what is none, and `FormatError` about one that no file has."""
    try:
        found = os.fspath(path)  # type: ignore[call-overload]
    except MemoryError:
        raise
    except Exception:  # whatever an object's own method raises
        kind = type(path)
        raise UnsupportedError(
            f"{what} takes the path of a file, found {kind.__module__}.{kind.__name__}{otherwise}"
        ) from None
    text = os.fsdecode(found)
    check_path(what, text)
    return text


def check_path(what: str, path: str) -> None:
    """Raise `FormatError` about a text that can be the path of no file."""
    try:
        encoded = os.fsencode(path)
    except UnicodeError:
        encoded = b"\0"
    if b"\0" in encoded or max(map(len, encoded.split(b"/"))) > 255 or len(encoded) > 4096:
        raise FormatError(f"{what} takes the path of a file, found {described(path)}, which can be none")


class File:
    """A file or folder while its format is found out and it is read. Used with ``with``.

    Attributes
    ----------
    path, extension : str
    is_folder : bool
    head : bytes
        The first 512 bytes; none of a folder.
    size : int
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.extension = os.path.splitext(path)[1].lower()
        self.is_folder = os.path.isdir(path)
        self.head, self.size = b"", 0
        self._open = ExitStack()
        if self.is_folder:
            return
        with open(path, "rb") as file:
            self.head = file.read(512)
            self.size = os.fstat(file.fileno()).st_size
        if not self.head:
            raise FormatError(f"{path}: the file is empty")

    @cached_property
    def json_text(self) -> bytes:
        """The whole of a file that begins as a JSON object does; nothing of any other, or of one above 64 MB."""
        if self.head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{" or self.size > _MAX_TEXT_BYTES:
            return b""
        with open(self.path, "rb") as file:
            return file.read(self.size).removeprefix(b"\xef\xbb\xbf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> bool | None:
        return self._open.__exit__(*exception)  # type: ignore[arg-type]

    @cached_property
    def members(self) -> list[str]:
        """Names of the members of a zip archive, or of the files that matter in a folder."""
        if self.is_folder:
            return [name for name in ("config.json", "saved_model.pb") if os.path.exists(os.path.join(self.path, name))]
        if not self.head.startswith(ZIP_SIGNATURES):
            return []
        from cylstm.formats.untrusted.zip import Archive

        with Archive(self.path) as archive:
            return archive.names

    @cached_property
    def safetensors(self) -> SafetensorsFile | None:
        """The file with its header read and checked, if it starts like safetensors. Raises `FormatError`."""
        head, length = self.head, int.from_bytes(self.head[:8], "little")
        is_whole = length <= self.size - 8 or self.extension in (".safetensors", ".cylstm")
        if len(head) < 9 or head[8:9] not in b"{ " or not is_whole:
            return None
        from cylstm.formats.untrusted.safetensors import SafetensorsFile

        return SafetensorsFile(self.path)

    @cached_property
    def hdf5(self) -> Hdf5File | None:
        """The file opened with checks, if it is HDF5. Raises `FormatError` or `UnsupportedError`."""
        if not self.head.startswith(_HDF5_SIGNATURE):
            return None
        from cylstm.formats.untrusted.hdf5 import open_hdf5_file

        return self._open.enter_context(open_hdf5_file(self.path))


class PackedGraph:
    """A graph whose weights are packed as the engine packs them, by layer; its tensors have shapes only."""

    def __init__(self, graph: Graph, arrays: dict[str, list[np.ndarray]]) -> None:
        self.graph = graph
        self.arrays = arrays


class Format(ReadOnly):
    """A kind of file.

    Attributes
    ----------
    name : str
        With its article, as messages call it.
    extensions : tuple of str
        Usual ones, which serve messages only: the content decides.
    options : tuple of str
        Those of `load` that it takes. Every other one that is given is refused.
    recognises : callable
        ``recognises(file)`` tells whether a `File` is one. It raises `FormatError` about a damaged file.
    read : callable
        ``read(file, **options)`` gives the graph.
    """

    name: str
    extensions: tuple[str, ...]
    options: tuple[str, ...]
    recognises: Callable[[File], bool]
    read: Callable[..., Graph | PackedGraph]

    def __init__(
        self,
        name: str,
        extensions: tuple[str, ...],
        options: tuple[str, ...],
        recognises: Callable[[File], bool],
        read: Callable[..., Graph | PackedGraph],
    ) -> None:
        self._set(name=name, extensions=extensions, options=options, recognises=recognises, read=read)
