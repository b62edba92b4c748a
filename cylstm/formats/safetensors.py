"""safetensors: a JSON header and raw tensors; used for state dicts and for the native ``.cylstm``.

The layout: the header's length as a little-endian uint64, the header, the data. Each tensor's entry holds its type,
shape and its begin and end in the data; sorted by begin the tensors fill the data without gap, overlap or rest.
``__metadata__`` maps strings to strings.

A ``.cylstm`` file has in ``__metadata__``: ``format`` ("cylstm"), ``format_version``, ``graph`` (JSON: values,
layers, inputs, outputs; where they say anything layouts, window, stateful) and ``metadata`` (JSON: the user's own
strings). Its tensors are the graph's own; they are read piece by piece as they are packed.

A packed one has ``layout_version`` beside ``format_version``, ``tensors`` in its graph (name -> shape), and instead of
those tensors the engine's packed arrays: ``layer/0``, ``layer/1``, ..., F32 of one axis, each a multiple of 64 bytes
and so aligned to 64 bytes in the file.

Either may have ``check`` (JSON) and the tensors that it names: see ``_cylstm_check.py``.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from cylstm.engine._engine import layout_version
from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.registry import NATIVE, PACKED, SAFETENSORS, Format
from cylstm.formats.untrusted.json import parse_json
from cylstm.graph.graph import Graph, GraphBuilder, Layer, Value
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.weights import StoredTensor

if TYPE_CHECKING:
    from cylstm.formats.state_dict.wiring import Layer

FORMAT_VERSION = 1
_MAX_HEADER = 100_000_000
_MAX_RANK = 32
#: of packed arrays in the file and in memory, in bytes
ALIGNMENT = 64
#: numbers that are looked at at once
_PIECE = 1 << 18
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
#: those that become weights: floating point
REAL_TYPES = ("F64", "F32", "F16", "BF16")


#: layer -> its packed weights
Arrays: TypeAlias = "dict[str, list[np.ndarray]]"


def read_safetensors(
    path: str, *, layers: Sequence[Layer] | None, mmap: bool, check_options: Callable[[Format], None]
) -> tuple[Graph, Arrays | None]:
    """Read a ``.safetensors`` state dict or a native ``.cylstm`` file into a graph.

    Parameters
    ----------
    path : str
    layers : sequence of Layer or None
        What a state dict's tensors are wired to; a ``.cylstm`` file says it itself.
    mmap : bool
        Map the arrays of a packed file instead of copying them.
    check_options : callable
        Refuses the options that the file, once it is known, does not take.

    Returns
    -------
    graph : Graph
        The tensors of a ``.cylstm`` file are read when asked for; of a packed one they cannot be.
    arrays : dict of str to list of ndarray, or None
        Of a packed file, as `cylstm.engine._engine.PackedModel` takes them.

    Raises
    ------
    FormatError
        If the file is damaged or inconsistent, or its tensors do not fit `layers`.
    UnsupportedError
        If it was written by a newer version, or holds types, layers or options that are not supported.
    """
    file = SafetensorsFile(path)
    if file.metadata.get("format") == "cylstm":
        check_options(PACKED if "layout_version" in file.metadata else NATIVE)
        graph, arrays = _read_native(file, mmap)
        return graph._replace(provenance={**graph.provenance, "layouts": file.layouts()}), arrays
    check_options(SAFETENSORS)
    from cylstm.formats.safetensors_tensors import read_tensors
    from cylstm.formats.state_dict.assemble import graph_from_tensors

    found = read_tensors(file)
    return graph_from_tensors(found.arrays, layers, where=path, provenance=found.provenance), None


class SafetensorsFile:
    """An open safetensors file whose header is read and checked; tensors are read when asked for.

    Attributes
    ----------
    path : str
    metadata : dict of str to str
    entries : dict of str to (begin, end, name, type, shape)
        In the order of the header; `begin` and `end` count from the start of the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - lives as long as tensors to read
        self._warned: set[str] = set()
        self.size = size = os.fstat(self._file.fileno()).st_size
        start = self._file.read(8)
        if len(start) < 8:
            raise FormatError(f"{path}: {size} bytes are too few for a safetensors file; truncated?")
        length = int.from_bytes(start, "little")
        if length > min(_MAX_HEADER, size - 8):
            raise FormatError(f"{path}: a header of {length} bytes in a file of {size}; truncated?")
        header = parse_json(self._file.read(length), f"{path}: header")
        if not isinstance(header, dict):
            raise FormatError(f"{path}: header: expected an object, found a {type(header).__name__}")
        self.metadata = header.pop("__metadata__", {})
        if not isinstance(self.metadata, dict) or not all(isinstance(text, str) for text in self.metadata.values()):
            raise FormatError(f"{path}: __metadata__ expected strings only")
        self.entries = {name: _entry(path, name, entry, 8 + length) for name, entry in header.items()}
        end = 8 + length
        for begin, next_end, name, *_ in sorted(self.entries.values(), key=lambda entry: entry[:2]):
            if begin != end:
                raise FormatError(f"{path}: tensor {name!r} begins at {begin}, expected {end}: a gap or an overlap")
            end = next_end
        if end != size:
            raise FormatError(f"{path}: the tensors end at byte {end}, the file at {size}; truncated?")

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def fileno(self) -> int:
        """The descriptor of the open file, which stays this object's own."""
        return self._file.fileno()

    def layouts(self) -> dict[str, str]:
        """Name -> type, shape and place of each tensor as stored."""
        return {name: f"{kind} {shape} at byte {begin}" for name, (begin, _, _, kind, shape) in self.entries.items()}

    def stored(self, name: str) -> StoredTensor:
        """One tensor that is read when asked for, with a warning if it holds NaN or infinity."""
        *_, kind, shape = self.entries[name]
        return StoredTensor(shape, self.dtype(kind), partial(self._checked_rows, name))

    @staticmethod
    def dtype(kind: str) -> np.dtype:
        """The type of a tensor of this kind once read."""
        return np.dtype({"F64": "f8"}.get(kind, "f4") if kind in REAL_TYPES else _TYPES[kind]).newbyteorder("=")

    def rows(self, name: str, first: int, count: int) -> np.ndarray:
        """Rows of one tensor; half precision becomes float32."""
        begin, end, _, kind, shape = self.entries[name]
        array = np.empty((count, *shape[1:]), _TYPES[kind])
        row = (end - begin) // max(1, shape[0]) if shape else end - begin
        self.read_into(name, begin + first * row, array.reshape(-1).view(np.uint8))
        if kind == "BF16":
            from cylstm.formats.arrays import bfloat16_bits_to_float32

            return bfloat16_bits_to_float32(array)
        if kind == "F16":
            return array.astype(np.float32)
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def _checked_rows(self, name: str, first: int, count: int) -> np.ndarray:
        array = self.rows(name, first, count)
        self.warn_not_finite(name, array)
        return array

    def read_into(self, name: str, begin: int, target: np.ndarray) -> None:
        """Fill `target` (bytes, one axis) from byte `begin` of the file. Raises `FormatError` where it ends early."""
        self._file.seek(begin)
        view, done = memoryview(target), 0
        while done < len(view):
            count = self._file.readinto(view[done:])
            if not count:
                raise FormatError(f"{self.path}: tensor {name!r} ends early; truncated?")
            done += count

    def warn_not_finite(self, name: str, array: np.ndarray) -> None:
        """Warn, once per tensor, if `array` holds NaN or infinity."""
        if name in self._warned or array.dtype.kind != "f":
            return
        numbers = array.reshape(-1)
        if not all(np.isfinite(numbers[i : i + _PIECE]).all() for i in range(0, numbers.size, _PIECE)):
            self._warned.add(name)
            warnings.warn(f"{self.path}: NaN or infinity in {name}", UserWarning, stacklevel=2)


def _entry(path: str, name: str, entry: object, start: int) -> tuple[int, int, str, str, tuple[int, ...]]:
    """``(begin, end, name, type, shape)`` of one tensor, its size checked; the data start at byte `start`."""
    what = f"{path}: tensor {name!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{what}: expected dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _TYPES:
        raise UnsupportedError(f"{what}: type {kind!r} is not supported; known are {', '.join(_TYPES)}")
    if not are_counts(shape) or len(shape) > _MAX_RANK or not are_counts(offsets) or len(offsets) != 2:
        raise FormatError(f"{what}: shape and data_offsets expected natural numbers, found {shape} and {offsets}")
    begin, end = offsets
    if math.prod(max(size, 1) for size in shape) >= 1 << 59:
        raise FormatError(f"{what}: shape {tuple(shape)} is too large")
    expected = math.prod(shape) * np.dtype(_TYPES[kind]).itemsize
    if end - begin != expected:
        raise FormatError(f"{what}: {kind} of shape {tuple(shape)} takes {expected} bytes, found {end - begin}")
    return start + begin, start + end, name, kind, tuple(shape)


def are_counts(numbers: object) -> bool:
    """Whether it is a list of natural numbers of at most 62 bits."""
    return isinstance(numbers, list) and all(type(number) is int and 0 <= number < 1 << 62 for number in numbers)


def _read_native(file: SafetensorsFile, mmap: bool) -> tuple[Graph, Arrays | None]:
    path, metadata = file.path, file.metadata
    _check_version(path, metadata, "format_version", FORMAT_VERSION)
    is_packed = "layout_version" in metadata
    if is_packed:
        _check_version(path, metadata, "layout_version", layout_version())
    unknown = set(metadata) - {"format", "format_version", "layout_version", "graph", "metadata", "check"}
    if unknown:
        raise UnsupportedError(f"{path}: unknown entries in __metadata__: {', '.join(sorted(unknown))}")
    described = parse_json(metadata.get("graph", ""), f"{path}: graph")
    said = _pop_optional(described)
    graph = _fields(
        f"{path}: graph",
        described,
        {"values": list, "nodes": list, "inputs": list, "outputs": list} | ({"tensors": dict} if is_packed else {}),
    )
    user = parse_json(metadata.get("metadata", "{}"), f"{path}: metadata")
    if not isinstance(user, dict) or not all(isinstance(text, str) for text in user.values()):
        raise FormatError(f"{path}: metadata expected a mapping of strings to strings")
    of_check: Container[str] = ()
    if "check" in metadata:
        from cylstm.formats.native.check import check_fits, tensors_of_check

        of_check = set(tensors_of_check(file).values())
    if is_packed:
        from cylstm.formats.native.packed import read_packed, unread_tensor

        tensors = {name: unread_tensor(path, name, shape) for name, shape in graph["tensors"].items()}
    else:
        tensors = {name: file.stored(name) for name in file.entries if name not in of_check}
    rebuilt = _with_optional(path, said, _rebuild(path, graph, user, tensors))
    if "check" in metadata:
        check_fits(file, rebuilt)
    return rebuilt, read_packed(file, rebuilt, mmap, of_check) if is_packed else None


def _pop_optional(described: object) -> dict[str, object]:
    """The entries of a graph that need not be there, taken out of it."""
    entries = described if isinstance(described, dict) else {}
    return {key: entries.pop(key) for key in ("layouts", "window", "stateful") if key in entries}


def _with_optional(path: str, said: Mapping[str, object], graph: Graph) -> Graph:
    """The graph with them. Raises `FormatError` about one that does not fit it."""
    graph = _with_layouts(path, said.get("layouts", {}), graph)
    if "window" in said:
        window = said["window"]
        fixed = {graph.values[name].shape[0] for name in graph.inputs if graph.values[name].has_time}
        if type(window) is not int or not 0 < window < 1 << 28 or not fixed <= {None, window}:
            raise FormatError(f"{path}: graph: window expected the number of steps of the inputs, found {window!r:.80}")
        graph = graph._replace(window=window)
    if "stateful" in said:
        names = said["stateful"]
        known = {name for name, _ in graph.states()}
        if not isinstance(names, list) or not names or not known.issuperset(_names(path, "stateful", names)):
            raise FormatError(f"{path}: graph: stateful expected names of layers with state, found {names!r:.80}")
        graph = graph._replace(window=said.get("window"), stateful=tuple(dict.fromkeys(names)))
    return graph


def _with_layouts(path: str, layouts: object, graph: Graph) -> Graph:
    """Each is of an input or output and fits its shape. Raises `FormatError`."""
    if not isinstance(layouts, dict):
        raise FormatError(f"{path}: graph: layouts expected an object, found a {type(layouts).__name__}")
    if not layouts:
        return graph
    from cylstm.inputs import layout_fits

    for name, layout in layouts.items():
        shape = graph.values[name].shape if name in (*graph.inputs, *graph.outputs) else ()
        if not shape or not layout_fits(layout, shape):
            raise FormatError(f"{path}: graph: layout {layout!r} of {name!r} does not fit shape {shape}")
    return graph._replace(layouts=layouts)


def _check_version(path: str, metadata: Mapping[str, str], key: str, known: int) -> None:
    version = metadata.get(key, "")
    if not (version.isascii() and version.isdigit() and len(version) <= 9):
        raise FormatError(f"{path}: {key} expected a number, found {version!r}")
    if int(version) < 1:
        raise FormatError(f"{path}: {key} expected 1 or more, found {version}")
    if int(version) > known:
        raise UnsupportedError(f"{path}: written by a newer CyLSTM: {key} {version}, this one reads up to {known}")


def _rebuild(
    path: str, graph: Mapping[str, list], user: Mapping[str, str], tensors: Mapping[str, StoredTensor]
) -> Graph:
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
    layers = [_layer(path, entry) for entry in graph["nodes"]]
    if len({layer.name for layer in layers}) < len(layers):
        raise FormatError(f"{path}: two layers of the graph have one name")
    for layer in layers:
        missing = [name for name in layer.inputs.values() if name not in values]
        if missing:
            raise FormatError(f"{path}: layer {layer.name!r} reads {missing[0]!r}, which nothing before it gives")
        outputs = builder.add(
            layer.kind,
            layer.name,
            {"mask": None, **{role: values[name] for role, name in layer.inputs.items()}},
            layer.weights,
            layer.options,
            layer.outputs,
        )
        values.update((value.name, value) for value in outputs.values())
    for name in _names(path, "outputs", graph["outputs"]):
        if name not in values:
            raise FormatError(f"{path}: output {name!r} is no value of the graph")
        builder.output(values[name])
    used = {name: f"{layer.name}/{role}" for layer in reversed(layers) for role, name in layer.weights.items()}
    left = [name for name in tensors if name not in used]
    if left:
        raise FormatError(f"{path}: tensors that no layer uses: {', '.join(left)}")
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
        (made.name, made.inputs, made.outputs, made.weights) == (layer.name, layer.inputs, layer.outputs, layer.weights)
        for made, layer in zip(built.layers, layers, strict=True)
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


def _layer(path: str, entry: object) -> Layer:
    fields = _fields(
        f"{path}: graph: layer",
        entry,
        {"inputs": dict, "name": str, "op": str, "options": dict, "outputs": dict, "weights": dict},
    )
    what = f"{path}: layer {fields['name']!r}"
    for part in ("inputs", "outputs", "weights"):
        if not all(isinstance(name, str) for name in fields[part].values()):
            raise FormatError(f"{what}: {part} expected a mapping of roles to names")
    if fields["op"] not in LAYER_KINDS:
        raise UnsupportedError(f"{what}: no layer of kind {fields['op']!r}; known are {', '.join(sorted(LAYER_KINDS))}")
    defaults = LAYER_KINDS[fields["op"]].defaults
    for key, option in fields["options"].items():
        if key not in defaults:
            raise UnsupportedError(f"{what}: {fields['op']} has no option {key!r}")
        if type(option) is int and isinstance(defaults[key], float):
            fields["options"][key] = float(option)
        elif type(option) is not type(defaults[key]):
            raise FormatError(f"{what}, option {key!r}: expected a {type(defaults[key]).__name__}, found {option!r}")
    return Layer(fields.pop("op"), **fields)


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
