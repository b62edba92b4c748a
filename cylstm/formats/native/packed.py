"""The packed arrays of a native ``.cylstm`` file."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats import PackedGraph
from cylstm.formats.native.read import check_version, names_of_weights, read_graph
from cylstm.formats.untrusted.safetensors import SafetensorsFile, are_counts
from cylstm.graph.graph import Graph
from cylstm.graph.weights import PACKED_DTYPES, StoredTensor

#: latest version of the engine's packing that is read and written, and the versions that float32 alone and float16 have
LAYOUT_VERSION = 3
FLOAT32_LAYOUT_VERSION = 1
FLOAT16_LAYOUT_VERSION = 2
#: alignment of packed arrays in the file and in memory, in bytes
ALIGNMENT = 64


def read_packed(file: SafetensorsFile, mmap: bool) -> PackedGraph:
    """Read a packed ``.cylstm`` file; the engine checks that the sizes of the arrays are right.

    Parameters
    ----------
    file : SafetensorsFile
    mmap : bool
        Map the arrays into memory instead of copying them.

    Raises
    ------
    FormatError, UnsupportedError
        As `cylstm.formats.native.read.read_native`.
    """
    check_version(file.path, file.metadata, "layout_version", LAYOUT_VERSION)
    graph = read_graph(file, lambda name, shape: _unread_tensor(file.path, name, shape))
    return PackedGraph(graph, _arrays(file, graph, mmap))


def _unread_tensor(path: str, name: str, shape: Any) -> StoredTensor:
    """A tensor of a packed file: its shape is known, its numbers are in the packed arrays."""
    if not are_counts(shape) or not 0 < len(shape) <= 4 or not all(0 < size < 1 << 31 for size in shape):
        raise FormatError(f"{path}: graph: tensor {name!r}: shape expected positive integers, found {shape!r}")

    def read_rows(first: int, count: int) -> np.ndarray:
        raise AssertionError("a packed file's tensors are unpacked by the engine")

    return StoredTensor(tuple(shape), np.dtype(np.float32), read_rows)


def _arrays(file: SafetensorsFile, graph: Graph, mmap: bool) -> dict[str, list[np.ndarray]]:
    """The packed arrays by layer."""
    weights = set(names_of_weights(file))
    names: dict[str, list[str]] = {}
    for layer in graph.layers:
        candidates = (f"{layer.name}/{i}" for i in itertools.count())
        names[layer.name] = list(itertools.takewhile(weights.__contains__, candidates))
    every = [name for found in names.values() for name in found]
    left = weights.difference(every)
    if left:
        raise FormatError(f"{file.path}: packed arrays that no layer uses: {', '.join(sorted(left))}")
    arrays = dict(zip(every, _map(file, every) if mmap else [_read(file, name) for name in every]))
    return {layer: [arrays[name] for name in found] for layer, found in names.items() if found}


def _read(file: SafetensorsFile, name: str) -> np.ndarray:
    """A packed array, in memory of its own aligned to 64 bytes."""
    begin, end, *_ = _entry(file, name)
    memory = np.empty(end - begin + ALIGNMENT, np.uint8)
    shift = -memory.ctypes.data % ALIGNMENT
    memory = memory[shift : shift + end - begin]
    file.read_into(name, begin, memory)
    stored = _dtype(file, name)
    array = memory.view(stored).astype(stored.newbyteorder("="), copy=False)
    file.warn_not_finite(name, array)
    return array


def _map(file: SafetensorsFile, names: Sequence[str]) -> list[np.ndarray]:
    """Packed arrays as they lie in the file, which is mapped into memory, read-only.

    One that does not fill whole blocks of 64 bytes is copied: no two such can lie one after the other and be aligned.
    """
    import mmap

    if not np.dtype("<f4").isnative:
        raise UnsupportedError(f"{file.path}: a big-endian machine cannot map this file; leave out mmap=True")
    how: dict[str, Any] = {"access": mmap.ACCESS_READ}
    if hasattr(mmap, "MAP_PRIVATE"):
        how = {"flags": mmap.MAP_PRIVATE, "prot": mmap.PROT_READ}
    try:
        memory = mmap.mmap(file.fileno(), file.size, **how)
    except ValueError as error:
        raise FormatError(f"{file.path}: cannot be mapped, truncated just now? {error}") from error
    arrays = []
    for name in names:
        begin, end, *_ = _entry(file, name)
        if (end - begin) % ALIGNMENT:
            arrays.append(_read(file, name))
            continue
        if begin % ALIGNMENT:
            raise FormatError(
                f"{file.path}: packed array {name!r} lies at byte {begin}, not at a multiple of {ALIGNMENT}; "
                "leave out mmap=True"
            )
        dtype = _dtype(file, name)
        arrays.append(np.frombuffer(memory, dtype, (end - begin) // dtype.itemsize, begin))
    return arrays


def _entry(file: SafetensorsFile, name: str) -> tuple[int, int, str, str, tuple[int, ...]]:
    entry = file.entries[name]
    *_, kind, shape = entry
    if kind not in PACKED_DTYPES or len(shape) != 1 or not shape[0]:
        expected = " or ".join(PACKED_DTYPES)
        raise FormatError(
            f"{file.path}: packed array {name!r}: expected {expected} of one axis, found {kind} of {shape}"
        )
    return entry


def _dtype(file: SafetensorsFile, name: str) -> np.dtype:
    """Of a packed array in the file."""
    *_, kind, _ = file.entries[name]
    return np.dtype(PACKED_DTYPES[kind]).newbyteorder("<")
