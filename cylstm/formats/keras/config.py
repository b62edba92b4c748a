"""The layers of a Keras model's JSON config, and the reading of their options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cylstm.errors import FormatError, UnsupportedError
from cylstm.graph.activations import activation_options
from cylstm.graph.values import Option

MAX_UNITS = 1_000_000

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
    # alpha * (exp(x / alpha) - 1) with Keras's alpha of 1
    "celu": ("elu", 1.0, None),
    # clip((x + 1) / 2, 0, 1)
    "sparse_sigmoid": ("hard_sigmoid", 0.5, 0.5),
}

#: Keras's activations that are computed by layers of their own, after a layer and never as a gate's.
COMPOSED = ("mish", "log_softmax")

#: Layers that are one activation function.
ACTIVATION_LAYERS = ("ReLU", "LeakyReLU", "ELU", "Softmax")

#: Layers that Keras 3 can quantise.
QUANTIZED_LAYERS = ("Dense", "EinsumDense", "Embedding", "ReversibleEmbedding")

# Options that change nothing at inference.
_INERT = {
    "name", "trainable", "dtype", "batch_input_shape", "batch_shape", "input_dtype", "seed", "input_dim",
    "input_length", "dropout", "recurrent_dropout", "unit_forget_bias", "implementation", "unroll", "stateful",
    "use_cudnn", "noise_shape", "consume_less", "build_config", "autocast", "momentum", "renorm_momentum",
    "renorm_clipping",
}  # fmt: skip
_INERT_ENDINGS = ("_initializer", "_regularizer", "_constraint")


@dataclass(frozen=True)
class LayerConfig:
    """A serialised layer or cell.

    Attributes
    ----------
    class_name, name : str
    config : dict
    what : str
        File, layer and class, for messages.
    version : tuple of int
        Major and minor version of the Keras that wrote it.
    module : str
        Where Keras has the class, "" if the config does not say.
    """

    class_name: str
    name: str
    config: Mapping[str, Any]
    what: str
    version: tuple[int, int]
    module: str = ""

    @property
    def is_custom(self) -> bool:
        """Whether its class is none of Keras's: `class_name` is then ``package>name``, as none of Keras's is called."""
        return ">" in self.class_name

    @property
    def is_operation(self) -> bool:
        """Whether it is no layer but a function of ``keras.ops``, which Keras writes like a layer."""
        if self.is_custom:
            return False
        if not self.module and self.version >= (3, 0):
            # An .h5 file names no module; all layers except InputLayer and the spatial dropouts have this option.
            return "trainable" not in self.config and not self.class_name.startswith(("InputLayer", "SpatialDropout"))
        return self.module.startswith(("keras.src.ops", "keras.ops"))

    def inner(self, entry: object, role: str, *, may_be_custom: bool = False) -> LayerConfig:
        """A layer that stands in an option of this one."""
        return read_layer(f"{self.what}, ", role, entry, self.version, may_be_custom=may_be_custom)

    def check_options(self, known: set[str]) -> None:
        """Raise `UnsupportedError` for an option that is neither known nor inert, unless it is off."""
        for key, option in self.config.items():
            is_inert = key in _INERT or key.endswith(_INERT_ENDINGS)
            if key not in known and not is_inert and option not in (None, False):
                raise UnsupportedError(f"{self.what}: option {key}={option!r:.80} is not supported")

    def flag(self, key: str, default: bool) -> bool:
        value = self.config.get(key, default)
        if not isinstance(value, bool):
            raise FormatError(f"{self.what}: option {key} expected true or false, found {value!r:.80}")
        return value

    def whole(self, key: str, *, old_name: str = "") -> int:
        """A count of units or filters; Keras 1 called units "output_dim"."""
        value = self.config.get(key, self.config.get(old_name))
        if type(value) is not int or not 0 < value <= MAX_UNITS:
            raise FormatError(f"{self.what}: option {key} expected 1 to {MAX_UNITS}, found {value!r:.80}")
        return value

    def size(self, key: str, *, least: int = 1) -> int:
        """A whole number, perhaps as a list of one."""
        value = self.config.get(key)
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        if type(value) is not int or not least <= value <= MAX_UNITS:
            raise FormatError(f"{self.what}: option {key} expected {least} to {MAX_UNITS}, found {value!r:.80}")
        return value

    def each(self, key: str, count: int, *, least: int = 1) -> tuple[int, ...]:
        """`count` whole numbers, or one for all of them."""
        value = self.config.get(key)
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        value = [value] * count if type(value) is int else value
        if not isinstance(value, list) or len(value) != count or not all(type(size) is int for size in value):
            what = "a whole number" if count == 1 else f"{count} whole numbers"
            raise FormatError(f"{self.what}: option {key} expected {what}, found {value!r:.80}")
        if not all(least <= size <= MAX_UNITS for size in value):
            raise FormatError(f"{self.what}: option {key} expected {least} to {MAX_UNITS}, found {value!r:.80}")
        return tuple(value)

    def pairs(self, key: str, count: int) -> list[tuple[int, int]]:
        """Two whole numbers for each of `count` axes; one for both, one or two for all axes."""
        value = self.config.get(key)
        value = [value] * count if type(value) is int else value
        value = [value] if count == 1 and isinstance(value, list) and len(value) == 2 else value
        if not isinstance(value, list) or len(value) != count:
            raise FormatError(f"{self.what}: option {key} expected {count} pairs of numbers, found {value!r:.80}")
        return [self._pair(key, one) for one in value]

    def _pair(self, key: str, value: Any) -> tuple[int, int]:
        value = [value, value] if type(value) is int else value
        if not isinstance(value, list) or len(value) != 2 or not all(type(size) is int for size in value):
            raise FormatError(f"{self.what}: option {key} expected two whole numbers, found {value!r:.80}")
        if not all(0 <= size <= MAX_UNITS for size in value):
            raise FormatError(f"{self.what}: option {key} expected 0 to {MAX_UNITS}, found {value!r:.80}")
        return value[0], value[1]

    def sizes(self, key: str, count: int) -> tuple[int, ...]:
        """`count` positive whole numbers."""
        value = self.config.get(key)
        if not isinstance(value, list) or len(value) != count or not all(type(size) is int for size in value):
            raise FormatError(f"{self.what}: option {key} expected a list of {count} numbers, found {value!r:.80}")
        if not all(0 < size <= MAX_UNITS for size in value):
            raise FormatError(f"{self.what}: option {key} expected 1 to {MAX_UNITS}, found {value!r:.80}")
        return tuple(value)

    def number(self, key: str, default: float | None) -> float:
        """A number; some Keras versions wrote it as an array of rank 0."""
        value = self.config.get(key, default)
        if isinstance(value, dict) and value.get("type") == "ndarray":
            value = value.get("value")
        elif isinstance(value, dict) and value.get("class_name") == "__numpy__" and isinstance(value["config"], dict):
            value = value["config"].get("value")
        if type(value) not in (int, float):
            raise FormatError(f"{self.what}: option {key} expected a number, found {value!r:.80}")
        return float(value)

    def activation(self, slot: str, target: str | None = None) -> dict[str, Option]:
        """Layer options for slot `target` of ``config[slot]``: a name, or a serialised function or activation layer."""
        what = f"{self.what}, option {slot!r}"
        if slot not in self.config:
            # Its default has changed between versions, so every version has written it.
            raise FormatError(f"{what}: missing in the config")
        return activation_options(target or slot, *_activation(what, self.config[slot], self.version), where=what)

    def composed_activation(self, slot: str) -> str | None:
        """Which of `COMPOSED` ``config[slot]`` is, None if it is none of them."""
        found = _unwrapped(f"{self.what}, option {slot!r}", self.config.get(slot), self.version)
        return found if found in COMPOSED else None

    def as_activation(self) -> tuple[str, float | None, float | None]:
        """``(name, alpha, beta)`` of one of `ACTIVATION_LAYERS`, in another layer's option."""
        match self.class_name:
            case "LeakyReLU":
                self.check_options({"alpha", "negative_slope"})
                key = "negative_slope" if "negative_slope" in self.config else "alpha"
                return "leaky_relu", self.number(key, 0.3), None
            case "ELU":
                self.check_options({"alpha"})
                return "elu", self.number("alpha", 1.0), None
            case "Softmax":
                self.check_options({"axis"})
                axis = self.config.get("axis", -1)
                if axis not in (-1, [-1]):
                    raise UnsupportedError(f"{self.what}: option axis expected the last, found {axis!r:.80}")
                return "softmax", None, None
        self.check_options({"max_value", "negative_slope", "threshold"})
        slope = self.number("negative_slope", 0.0)
        if self.number("threshold", 0.0) != 0.0:
            raise UnsupportedError(f"{self.what}: option threshold is not supported")
        if self.config.get("max_value") is None:
            return ("leaky_relu", slope, None) if slope else ("relu", None, None)
        if slope:
            raise UnsupportedError(f"{self.what}: options max_value and negative_slope together are not supported")
        return "clip", 0.0, self.number("max_value", None)


def _unwrapped(what: str, found: Any, version: tuple[int, int]) -> str | tuple[str, float | None, float | None]:
    """An activation as Keras serialises it: its name in Keras, or what a layer is."""
    if isinstance(found, dict):
        class_name = found.get("class_name")
        if not isinstance(class_name, str):
            raise UnsupportedError(f"{what}: a custom function, which is not supported")
        if class_name == "function" and found.get("registered_name") == found.get("config"):
            found = {**found, "registered_name": None}
        class_name, config = read_object(what, found)
        if class_name in ACTIVATION_LAYERS or class_name == "Activation":
            inner = read_layer(f"{what}, ", "layer", found, version)
            if class_name != "Activation":
                return inner.as_activation()
            inner.check_options({"activation"})
            return _unwrapped(what, inner.config.get("activation"), version)
        if class_name != "function":
            raise UnsupportedError(f"{what}: {class_name} is not supported")
        found = config
    if found is None:
        found = "linear"
    if not isinstance(found, str):
        raise UnsupportedError(f"{what}: a custom function, which is not supported")
    return found


def _activation(what: str, given: object, version: tuple[int, int]) -> tuple[str, float | None, float | None]:
    """``(name, alpha, beta)`` of an activation as Keras serialises it."""
    found = _unwrapped(what, given, version)
    if isinstance(found, tuple):
        return found
    if found == "hard_sigmoid":
        return "hard_sigmoid", 0.2 if version < (3, 0) else 1.0 / 6.0, 0.5
    if found not in _ACTIVATIONS:
        known = ", ".join(sorted([*_ACTIVATIONS, "hard_sigmoid"]))
        raise UnsupportedError(f"{what}: activation {found!r} is not supported; known are {known}")
    return _ACTIVATIONS[found]


def read_object(what: str, entry: object, *, may_be_custom: bool = False) -> tuple[str, Any]:
    """Class name and config of a serialised Keras object.

    One that is none of Keras's own is refused, or gets a class name ``package>name`` if it may be.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str) or "config" not in entry:
        raise FormatError(f"{what}: expected an object with class_name and config")
    class_name, module, registered = entry["class_name"], entry.get("module"), entry.get("registered_name")
    ours = module is None or (
        isinstance(module, str) and module.split(".")[0] in ("keras", "tf_keras", "tensorflow", "builtins")
    )
    if not ours or ">" in class_name or (registered is not None and registered != class_name):
        if not may_be_custom:
            raise UnsupportedError(
                f"{what}: {registered or class_name!r} of module {module!r} is not one of Keras's own; "
                "custom objects are not supported"
            )
        names = [name for name in (registered, class_name) if isinstance(name, str) and ">" in name]
        return names[0] if names else f"{module}>{class_name}", entry["config"]
    return class_name, entry["config"]


def read_layer(
    start: str, role: str, entry: Any, version: tuple[int, int], *, may_be_custom: bool = False
) -> LayerConfig:
    """A serialised layer; messages begin with `start` and call it a `role`."""
    given = entry.get("config") if isinstance(entry, dict) else None
    name = given.get("name", entry.get("name")) if isinstance(given, dict) else None
    if isinstance(name, str) and entry.get("class_name") == "TensorFlowOpLayer":
        name = entry.get("name", f"tf_op_layer_{name}")  # its config leaves the start out
    what = f"{start}{role} {name!r}" if isinstance(name, str) else f"{start}a {role}"
    class_name, config = read_object(what, entry, may_be_custom=may_be_custom)
    if not isinstance(config, dict):
        raise FormatError(f"{start}a {class_name} {role} without a config")
    if not isinstance(name, str) or not name:
        raise FormatError(f"{start}a {class_name} {role} without a name")
    dtype = config.get("dtype")
    policy = dtype.get("class_name") if isinstance(dtype, dict) else "DTypePolicy"
    if policy not in ("DTypePolicy", "Policy") and class_name not in QUANTIZED_LAYERS:
        raise UnsupportedError(f"{start}{role} {name!r}: dtype policy {policy!r:.80} is not supported")
    module = entry.get("module")
    return LayerConfig(
        class_name,
        name,
        config,
        f"{start}{role} {name!r} ({class_name})",
        version,
        module if isinstance(module, str) else "",
    )
