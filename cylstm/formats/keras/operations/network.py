"""The operations of a Keras model while its graph is built: what they read and give, as tensors of a program."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats.keras.call import (
    Comparison,
    Computed,
    Everywhere,
    Flow,
    LayerCall,
    Mask,
    NoMask,
    Rebuild,
    Spread,
)
from cylstm.formats.keras.network import Slice
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.values import Option, Value
from cylstm.program.network import MIXES, Network
from cylstm.program.operations.elementwise import cast
from cylstm.program.tensor import BATCH, Constant, Dim, DType, Scores, Size, Stack, Tensor, is_constant, shape_of

#: the most numbers of a constant that an operation makes
MOST_NUMBERS = 1 << 26
_MAX_DEPTH = 64


class KerasNetwork(Network):
    """Adds the layers of operations to the graph of a Keras model. Keras's operations read no masks."""

    def __init__(self, builder: GraphBuilder, share_time: Callable[[Sequence[Value]], None]) -> None:
        super().__init__()
        self.builder = builder
        self.what = ""
        self._share_time = share_time

    @property
    def place_name(self) -> str:
        """The operation being added, as messages about a Keras model call it."""
        return self.what

    def add_layers(
        self,
        kind: str,
        value: Value | None,
        /,
        weights: Mapping[str, np.ndarray | None] | None = None,
        options: Mapping[str, Option] | None = None,
        *,
        part: str = "",
        **others: Value | None,
    ) -> dict[str, Value]:
        if kind in LAYER_KINDS and LAYER_KINDS[kind].reads_mask:
            others.setdefault("mask", None)
        found = {role: one if one is None else np.asarray(one, self.dtype) for role, one in (weights or {}).items()}
        return super().add_layers(kind, value, found, options, part=part, **others)

    def elementwise(
        self,
        kind: str,
        tensors: Sequence[Tensor],
        options: Mapping[str, Option],
        *,
        roles: Sequence[str] | None = None,
        dtype: DType = "float",
    ) -> Tensor:
        self._share_times(tensors)
        return super().elementwise(kind, tensors, options, roles=roles, dtype=dtype)

    def concat(self, tensors: Sequence[Tensor], axis: int) -> Tensor:
        self._share_times(tensors, axis)
        return super().concat(tensors, axis)

    def _share_times(self, tensors: Sequence[Tensor], but: int | None = None) -> None:
        """Let times of several inputs that lie in one axis, other than `but`, be one."""
        rank = max((tensor.ndim for tensor in tensors), default=0)
        for i in range(1, rank + 1):
            sized = [(tensor.value, tensor.size(-i)) for tensor in tensors if tensor.ndim >= i]
            values = [value for value, size in sized if isinstance(size, Dim) and size.axis is not None]
            if len(values) > 1 and (but is None or (but - rank if but >= 0 else but) != -i):
                self._share_time(values)

    def checked(self, count: object) -> int:
        """A number of places or numbers that a constant is to have."""
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
            raise self.refuse(f"expected a whole number, found {describe(count)}")
        if not 0 <= count <= MOST_NUMBERS:
            raise self.refuse(f"expected at most {MOST_NUMBERS} numbers, found {count}")
        return int(count)


class Operations:
    """The operations of one graph.

    Attributes
    ----------
    net : KerasNetwork
    layouts : dict of str to str
        The order of axes of those outputs where it is not the graph's.
    """

    def __init__(
        self, builder: GraphBuilder, whole: Mapping[str, str], share_time: Callable[[Sequence[Value]], None]
    ) -> None:
        self.net = KerasNetwork(builder, share_time)
        self.layouts: dict[str, str] = {}
        #: input -> "int" or "bool", where it holds such numbers
        self.whole = whole

    def at(self, name: str, what: str) -> KerasNetwork:
        """The network, which names what it adds after an operation."""
        self.net.name, self.net.what = name, what
        return self.net

    # What operations read

    def given(self, call: LayerCall, entry: Any, depth: int = 0) -> Any:
        """An argument as the functions of the program take it."""
        if depth > _MAX_DEPTH:
            raise FormatError(f"{call.what}: an argument that is nested too deeply")
        if isinstance(entry, Computed):
            return entry.tensor
        if isinstance(entry, Flow):
            return self.tensor_of(entry, call.first)
        if isinstance(entry, Value):
            net = self.at(call.name, call.what)
            value = net.add_layer("mask_numbers", None, part="mask", mask=entry)
            return Tensor(value, (BATCH, 0), "bool")
        if isinstance(entry, NoMask):
            call.refuse_mask(entry, f"the mask that it computes with is not supported: {entry.why}")
        if isinstance(entry, (Comparison, Spread, Everywhere)):
            raise UnsupportedError(f"{call.what}: a mask is not supported here")
        if isinstance(entry, Slice):
            return slice(*(self.given(call, part, depth + 1) for part in entry))
        if isinstance(entry, list):
            return [self.given(call, item, depth + 1) for item in entry]
        if isinstance(entry, dict):
            return self._object(call, entry, depth)
        if entry is None or isinstance(entry, (bool, int, float, str)):
            return entry
        raise FormatError(f"{call.what}: an argument {entry!r:.80} is not supported")

    def _object(self, call: LayerCall, entry: Mapping[str, Any], depth: int) -> Any:
        """A constant, ``...`` or a slice, as Keras serialises it."""
        class_name, config = entry.get("class_name"), entry.get("config")
        if class_name == "__ellipsis__":
            return Ellipsis
        if set(entry) == {"start", "stop", "step"}:
            return slice(*(self.given(call, entry[key], depth + 1) for key in ("start", "stop", "step")))
        if class_name in ("__numpy__", "__tensor__") and isinstance(config, dict):
            return array_of(call.what, config.get("value"), str(config.get("dtype")))
        raise UnsupportedError(f"{call.what}: an argument of class {class_name!r:.60} is not supported")

    def tensor_of(self, flow: Flow, first: int) -> Tensor:
        """What a layer gives as a tensor; where frames are rows, time and batch are one axis."""
        value = flow.value
        kind = "int" if value.kind == "index" else self.whole.get(value.name, "float")
        if first:
            return Tensor(value, ((BATCH, 0), *flow.order[1:]), kind)  # type: ignore[arg-type]
        return Tensor(value, (BATCH, *flow.order), kind)  # type: ignore[arg-type]

    # What they give

    def add(
        self, call: LayerCall, function: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any]
    ) -> Any:
        """The result of a function of the program with these arguments. Raises `CylstmError` whatever they are."""
        net = self.at(call.name, call.what)
        found = [self.given(call, entry) for entry in args]
        named = {key: self.given(call, entry) for key, entry in options.items()}
        net = self.at(call.name, call.what)
        try:
            inspect.signature(function).bind(net, *found, **named)
        except TypeError as error:
            raise FormatError(f"{call.what}: its arguments are not those of the operation: {error}") from error
        try:
            return function(net, *found, **named)
        except (CylstmError, Rebuild):
            raise
        except (
            TypeError,
            ValueError,
            LookupError,
            AttributeError,
            ArithmeticError,
            AssertionError,
            MemoryError,
        ) as error:
            given = ", ".join([*map(describe, found), *(f"{key}={describe(one)}" for key, one in named.items())])
            raise FormatError(f"{call.what}: cannot be computed of ({given:.300}): {error}") from error

    def results(self, call: LayerCall, found: Any) -> list[Any]:
        """The outputs of an operation: a list is several, a tuple is one that holds sizes."""
        several = found if isinstance(found, list) else [found]
        return [Computed(call.name, call.what, _giving(one)) for one in several]

    def flow_of(self, computed: Computed, first: int) -> Flow:
        """What layers read: a value whose axes lie as Keras's, batch first, but that an open time comes before all."""
        if computed.flow is None:
            net = self.at(computed.name, computed.what)
            tensor = self._whole(net, computed.tensor)
            if first:
                plain = net.plain(tensor)
                if tensor.batch != 0 or plain.axes[:1] != (BATCH,) or plain.is_joined or len(plain.axes) < 2:
                    raise net.refuse(f"expected the frames first, found a tensor {tensor.shape}")
                tensor = plain
            tensor = self._apart(net, tensor)
            if tensor.batch != 0:
                raise net.refuse(f"a layer reads a tensor {tensor.shape}, whose first axis is not the batch")
            order = sorted(range(1, tensor.ndim), key=lambda i: not isinstance(tensor.size(i), Dim))
            value = net.arrange(tensor, order)
            if len(value.shape) > max(tensor.ndim - 1, 1):
                # a time of any length has an axis of features in the graph: a layer would take it for Keras's last
                raise net.needs_time(f"a layer that reads a tensor {tensor.shape}")
            is_scalar = tensor.ndim == 1
            computed.flow = Flow(value, Mask(), () if is_scalar else tuple(order.index(i) for i in tensor.inner))
        return computed.flow

    def output_of(self, computed: Computed, taken: Sequence[str]) -> Value:
        """An output of the network, whose axes may lie in another order than the graph's."""
        net = self.at(computed.name, computed.what)
        tensor = self._apart(net, self._whole(net, computed.tensor))
        if tensor.batch != 0:
            raise net.refuse(f"an output {tensor.shape}, whose first axis is not the batch, is not supported")
        inner = tensor.inner
        order = inner
        if any(isinstance(tensor.size(i), Dim) for i in inner):
            order = net.order([tensor], inner)
        value = net.arrange(tensor, order)
        if value.name in taken or value.kind in ("state", "index"):
            value = net.add_layer("activation", value, part="output")
        places = [order.index(i) for i in inner]
        if places != list(range(len(value.shape))):
            self.layouts[value.name] = "".join(map(str, places))
        return value

    def _whole(self, net: KerasNetwork, found: Any) -> Tensor:
        """A result as a tensor of numbers that the network computes."""
        if isinstance(found, tuple):
            raise net.refuse("a shape, which is no tensor of numbers here, is read as one")
        if isinstance(found, Dim):
            raise net.refuse("a size, which is no tensor of numbers here, is read as one")
        return net.constant(found) if is_constant(found) else net.tensor(found)

    @staticmethod
    def _apart(net: KerasNetwork, tensor: Tensor) -> Tensor:
        """With no axis that is several of the value's."""
        for i, places in enumerate(tensor.axes):
            if isinstance(places, tuple):
                if BATCH in places:
                    raise net.refuse(
                        f"a layer or an output that has the rows and another axis in one, {tensor.shape}, {MIXES}"
                    )
                tensor = net.solid(tensor, i)
        return tensor

    def mask_of(self, given: Any, what: str, name: str) -> Value:
        """The mask of the steps whose number is not 0, of a tensor (batch, time)."""
        net = self.at(name, what)
        tensor = given
        if is_constant(tensor):
            tensor = net.constant(tensor)
        tensor = self._apart(net, net.tensor(cast(net, tensor, "bool")))
        if tensor.ndim == 3 and tensor.batch == 0 and tensor.size(2) == 1:
            tensor = tensor.with_axes(tensor.axes[:2])
        if tensor.ndim != 2 or tensor.batch != 0:
            raise UnsupportedError(f"{what} is computed, and a tensor {tensor.shape}; a mask is (batch, time)")
        value = net.arrange(tensor.with_axes((*tensor.axes, None)), [1, 2])
        if value.kind != "sequence":
            value = net.add_layer("reshape", value, options={"shape": "time,1"}, part="steps")
        return net.add_layers("number_mask", value, part="mask")["mask"]


def _giving(found: Any) -> Callable[[], Any]:
    return lambda: found


def array_of(what: str, value: object, dtype: str = "") -> np.ndarray:
    """An array that is written into a config. Raises `FormatError`."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise FormatError(f"{what}: a constant is no array: {error}") from error
    if array.dtype.kind not in "fiub" or "complex" in dtype:
        raise FormatError(f"{what}: a constant expected real numbers, found {dtype or array.dtype}")
    if dtype == "bool":
        return array.astype(bool)
    if dtype.startswith(("float", "bfloat")):
        return array.astype(np.float32)
    if dtype.startswith(("int", "uint")) and array.dtype.kind == "f":
        raise FormatError(f"{what}: a constant expected whole numbers, as its type {dtype} says")
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    return array if array.dtype.kind == "b" else array.astype(np.int64)


def describe(found: Any) -> str:
    """Something in an argument, for messages."""
    if isinstance(found, (Tensor, Scores, Stack)):
        return f"a tensor {found.shape}"
    if isinstance(found, (Constant, np.ndarray)):
        return f"a constant of shape {tuple(found.shape)}"
    if isinstance(found, (list, tuple)):
        return f"[{', '.join(map(describe, found[:8]))}{', ...' if len(found) > 8 else ''}]"
    return f"{found!r:.40}"


def sizes_of(found: Any) -> tuple[Size | None, ...]:
    """A shape without its batch, None for a time of any length, as Keras records it."""
    return tuple(None if isinstance(size, Dim) else size for size in shape_of(found)[1:])
