"""State dicts in ``.safetensors`` files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from cylstm.formats import File, Format
from cylstm.formats.untrusted.safetensors import REAL_TYPES, SafetensorsFile
from cylstm.graph.weights import PIECE_BYTES, StoredTensor

if TYPE_CHECKING:
    import numpy as np

    from cylstm.formats.arrays import Tensors
    from cylstm.formats.state_dict.wiring import Layer
    from cylstm.graph.graph import Graph


def read_safetensors(file: File, *, layers: Sequence[Layer] | None) -> Graph:
    """Read a ``.safetensors`` state dict into a graph.

    Parameters
    ----------
    file : File
    layers : sequence of Layer or None
        What the tensors are wired to; None raises `FormatError` with a proposal.

    Raises
    ------
    FormatError
        If the file is damaged or inconsistent, or its tensors do not fit `layers`.
    UnsupportedError
        If it holds types, layers or options that are not supported.
    """
    from cylstm.formats.state_dict.assemble import graph_from_tensors

    assert file.safetensors is not None
    found = read_safetensors_tensors(file.safetensors)
    return graph_from_tensors(found.arrays, layers, where=file.path, provenance=found.provenance)


def read_safetensors_tensors(file: SafetensorsFile) -> Tensors:
    """As `read_safetensors`, without the wiring; large weights are read when asked for."""
    from cylstm.formats.arrays import Tensors

    arrays = {name: _read(file, name) for name in file.entries}
    provenance: dict[str, object] = {
        "format": "safetensors",
        "version": None,
        "framework_version": None,
        "source": file.path,
        "metadata": dict(file.metadata),
        "layouts": file.storage(),
    }
    return Tensors(arrays, provenance)


def _read(file: SafetensorsFile, name: str) -> np.ndarray | StoredTensor:
    *_, kind, shape = file.entries[name]
    if kind in REAL_TYPES and len(shape) > 1:
        stored = StoredTensor(shape, file.dtype(kind), partial(file.rows, name))
        if stored.nbytes > PIECE_BYTES:
            return stored
    return file.rows(name, 0, shape[0]) if shape else file.rows(name, 0, 1).reshape(())


FORMATS = (
    Format(
        "a safetensors file",
        (".safetensors",),
        ("layers",),
        lambda file: file.safetensors is not None,
        read_safetensors,
    ),
)
