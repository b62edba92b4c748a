"""Keras models: ``.keras`` archives (Keras 3, and 2.12 on), legacy ``.h5`` files, and live models.

Neither Keras nor TensorFlow is needed; reading a file needs h5py. A model's JSON config says what its layers are,
and the weights stand in HDF5: in a ``.keras`` archive under the class names in snake case with a counter per class,
in an ``.h5`` file under names listed in attributes. Keras's LSTM has the gates i, f, c, o, which is the graph's
order; ``kernel`` (input, 4*units), ``recurrent_kernel`` (units, 4*units) and ``bias`` (4*units,).
"""

from __future__ import annotations

import contextlib
import io
import math
import mmap
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..activations import activation_options
from ..errors import CylstmError, FormatError, UnsupportedError
from ..graph import Graph, GraphBuilder, Value
from ..layers import Layer
from ..layers.merge import MERGE_MODES
from ._arrays import as_numpy, bfloat16_bits_to_float32, shape_text, warn_not_finite
from ._json import parse_json
from ._zip import Archive

_MAX_CONFIG_BYTES = 64 << 20
_MAX_WEIGHTS_BYTES = 16 << 30
_MAX_UNITS = 1_000_000
_MAX_LAYERS = 10_000
_MAX_PATH_PARTS = 32
_MAX_DATASETS = 100_000
# What compression may save, and what an unwritten chunked dataset may claim without storing a byte.
_MAX_STORED_RATIO = 1000
# The first bytes of a global heap collection, version 1.
_HEAP = b"GCOL\x01\0\0\0"
# deflate, shuffle, fletcher32, lzf: those built into h5py; a plugin's filter would load a library
_HDF5_FILTERS = {1, 2, 3, 32000}

#: Keras's activations by name -> ours, alpha, beta (None: the default). hard_sigmoid depends on the version.
_ACTIVATIONS: dict[str, tuple[str, float | None, float | None]] = {
    **{
        name: (name, None, None)
        for name in (
            "linear",
            "tanh",
            "sigmoid",
            "relu",
            "elu",
            "selu",
            "softplus",
            "softsign",
            "silu",
            "swish",
            "gelu",
            "exponential",
            "softmax",
            "relu6",
            "hard_tanh",
        )
    },
    "leaky_relu": ("leaky_relu", 0.2, None),
}

# Options that change nothing at inference.
_INERT = {
    "name", "trainable", "dtype", "batch_input_shape", "batch_shape", "input_dtype", "seed", "input_dim",
    "input_length", "kernel_initializer", "recurrent_initializer", "bias_initializer", "kernel_regularizer",
    "recurrent_regularizer", "bias_regularizer", "activity_regularizer", "kernel_constraint",
    "recurrent_constraint", "bias_constraint", "dropout", "recurrent_dropout", "unit_forget_bias",
    "implementation", "unroll", "stateful", "use_cudnn", "noise_shape", "consume_less", "build_config",
}  # fmt: skip


def read_keras(path: str, layers: Sequence[Layer] | None = None) -> Graph:
    """Read a ``.keras`` archive into a graph.

    Parameters
    ----------
    path : str
    layers : None
        The archive holds its own wiring.

    Raises
    ------
    FormatError
        If the archive is damaged, or its weights do not fit its config.
    UnsupportedError
        If the model has a layer or an option that is not computed, or h5py is missing.
    """
    _refuse_layers(path, layers)
    with Archive(path) as archive:
        for name in ("config.json", "model.weights.h5"):
            if name not in archive.names:
                raise FormatError(f"{path}: {name} is missing; found {', '.join(archive.names[:20])}")
        config = parse_json(archive.read("config.json", _MAX_CONFIG_BYTES), f"{path}: config.json")
        metadata: object = {}
        if "metadata.json" in archive.names:
            metadata = parse_json(archive.read("metadata.json", _MAX_CONFIG_BYTES), f"{path}: metadata.json")
        version = metadata.get("keras_version") if isinstance(metadata, dict) else None
        if not isinstance(version, str):
            raise FormatError(f"{path}: metadata.json names no keras_version")
        model = _Model(path, config, version)
        content = archive.read("model.weights.h5", _MAX_WEIGHTS_BYTES)
        _check_heaps(path, content)
        with _open_hdf5(path, io.BytesIO(content)) as file:
            return model.graph(_ArchiveWeights(path, file, model.layers), "keras", path)


def read_h5(path: str, layers: Sequence[Layer] | None = None) -> Graph:
    """Read a whole model saved as legacy ``.h5`` or ``.hdf5`` into a graph; takes and raises as `read_keras`."""
    _refuse_layers(path, layers)
    with open(path, "rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _check_heaps(path, data)
    with open(path, "rb") as raw, _open_hdf5(path, raw) as file:
        text = _attribute(path, file, "model_config")
        if text is None:
            if "layers" in file or "layer_names" in file.attrs or "_layer_checkpoint_dependencies" in file:
                raise UnsupportedError(
                    f"{path}: weights without the model's config, so their wiring is unknown; save the whole model"
                )
            raise FormatError(f"{path}: an HDF5 file, but not a Keras model: it has no model_config")
        if not isinstance(text, str) or len(text) > _MAX_CONFIG_BYTES:
            raise FormatError(f"{path}: model_config expected text of at most {_MAX_CONFIG_BYTES} bytes")
        group = _child(path, file, "model_weights")
        version = _attribute(path, file, "keras_version") or _attribute(path, group, "keras_version") or "1"
        if not isinstance(version, str):
            raise FormatError(f"{path}: keras_version expected text, found {version!r}")
        model = _Model(path, parse_json(text, f"{path}: model_config"), version)
        return model.graph(_LegacyWeights(path, group, model.layers), "keras h5", path)


def from_keras(model: object) -> Graph:
    """The graph of a live Keras model; its weights are copied. Keras is not imported by this function.

    Raises
    ------
    UnsupportedError
        If the model has a layer or an option that is not computed.
    """
    roots = [kind.__module__.split(".")[0] for kind in type(model).__mro__]
    root = next((name for name in roots if name in ("keras", "tf_keras", "tensorflow")), None)
    if root is None or not hasattr(model, "to_json"):
        raise UnsupportedError(f"from_keras takes a Keras model, found {type(model).__module__}.{type(model).__name__}")
    if not getattr(model, "built", False):
        raise FormatError("from_keras: the model has no weights yet; build it or call it once")
    library = sys.modules.get("keras" if root == "tensorflow" else root, sys.modules[root])
    try:
        text = model.to_json()
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UnsupportedError(f"from_keras: the model cannot be described: {error}") from error
    described = _Model("Keras model", parse_json(text, "Keras model"), library.__version__)
    return described.graph(_LiveWeights(model, described.layers), "keras live", "live model")


def _refuse_layers(path: str, layers: Sequence[Layer] | None) -> None:
    if layers is not None:
        raise FormatError(f"{path}: a Keras model holds its own wiring; leave out layers=")


# The model's config


@dataclass(frozen=True)
class _LayerConfig:
    class_name: str
    name: str
    config: Mapping[str, object]


class _Model:
    """A Sequential model's config, checked layer by layer as the graph is built."""

    def __init__(self, where: str, config: object, version: str) -> None:
        self.where = where
        self.version = version
        number = re.match(r"(\d{1,4})(?:\.(\d{1,4}))?", version)
        if number is None:
            raise FormatError(f"{where}: keras_version expected a version number, found {version!r}")
        self.major_minor = (int(number[1]), int(number[2] or 0))
        class_name, inner = self.object_of("model", config)
        if class_name in ("Functional", "Model"):
            raise UnsupportedError(f"{where}: a Functional model; only Sequential models are supported yet")
        if class_name != "Sequential":
            raise UnsupportedError(
                f"{where}: a model of class {class_name!r}; only Sequential models are supported yet"
            )
        # Before Keras 2.2.3 the config of a Sequential was the list of its layers.
        layers = inner.get("layers") if isinstance(inner, dict) else inner
        if not isinstance(layers, list) or not layers or len(layers) > _MAX_LAYERS:
            raise FormatError(f"{where}: config expected a list of 1 to {_MAX_LAYERS} layers")
        described = [self.layer(entry) for entry in layers]
        self.inputs = [layer for layer in described if layer.class_name == "InputLayer"]
        self.layers = [layer for layer in described if layer.class_name != "InputLayer"]
        if len(self.inputs) > 1 or (self.inputs and described[0] is not self.inputs[0]):
            raise UnsupportedError(f"{where}: an InputLayer elsewhere than first")
        self.built_shape = inner.get("build_input_shape") if isinstance(inner, dict) else None
        names: set[str] = set()
        for layer in described:
            if layer.name in names:
                raise FormatError(f"{where}: two layers are named {layer.name!r}")
            names.add(layer.name)

    def object_of(self, what: str, entry: object) -> tuple[str, object]:
        """Class name and config of a serialised Keras object; anything not Keras's own is refused."""
        if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str) or "config" not in entry:
            raise FormatError(f"{self.where}: {what}: expected an object with class_name and config")
        class_name, module, registered = entry["class_name"], entry.get("module"), entry.get("registered_name")
        ours = module is None or (
            isinstance(module, str) and module.split(".")[0] in ("keras", "tf_keras", "tensorflow", "builtins")
        )
        if not ours or ">" in class_name or (registered is not None and registered != class_name):
            raise UnsupportedError(
                f"{self.where}: {what}: {registered or class_name!r} of module {module!r} is not one of Keras's own; "
                "custom objects are not supported"
            )
        return class_name, entry["config"]

    def layer(self, entry: object) -> _LayerConfig:
        class_name, config = self.object_of("a layer", entry)
        if not isinstance(config, dict):
            raise FormatError(f"{self.where}: a {class_name} layer without a config")
        name = config.get("name", entry.get("name"))
        if not isinstance(name, str) or not name:
            raise FormatError(f"{self.where}: a {class_name} layer without a name")
        dtype = config.get("dtype")
        if isinstance(dtype, dict) and dtype.get("class_name") not in ("DTypePolicy", "Policy"):
            raise UnsupportedError(f"{self.where}: layer {name!r}: dtype policy {dtype.get('class_name')!r}")
        return _LayerConfig(class_name, name, config)

    # The graph

    def graph(self, weights: _Weights, format_: str, source: str) -> Graph:
        self.weights = weights
        self.builder = GraphBuilder()
        self.used: dict[str, str] = {}
        self.arrays: dict[str, np.ndarray] = {}
        value = self.add_input()
        for layer in self.layers:
            value = self.add(layer, value)
        self.builder.output(value)
        left = weights.left(set(self.used))
        if left:
            raise FormatError(f"{self.where}: weights that belong to no layer of the config: {', '.join(left[:40])}")
        warn_not_finite(self.where, self.arrays)
        provenance = {
            "format": format_,
            "version": None,
            "framework_version": self.version,
            "source": source,
            "tensors": self.used,
        }
        return self.builder.build(provenance=provenance)

    def add_input(self) -> Value:
        """The input, whose shape stands in the InputLayer, the first layer or the model, by version."""
        first = self.inputs[0] if self.inputs else self.layers[0] if self.layers else None
        if first is None:
            raise FormatError(f"{self.where}: a model without layers")
        config = first.config
        if first.class_name == "Bidirectional" and isinstance(config.get("layer"), dict):
            inner = config["layer"].get("config")
            config = {**inner, **config} if isinstance(inner, dict) else config
        shape = next(
            (config[key] for key in ("batch_shape", "batch_input_shape") if config.get(key) is not None),
            self.built_shape,
        )
        if shape is None and "input_dim" in config:
            shape = [None, None, config["input_dim"]] if first.class_name == "LSTM" else [None, config["input_dim"]]
        if not isinstance(shape, list) or not all(size is None or type(size) is int for size in shape):
            raise FormatError(f"{self.where}: layer {first.name!r}: input shape expected a list, found {shape!r}")
        if len(shape) not in (2, 3) or shape[-1] is None or not 0 < shape[-1] <= _MAX_UNITS:
            raise UnsupportedError(
                f"{self.where}: layer {first.name!r}: input shape expected (batch, features) or "
                f"(batch, time, features) with a fixed number of features, found {shape}"
            )
        name = self.inputs[0].name if self.inputs else "input"
        while any(layer.name == name for layer in self.layers):
            name += "_"
        # A fixed number of steps is not kept: the layers supported here work on any.
        return self.builder.input(name, (shape[-1],) if len(shape) == 2 else (None, shape[-1]))

    def add(self, layer: _LayerConfig, value: Value) -> Value:
        method = {
            "LSTM": self.add_lstm,
            "Bidirectional": self.add_bidirectional,
            "Dense": self.add_dense,
            "Dropout": self.add_dropout,
        }.get(layer.class_name)
        if method is not None:
            return method(layer, value)
        if layer.class_name == "Activation":
            self.options_of(layer, {"activation"})
            options = self.activation(layer, "activation")
        elif layer.class_name in _ACTIVATION_LAYERS:
            options = activation_options(
                "activation", *self.activation_layer(layer, value.kind), where=self.what(layer)
            )
        else:
            raise UnsupportedError(f"{self.what(layer)}: layers of class {layer.class_name} are not supported yet")
        return self.builder.add("activation", layer.name, {"x": value}, options=options)["y"]

    def add_dropout(self, layer: _LayerConfig, value: Value) -> Value:
        self.options_of(layer, {"rate"})
        rate = self.number(layer, "rate", 0.5)
        return self.builder.add("dropout", layer.name, {"x": value}, options={"rate": rate})["y"]

    def add_dense(self, layer: _LayerConfig, value: Value) -> Value:
        self.options_of(layer, {"units", "use_bias", "activation"})
        units, bias = self.units(layer), self.flag(layer, "use_bias", True)
        options = self.activation(layer, "activation")
        shapes = {"kernel": (value.features, units)} | ({"bias": (units,)} if bias else {})
        arrays = self.take(layer, None, layer.name, shapes, {"kernel": "weight", "bias": "bias"})
        weights = {"weight": arrays["kernel"].T}
        if bias:
            weights["bias"] = arrays["bias"]
        return self.builder.add("dense", layer.name, {"x": value}, weights, options)["y"]

    def add_lstm(self, layer: _LayerConfig, value: Value) -> Value:
        if self.flag(layer, "go_backwards", False):
            raise UnsupportedError(f"{self.what(layer)}: option go_backwards is supported inside Bidirectional only")
        sequences = self.flag(layer, "return_sequences", False)
        zero = self.flag(layer, "zero_output_for_mask", False)
        if zero and not sequences:
            raise UnsupportedError(
                f"{self.what(layer)}: option zero_output_for_mask without return_sequences is not supported"
            )
        outputs = self.lstm_node(layer, layer, None, layer.name, value, reverse=False, padding_zero=zero)
        return outputs["y" if sequences else "h"]

    def add_bidirectional(self, layer: _LayerConfig, value: Value) -> Value:
        self.options_of(layer, {"merge_mode", "layer", "backward_layer"})
        mode = layer.config.get("merge_mode", "concat")
        if not isinstance(mode, str) or mode not in MERGE_MODES:
            raise UnsupportedError(
                f"{self.what(layer)}: option merge_mode expected one of {', '.join(MERGE_MODES)}, found {mode!r}"
            )
        forward = self.layer(layer.config.get("layer"))
        backward = forward
        if layer.config.get("backward_layer") is not None:
            backward = self.layer(layer.config["backward_layer"])
        for inner in (forward, backward):
            if inner.class_name != "LSTM":
                raise UnsupportedError(f"{self.what(layer)}: Bidirectional of {inner.class_name} is not supported yet")
        if self.flag(forward, "go_backwards", False):
            raise UnsupportedError(f"{self.what(layer)}: option go_backwards of the forward layer is not supported")
        if backward is not forward and not self.flag(backward, "go_backwards", False):
            raise FormatError(f"{self.what(layer)}: the backward layer does not go backwards")
        sequences = self.flag(forward, "return_sequences", False)
        if self.flag(backward, "return_sequences", False) != sequences:
            raise FormatError(f"{self.what(layer)}: return_sequences differs between the two directions")
        # Bidirectional sets zero_output_for_mask itself; Keras before 2.4 (not tf.keras) did not have it yet.
        zero = sequences and (self.major_minor >= (2, 4) or self.version.endswith("-tf"))
        results = [
            self.lstm_node(layer, inner, part, f"{layer.name}.{part}", value, reverse=reverse, padding_zero=zero)
            for inner, part, reverse in ((forward, "forward", False), (backward, "backward", True))
        ]
        first, second = (result["y" if sequences else "h"] for result in results)
        return self.builder.add("merge", layer.name, {"x": first, "x1": second}, options={"mode": mode})["y"]

    def lstm_node(
        self,
        outer: _LayerConfig,
        layer: _LayerConfig,
        part: str | None,
        node: str,
        value: Value,
        *,
        reverse: bool,
        padding_zero: bool,
    ) -> dict[str, Value]:
        known = {"units", "use_bias", "activation", "recurrent_activation", "return_sequences", "return_state"}
        self.options_of(layer, known | {"go_backwards", "zero_output_for_mask", "time_major"})
        for option in ("return_state", "time_major"):
            if self.flag(layer, option, False):
                raise UnsupportedError(f"{self.what(outer)}: option {option} is not supported")
        units, bias = self.units(layer), self.flag(layer, "use_bias", True)
        if value.kind != "sequence":
            raise FormatError(
                f"{self.what(outer)}: expected a sequence as input, found the {value.kind} {value.name!r}; "
                "the layer before needs return_sequences"
            )
        options = {
            **self.activation(layer, "activation"),
            **self.activation(layer, "recurrent_activation"),
            "reverse": reverse,
            "padding": "zero" if padding_zero else "repeat",
        }
        shapes = {"kernel": (value.features, 4 * units), "recurrent_kernel": (units, 4 * units)}
        if bias:
            shapes["bias"] = (4 * units,)
        roles = {"kernel": "weight_ih", "recurrent_kernel": "weight_hh", "bias": "bias"}
        arrays = self.take(outer, part, node, shapes, roles)
        weights = {"weight_ih": arrays["kernel"].T, "weight_hh": arrays["recurrent_kernel"].T}
        if bias:
            weights["bias"] = arrays["bias"]
        return self.builder.add("lstm", node, {"x": value}, weights, options)

    def take(
        self,
        layer: _LayerConfig,
        part: str | None,
        node: str,
        shapes: Mapping[str, tuple[int, ...]],
        roles: Mapping[str, str],
    ) -> dict[str, np.ndarray]:
        """Keras role -> array of one layer or direction; their number and shapes are those of the config."""
        tensors = self.weights.tensors(layer, part, list(shapes))
        found = {}
        for role, shape in shapes.items():
            tensor = tensors[role]
            if tensor.shape != shape:
                if role == "bias" and tensor.shape == (2 * shape[0],) and len(shapes) == 3:
                    raise UnsupportedError(f"{self.what(layer)}: weights of a CuDNNLSTM are not supported yet")
                raise FormatError(
                    f"{self.what(layer)}, tensor {tensor.name!r}: expected shape {shape_text(shape)}, "
                    f"found {shape_text(tensor.shape)}"
                )
            found[role] = tensor.read()
            if found[role].dtype.kind != "f":
                raise FormatError(
                    f"{self.what(layer)}, tensor {tensor.name!r}: expected floating-point numbers, "
                    f"found {found[role].dtype}"
                )
            self.used[tensor.name] = f"{node}/{roles[role]}"
            self.arrays[tensor.name] = found[role]
        return found

    # Options

    def what(self, layer: _LayerConfig) -> str:
        return f"{self.where}: layer {layer.name!r} ({layer.class_name})"

    def options_of(self, layer: _LayerConfig, known: set[str]) -> None:
        """Refuse an option that is neither known nor inert, unless it is off."""
        for key, option in layer.config.items():
            if key not in known and key not in _INERT and option not in (None, False):
                raise UnsupportedError(f"{self.what(layer)}: option {key}={option!r:.80} is not supported")

    def flag(self, layer: _LayerConfig, key: str, default: bool) -> bool:
        value = layer.config.get(key, default)
        if not isinstance(value, bool):
            raise FormatError(f"{self.what(layer)}: option {key} expected true or false, found {value!r:.80}")
        return value

    def units(self, layer: _LayerConfig) -> int:
        value = layer.config.get("units", layer.config.get("output_dim"))
        if type(value) is not int or not 0 < value <= _MAX_UNITS:
            raise FormatError(f"{self.what(layer)}: option units expected 1 to {_MAX_UNITS}, found {value!r:.80}")
        return value

    def number(self, layer: _LayerConfig, key: str, default: float | None) -> float:
        """A number; some Keras versions wrote it as an array of rank 0."""
        value = layer.config.get(key, default)
        if isinstance(value, dict) and value.get("type") == "ndarray":
            value = value.get("value")
        elif isinstance(value, dict) and value.get("class_name") == "__numpy__" and isinstance(value["config"], dict):
            value = value["config"].get("value")
        if type(value) not in (int, float):
            raise FormatError(f"{self.what(layer)}: option {key} expected a number, found {value!r:.80}")
        return float(value)

    def activation(self, layer: _LayerConfig, slot: str) -> dict[str, object]:
        """Node options of ``layer.config[slot]``: a name, or a serialised function or activation layer."""
        what = f"{self.what(layer)}, option {slot!r}"
        if slot not in layer.config:
            # Its default has changed between versions, so every version has written it.
            raise FormatError(f"{what}: missing in the config")
        found = layer.config[slot]
        if isinstance(found, dict):
            if not isinstance(found.get("class_name"), str):
                raise UnsupportedError(f"{what}: a custom function, which is not supported")
            class_name, config = self.object_of(what, found)
            if class_name in _ACTIVATION_LAYERS and isinstance(config, dict):
                inner = _LayerConfig(class_name, layer.name, config)
                return activation_options(slot, *self.activation_layer(inner, "gate"), where=what)
            if class_name != "function":
                raise UnsupportedError(f"{what}: {class_name} is not supported")
            found = config
        if found is None:
            found = "linear"
        if not isinstance(found, str):
            raise UnsupportedError(f"{what}: a custom function, which is not supported")
        if found == "hard_sigmoid":
            slope = 0.2 if self.major_minor < (3, 0) else 1.0 / 6.0
            return activation_options(slot, "hard_sigmoid", slope, 0.5, where=what)
        if found not in _ACTIVATIONS:
            known = ", ".join(sorted([*_ACTIVATIONS, "hard_sigmoid"]))
            raise UnsupportedError(f"{what}: activation {found!r} is not supported; known are {known}")
        return activation_options(slot, *_ACTIVATIONS[found], where=what)

    def activation_layer(self, layer: _LayerConfig, kind: str) -> tuple[str, float | None, float | None]:
        """``(name, alpha, beta)`` of a layer that is one activation function."""
        match layer.class_name:
            case "LeakyReLU":
                self.options_of(layer, {"alpha", "negative_slope"})
                key = "negative_slope" if "negative_slope" in layer.config else "alpha"
                return "leaky_relu", self.number(layer, key, 0.3), None
            case "ELU":
                self.options_of(layer, {"alpha"})
                return "elu", self.number(layer, "alpha", 1.0), None
            case "Softmax":
                self.options_of(layer, {"axis"})
                axis = layer.config.get("axis", -1)
                last = {"sequence": 2, "vector": 1, "state": 1}.get(kind, -1)
                if axis not in (-1, last, [-1], [last]):
                    raise UnsupportedError(f"{self.what(layer)}: option axis expected the last, found {axis!r:.80}")
                return "softmax", None, None
        self.options_of(layer, {"max_value", "negative_slope", "threshold"})
        slope = self.number(layer, "negative_slope", 0.0)
        if self.number(layer, "threshold", 0.0) != 0.0:
            raise UnsupportedError(f"{self.what(layer)}: option threshold is not supported")
        if layer.config.get("max_value") is None:
            return ("leaky_relu", slope, None) if slope else ("relu", None, None)
        if slope:
            raise UnsupportedError(f"{self.what(layer)}: options max_value and negative_slope together")
        return "clip", 0.0, self.number(layer, "max_value", None)


_ACTIVATION_LAYERS = ("ReLU", "LeakyReLU", "ELU", "Softmax")


# Where the weights are


class _Tensor:
    """One weight: name and shape are known, the numbers are read on demand."""

    name: str
    shape: tuple[int, ...]

    def read(self) -> np.ndarray:
        raise NotImplementedError


class _Weights:
    """Where a model's weights are found."""

    def tensors(self, layer: _LayerConfig, part: str | None, roles: Sequence[str]) -> dict[str, _Tensor]:
        """Keras role -> tensor of a layer, or of its "forward" or "backward" part. Exactly `roles`, or it raises."""
        raise NotImplementedError

    def left(self, used: set[str]) -> list[str]:
        """Names of the tensors that are not among `used`."""
        raise NotImplementedError


class _LiveTensor(_Tensor):
    def __init__(self, name: str, value: object) -> None:
        self.name = name
        self.array = as_numpy(name, value)
        self.shape = self.array.shape

    def read(self) -> np.ndarray:
        return self.array


class _LiveWeights(_Weights):
    def __init__(self, model: object, layers: Sequence[_LayerConfig]) -> None:
        self.layers = {layer.name: layer for layer in model.layers}
        self.names: list[str] = []
        missing = [layer.name for layer in layers if layer.name not in self.layers]
        if missing:
            raise FormatError(f"Keras model: its config names a layer that it does not have: {missing[0]!r}")

    def tensors(self, layer, part, roles):
        live = self.layers[layer.name]
        arrays = (live if part is None else getattr(live, f"{part}_layer")).get_weights()
        names = [f"{layer.name}/{part}/{role}" if part else f"{layer.name}/{role}" for role in roles]
        if len(arrays) != len(roles):
            raise FormatError(
                f"Keras model: layer {layer.name!r}: expected {', '.join(roles)}, found {len(arrays)} arrays"
            )
        return {role: _LiveTensor(name, array) for role, name, array in zip(roles, names, arrays, strict=True)}

    def left(self, used):
        return []


class _Hdf5Tensor(_Tensor):
    """A dataset; whatever would make HDF5 read elsewhere or allocate more than is stored is refused."""

    def __init__(self, where: str, name: str, dataset) -> None:
        self.where = where
        self.name = name
        self.dataset = dataset
        what = f"{where}: dataset {name!r}"
        if dataset.shape is None:
            raise FormatError(f"{what}: no data")
        self.shape = tuple(int(size) for size in dataset.shape)
        properties = dataset.id.get_create_plist()
        if dataset.is_virtual or properties.get_external_count():
            raise FormatError(f"{what}: its data is in another file")
        filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
        if not filters <= _HDF5_FILTERS:
            raise UnsupportedError(f"{what}: HDF5 filter {min(filters - _HDF5_FILTERS)} is not supported")
        stored, size = dataset.id.get_storage_size(), math.prod(self.shape) * dataset.dtype.itemsize
        if size > stored * (_MAX_STORED_RATIO if dataset.chunks else 1):
            raise FormatError(f"{what}: shape {self.shape} takes {size} bytes, {stored} are stored")

    def read(self) -> np.ndarray:
        type_ = self.dataset.dtype
        marked = _attribute(self.where, self.dataset, "dtype")
        if type_.kind == "V" and type_.itemsize == 2 and type_.fields is None and marked == "bfloat16":
            return bfloat16_bits_to_float32(self.dataset[()].view("<u2"))
        if type_.kind not in "fiub":
            raise FormatError(f"{self.where}: dataset {self.name!r}: expected floating-point numbers, found {type_}")
        return as_numpy(self.name, self.dataset[()])


class _ArchiveWeights(_Weights):
    """``model.weights.h5`` of a ``.keras`` archive: ``layers/<class>[_<n>]/.../vars/<j>``."""

    def __init__(self, where: str, file, layers: Sequence[_LayerConfig]) -> None:
        self.where = where
        self.file = file
        # Keras 2.12 and 2.13 had another name for the same group.
        self.root = next((name for name in ("layers", "_layer_checkpoint_dependencies") if name in file), "layers")
        counts: dict[str, int] = {}
        self.groups = {}
        for layer in layers:
            name = _snake_case(layer.class_name)
            count = counts[name] = counts.get(name, -1) + 1
            self.groups[layer.name] = f"{name}_{count}" if count else name

    def tensors(self, layer, part, roles):
        path = [self.root, self.groups[layer.name]]
        if part is not None:
            path.append(f"{part}_layer")
        if layer.class_name in ("LSTM", "Bidirectional"):
            path.append("cell")
        path = "/".join([*path, "vars"])
        group = _child(self.where, self.file, path)
        if set(group) != {str(j) for j in range(len(roles))}:
            raise FormatError(
                f"{self.where}: layer {layer.name!r}: expected {', '.join(roles)} as {path}/0 to {len(roles) - 1}, "
                f"found {', '.join(group) or 'nothing'}"
            )
        return {
            role: _Hdf5Tensor(self.where, f"{path}/{j}", _child(self.where, self.file, f"{path}/{j}", dataset=True))
            for j, role in enumerate(roles)
        }

    def left(self, used):
        found = []
        waiting = [self.root] if self.root in self.file else []
        visited = 0
        while waiting:
            path = waiting.pop()
            visited += 1
            if visited > _MAX_DATASETS or path.count("/") > _MAX_PATH_PARTS:
                raise FormatError(f"{self.where}: too many or too deeply nested groups")
            for name in _child(self.where, self.file, path):
                inner = f"{path}/{name}"
                child = _child(self.where, self.file, inner, dataset=None)
                if hasattr(child, "shape"):
                    # Dropout keeps its random generator's state beside the weights.
                    if inner not in used and "seed_generator" not in inner.split("/"):
                        found.append(inner)
                else:
                    waiting.append(inner)
        return found


class _LegacyWeights(_Weights):
    """``model_weights`` of an ``.h5`` file: a group per layer, the weights' names in its attribute."""

    def __init__(self, where: str, group, layers: Sequence[_LayerConfig]) -> None:
        self.where = where
        self.group = group
        stored: list[tuple[str, list[str]]] = []
        for name in _names(where, group, "layer_names"):
            names = _names(where, _child(where, group, name), "weight_names")
            if names:
                stored.append((name, names))
        self.all = [f"{name}/{weight}" for name, names in stored for weight in names]
        # Keras too matches the layers that have weights by their order, not by name.
        weighted = [layer for layer in layers if layer.class_name in ("LSTM", "Bidirectional", "Dense")]
        self.stored = {layer.name: found for layer, found in zip(weighted, stored, strict=False)}

    def tensors(self, layer, part, roles):
        if layer.name not in self.stored:
            raise FormatError(f"{self.where}: layer {layer.name!r}: its weights are missing")
        group, names = self.stored[layer.name]
        if part is not None:
            names = self.of_direction(layer, part, names)
        by_role = {}
        for name in names:
            role = name.rsplit("/", 1)[-1].split(":")[0]
            if role not in roles or role in by_role:
                raise FormatError(
                    f"{self.where}: layer {layer.name!r}: weight {name!r} is not expected; expected {', '.join(roles)}"
                )
            path = f"{group}/{name}"
            by_role[role] = _Hdf5Tensor(self.where, path, _child(self.where, self.group, path, dataset=True))
        missing = [role for role in roles if role not in by_role]
        if missing:
            raise FormatError(
                f"{self.where}: layer {layer.name!r}: weight {missing[0]!r} is missing; found {', '.join(names)}"
            )
        return by_role

    def of_direction(self, layer: _LayerConfig, part: str, names: list[str]) -> list[str]:
        """The names of one direction: by the inner layer's name, else forward first, as Keras writes them."""
        parents: dict[str, list[str]] = {}
        for name in names:
            parents.setdefault(name.rpartition("/")[0], []).append(name)
        if len(parents) != 2:
            raise FormatError(
                f"{self.where}: layer {layer.name!r}: expected the weights of two directions, found {', '.join(names)}"
            )
        inner = layer.config.get("layer")
        title = (
            inner["config"].get("name") if isinstance(inner, dict) and isinstance(inner.get("config"), dict) else None
        )
        forward = {title, f"forward_{title}"}
        by_name = [parent for parent in parents if forward & set(parent.split("/"))]
        first = by_name[0] if len(by_name) == 1 else next(iter(parents))
        return next(found for parent, found in parents.items() if (parent == first) == (part == "forward"))

    def left(self, used):
        return [name for name in self.all if name not in used]


# HDF5


@contextlib.contextmanager
def _open_hdf5(path: str, file) -> Iterator[object]:
    try:
        import h5py
    except ImportError as error:
        raise UnsupportedError(f"{path}: reading a Keras file needs h5py: pip install cylstm[keras]") from error
    try:
        with h5py.File(file, "r") as opened:
            yield opened
    except CylstmError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        # h5py reports a damaged file through any of these, at opening and later.
        raise FormatError(f"{path}: a damaged or truncated HDF5 file: {error}") from error


def _check_heaps(path: str, data: bytes | mmap.mmap) -> None:
    """Refuse a damaged global heap (where HDF5 keeps texts of variable length): the library can loop in it for ever.

    A collection is a 16-byte header with its size, then objects: index, references, reserved, size, data padded to
    8 bytes; index 0 is the free rest (HDF5 File Format Specification, III.E).
    """
    start = data.find(_HEAP)
    while start >= 0:
        position, end = start + 16, start + int.from_bytes(data[start + 8 : start + 16], "little")
        while position <= end - 16 <= len(data) - 16:
            free = data[position : position + 2] == b"\0\0"
            size = int.from_bytes(data[position + 8 : position + 16], "little")
            if free and (size < 16 or position + size != end):
                break
            position += size if free else 16 + (size + 7) // 8 * 8
        if not end - 16 < position <= end <= len(data):
            raise FormatError(f"{path}: a damaged or truncated HDF5 file: the text heap at byte {start}")
        start = data.find(_HEAP, end)


def _child(where: str, group, path: str, *, dataset: bool | None = False):
    """The group (or dataset; None: either) at `path`, reached through hard links only, one component at a time."""
    import h5py

    parts = path.split("/")
    if len(parts) > _MAX_PATH_PARTS or any(part in ("", ".", "..") for part in parts):
        raise FormatError(f"{where}: an unsafe HDF5 path: {path!r:.200}")
    for part in parts:
        if not isinstance(group, h5py.Group) or part not in group:
            raise FormatError(f"{where}: {path!r} is missing in the HDF5 file")
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise FormatError(f"{where}: {path!r} passes through a soft or external link")
        group = group[part]
    if dataset is not None and not isinstance(group, h5py.Dataset if dataset else h5py.Group):
        raise FormatError(f"{where}: {path!r} expected a {'dataset' if dataset else 'group'}")
    return group


def _attribute(where: str, owner, name: str) -> object | None:
    """A text or list of texts, None if there is none. Bytes are decoded; other kinds are refused."""
    if name not in owner.attrs:
        return None
    found = owner.attrs.get_id(name)
    if math.prod(found.shape or (1,)) > _MAX_DATASETS or found.dtype.kind not in "OSUf":
        raise FormatError(f"{where}: attribute {name!r} expected text")
    value = owner.attrs[name]
    if isinstance(value, np.ndarray):
        if value.size == 0:
            return []
        return [_text(where, name, item) for item in value.ravel().tolist()]
    return _text(where, name, value)


def _text(where: str, name: str, value: object) -> str:
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(f"{where}: attribute {name!r} is not UTF-8") from error
    if not isinstance(value, str):
        raise FormatError(f"{where}: attribute {name!r} expected text, found a {type(value).__name__}")
    return value


def _names(where: str, group, name: str) -> list[str]:
    """A list of names in an attribute, which HDF5's size limit may have split into ``name0``, ``name1``, ..."""
    found = _attribute(where, group, name)
    if found is None:
        found, i = [], 0
        while (part := _attribute(where, group, f"{name}{i}")) is not None:
            found = [*found, *(part if isinstance(part, list) else [part])]
            i += 1
        if not i:
            raise FormatError(f"{where}: attribute {name!r} is missing in the HDF5 file")
    return found if isinstance(found, list) else [found]


def _snake_case(name: str) -> str:
    """Keras's own rule for the names of groups (``keras.src.utils.naming.to_snake_case``)."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
