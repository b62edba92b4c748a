"""One call of a Keras layer while it is added to the graph: its tensors, their masks, its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, Protocol

import numpy as np

from cylstm.errors import FormatError, ShapeError, UnsupportedError
from cylstm.formats.keras.config import LayerConfig
from cylstm.formats.keras.weights import Part
from cylstm.graph.values import Option, StaticTimeNeeded, Value


class Rebuild(Exception):
    """The graph must be built again: inputs hold indices, have a fixed number of steps, take no mask, or `one_time`."""

    def __init__(self, **inputs: Iterable[str]) -> None:
        super().__init__()
        self.inputs = inputs


@dataclass(frozen=True)
class NoMask:
    """A mask that Keras has and that is not computed here: an error if something reads it.

    `inputs` are those whose masks alone it is made of, empty if the network itself computes any: such inputs take no
    mask then.
    """

    why: str
    inputs: frozenset[str] = frozenset()


class Mask:
    """Keras's mask of a tensor. Tensors that are one object in Keras share it: all see when it is taken away."""

    def __init__(self, value: Value | NoMask | None = None) -> None:
        self.value = value


@dataclass(frozen=True)
class Flow:
    """A tensor of the Keras model: what it is in the graph, its mask, and where its axes are.

    Attributes
    ----------
    value : Value
    mask : Mask
    order : tuple of int
        For each of Keras's axes, batch not counted, the axis of the value. It is not 0, 1, 2, ... where a time of any
        length, the first axis of the value, is another one in Keras, and behind layers that only name axes anew.
    """

    value: Value
    mask: Mask = field(default_factory=Mask)
    order: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.order:
            object.__setattr__(self, "order", tuple(range(len(self.value.shape))))
        assert sorted(self.order) == [*range(len(self.value.shape))]

    @property
    def is_natural(self) -> bool:
        """Whether its axes lie as Keras's."""
        return self.order == tuple(range(len(self.value.shape)))

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The sizes of Keras's axes, batch not counted."""
        return tuple(self.value.shape[axis] for axis in self.order)


class Computed:
    """The result of an operation: a tensor of the program, which operations read as it is, and layers as a `Flow`.

    Attributes
    ----------
    name, what : str
        The operation's name in the graph, and of messages.
    mask : Comparison, Spread, Everywhere, Value, NoMask or None
        What it is as a mask, where Keras wrote the operation to compute one.
    flow : Flow or None
        What layers read, once one has.
    """

    def __init__(self, name: str, what: str, tensor: Callable[[], Any], mask: Any = None) -> None:
        self.name = name
        self.what = what
        self.mask = mask
        self.flow: Flow | None = None
        self._make = tensor
        self._made: list[Any] = []

    @property
    def tensor(self) -> Any:
        """A tensor, a constant or sizes of the program; computed when first asked for, as masks may never be."""
        if not self._made:
            self._made.append(self._make())
        return self._made[0]

    @property
    def made(self) -> Any:
        """The tensor if it has been computed, else None."""
        return self._made[0] if self._made else None


@dataclass(frozen=True)
class Comparison:
    """``tensor != number``, which Keras writes to compute a mask; `is_reduced`: for each step, over its features."""

    given: Flow | Computed
    number: float
    is_reduced: bool = False


class Everywhere:
    """A mask in which every step counts. It replaces the mask that Keras would pass on automatically."""


@dataclass(frozen=True)
class Spread:
    """A mask for each feature, which Keras writes into a config to join masks: where any of `masks` counts.

    `everywhere`: all of it counts.
    """

    masks: tuple[Value | NoMask, ...] = ()
    everywhere: bool = False


class Maker(Protocol):
    """What the layers are added to."""

    version: tuple[int, int]
    is_tensorflow: bool
    #: that computed the model, where it is known: "torch" and the like
    backend: str | None
    stateful: list[str]

    @property
    def noise(self) -> dict[str, Mapping[str, Option]]:
        """`GraphBuilder.noise`."""

    @property
    def is_archive(self) -> bool:
        """`Weights.is_archive` of the model's weights."""

    def add_layer(
        self,
        key: tuple[object, ...],
        kind: str,
        name: str,
        inputs: Mapping[str, Value | None],
        weights: Mapping[str, np.ndarray] | None,
        options: Mapping[str, Option] | None,
    ) -> dict[str, Value]:
        """`GraphBuilder.add`; a second layer of the same `key` and name shares the weights of the first."""

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
        """Keras role -> array of ``parts[index]`` of a layer, checked against `shapes`."""

    def call_layer(self, call: LayerCall) -> list[Flow]:
        """The outputs of a layer of any class."""

    def call_network(self, call: LayerCall) -> list[Flow]:
        """The outputs of a model that is a layer."""

    def inputs_of(self, mask: Value | NoMask) -> frozenset[str]:
        """The inputs whose masks alone a mask is made of; empty if the network computes any of it."""

    def mask_of(self, value: Value, number: float, where: str) -> Value:
        """The mask of the steps that hold anything but `number`."""

    def is_input(self, value: Value) -> bool:
        """Whether a value is an input of the network."""

    def share_time(self, values: Sequence[Value]) -> None:
        """Let the inputs from which the times of `values` come, not fixed, have one time if they can."""

    def flow_of(self, given: Flow | Computed) -> Flow:
        """What a layer reads of the result of an operation."""

    def arranged(self, flow: Flow, order: Sequence[int]) -> Flow:
        """The same tensor with its axes in this order. Raises `StaticTimeNeeded` where that moves an open time."""

    def reshaped(self, call: LayerCall, sizes: Sequence[int]) -> Flow:
        """The only input in another shape, of which one size may be -1."""

    def mask_of_numbers(self, given: Flow | Computed, what: str) -> Value:
        """The mask of the steps whose number is not 0, of a tensor (batch, time)."""


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer.

    Attributes
    ----------
    maker : Maker
    layer : LayerConfig
    name : str
        Of its layers in the graph.
    owner : LayerConfig
        The layer of the outermost model under which the weights stand: the layer itself, or the model or wrapper
        that it is in.
    within : Part
        Where in the owner they stand.
    flows : list of Flow
        The first argument, one tensor or several.
    is_list : bool
        Whether that was a list.
    arguments : dict
        The other arguments by name, tensors as `Flow`, masks also as `Value`.
    first : int
        Where in a value's shape the axes begin that the layer sees: 1 inside TimeDistributed.
    is_last : bool
        Whether several outputs have somewhere to go.
    """

    maker: Maker
    layer: LayerConfig
    name: str
    owner: LayerConfig
    within: Part
    flows: list[Flow]
    is_list: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    first: int = 0
    is_last: bool = True

    @property
    def what(self) -> str:
        return self.layer.what

    @property
    def flow(self) -> Flow:
        """The only input."""
        if len(self.flows) != 1:
            raise FormatError(f"{self.what}: expected one input, found {len(self.flows)}")
        return self.flows[0]

    @property
    def x(self) -> Value:
        """The only input's value."""
        return self.numbers(self.flow)

    def numbers(self, flow: Flow) -> Value:
        """A tensor's value, which must not be indices."""
        if flow.value.kind == "index":
            raise UnsupportedError(
                f"{self.what}: input {flow.value.name!r} is {shape_text(flow.value)}, indices that only an Embedding "
                "reads; expected (batch, time, features) or (batch, features) with a fixed number of features"
            )
        return flow.value

    @property
    def values(self) -> list[Value]:
        """The values of all inputs."""
        return [self.numbers(flow) for flow in self.flows]

    def add(
        self,
        kind: str,
        inputs: Value | Mapping[str, Value | None],
        weights: Mapping[str, np.ndarray] | None = None,
        suffix: str = "",
        /,
        **options: Option,
    ) -> Value:
        """Add a layer to the graph, named after this one, and return its output ``y``."""
        given = {"x": inputs} if isinstance(inputs, Value) else inputs
        return self.add_layer(kind, self.name + suffix, given, weights, options)["y"]

    def add_layer(
        self,
        kind: str,
        name: str,
        inputs: Mapping[str, Value | None],
        weights: Mapping[str, np.ndarray] | None = None,
        options: Mapping[str, Option] | None = None,
    ) -> dict[str, Value]:
        """Add a layer to the graph, and return its outputs by role."""
        key = (self.owner.name, self.within, self.layer.what)
        return self.maker.add_layer(key, kind, name, inputs, weights, options)

    def take(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        roles: Mapping[str, str],
        ignored: Sequence[str] = (),
        integers: Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        """The layer's own weights, by Keras's names; those of `integers` are whole numbers."""
        named = {key: f"{self.name}/{role}" for key, role in roles.items()}
        return self.take_part([Part()], 0, shapes, named, ignored, integers=integers)

    def take_part(
        self,
        parts: Sequence[Part],
        index: int,
        shapes: Mapping[str, tuple[int, ...]],
        roles: Mapping[str, str],
        ignored: Sequence[str] = (),
        cudnn_bias: int | None = None,
        integers: Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        """The weights of one of several parts of the layer."""
        within = self.within
        placed = [
            Part((*within.path, *part.path), (*within.attributes, *part.attributes), part.names, within.below)
            for part in parts
        ]
        return self.maker.take(
            self.owner, placed, index, shapes, roles, cudnn_bias=cudnn_bias, ignored=ignored, integers=integers
        )

    def axis(self, axis: object, option: str = "axis", of: Flow | None = None) -> int:
        """The axis of the value's shape for Keras's axis, which counts the batch too."""
        flow = of or self.flow
        rank = len(flow.order) - self.first + 1
        if type(axis) is not int or not -rank <= axis < rank:
            raise ShapeError(
                f"{self.what}: option {option} expected an axis of {sizes_text(flow.shape)}, found {axis!r:.80}"
            )
        if axis % rank == 0:
            raise ShapeError(f"{self.what}: option {option} expected another axis than the batch, found {axis}")
        return flow.order[axis % rank - 1 + self.first]

    def natural(self) -> LayerCall:
        """The call with the axes of all inputs as Keras has them."""
        return replace(self, flows=self._natural(self.flows), arguments=self._natural(self.arguments))

    def _natural(self, nest: Any) -> Any:
        if isinstance(nest, Flow):
            return self.maker.arranged(nest, range(len(nest.order)))
        if isinstance(nest, list):
            return [self._natural(one) for one in nest]
        return {key: self._natural(one) for key, one in nest.items()} if isinstance(nest, dict) else nest

    @property
    def channels(self) -> int:
        """The size of Keras's last axis."""
        size = self.flow.shape[-1]
        return self.known_sizes(self.x, 0)[0] if size is None else size

    def last_is_last(self) -> LayerCall:
        """The call with Keras's last axis as the last of the value."""
        flow = self.flow
        last = flow.order[-1]
        if last == len(flow.order) - 1:
            return self
        order = [place - (place > last) for place in flow.order[:-1]]
        return replace(self, flows=[self.maker.arranged(flow, [*order, len(order)])])

    def result(self, y: Value, mask: Value | NoMask | None, order: Sequence[int] = ()) -> list[Flow]:
        """The only output, with its mask and order."""
        return [Flow(y, Mask(mask), tuple(order))]

    def known_sizes(self, value: Value, first: int) -> tuple[int, ...]:
        """The sizes of a value's axes from `first` on. Raises `StaticTimeNeeded` if a time among them is not known."""
        sizes = [size for size in value.shape[first:] if size is not None]
        if len(sizes) < len(value.shape) - first:
            raise StaticTimeNeeded(
                f"{self.what}: needs the number of steps in advance: say it in the shape of the input, found "
                f"{shape_text(value)}"
            )
        return tuple(sizes)

    def mask(self, flow: Flow) -> Value | None:
        """The mask of a tensor, to be read. Raises `UnsupportedError` if we do not compute it."""
        return self.readable(flow.mask.value)

    def readable(self, mask: Value | NoMask | None) -> Value | None:
        """A mask as a value."""
        if isinstance(mask, NoMask):
            self.refuse_mask(mask, f"the mask of its input is not supported: {mask.why}")
        return mask

    def refuse_mask(self, mask: Value | NoMask, why: str) -> NoReturn:
        """Refuse a mask; one that only `predict` can give, by not taking it there."""
        inputs = self.maker.inputs_of(mask)
        if inputs:
            raise Rebuild(unmasked=inputs)
        raise UnsupportedError(f"{self.what}: {why}")

    def merged_mask(self, masks: Sequence[Value | NoMask], mode: str, name: str) -> Value | NoMask:
        """Several masks as one, where "any" or "all" of them count."""
        distinct = list({mask.name if isinstance(mask, Value) else mask.why: mask for mask in masks}.values())
        inputs = [self.maker.inputs_of(mask) for mask in distinct]
        together = frozenset().union(*inputs) if all(inputs) else frozenset()
        refused = next((mask for mask in distinct if isinstance(mask, NoMask)), None)
        if refused is not None:
            return NoMask(refused.why, together)
        known = [mask for mask in distinct if isinstance(mask, Value)]
        first = known[0]
        if len(known) == 1:
            return first
        for mask in known:
            if (mask.shape, mask.axis) != (first.shape, first.axis):
                return NoMask(f"masks of different times, {first.name!r} and {mask.name!r}", together)
        roles = {f"mask{k or ''}": mask for k, mask in enumerate(known)}
        return self.add_layer("mask_merge", name, roles, None, {"mode": mode})["mask"]

    def as_mask(self, given: object, key: str = "mask") -> Value | NoMask | None:
        """An argument that is a mask, or becomes one: a comparison, truths that operations compute."""
        found = given.mask if isinstance(given, Computed) and given.mask is not None else given
        if isinstance(found, Everywhere):
            return None
        if isinstance(found, Spread):
            raise UnsupportedError(f"{self.what}: a mask for each feature is not supported")
        if isinstance(found, Comparison):
            flow = self.maker.flow_of(found.given)
            is_number_a_step = flow.value.kind == "vector" and len(flow.value.shape) == 1
            if is_number_a_step and isinstance(given, Computed) and not self.maker.is_input(flow.value):
                return self.maker.mask_of_numbers(given, f"{self.what}: argument {key}")
            if not found.is_reduced and flow.value.kind != "index" and len(flow.value.shape) > 1:
                raise UnsupportedError(f"{self.what}: a mask for each feature is not supported")
            return self.maker.mask_of(flow.value, found.number, self.what)
        if isinstance(found, (Flow, Computed)):
            return self.maker.mask_of_numbers(found, f"{self.what}: argument {key}")
        if found is not None and not isinstance(found, (Value, NoMask)):
            raise UnsupportedError(f"{self.what}: argument {key}={found!r:.80} is not supported")
        return found

    def explicit_mask(self, key: str = "mask") -> tuple[bool, Value | NoMask | None]:
        """Whether the call gives a mask itself, and which."""
        given = self.arguments.get(key)
        return given is not None, self.as_mask(given, key)

    def listed_masks(self) -> list[Value | NoMask | None]:
        """The masks of all inputs, those that the call gives if it does."""
        given = self.arguments.get("mask")
        if given is None:
            return [flow.mask.value for flow in self.flows]
        if not isinstance(given, list) or len(given) != len(self.flows):
            raise FormatError(f"{self.what}: argument mask expected a list of {len(self.flows)}, found {given!r:.80}")
        return [self.as_mask(one) for one in given]

    def flag_argument(self, key: str) -> bool:
        """An argument that is true or false."""
        value = self.arguments.get(key)
        if value is not None and not isinstance(value, bool):
            raise FormatError(f"{self.what}: argument {key} expected true or false, found {value!r:.80}")
        return bool(value)


def shape_text(value: Value) -> str:
    """The shape with the batch axis."""
    return sizes_text(value.shape)


def sizes_text(sizes: Sequence[int | None]) -> str:
    """A shape without batch, for messages with it."""
    return "(" + ", ".join(["batch", *("time" if size is None else str(size) for size in sizes)]) + ")"
