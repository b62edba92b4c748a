"""The graph that a program becomes, while it is built: adds layers, and arranges axes as the layers need them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cylstm.errors import ShapeError, UnsupportedError
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.values import Axis, Option, StaticTimeNeeded, Value
from cylstm.program.tensor import (
    BATCH,
    BATCH_SIZE,
    SYMBOLS,
    Constant,
    Dim,
    DType,
    Place,
    Scores,
    Size,
    Stack,
    Tensor,
    Unavailable,
    Varying,
    dtype_of,
    shape_of,
    time_size,
)

#: "mixes the rows of a batch" in all messages
MIXES = "mixes the rows of a batch, which are predicted each for itself"


#: the most features that one number is repeated for: a file of a few bytes may say any number of features
_MOST_REPEATED = 1 << 16


class TimesAlike(StaticTimeNeeded):
    """Several times have the same numbers of steps in all examples: it takes more examples to tell them apart."""


class Network:
    """Adds the layers of one program.

    Attributes
    ----------
    builder : GraphBuilder
    name : str
        The operation being added, after which its layers are named.
    where : str
        Where the program's author wrote it, for messages; may be empty.
    dtype : numpy.dtype
        Of the weights that are made of plain numbers.
    examples : tuple of (int, dict)
        Batch, and time by input, of the examples that the program was recorded with, where its numbers are theirs.
    static_sizes : set of int
        Sizes of the network that the batch, and with one example the time, could be mistaken for.
    lengths : dict
        Name of a value that counts the valid steps of each row -> the mask that says which they are.
    is_in_layer : bool
        The operation being added is of a layer of the framework itself, and no one that the program's author wrote.
    has_own_masks : bool
        The program itself says where masks and lengths count: layers do not take those of their inputs besides.
    unpacked : set of str
        Names of values that are sequences with zeros after the valid steps of each row.
    shortened : set of str
        Those of `unpacked` that the program has only as long as the longest row.
    readers : callable
        Gives what reads the result of the operation being added, as (name, arguments) of operations, for patterns that
        look ahead.
    """

    def __init__(self, dtype: Any = np.float32) -> None:
        self.builder = GraphBuilder()
        self.name = ""
        self.where = ""
        self.dtype = np.dtype(dtype)
        self.examples: tuple[tuple[int, Mapping[str, int]], ...] = ()
        self.static_sizes: frozenset[int] = frozenset()
        self.lengths: dict[str, Value] = {}
        self.is_in_layer = False
        self.has_own_masks = False
        self.unpacked: set[str] = set()
        self.shortened: set[str] = set()
        self._all_steps: dict[Axis | None, Value] = {}
        self.readers: Callable[[], Sequence[tuple[str, Any]]] = lambda: ()
        self._registered: dict[tuple[str, str], list[tuple[np.ndarray, str]]] = {}
        self._shared: dict[int, tuple[np.ndarray, str]] = {}
        self._before_reshape: dict[Value, Value] = {}

    def refuse(self, why: str) -> UnsupportedError:
        return UnsupportedError(f"{self.place_name}: {why}")

    @property
    def place_name(self) -> str:
        """The operation being added, for messages."""
        return f"layer {self.name!r}" + (f" ({self.where})" if self.where else "")

    def needs_time(self, what: str) -> StaticTimeNeeded:
        return StaticTimeNeeded(f"{self.place_name}: {what} needs the number of steps in advance")

    def array(self, found: Any, what: str = "a weight") -> Any:
        """A constant of known sizes as floating-point numbers of the network's type; None of None."""
        if found is None:
            return None
        if isinstance(found, (Constant, *SYMBOLS)):
            raise self.refuse(f"{what} that the network computes is not supported")
        array = np.asarray(found)
        if array.dtype not in (np.float32, np.float64):
            array = array.astype(self.dtype)
        return array

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
        """Add a layer; one called again shares its weights."""
        name = f"{self.name}.{part}" if part else self.name
        found: dict[str, np.ndarray | str] = {}
        for role, array in (weights or {}).items():
            if array is None:
                continue
            if array.dtype not in (np.float32, np.float64):
                array = array.astype(self.dtype)
            known = self._registered.setdefault((name, role), [])
            found[role] = next((tensor for other, tensor in known if np.array_equal(array, other)), array)
        first = {} if value is None else {"indices" if value.kind == "index" else "x": value}
        outputs = self.builder.add(kind, name, {**first, **others}, found, options)
        made = next(iter(outputs.values())).name
        for role, weight in found.items():
            if not isinstance(weight, str):
                base = made if "y" in outputs else made.rpartition(".")[0]
                self._registered[name, role].append((weight, f"{base}.{role}"))
        return outputs

    def add_layer(self, kind: str, value: Value | None, /, *args: Any, **others: Any) -> Value:
        """As `add_layers`, the result alone."""
        return self.add_layers(kind, value, *args, **others)["y"]

    def own_mask(self, value: Value) -> Value | None:
        """For a layer that would take the mask of its input: a mask of all steps, where the program has masks."""
        if not self.has_own_masks or value.mask is None or value.axis is None:
            return None
        if value.axis not in self._all_steps:
            ones = self.positions(value.axis, 1.0, 0.0)
            self._all_steps[value.axis] = self.add_layers("number_mask", self.arrange(ones, [0]), part="all")["mask"]
        return self._all_steps[value.axis]

    def refuse_unpacked(self, value: Value, what: str, advice: str, among: set[str] | None = None) -> None:
        """Raise `UnsupportedError` for what takes the end of a row of an unpacked sequence for that of the longest."""
        names = self.unpacked if among is None else among
        if names and names & self.builder.sources(value, ("lstm", "gru", "rnn", "reduce")):
            raise self.refuse(
                f"{what} of a sequence that was packed before is not supported: behind the end of its shorter rows are "
                f"zeros, as many as the longest row of the batch has; use {advice}"
            )

    # Sizes

    def numbers(self, size: object) -> tuple[int, ...]:
        """A size in each of the examples, or in two made-up ones that no sizes of a network have."""
        examples = self.examples or ((7919, _MadeUp(104_729)), (7927, _MadeUp(104_743)))
        if isinstance(size, Varying):
            return size.values
        if isinstance(size, Dim):
            return tuple(size.at(batch, times) for batch, times in examples)
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
            raise self.refuse(f"expected a size, found {describe(size)}")
        return (int(size),) * len(examples)

    def size(self, found: Any) -> Any:
        """A size that may be a number of an example, as what it stands for; a number that is no size is what it was.

        A number that may also be a size of the network stays a number: it then fits no tensor with a batch or a time,
        which is an error and no wrong result.
        """
        if isinstance(found, Varying):
            return self.size_of_varying(found)
        if self.examples and type(found) is int and found > 1 and found not in self.static_sizes:
            sizes = [BATCH_SIZE]
            if len(self.examples) == 1:
                sizes += map(time_size, dict.fromkeys(v.axis for v in self.builder.values() if v.axis is not None))
            for size in sizes:
                if set(self.numbers(size)) == {found}:
                    return size
        return found

    def size_of_varying(self, found: Varying, near: Axis | None = None) -> Any:
        """The size that gives these numbers in the examples, rather one of the same input as `near`.

        Raises `StaticTimeNeeded`, or `TimesAlike` if several do.
        """
        if min(found.values) < 0:
            negative = self.size_of_varying(-found)
            raise self.needs_time(f"a place counted from the end by the time ({negative!r})")
        axes = dict.fromkeys(value.axis for value in self.builder.values() if value.axis is not None)
        sizes = [BATCH_SIZE, *map(time_size, axes)]
        sizes += [BATCH_SIZE * size for size in sizes[1:]]
        same = [size for size in sizes if self.numbers(size) == found.values]
        same = [size for size in same if near is not None and size.axis and size.axis.source == near.source] or same
        if same:
            axis = same[0].axis
            if axis is not None and any(one.axis and one.axis.source == axis.source for one in same[1:]):
                raise TimesAlike(f"{self.place_name}: which time {found.values} are the steps of cannot be told")
            return same[0]
        for size in sizes:
            numbers = self.numbers(size)
            quotients = {value / number for value, number in zip(found.values, numbers)}
            if len(quotients) == 1 and (count := quotients.pop()).is_integer():
                return size * int(count)
            differences = {value - number for value, number in zip(found.values, numbers)}
            if len(differences) == 1 and size.axis is not None:
                return size + differences.pop()
        raise self.needs_time(f"a number that changes with the time ({' or '.join(map(str, found.values))})")

    # Tensors and constants

    def tensor(self, found: object) -> Tensor:
        """`found` as a tensor of numbers that the network computes. Raises `UnsupportedError`."""
        if isinstance(found, Stack):
            return self._joined_stack(found)
        if isinstance(found, Unavailable):
            raise self.refuse(found.reason)
        if isinstance(found, Scores):
            return found.compute(self, found)
        if not isinstance(found, Tensor):
            raise self.refuse(f"expected a tensor that the network computes, found {describe(found)}")
        if found.value.kind == "index":
            return self._numbers(found)
        return found

    def _numbers(self, indices: Tensor) -> Tensor:
        """Indices as numbers to compute with."""
        value = self.add_layer("numbers", indices.value, part="numbers")
        return Tensor(value, indices.axes, "int")

    def _joined_stack(self, stack: Stack) -> Tensor:
        first = stack.parts[0]
        if len(stack.parts) == 1:
            return first.with_axes((None, *first.axes))
        widened = [part.with_axes((None, *part.axes)) for part in stack.parts]
        return self.concat(widened, 0)

    def constant(self, found: Any, *, part: str = "constant", is_repeated: bool = True) -> Tensor:
        """A constant as a tensor of the network, the same for every row and for every step of any length.

        Unless `is_repeated`, an axis over such a time has size 1 in the tensor.
        """
        shape = shape_of(found)
        array = np.asarray(found.array if isinstance(found, Constant) else found)
        if array.dtype == object:
            raise self.refuse("a size that is no number, such as that of the batch, is not supported as a result")
        if not np.isfinite(array).all() and array.dtype.kind == "f" and np.isnan(array).any():
            raise self.refuse("a constant that holds NaN is not supported")
        axes: list[Place] = []
        kept = [size for size in array.shape if size != 1]
        for size in array.shape:
            axes.append(None if size == 1 else sum(a is not None for a in axes))
        value = self.add_layer("constant", None, {"value": array.reshape(kept or [1]).astype(self.dtype)}, part=part)
        tensor = Tensor(value, tuple(axes), dtype_of(array))
        for i, size in enumerate(shape):
            if isinstance(size, Dim) and size == BATCH_SIZE:
                axes[i] = BATCH
                tensor = tensor.with_axes(axes)
            elif isinstance(size, Dim) and is_repeated:
                if size.axis is None:
                    raise self.refuse(f"a constant of shape {shape}, whose axes are joined, is not supported")
                tensor = self.repeated_over(tensor, i, size.axis)
                axes = list(tensor.axes)  # type: ignore[arg-type]
        return tensor

    # Axes

    def axis(self, tensor: Any, axis: object) -> int:
        """The number of an axis of the program, from 0; not the batch."""
        rank = len(tensor.shape)
        if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)) or not -rank <= axis < rank:
            raise self.refuse(f"expected an axis of a tensor of {rank} axes, found {describe(axis)}")
        axis = int(axis) % rank
        if isinstance(tensor, Tensor):
            places = tensor.axes[axis]
            if places == BATCH or (isinstance(places, tuple) and BATCH in places):
                raise self.refuse(MIXES)
        return axis

    def plain(self, tensor: Tensor) -> Tensor:
        """`tensor` with its joined axes apart; `rejoin` puts the axes of a result together again."""
        if not tensor.is_joined:
            return tensor
        axes: list[Place] = []
        for places in tensor.axes:
            axes += places if isinstance(places, tuple) else (places,)
        return tensor.with_axes(axes)

    def apart(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[int]]:
        """Tensors of one rank with their joined axes apart in the same way, and how many axes each of them became."""
        rank = max(len(t.axes) for t in tensors)
        tensors = [t.with_axes((None,) * (rank - len(t.axes)) + t.axes) for t in tensors]
        for i in range(rank):
            parts = {
                t.with_axes(places).shape if isinstance(places := t.axes[i], tuple) else (t.size(i),)
                for t in tensors
                if t.size(i) != 1
            }
            if len(parts) > 1:  # joined in different ways
                tensors = [self._solid_if_known(t, i) for t in tensors]
        counts = [
            max((len(t.axes[i]) if isinstance(t.axes[i], tuple) else 1) for t in tensors)  # type: ignore[arg-type]
            for i in range(rank)
        ]
        if max(counts, default=1) == 1:
            return tensors, counts
        found = []
        for t in tensors:
            axes: list[Place] = []
            for i, count in enumerate(counts):
                places = t.axes[i]
                if not isinstance(places, tuple):
                    if count > 1 and places is not None and t.size(i) != 1:
                        raise self.refuse(f"joined axes together with one that is not: {t.shape}")
                    axes += [None] * count if count > 1 else [places]
                elif len(places) != count:
                    raise self.refuse(f"axes that are joined in different ways: {t.shape}")
                else:
                    axes += places
            found.append(t.with_axes(axes))
        return found, counts

    def _solid_if_known(self, tensor: Tensor, axis: int) -> Tensor:
        """`tensor` with an axis stored as one, where no batch and no time of any length is joined in it."""
        places = tensor.axes[axis]
        if not isinstance(places, tuple) or BATCH in places or not isinstance(tensor.size(axis), int):
            return tensor
        return self.solid(tensor, axis)

    @staticmethod
    def rejoin(tensor: Tensor, counts: Sequence[int]) -> Tensor:
        """The reverse of `apart`."""
        axes: list[Any] = []
        at = 0
        for count in counts:
            places = tensor.axes[at : at + count]
            axes.append(places[0] if count == 1 else None if all(p is None for p in places) else places)
            at += count
        return tensor.with_axes(axes)

    def solid(self, tensor: Tensor, axis: int) -> Tensor:
        """`tensor` with one of its axes stored as one, if it is joined of axes of known sizes."""
        places = tensor.axes[axis]
        if not isinstance(places, tuple):
            return tensor
        if BATCH in places:
            raise self.refuse(MIXES)
        plain = self.plain(tensor)
        counts = [len(p) if isinstance(p, tuple) else 1 for p in tensor.axes]
        first = sum(counts[:axis])
        joined = list(range(first, first + counts[axis]))
        sizes: list[Any] = [plain.size(i) for i in joined]
        if not all(isinstance(size, int) for size in sizes):
            return self._steps_divided(plain, joined, counts, axis)
        order = [i for i in plain.stored if i not in joined]
        order.sort(key=lambda i: not isinstance(plain.size(i), Dim))
        value = self.arrange(plain, order + joined)
        total = math.prod(sizes)
        value = self.reshaped(value, [*value.shape[: len(order)], total])
        axes: list[Any] = [None] * len(plain.axes)
        for i, place in enumerate(plain.axes):
            axes[i] = BATCH if place == BATCH else None
        for at, i in enumerate(order):
            axes[i] = at
        axes[joined[0] : joined[-1] + 1] = [len(order)]
        counts[axis] = 1
        return self.rejoin(Tensor(value, tuple(axes), tensor.dtype), counts)

    def _steps_divided(self, plain: Tensor, joined: list[int], counts: list[int], axis: int) -> Tensor:
        """The result of `solid` for a time of any length joined with axes behind it: several steps for each of it."""
        time, *behind = (plain.size(i) for i in joined)
        if not (isinstance(time, Dim) and time.axis is not None and all(isinstance(size, int) for size in behind)):
            raise self.needs_time("axes joined over the time")
        others = [i for i in plain.stored if i not in joined]
        value = self.arrange(plain, joined + others)
        step = [str(plain.size(i)) for i in others] or ["1"]
        text = ",".join([f"time*{math.prod(size for size in behind if isinstance(size, int))}", *step])
        value = self.add_layer("reshape", value, options={"shape": text}, part="steps")
        axes: list[Any] = [BATCH if place == BATCH else None for place in plain.axes]
        for at, i in enumerate(others):
            axes[i] = at + 1
        axes[joined[0] : joined[-1] + 1] = [0]
        counts[axis] = 1
        return self.rejoin(Tensor(value, tuple(axes), plain.dtype), counts)

    def reshaped(self, value: Value, sizes: Sequence[int | None], part: str = "reshape") -> Value:
        """`value` in another shape; None is its time, which stays first."""
        if tuple(sizes) == value.shape:
            return value
        wanted = list(sizes)
        if wanted == [None]:
            wanted = [None, 1]
        if tuple(wanted) == value.shape:
            return value
        # a reshape of what was reshaped before is one of the value before that, or that value
        source = self._before_reshape.get(value, value)
        if source.mask == value.mask and source.axis == value.axis:
            if tuple(wanted) == source.shape:
                return source
        else:
            source = value
        text = ",".join("time" if size is None else str(size) for size in wanted)
        found = self.add_layer("reshape", source, options={"shape": text}, part=part)
        self._before_reshape[found] = source
        return found

    def arrange(self, tensor: Tensor, wanted: Sequence[int]) -> Value:
        """The value whose axes are these of the program's; all that are stored have to be among them.

        A time of unknown length stays first; alone it has an axis of size 1 behind it.
        """
        value = tensor.value
        axes = [tensor.axes[i] for i in wanted]
        used: list[int] = [axis for axis in axes if isinstance(axis, int)]
        order = used + [axis for axis in range(len(value.shape)) if axis not in used]
        if used != sorted(used):  # axes of size 1 may be anywhere
            if value.has_time and value.shape[0] is None and order[0] != 0:
                raise self.needs_time("a time behind another axis")
            value = self.add_layer("permute", value, options={"order": "".join(map(str, order))}, part="permute")
        sizes = [1 if axis is None else tensor.value.shape[axis] for axis in axes]  # type: ignore[index]
        if None in sizes:
            if sizes[0] is not None:
                raise self.needs_time("a time behind another axis")
            return self.reshaped(value, [None, *(sizes[1:] or [1])])
        return self.reshaped(value, sizes or [1])

    def place(self, value: Value, wanted: Sequence[int], like: Tensor) -> Tensor:
        """A tensor of the rank of `like` whose axes `wanted` are those of `value`; the others have size 1."""
        axes: list[Place] = [None] * len(like.axes)
        if BATCH in like.axes:
            axes[like.axes.index(BATCH)] = BATCH
        for i, axis in enumerate(wanted):
            axes[axis] = i
        return Tensor(value, tuple(axes), like.dtype)

    def last(self, tensor: Tensor, axis: int) -> Tensor:
        """`tensor` with one of its axes stored last."""
        tensor = self.solid(tensor, axis)
        if tensor.axes[axis] == len(tensor.value.shape) - 1:
            return tensor
        counts = [len(p) if isinstance(p, tuple) else 1 for p in tensor.axes]
        plain = self.plain(tensor)
        at = sum(counts[:axis])
        wanted = [i for i in plain.stored if i != at] + [at]
        value = self.arrange(plain, wanted)
        if value.shape[-1] != plain.size(at) or len(value.shape) != len(wanted):
            raise self.needs_time("an operation over the time as features")
        return self.rejoin(self.place(value, wanted, plain), counts)

    def stored_axis(self, tensor: Tensor, axis: int) -> tuple[Tensor, int]:
        """`tensor` with one of its axes stored, and which axis of the value it is."""
        tensor = self.solid(tensor, axis)
        if tensor.axes[axis] is None:
            tensor = self.last(tensor, axis)
        place = tensor.axes[axis]
        assert isinstance(place, int)
        return tensor, place

    def sequence_of(self, axis: Axis) -> Value:
        """A sequence over this time, (time, 1)."""
        for value in self.builder.values():
            if value.axis == axis and value.kind == "sequence" and value.shape[1:] == (1,):
                return value
        over = [value for value in self.builder.values() if value.axis == axis]
        sequence = next((value for value in over if value.kind == "sequence"), None)
        if sequence is None:
            indices = next((value for value in over if value.kind == "index"), None)
            if indices is None:
                raise self.needs_time("a repetition over the time")
            sequence = self.add_layer("numbers", indices, part="steps")
        for last in range(len(sequence.shape) - 1, 0, -1):
            if sequence.shape[last] != 1:
                options: dict[str, Option] = {"axis": last, "start": 0, "count": 1}
                sequence = self.add_layer("slice", sequence, options=options, part="steps")
        return self.reshaped(sequence, [None, 1], part="steps")

    def positions(self, axis: Axis, start: float = 0.0, step: float = 1.0) -> Tensor:
        """start, start + step, ... over a time of any length, without a batch."""
        options: dict[str, Option] = {"start": start, "step": step}
        value = self.add_layer("positions", self.sequence_of(axis), options=options, part="positions")
        whole = float(start).is_integer() and float(step).is_integer()
        return Tensor(value, (0,), "int" if whole else "float")

    def repeated_over(self, tensor: Tensor, axis: int, time: Axis) -> Tensor:
        """`tensor`, of which one axis has size 1, for each step of a time of any length: a sum with zeros."""
        steps = self.sequence_of(time)
        zeros = self.zeros_like(steps)
        axes: list[Place] = [None] * len(tensor.axes)
        axes[axis] = 0
        if tensor.batch >= 0:
            axes[tensor.batch] = BATCH
        return self.merge("sum", [tensor, Tensor(zeros, tuple(axes))]).of(tensor.dtype)

    def zeros_like(self, value: Value) -> Value:
        """0 for each number: whether it is less than itself, which NaN is not either."""
        return self.add_layer("merge", value, options={"mode": "less"}, part="zeros", x1=value)

    # Arithmetic

    def affine(self, tensor: Tensor, scale: object, shift: object) -> Tensor:
        """``tensor * scale + shift``, each a number or an array that is repeated over the tensor."""
        rank = len(tensor.axes)
        constants = [np.asarray(constant, np.float64) for constant in (scale, shift)]
        if all(array.size == 1 for array in constants):
            size = tensor.value.features
            if size > _MOST_REPEATED:
                return self._affine_merged(tensor, [array.reshape(-1) for array in constants])
            scales, shifts = (np.full(size, array.reshape(-1)[0]) for array in constants)
            return Tensor(self._scaled(tensor.value, scales, shifts), tensor.axes)
        arrays = [array.reshape((1,) * (rank - array.ndim) + array.shape) for array in constants]
        if any(array.ndim > rank for array in arrays):
            return self._affine_merged(tensor, constants)
        varying = [i for i in range(rank) if any(array.shape[i] > 1 for array in arrays)]
        if len(varying) > 1 or arrays[0].shape[varying[0]] not in (1, tensor.size(varying[0])):
            return self._affine_merged(tensor, constants)
        if any(array.shape[varying[0]] not in (1, tensor.size(varying[0])) for array in arrays):
            return self._affine_merged(tensor, constants)
        tensor = self.last(tensor, varying[0])
        scales, shifts = (np.broadcast_to(array.reshape(-1), tensor.value.features) for array in arrays)
        return Tensor(self._scaled(tensor.value, scales, shifts), tensor.axes)

    def _affine_merged(self, tensor: Tensor, constants: Sequence[np.ndarray]) -> Tensor:
        scale, shift = constants
        if not (scale.size == 1 and scale.reshape(-1)[0] == 1.0):
            tensor = self.merge("mul", [tensor, self.constant(scale, part="scale")])
        if not (shift.size == 1 and shift.reshape(-1)[0] == 0.0):
            tensor = self.merge("sum", [tensor, self.constant(shift, part="shift")])
        return tensor

    def _scaled(self, value: Value, scale: np.ndarray, shift: np.ndarray) -> Value:
        weights = {"mean": np.zeros(len(scale)), "variance": np.ones(len(scale)), "gain": scale, "shift": shift}
        cast = {role: np.ascontiguousarray(array).astype(self.dtype) for role, array in weights.items()}
        return self.add_layer("batch_norm", value, cast, {"epsilon": 0.0})

    def merge(self, mode: str, tensors: Sequence[Tensor], *, dtype: DType = "float") -> Tensor:
        """Element by element, repeated as NumPy does."""
        return self.elementwise("merge", tensors, {"mode": mode}, dtype=dtype)

    def elementwise(
        self,
        kind: str,
        tensors: Sequence[Tensor],
        options: Mapping[str, Option],
        *,
        roles: Sequence[str] | None = None,
        dtype: DType = "float",
    ) -> Tensor:
        """A layer of several values that are matched axis by axis."""
        tensors, counts = self.apart(tensors)
        rank = len(tensors[0].axes)
        shapes = [t.shape for t in tensors]
        batches = {t.axes.index(BATCH) for t in tensors if BATCH in t.axes}
        for i in range(rank):
            sizes = {shape[i] for shape in shapes} - {1}
            if len(sizes) > 1:
                if BATCH_SIZE in sizes or len(batches) > 1:
                    raise self.refuse(f"{MIXES}: shapes {_and(shapes)}")
                if any(isinstance(size, Dim) for size in sizes):
                    raise StaticTimeNeeded(
                        f"{self.place_name}: shapes {_and(shapes)} do not match; if they are of one length, the "
                        "number of steps has to be known in advance"
                    )
                raise ShapeError(f"{self.place_name}: shapes {_and(shapes)} do not match")
        if len(batches) > 1:
            raise self.refuse(f"{MIXES}: shapes {_and(shapes)}")
        like = max(tensors, key=lambda t: (BATCH in t.axes, len(t.stored)))
        order = self.order(tensors, ())
        if any(isinstance(t.size(i), Dim) for t in tensors for i in order[1:]):
            raise self.needs_time("a result with two axes that are times")
        values = []
        for tensor in tensors:
            first = next((k for k, i in enumerate(order) if tensor.axes[i] is not None), len(order))
            values.append(self.arrange(tensor, order[first:]))
        names = roles or [f"x{i or ''}" for i in range(len(values))]
        others = dict(zip(names, values))
        value = self.add_layer(kind, None, options=options, **others)
        return self.rejoin(self.place(value, order, like).of(dtype), counts)

    def concat(self, tensors: Sequence[Tensor], axis: int) -> Tensor:
        """Side by side along one of the program's axes."""
        if len(tensors) == 1:
            return tensors[0]
        if len({len(t.axes) for t in tensors}) > 1:
            raise self.refuse(f"expected tensors of equal rank, found {_and([t.shape for t in tensors])}")
        axis = max([self.axis(tensor, axis) for tensor in tensors])
        if any(isinstance(t.size(axis), Dim) for t in tensors):
            raise self.needs_time("joining along the time")
        dtype = max((t.dtype for t in tensors), key=("bool", "int", "float").index)
        tensors = [self.solid(t, axis) for t in tensors]
        tensors, counts = self.apart(tensors)
        place = sum(counts[:axis])
        like = max(tensors, key=lambda t: (BATCH in t.axes, len(t.stored)))
        at = like.axes.index(BATCH) if BATCH in like.axes else -1
        if any(
            (BATCH in t.axes and t.axes[at] != BATCH) or (at >= 0 and t.size(at) not in (1, BATCH_SIZE))
            for t in tensors
        ):
            raise self.refuse(f"{MIXES}: shapes {_and([t.shape for t in tensors])}")
        tensors = [self._as_wide_as(t, like, place) for t in tensors]
        order = self.order(tensors, (place,))
        values = [self.arrange(tensor, order) for tensor in tensors]
        steps = next((value for value in values if value.has_time), None)
        if steps is not None and steps.shape[0] is not None:
            values = [value if value.has_time else self.as_steps(value, steps) for value in values]
        inputs = {f"x{i}": value for i, value in enumerate(values) if i}
        options: dict[str, Option] = {"mode": "concat", "axis": order.index(place)}
        value = self.add_layer("merge", values[0], options=options, **inputs)
        return self.rejoin(self.place(value, order, like).of(dtype), counts)

    def as_steps(self, value: Value, steps: Value) -> Value:
        """A value whose first axis is no time, such as a constant, as a sequence like `steps`: a sum with a zero."""
        zero = steps
        for axis, size in enumerate(steps.shape):
            if size != 1:
                options: dict[str, Option] = {"axis": axis, "start": 0, "count": 1, "step": 1}
                zero = self.add_layer("slice", zero, options=options, part="zero")
        zero = self.zeros_like(zero)
        return self.add_layer("merge", zero, options={"mode": "sum"}, x1=value)

    def _as_wide_as(self, tensor: Tensor, like: Tensor, axis: int) -> Tensor:
        """A constant without time repeated over the time of the tensors beside it."""
        for i in range(len(like.axes)):
            size = like.size(i)
            if i != axis and tensor.size(i) == 1 and isinstance(size, Dim) and size.axis is not None:
                tensor = self.repeated_over(tensor, i, size.axis)
        return tensor

    @staticmethod
    def order(tensors: Sequence[Tensor], more: Sequence[int]) -> list[int]:
        """The program's axes that any tensor stores, in an order that needs few permutations, unknown times first."""
        like = max(tensors, key=lambda t: len(t.stored))
        stored = {i for t in tensors for i in t.stored} | set(more)
        order = [*like.stored, *sorted(stored - set(like.stored))]
        if len(like.stored) < len(stored):
            order = sorted(stored)
        return sorted(order, key=lambda i: not any(isinstance(t.size(i), Dim) for t in tensors))


class _MadeUp(dict[str, int]):
    """The same number of steps for every input."""

    def __init__(self, time: int) -> None:
        self._time = time

    def __missing__(self, key: str) -> int:
        return self._time


def _and(shapes: Sequence[tuple[Size, ...]]) -> str:
    return " and ".join(str(shape) for shape in shapes)


def describe(found: object) -> str:
    """Something in an argument, for messages."""
    if isinstance(found, (Tensor, Stack, Scores)):
        return f"a tensor of shape {found.shape}"
    if isinstance(found, Unavailable):
        return "a result that is not computed"
    if isinstance(found, (Constant, np.ndarray)):
        return f"a constant of shape {tuple(found.shape)}"
    return repr(found)[:80] if isinstance(found, (int, float, str, Dim, type(None))) else type(found).__name__


__all__ = ["MIXES", "Network", "TimesAlike", "describe", "time_size"]
