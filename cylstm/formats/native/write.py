"""Writing native ``.cylstm`` files; the package's docstring tells what they hold."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from cylstm.errors import FormatError
from cylstm.formats.native.packed import ALIGNMENT, FLOAT32_LAYOUT_VERSION, LAYOUT_VERSION
from cylstm.formats.native.read import FORMAT_VERSION
from cylstm.graph.graph import Graph
from cylstm.graph.passes import tensor_types
from cylstm.graph.weights import WEIGHT_TYPES, StoredTensor, as_stored

if TYPE_CHECKING:
    from cylstm.formats.native.check import Check


def write_cylstm(
    graph: Graph, path: str, arrays: Mapping[str, Sequence[np.ndarray]] | None = None, check: Check | None = None
) -> None:
    """Write a graph to a native ``.cylstm`` file, a packed one if there are `arrays`; equal graphs give equal bytes.

    `check` is kept beside it, for ``python -m cylstm verify``.

    The file appears complete or not at all: it is written beside `path` under another name, then renamed.

    Raises
    ------
    FormatError
        If the graph's metadata is not text.
    OSError
        If the file cannot be written.
    """
    if not all(isinstance(text, str) for entry in graph.metadata.items() for text in entry):
        raise FormatError(f"{path}: metadata expected a mapping of strings to strings, found {dict(graph.metadata)!r}")
    described = {
        "inputs": list(graph.inputs),
        "nodes": [
            {
                "inputs": dict(layer.inputs),
                "name": layer.name,
                "op": layer.kind,
                "options": dict(layer.options),
                "outputs": dict(layer.outputs),
                "weights": dict(layer.weights),
            }
            for layer in graph.layers
        ],
        "outputs": list(graph.outputs),
        "values": [
            {"kind": value.kind, "mask": value.mask, "name": value.name, "shape": list(value.shape)}
            for value in sorted(graph.values.values(), key=lambda value: value.name)
        ],
    }
    times = dict(graph.inputs_of_one_time())
    if times:
        described["times"] = times
    if graph.layouts:
        described["layouts"] = dict(graph.layouts)
    if graph.window is not None:
        described["window"] = graph.window
    if graph.stateful:
        described["stateful"] = list(graph.stateful)
    tensors = as_stored(graph.tensors)
    metadata = {"format": "cylstm", "format_version": str(FORMAT_VERSION)}
    if graph.weight_types:
        described["weight_types"] = dict(graph.weight_types)
    if arrays is not None:
        described["tensors"] = {name: list(tensor.shape) for name, tensor in tensors.items()}
        metadata["layout_version"] = str(LAYOUT_VERSION if graph.weight_types else FLOAT32_LAYOUT_VERSION)
        tensors = {f"{name}/{i}": array for name, packed in arrays.items() for i, array in enumerate(packed)}
    elif graph.weight_types:
        tensors = dict(tensors)
        for name, kind in tensor_types(graph).items():
            tensors[name] = _narrowed(tensors[name], np.dtype(WEIGHT_TYPES[kind][0]))
    metadata |= {"graph": _json(described), "metadata": _json(dict(graph.metadata))}
    if check is not None:
        names = {name: _unused(f"check:{name}", tensors) for name in check.inputs}
        tensors = {**tensors, **{names[name]: array for name, array in check.inputs.items()}}
        outputs = [{"name": name, "sha256": bits, "shape": list(shape)} for name, shape, bits in check.outputs]
        metadata["check"] = _json({"inputs": names, "outputs": outputs, "version": check.version})
    folder, name = os.path.split(os.path.abspath(path))
    beside = os.path.join(folder, f".{name}.{os.urandom(4).hex()}.tmp")
    try:
        with open(beside, "xb") as file:
            _write(file, tensors, metadata)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise


def _narrowed(tensor: StoredTensor | np.ndarray, dtype: np.dtype) -> StoredTensor | np.ndarray:
    """The same numbers, rounded already, in a smaller type."""
    if not isinstance(tensor, StoredTensor):
        return tensor.astype(dtype)
    return StoredTensor(tensor.shape, dtype, lambda first, count: tensor.rows(first, count).astype(dtype))


def _unused(name: str, taken: Mapping[str, object]) -> str:
    while name in taken:
        name += ":"
    return name


def _json(value: object, *, sort_keys: bool = True) -> str:
    return json.dumps(value, sort_keys=sort_keys, separators=(",", ":"), allow_nan=False)


def _write(file: BinaryIO, tensors: Mapping[str, StoredTensor | np.ndarray], metadata: Mapping[str, str]) -> None:
    # Gaps are not allowed, so what fills whole 64-byte blocks comes first: those tensors are all aligned to 64 bytes.
    order = sorted(tensors, key=lambda name: (tensors[name].nbytes % ALIGNMENT != 0, -tensors[name].itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    position = 0
    for name in order:
        array = tensors[name]
        end = position + array.nbytes
        kind = {"float16": "F16", "float32": "F32", "float64": "F64", "int32": "I32"}[array.dtype.name]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [position, end]}
        position = end
    text = _json(header, sort_keys=False).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for name in order:
        tensor = tensors[name]
        for _, piece in tensor.pieces() if isinstance(tensor, StoredTensor) else ((0, tensor),):
            file.write(np.ascontiguousarray(piece, dtype=piece.dtype.newbyteorder("<")).data.cast("B"))
