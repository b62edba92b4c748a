"""safetensors: a JSON header and raw tensors; used for state dicts and for the native ``.cylstm``.

The layout: the header's length as a little-endian uint64, the header, the data. Each tensor's entry holds its type,
shape and its begin and end in the data; sorted by begin the tensors fill the data without gap, overlap or rest.
``__metadata__`` maps strings to strings.

A ``.cylstm`` file has in ``__metadata__``: ``format`` ("cylstm"), ``format_version``, ``graph`` (JSON: values,
nodes, inputs, outputs) and ``metadata`` (JSON: the user's own strings).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import numpy as np

from ..errors import FormatError, UnsupportedError
from ..graph import Graph, GraphBuilder, Node, Value
from ..layers import OPS, Layer
from ._arrays import bfloat16_bits_to_float32, warn_not_finite
from ._json import parse_json
from .state_dict import graph_from_tensors

FORMAT_VERSION = 1
_MAX_HEADER = 100_000_000
_MAX_RANK = 32
_ALIGNMENT = 64
_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}


def read_safetensors(path: str, layers: Sequence[Layer] | None) -> Graph:
    """Read a ``.safetensors`` state dict or a native ``.cylstm`` file into a graph.

    Parameters
    ----------
    path : str
    layers : sequence of Layer or None
        What a state dict's tensors are wired to; a ``.cylstm`` file says it itself.

    Raises
    ------
    FormatError
        If the file is damaged or inconsistent, or its tensors do not fit `layers`.
    UnsupportedError
        If it was written by a newer version, or holds types, layers or options that are not supported.
    """
    with open(path, "rb") as file:
        metadata, tensors = _read(file, path)
    if metadata.get("format") == "cylstm":
        if layers is not None:
            raise FormatError(f"{path}: a .cylstm file holds its own wiring; leave out layers=")
        return _read_native(path, metadata, tensors)
    provenance = {"format": "safetensors", "version": None, "framework_version": None, "source": path}
    return graph_from_tensors(tensors, layers, where=path, provenance=provenance)


def write_cylstm(graph: Graph, path: str) -> None:
    """Write a graph to a native ``.cylstm`` file; equal graphs give equal bytes.

    The file appears complete or not at all: it is written beside `path` under another name, then renamed.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    described = {
        "inputs": list(graph.inputs),
        "nodes": [
            {
                "inputs": dict(node.inputs),
                "name": node.name,
                "op": node.op,
                "options": dict(node.options),
                "outputs": dict(node.outputs),
                "weights": dict(node.weights),
            }
            for node in graph.nodes
        ],
        "outputs": list(graph.outputs),
        "values": [
            {"kind": value.kind, "mask": value.mask, "name": value.name, "shape": list(value.shape)}
            for value in sorted(graph.values.values(), key=lambda value: value.name)
        ],
    }
    metadata = {
        "format": "cylstm",
        "format_version": str(FORMAT_VERSION),
        "graph": _json(described),
        "metadata": _json(dict(graph.metadata)),
    }
    folder, name = os.path.split(os.path.abspath(path))
    beside = os.path.join(folder, f".{name}.{os.urandom(4).hex()}.tmp")
    try:
        with open(beside, "xb") as file:
            _write(file, graph.tensors, metadata)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _read(file: BinaryIO, path: str) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and tensors of a safetensors file; half precision becomes float32."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    if len(start) < 8:
        raise FormatError(f"{path}: {size} bytes are too few for a safetensors file; truncated?")
    length = int.from_bytes(start, "little")
    if length > min(_MAX_HEADER, size - 8):
        raise FormatError(f"{path}: a header of {length} bytes in a file of {size}; truncated?")
    header = parse_json(file.read(length), f"{path}: header")
    if not isinstance(header, dict):
        raise FormatError(f"{path}: header: expected an object, found a {type(header).__name__}")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise FormatError(f"{path}: __metadata__ expected strings only")
    entries = sorted((_entry(path, name, entry) for name, entry in header.items()), key=lambda found: found[:2])
    end = 0
    for begin, next_end, name, *_ in entries:
        if begin != end:
            raise FormatError(f"{path}: tensor {name!r} begins at {begin}, expected {end}: a gap or an overlap")
        end = next_end
    if 8 + length + end != size:
        raise FormatError(f"{path}: the tensors end at byte {8 + length + end}, the file at {size}; truncated?")
    arrays = {}
    for begin, _, name, kind, shape in entries:
        array = np.empty(shape, _TYPES[kind])
        file.seek(8 + length + begin)
        if file.readinto(array.reshape(-1).view(np.uint8)) != array.nbytes:
            raise FormatError(f"{path}: tensor {name!r} ends early; truncated?")
        if kind == "BF16":
            array = bfloat16_bits_to_float32(array)
        elif kind == "F16":
            array = array.astype(np.float32)
        arrays[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    return metadata, {name: arrays[name] for name in header}


def _entry(path: str, name: str, entry: object) -> tuple[int, int, str, str, tuple[int, ...]]:
    """``(begin, end, name, type, shape)`` of one tensor, its size checked."""
    what = f"{path}: tensor {name!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{what}: expected dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _TYPES:
        raise UnsupportedError(f"{what}: type {kind!r} is not supported; known are {', '.join(_TYPES)}")
    if not _are_counts(shape) or len(shape) > _MAX_RANK or not _are_counts(offsets) or len(offsets) != 2:
        raise FormatError(f"{what}: shape and data_offsets expected natural numbers, found {shape} and {offsets}")
    begin, end = offsets
    if math.prod(max(size, 1) for size in shape) >= 1 << 59:
        raise FormatError(f"{what}: shape {tuple(shape)} is too large")
    expected = math.prod(shape) * np.dtype(_TYPES[kind]).itemsize
    if end - begin != expected:
        raise FormatError(f"{what}: {kind} of shape {tuple(shape)} takes {expected} bytes, found {end - begin}")
    return begin, end, name, kind, tuple(shape)


def _are_counts(numbers: object) -> bool:
    return isinstance(numbers, list) and all(type(number) is int and 0 <= number < 1 << 62 for number in numbers)


def _write(file: BinaryIO, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    # Gaps are not allowed, so what fills whole 64-byte blocks comes first: those tensors are all aligned to 64 bytes.
    order = sorted(tensors, key=lambda name: (tensors[name].nbytes % _ALIGNMENT != 0, -tensors[name].itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    position = 0
    for name in order:
        array = tensors[name]
        end = position + array.nbytes
        kind = {4: "F32", 8: "F64"}[array.itemsize]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for name in order:
        array = tensors[name]
        file.write(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes())


# The native file


def _read_native(path: str, metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> Graph:
    version = metadata.get("format_version", "")
    if not (version.isascii() and version.isdigit() and len(version) <= 9):
        raise FormatError(f"{path}: format_version expected a number, found {version!r}")
    if int(version) > FORMAT_VERSION:
        raise UnsupportedError(
            f"{path}: written by a newer CyLSTM: format_version {version}, this one reads up to {FORMAT_VERSION}"
        )
    unknown = set(metadata) - {"format", "format_version", "graph", "metadata"}
    if unknown:
        raise UnsupportedError(f"{path}: unknown entries in __metadata__: {', '.join(sorted(unknown))}")
    graph = _fields(
        f"{path}: graph",
        parse_json(metadata.get("graph", ""), f"{path}: graph"),
        {"values": list, "nodes": list, "inputs": list, "outputs": list},
    )
    user = parse_json(metadata.get("metadata", "{}"), f"{path}: metadata")
    if not isinstance(user, dict) or not all(isinstance(text, str) for text in user.values()):
        raise FormatError(f"{path}: metadata expected a mapping of strings to strings")
    return _rebuild(path, graph, user, tensors)


def _rebuild(path: str, graph: Mapping[str, list], user: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> Graph:
    """The graph, made again through `GraphBuilder` so that everything is checked again."""
    builder = GraphBuilder()
    for name, array in tensors.items():
        builder.tensor(name, array)
    declared = [_value(path, entry) for entry in graph["values"]]
    by_name = {value.name: value for value in declared}
    values: dict[str, Value] = {}
    for name in _names(path, "inputs", graph["inputs"]):
        if name not in by_name:
            raise FormatError(f"{path}: input {name!r} is no value of the graph")
        declared_value = by_name[name]
        is_masked, is_index = declared_value.mask is not None, declared_value.kind == "index"
        value = builder.input(name, declared_value.shape, masked=is_masked, indices=is_index)
        values[name] = value
        if value.mask is not None:
            values[value.mask] = builder.value(value.mask)
    nodes = [_node(path, entry) for entry in graph["nodes"]]
    for node in nodes:
        missing = [name for name in node.inputs.values() if name not in values]
        if missing:
            raise FormatError(f"{path}: layer {node.name!r} reads {missing[0]!r}, which nothing before it gives")
        outputs = builder.add(
            node.op,
            node.name,
            {"mask": None, **{role: values[name] for role, name in node.inputs.items()}},
            node.weights,
            node.options,
            node.outputs,
        )
        values.update((value.name, value) for value in outputs.values())
    for name in _names(path, "outputs", graph["outputs"]):
        if name not in values:
            raise FormatError(f"{path}: output {name!r} is no value of the graph")
        builder.output(values[name])
    used = {name: f"{node.name}/{role}" for node in reversed(nodes) for role, name in node.weights.items()}
    left = [name for name in tensors if name not in used]
    if left:
        raise FormatError(f"{path}: tensors that no layer uses: {', '.join(left)}")
    warn_not_finite(path, tensors)
    built = builder.build(
        user,
        {
            "format": "cylstm",
            "version": str(FORMAT_VERSION),
            "framework_version": None,
            "source": path,
            "tensors": used,
        },
    )
    same = all(
        (made.name, made.inputs, made.outputs, made.weights) == (node.name, node.inputs, node.outputs, node.weights)
        for made, node in zip(built.nodes, nodes, strict=True)
    )
    # the axes are not in the file: they follow from the layers
    found = {name: value._replace(axis=None) for name, value in built.values.items()}
    if not same or len(declared) != len(by_name) or found != by_name:
        raise FormatError(f"{path}: the values and names of the graph do not follow from its layers")
    return built


def _value(path: str, entry: object) -> Value:
    fields = _fields(f"{path}: graph: value", entry, {"kind": str, "mask": object, "name": str, "shape": list})
    what = f"{path}: graph: value {fields['name']!r}"
    shape = fields["shape"]
    if not all(size is None or (type(size) is int and 0 < size < 1 << 31) for size in shape) or not shape:
        raise FormatError(f"{what}: shape expected positive integers or null, found {shape}")
    if not (fields["mask"] is None or isinstance(fields["mask"], str)):
        raise FormatError(f"{what}: mask expected a name or null")
    return Value(fields["name"], fields["kind"], tuple(shape), fields["mask"])


def _node(path: str, entry: object) -> Node:
    fields = _fields(
        f"{path}: graph: node",
        entry,
        {"inputs": dict, "name": str, "op": str, "options": dict, "outputs": dict, "weights": dict},
    )
    what = f"{path}: layer {fields['name']!r}"
    for part in ("inputs", "outputs", "weights"):
        if not all(isinstance(name, str) for name in fields[part].values()):
            raise FormatError(f"{what}: {part} expected a mapping of roles to names")
    if fields["op"] not in OPS:
        raise UnsupportedError(f"{what}: no operation {fields['op']!r}; known are {', '.join(sorted(OPS))}")
    defaults = OPS[fields["op"]].defaults
    for key, option in fields["options"].items():
        if key not in defaults:
            raise UnsupportedError(f"{what}: {fields['op']} has no option {key!r}")
        if type(option) is int and isinstance(defaults[key], float):
            fields["options"][key] = float(option)
        elif type(option) is not type(defaults[key]):
            raise FormatError(f"{what}, option {key!r}: expected a {type(defaults[key]).__name__}, found {option!r}")
    return Node(**fields)


def _names(path: str, part: str, names: list) -> list[str]:
    if not all(isinstance(name, str) for name in names):
        raise FormatError(f"{path}: graph: {part} expected names, found {names!r}")
    return names


def _fields(what: str, entry: object, fields: Mapping[str, type]) -> dict:
    """`entry` if it is an object with exactly these fields of these types."""
    if not isinstance(entry, dict) or set(entry) != set(fields):
        raise FormatError(f"{what}: expected an object with {', '.join(fields)}")
    for name, kind in fields.items():
        if not isinstance(entry[name], kind):
            raise FormatError(f"{what}: {name} expected a {kind.__name__}, found a {type(entry[name]).__name__}")
    return entry
