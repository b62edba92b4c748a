"""A Keras model's config and weights become a graph: its layers are called one after the other, as Keras calls them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from cylstm.errors import CylstmError, FormatError, ShapeError, UnsupportedError, described
from cylstm.formats.arrays import warn_not_finite
from cylstm.formats.keras.call import (
    Comparison,
    Computed,
    Flow,
    LayerCall,
    Mask,
    NoMask,
    Rebuild,
    shape_text,
    sizes_text,
)
from cylstm.formats.keras.config import MAX_UNITS, LayerConfig, read_object
from cylstm.formats.keras.custom import CustomLayers
from cylstm.formats.keras.layers.recurrent import RECURRENT_LAYERS
from cylstm.formats.keras.layers.table import INSTEAD, LAYERS, has_weights, may_have_weights
from cylstm.formats.keras.masks import mask_behind
from cylstm.formats.keras.network import MODELS, Call, Network, Reference, read_network
from cylstm.formats.keras.operations.network import Operations, sizes_of
from cylstm.formats.keras.operations.table import add_operation
from cylstm.formats.keras.operations.tensorflow import TENSORFLOW_LAYERS, add_tensorflow
from cylstm.formats.keras.weights import Part, Taken, Weights, numbered, take_weights
from cylstm.graph.builder import GraphBuilder, common_steps
from cylstm.graph.graph import Graph
from cylstm.graph.values import Option, StaticTimeNeeded, Value
from cylstm.program.operations.shape import reshape
from cylstm.program.tensor import BATCH_SIZE, Scores, Stack, Tensor, flat

_Made = TypeVar("_Made")
_MAX_NESTING = 50
# calls of layers, also of those in models that are called several times
_MAX_CALLS = 10_000


#: classes of Keras's whose names many a custom layer has too
_COMMON_NAMES = ("Attention", "AdditiveAttention", "MultiHeadAttention")


class Model:
    """A Keras model as its config describes it, and the graph that is made of it.

    The inputs of a graph take any number of steps if they can: only where a layer needs their number in advance, or
    where times of several inputs meet, is the graph built again with the numbers of the config. Which inputs hold
    indices shows when an Embedding reads them.
    """

    def __init__(self, where: str, config: object, version: str, custom_layers: object = None) -> None:
        self.where = where
        self.custom = CustomLayers(where, custom_layers, config, LAYERS.__contains__)
        self.framework_version = version
        number = re.match(r"(\d{1,4})(?:\.(\d{1,4}))?", version)
        if number is None:
            raise FormatError(f"{where}: keras_version expected a version number, found {described(version)}")
        self.version = (int(number[1]), int(number[2] or 0))
        #: tf.keras of TensorFlow 2.0 to 2.3, whose versions are "2.2.4-tf" and the like
        self.is_tensorflow = version.endswith("-tf")
        class_name, inner = read_object(f"{where}: model", config)
        if class_name not in MODELS:
            raise UnsupportedError(
                f"{where}: a model of class {class_name!r}; supported are Sequential and Functional models: a class of "
                "your own is a program, which is not run. Its weights, saved with "
                'model.save_weights("model.weights.h5"), load with layers='
            )
        if class_name != "Sequential" and not isinstance(inner, dict):
            raise FormatError(f"{where}: config expected an object")
        self.network = read_network(where, class_name, inner, self.version)
        if not self.network.calls:
            raise FormatError(f"{where}: a network needs at least one input, one layer and one output")
        #: networks in it by the identity of their config
        self.networks: dict[int, Network] = {}
        self.built_shape = inner.get("build_input_shape") if isinstance(inner, dict) else None

    @property
    def layers(self) -> list[LayerConfig]:
        """The model's own layers, as Keras counts them."""
        return self.network.layers

    def weighted(self, groups: Sequence[str]) -> list[LayerConfig]:
        """The layers that have weights, in a file that has `groups` of them.

        Of a layer that is not known here the file tells, by its name, or else by the number of groups.
        """
        layers = self.network.layers
        unknown = [layer for layer in layers if self.custom.key(layer) is not None or may_have_weights(layer)]
        weighted = [layer for layer in layers if has_weights(layer) and layer not in unknown]
        named = [layer for layer in unknown if layer.name in groups]
        if len(groups) == len(weighted) + len(unknown):
            named = unknown
        return [layer for layer in layers if layer in weighted or layer in named]

    def graph(self, weights: Weights, provenance: Mapping[str, object]) -> Graph:
        """The graph with `weights`; `provenance` has their format and source."""
        self.weights = weights
        self.backend = str(provenance["backend"]) if provenance.get("backend") else None
        self.taken: dict[str, Taken] = {}
        self.used: dict[str, str] = {}
        self.shapes = shapes = self.input_shapes()
        #: input -> `Flow.order`, where the time of any length is not its first axis in Keras
        self.orders: dict[str, tuple[int, ...]] = {}
        for name, shape in shapes.items():
            if len(shape) > 1 and None in shape[1:] and shape.count(None) == 1:
                at = shape.index(None)
                self.orders[name] = tuple(axis + (axis < at) if axis != at else 0 for axis in range(len(shape)))
                shapes[name] = (None, *shape[:at], *shape[at + 1 :])
        #: input -> an input before it whose number of steps it has
        self.times: dict[str, str] = {}
        #: inputs that hold indices, whose number of steps is fixed, that take no mask
        self.special: dict[str, set[str]] = {
            "indices": {name for name, shape in shapes.items() if shape == (None,)},
            "fixed": set(),
            "unmasked": set(self.orders),
        }
        while True:
            try:
                self.build(shapes)
                break
            except Rebuild as needed:
                for kind, names in needed.inputs.items():
                    if kind == "one_time":
                        self.join_times(set(names))
                    else:
                        self.special[kind].update(names)
        left = weights.left(set(self.used))
        if left:
            raise FormatError(f"{self.where}: weights that belong to no layer of the config: {', '.join(left[:40])}")
        warn_not_finite(self.where, {name: weight.array for name, weight in self.taken.items()})
        told = {
            "format": None,
            "version": None,
            "framework_version": self.framework_version,
            "backend": None,
            **provenance,
            "layouts": {name: weight.storage for name, weight in self.taken.items()},
            "tensors": self.used,
        }
        graph = self.builder.build(provenance=told)
        window = None
        if not self.stateful:
            window = common_steps(shapes[name][0] for name in graph.inputs if graph.values[name].has_time)
        layouts = {name: "0" for name in graph.outputs if name in self.custom.bare}
        layouts |= {name: "".join(map(str, order)) for name, order in self.orders.items()}
        layouts |= self.operations.layouts
        return graph._replace(window=window, stateful=tuple(self.stateful), layouts=layouts)

    def build(self, shapes: Mapping[str, tuple[int | None, ...]]) -> None:
        """One try. Raises `Rebuild` if the inputs are of another kind."""
        self.builder = GraphBuilder()
        self.operations = Operations(self.builder, self.whole_inputs(), self.share_time)
        self.custom.bare.clear()
        self.shared: dict[tuple[tuple[object, ...], str], dict[str, str]] = {}
        self.masks: dict[tuple[str, float], Value] = {}
        self.permuted: dict[tuple[str, str], Value] = {}
        self.known_steps = {name: shape[0] for name, shape in shapes.items() if shape and shape[0] is not None}
        self.origins: dict[str, frozenset[str]] = {}
        #: layers of layers with stateful=True
        self.stateful: list[str] = []
        self.nesting = 0
        self.count = 0
        flows = []
        for name, shape in shapes.items():
            is_index = name in self.special["indices"]
            has_time = is_index or len(shape) > 1
            inner = shape[1:] if has_time else shape
            if not shape or not all(size is not None and 0 < size <= MAX_UNITS for size in inner) or len(shape) > 8:
                raise UnsupportedError(
                    f"{self.where}: input {name!r}: shape expected (batch, features), (batch, time, features) or "
                    "(batch, time, [rows,] columns, channels) of which one axis alone may have any size, or (batch, "
                    f"time) for an Embedding; found {sizes_text(shape)}"
                )
            if has_time and not self.special["fixed"].intersection(self.inputs_with(self.times.get(name, name))):
                shape = (None, *inner)
            value = self.builder.input(
                name,
                shape,
                masked=name not in self.special["unmasked"],
                indices=is_index,
                time_of=self.times.get(name) if None in shape else None,
            )
            if value.mask is not None:
                self.origins[value.mask] = frozenset([name])
            mask = None if value.mask is None else self.builder.value(value.mask)
            flows.append(Flow(value, Mask(mask), self.orders.get(name, ())))
        outputs = self.run(self.network, flows, [])
        made: list[Value] = []
        for k, output in enumerate(outputs):
            later = [one.value.name for one in outputs[k + 1 :] if isinstance(one, Flow)]
            if isinstance(output, Computed):
                value = self.output_of(output, [*shapes, *(one.name for one in made), *later])
            else:
                value = output.value
                order = "".join(map(str, output.order))
                if value.name in shapes or value in made or value.name in later:
                    # an output of a graph is made by a layer, and is one output only
                    name = f"{value.name.rpartition('.')[0] or value.name}.output"
                    copied = self.builder.add("activation", name, {"x": value})["y"]
                    if value.name in self.custom.bare:
                        self.custom.bare.add(copied.name)
                    value = copied
                if not output.is_natural:
                    self.operations.layouts[value.name] = order
            made.append(value)
        for value in made:
            self.builder.output(value)
        graph = self.builder.build()
        read = {name for layer in graph.layers for name in layer.inputs.values()}
        masked = {name for name in graph.inputs if graph.values[name].mask is not None}
        ignored = {name for name in masked if graph.values[name].mask not in read}
        if ignored:
            # predict would refuse a mask that nothing reads
            raise Rebuild(unmasked=ignored)

    # Inputs

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Name -> shape without batch of the inputs, in order."""
        network = self.network
        if network.input_layers:
            return {layer.name: self.shape_of(layer, layer.config)[1:] for layer in network.input_layers}
        first = network.layers[0]
        config = first.config
        if first.class_name in ("Bidirectional", "TimeDistributed") and isinstance(config.get("layer"), dict):
            inner = config["layer"].get("config")
            config = {**inner, **config} if isinstance(inner, dict) else config
        name = "input"
        while any(layer.name == name for layer in network.layers):
            name += "_"
        return {name: self.shape_of(first, config)[1:]}

    def shape_of(self, layer: LayerConfig, config: Mapping[str, object]) -> tuple[int | None, ...]:
        """The input shape, which stands in the InputLayer, the first layer, the first of its own or the model."""
        shape = next(
            (config[key] for key in ("batch_shape", "batch_input_shape") if config.get(key) is not None),
            self.built_shape,
        )
        if shape is None and layer.class_name in MODELS:
            inner = config.get("layers") or config.get("build_input_shape")
            if isinstance(inner, list) and inner and isinstance(inner[0], dict):
                first = layer.inner(inner[0], "layer", may_be_custom=True)
                return self.shape_of(first, first.config)
        if shape is None and layer.class_name == "Embedding":
            shape = [None, config.get("input_length")]
        elif shape is None and "input_dim" in config:
            is_recurrent = layer.class_name in (*RECURRENT_LAYERS, "Bidirectional")
            shape = [None, None, config["input_dim"]] if is_recurrent else [None, config["input_dim"]]
        if not isinstance(shape, list) or not all(size is None or type(size) is int for size in shape) or not shape:
            raise FormatError(f"{self.where}: layer {layer.name!r}: input shape expected a list, found {shape!r}")
        return tuple(shape)

    # Calls

    def run(
        self, network: Network, flows: Sequence[Flow], path: Sequence[str], outer: LayerCall | None = None
    ) -> list[Flow | Computed]:
        """The outputs of a network; `path` are the names of the models it is in, `outer` its call in the outer one."""
        if self.nesting >= _MAX_NESTING:
            raise UnsupportedError(f"{network.what}: models in models more than {_MAX_NESTING} deep are not supported")
        self.nesting += 1
        made: dict[tuple[str, int], list[Any]] = {}
        for reference, flow in zip(network.inputs, flows, strict=True):
            made[reference.layer, reference.call] = [flow]
        groups = dict(
            zip(
                [layer.name for layer in network.layers],
                enumerate(numbered([layer.class_name for layer in network.layers])),
                strict=True,
            )
        )
        for call in network.calls:
            name = "/".join((*path, call.layer.name))
            owner, within = call.layer, Part()
            if outer is not None:
                owner = outer.owner
                if not call.layer.is_operation:
                    position, group = groups[call.layer.name]
                    within = Part(
                        (*outer.within.path, "layers", group),
                        (*outer.within.attributes, "layers", position),
                        (),
                        (*outer.within.below, outer.layer.name, call.layer.name),
                    )
            first = 0 if outer is None else outer.first
            made[call.layer.name, call.index] = self.call(network, call, made, name, owner, within, first)
        self.nesting -= 1
        outputs: list[Flow | Computed] = []
        for reference in network.outputs:
            found = made[reference.layer, reference.call]
            for output in found if reference.output == -1 else [self.resolve(network.what, reference, made, first)]:
                if not isinstance(output, (Flow, Computed)):
                    raise UnsupportedError(f"{network.what}: layer {reference.layer!r}: a mask cannot be an output")
                outputs.append(output)
        return outputs

    def call(
        self,
        network: Network,
        call: Call,
        made: Mapping[tuple[str, int], list[Any]],
        name: str,
        owner: LayerConfig,
        within: Part,
        first: int,
    ) -> list[Any]:
        """The outputs of one call."""
        layer = call.layer
        self.count += 1
        if self.count > _MAX_CALLS:
            raise UnsupportedError(f"{layer.what}: more than {_MAX_CALLS} calls of layers are not supported")

        def given(entry: object) -> Any:
            if isinstance(entry, Reference):
                return self.resolve(layer.what, entry, made, first)
            if isinstance(entry, list):
                return [given(item) for item in entry]
            if isinstance(entry, dict):
                return {key: given(item) for key, item in entry.items()}
            return entry

        args = [given(item) for item in call.args]
        kwargs = {key: given(item) for key, item in call.kwargs.items()}
        self.refuse_bare_times(layer, [args, list(kwargs.values())])
        add = _adder(layer)
        if add is not None:
            one = LayerCall(self, layer, name, owner, within, [], arguments=kwargs, first=first)
            return self.watched(one, [*args, *kwargs.values()], lambda: add(self.operations, one, args))
        kind = None if self.custom.key(layer) is not None else LAYERS.get(layer.class_name)
        names = () if kind is None else kind.arguments
        if not args:
            keys = ["inputs", "sequences", "query", "input"]
            if kind is None:
                keys += [key for key, one in kwargs.items() if isinstance(one, (Flow, Computed)) and key not in keys]
            key = next((key for key in keys if key in kwargs), None)
            if key is None:
                raise FormatError(f"{layer.what}: is called without an input")
            args = [kwargs.pop(key)]
        if kind is None and len(args) > 1 and all(isinstance(one, (Flow, Computed)) for one in args):
            args = [args]  # the function of a custom layer takes a list
        if len(args) - 1 > len(names):
            raise UnsupportedError(f"{layer.what}: is called with {len(args)} arguments, expected {1 + len(names)}")
        kwargs |= dict(zip(names, args[1:], strict=False))
        if kwargs.get("training"):
            raise UnsupportedError(f"{layer.what}: argument training=True is not supported; leave it out")
        for name_of_argument, value in kwargs.items():
            if kind is not None and name_of_argument not in names and value not in (None, False):
                raise UnsupportedError(f"{layer.what}: argument {name_of_argument}={value!r:.80} is not supported")
        reading = LayerCall(self, layer, name, owner, within, [], first=first)
        args[0] = self.watched(reading, args, lambda: self.read(args[0], first))
        read = {key: one for key, one in kwargs.items() if "mask" not in key}
        kwargs |= self.watched(reading, read, lambda: self.read(read, first))
        is_list = isinstance(args[0], (list, dict))
        flows = list(args[0].values()) if isinstance(args[0], dict) else args[0] if is_list else [args[0]]
        if isinstance(args[0], dict):
            kwargs["input names"] = list(args[0])
        for flow in flows:
            if not isinstance(flow, Flow):
                raise UnsupportedError(f"{layer.what}: expected a tensor as input, found {flow!r:.80}")
        one = LayerCall(self, layer, name, owner, within, flows, is_list, kwargs, first, call.is_last)
        return self.watched(one, [flows, kwargs], lambda: self.call_layer(one))

    def watched(self, call: LayerCall, given: object, add: Callable[[], _Made]) -> _Made:
        """``add()``; if it needs a number of steps, the graph is built again with those that the config gives."""
        try:
            return add()
        except ShapeError as error:
            self.fix_steps(given, error)
            if f"'{call.layer.name}" in str(error):
                raise type(error)(f"{self.where}: {error}" if self.where not in str(error) else str(error)) from error
            raise ShapeError(f"{call.what}: {error}") from error

    def fix_steps(self, given: object, error: ShapeError) -> None:
        """Raise `Rebuild` if the config gives a number of steps of what is in a nest of arguments, not yet used."""
        sources = frozenset(value.axis.source for value in _values(given) if value.axis is not None)
        missing = frozenset(name for name in sources if name in self.known_steps) - self.special["fixed"]
        if missing:
            raise Rebuild(fixed=missing) from error

    def output_of(self, computed: Computed, taken: Sequence[str]) -> Value:
        """An output that an operation computes."""
        try:
            return self.operations.output_of(computed, taken)
        except ShapeError as error:
            self.fix_steps(computed, error)
            raise type(error)(f"{computed.what}: {error}" if self.where not in str(error) else str(error)) from error

    def resolve(self, what: str, reference: Reference, made: Mapping[tuple[str, int], list[Any]], first: int) -> object:
        """The tensor that a reference names, whose shape, from axis `first` on, must be the one that Keras recorded."""
        found = made[reference.layer, reference.call]
        if reference.output >= len(found):
            raise FormatError(
                f"{what}: reads output {reference.output} of layer {reference.layer!r}, which has {len(found)}"
            )
        flow = found[reference.output]
        shape: tuple[Any, ...] | None = None
        if isinstance(flow, Flow):
            shape = flow.shape[first : 1 if flow.value.name in self.custom.bare else None]
        elif isinstance(flow, Computed) and hasattr(flow.made, "shape"):
            shape = sizes_of(flow.made)
        if shape is not None and reference.shape is not None:
            expected = reference.shape[1:]
            if len(expected) != len(shape) or any(
                a is not None and b is not None and a != b for a, b in zip(expected, shape, strict=True)
            ):
                raise FormatError(
                    f"{what}: its input from layer {reference.layer!r} is {sizes_text(shape)}, and the config "
                    f"says {sizes_text(expected)}"
                )
        return flow

    def read(self, given: Any, first: int = 0) -> Any:
        """An argument of a layer: results of operations in it as what layers read."""
        if isinstance(given, Computed):
            return self.operations.flow_of(given, first)
        if isinstance(given, list):
            return [self.read(one, first) for one in given]
        if isinstance(given, dict):
            return {key: self.read(one, first) for key, one in given.items()}
        return given

    def whole_inputs(self) -> dict[str, str]:
        """Input -> the type of numbers that its config gives, where that is none of floating-point numbers."""
        found: dict[str, str] = {}
        for layer in self.network.input_layers:
            dtype = str(layer.config.get("dtype"))
            if dtype == "bool" or dtype.startswith(("int", "uint")):
                found[layer.name] = "bool" if dtype == "bool" else "int"
        return found

    def refuse_bare_times(self, layer: LayerConfig, given: object) -> None:
        """Raise `StaticTimeNeeded` if a layer of Keras's reads a time of any length without features."""
        found = [value for value in _values(given) if value.name in self.custom.bare]
        if found and self.custom.key(layer) is None:
            assert found[0].axis is not None
            if found[0].axis.source in self.known_steps:
                raise Rebuild(fixed=[found[0].axis.source])
            raise StaticTimeNeeded(
                f"{layer.what}: reads (batch, time) of {found[0].name!r}, which needs the number of steps in advance: "
                "say it in the shape of the input"
            )

    # What the layers use

    def call_layer(self, call: LayerCall) -> list[Flow]:
        layer = call.layer
        if self.custom.key(layer) is not None:
            tensors = self.weights.all_tensors(call.owner, call.within)
            call = call.natural()
            flows = self.custom.add(call, self.builder, tensors, self.taken, self.operations.whole, self.share_time)
            self.used |= {tensor.name: f"{call.name}/{role}" for role, tensor in tensors.items()}
            return flows
        kind = LAYERS.get(layer.class_name)
        if kind is None:
            name = layer.class_name
            why = f"layers of class {name} are not supported"
            if layer.is_custom:
                why = (
                    f"{layer.class_name!r} of module {layer.module!r} is not one of Keras's own; custom objects are "
                    "not supported: they are programs, and nothing of a file is run"
                )
            elif name in INSTEAD:
                why += f"; {INSTEAD[name]}"
            try:
                tensors = self.weights.all_tensors(call.owner, call.within)
            except (CylstmError, LookupError):
                tensors = {}
            raise self.custom.refusal(call, why, tensors)
        if not kind.any_order:
            call = call.natural()
        try:
            made = kind.add(call)
        except (FormatError, UnsupportedError) as error:
            if layer.module or layer.class_name not in _COMMON_NAMES:
                raise
            raise type(error)(
                f"{error}. The file does not say whose class this is; if it is one of your own, say what it computes "
                f'with custom_layers={{"{layer.class_name}": function}}'
            ) from error
        if isinstance(made, list):
            return made
        return call.result(made, mask_behind(call), call.flows[0].order if kind.any_order else ())

    def call_network(self, call: LayerCall) -> list[Flow]:
        layer = call.layer
        if id(layer.config) not in self.networks:
            network = read_network(layer.what, layer.class_name, layer.config, layer.version)
            self.networks[id(layer.config)] = network
        network = self.networks[id(layer.config)]
        flows = call.flows
        names = call.arguments.get("input names")
        if names is not None:
            order = [reference.layer for reference in network.inputs]
            if sorted(names) != sorted(order):
                raise FormatError(f"{call.what}: expected the inputs {', '.join(order)}, found {', '.join(names)}")
            flows = [flows[names.index(name)] for name in order]
        if len(flows) != len(network.inputs):
            raise FormatError(f"{call.what}: expected {len(network.inputs)} inputs, found {len(flows)}")
        if call.first and len(network.inputs) != 1:
            raise UnsupportedError(f"{call.what}: a model of several inputs inside TimeDistributed is not supported")
        given = call.arguments.get("mask")
        if given is not None:
            masks = call.listed_masks() if isinstance(given, list) else [call.as_mask(given)]
            flows = [replace(flow, mask=Mask(mask)) for flow, mask in zip(flows, masks, strict=False)] + flows[
                len(masks) :
            ]
        for flow, entry in zip(flows, network.input_layers, strict=False):
            expected = self.shape_of(entry, entry.config)[1:]
            shape = flow.shape[call.first :]
            if len(expected) != len(shape) or any(a and b and a != b for a, b in zip(expected, shape, strict=True)):
                raise FormatError(
                    f"{call.what}: expected an input {sizes_text(expected)}, found {sizes_text(flow.shape)}"
                )
        made = self.run(network, flows, call.name.split("/"), call)
        return [self.read(one, call.first) for one in made]

    @property
    def noise(self) -> dict[str, Mapping[str, Option]]:
        return self.builder.noise

    def add_layer(
        self,
        key: tuple[object, ...],
        kind: str,
        name: str,
        inputs: Mapping[str, Value | None],
        weights: Mapping[str, np.ndarray] | None,
        options: Mapping[str, Option] | None,
    ) -> dict[str, Value]:
        if kind == "mask_merge":
            made = self.builder.add(kind, name, inputs, weights, options)
            merged = [mask for mask in inputs.values() if mask is not None]
            origins = [self.origins.get(mask.name, frozenset()) for mask in merged]
            self.origins[made["mask"].name] = frozenset().union(*origins) if all(origins) else frozenset()
            return made
        if kind == "merge" and not ((options or {}).get("mode") == "concat" and self.is_along_time(inputs, options)):
            self.share_time([value for value in inputs.values() if value is not None])
        known = self.shared.get((key, name))
        if known is not None:
            return self.builder.add(kind, name, inputs, known, options)
        made = self.builder.add(kind, name, inputs, weights, options)
        if weights:
            self.shared[key, name] = {role: f"{made['y'].name}.{role}" for role in weights}
        return made

    @staticmethod
    def is_along_time(inputs: Mapping[str, Value | None], options: Mapping[str, Option] | None) -> bool:
        """Whether a merge joins its inputs along the time."""
        first, axis = inputs["x"], (options or {}).get("axis", -1)
        return first is not None and first.has_time and axis in (0, -len(first.shape))

    def inputs_of(self, mask: Value | NoMask) -> frozenset[str]:
        return mask.inputs if isinstance(mask, NoMask) else self.origins.get(mask.name, frozenset())

    def mask_of(self, value: Value, number: float, where: str) -> Value:
        key = (value.name, float(number))
        if key not in self.masks:
            if value.kind == "index":
                if number != int(number) or number < 0 or len(value.shape) != 1:
                    raise UnsupportedError(f"{where}: a mask of indices {shape_text(value)} that are not {number}")
                made = self.builder.add(
                    "index_mask", f"{value.name}.counts", {"indices": value}, options={"padding": int(number)}
                )
            elif value.kind == "sequence" and len(value.shape) == 2:
                name = f"{value.name}.counts"
                made = self.builder.add("masking", name, {"x": value}, options={"mask_value": float(number)})
            elif self.is_input(value):
                raise Rebuild(indices=[value.name])
            else:
                raise UnsupportedError(f"{where}: a mask of {shape_text(value)}; of (batch, time, features) it is")
            self.masks[key] = made["mask"]
        return self.masks[key]

    def is_input(self, value: Value) -> bool:
        return value.name in self.shapes

    def share_time(self, values: Sequence[Value]) -> None:
        """Raise `Rebuild` for inputs whose times meet step by step: they are one, unless the config says otherwise."""
        axes = [value.axis for value in values if value.axis is not None]
        sources = {axis.source for axis in axes}
        if len(sources) > 1 and len({axis.rules for axis in axes}) == 1:
            steps = {self.shapes[name][0] for source in sources for name in self.inputs_with(source)}
            if len(steps) == 1 and 1 not in steps:
                raise Rebuild(one_time=sources)

    def inputs_with(self, source: str) -> list[str]:
        """The inputs that have the time of an input."""
        return [source, *(name for name, other in self.times.items() if other == source)]

    def join_times(self, sources: set[str]) -> None:
        """From now on the times of these inputs are that of the first."""
        first = next(name for name in self.shapes if name in sources)
        joined = [name for source in sources for name in self.inputs_with(source)]
        self.times |= dict.fromkeys([name for name in joined if name != first], first)

    @property
    def is_archive(self) -> bool:
        return self.weights.is_archive

    def flow_of(self, given: Flow | Computed) -> Flow:
        flow = given if isinstance(given, Flow) else self.operations.flow_of(given, 0)
        return self.arranged(flow, range(len(flow.order)))

    def arranged(self, flow: Flow, order: Sequence[int]) -> Flow:
        wanted = tuple(order)
        if wanted == flow.order:
            return flow
        digits = "".join(str(flow.order[wanted.index(axis)]) for axis in range(len(wanted)))
        key = (flow.value.name, digits)
        if flow.value.axis is not None and digits[0] != "0":
            raise StaticTimeNeeded(
                f"needs the number of steps in advance, as they are not the first axis of {sizes_text(flow.shape)} "
                "or do not stay there: say it in the shape of the input, or put a Permute before"
            )
        if key not in self.permuted:
            name = f"{flow.value.name}.axes{digits}"
            self.permuted[key] = self.builder.add("permute", name, {"x": flow.value}, options={"order": digits})["y"]
        return Flow(self.permuted[key], flow.mask, wanted)

    def reshaped(self, call: LayerCall, sizes: Sequence[int]) -> Flow:
        made = self.operations.add(call, lambda net, x: reshape(net, x, [BATCH_SIZE, *sizes]), [call.flow], {})
        return self.operations.flow_of(Computed(call.name, call.what, lambda: made), call.first)

    def mask_of_numbers(self, given: Flow | Computed, what: str) -> Value:
        tensor = given.tensor if isinstance(given, Computed) else self.operations.tensor_of(given, 0)
        if isinstance(given, Computed):
            return self.operations.mask_of(tensor, what, given.name)
        return self.operations.mask_of(tensor, what, given.value.name)

    def take(
        self,
        layer: LayerConfig,
        parts: Sequence[Part],
        index: int,
        shapes: Mapping[str, tuple[int, ...]],
        roles: Mapping[str, str],
        *,
        cudnn_bias: int | None = None,
        ignored: Sequence[str] = (),
        integers: Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        """Keras role -> array of ``parts[index]`` of a layer; their number and shapes are those of the config.

        `roles` says what each becomes, for the provenance; `cudnn_bias` is the length of the bias by which
        the weights of a CuDNN layer are recognised and converted; those `ignored` exist but are not used; those of
        `integers` hold whole numbers.
        """
        if not shapes:
            return {}
        taken = take_weights(
            self.weights,
            layer,
            parts,
            index,
            shapes,
            self.taken,
            cudnn_bias=cudnn_bias,
            ignored=ignored,
            integers=integers,
        )
        self.used |= {weight.name: roles[role] for role, weight in taken.items()}
        return {role: weight.array for role, weight in taken.items() if role not in ignored}


def _adder(layer: LayerConfig) -> Callable[[Operations, LayerCall, Sequence[Any]], list[Any]] | None:
    """What adds an operation that Keras writes like a layer; None for a layer."""
    if layer.is_operation:
        return add_operation
    if layer.class_name == "TensorFlowOpLayer":
        from cylstm.formats.keras.operations.op_layers import add_op_layer

        return add_op_layer
    return add_tensorflow if layer.class_name in TENSORFLOW_LAYERS else None


def _values(nest: object) -> list[Value]:
    """All values in a nest of arguments."""
    if isinstance(nest, Flow):
        return [nest.value]
    if isinstance(nest, Comparison):
        return _values(nest.given)
    if isinstance(nest, Computed):
        return _values(nest.mask) + [value for one in flat(nest.made) for value in _values(one)]
    if isinstance(nest, Tensor):
        return [nest.value]
    if isinstance(nest, Scores):
        return [nest.query.value, nest.key.value]
    if isinstance(nest, Stack):
        return [one.value for one in nest.parts]
    if isinstance(nest, Value):
        return [nest]
    if isinstance(nest, dict):
        nest = list(nest.values())
    return [value for item in nest for value in _values(item)] if isinstance(nest, list) else []
