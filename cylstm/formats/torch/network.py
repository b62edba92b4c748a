"""The network that is being built: adds layers to its graph, and arranges axes as the layers need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cylstm.errors import UnsupportedError
from cylstm.formats.arrays import as_numpy
from cylstm.formats.torch.tensor import BATCH, Dim, Frames, Rows, Scores, Stack, Tensor, Unavailable
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.values import Option, StaticTimeNeeded, Value


class Network:
    """Adds the layers of one network.

    Attributes
    ----------
    builder : GraphBuilder
    name : str
        The layer or operation being added, after which its layers are named.
    dtype : numpy.dtype
        Of the weights that are made of plain numbers.
    """

    def __init__(self, dtype: np.dtype, arrays: dict[int, tuple[object, np.ndarray]]) -> None:
        self.builder = GraphBuilder()
        self.name = ""
        self.dtype = dtype
        self.fx_node: Any = None
        self._arrays = arrays
        self._registered: dict[tuple[str, str], list[tuple[np.ndarray, str]]] = {}

    def refuse(self, why: str) -> UnsupportedError:
        return UnsupportedError(f"layer {self.name!r}: {why}")

    def array(self, tensor: Any) -> Any:
        """A copy of a parameter or buffer as an array, made once; None of None."""
        if tensor is None:
            return None
        if id(tensor) not in self._arrays:
            # the tensor is kept alive too, so that no other gets its id
            self._arrays[id(tensor)] = (tensor, as_numpy(self.name, tensor))
        return self._arrays[id(tensor)][1]

    def add_layers(
        self,
        kind: str,
        value: Value,
        /,
        weights: Mapping[str, np.ndarray | None] | None = None,
        options: Mapping[str, Option] | None = None,
        *,
        part: str = "",
        **others: Value | None,
    ) -> dict[str, Value]:
        """Add a layer; one called again shares its weights."""
        name = f"{self.name}.{part}" if part else self.name
        found: dict[str, np.ndarray | str] = {}
        for role, array in (weights or {}).items():
            if array is not None:
                known = self._registered.setdefault((name, role), [])
                found[role] = next((tensor for other, tensor in known if np.array_equal(array, other)), array)
        first = {"indices" if kind == "embedding" else "x": value}
        outputs = self.builder.add(kind, name, {**first, **others}, found, options)
        made = next(iter(outputs.values())).name
        for role, weight in found.items():
            if not isinstance(weight, str):
                self._registered[name, role].append((weight, f"{made}.{role}"))
        return outputs

    def add_layer(self, kind: str, value: Value, /, *args: Any, **others: Any) -> Value:
        """As `add_layers`, the result alone."""
        return self.add_layers(kind, value, *args, **others)["y"]

    # Axes

    def axis(self, tensor: Tensor, axis: object) -> int:
        """PyTorch's number of an axis, from 0; not the batch."""
        rank = len(tensor.axes)
        if isinstance(axis, bool) or not isinstance(axis, int) or not -rank <= axis < rank:
            raise self.refuse(f"expected an axis of a tensor of {rank} axes, found {axis!r}")
        if tensor.axes[axis % rank] == BATCH:
            raise self.refuse("mixes the rows of a batch, which are predicted each for itself")
        return axis % rank

    def arrange(self, tensor: Tensor, wanted: Sequence[int]) -> Value:
        """The value whose axes are these of PyTorch's; all that are stored have to be among them.

        A time of unknown length stays first; alone it has an axis of size 1 behind it.
        """
        value = tensor.value
        axes = [tensor.axes[i] for i in wanted]
        used = [axis for axis in axes if axis is not None]
        order = used + [axis for axis in range(len(value.shape)) if axis not in used]
        if used != sorted(used):  # axes of size 1 may be anywhere
            value = self.add_layer("permute", value, options={"order": "".join(map(str, order))}, part="permute")
        sizes = [1 if axis is None else tensor.value.shape[axis] for axis in axes]
        if None in sizes:
            if sizes[0] is not None:
                raise StaticTimeNeeded(
                    f"layer {self.name!r}: a time behind another axis needs the number of steps in advance"
                )
            rest = sizes[1:] or [1]
            if (None, *rest) == value.shape:
                return value
            return self.add_layer(
                "reshape", value, options={"shape": ",".join(map(str, ["time", *rest]))}, part="reshape"
            )
        sizes = sizes or [1]
        if tuple(sizes) == value.shape:
            return value
        return self.add_layer("reshape", value, options={"shape": ",".join(map(str, sizes))}, part="reshape")

    def place(self, value: Value, wanted: Sequence[int], like: Tensor) -> Tensor:
        """A tensor of the rank of `like` whose axes `wanted` are those of `value`; the others have size 1."""
        axes: list[int | None] = [None] * len(like.axes)
        axes[like.batch] = BATCH
        for i, axis in enumerate(wanted):
            axes[axis] = i
        return Tensor(value, tuple(axes))

    def last(self, tensor: Tensor, axis: int) -> Tensor:
        """`tensor` with one of PyTorch's axes stored last."""
        if tensor.axes[axis] == len(tensor.value.shape) - 1:
            return tensor
        wanted = [i for i in tensor.stored if i != axis] + [axis]
        value = self.arrange(tensor, wanted)
        if value.shape[-1] != tensor.size(axis) or len(value.shape) != len(wanted):
            raise StaticTimeNeeded(f"layer {self.name!r}: over the time it needs the number of steps in advance")
        return self.place(value, wanted, tensor)

    def repeated_over(self, tensor: Tensor, axis: int, time: Dim) -> Tensor:
        """`tensor`, of which one of PyTorch's axes has size 1, for each step of a time of any length.

        This is a sum with zeros, which are made by clipping a sequence with that time to 0.
        """
        over = [value for value in self.builder.values() if value.kind == "sequence" and value.axis == time.of]
        sequence = next((value for value in over if len(value.shape) > 1), None)
        if sequence is None:
            raise StaticTimeNeeded(f"layer {self.name!r}: a repetition over the time needs the number of steps")
        while len(sequence.shape) > 2 or sequence.features > 1:
            last = len(sequence.shape) - 1
            if sequence.features > 1:
                options: dict[str, Option] = {"axis": last, "start": 0, "count": 1}
                sequence = self.add_layer("slice", sequence, options=options, part="steps")
            else:
                sequence = self.add_layer("reshape", sequence, options={"shape": "time,-1"}, part="steps")
        options = {"activation": "clip", "activation_alpha": 0.0, "activation_beta": 0.0}
        zeros = self.add_layer("activation", sequence, options=options, part="zeros")
        axes: list[int | None] = [None] * len(tensor.axes)
        axes[tensor.batch], axes[axis] = BATCH, 0
        return self.merge("sum", [tensor, Tensor(zeros, tuple(axes))])

    def tensor(self, found: object) -> Tensor:
        """`found` as a tensor of the network. Raises `UnsupportedError`."""
        if isinstance(found, Stack):
            if len(found.parts) == 1:
                return Tensor(found.parts[0], (None, BATCH, 0))
            shape = {"shape": f"1,{found.parts[0].features}"}
            steps = [self.add_layer("reshape", part, options=shape, part="stack") for part in found.parts]
            inputs = {f"x{i}": step for i, step in enumerate(steps) if i}
            value = self.add_layer("merge", steps[0], options={"mode": "concat", "axis": 0}, part="concat", **inputs)
            return Tensor(value, (0, BATCH, 1))
        if isinstance(found, Unavailable):
            raise self.refuse(found.reason)
        if isinstance(found, (Rows, Frames)):
            raise self.refuse("steps that are rows, (batch * time, ...): put them apart again, .view(batch, time, -1)")
        if isinstance(found, Scores):
            raise self.refuse("scores of attention that nothing but a scale, a softmax and the values follow")
        if not isinstance(found, Tensor):
            raise self.refuse(f"expected a tensor of the network, found {_describe(found)}")
        if found.value.kind == "index":
            raise self.refuse("whole numbers are for an Embedding alone")
        return found

    def affine(self, tensor: Tensor, scale: object, shift: object) -> Tensor:
        """``tensor * scale + shift``, each a number or a constant that PyTorch would repeat over the tensor."""
        rank = len(tensor.axes)
        constants = []
        for constant in (scale, shift):
            array = np.asarray(constant, np.float64)
            while array.ndim > rank and array.shape[0] == 1:
                array = array[0]
            array = array.reshape((1,) * (rank - array.ndim) + array.shape)
            if array.ndim > rank or any(
                size != 1 and size != tensor.size(i) for i, size in enumerate(array.shape) if size > 1
            ):
                raise self.refuse(
                    f"a constant of shape {array.shape} does not fit {tensor.shape}; one along a time needs the number "
                    f"of steps in advance, inputs=[('N', 20, ...)]"
                )
            constants.append(array)
        varying = [i for i in range(rank) if any(array.shape[i] > 1 for array in constants)]
        if not varying:
            size = tensor.value.features
            full = [np.full(size, array.reshape(-1)[0]) for array in constants]
            return Tensor(self._scaled(tensor.value, *full), tensor.axes)
        if len(varying) == 1:
            tensor = self.last(tensor, varying[0])
            full = [np.broadcast_to(array.reshape(-1), tensor.value.features) for array in constants]
            return Tensor(self._scaled(tensor.value, *full), tensor.axes)
        inner = tensor.inner
        value = self.arrange(tensor, inner)
        sizes: Any = tuple(tensor.size(i) for i in inner)
        if not all(isinstance(size, int) for size in sizes):
            raise StaticTimeNeeded(f"layer {self.name!r}: a constant along the time needs the number of steps")
        full = [np.broadcast_to(array.squeeze(tensor.batch), sizes).reshape(-1) for array in constants]
        flat = self.add_layer("reshape", value, options={"shape": "-1"}, part="flat")
        back = {"shape": ",".join(map(str, sizes))}
        return self.place(
            self.add_layer("reshape", self._scaled(flat, *full), options=back, part="back"), inner, tensor
        )

    def _scaled(self, value: Value, scale: np.ndarray, shift: np.ndarray) -> Value:
        weights = {"mean": np.zeros(len(scale)), "variance": np.ones(len(scale)), "gain": scale, "shift": shift}
        weights = {role: array.astype(self.dtype) for role, array in weights.items()}
        return self.add_layer("batch_norm", value, weights, {"epsilon": 0.0})

    def merge(self, mode: str, tensors: Sequence[Tensor]) -> Tensor:
        """Element by element, repeated as PyTorch does."""
        rank = max(len(tensor.axes) for tensor in tensors)
        tensors = [Tensor(t.value, (None,) * (rank - len(t.axes)) + t.axes) for t in tensors]
        like = max(tensors, key=lambda t: len(t.stored))
        if any(t.batch != like.batch for t in tensors):
            shapes = " and ".join(str(t.shape) for t in tensors)
            raise self.refuse(f"mixes the rows of a batch: shapes {shapes}")
        order = self.order(tensors, ())
        values = []
        for tensor in tensors:
            first = next((k for k, i in enumerate(order) if tensor.axes[i] is not None), len(order))
            values.append(self.arrange(tensor, order[first:]))
        inputs = {f"x{i}": value for i, value in enumerate(values) if i}
        return self.place(self.add_layer("merge", values[0], options={"mode": mode}, **inputs), order, like)

    def concat(self, tensors: Sequence[Tensor], axis: int) -> Tensor:
        """Side by side along one of PyTorch's axes."""
        like = max(tensors, key=lambda t: len(t.stored))
        if any(len(t.axes) != len(like.axes) or t.batch != like.batch for t in tensors):
            raise self.refuse(f"expected tensors of equal rank, found {', '.join(str(t.shape) for t in tensors)}")
        axis = self.axis(like, axis)
        order = self.order(tensors, (axis,))
        values = [self.arrange(tensor, order) for tensor in tensors]
        if len(values) == 1:
            return self.place(values[0], order, like)
        inputs = {f"x{i}": value for i, value in enumerate(values) if i}
        options = {"mode": "concat", "axis": order.index(axis)}
        return self.place(self.add_layer("merge", values[0], options=options, **inputs), order, like)

    @staticmethod
    def order(tensors: Sequence[Tensor], more: Sequence[int]) -> list[int]:
        """PyTorch's axes that any tensor stores, in an order that needs few permutations, unknown times first."""
        like = max(tensors, key=lambda t: len(t.stored))
        stored = {i for t in tensors for i in t.stored} | set(more)
        order = [*like.stored, *sorted(stored - set(like.stored))]
        return sorted(order, key=lambda i: not any(isinstance(t.size(i), Dim) for t in tensors))


def _describe(found: object) -> str:
    if hasattr(found, "shape") and hasattr(found, "dtype"):
        return f"a constant of shape {tuple(found.shape)}"
    return repr(found) if isinstance(found, (int, float, str, Dim, type(None))) else type(found).__name__
