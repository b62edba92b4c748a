"""Keras models as graphs: what a JSON config says of the layers, with weights from anywhere; live models.

The files that hold them are read by `keras_files`. Keras's matrices are ``(input, gates*units)``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from ..activations import activation_options
from ..errors import FormatError, UnsupportedError
from ..graph import Graph, GraphBuilder, Value
from ._arrays import warn_not_finite
from ._json import parse_json
from ._keras_config import ACTIVATION_LAYERS, MAX_UNITS, LayerConfig, read_layer, read_object
from ._keras_recurrent import RECURRENT_LAYERS, add_bidirectional, add_recurrent
from ._keras_weights import WHOLE, LiveWeights, Part, Taken, Weights, take_weights

_MAX_LAYERS = 10_000

#: Layers that have weights.
_WEIGHTED = (*RECURRENT_LAYERS, "Bidirectional", "Dense")

#: Layers that are not computed -> what to do instead.
_INSTEAD = {
    "Masking": "take it out of the model and give the mask to predict(mask=...)",
    "ConvLSTM3D": "ConvLSTM1D and ConvLSTM2D are",
    "Lambda": "use layers of Keras's own: a Lambda is a program, which is not run",
}


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
    described = KerasModel("Keras model", parse_json(text, "Keras model"), library.__version__)
    weights = LiveWeights(model, described.layers)
    return described.graph(weights, {"format": "keras live", "source": "live model"})


class KerasModel:
    """A Sequential model's config, checked layer by layer as the graph is built."""

    def __init__(self, where: str, config: object, version: str) -> None:
        self.where = where
        self.version = version
        number = re.match(r"(\d{1,4})(?:\.(\d{1,4}))?", version)
        if number is None:
            raise FormatError(f"{where}: keras_version expected a version number, found {version!r}")
        major_minor = (int(number[1]), int(number[2] or 0))
        #: tf.keras of TensorFlow 2.0 to 2.3, whose versions are "2.2.4-tf" and the like
        self.is_tensorflow = version.endswith("-tf")
        class_name, inner = read_object(f"{where}: model", config)
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
        described = [read_layer(f"{where}: ", "layer", entry, major_minor) for entry in layers]
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

    def weighted(self) -> list[LayerConfig]:
        """The layers that have weights."""
        return [layer for layer in self.layers if layer.class_name in _WEIGHTED]

    def graph(self, weights: Weights, provenance: Mapping[str, object]) -> Graph:
        """The graph with `weights`; `provenance` tells their format and source."""
        self.weights = weights
        self.builder = GraphBuilder()
        self.used: dict[str, str] = {}
        self.taken: dict[str, Taken] = {}
        values = [self.add_input()]
        for layer in self.layers:
            values = self.add(layer, values[0])
        for value in values:
            self.builder.output(value)
        left = weights.left(set(self.used))
        if left:
            raise FormatError(f"{self.where}: weights that belong to no layer of the config: {', '.join(left[:40])}")
        warn_not_finite(self.where, {name: weight.array for name, weight in self.taken.items()})
        told = {
            "format": None,
            "version": None,
            "framework_version": self.version,
            "backend": None,
            **provenance,
            "layouts": {name: weight.layout for name, weight in self.taken.items()},
            "tensors": self.used,
        }
        return self.builder.build(provenance=told)

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
            is_recurrent = first.class_name in (*RECURRENT_LAYERS, "Bidirectional")
            shape = [None, None, config["input_dim"]] if is_recurrent else [None, config["input_dim"]]
        if not isinstance(shape, list) or not all(size is None or type(size) is int for size in shape):
            raise FormatError(f"{self.where}: layer {first.name!r}: input shape expected a list, found {shape!r}")
        # One axis is the features; of more, the first is time.
        inner = shape[1:] if len(shape) == 2 else shape[2:]
        if not 2 <= len(shape) <= 5 or not all(size is not None and 0 < size <= MAX_UNITS for size in inner):
            raise UnsupportedError(
                f"{self.where}: layer {first.name!r}: input shape expected (batch, features), (batch, time, features) "
                f"or (batch, time, [rows,] columns, channels) with a fixed number of features, found {shape}"
            )
        name = self.inputs[0].name if self.inputs else "input"
        while any(layer.name == name for layer in self.layers):
            name += "_"
        # A fixed number of steps is not kept: the layers supported here work on any.
        return self.builder.input(name, tuple(inner) if len(shape) == 2 else (None, *inner))

    def add(self, layer: LayerConfig, value: Value) -> list[Value]:
        """Add a layer; the last one may have several outputs."""
        is_last = layer is self.layers[-1]
        if layer.class_name in RECURRENT_LAYERS:
            return add_recurrent(self, layer, value, is_last=is_last)
        if layer.class_name == "Bidirectional":
            return add_bidirectional(self, layer, value, is_last=is_last)
        if layer.class_name == "Dense":
            return [self.add_dense(layer, value)]
        if layer.class_name == "Dropout":
            layer.check_options({"rate"})
            op, options = "dropout", {"rate": layer.number("rate", 0.5)}
        elif layer.class_name == "Activation":
            layer.check_options({"activation"})
            op, options = "activation", layer.activation("activation")
        elif layer.class_name in ACTIVATION_LAYERS:
            op = "activation"
            options = activation_options("activation", *layer.as_activation(value.kind), where=layer.what)
        else:
            instead = f"; {_INSTEAD[layer.class_name]}" if layer.class_name in _INSTEAD else ""
            raise UnsupportedError(f"{layer.what}: layers of class {layer.class_name} are not supported yet{instead}")
        return [self.builder.add(op, layer.name, {"x": value}, options=options)["y"]]

    def add_dense(self, layer: LayerConfig, value: Value) -> Value:
        layer.check_options({"units", "use_bias", "activation"})
        units, bias = layer.whole("units", old_name="output_dim"), layer.flag("use_bias", True)
        options = layer.activation("activation")
        shapes = {"kernel": (value.features, units)} | ({"bias": (units,)} if bias else {})
        roles = {"kernel": f"{layer.name}/weight", "bias": f"{layer.name}/bias"}
        arrays = self.take(layer, WHOLE, 0, shapes, roles)
        weights = {"weight": arrays["kernel"].T}
        if bias:
            weights["bias"] = arrays["bias"]
        return self.builder.add("dense", layer.name, {"x": value}, weights, options)["y"]

    def take(
        self,
        layer: LayerConfig,
        parts: Sequence[Part],
        index: int,
        shapes: Mapping[str, tuple[int, ...]],
        roles: Mapping[str, str],
        *,
        cudnn_bias: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Keras role -> array of ``parts[index]`` of a layer; their number and shapes are those of the config.

        `roles` says what each becomes, for the provenance; `cudnn_bias` is the length of a bias that tells the
        weights of a CuDNN layer, which are converted.
        """
        taken = take_weights(self.weights, layer, parts, index, shapes, self.taken, cudnn_bias=cudnn_bias)
        self.used |= {weight.name: roles[role] for role, weight in taken.items()}
        return {role: weight.array for role, weight in taken.items()}
