"""Writing native ``.cylstm`` files; the package's docstring tells what they hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from cylstm.errors import FormatError
from cylstm.formats.native.metadata import checked_metadata, texts_of, values_of
from cylstm.formats.native.packed import (
    ALIGNMENT,
    FLOAT16_LAYOUT_VERSION,
    FLOAT32_LAYOUT_VERSION,
    LAYOUT_VERSION,
)
from cylstm.formats.native.read import FORMAT_VERSION
from cylstm.formats.untrusted.safetensors import MAX_HEADER
from cylstm.formats.whole_file import whole_file
from cylstm.graph.graph import Graph
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.passes import tensor_types
from cylstm.graph.weights import WEIGHT_TYPES, StoredTensor, Tensor, as_stored, is_int8

if TYPE_CHECKING:
    from cylstm.formats.native.check import Check


#: NumPy type -> kind in the file; it has no bfloat16, whose bits are in uint16
_STORED_KINDS = {"float16": "F16", "float32": "F32", "float64": "F64", "int32": "I32", "uint16": "BF16", "int8": "I8"}


def write_cylstm(
    graph: Graph, path: str, arrays: Mapping[str, Sequence[np.ndarray]] | None = None, check: Check | None = None
) -> None:
    """Write a graph to a native ``.cylstm`` file, a packed one if there are `arrays`; equal graphs give equal bytes.

    `check` is kept beside it, for ``python -m cylstm verify``.

    The file appears complete or not at all: it is written beside `path` under another name, then renamed.

    Raises
    ------
    FormatError
        If the graph's metadata has values that JSON does not have.
    OSError
        If the file cannot be written.
    """
    try:
        user = checked_metadata(graph.metadata)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
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
    if graph.noise:
        described["noise"] = {name: dict(entries) for name, entries in graph.noise.items()}
    tensors = as_stored(graph.tensors)
    metadata = {"format": "cylstm", "format_version": str(FORMAT_VERSION)}
    if graph.weight_types:
        described["weight_types"] = _described_types(graph)
    if arrays is not None:
        described["tensors"] = {name: list(tensor.shape) for name, tensor in tensors.items()}
        metadata["layout_version"] = str(_layout_version(graph))
        tensors = {f"{name}/{i}": array for name, packed in arrays.items() for i, array in enumerate(packed)}
    elif graph.weight_types:
        tensors = dict(tensors)
        scales = {}
        for name, kind in tensor_types(graph).items():
            if is_int8(kind):
                scales[name] = _unused(f"{name}:scales", tensors)
                tensors[scales[name]] = of_rows = _scales(tensors[name])
                tensors[name] = _whole_numbers(tensors[name], of_rows)
            else:
                tensors[name] = _mapped(tensors[name], *_NARROWED[WEIGHT_TYPES[kind]])
        if scales:
            described["scales"] = scales
    metadata |= {"graph": _json(described), "metadata": _json(texts_of(user))}
    values = values_of(user)
    if values:
        metadata["metadata_values"] = _json(values)
    if check is not None:
        names = {name: _unused(f"check:{name}", tensors) for name in check.inputs}
        tensors = {**tensors, **{names[name]: array for name, array in check.inputs.items()}}
        outputs = [{"name": name, "sha256": bits, "shape": list(shape)} for name, shape, bits in check.outputs]
        metadata["check"] = _json({"inputs": names, "outputs": outputs, "version": check.version})
    with whole_file(path) as file:
        _write(file, tensors, metadata)


#: how numbers that are rounded already are stored: the NumPy type, and the conversion
_NARROWED: dict[str, tuple[np.dtype, Callable[[np.ndarray], np.ndarray]]] = {
    "F16": (np.dtype(np.float16), lambda rows: rows.astype(np.float16)),
    "BF16": (np.dtype(np.uint16), lambda rows: (np.ascontiguousarray(rows).view(np.uint32) >> 16).astype(np.uint16)),
}


def _mapped(tensor: Tensor, dtype: np.dtype, convert: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    if not isinstance(tensor, StoredTensor):
        return convert(tensor)
    return StoredTensor(tensor.shape, dtype, lambda first, count: convert(tensor.rows(first, count)))


def _scales(tensor: Tensor) -> np.ndarray:
    """Of the rows of a tensor, float32: each is that many times whole numbers of at most 127."""
    pieces = tensor.pieces() if isinstance(tensor, StoredTensor) else [(0, tensor)]
    return np.concatenate([np.abs(rows).max(axis=1) for _, rows in pieces]) / np.float32(127)


def _whole_numbers(tensor: Tensor, scales: np.ndarray) -> Tensor:
    def divided(first: int, rows: np.ndarray) -> np.ndarray:
        by = scales[first : first + len(rows), None]
        return np.asarray(np.divide(rows, by, out=np.zeros_like(rows), where=by != 0).astype(np.int8))

    if not isinstance(tensor, StoredTensor):
        return divided(0, tensor)
    return StoredTensor(tensor.shape, np.dtype(np.int8), lambda first, count: divided(first, tensor.rows(first, count)))


def _described_types(graph: Graph) -> dict[str, str | dict[str, str]]:
    """Layer -> the type of all its matrices, or where they differ role -> type."""
    found: dict[str, str | dict[str, str]] = {}
    for layer in graph.layers:
        types = graph.types_of(layer.name)
        matrices = LAYER_KINDS[layer.kind].matrices_of(layer.weights, layer.options)
        if types:
            is_one = len(types) == len(matrices) and len(set(types.values())) == 1
            found[layer.name] = next(iter(types.values())) if is_one else types
    return found


def _layout_version(graph: Graph) -> int:
    if not graph.weight_types:
        return FLOAT32_LAYOUT_VERSION
    is_known_to_2 = all(kind == "float16" for kind in _described_types(graph).values())
    return FLOAT16_LAYOUT_VERSION if is_known_to_2 else LAYOUT_VERSION


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
        kind = _STORED_KINDS[array.dtype.name]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [position, end]}
        position = end
    text = _json(header, sort_keys=False).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    if len(text) > MAX_HEADER:
        raise FormatError(
            f"names, wiring and metadata take {len(text):,} bytes; at most {MAX_HEADER:,} can be read again: "
            "shorten the metadata, or keep it in a file of its own"
        )
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for name in order:
        tensor = tensors[name]
        for _, piece in tensor.pieces() if isinstance(tensor, StoredTensor) else ((0, tensor),):
            file.write(np.ascontiguousarray(piece, dtype=piece.dtype.newbyteorder("<")).data.cast("B"))
