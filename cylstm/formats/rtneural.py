"""RTNeural's JSON: a chain of layers with Keras's weights, as its exporter for Keras and AIDA-X's trainer write it.

``in_shape`` is the shape of the input, batch first, and ``layers`` a list of layers, each with its ``type``, its
``activation``, the ``shape`` of its output and its ``weights``, which are Keras's ``layer.get_weights()``:

- ``dense`` and ``time-distributed-dense``: (input, units), (units,);
- ``lstm``: (input, 4*units), (units, 4*units), (4*units,), gates in the order i f c o;
- ``gru``: (input, 3*units), (units, 3*units), (2, 3*units), gates in the order z r h, a bias for each product;
- ``conv1d``: (kernel, channels/groups, filters), (filters,), with ``kernel_size`` and ``dilation``; RTNeural looks back
  only (padding "causal");
- ``prelu``: a slope for each feature; ``batchnorm``: gamma, beta, mean, variance, or the last two alone, with
  ``epsilon``; ``activation``: none.

RTNeural computes tanh and sigmoid in its recurrent layers, whatever ``activation`` says. It has no time: it is called
step by step. Here a model reads a sequence, of which a recurrent layer gives all steps, or the last one where the
``shape`` says that Keras's layer does. ``in_skip`` of AIDA-X adds the first features of the input to the output.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cylstm.errors import FormatError, UnsupportedError, described
from cylstm.formats import File, Format
from cylstm.graph.activations import activation_options
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.graph import Graph
from cylstm.graph.values import Option, Value

_MAX_LAYERS = 1000
_MAX_SIZE = 1 << 20
_ACTIVATIONS = ("tanh", "relu", "sigmoid", "softmax", "elu")
_RECURRENT = ("lstm", "gru")
_TYPES = ("dense", "time-distributed-dense", *_RECURRENT, "conv1d", "prelu", "batchnorm", "activation")


def _is_rtneural(file: File) -> bool:
    return b'"in_shape"' in file.json_text and b'"layers"' in file.json_text


def read_rtneural(file: File) -> Graph:
    """Read RTNeural's JSON into a graph.

    Raises
    ------
    FormatError
        If the file is damaged, or weights have other shapes than their layer.
    UnsupportedError
        If a layer is of a type that is not computed.
    """
    from cylstm.formats.untrusted.json import parse_json

    return _Reader(file.path, parse_json(file.json_text, file.path)).graph()


class _Reader:
    def __init__(self, path: str, content: dict[str, Any]) -> None:
        self.path = path
        self.content = content
        self.builder = GraphBuilder()
        self.layouts: dict[str, str] = {}
        self.used: dict[str, str] = {}
        #: steps of what the next layer reads, where the file says them
        self.steps: int | None = None

    def graph(self) -> Graph:
        layers = self.content.get("layers")
        if not isinstance(layers, list) or not layers or len(layers) > _MAX_LAYERS:
            raise FormatError(f"{self.path}: layers expected a list of 1 to {_MAX_LAYERS} layers")
        for i, layer in enumerate(layers):
            if not isinstance(layer, dict) or not isinstance(layer.get("type"), str):
                raise FormatError(f"{self.path}: layers[{i}]: expected a mapping with a type")
        shape = self.shape("in_shape", self.content.get("in_shape"))
        features = shape[-1]
        if features is None:
            raise FormatError(f"{self.path}: in_shape expected the number of features last, found {described(shape)}")
        self.steps = window = shape[1] if len(shape) == 3 else None
        has_time = len(shape) == 3 or any(layer["type"] in (*_RECURRENT, "conv1d") for layer in layers)
        x = first = self.builder.input("input", (None, features) if has_time else (features,))
        counts: dict[str, int] = {}
        for i, layer in enumerate(layers):
            kind = layer["type"]
            number = counts[kind] = counts.get(kind, -1) + 1
            x = self.add(
                f"{kind}_{number}" if number else kind, f"layers[{i}] ({kind!r:.40})", layer, x, len(shape) == 3
            )
        self.builder.output(self.with_skip(first, x))
        graph = self.builder.build(
            provenance={
                "format": "rtneural",
                "version": None,
                "framework_version": None,
                "source": self.path,
                "beside": [name for name in self.content if name not in ("in_shape", "layers", "in_skip")],
                "layouts": self.layouts,
                "tensors": self.used,
            }
        )
        return graph if window is None else graph._replace(window=window)

    def shape(self, what: str, value: object) -> tuple[int | None, ...]:
        """A shape with the batch first."""
        if isinstance(value, list) and len(value) == 4:
            raise UnsupportedError(
                f"{self.path}: {what} {described(value)}: layers in two dimensions are not supported"
            )
        if (
            not isinstance(value, list)
            or not 2 <= len(value) <= 3
            or not all(size is None or (type(size) is int and 0 < size <= _MAX_SIZE) for size in value)
        ):
            raise FormatError(f"{self.path}: {what} expected [null, features] or [null, null, features]")
        return tuple(value)

    def with_skip(self, x: Value, y: Value) -> Value:
        """AIDA-X's skip connection; its gains are for the program that runs the model."""
        for name in ("in_gain", "out_gain"):
            gain = self.content.get(name, 0)
            if type(gain) not in (int, float) or gain != 0:
                raise UnsupportedError(
                    f"{self.path}: {name} {described(gain)} (in decibel) is not applied; set it to 0 in the file, and "
                    "scale what goes in or comes out"
                )
        skip = self.content.get("in_skip", 0)
        if type(skip) is not int or not 0 <= skip <= _MAX_SIZE:
            raise FormatError(f"{self.path}: in_skip expected a whole number, found {described(skip)}")
        if not skip:
            return y
        if x.has_time != y.has_time:
            raise UnsupportedError(f"{self.path}: in_skip of a network that gives the last step only is not supported")
        if skip < x.features:
            part: dict[str, Option] = {"axis": int(x.has_time), "start": 0, "count": skip}
            x = self.builder.add("slice", "skip.input", {"x": x}, options=part)["y"]
        return self.builder.add("merge", "skip", {"x": y, "x1": x}, options={"mode": "sum"})["y"]

    def add(self, name: str, what: str, layer: dict[str, Any], x: Value, in_time: bool) -> Value:
        """One layer that reads `x`; `in_time` tells whether the shapes in the file have a time."""
        kind = layer["type"]
        if kind not in _TYPES:
            raise UnsupportedError(
                f"{self.path}: {what}: layers of this type are not supported; read are {', '.join(_TYPES)}. Save the "
                'Keras model that it was made of with model.save("model.keras") instead'
            )
        given = None if layer.get("shape") is None else self.shape(f"{what}: shape", layer["shape"])
        what = f"{self.path}: {what}"
        activation = layer.get("activation", "")
        if not isinstance(activation, str) or activation not in ("", *_ACTIVATIONS):
            raise UnsupportedError(
                f"{what}: activation expected one of {', '.join(_ACTIVATIONS)} or none, found {described(activation)}"
            )
        if kind in _RECURRENT:
            if activation not in ("", "tanh"):
                raise UnsupportedError(
                    f"{what}: activation {activation!r}: RTNeural computes tanh, whatever the file says, and Keras "
                    'computed this; save the Keras model with model.save("model.keras") instead'
                )
            outputs = self.add_recurrent(kind, name, what, layer, x)
            y = outputs["h" if in_time and given is not None and len(given) == 2 else "y"]
        elif kind == "conv1d":
            y = self.add_conv1d(name, what, layer, x, given)
        elif kind == "prelu":
            slope = self.weights(name, what, layer, (("slope",),))["slope"]
            if slope.size not in (1, x.features):
                raise UnsupportedError(
                    f"{what}: slopes {slope.shape} that differ by time are not supported; build the layer with "
                    "shared_axes=[1]"
                )
            y = self.builder.add("prelu", name, {"x": x}, {"slope": slope.reshape(-1)})["y"]
        elif kind == "batchnorm":
            roles = self.weights(name, what, layer, (("gain", "shift", "mean", "variance"), ("mean", "variance")))
            epsilon = layer.get("epsilon", 1e-3)
            if type(epsilon) not in (int, float) or not 0 <= epsilon < 1e6:
                raise FormatError(f"{what}: epsilon expected a number, found {described(epsilon)}")
            y = self.builder.add("batch_norm", name, {"x": x}, roles, {"epsilon": float(epsilon)})["y"]
        elif kind == "activation":
            if not activation:
                raise UnsupportedError(f"{what}: its activation is not one that RTNeural's exporter knows")
            if layer.get("weights"):
                raise FormatError(f"{what}: an activation has no weights")
            return self.activated(name, what, activation, x)
        else:
            roles = self.weights(name, what, layer, (("kernel", "bias"), ("kernel",)))
            self.expect(what, roles["kernel"], (x.features, None))
            weights = {"weight": roles["kernel"].T} | ({"bias": roles["bias"]} if "bias" in roles else {})
            y = self.builder.add("dense", name, {"x": x}, weights)["y"]
        if given is not None and given[-1] != y.features:
            raise FormatError(f"{what}: shape {described(list(given))} of a layer with {y.features} features")
        if activation and kind not in _RECURRENT:
            y = self.activated(f"{name}.{activation}", what, activation, y)
        return y

    def activated(self, name: str, what: str, activation: str, x: Value) -> Value:
        options = activation_options("activation", activation, where=what)
        return self.builder.add("activation", name, {"x": x}, options=options)["y"]

    def add_recurrent(self, kind: str, name: str, what: str, layer: dict[str, Any], x: Value) -> dict[str, Value]:
        if not x.has_time:
            raise FormatError(f"{what}: expected a sequence, found the last step only of the layer before")
        gates = 4 if kind == "lstm" else 3
        choices = (("kernel", "recurrent_kernel", "bias"), ("kernel", "recurrent_kernel"))
        roles = self.weights(name, what, layer, choices)
        recurrent = roles["recurrent_kernel"]
        units = recurrent.shape[0] if recurrent.ndim else 0
        rows = gates * units
        self.expect(what, roles["kernel"], (x.features, rows))
        self.expect(what, recurrent, (units, rows))
        weights = {"weight_ih": roles["kernel"].T, "weight_hh": recurrent.T}
        options: dict[str, Option] = {"padding": "zero"}
        bias = roles.get("bias")
        if kind == "lstm":
            if bias is not None:
                self.expect(what, bias, (rows,))
                weights["bias"] = bias
        elif bias is None:
            raise UnsupportedError(
                f"{what}: without a bias nothing tells whether Keras's reset_after was set; save the Keras model with "
                'model.save("model.keras") instead'
            )
        else:
            # Keras has one bias where the reset gate multiplies before the product, and two where it does after
            options["reset_after"] = bias.ndim == 2
            self.expect(what, bias, (2, rows) if bias.ndim == 2 else (rows,))
            weights |= dict(zip(("bias_ih", "bias_hh"), bias.reshape(-1, rows), strict=False))
            weights = {role: _reset_gate_first(weight) for role, weight in weights.items()}
        return self.builder.add(kind, name, {"x": x}, weights, options)

    def add_conv1d(
        self, name: str, what: str, layer: dict[str, Any], x: Value, given: tuple[int | None, ...] | None
    ) -> Value:
        roles = self.weights(name, what, layer, (("kernel", "bias"), ("kernel",)))
        kernel = roles["kernel"]
        size, dilation = (
            self.last(what, layer, key, default) for key, default in (("kernel_size", 0), ("dilation", 1))
        )
        groups, stride = (self.last(what, layer, key, 1) for key in ("groups", "strides"))
        if stride != 1:
            raise UnsupportedError(f"{what}: strides {stride} are not supported")
        if not groups or x.features % groups:
            raise FormatError(f"{what}: {groups} groups of {x.features} channels")
        self.expect(what, kernel, (size or None, x.features // groups, None))
        weights = {"weight": kernel.transpose(2, 0, 1)} | ({"bias": roles["bias"]} if "bias" in roles else {})
        padding, steps = "causal", None if given is None or len(given) < 3 else given[1]
        if self.steps is not None and steps is not None and steps != self.steps:
            # Keras's shape shows that its layer did not pad
            if steps != self.steps - (kernel.shape[0] - 1) * dilation:
                raise UnsupportedError(
                    f"{what}: {steps} steps of {self.steps} are those of neither padding 'causal' nor 'valid'"
                )
            padding = "valid"
        self.steps = steps
        options: dict[str, Option] = {"dilation": dilation, "groups": groups, "padding": padding}
        return self.builder.add("conv1d", name, {"x": x}, weights, options)["y"]

    def last(self, what: str, layer: dict[str, Any], key: str, default: int) -> int:
        """A whole number, alone or the last of a list."""
        value = layer.get(key, default)
        value = value[-1] if isinstance(value, list) and value else value
        if type(value) is not int or not 0 <= value <= _MAX_SIZE:
            raise FormatError(f"{what}: {key} expected a whole number, found {described(value)}")
        return value

    def weights(
        self, name: str, what: str, layer: dict[str, Any], choices: tuple[tuple[str, ...], ...]
    ) -> dict[str, np.ndarray]:
        """Role -> array of the weights, by their order; `choices` has the roles for each possible number of them."""
        from cylstm.formats.untrusted.json import numbers

        found = layer.get("weights")
        count = len(found) if isinstance(found, list) else -1
        roles = next((roles for roles in choices if len(roles) == count), None)
        if roles is None or not isinstance(found, list):
            expected = " or ".join(str(len(roles)) for roles in choices)
            raise FormatError(f"{what}: weights expected a list of {expected}, found {max(count, 0)}")
        arrays = {}
        for i, role in enumerate(roles):
            arrays[role] = numbers(found[i], f"{what}: weights[{i}]")
            self.layouts[f"{name}/weights[{i}]"] = f"float32 {arrays[role].shape} as JSON"
            self.used[f"{name}/weights[{i}]"] = f"{name}/{role}"
        return arrays

    @staticmethod
    def expect(what: str, array: np.ndarray, shape: tuple[int | None, ...]) -> None:
        fits = array.ndim == len(shape) and all(want in (None, size) for want, size in zip(shape, array.shape))
        if not fits or not array.size:
            text = ", ".join("any" if size is None else str(size) for size in shape)
            raise FormatError(f"{what}: expected weights of shape ({text}), found {array.shape}")


def _reset_gate_first(array: np.ndarray) -> np.ndarray:
    """The blocks z r h of rows as r z h."""
    z, r, h = np.split(array, 3)
    return np.concatenate((r, z, h))


FORMATS = (Format("an RTNeural model", (".json", ".aidax"), (), _is_rtneural, read_rtneural),)
