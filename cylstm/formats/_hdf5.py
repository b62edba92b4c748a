"""HDF5 files read on guard: nothing outside the file, nothing larger than what is stored, no damaged heap."""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Iterator

import numpy as np

from ..errors import CylstmError, FormatError, UnsupportedError
from ._arrays import as_numpy, bfloat16_bits_to_float32

MAX_DATASETS = 100_000
MAX_PATH_PARTS = 32
# What compression may save, and what an unwritten chunked dataset may claim without storing a byte.
_MAX_STORED_RATIO = 1000
# The first bytes of a global heap collection, version 1.
_HEAP = b"GCOL\x01\0\0\0"
# deflate, shuffle, fletcher32, lzf: those built into h5py; a plugin's filter would load a library
_FILTERS = {1, 2, 3, 32000}


class Hdf5Tensor:
    """A dataset of numbers, read on demand; one that reads elsewhere or claims more than is stored is refused."""

    def __init__(self, where: str, name: str, dataset) -> None:
        self.where = where
        self.name = name
        self.dataset = dataset
        what = f"{where}: dataset {name!r}"
        if dataset.shape is None:
            raise FormatError(f"{what}: no data")
        self.shape = tuple(int(size) for size in dataset.shape)
        properties = dataset.id.get_create_plist()
        if dataset.is_virtual or properties.get_external_count():
            raise FormatError(f"{what}: its data is in another file")
        filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
        if not filters <= _FILTERS:
            raise UnsupportedError(f"{what}: HDF5 filter {min(filters - _FILTERS)} is not supported")
        stored, size = dataset.id.get_storage_size(), math.prod(self.shape) * dataset.dtype.itemsize
        if size > stored * (_MAX_STORED_RATIO if dataset.chunks else 1):
            raise FormatError(f"{what}: shape {self.shape} takes {size} bytes, {stored} are stored")

    def read(self) -> np.ndarray:
        type_ = self.dataset.dtype
        marked = attribute(self.where, self.dataset, "dtype")
        if type_.kind == "V" and type_.itemsize == 2 and type_.fields is None and marked == "bfloat16":
            return bfloat16_bits_to_float32(self.dataset[()].view("<u2"))
        if type_.kind not in "fiub":
            raise FormatError(f"{self.where}: dataset {self.name!r}: expected floating-point numbers, found {type_}")
        return as_numpy(self.name, self.dataset[()])


@contextlib.contextmanager
def open_hdf5(path: str, file) -> Iterator[object]:
    try:
        import h5py
    except ImportError as error:
        raise UnsupportedError(f"{path}: reading a Keras file needs h5py: pip install cylstm[keras]") from error
    try:
        with h5py.File(file, "r") as opened:
            yield opened
    except CylstmError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        # h5py reports a damaged file through any of these, at opening and later.
        raise FormatError(f"{path}: a damaged or truncated HDF5 file: {error}") from error


def check_heaps(path: str, data: bytes | mmap.mmap) -> None:
    """Refuse a damaged global heap (where HDF5 keeps texts of variable length): the library can loop in it for ever.

    A collection is a 16-byte header with its size, then objects: index, references, reserved, size, data padded to
    8 bytes; index 0 is the free rest (HDF5 File Format Specification, III.E).
    """
    start = data.find(_HEAP)
    while start >= 0:
        position, end = start + 16, start + int.from_bytes(data[start + 8 : start + 16], "little")
        while position <= end - 16 <= len(data) - 16:
            free = data[position : position + 2] == b"\0\0"
            size = int.from_bytes(data[position + 8 : position + 16], "little")
            if free and (size < 16 or position + size != end):
                break
            position += size if free else 16 + (size + 7) // 8 * 8
        if not end - 16 < position <= end <= len(data):
            raise FormatError(f"{path}: a damaged or truncated HDF5 file: the text heap at byte {start}")
        start = data.find(_HEAP, end)


def child(where: str, group, path: str, *, dataset: bool | None = False):
    """The group (or dataset; None: either) at `path`, reached through hard links only, one component at a time."""
    import h5py

    parts = path.split("/")
    if len(parts) > MAX_PATH_PARTS or any(part in ("", ".", "..") for part in parts):
        raise FormatError(f"{where}: an unsafe HDF5 path: {path!r:.200}")
    for part in parts:
        if not isinstance(group, h5py.Group) or part not in group:
            raise FormatError(f"{where}: {path!r} is missing in the HDF5 file")
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise FormatError(f"{where}: {path!r} passes through a soft or external link")
        group = group[part]
    if dataset is not None and not isinstance(group, h5py.Dataset if dataset else h5py.Group):
        raise FormatError(f"{where}: {path!r} expected a {'dataset' if dataset else 'group'}")
    return group


def attribute(where: str, owner, name: str) -> object | None:
    """A text or list of texts, None if there is none. Bytes are decoded; other kinds are refused."""
    if name not in owner.attrs:
        return None
    found = owner.attrs.get_id(name)
    if math.prod(found.shape or (1,)) > MAX_DATASETS or found.dtype.kind not in "OSUf":
        raise FormatError(f"{where}: attribute {name!r} expected text")
    value = owner.attrs[name]
    if isinstance(value, np.ndarray):
        if value.size == 0:
            return []
        return [_text(where, name, item) for item in value.ravel().tolist()]
    return _text(where, name, value)


def _text(where: str, name: str, value: object) -> str:
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(f"{where}: attribute {name!r} is not UTF-8") from error
    if not isinstance(value, str):
        raise FormatError(f"{where}: attribute {name!r} expected text, found a {type(value).__name__}")
    return value


def names(where: str, group, name: str) -> list[str]:
    """A list of names in an attribute, which HDF5's size limit may have split into ``name0``, ``name1``, ..."""
    found = attribute(where, group, name)
    if found is None:
        found, i = [], 0
        while (part := attribute(where, group, f"{name}{i}")) is not None:
            found = [*found, *(part if isinstance(part, list) else [part])]
            i += 1
        if not i:
            raise FormatError(f"{where}: attribute {name!r} is missing in the HDF5 file")
    return found if isinstance(found, list) else [found]
