"""The wiring of a Keras model as its config describes it: layers, calls of them, inputs and outputs.

Keras 3 writes a call as ``{"args": [...], "kwargs": {...}}`` with tensors as ``keras_history`` (layer, call, output);
Keras 2 as a list of ``[layer, call, output, {kwargs}]``. A Sequential is a chain of calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.keras.config import LayerConfig, read_layer

MAX_LAYERS = 10_000
MAX_CALLS = 100_000
_MAX_DEPTH = 64

#: Classes that are models themselves.
MODELS = ("Sequential", "Functional", "Model")


class Reference(NamedTuple):
    """An output of a call. `shape` is what Keras recorded, batch first, None if it did not."""

    layer: str
    call: int
    output: int
    shape: tuple[int | None, ...] | None = None


class Slice(NamedTuple):
    """A serialised Python slice."""

    start: object
    stop: object
    step: object


@dataclass(frozen=True)
class Call:
    """One call of a layer; `args` and `kwargs` hold `Reference` for tensors, in lists and dicts.

    `is_last` tells that several outputs have somewhere to go.
    """

    layer: LayerConfig
    index: int
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    is_last: bool = True

    def references(self) -> list[Reference]:
        """The tensors that it reads."""
        return [*references(list(self.args)), *references(self.kwargs)]


@dataclass(frozen=True)
class Network:
    """A Sequential or Functional model.

    Attributes
    ----------
    what : str
        Of messages.
    layers : list of LayerConfig
        Without the operations; InputLayers of a Functional among them, as Keras counts them.
    inputs, outputs : list of Reference
    calls : list of Call
        In the order in which Keras runs them.
    """

    what: str
    layers: list[LayerConfig]
    inputs: list[Reference]
    outputs: list[Reference]
    calls: list[Call]
    input_layers: list[LayerConfig]


def references(entry: object) -> Iterator[Reference]:
    """All tensors in an argument, in order."""
    if isinstance(entry, Reference):
        yield entry
    elif isinstance(entry, (list, tuple)) and not isinstance(entry, Slice):
        for item in entry:
            yield from references(item)
    elif isinstance(entry, Mapping):
        for item in entry.values():
            yield from references(item)


def read_network(what: str, class_name: str, config: Any, version: tuple[int, int]) -> Network:
    """The network of a model's config. Raises `FormatError` if its wiring is not sound."""
    # Before Keras 2.2.3 the config of a Sequential was the list of its layers.
    entries = config.get("layers") if isinstance(config, Mapping) else config
    if not isinstance(entries, list) or not entries or len(entries) > MAX_LAYERS:
        raise FormatError(f"{what}: config expected a list of 1 to {MAX_LAYERS} layers")
    described = [read_layer(f"{what}: ", "layer", entry, version, may_be_custom=True) for entry in entries]
    names: set[str] = set()
    for layer in described:
        if layer.name in names:
            raise FormatError(f"{what}: two layers are named {layer.name!r}")
        names.add(layer.name)
    if class_name == "Sequential":
        return _sequential(what, described)
    return _functional(what, config, entries, described, version)


def _sequential(what: str, described: list[LayerConfig]) -> Network:
    inputs = [layer for layer in described if layer.class_name == "InputLayer"]
    layers = [layer for layer in described if layer.class_name != "InputLayer"]
    if len(inputs) > 1 or (inputs and described[0] is not inputs[0]):
        raise UnsupportedError(f"{what}: an InputLayer elsewhere than first")
    first = Reference(inputs[0].name if inputs else "input", 0, 0)
    previous, calls = first, []
    for layer in layers:
        calls.append(Call(layer, 0, (previous,), {}, is_last=layer is layers[-1]))
        previous = Reference(layer.name, 0, 0)
    # the last layer may have several outputs: -1 stands for all of them
    outputs = [Reference(previous.layer, 0, -1)] if layers else [first]
    return Network(what, layers, [first], outputs, calls, inputs)


def _functional(
    what: str,
    config: Mapping[str, object],
    entries: Sequence[Mapping[str, Any]],
    described: list[LayerConfig],
    version: tuple[int, int],
) -> Network:
    by_name = {layer.name: layer for layer in described}
    reader = _Reader(what, by_name)

    def ends() -> tuple[list[Reference], list[Reference]]:
        return reader.ends(config.get("input_layers"), "input_layers"), reader.ends(
            config.get("output_layers"), "output_layers"
        )

    def calls() -> dict[tuple[str, int], Call]:
        found: dict[tuple[str, int], Call] = {}
        for layer, entry in zip(described, entries, strict=True):
            nodes = entry.get("inbound_nodes", [])
            if not isinstance(nodes, list) or len(nodes) + len(found) > MAX_CALLS:
                raise FormatError(f"{layer.what}: inbound_nodes expected a list of at most {MAX_CALLS} calls")
            found |= {(layer.name, index): reader.call(layer, index, node) for index, node in enumerate(nodes)}
        return found

    # A model has been called once when it was made. Where that call counts, the others begin at 1.
    if version >= (3, 0):
        found = calls()
        reader.offsets = {layer.name: 1 for layer in described if layer.class_name == "Functional"}
        inputs, outputs = ends()
    else:
        found, (inputs, outputs) = calls(), ends()
        given = [*inputs, *outputs, *(r for call in found.values() for r in call.references())]
        places = {reference[:2] for reference in given}
        for layer, entry in zip(described, entries, strict=True):
            if layer.class_name in MODELS and (layer.name, len(entry.get("inbound_nodes", []))) in places:
                reader.offsets[layer.name] = 1
        if reader.offsets:
            found, (inputs, outputs) = calls(), ends()
    input_layers = []
    for reference in inputs:
        layer = by_name[reference.layer]
        if layer.class_name != "InputLayer":
            raise UnsupportedError(
                f"{layer.what}: an input of the model that is no InputLayer is not supported; make the model "
                "from keras.Input"
            )
        input_layers.append(layer)
    order = _order(what, by_name, found, outputs)
    return Network(what, [layer for layer in described if not layer.is_operation], inputs, outputs, order, input_layers)


def _order(
    what: str, layers: Mapping[str, LayerConfig], calls: Mapping[tuple[str, int], Call], outputs: Sequence[Reference]
) -> list[Call]:
    """The calls that the outputs need, in Keras's order (``keras.src.ops.function.map_graph``).

    The order matters: MultiHeadAttention takes the masks of its inputs away from the calls after it.
    """

    def parents(key: tuple[str, int]) -> list[tuple[str, int]]:
        layer, index = key
        if key not in calls:
            if layers[layer].class_name == "InputLayer" and index == 0:
                return []
            raise FormatError(f"{layers[layer].what}: its call {index} is used and not in the config")
        return [(r.layer, r.call) for r in calls[key].references()]

    finished: dict[tuple[str, int], None] = {}
    running: set[tuple[str, int]] = set()
    for output in outputs:
        waiting: list[tuple[tuple[str, int], Iterator[tuple[str, int]]]] = []
        start = (output.layer, output.call)
        if start not in finished:
            waiting.append((start, iter(parents(start))))
            running.add(start)
        while waiting:
            key, rest = waiting[-1]
            parent = next(rest, None)
            if parent is None:
                waiting.pop()
                running.discard(key)
                finished[key] = None
            elif parent in running:
                raise FormatError(f"{layers[parent[0]].what}: its input depends on its own output")
            elif parent not in finished:
                waiting.append((parent, iter(parents(parent))))
                running.add(parent)
    depths: dict[tuple[str, int], int] = {}
    layer_depths: dict[str, int] = {}
    for key in reversed(finished):
        depth = max(depths.setdefault(key, 0), layer_depths.get(key[0], 0))
        layer_depths[key[0]] = depths[key] = depth
        for parent in parents(key):
            depths[parent] = max(depth + 1, depths.get(parent, 0))
    by_depth = sorted(depths, key=lambda key: -depths[key])
    return [calls[key] for key in by_depth if key in calls and layers[key[0]].class_name != "InputLayer"]


def _is_reference(entry: object) -> bool:
    return isinstance(entry, list) and bool(entry) and isinstance(entry[0], str)


class _Reader:
    """Reads references to the layers of one model; `offsets` are the numbers at which layers' calls begin, if not 0."""

    def __init__(self, what: str, layers: Mapping[str, LayerConfig]) -> None:
        self.what = what
        self.layers = layers
        self.offsets: dict[str, int] = {}

    def reference(self, what: str, name: object, call: object, output: object, shape: Any = None) -> Reference:
        if not isinstance(name, str) or name not in self.layers:
            raise FormatError(f"{what}: reads from layer {name!r:.80}, which is not in the model")
        offset = self.offsets.get(name, 0)
        if type(call) is not int or type(output) is not int or call < offset or output < 0:
            raise FormatError(f"{what}: expected [layer, call, output], found [{name!r}, {call!r:.40}, {output!r:.40}]")
        known = isinstance(shape, list) and all(size is None or type(size) is int for size in shape)
        return Reference(name, call - offset, output, tuple(shape) if known else None)

    def ends(self, entry: object, key: str) -> list[Reference]:
        """``input_layers`` or ``output_layers``: one, a list or a dict of ``[layer, call, output]``."""
        what = f"{self.what}: {key}"
        found: list[Reference] = []
        waiting = [(entry, 0)]
        while waiting:
            item, depth = waiting.pop()
            if depth > _MAX_DEPTH or len(found) > MAX_LAYERS:
                raise FormatError(f"{what}: nested too deeply, or too many")
            if isinstance(item, list) and len(item) == 3 and isinstance(item[0], str):
                found.append(self.reference(what, *item))
            elif isinstance(item, (list, dict)) and item:
                inner = item if isinstance(item, list) else list(item.values())
                waiting += [(one, depth + 1) for one in reversed(inner)]
            else:
                raise FormatError(f"{what}: expected [layer, call, output] or a list of them, found {item!r:.80}")
        return found

    def call(self, layer: LayerConfig, index: int, node: object) -> Call:
        """One of a layer's ``inbound_nodes``."""
        if isinstance(node, dict) and "args" in node:
            args, kwargs = node.get("args"), node.get("kwargs", {})
            if not isinstance(args, list) or not isinstance(kwargs, dict):
                raise FormatError(f"{layer.what}: inbound_nodes expected args and kwargs, found {node!r:.80}")
            read = [self.argument(layer, item, 0) for item in args]
            return Call(layer, index, tuple(read), {key: self.argument(layer, kwargs[key], 0) for key in kwargs})
        if not isinstance(node, list) or not node:
            raise FormatError(f"{layer.what}: inbound_nodes expected a list of calls, found {node!r:.80}")
        found: list[object] = []
        kwargs = {}
        for entry in [node] if isinstance(node[0], str) else node:
            if layer.class_name == "TFOpLambda" and isinstance(entry, (list, int, float)) and not _is_reference(entry):
                found.append(self.old_argument(entry, 0))  # a constant among tensors
                continue
            if not isinstance(entry, list) or not 3 <= len(entry) <= 4 or not isinstance(entry[0], str):
                raise FormatError(f"{layer.what}: inbound_nodes expected [layer, call, output], found {entry!r:.80}")
            if entry[0] == "_CONSTANT_VALUE":
                found.append(entry[2])
            else:
                found.append(self.reference(layer.what, *entry[:3]))
            if len(entry) == 4 and isinstance(entry[3], dict):
                kwargs |= {key: self.old_argument(entry[3][key], 0) for key in entry[3]}
        return Call(layer, index, (found[0] if len(found) == 1 else found,), kwargs)

    def argument(self, layer: LayerConfig, entry: object, depth: int) -> object:
        """An argument as Keras 3 serialises it."""
        if depth > _MAX_DEPTH:
            raise FormatError(f"{layer.what}: an argument that is nested too deeply")
        if isinstance(entry, list):
            return [self.argument(layer, item, depth + 1) for item in entry]
        if not isinstance(entry, dict):
            return entry
        inner = entry.get("config")
        if entry.get("class_name") == "__keras_tensor__" and isinstance(inner, dict):
            history = inner.get("keras_history")
            if not isinstance(history, list) or len(history) != 3:
                raise FormatError(f"{layer.what}: keras_history expected [layer, call, output], found {history!r:.80}")
            return self.reference(layer.what, history[0], history[1], history[2], inner.get("shape"))
        if entry.get("class_name") == "__slice__" and isinstance(inner, dict):
            return Slice(inner.get("start"), inner.get("stop"), inner.get("step"))
        if entry.get("class_name") == "__tuple__" and isinstance(entry.get("items"), list):
            return [self.argument(layer, item, depth + 1) for item in entry["items"]]
        return {key: self.argument(layer, item, depth + 1) for key, item in entry.items()}

    def old_argument(self, entry: object, depth: int) -> object:
        """An argument as Keras 2 serialises it: a tensor is ``[layer, call, output]``."""
        if depth > _MAX_DEPTH:
            raise FormatError(f"{self.what}: an argument that is nested too deeply")
        if isinstance(entry, list):
            is_tensor = len(entry) in (3, 4) and isinstance(entry[0], str) and entry[0] in self.layers
            if is_tensor and all(type(item) is int for item in entry[1:3]):
                return self.reference(self.what, *entry[:3])
            return [self.old_argument(item, depth + 1) for item in entry]
        if isinstance(entry, dict):
            return {key: self.old_argument(item, depth + 1) for key, item in entry.items()}
        return entry
