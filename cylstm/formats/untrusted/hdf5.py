"""HDF5 files read through h5py with checks: nothing outside the file, nothing beyond what is stored, nothing twice.

Links are checked before they are followed, compressed chunks are expanded here, with a limit, and texts of variable
length are read by ``hdf5_texts.py``.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import mmap
import os
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats.arrays import as_numpy, bfloat16_bits_to_float32, shape_text
from cylstm.formats.untrusted.hdf5_texts import Texts

_MAX_OBJECTS = 100_000
_MAX_PATH_PARTS = 32
# What compression may save; weights hardly compress, but those of a new layer may all be zero.
_MAX_RATIO = 50
_FREE_SIZE = 1 << 20
# For the names of links and the texts in attributes, all together.
_MAX_TEXT = 32 << 20
_LINK_BYTES = 100
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_DEFLATE, _SHUFFLE = 1, 2


class Hdf5Tensor:
    """A dataset of numbers, read on demand; one that reads elsewhere or claims more than is stored is refused.

    Attributes
    ----------
    name : str
        Its path in the file.
    shape : tuple of int
    storage : str
        How it is stored, for the provenance.
    is_legacy : bool
        Whether Keras wrote it into an older ``.h5`` file, where two bytes without a mark are bfloat16.
    """

    def __init__(self, file: Hdf5File, name: str, dataset: Any) -> None:
        self.file = file
        self.name = name
        self.dataset = dataset
        self.is_legacy = False
        self.what = what = f"{file.path}: dataset {name!r}"
        if dataset.shape is None:
            raise FormatError(f"{what}: no data")
        self.shape = tuple(int(size) for size in dataset.shape)
        self.type = dataset.dtype
        properties = dataset.id.get_create_plist()
        if dataset.is_virtual or properties.get_external_count():
            raise FormatError(f"{what}: its data is in another file")
        self.filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
        others = set(self.filters) - {_DEFLATE, _SHUFFLE}
        if others:
            raise UnsupportedError(f"{what}: HDF5 filter {min(others)} is not supported")
        self.chunks: tuple[int, ...] | None = dataset.chunks
        self.stored = int(dataset.id.get_storage_size())
        self.size = math.prod(self.shape) * self.type.itemsize
        limit = max(_MAX_RATIO * self.stored, _FREE_SIZE) if self.filters else self.stored
        if self.size > limit or self.stored > file.size:
            raise FormatError(
                f"{what}: shape {shape_text(self.shape)} takes {self.size} bytes, {self.stored} are stored"
            )
        filters = "".join(", deflate" if number == _DEFLATE else ", shuffled" for number in self.filters)
        chunks = f", in chunks of {shape_text(self.chunks)}" if self.chunks else ""
        self.storage = f"{self.type} {shape_text(self.shape)}{chunks}{filters}"

    def read(self) -> np.ndarray:
        """The numbers, float16 and bfloat16 as float32."""
        type_ = self.type
        bfloat16 = type_.kind == "V" and type_.itemsize == 2 and type_.fields is None and type_.subdtype is None
        if bfloat16 and not self.is_legacy:
            bfloat16 = self.file.attribute(self.dataset, "dtype") == "bfloat16"
        if not bfloat16 and (type_.kind not in "fiub" or type_.metadata):
            raise FormatError(f"{self.what}: expected floating-point numbers, found {_type_text(type_)}")
        self.file.spend_data(self)
        array = self._chunked() if self.chunks else self.dataset[()]
        return bfloat16_bits_to_float32(array.view("<u2")) if bfloat16 else as_numpy(self.name, array)

    def _chunked(self) -> np.ndarray:
        """The chunks, expanded here: HDF5 would expand one without a limit."""
        assert self.chunks is not None
        size = math.prod(self.chunks) * self.type.itemsize
        starts = [range(0, full, chunk) for full, chunk in zip(self.shape, self.chunks, strict=True)]
        count = math.prod(map(len, starts))
        if size > max(_MAX_RATIO * self.stored, _FREE_SIZE) or self.dataset.id.get_num_chunks() != count:
            raise FormatError(f"{self.what}: its chunks are not as many or not as large as its shape says")
        result = np.empty(self.shape, self.type)
        for start in itertools.product(*starts):
            if self.dataset.id.get_chunk_info_by_coord(start).size > self.stored:
                raise FormatError(f"{self.what}: a chunk larger than what is stored")
            mask, data = self.dataset.id.read_direct_chunk(start)
            chunk = np.frombuffer(self._expanded(mask, data, size), self.type).reshape(self.chunks)
            place = tuple(slice(first, first + length) for first, length in zip(start, self.chunks, strict=True))
            part = result[place]
            part[...] = chunk[tuple(slice(0, length) for length in part.shape)]
        return result

    def _expanded(self, mask: int, data: bytes, size: int) -> bytes:
        """A chunk of `size` bytes; the bits of `mask` tell which filters were left out."""
        for i, number in reversed(list(enumerate(self.filters))):
            if mask >> i & 1:
                continue
            if number == _DEFLATE:
                expander = zlib.decompressobj()
                try:
                    data = expander.decompress(data, size + 1)
                except zlib.error as error:
                    raise FormatError(f"{self.what}: a damaged chunk: {error}") from error
            elif len(data) == size:
                data = np.frombuffer(data, np.uint8).reshape(self.type.itemsize, -1).T.tobytes()
        if len(data) != size:
            raise FormatError(f"{self.what}: a chunk has another size than {size} bytes when expanded")
        return data


def _type_text(type_: np.dtype) -> str:
    """A type for messages; HDF5's own kinds are objects to NumPy."""
    kinds = {"vlen": "lists of variable length", "ref": "references", "enum": "an enumeration"}
    found = [text for key, text in kinds.items() if type_.metadata and key in type_.metadata]
    return found[0] if found else "a compound" if type_.fields else str(type_)


class Hdf5File:
    """An open HDF5 file, and what may still be read of it.

    Parameters
    ----------
    path : str
        For messages.
    file : h5py.File
    data : bytes or mmap
        Those of the file.

    Attributes
    ----------
    size : int
        Bytes of the file.
    """

    def __init__(self, path: str, file: Any, data: bytes | bytearray | mmap.mmap) -> None:
        self.path = path
        self.file = file
        self.size = len(data)
        self._texts = Texts(path, data)
        self._text_left = _MAX_TEXT + len(data)
        self._read: set[str] = set()
        self._stored = self._expanded = 0

    def __contains__(self, name: str) -> bool:
        return name in self.file

    def has_attribute(self, name: str) -> bool:
        """Whether the root of the file has an attribute of this name."""
        return name in self.file.attrs

    def group(self, path: str) -> Any:
        """The group at `path`, reached through hard links only; "" is the root."""
        return self._child(path, dataset=False)

    def tensor(self, path: str) -> Hdf5Tensor:
        """The dataset at `path`, reached through hard links only."""
        return Hdf5Tensor(self, path, self._child(path, dataset=True))

    def datasets(self, root: str) -> list[str]:
        """Paths of all datasets below a group, itself not among them; refuses what no writer of Keras files makes.

        An object that is reached twice may be a cycle, or one tensor that claims to be thousands.
        """
        import h5py

        seen: set[int] = set()
        found, waiting = [], [root]
        while waiting:
            path = waiting.pop()
            group = self.group(path)
            inner = []
            for name in self._links(group):
                child = f"{path}/{name}" if path else name
                if child.count("/") >= _MAX_PATH_PARTS or len(seen) >= _MAX_OBJECTS:
                    raise FormatError(f"{self.path}: too many or too deeply nested groups: {child!r:.200}")
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise FormatError(f"{self.path}: {child!r} passes through a soft or external link")
                info = h5py.h5o.get_info(group.id, name.encode())
                if info.addr in seen:
                    raise FormatError(f"{self.path}: {child!r} is an object that stands elsewhere in the file too")
                seen.add(info.addr)
                if info.type == h5py.h5o.TYPE_GROUP:
                    inner.append(child)
                elif info.type == h5py.h5o.TYPE_DATASET:
                    found.append(child)
                else:
                    raise FormatError(f"{self.path}: {child!r} is neither a group nor a dataset")
            waiting += reversed(inner)
        return found

    def attribute(self, owner: Any, name: str) -> str | list[str] | None:
        """A text or list of texts, None if there is none. Bytes are decoded; other kinds are refused."""
        import h5py

        if name not in owner.attrs:
            return None
        found = owner.attrs.get_id(name)
        count = math.prod(found.shape or (1,))
        type_ = found.dtype
        is_text = type_.kind == "S" or (type_.kind == "O" and h5py.check_string_dtype(type_) is not None)
        # Keras writes an empty list as an array of no numbers.
        if not is_text and not (type_.kind == "f" and count == 0):
            raise FormatError(f"{self.path}: attribute {name!r} expected text")
        size = count * type_.itemsize
        if count > _MAX_OBJECTS or size > _MAX_TEXT + self.size:
            raise FormatError(f"{self.path}: attribute {name!r}: {count} texts that may take {size} bytes")
        if type_.kind == "O":
            values = self._texts.read(h5py.h5o.get_info(owner.id).addr, name, count, self._text_left)
        else:
            values = np.ravel(owner.attrs[name]).tolist()
        self._spend_text(sum(len(value) + _LINK_BYTES for value in values))
        texts = [self._text(name, value) for value in values]
        return texts if found.shape else texts[0]

    def names(self, group: Any, name: str) -> list[str]:
        """A list of names in an attribute, which HDF5's size limit may have split into ``name0``, ``name1``, ..."""
        found = self.attribute(group, name)
        if found is None:
            found, i = [], 0
            while (part := self.attribute(group, f"{name}{i}")) is not None:
                found += part if isinstance(part, list) else [part]
                i += 1
            if not i:
                raise FormatError(f"{self.path}: attribute {name!r} is missing in the HDF5 file")
        return found if isinstance(found, list) else [found]

    def spend_data(self, tensor: Hdf5Tensor) -> None:
        """Count a tensor that is read: datasets that share their bytes would make much of little."""
        if tensor.name in self._read:
            return
        self._read.add(tensor.name)
        self._stored += tensor.stored
        self._expanded += tensor.size
        if self._stored > self.size or self._expanded > max(_MAX_RATIO * self.size, _FREE_SIZE):
            raise FormatError(f"{tensor.what}: the datasets claim more bytes than the file has; they overlap")

    def _spend_text(self, size: int) -> None:
        self._text_left -= size
        if self._text_left < 0:
            raise FormatError(f"{self.path}: more than {_MAX_TEXT >> 20} MB of names and texts")

    def _links(self, group: Any) -> list[str]:
        """Names of a group's links; many may be one text in the file."""
        found: list[bytes] = []
        left = [self._text_left]

        def take(name: bytes) -> bool | None:
            found.append(name)
            left[0] -= len(name) + _LINK_BYTES
            return True if left[0] < 0 else None

        # An exception in the callback would end as a SystemError.
        group.id.links.iterate(take)
        self._spend_text(self._text_left - left[0])
        return [name.decode("utf-8") for name in found]

    def _child(self, path: str, *, dataset: bool) -> Any:
        import h5py

        found = self.file["/"]
        parts = path.split("/") if path else []
        if len(parts) > _MAX_PATH_PARTS or any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise FormatError(f"{self.path}: an unsafe HDF5 path: {path!r:.200}")
        for part in parts:
            if not isinstance(found, h5py.Group) or found.get(part, getlink=True) is None:
                raise FormatError(f"{self.path}: {path!r:.200} is missing in the HDF5 file")
            if not isinstance(found.get(part, getlink=True), h5py.HardLink):
                raise FormatError(f"{self.path}: {path!r:.200} passes through a soft or external link")
            found = found[part]
        if not isinstance(found, h5py.Dataset if dataset else h5py.Group):
            raise FormatError(f"{self.path}: {path!r:.200} expected a {'dataset' if dataset else 'group'}")
        return found

    def _text(self, name: str, value: bytes) -> str:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(f"{self.path}: attribute {name!r} is not UTF-8") from error


@contextlib.contextmanager
def open_hdf5(path: str, file: Any, data: bytes | bytearray | mmap.mmap) -> Iterator[Hdf5File]:
    """Open an HDF5 file to be read with checks.

    Parameters
    ----------
    path : str
        For messages.
    file : file object
        What the library reads.
    data : bytes or mmap
        The same bytes.

    Raises
    ------
    UnsupportedError
        If h5py is missing.
    FormatError
        If the file is damaged; h5py reports that through many exceptions, at opening and later.
    """
    try:
        import h5py
    except ImportError as error:
        raise UnsupportedError(f"{path}: reading a Keras file needs h5py: pip install cylstm[keras]") from error
    # A user block before the signature would be found by the library.
    if data[: len(_SIGNATURE)] != _SIGNATURE:
        raise FormatError(f"{path}: expected an HDF5 file, found bytes that begin with {bytes(data[:8])!r}")
    try:
        with h5py.File(file, "r") as opened:
            yield Hdf5File(path, opened, data)
    except (CylstmError, FileNotFoundError, IsADirectoryError, PermissionError):
        raise  # the last three are about another file, such as that of architecture=: this one is open
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise FormatError(f"{path}: a damaged or truncated HDF5 file: {error}") from error


@contextlib.contextmanager
def open_hdf5_file(path: str) -> Iterator[Hdf5File]:
    """As `open_hdf5`, of a file on disk."""
    if not os.path.getsize(path):
        raise FormatError(f"{path}: the file is empty")
    with (
        open(path, "rb") as raw,
        mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data,
        open_hdf5(path, raw, data) as file,
    ):
        yield file
