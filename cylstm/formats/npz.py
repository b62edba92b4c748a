"""NumPy archives: a zip of ``.npy`` members, one array each. Nothing is ever unpickled.

A member holds ``\\x93NUMPY``, a version of two bytes, the length of a header (2 bytes, from version 2 on 4), the
header (a Python literal with descr, fortran_order and shape), then the elements.

The header is read here because ``numpy.lib.format`` has no public function for version 3, rewrites headers that it
cannot parse, and makes a type of any descr, objects included, before it can be refused.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats import File, Format

if TYPE_CHECKING:
    from cylstm.formats.arrays import Tensors
    from cylstm.formats.state_dict.wiring import Layer
    from cylstm.formats.untrusted.zip import Archive
    from cylstm.graph.graph import Graph

_MAX_HEADER = 10_000
_MAX_RANK = 32
#: of a header that is not blamed for a lack of memory: bytes, and brackets that open
_SHORT_HEADER, _FEW_BRACKETS = 256, 16
_DESCR = re.compile(r"[<>|=](?:f[248]|[iu][1248]|b1)")


def _is_npz(file: File) -> bool:
    return bool(file.members) and all(name.endswith(".npy") for name in file.members)


def read_npz(file: File, *, layers: Sequence[Layer] | None) -> Graph:
    """Read the arrays that ``numpy.savez`` or ``savez_compressed`` wrote, as a state dict, into a graph.

    Parameters
    ----------
    file : File
    layers : sequence of Layer or None
        What the arrays are wired to; None raises `FormatError` with a proposal.

    Raises
    ------
    FormatError
        If the file is damaged, or its arrays do not fit `layers`.
    UnsupportedError
        If an array holds objects (pickles), records, text or anything else than numbers.
    """
    from cylstm.formats.state_dict.assemble import graph_from_tensors

    found = read_npz_tensors(file.path)
    return graph_from_tensors(found.arrays, layers, where=file.path, provenance=found.provenance)


def read_npz_tensors(path: str) -> Tensors:
    """As `read_npz`, without the wiring."""
    from cylstm.formats.arrays import Tensors
    from cylstm.formats.untrusted.zip import Archive

    arrays, storage = {}, {}
    with Archive(path) as archive:
        for member in archive.names:
            name = member.removesuffix(".npy")
            arrays[name], storage[name] = _array(archive, member)
    provenance = {"format": "npz", "version": None, "framework_version": None, "source": path, "layouts": storage}
    return Tensors(arrays, provenance)


def _array(archive: Archive, member: str) -> tuple[np.ndarray, str]:
    """The array of one member, half precision as float32, and how it was stored."""
    what = f"{archive.path}: {member}"
    data = archive.read(member, archive.size(member))
    version = bytes(data[6:8])
    if data[:6] != b"\x93NUMPY" or version not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise FormatError(f"{what}: expected a NumPy array of version 1 to 3, found {bytes(data[:8])!r}")
    start = 10 if version == b"\x01\x00" else 12
    length = int.from_bytes(data[8:start], "little")
    if length > min(_MAX_HEADER, len(data) - start):
        raise FormatError(f"{what}: a header of {length} bytes; at most {_MAX_HEADER} are read")
    type_, fortran, shape = _header(what, bytes(data[start : start + length]))
    count = math.prod(shape)
    if count * type_.itemsize != len(data) - start - length:
        raise FormatError(
            f"{what}: {type_} of shape {shape} takes {count * type_.itemsize} bytes, found {len(data) - start - length}"
        )
    flat = np.frombuffer(data, type_, count, start + length) if count else np.empty(0, type_)
    array = flat.reshape(shape, order="F" if fortran else "C")
    wanted = np.dtype(np.float32) if type_.itemsize == 2 and type_.kind == "f" else type_.newbyteorder("=")
    storage = f"{type_.name} {shape}" + (", Fortran order" if fortran else "") + f" in {member}"
    if type_.kind == "b":
        # A byte other than 0 and 1 would be neither true nor false.
        return np.array(array.view(np.uint8) != 0, order="C"), storage
    # A copy: the elements lie at any address, and would keep the member's bytes in memory.
    return np.array(array, wanted, order="C"), storage


def _header(what: str, text: bytes) -> tuple[np.dtype, bool, tuple[int, ...]]:
    """Type, order and shape from a header."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser's warnings about odd literals
            found = ast.literal_eval(text.decode("utf-8").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        # Python's parser calls deep nesting a lack of memory, for which a short and flat text is no reason
        brackets = sum(map(text.count, (b"(", b"[", b"{")))
        if isinstance(error, MemoryError) and len(text) < _SHORT_HEADER and brackets < _FEW_BRACKETS:
            raise
        raise FormatError(f"{what}: a header that is no Python literal") from error
    if not isinstance(found, dict) or set(found) != {"descr", "fortran_order", "shape"}:
        raise FormatError(f"{what}: a header without exactly descr, fortran_order and shape")
    descr, fortran, shape = found["descr"], found["fortran_order"], found["shape"]
    if isinstance(descr, str) and "O" in descr:
        raise UnsupportedError(f"{what}: an array of objects is a pickle, and pickles are programs; not read")
    if not isinstance(descr, str) or not _DESCR.fullmatch(descr):
        raise UnsupportedError(f"{what}: type {str(descr)[:40]!r} is not supported; floats, integers and bool are")
    if not isinstance(fortran, bool):
        raise FormatError(f"{what}: fortran_order expected True or False")
    if not (
        isinstance(shape, tuple)
        and len(shape) <= _MAX_RANK
        and all(type(size) is int and 0 <= size < 1 << 62 for size in shape)
        and math.prod(max(size, 1) for size in shape) < 1 << 59
    ):
        raise FormatError(f"{what}: shape expected natural numbers, found {str(shape)[:80]}")
    return np.dtype(descr), fortran, shape


FORMATS = (Format("a NumPy archive", (".npz",), ("layers",), _is_npz, read_npz),)
