"""A network as plain data: layers that read and write values.

The graph knows no framework, no file and no C. A *value* is what flows (a sequence, a vector, a mask, a
state); a *layer* is one call of one layer, in one direction; *tensors* are the weights, in the canonical
layout, named once and shared by every layer that uses them. Every shape is checked here, when a layer is
added, with a message that names the layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias, dataclass_transform

import numpy as np

from cylstm.errors import FormatError, ShapeError, UnsupportedError
from cylstm.graph.weights import StoredTensor, StoredTensors, as_stored

if TYPE_CHECKING:
    from typing import Literal, NoReturn

Kind: TypeAlias = "Literal['sequence', 'vector', 'mask', 'state', 'index']"
Option: TypeAlias = "str | float | int | bool"


#: the most axes of a value, batch not counted
MAX_RANK = 8


class StaticTimeNeeded(ShapeError):
    """A layer needs to know the number of steps in advance: give the input a shape with a number instead of None."""


class ReadOnlyDict(dict):
    """A dict that cannot be changed; copies of it, pickled ones too, are ordinary dicts."""

    __slots__ = ()

    def __init__(self) -> None:
        pass  # see read_only; a dict's own would fill it again

    def _refuse(self, *arguments: object, **named: object) -> NoReturn:
        raise TypeError("this dict is read-only; change a copy of it: dict(...)")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self):
        return dict, (dict(self),)


def read_only(item: object) -> object:
    """A dict as a `ReadOnlyDict`, a list as a tuple, and so all that they and tuples hold; anything else as it is."""
    kind = type(item)
    if kind is dict or kind is ReadOnlyDict:
        return _read_only_dict({key: read_only(value) for key, value in item.items()})
    if kind is list or kind is tuple:
        return tuple([read_only(value) for value in item])
    return item


def _read_only_dict(item: object) -> object:
    """As `read_only`, where what a dict holds is read-only already."""
    if type(item) is not dict:
        return item
    found = dict.__new__(ReadOnlyDict)
    dict.update(found, item)
    return found


# of any record: the item at each place, for as many as the longest has
_ITEMS = [property(itemgetter(index)) for index in range(10)]


@dataclass_transform(frozen_default=True)
class Record(tuple):
    """A tuple whose items have the names, and defaults, that a subclass lists.

    With `_holds_dicts` those that are dicts are made read-only.

    (`typing.NamedTuple` compiles code for every class: 0.2 ms each at every start.)
    """

    __slots__ = ()
    _fields: tuple[str, ...] = ()
    _defaults: Mapping[str, object] = {}
    _holds_dicts = False

    def __init_subclass__(cls) -> None:
        cls._fields = tuple(cls.__annotations__)
        cls._defaults = {name: vars(cls)[name] for name in cls._fields if name in vars(cls)}
        for index, name in enumerate(cls._fields):
            setattr(cls, name, _ITEMS[index])

    def __new__(cls, *items: object, **named: object) -> Record:
        if len(items) < len(cls._fields):
            rest = cls._fields[len(items) :]
            try:
                items += tuple(named.pop(name) if name in named else cls._defaults[name] for name in rest)
            except KeyError as error:
                raise TypeError(f"{cls.__name__}: {error} is missing") from None
        if named or len(items) > len(cls._fields):
            raise TypeError(f"{cls.__name__}: expected {', '.join(cls._fields)}")
        return tuple.__new__(cls, map(_read_only_dict, items) if cls._holds_dicts else items)

    def __getnewargs__(self) -> tuple:
        return tuple(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={item!r}' for name, item in zip(self._fields, self))})"

    def _replace(self, **changes: object) -> Record:
        return type(self)(**dict(zip(self._fields, self)) | changes)


class Axis(Record):
    """A time axis whose length is an input's, or follows from it by rules.

    A rule ``(add, divide, multiply)`` makes ``floor((length + add) / divide) * multiply`` of a length: a convolution or
    pooling with stride s that reaches over r steps, p steps of padding added, has ``(p - r + s, s, 1)``; cropping n
    steps ``(-n, 1, 1)``; upsampling ``(0, 1, k)``. Rules in a row with multiply 1 become one, so that axes of the same
    length are equal, however they came about.

    Attributes
    ----------
    source : str
        The input's name.
    rules : tuple of (int, int, int)
    """

    __slots__ = ()

    source: str
    rules: tuple[tuple[int, int, int], ...] = ()

    def after(self, add: int, divide: int, multiply: int) -> Axis:
        """The axis that one more rule gives."""
        if (add, divide, multiply) == (0, 1, 1):
            return self
        rules = self.rules
        if rules and rules[-1][2] == 1:
            last_add, last_divide, _ = rules[-1]
            add, divide = last_add + add * last_divide, last_divide * divide
            rules = rules[:-1]
            if (add, divide, multiply) == (0, 1, 1):
                return Axis(self.source, rules)
        return Axis(self.source, (*rules, (add, divide, multiply)))

    def length(self, time: int) -> int:
        """Steps where the input has `time`; 0 if there are too few."""
        for add, divide, multiply in self.rules:
            time = max(time + add, 0) // divide * multiply
        return time


class Value(Record):
    """What flows along an edge.

    Attributes
    ----------
    name : str
        Unique in the graph.
    kind : {"sequence", "vector", "mask", "state", "index"}
        Sequences, masks and indices have a time axis, which comes first; vectors and states have none.
    shape : tuple of int or None
        Without the batch axis; None stands for a time that is not known in advance. A sequence is (time, features),
        or of any higher rank; a vector or a state (features,) or of any rank; a mask (time,); indices (time,) or of
        any rank.
    mask : str or None
        Name of the mask that says which steps of this value count.
    axis : Axis or None
        Where the time comes from, if it is not known in advance.
    """

    __slots__ = ()

    name: str
    kind: Kind
    shape: tuple[int | None, ...]
    mask: str | None = None
    axis: Axis | None = None

    @property
    def has_time(self) -> bool:
        """Whether the first axis is time."""
        return self.kind in ("sequence", "mask", "index")

    @property
    def step_shape(self) -> tuple[int, ...]:
        """The shape of one step, or of the whole where there is no time."""
        return self.shape[1:] if self.has_time else self.shape

    @property
    def features(self) -> int:
        """Size of the last axis (1 for a mask)."""
        return int(self.step_shape[-1]) if self.step_shape else 1

    @property
    def size(self) -> int:
        """Numbers of one row at one step (1 for a mask)."""
        return math.prod(self.step_shape)


class Layer(Record):
    """One call of one layer.

    Attributes
    ----------
    kind : str
        A key of `cylstm.graph.layers.LAYER_KINDS`.
    name : str
        Unique in the graph; what messages and state labels use.
    inputs, outputs : dict of str to str
        Role -> value name, for example ``{"x": "input", "mask": "input.mask"}`` and ``{"y": "lstm"}``.
    weights : dict of str to str
        Role -> tensor name, for example ``{"weight_ih": "lstm.weight_ih"}``.
    options : dict
        Plain scalars and strings; every option of the kind is present.
    """

    __slots__ = ()
    _holds_dicts = True

    kind: str
    name: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    weights: Mapping[str, str]
    options: Mapping[str, Option]


class Graph(Record):
    """A whole network, read-only. Make one with `GraphBuilder`, which validates it.

    Attributes
    ----------
    values : dict of str to Value
    layers : tuple of Layer
        In an order in which each layer comes after those it reads from.
    inputs, outputs : tuple of str
        Value names. The mask of an input is that value's `Value.mask`; giving it is optional.
    tensors : mapping of str to ndarray
        float32 or float64, C order, canonical layout. A loaded model's are unpacked when asked for.
    metadata : dict of str to str
        Free text that travels in the native file (scaling, units, names).
    provenance : dict
        What the loader did: format, version, tensors used.
    layouts : dict of str to str
        Of inputs and outputs whose user-facing axis order differs from the stored one: which axis of the value each of
        the user's is, batch not counted. "10" is (batch, channels, time) for a value (time, channels); axes of the
        value that are not named have size 1, so "0" is (batch, time) for a value (time, 1).
    window : int or None
        Steps of the sequences that the network was trained on, each from a zero state, where the file states it.
    stateful : tuple of str
        Layers whose state goes on from one call of the network to the next where it was trained (Keras's
        ``stateful=True``). All others start at zero there.
    """

    __slots__ = ()
    _holds_dicts = True

    values: Mapping[str, Value]
    layers: tuple[Layer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: Mapping[str, np.ndarray]
    metadata: Mapping[str, str]
    provenance: Mapping[str, object]
    layouts: Mapping[str, str] = {}
    window: int | None = None
    stateful: tuple[str, ...] = ()

    def layer_tensors(self, layer: Layer) -> dict[str, np.ndarray]:
        """Role -> array of one layer's weights."""
        return {role: self.tensors[name] for role, name in layer.weights.items()}

    def stored_tensors(self, layer: Layer) -> dict[str, StoredTensor | np.ndarray]:
        """As `layer_tensors`, where shape and dtype are all that is asked."""
        stored = as_stored(self.tensors)
        return {role: stored[name] for role, name in layer.weights.items()}

    def states(self) -> list[tuple[str, tuple[tuple[str, tuple[int, ...]], ...]]]:
        """``[(name, ((label, shape without batch), ...)), ...]`` of the layers that carry state, in graph order."""
        from cylstm.graph.layers import LAYER_KINDS

        found = []
        for layer in self.layers:
            parts = LAYER_KINDS[layer.kind].state(self.stored_tensors(layer), layer.options)
            if parts:
                found.append((layer.name, tuple(parts)))
        return found

    def parameters(self) -> int:
        """Number of weights, each tensor counted once."""
        return sum(int(tensor.size) for tensor in as_stored(self.tensors).values())


def _option(what: str, option: object, default: Option) -> Option:
    """An option of the type of its default; whether there is such a one is for the kind to see."""
    if isinstance(option, np.generic):
        option = option.item()
    if isinstance(default, str):
        expected, fits = "a text", isinstance(option, str)
    elif isinstance(default, bool):
        expected, fits = "True or False", isinstance(option, bool)
    else:
        expected, fits = "a number", isinstance(option, (int, float)) and not isinstance(option, bool)
    if not fits:
        raise UnsupportedError(f"{what} expected {expected}, found {option!r}")
    return option


def common_steps(steps: Iterable[int | None]) -> int | None:
    """The number of steps that all inputs with time have; None if it is not stated of each, or they differ."""
    found = set(steps)
    return found.pop() if len(found) == 1 else None


class GraphBuilder:
    """Builds a `Graph` layer by layer and checks each as it is added."""

    def __init__(self) -> None:
        self._values: dict[str, Value] = {}
        self._layers: list[Layer] = []
        self._layer_names: set[str] = set()
        self._inputs: list[str] = []
        self._outputs: list[str] = []
        self._tensors: dict[str, StoredTensor | np.ndarray] = {}

    def input(self, name: str, shape: tuple[int | None, ...], *, masked: bool = True, indices: bool = False) -> Value:
        """Add an input of `shape` without batch; one with time gets an optional mask beside it.

        Parameters
        ----------
        name : str
        shape : tuple of int or None
            (features,), or with the time first, None where any number of steps will do: (None, features),
            (20, features), (None, rows, columns, channels). Indices: (None,), (20,), (None, n).
        masked : bool
            Whether `predict` takes a mask or lengths for it.
        indices : bool
            Whole numbers that choose rows of an embedding.
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
        mask = None
        if has_time and masked:
            mask = self._add_value(Value(f"{name}.mask", "mask", shape[:1], axis=axis)).name
        value = self._add_value(Value(name, kind, shape, mask, axis))
        self._inputs.append(name)
        return value

    def tensor(self, name: str, array: np.ndarray | StoredTensor) -> str:
        """Register a weight under a unique name and return that name; the array is not copied if it need not be."""
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
        weights: Mapping[str, np.ndarray | str] | None = None,
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
            By role. If "x" carries a mask and the kind reads masks, "mask" is wired by itself; ``"mask": None``
            prevents it.
        weights : dict of str to (ndarray or str)
            By role; an array is registered as ``name.role``, a string names a registered tensor (shared layers).
        options : dict
            Those that differ from the op's defaults.

        Raises
        ------
        ShapeError, UnsupportedError
            If shapes, roles or options do not fit the op; the message names the layer.
        """
        from cylstm.graph.layers import LAYER_KINDS

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
        wires_mask = "mask" not in inputs
        inputs = {role: value for role, value in inputs.items() if value is not None}
        for role, value in inputs.items():
            if self._values.get(value.name) != value:
                raise ShapeError(f"layer {unique!r}: input {role!r} is not a value of this graph: {value}")
        first = inputs.get("x")
        if spec.reads_mask and wires_mask and first is not None and first.mask is not None:
            inputs["mask"] = self._values[first.mask]
        merged = dict(spec.defaults)
        for key, option in (options or {}).items():
            default = merged.get(key)
            if default is None:
                raise UnsupportedError(f"layer {unique!r}: {kind} has no option {key!r}")
            if type(option) is not type(default):
                option = _option(f"layer {unique!r}: option {key!r}", option, default)
            merged[key] = option
        names = {}
        for role, weight in (weights or {}).items():
            if weight is None:
                continue
            if isinstance(weight, str):
                if weight not in self._tensors:
                    raise FormatError(f"layer {unique!r}: tensor {weight!r} is not in the graph")
                names[role] = weight
            else:
                names[role] = self.tensor(f"{unique}.{role}", weight)
        arrays = {role: self._tensors[tensor] for role, tensor in names.items()}
        produced = spec.infer(unique, inputs, arrays, merged)
        outputs: dict[str, Value] = {}
        for role, value in produced.items():
            default = unique if role == "y" else f"{unique}.{role}"
            produced[role] = value._replace(name=(output_names or {}).get(role, default))
        for role, value in produced.items():
            if role == "y" and "mask" in produced:
                value = value._replace(mask=produced["mask"].name)
            outputs[role] = self._add_value(value)
        layer = Layer(
            kind,
            unique,
            {role: value.name for role, value in inputs.items()},
            {role: value.name for role, value in outputs.items()},
            names,
            merged,
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
        """Those of the graph so far."""
        return list(self._values.values())

    def output(self, value: Value) -> None:
        """Declare a value as the next output of the graph."""
        if value.kind == "mask":
            raise UnsupportedError(f"value {value.name!r}: a mask cannot be an output")
        self._outputs.append(value.name)

    def build(self, metadata: Mapping[str, str] | None = None, provenance: Mapping[str, object] | None = None) -> Graph:
        """The finished graph; its window is the number of steps that its inputs fix, if they do.

        Raises `FormatError` if it has no input, layer or output.
        """
        if not self._inputs or not self._layers or not self._outputs:
            raise FormatError("a network needs at least one input, one layer and one output")
        is_stored = any(isinstance(tensor, StoredTensor) for tensor in self._tensors.values())
        return Graph(
            dict(self._values),
            tuple(self._layers),
            tuple(self._inputs),
            tuple(self._outputs),
            StoredTensors(self._tensors) if is_stored else dict(self._tensors),
            dict(metadata or {}),
            dict(provenance or {}),
            window=common_steps(value.shape[0] for value in map(self.value, self._inputs) if value.has_time),
        )

    def _add_value(self, value: Value) -> Value:
        if value.name in self._values:
            raise FormatError(f"two values are named {value.name!r}")
        self._values[value.name] = value
        return value
