"""The tensors of a ``.safetensors`` file that holds a state dict."""

from __future__ import annotations

from functools import partial

import numpy as np

from cylstm.formats.arrays import Tensors
from cylstm.formats.safetensors import REAL_TYPES, SafetensorsFile
from cylstm.graph.weights import PIECE_BYTES, StoredTensor


def read_tensors(file: SafetensorsFile) -> Tensors:
    """All of them; large weights are read when asked for."""
    arrays = {name: _read(file, name) for name in file.entries}
    provenance = {
        "format": "safetensors",
        "version": None,
        "framework_version": None,
        "source": file.path,
        "metadata": dict(file.metadata),
        "layouts": file.layouts(),
    }
    return Tensors(arrays, provenance)


def _read(file: SafetensorsFile, name: str) -> np.ndarray | StoredTensor:
    *_, kind, shape = file.entries[name]
    if kind in REAL_TYPES and len(shape) > 1:
        stored = StoredTensor(shape, file.dtype(kind), partial(file.rows, name))
        if stored.nbytes > PIECE_BYTES:
            return stored
    return file.rows(name, 0, shape[0]) if shape else file.rows(name, 0, 1).reshape(())
