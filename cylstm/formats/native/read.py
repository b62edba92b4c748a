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
from cylstm.graph.weights import WEIGHT_TYPES, StoredTensor

FORMAT_VERSION = 1


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
    unknown = set(metadata) - {"format", "format_version", "layout_version", "graph", "metadata", "check"}
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
    if unread:
        tensors = {name: unread(name, shape) for name, shape in graph["tensors"].items()}
    else:
        tensors = {name: file.stored(name) for name in names_of_weights(file)}
    rebuilt = _with_optional(path, optional, _rebuild(path, graph, user, tensors))
    if "check" in metadata:
        from cylstm.formats.native.check import check_fits

        check_fits(file, rebuilt)
    return rebuilt._replace(provenance={**rebuilt.provenance, "layouts": file.storage()})


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
    return {key: entries.pop(key) for key in ("layouts", "window", "stateful", "weight_types") if key in entries}


def _with_optional(path: str, optional: Mapping[str, Any], graph: Graph) -> Graph:
    """The graph with its optional entries. Raises `FormatError` if one does not fit."""
    graph = _with_axis_orders(path, optional.get("layouts", {}), graph)
    if "window" in optional:
        window = optional["window"]
        fixed = {graph.values[name].shape[0] for name in graph.inputs if graph.values[name].has_time}
        if type(window) is not int or not 0 < window < 1 << 28 or not fixed <= {None, window}:
            raise FormatError(f"{path}: graph: window expected the number of steps of the inputs, found {window!r:.80}")
        graph = graph._replace(window=window)
    if "stateful" in optional:
        names = optional["stateful"]
        known = {name for name, _ in graph.states()}
        if not isinstance(names, list) or not names or not known.issuperset(_names(path, "stateful", names)):
            raise FormatError(f"{path}: graph: stateful expected names of layers with state, found {names!r:.80}")
        graph = graph._replace(window=optional.get("window"), stateful=tuple(dict.fromkeys(names)))
    if "weight_types" in optional:
        graph = graph._replace(weight_types=_weight_types(path, optional["weight_types"], graph))
    return graph


def _weight_types(path: str, types: object, graph: Graph) -> dict[str, str]:
    """Layer -> the type of its matrices, of those that are not float32."""
    kinds = {layer.name: layer.kind for layer in graph.layers}
    if not isinstance(types, dict) or not types or not set(types) <= set(kinds):
        raise FormatError(f"{path}: graph: weight_types expected names of layers, found {types!r:.80}")
    for name, kind in types.items():
        known = isinstance(kind, str) and kind in WEIGHT_TYPES and kind != "float32"
        if not known or not LAYER_KINDS[kinds[name]].matrices:
            raise UnsupportedError(f"{path}: layer {name!r}: weights of {kind!r:.80} are not supported")
    return types


def _with_axis_orders(path: str, orders: object, graph: Graph) -> Graph:
    """Each is of an input or output and fits its shape. Raises `FormatError`."""
    if not isinstance(orders, dict):
        raise FormatError(f"{path}: graph: layouts expected an object, found a {type(orders).__name__}")
    if not orders:
        return graph
    for name, order in orders.items():
        shape = graph.values[name].shape if name in (*graph.inputs, *graph.outputs) else ()
        if not shape or not _order_fits(order, shape):
            raise FormatError(f"{path}: graph: layout {order!r} of {name!r} does not fit shape {shape}")
    return graph._replace(layouts=orders)


def _order_fits(order: object, shape: tuple[int | None, ...]) -> bool:
    """Whether it is one of a value of this shape: it names some axes once each, and all but those of size 1."""
    axes = [str(axis) for axis in range(len(shape))]
    return (
        isinstance(order, str)
        and len(set(order)) == len(order)
        and set(order) <= set(axes)
        and all(size == 1 for axis, size in zip(axes, shape) if axis not in order)
    )


def check_version(path: str, metadata: Mapping[str, str], key: str, known: int) -> None:
    version = metadata.get(key, "")
    if not (version.isascii() and version.isdigit() and len(version) <= 9):
        raise FormatError(f"{path}: {key} expected a number, found {version!r}")
    if int(version) < 1:
        raise FormatError(f"{path}: {key} expected 1 or more, found {version}")
    if int(version) > known:
        raise UnsupportedError(f"{path}: written by a newer CyLSTM: {key} {version}, this one reads up to {known}")


def _rebuild(
    path: str, graph: Mapping[str, list[Any]], user: Mapping[str, str], tensors: Mapping[str, StoredTensor]
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


def _names(path: str, part: str, names: list[Any]) -> list[str]:
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
