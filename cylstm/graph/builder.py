"""Builds a graph layer by layer, and checks every shape as a layer is added."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

import numpy as np

from cylstm.errors import FormatError, ShapeError, UnsupportedError, described
from cylstm.graph.graph import Graph, Layer
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.values import MAX_RANK, MAX_TIME_RULES, Axis, Kind, Option, Value
from cylstm.graph.weights import StoredTensor, StoredTensors, Tensor


def common_steps(steps: Iterable[int | None]) -> int | None:
    """The number of steps that all inputs with time have; None if one does not state it, or they differ."""
    found = set(steps)
    return found.pop() if len(found) == 1 else None


def _checked_option(what: str, option: object, default: Option) -> Option:
    """The option, which has to be of the type of its default."""
    if isinstance(option, np.generic):
        option = option.item()
    if isinstance(default, str):
        expected, fits = "a text", isinstance(option, str)
    elif isinstance(default, bool):
        expected, fits = "True or False", isinstance(option, bool)
    else:
        expected, fits = "a number", isinstance(option, (int, float)) and not isinstance(option, bool)
    if not fits:
        raise UnsupportedError(f"{what} expected {expected}, found {described(option)}")
    return cast(Option, option)


class GraphBuilder:
    """Builds a `Graph` layer by layer and checks each as it is added."""

    def __init__(self) -> None:
        self._values: dict[str, Value] = {}
        self._layers: list[Layer] = []
        self._layer_names: set[str] = set()
        self._inputs: list[str] = []
        self._outputs: list[str] = []
        self._tensors: dict[str, Tensor] = {}
        #: what layers draw in training, by the name of the layer (`cylstm.graph.noise`)
        self.noise: dict[str, Mapping[str, Option]] = {}

    def input(
        self,
        name: str,
        shape: tuple[int | None, ...],
        *,
        masked: bool = True,
        indices: bool = False,
        time_of: str | None = None,
    ) -> Value:
        """Add an input of `shape` without batch; one with time gets an optional mask beside it.

        Parameters
        ----------
        name : str
        shape : tuple of int or None
            (features,), or with the time first, None if the number of steps is not fixed: (None, features),
            (20, features), (None, rows, columns, channels). Indices: (None,), (20,), (None, n).
        masked : bool
            Whether `predict` takes a mask or lengths for it.
        indices : bool
            Whether it is whole numbers that choose rows of an embedding.
        time_of : str, optional
            An input made before whose number of steps it always has, if that is not fixed.
        """
        shape = tuple(shape)
        kind: Kind = "index" if indices else "sequence" if len(shape) > 1 else "vector"
        has_time = kind != "vector"
        if (
            not 1 <= len(shape) <= MAX_RANK
            or any(size is None for size in (shape[1:] if has_time else shape))
            or any(size is not None and not 0 < size < 1 << 28 for size in shape)
        ):
            raise UnsupportedError(
                f"input {name!r}: shape {shape} is neither (None, features), (None, ..., channels) nor (features,)"
            )
        axis = Axis(name) if has_time and shape[0] is None else None
        if time_of is not None:
            other = self._values[time_of].axis if time_of in self._inputs else None
            if axis is None or other != Axis(time_of):
                raise ShapeError(f"input {name!r}: it cannot have the time of {time_of!r}, both of a number not fixed")
            axis = other
        mask = None
        if has_time and masked:
            mask = self._add_value(Value(f"{name}.mask", "mask", shape[:1], axis=axis)).name
        value = self._add_value(Value(name, kind, shape, mask, axis))
        self._inputs.append(name)
        return value

    def tensor(self, name: str, array: Tensor) -> str:
        """Register a weight under a unique name and return that name; a contiguous array is not copied."""
        if name in self._tensors:
            raise FormatError(f"tensor {name!r} is given twice")
        if not isinstance(array, StoredTensor):
            array = np.asarray(array)
            array = np.ascontiguousarray(array).reshape(array.shape)
        if array.dtype not in (np.float32, np.float64):
            raise FormatError(f"tensor {name!r}: expected float32 or float64, found {array.dtype}")
        self._tensors[name] = array
        return name

    def add(
        self,
        kind: str,
        name: str,
        inputs: Mapping[str, Value | None],
        weights: Mapping[str, Tensor | str | None] | None = None,
        options: Mapping[str, Option] | None = None,
        output_names: Mapping[str, str] | None = None,
    ) -> dict[str, Value]:
        """Add one layer and return its outputs by role.

        Parameters
        ----------
        kind : str
            A key of `cylstm.graph.layers.LAYER_KINDS`.
        name : str
            The layer's name; a second call of it gets ``name#2`` and so on.
        inputs : dict of str to Value
            By role; None for one that is not given. If "x" has a mask and the kind reads masks, it becomes the input
            "mask" unless that is given, too.
        weights : dict of str to (ndarray or str)
            By role; an array is registered as ``name.role``, a string names a registered tensor (shared layers).
        options : dict
            Those that differ from the kind's defaults.
        output_names : dict of str to str
            Role -> name, where an output has another name than ``name.role``, or `name` for "y".

        Raises
        ------
        ShapeError, UnsupportedError
            If shapes, roles or options do not fit the kind; the message names the layer.
        """
        if kind not in LAYER_KINDS:
            raise UnsupportedError(
                f"layer {name!r}: no layer of kind {kind!r}; known are {', '.join(sorted(LAYER_KINDS))}"
            )
        spec = LAYER_KINDS[kind]
        unique = name
        call = 1
        while unique in self._layer_names:
            call += 1
            unique = f"{name}#{call}"
        read = self._read_values(unique, inputs)
        mask = read["x"].mask if spec.reads_mask and "mask" not in inputs and "x" in read else None
        if mask is not None:
            read["mask"] = self._values[mask]
        chosen = dict(spec.defaults)
        for key, option in (options or {}).items():
            default = chosen.get(key)
            if default is None:
                raise UnsupportedError(f"layer {unique!r}: {kind} has no option {key!r}")
            if type(option) is not type(default):
                option = _checked_option(f"layer {unique!r}: option {key!r}", option, default)
            chosen[key] = option
        names = self._weight_names(unique, weights or {})
        tensors = {role: self._tensors[tensor] for role, tensor in names.items()}
        spec.check_roles(unique, read, tensors)
        outputs: dict[str, Value] = {}
        for role, value in spec.infer(unique, read, tensors, chosen).items():
            default_name = unique if role == "y" else f"{unique}.{role}"
            outputs[role] = value._replace(name=(output_names or {}).get(role, default_name))
        if "y" in outputs and "mask" in outputs:
            outputs["y"] = outputs["y"]._replace(mask=outputs["mask"].name)
        for value in outputs.values():
            if value.axis is not None and len(value.axis.rules) > MAX_TIME_RULES:
                raise UnsupportedError(
                    f"layer {unique!r}: its time follows from that of input {value.axis.source!r} by more than "
                    f"{MAX_TIME_RULES} strides and repetitions in turn; give the input a fixed number of steps"
                )
            self._add_value(value)
        layer = Layer(
            kind,
            unique,
            {role: value.name for role, value in read.items()},
            {role: value.name for role, value in outputs.items()},
            names,
            chosen,
        )
        self._layers.append(layer)
        self._layer_names.add(unique)
        return outputs

    def value(self, name: str) -> Value:
        """A value of the graph by its name, for example the mask of another: ``builder.value(x.mask)``."""
        if name not in self._values:
            raise FormatError(f"no value is named {name!r}")
        return self._values[name]

    def values(self) -> list[Value]:
        """Those that the graph has so far."""
        return list(self._values.values())

    def is_input(self, value: Value) -> bool:
        """Whether it is an input of the network."""
        return value.name in self._inputs

    def sources(self, value: Value, ends: Collection[str] = ()) -> set[str]:
        """The names of all values that it is computed from; not those before the kinds of layers in `ends`."""
        of = {name: layer for layer in self._layers for name in layer.outputs.values()}
        found: set[str] = set()
        left = [value.name]
        while left:
            name = left.pop()
            if name in found:
                continue
            found.add(name)
            if name in of and of[name].kind not in ends:
                left += of[name].inputs.values()
        return found

    def layers(self) -> list[Layer]:
        """Those that the graph has so far."""
        return list(self._layers)

    def tensors(self) -> Mapping[str, Tensor]:
        """The weights that have been registered."""
        return self._tensors

    def mark(self) -> tuple[object, ...]:
        """What `rewind` takes to forget all that is added from now on."""
        parts = (self._values, self._layers, self._layer_names, self._inputs, self._outputs, self._tensors)
        return tuple(part.copy() for part in parts)

    def rewind(self, mark: tuple[Any, ...]) -> None:
        """Forget what was added since `mark` was made."""
        parts = tuple(part.copy() for part in mark)
        self._values, self._layers, self._layer_names, self._inputs, self._outputs, self._tensors = parts

    def output(self, value: Value) -> None:
        """Declare a value as the next output of the graph."""
        if value.kind == "mask":
            raise UnsupportedError(f"value {value.name!r}: a mask cannot be an output")
        self._outputs.append(value.name)

    def build(self, metadata: Mapping[str, Any] | None = None, provenance: Mapping[str, object] | None = None) -> Graph:
        """The finished graph; its window is the number of steps that its inputs fix, if they do.

        Raises `FormatError` if it has no input, layer or output.
        """
        if not self._inputs or not self._layers or not self._outputs:
            raise FormatError("a network needs at least one input, one layer and one output")
        arrays = {name: tensor for name, tensor in self._tensors.items() if not isinstance(tensor, StoredTensor)}
        stored = len(arrays) < len(self._tensors)
        return Graph(
            dict(self._values),
            tuple(self._layers),
            tuple(self._inputs),
            tuple(self._outputs),
            StoredTensors(self._tensors) if stored else arrays,
            dict(metadata or {}),
            dict(provenance or {}),
            window=common_steps(value.shape[0] for value in map(self.value, self._inputs) if value.has_time),
            noise={name: entries for name, entries in self.noise.items() if name in self._layer_names},
        )

    def _add_value(self, value: Value) -> Value:
        if value.name in self._values:
            raise FormatError(f"two values are named {value.name!r}")
        self._values[value.name] = value
        return value

    def _read_values(self, where: str, inputs: Mapping[str, Value | None]) -> dict[str, Value]:
        """Those inputs that are given. Raises `ShapeError` about one that is of another graph."""
        read = {role: value for role, value in inputs.items() if value is not None}
        for role, value in read.items():
            if self._values.get(value.name) != value:
                raise ShapeError(f"layer {where!r}: input {role!r} is not a value of this graph: {value}")
        return read

    def _weight_names(self, where: str, weights: Mapping[str, Tensor | str | None]) -> dict[str, str]:
        """Role -> tensor name of the weights that are given; arrays are registered."""
        names = {}
        for role, weight in weights.items():
            if weight is None:
                continue
            if not isinstance(weight, str):
                names[role] = self.tensor(f"{where}.{role}", weight)
            elif weight in self._tensors:
                names[role] = weight
            else:
                raise FormatError(f"layer {where!r}: tensor {weight!r} is not in the graph")
        return names
