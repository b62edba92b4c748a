"""Sharded weights: ``model.safetensors.index.json`` or ``pytorch_model.bin.index.json``, and the files it names.

The index has ``weight_map``, which maps each tensor's name to the file that holds it, and ``metadata``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cylstm.errors import CylstmError, FormatError
from cylstm.formats import File, Format

if TYPE_CHECKING:
    import numpy as np

    from cylstm.formats.arrays import Tensors
    from cylstm.formats.state_dict.wiring import Layer
    from cylstm.graph.graph import Graph
    from cylstm.graph.weights import StoredTensor

_MAX_INDEX_BYTES = 16 << 20
_LISTED = 20


def _is_index(file: File) -> bool:
    return b'"weight_map"' in file.json_text


def read_index(file: File, *, layers: Sequence[Layer] | None) -> Graph:
    """Read a state dict that is spread over several files, as its index says, into a graph.

    Parameters
    ----------
    file : File
        The index; the other files lie beside it.
    layers : sequence of Layer or None
        What the tensors are wired to; None raises `FormatError` with a proposal.

    Raises
    ------
    FormatError
        If the index or a file is damaged, a tensor is not in the file that the index says, or a file holds one
        that the index does not place there.
    """
    from cylstm.formats.state_dict.assemble import graph_from_tensors

    found = read_index_tensors(file.path)
    return graph_from_tensors(found.arrays, layers, where=file.path, provenance=found.provenance)


def read_index_tensors(path: str) -> Tensors:
    """As `read_index`, without the wiring."""
    from cylstm.formats.arrays import Tensors
    from cylstm.formats.untrusted.json import parse_json

    if os.path.getsize(path) > _MAX_INDEX_BYTES:
        raise FormatError(f"{path}: an index of {os.path.getsize(path)} bytes; at most {_MAX_INDEX_BYTES} are read")
    with open(path, "rb") as file:
        index = parse_json(file.read(), path)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(shard, str) for shard in places.values()):
        raise FormatError(f"{path}: an index of weights whose weight_map does not say the file of each tensor")
    shards: dict[str, set[str]] = {}
    for name, shard in places.items():
        if not shard or os.path.basename(shard) != shard or "\\" in shard or shard in (".", "..") or "\0" in shard:
            raise FormatError(f"{path}: tensor {name!r}: an unsafe file name: {shard!r}")
        shards.setdefault(shard, set()).add(name)
    arrays: dict[str, np.ndarray | StoredTensor] = {}
    storage: dict[str, str] = {}
    formats = set()
    for shard, expected in shards.items():
        found = _read_shard(path, os.path.join(os.path.dirname(path), shard))
        for wrong, what in ((expected - set(found.arrays), "lacks"), (set(found.arrays) - expected, "also holds")):
            if wrong:
                listed = ", ".join(sorted(wrong)[:_LISTED])
                raise FormatError(f"{path}: {shard} {what}, other than the index says: {listed}")
        arrays |= found.arrays
        storage |= {name: f"{how} of {shard}" for name, how in found.provenance["layouts"].items()}
        formats.add(str(found.provenance["format"]))
    provenance = {
        "format": f"{' and '.join(sorted(formats))}, sharded",
        "version": None,
        "framework_version": None,
        "source": path,
        "files": list(shards),
        "layouts": {name: storage[name] for name in places},
    }
    return Tensors({name: arrays[name] for name in places}, provenance)


def _read_shard(index: str, path: str) -> Tensors:
    if not os.path.isfile(path):
        raise FormatError(f"{index}: the file {os.path.basename(path)} is missing beside it")
    with open(path, "rb") as file:
        head = file.read(2)
    try:
        if head == b"PK" or head[:1] == b"\x80":
            from cylstm.formats.torch.checkpoint import read_torch_tensors

            return read_torch_tensors(path)
        from cylstm.formats.safetensors import read_safetensors_tensors
        from cylstm.formats.untrusted.safetensors import SafetensorsFile

        return read_safetensors_tensors(SafetensorsFile(path))
    except CylstmError as error:
        raise type(error)(f"{index}: {error}") from error


FORMATS = (Format("an index of weights", (".index.json",), ("layers",), _is_index, read_index),)
