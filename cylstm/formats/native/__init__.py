"""The native ``.cylstm`` file: a graph with its weights, in a safetensors file.

``__metadata__`` has: ``format`` ("cylstm"), ``format_version``, ``graph`` (JSON: values, layers, inputs, outputs;
and, if they are not the defaults, layouts, window, stateful, weight_types), ``metadata`` (JSON: the user's own
strings) and, if there are any, ``metadata_values`` (JSON: the user's own values that are no strings). The tensors are
the graph's own; they are read piece by piece as they are packed.

A packed file has ``layout_version`` beside ``format_version``, ``tensors`` in its graph (name -> shape), and instead of
those tensors the engine's packed arrays: ``layer/0``, ``layer/1``, ..., F32 or F16 of one axis, each a multiple of 64
bytes and so aligned to 64 bytes in the file.

Either may have ``check`` (JSON) and the tensors that it names: see ``check.py``.
"""

from __future__ import annotations

from cylstm.formats import File, Format, PackedGraph
from cylstm.graph.graph import Graph


def is_native(file: File) -> bool:
    """Whether it is a ``.cylstm`` file, packed or not. Raises `FormatError` about a damaged one."""
    return file.safetensors is not None and file.safetensors.metadata.get("format") == "cylstm"


def _is_packed(file: File) -> bool:
    return is_native(file) and file.safetensors is not None and "layout_version" in file.safetensors.metadata


def _read(file: File) -> Graph:
    from cylstm.formats.native.read import read_native

    assert file.safetensors is not None
    return read_native(file.safetensors)


def _read_packed(file: File, mmap: bool) -> PackedGraph:
    from cylstm.formats.native.packed import read_packed

    assert file.safetensors is not None
    return read_packed(file.safetensors, mmap)


FORMATS = (
    Format("a packed .cylstm file", (".cylstm",), ("mmap",), _is_packed, _read_packed),
    Format("a .cylstm file", (".cylstm",), (), is_native, _read),
)
