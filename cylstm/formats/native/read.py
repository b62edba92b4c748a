"""The network in a native ``.cylstm`` file, as a graph; the package's docstring tells what the file holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.untrusted.json import parse_json
from cylstm.formats.untrusted.safetensors import SafetensorsFile
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.graph import Graph, Layer
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.values import Value
from cylstm.graph.weights import StoredTensor

FORMAT_VERSION = 1
#: what ``__metadata__`` may have
_ENTRIES = {"format", "format_version", "layout_version", "graph", "metadata", "metadata_values", "check"}


def read_native(file: SafetensorsFile) -> Graph:
    """Read a ``.cylstm`` file into a graph; its tensors are read when asked for.

    Raises
    ------
    FormatError
        If the file is damaged or inconsistent.
    UnsupportedError
        If it was written by a newer version, or holds types, layers or options that are not supported.
    """
    return read_graph(file, None)


def read_graph(file: SafetensorsFile, unread: Callable[[str, Any], StoredTensor] | None) -> Graph:
    """As `read_native`, also of a packed file.

    Its tensors are made by ``unread(name, shape)``; the shapes, which stand in the metadata, are not checked yet.
    """
    path, metadata = file.path, file.metadata
    check_version(path, metadata, "format_version", FORMAT_VERSION)
    unknown = set(metadata) - _ENTRIES
    if unknown:
        raise UnsupportedError(f"{path}: unknown entries in __metadata__: {', '.join(sorted(unknown))}")
    described = parse_json(metadata.get("graph", ""), f"{path}: graph")
    optional = _pop_optional(described)
    graph = _fields(
        f"{path}: graph",
        described,
        {"values": list, "nodes": list, "inputs": list, "outputs": list} | ({"tensors": dict} if unread else {}),
    )
    user = parse_json(metadata.get("metadata", "{}"), f"{path}: metadata")
    if not isinstance(user, dict) or not all(isinstance(text, str) for text in user.values()):
        raise FormatError(f"{path}: metadata expected a mapping of strings to strings")
    if "metadata_values" in metadata:
        from cylstm.formats.native.metadata import with_values

        user = with_values(path, user, metadata["metadata_values"])
    if unread:
        tensors = {name: unread(name, shape) for name, shape in graph["tensors"].items()}
    else:
        tensors = {name: file.stored(name) for name in names_of_weights(file)}
        if "scales" in optional:
            from cylstm.formats.native.optional import with_scales

            tensors = with_scales(path, optional.pop("scales"), tensors)
    rebuilt = _rebuild(path, graph, user, tensors, file.storage(), optional.pop("times", {}))
    if optional:
        from cylstm.formats.native.optional import with_optional

        rebuilt = with_optional(path, optional, rebuilt)
    if "check" in metadata:
        from cylstm.formats.native.check import check_fits

        check_fits(file, rebuilt)
    return rebuilt


def names_of_weights(file: SafetensorsFile) -> list[str]:
    """The tensors of the file, without those of a check."""
    if "check" not in file.metadata:
        return list(file.entries)
    from cylstm.formats.native.check import tensors_of_check

    of_check = set(tensors_of_check(file).values())
    return [name for name in file.entries if name not in of_check]


def _pop_optional(described: object) -> dict[str, Any]:
    """The optional entries of a graph, removed from it."""
    entries = described if isinstance(described, dict) else {}
    return {
        key: entries.pop(key)
        for key in ("layouts", "times", "window", "stateful", "weight_types", "scales", "noise")
        if key in entries
    }


def check_version(path: str, metadata: Mapping[str, str], key: str, known: int) -> None:
    version = metadata.get(key, "")
    if not (version.isascii() and version.isdigit() and len(version) <= 9):
        raise FormatError(f"{path}: {key} expected a number, found {version!r}")
    if int(version) < 1:
        raise FormatError(f"{path}: {key} expected 1 or more, found {version}")
    if int(version) > known:
        raise UnsupportedError(f"{path}: written by a newer CyLSTM: {key} {version}, this one reads up to {known}")


def _rebuild(
    path: str,
    graph: Mapping[str, list[Any]],
    user: Mapping[str, Any],
    tensors: Mapping[str, StoredTensor],
    storage: Mapping[str, str],
    times: object,
) -> Graph:
    """The graph, made again through `GraphBuilder` so that everything is checked again.

    `times` says of inputs the time of which other input they have.
    """
    builder = GraphBuilder()
    known = _names(path, "inputs", graph["inputs"])
    if not isinstance(times, dict) or not set(times) <= set(known):
        raise FormatError(f"{path}: graph: times expected names of inputs, found {times!r:.80}")
    if not all(isinstance(name, str) for name in times.values()):
        raise FormatError(f"{path}: graph: times expected names of inputs, found {times!r:.80}")
    for name, array in tensors.items():
        builder.tensor(name, array)
    declared = [_value(path, entry) for entry in graph["values"]]
    by_name = {value.name: value for value in declared}
    values: dict[str, Value] = {}
    for name in known:
        if name not in by_name:
            raise FormatError(f"{path}: input {name!r} is no value of the graph")
        declared_value = by_name[name]
        is_masked, is_index = declared_value.mask is not None, declared_value.kind == "index"
        value = builder.input(name, declared_value.shape, masked=is_masked, indices=is_index, time_of=times.get(name))
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
            "layouts": storage,
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


def _names(path: str, part: str, names: list[Any]) -> list[str]:
    """`names`, if they are texts."""
    if not all(isinstance(name, str) for name in names):
        raise FormatError(f"{path}: graph: {part} expected names, found {names!r}")
    return names


def _fields(what: str, entry: object, fields: Mapping[str, type]) -> dict[str, Any]:
    """`entry` if it is an object with exactly these fields of these types."""
    if not isinstance(entry, dict) or set(entry) != set(fields):
        raise FormatError(f"{what}: expected an object with {', '.join(fields)}")
    for name, kind in fields.items():
        if not isinstance(entry[name], kind):
            raise FormatError(f"{what}: {name} expected a {kind.__name__}, found a {type(entry[name]).__name__}")
    return entry
