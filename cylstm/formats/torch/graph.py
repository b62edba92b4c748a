"""Whole PyTorch networks: torch.fx records which operation reads what, and each becomes layers of the graph.

PyTorch's tensors have a batch axis anywhere and their other axes in any order; the graph's values have no batch axis
and their time first. A `Tensor` here is a value and where each of PyTorch's axes is in it, so permuting, inserting and
dropping axes cost nothing until an operation needs another order.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats.arrays import as_numpy, warn_not_finite
from cylstm.graph.graph import Axis, Graph, GraphBuilder, Option, StaticTimeNeeded, Value

if TYPE_CHECKING:
    from cylstm.formats.torch.state import Kept

#: the batch among `Tensor.axes`
BATCH = -1

_SIZES = "the shapes of the inputs could not be found out; say them, for example inputs=[('N', 'T', 6)]"
_MOST_GUESSES = 64


@dataclass(frozen=True)
class Dim:
    """The size of a tensor's axis that is no number: of the batch, of a time not known in advance, or a product."""

    of: object

    def __repr__(self) -> str:
        if isinstance(self.of, tuple) and not isinstance(self.of, Axis):
            return " * ".join(map(repr, self.of))
        return "batch" if self.of == "batch" else "time"


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the network.

    Attributes
    ----------
    value : Value
    axes : tuple of int or None
        For each of PyTorch's axes: which axis of `value` it is, `BATCH`, or None for one of size 1 that is not stored.
        Axes of `value` that are not among them have size 1.
    unpadded : (Tensor, int, int, int) or None
        If this is another tensor with zeros before and after one axis: that tensor, the axis and how many.
    cropped : int
        So many steps that the module will cut off the end are not there already.
    """

    value: Value
    axes: tuple[int | None, ...]
    unpadded: tuple[Tensor, int, int, int] | None = None
    cropped: int = 0

    @property
    def shape(self) -> tuple[int | Dim, ...]:
        return tuple(self.size(i) for i in range(len(self.axes)))

    def size(self, axis: int) -> int | Dim:
        stored = self.axes[axis]
        if stored == BATCH:
            return Dim("batch")
        size = 1 if stored is None else self.value.shape[stored]
        return Dim(self.value.axis) if size is None else size

    @property
    def batch(self) -> int:
        return self.axes.index(BATCH)

    @property
    def inner(self) -> list[int]:
        """PyTorch's axes but for the batch."""
        return [i for i, axis in enumerate(self.axes) if axis != BATCH]

    @property
    def stored(self) -> list[int]:
        """PyTorch's axes that are stored, in the order of the value."""
        return sorted((i for i in self.inner if self.axes[i] is not None), key=lambda i: self.axes[i])


@dataclass(frozen=True, eq=False)
class Stack:
    """The h_n or c_n of a recurrent layer, (layers * directions, batch, size): its parts, until a tensor is needed."""

    parts: tuple[Value, ...]

    @property
    def shape(self) -> tuple[int | Dim, ...]:
        return (len(self.parts), Dim("batch"), self.parts[0].features)


@dataclass(frozen=True, eq=False)
class Scores:
    """What attention by hand multiplies: query and key, (batch, [heads,] time, size), until the values come."""

    query: Tensor
    key: Tensor
    scale: float = 1.0
    is_softmax: bool = False


@dataclass(frozen=True, eq=False)
class Rows:
    """A tensor (batch * time, ...): `steps` is it with the two axes apart, in this order or the other."""

    steps: Tensor

    @property
    def shape(self) -> tuple[int | Dim, ...]:
        sizes = self.steps.shape
        return (Dim(sizes[:2]), *sizes[2:])


@dataclass(frozen=True, eq=False)
class Frames:
    """As `Rows`, what one frame after the other gives: tensors, or tuples and states of them."""

    frames: tuple[object, ...]
    time_first: bool

    @property
    def shape(self) -> tuple[int | Dim, ...]:
        batch, *sizes = self.frames[0].shape
        return (Dim((len(self.frames), batch) if self.time_first else (batch, len(self.frames))), *sizes)


@dataclass(frozen=True)
class Unavailable:
    """A result that is not computed; an error once something reads it."""

    reason: str


class Wiring:
    """Adds the layers of one network.

    Attributes
    ----------
    builder : GraphBuilder
    name : str
        The layer or operation being added: what its layers are called.
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

    def array(self, tensor: Any) -> np.ndarray | None:
        """A copy of a parameter or buffer, made once."""
        if tensor is None:
            return None
        if id(tensor) not in self._arrays:
            # the tensor is kept too, so that its id stays its own
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
        if used != sorted(used):  # those of size 1 lie anywhere
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

        As the sum with zeros, which are what is between 0 and 0 of any sequence with that time.
        """
        over = [value for value in self.builder.values() if value.kind == "sequence" and value.axis == time.of]
        sequence = next((value for value in over if len(value.shape) > 1), None)
        if sequence is None:
            raise StaticTimeNeeded(f"layer {self.name!r}: a repetition over the time needs the number of steps")
        while len(sequence.shape) > 2 or sequence.features > 1:
            last = len(sequence.shape) - 1
            if sequence.shape[last] > 1:
                options = {"axis": last, "start": 0, "count": 1}
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
        sizes = tuple(tensor.size(i) for i in inner)
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
            wanted = list(itertools.dropwhile(lambda i, t=tensor: t.axes[i] is None, order))
            values.append(self.arrange(tensor, wanted))
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


def graph_from_module(module: Any, inputs: object) -> tuple[Graph, Call]:
    """The graph of a module that torch.fx can trace, and how the two are called; see `cylstm.from_torch`.

    Raises
    ------
    UnsupportedError
        If it cannot be traced or computed.
    ShapeError
        If the shapes of the inputs do not fit, or have to be given.
    """
    import torch

    from cylstm.formats.torch.modules import MODULES, is_known
    from cylstm.formats.torch.state import Kept

    kind = type(module).__name__
    if is_known(module):
        module = _named(torch, kind.lower(), module)
    if any(part.training and _differs_in_training(part) for part in module.modules()):
        warnings.warn(
            f"{kind} is in training mode; it is taken as after module.eval(): no dropout, fixed statistics",
            UserWarning,
            stacklevel=4,
        )
    refuse_hooks(module)
    with evaluating(module):
        return _first_that_fits(module, MODULES, inputs, Kept(module))


def refuse_hooks(module: Any) -> None:
    """Raise `UnsupportedError` if a module or one in it has hooks that change what it computes."""
    for name, part in module.named_modules():
        if part._forward_hooks or part._forward_pre_hooks:
            raise UnsupportedError(
                f"layer {name or type(module).__name__!r}: it has forward hooks, such as those of "
                "torch.nn.utils.weight_norm and spectral_norm, which are not run; remove them first "
                "(torch.nn.utils.remove_weight_norm)"
            )
        if type(part).__module__.startswith("torch.nn.") and "forward" in vars(part):
            raise UnsupportedError(
                f"layer {name or type(module).__name__!r}: this object has a forward of its own, which is not run; "
                "write a class with that forward"
            )


@contextlib.contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """All parts of a module as after ``eval()``, without calling code of the user's."""
    training = {part: part.training for part in module.modules()}
    try:
        for part in training:
            part.training = False
        yield
    finally:
        for part, flag in training.items():
            part.training = flag


def _named(torch: Any, name: str, module: Any) -> Any:
    network = torch.nn.Sequential()
    network.add_module(name, module)
    network.training = module.training
    return network


def _differs_in_training(module: Any) -> bool:
    name = type(module).__name__
    rate = getattr(module, "dropout", 0.0)
    return (
        ("Dropout" in name and getattr(module, "p", 1.0) > 0)
        or "BatchNorm" in name
        or (isinstance(rate, float) and rate > 0)
    )


# Inputs


class Call(NamedTuple):
    """How a module and its graph are called with the same.

    Attributes
    ----------
    module : torch.nn.Module
    inputs : tuple of (str, str or None, tuple or None)
        Of each argument of the forward that is given: its name; the input of the graph that it is, or None; its shape
        with "N" for the batch and "T" for a time of any length, None for one that the graph does not have, such as
        lengths.
    batch : tuple of int
        Which axis of each result is the batch.
    is_guess : bool
        An argument is taken as given although it has a default, for without it the forward fails.
    is_layer : bool
        A recurrent layer by itself, of which the output alone counts.
    """

    module: Any
    inputs: tuple[tuple[str, str | None, tuple | None], ...]
    batch: tuple[int, ...]
    is_guess: bool = False
    is_layer: bool = False

    def run(self, *given: Any) -> Any:
        """What the module gives for one value for each of `inputs`, in their order."""
        names = [name for name, _, _ in self.inputs]
        if self.is_layer:
            is_cell = type(self.module).__name__.endswith("Cell")
            return _steps_of_cell(self.module, *given) if is_cell else self.module(*given)[0]
        order = list(inspect.signature(self.module.forward).parameters)[: len(names)]
        if order == names:
            return self.module(*given)
        return self.module(**dict(zip(names, given)))


def call_of_layer(module: Any, graph: Graph) -> Call:
    """Of an LSTM, a GRU, an RNN, one of their cells or a Linear by itself."""
    (name,) = graph.inputs
    features = graph.values[name].features
    if type(module).__name__ == "Linear":
        return Call(module, (("input", name, ("N", features)),), (0,))
    shape = ("N", "T", features) if getattr(module, "batch_first", True) else ("T", "N", features)
    return Call(module, (("input", name, shape),), (shape.index("N"),), is_layer=True)


def _steps_of_cell(cell: Any, x: Any) -> Any:
    import torch

    state, found = None, []
    for step in x.unbind(1):
        state = cell(step, state)
        found.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(found, 1)


def _first_that_fits(module: Any, modules: Mapping[str, Callable], inputs: object, kept: Kept) -> tuple[Graph, Call]:
    """The graph with the first shapes of the inputs, of those that come into question, with which all layers fit."""
    import torch

    from cylstm.formats.torch.trace import arguments

    wide = any(parameter.dtype == torch.float64 for parameter in module.parameters())
    dtype = np.dtype(np.float64 if wide else np.float32)
    arrays: dict[int, tuple[object, np.ndarray]] = {}
    failures: list[tuple[int, CylstmError]] = []
    known = arguments(module)
    given = _given_shapes([one.name for one in known], inputs)
    wanted = {*given, *(one.name for one in known[:1])}
    # those that have to be given, although they have a default
    guessed = {one.name for one in known if one.default is None} - wanted
    for is_guess, names in enumerate([wanted, wanted | guessed] if guessed else [wanted]):
        failed = [] if is_guess else failures
        for traced, shapes in _attempts(module, names, given, failed, kept):
            run = _Run(module, Wiring(dtype, arrays), modules, traced.constants)
            try:
                graph = run.build(traced, shapes)
            except CylstmError as error:
                failed.append((run.done, error))
                continue
            found = tuple((name, run.names.get(name), shape) for name, shape in shapes.items())
            return graph, Call(module, found, tuple(run.batch), bool(is_guess))
        if is_guess and failed and all("cannot be traced" in str(error) for _, error in failures):
            failures = failed  # without the arguments the forward itself fails
    if not failures:
        raise UnsupportedError(f"{type(module).__name__}: {_SIZES}")
    # the guess that came farthest says best what is missing
    error = max(failures, key=lambda failure: failure[0])[1]
    if isinstance(error, StaticTimeNeeded):
        raise StaticTimeNeeded(f"{error}; say it with from_torch(module, inputs=[('N', 20, 6)])") from error
    if len(failures) > 1 and not str(error).endswith("is not supported"):
        raise type(error)(
            f"{error} (the shapes of the inputs are guesses; if they are wrong, say them, for example "
            "inputs=[('N', 'T', 6)])"
        ) from error
    raise error


def _attempts(
    module: Any,
    names: set[str],
    given: Mapping[str, tuple],
    failures: list[tuple[int, CylstmError]],
    kept: Kept,
) -> Iterator[tuple[Any, dict[str, tuple | None]]]:
    """What forward does, with shapes of the inputs that come into question; `names` are those that have a default."""
    from cylstm.formats.torch.trace import EndlessError, ShapesNeeded, trace

    is_asked = False
    try:
        traced = trace(module, None, names, kept)
    except ShapesNeeded as asked:
        traced, is_asked = asked.traced, True
    except EndlessError:
        raise
    except CylstmError as error:
        failures.append((0, error))
        return
    placeholders = [node for node in traced.nodes if node.op == "placeholder"]
    for shapes in itertools.islice(_guesses(placeholders, module, given, is_asked), _MOST_GUESSES):
        if not is_asked:
            yield traced, shapes
            continue
        # the forward asks for a size: it goes other ways with other shapes
        try:
            yield trace(module, shapes, names, kept), shapes
        except EndlessError:
            raise
        except CylstmError as error:
            failures.append((0, error))


def _given_shapes(names: Sequence[str], inputs: object) -> dict[str, tuple]:
    """The shapes that the user gives, by argument of the forward."""
    if inputs is None:
        return {}
    if isinstance(inputs, Mapping):
        given = dict(inputs)
    elif isinstance(inputs, tuple) and inputs and all(isinstance(size, (str, int)) for size in inputs):
        given = {names[0]: inputs} if names else {}
    else:
        given = dict(zip(names, inputs))
        if len(inputs) > len(names):
            raise FormatError(f"inputs: the module has {len(names)} ({', '.join(names)}), found {len(inputs)}")
    for name, shape in given.items():
        if name not in names:
            raise FormatError(f"inputs: the module has {', '.join(names)}, found {name!r}")
        shape = given[name] = tuple(shape)
        if (
            shape.count("N") != 1
            or shape.count("T") > 1
            or not all(size in ("N", "T") or (type(size) is int and size > 0) for size in shape)
        ):
            raise FormatError(
                f"inputs: {name!r}: expected 'N' for the batch, perhaps 'T' for a time of any length, and numbers, "
                f"such as ('N', 'T', 6); found {shape}"
            )
    return given


def _guesses(
    placeholders: Sequence[Any], module: Any, given: Mapping[str, tuple], is_asked: bool
) -> Iterator[dict[str, tuple | None]]:
    """Shapes by input name; None for an optional argument that is left out, or for one that is not read."""
    choices: list[list[tuple | None]] = []
    # without a layer that has its time first, axis 0 is the batch
    time_first = any(getattr(layer, "batch_first", None) is False for layer in module.modules())
    for node in placeholders:
        if node.target in given:
            choices.append([given[node.target]])
        elif node.args or not node.users:
            choices.append([None])
        else:
            choices.append(
                [shape for shape in _likely_shapes(node, module, is_asked) if time_first or not _is_time_first(shape)]
            )
    for shapes in itertools.product(*choices):
        yield {node.target: shape for node, shape in zip(placeholders, shapes)}


def _is_time_first(shape: tuple | None) -> bool:
    return shape is not None and shape[:2] == ("T", "N")


def _likely_shapes(placeholder: Any, module: Any, is_asked: bool) -> list[tuple | None]:
    """Shapes that the first layer to read an input suggests, the most likely first; else, if `is_asked`, the module's
    first layer.
    """
    queue, seen = [placeholder], {placeholder}
    while queue:
        node = queue.pop(0)
        for user in node.users:
            found = _shapes_at(user, node, module)
            if found is not None:
                return found
            if user not in seen:
                seen.add(user)
                queue.append(user)
    if not is_asked:
        return []
    found = (_shapes_of(layer, 0) for layer in module.modules())
    return next((shapes for shapes in found if shapes is not None), [])


def _shapes_at(user: Any, source: Any, module: Any) -> list[tuple | None] | None:
    if user.op == "call_function" and getattr(user.target, "__name__", "") in ("linear", "conv1d"):
        weight = user.args[1] if len(user.args) > 1 else user.kwargs.get("weight")
        if getattr(weight, "op", "") != "get_attr":
            return None
        size = user.graph.constants[weight.target].shape[1]
        kind = {"linear": "Linear", "conv1d": "Conv1d"}[user.target.__name__]
        if kind == "Conv1d":
            size *= user.args[6] if len(user.args) > 6 else user.kwargs.get("groups", 1)
        return _layouts(kind, size, True)
    if user.op != "call_module":
        return None
    layer = module.get_submodule(user.target)
    if "key_padding_mask" in user.kwargs and user.kwargs["key_padding_mask"] is source:
        return [None]
    return _shapes_of(layer, user.args.index(source) if source in user.args else None)


def _shapes_of(layer: Any, place: int | None) -> list[tuple | None] | None:
    """Shapes of the argument `place` of a layer."""
    kind = type(layer).__name__.removeprefix("Parametrized")
    batch_first = getattr(layer, "batch_first", True)
    if kind in ("LSTM", "GRU", "RNN"):
        if place != 0:  # the initial state
            count = layer.num_layers * (2 if layer.bidirectional else 1)
            sizes = (layer.proj_size or layer.hidden_size, layer.hidden_size)
            return [(count, "N", size) for size in dict.fromkeys(sizes)]
        return _layouts(kind, layer.input_size, batch_first)
    if kind in ("LSTMCell", "GRUCell", "RNNCell"):
        return [("N", layer.input_size if place == 0 else layer.hidden_size)]
    if kind == "MultiheadAttention":
        size = {1: layer.kdim, 2: layer.vdim}.get(place, layer.embed_dim)
        return _layouts(kind, size, batch_first)
    if kind == "Embedding":
        return [("N", "T"), ("T", "N")]
    names = ("in_features", "in_channels", "num_features", "num_channels", "normalized_shape")
    size = next((getattr(layer, name) for name in names if hasattr(layer, name)), None)
    if size is None:
        return None
    return _layouts(kind, size if isinstance(size, int) else size[-1], True)


def _layouts(kind: str, size: int, batch_first: bool) -> list[tuple | None]:
    steps, channels, vector, time_major = ("N", "T", size), ("N", size, "T"), ("N", size), ("T", "N", size)
    if kind in ("Conv1d", "InstanceNorm1d"):
        found = [channels, steps]
    elif kind in ("BatchNorm1d", "GroupNorm"):
        found = [vector, channels, steps]
    elif kind in ("LSTM", "GRU", "RNN", "MultiheadAttention"):
        found = [steps, channels, time_major] if batch_first else [time_major, steps, channels]
    else:
        found = [vector, steps, channels, time_major]
    if size == 1:
        found.append(("N", "T"))
    return [*found, vector] if vector not in found else found  # of one step, given an axis of its own


# One attempt

#: operations whose result may share the memory of what they read
_VIEWS = frozenset(
    [
        "getitem",
        "view",
        "reshape",
        "flatten",
        "unflatten",
        "transpose",
        "permute",
        "swapaxes",
        "swapdims",
        "movedim",
        "moveaxis",
        "t",
        "squeeze",
        "unsqueeze",
        "expand",
        "chunk",
        "split",
        "unbind",
        "narrow",
        "select",
        "contiguous",
        "to",
        "float",
        "double",
        "detach",
        "type_as",
        "cpu",
        "getattr",
    ]
)
#: those with an underscore that change no number
_SAME = frozenset(("squeeze_", "unsqueeze_", "transpose_", "requires_grad_"))


class _Run:
    """Goes through the recorded operations once, with certain shapes of the inputs."""

    def __init__(
        self, module: Any, wiring: Wiring, modules: Mapping[str, Callable], constants: Mapping[str, Any]
    ) -> None:
        self.module = module
        self.wiring = wiring
        self.modules = modules
        self.constants = constants
        self.names: dict[str, str] = {}
        self.batch: list[int] = []
        self.found: dict[Any, object] = {}
        self.layouts: dict[str, str] = {}
        self.inputs: list[str] = []
        self.outputs: list[Value] = []
        self.done = 0

    def build(self, traced: Any, shapes: Mapping[str, tuple | None]) -> Graph:
        taken = {str(node.target) for node in traced.nodes if node.op == "call_module"}
        taken |= {node.name for node in traced.nodes if node.op.startswith("call")}
        for node in traced.nodes:
            if node.op == "placeholder":
                name = node.target.lstrip("*")
                while name in taken:
                    name += "_"
                self.found[node] = self.add_input(node, name, shapes[node.target])
            elif node.op == "output":
                self.wiring.name = "output"
                for found in leaves(self.argument(node.args[0])):
                    self.add_output(found)
            else:
                self.found[node] = self.call(node)
                if self.is_in_place(node):
                    self.follow_in_place(node)
            self.done += 1
        if not self.outputs:
            raise FormatError(f"{type(self.module).__name__}: it gives no tensor")
        builder = self.wiring.builder
        for value in self.outputs:
            builder.output(value)
        graph = _without_unused(builder.build())
        warn_not_finite(type(self.module).__name__, graph.tensors)
        return graph._replace(layouts=self.layouts)

    def add_input(self, node: Any, name: str, shape: tuple | None) -> object:
        self.inputs.append(name)
        if shape is not None:
            self.names[node.target] = name
        if shape is None:
            # an optional argument left out, one that nothing reads, or the mask of another input
            return node.args[0] if node.args else Unavailable(f"the argument {node.target!r} is not an input")
        rest = [size for size in shape if size != "N"]
        if self.reads_indices(node):
            value = self.wiring.builder.input(name, tuple(None if size == "T" else size for size in rest), indices=True)
            return Tensor(value, tuple(BATCH if size == "N" else rest.index(size) for size in shape))
        order = sorted(range(len(rest)), key=lambda i: rest[i] != "T")
        stored = [None if rest[i] == "T" else rest[i] for i in order]
        if stored == [None]:
            stored.append(1)
        value = self.wiring.builder.input(name, tuple(stored))
        places = [order.index(i) for i in range(len(rest))]
        if places != list(range(len(stored))):
            self.layouts[name] = "".join(map(str, places))
        remaining = iter(places)
        return Tensor(value, tuple(BATCH if size == "N" else next(remaining) for size in shape))

    def reads_indices(self, node: Any) -> bool:
        """Whether an Embedding reads the input, perhaps after a cast."""
        for user in node.users:
            if user.op == "call_module" and type(self.module.get_submodule(user.target)).__name__ == "Embedding":
                return True
            if user.op == "call_function" and getattr(user.target, "__name__", "") == "embedding":
                return True
            if user.op == "call_method" and user.target in ("long", "int", "to", "contiguous"):
                return self.reads_indices(user)
        return False

    def argument(self, found: object) -> object:
        import torch

        return torch.fx.node.map_arg(found, lambda node: self.found[node])

    def call(self, node: Any) -> object:
        from cylstm.formats.torch.modules import call_module
        from cylstm.formats.torch.operations import call_operation

        args, kwargs = self.argument(node.args), self.argument(node.kwargs)
        wiring = self.wiring
        wiring.fx_node = node
        wiring.name = str(node.target) if node.op == "call_module" else node.name
        if node.op == "get_attr":
            # a copy, which nothing that is computed with it changes in the module
            return self.constants[node.target].detach().clone()
        try:
            if node.op == "call_module":
                return call_module(wiring, self.module.get_submodule(node.target), args, kwargs)
            return call_operation(wiring, node, args, kwargs)
        except CylstmError as error:
            if wiring.name in str(error):
                raise
            raise type(error)(f"layer {wiring.name!r}: {error}") from error
        except (TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            raise UnsupportedError(
                f"layer {wiring.name!r}: called in a way that is not supported: {node.format_node()} ({error})"
            ) from error

    def is_in_place(self, node: Any) -> bool:
        """Whether PyTorch writes the result over the tensor that the operation reads."""
        if node.op == "call_module":
            return bool(getattr(self.module.get_submodule(node.target), "inplace", False))
        name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
        written = name in ("iadd", "isub", "imul", "itruediv") or (name.endswith("_") and not name.startswith("__"))
        return bool(node.kwargs.get("inplace")) or (written and name not in _SAME)

    def follow_in_place(self, node: Any) -> None:
        """What reads the tensor from now on reads the new one. Raises `UnsupportedError` if others share its memory."""
        source = node.args[0] if node.args else None
        if not hasattr(source, "users"):
            return
        if any(one.op == "get_attr" and not one.target.startswith("_constant") for one in self.sharing(source)):
            raise self.wiring.refuse(
                "changes a parameter or a buffer of the module, so that each call depends on the ones before, which is "
                "not supported; give it as an argument and a result of the forward"
            )
        order = {one: i for i, one in enumerate(node.graph.nodes)}
        family = self.sharing(source) - self.sharing_below(node)
        later = {user for one in family for user in one.users if order[user] > order[node]}
        if not later:
            return
        if any(self.is_part(one) for one in family):
            raise self.wiring.refuse(
                "writes its result over a tensor of which another part or view is read later; write it without "
                "in-place operations"
            )
        self.found.update(dict.fromkeys(family & self.found.keys(), self.found[node]))

    def is_part(self, node: Any) -> bool:
        """Whether it may be a part, or another view, of what it reads."""
        return self.is_view(node) and not self.is_in_place(node)

    def sharing(self, node: Any) -> set[Any]:
        """The recorded tensors that may share the memory of this one."""
        while self.is_view(node) and node.args and hasattr(node.args[0], "users"):
            node = node.args[0]
        return self.sharing_below(node)

    def sharing_below(self, node: Any) -> set[Any]:
        found, queue = set(), [node]
        while queue:
            one = queue.pop()
            found.add(one)
            queue += [user for user in one.users if self.is_view(user) and user.args and user.args[0] is one]
        return found

    def is_view(self, node: Any) -> bool:
        if node.op == "call_module":
            kind = type(self.module.get_submodule(node.target)).__name__
            return self.is_in_place(node) or "Dropout" in kind or kind in ("Identity", "Flatten", "Unflatten")
        if node.op not in ("call_function", "call_method"):
            return False
        name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
        return name in _VIEWS or name in _SAME or "dropout" in name or self.is_in_place(node)

    def add_output(self, found: object) -> None:
        """One output, and how its axes lie in what the module returns."""
        wiring = self.wiring
        tensor = wiring.tensor(found)
        self.batch.append(tensor.batch)
        inner = tensor.inner
        order = wiring.order([tensor], inner)
        if not any(isinstance(tensor.size(i), Dim) for i in inner):
            order = inner
        value = wiring.arrange(tensor, order)
        if value.name in self.inputs or value in self.outputs:
            value = wiring.add_layer("activation", value)
        places = [order.index(i) for i in inner]
        if places != list(range(len(value.shape))):
            self.layouts[value.name] = "".join(map(str, places))
        self.outputs.append(value)


def leaves(found: object) -> Iterator[object]:
    """The tensors of what a module returns, in order; None is left out."""
    if isinstance(found, Mapping):
        found = list(found.values())
    if isinstance(found, (list, tuple)):
        for part in found:
            yield from leaves(part)
    elif found is not None:
        yield found


def _without_unused(graph: Graph) -> Graph:
    """Without the layers that no output needs, and their weights."""
    needed = set(graph.outputs)
    kept = []
    for layer in reversed(graph.layers):
        if needed & set(layer.outputs.values()):
            kept.append(layer)
            needed |= set(layer.inputs.values())
    kept.reverse()
    inputs = graph.inputs
    masks = {graph.values[name].mask for name in inputs}
    written = {name for layer in kept for name in layer.outputs.values()}
    values = {name: value for name, value in graph.values.items() if name in written or name in inputs or name in masks}
    weights = {name for layer in kept for name in layer.weights.values()}
    tensors = {name: array for name, array in graph.tensors.items() if name in weights}
    return graph._replace(layers=tuple(kept), values=values, tensors=tensors)
