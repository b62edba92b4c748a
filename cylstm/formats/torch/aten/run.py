"""Goes through a program of ATen operations and builds its graph.

A program comes once, or as it was recorded with two sizes of its batch and its time: where its whole numbers differ
they are sizes, and every shape is compared with the recorded ones.

Operations that write a tensor in place change all tensors that share its memory. A tensor that is a view of another is
therefore computed again from that one after it was written, and what is written to a view is written back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats.torch.aten.arithmetic import ARITHMETIC
from cylstm.formats.torch.aten.layers import LAYERS
from cylstm.formats.torch.aten.lengths import NUMBERS, check_numbers
from cylstm.formats.torch.aten.places import PLACES
from cylstm.formats.torch.aten.shapes import SHAPES, written
from cylstm.program.interface import Interface
from cylstm.program.network import MIXES, Network
from cylstm.program.operations import parts, shape
from cylstm.program.operations.elementwise import cast
from cylstm.program.program import Operation, Program, Reference, TensorType
from cylstm.program.tensor import (
    Constant,
    Dim,
    Packed,
    Tensor,
    Varying,
    dtype_of,
    shape_of,
)

#: ATen's name without its overload -> function of the network and ATen's arguments
OPERATIONS: Mapping[str, Callable[..., Any]] = {**ARITHMETIC, **SHAPES, **PLACES, **LAYERS}

#: operations whose result may share the memory of their first argument
_VIEWS = frozenset((
    "view", "reshape", "_unsafe_view", "view_as", "reshape_as", "flatten", "unflatten", "permute", "transpose",
    "swapaxes", "swapdims", "t", "numpy_T", "mT", "movedim", "moveaxis", "squeeze", "unsqueeze", "expand", "expand_as",
    "contiguous", "detach", "alias", "select", "slice", "narrow", "split", "split_with_sizes", "chunk", "unbind", "to",
    "type_as", "dropout", "feature_dropout", "alpha_dropout", "positive", "real", "tensor_split", "unsafe_chunk",
    "getitem",
))  # fmt: skip
#: those of `_VIEWS` whose result is a copy or shares the memory, by how the numbers lie there, which is not recorded
_MAY_COPY = frozenset(("reshape", "reshape_as", "flatten", "contiguous", "_unsafe_view"))
#: those of `_VIEWS` whose result is a copy if it has another type
_CASTS = frozenset(("to", "type_as"))
#: operations with an underscore that change no number
_SAME = frozenset(("squeeze_", "unsqueeze_", "transpose_", "requires_grad_", "t_", "detach_", "swapaxes_"))
#: operators in place, and those that they are
_IN_PLACE: Mapping[str, str] = {"__ior__": "__or__", "__iand__": "__and__", "__ixor__": "__xor__"}
#: arithmetic of sizes, which Python itself does
_OF_NUMBERS: Mapping[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b,
    "truediv": lambda a, b: a / b,
    "mod": lambda a, b: a % b,
    "neg": lambda a: -a,
    "pow": lambda a, b: a**b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "and_": lambda a, b: a and b,
    "or_": lambda a, b: a or b,
    "sym_min": min,
    "sym_max": max,
    "sqrt": math.sqrt,
    "sym_sqrt": math.sqrt,
    "trunc": math.trunc,
    "ceil": math.ceil,
    "floor": math.floor,
    "sym_float": float,
    "sym_int": int,
    "sym_not": lambda a: not a,
}
#: checks that the program made of its sizes
_CHECKS = frozenset((
    "_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range", "sym_constrain_range_for_size", "_assert_async",
))  # fmt: skip


def name_of(operation: Operation) -> str:
    """ATen's name without its overload; another library's with it."""
    parts_of = operation.target.split(".")
    if parts_of[0] in ("aten", "prim", "prims", "cylstm"):
        return parts_of[1] if len(parts_of) > 1 else operation.target
    return parts_of[-1] if parts_of[0] in ("_operator", "math", "builtins", "torch") else operation.target


class Run:
    """Builds the graph of a program.

    Parameters
    ----------
    net : Network
    programs : sequence of Program
        The same program, as recorded with each of the network's examples.
    """

    def __init__(self, net: Network, programs: Sequence[Program]) -> None:
        self.net = net
        self.programs = programs
        self.first = programs[0]
        self.values: dict[str, Any] = {}
        self.bases: dict[str, tuple[str, Operation, int | None]] = {}
        self.stale: set[str] = set()
        self.readers: dict[str, list[Operation]] = {}
        self.changed: set[str] = set()
        self.uncertain: set[str] = set()
        self.names: set[str] = set()
        self.symbols: dict[str, Any] = {}
        self.done = 0

    # Going through

    def run(self, inputs: Mapping[str, Any]) -> None:
        """Compute all that the outputs need, from the values of the program's inputs."""
        self.values.update(inputs)
        operations = self.unified()
        alive = self.alive(operations)
        for operation in operations:
            for name in _references(operation.arguments):
                self.readers.setdefault(name, []).append(operation)
        for operation, is_alive in zip(operations, alive):
            if is_alive:
                self.call(operation)
            self.done += 1
        self.net.name, self.net.where = "output", ""

    def unified(self) -> list[Operation]:
        """The operations of all programs as one, whole numbers that differ as `Varying`."""
        if len(self.programs) == 1:
            return list(self.first.operations)
        found = []
        if len({len(program.operations) for program in self.programs}) > 1:
            raise self.differs("a loop over the time, or a choice by it,")
        for group in zip(*(program.operations for program in self.programs)):
            one = group[0]
            if len({operation.target for operation in group}) > 1:
                raise self.differs("a choice by the time")
            if name_of(one) in _CHECKS:
                found.append(one)
                continue
            self.locate(one)
            arguments = _unify(self.net, [dict(operation.arguments) for operation in group])
            found.append(Operation(one.target, arguments, one.outputs, one.where, one.layer))
        return found

    def differs(self, what: str) -> CylstmError:
        """Why the programs of two examples are not the same; where the time is known it is the batch."""
        if any(times for _, times in self.net.examples):
            return self.net.needs_time(what)
        return UnsupportedError(f"a loop over the batch, or a choice by its size, {MIXES}")

    def alive(self, operations: Sequence[Operation]) -> list[bool]:
        """Which operations something needs that the program returns."""
        roots: dict[str, str] = {}
        for operation in operations:
            name = name_of(operation)
            source = _first(operation)
            for output in _flat(operation.outputs):
                if source is not None and (name.rstrip("_") in _VIEWS or name in _SAME or _is_in_place(name)):
                    roots[output] = roots.get(source, source)
        needed = {roots.get(name, name) for name in _references(self.first.outputs)}
        found = []
        for operation in reversed(operations):
            outputs = [roots.get(name, name) for name in _flat(operation.outputs)]
            source = _first(operation)
            is_alive = any(name in needed for name in outputs)
            if _is_in_place(name_of(operation)) and source is not None:
                is_alive = is_alive or roots.get(source, source) in needed
            found.append(is_alive)
            if is_alive:
                needed |= {roots.get(name, name) for name in _references(operation.arguments)}
        return found[::-1]

    def locate(self, operation: Operation) -> None:
        """Name what follows after an operation, in layers and in messages."""
        path = operation.layer
        outputs = list(_flat(operation.outputs))
        name = path or (outputs[0] if outputs else name_of(operation))
        while name in self.names:
            name += "_"
        self.net.name = name
        self.net.where = operation.where
        self.net.is_in_layer = bool(path)
        self.net.readers = lambda: self.readers_of(outputs)

    def readers_of(self, outputs: Sequence[str]) -> list[tuple[str, Any]]:
        """What reads the result: ("slice", (axis, start, stop, step)) or the name of another operation."""
        found: list[tuple[str, Any]] = []
        for name in outputs:
            readers = self.readers.get(name, [])
            if name in _references(self.first.outputs):
                found.append(("output", None))
            for operation in readers:
                given = operation.arguments
                if name_of(operation) != "slice":
                    found.append((name_of(operation), None))
                    continue
                start, stop = given.get("start"), given.get("end")
                if start in (None, 0) and (stop is None or (isinstance(stop, int) and stop > 1 << 60)):
                    found += self.readers_of(list(_flat(operation.outputs)))
                    continue
                start = None if start == 0 else start
                if isinstance(stop, (int, Varying)) and not isinstance(stop, bool):
                    stop = self.from_end(operation, stop)
                found.append(("slice", (given.get("dim", 0), start, stop, given.get("step", 1))))
        return found

    def from_end(self, operation: Operation, stop: Any) -> Any:
        """A place counted from the end of the axis, where that is the same in all examples."""
        source = _first(operation)
        values = stop.values if isinstance(stop, Varying) else (stop,) * len(self.programs)
        differences = set()
        for program, value in zip(self.programs, values):
            kind = program.types.get(str(source))
            if not isinstance(kind, TensorType):
                return stop
            size = kind.shape[operation.arguments.get("dim", 0)]
            differences.add(value if value < 0 else value - size if isinstance(size, int) else value)
        return differences.pop() if len(differences) == 1 else stop

    # Values

    def read(self, name: str) -> Any:
        """A value by its name."""
        if name in self.changed:
            raise self.net.refuse(
                "reads a parameter or a buffer that the program changes, so that each call depends on the ones before, "
                "which is not supported; give it as an argument and a result of the forward"
            )
        if name in self.uncertain:
            raise self.net.refuse(
                "reads a tensor of which a reshape, or .contiguous(), was written in place: whether that was a copy or "
                "the same memory depends on how its numbers lie; use .view() or .clone(), or write nothing in place"
            )
        if name in self.stale:
            self.stale.discard(name)
            _, operation, part = self.bases[name]
            found = self.computed(operation)
            self.values[name] = found if part is None else found[part]
        if name not in self.values:
            if name in self.first.constants:
                self.values[name] = self.constant(name)
            else:
                raise self.net.refuse(f"the input {name!r} has no value")
        found = self.values[name]
        if callable(found):
            found = self.values[name] = found()
        return found

    def constant(self, name: str) -> np.ndarray:
        """A constant of the program, the same in all examples."""
        found = np.asarray(self.first.constants[name])
        for program in self.programs[1:]:
            other = program.constants.get(name)
            if other is None or not (other is found or _are_equal(found, np.asarray(other))):
                raise self.net.needs_time("a constant that changes with the time")
        return found

    def argument(self, found: Any) -> Any:
        """An argument with its references followed."""
        if isinstance(found, Reference):
            return self.read(found.name)
        if isinstance(found, dict):
            return {key: self.argument(one) for key, one in found.items()}
        if isinstance(found, (tuple, list)):
            return tuple(self.argument(one) for one in found)
        if isinstance(found, np.ndarray):
            return found
        return found

    def call(self, operation: Operation) -> None:
        """Compute one operation."""
        self.locate(operation)
        name = name_of(operation)
        if name in _CHECKS:
            return
        try:
            self.added(operation, name)
        except CylstmError as error:
            if self.net.name in str(error) or "layer " in str(error)[:6]:
                raise
            raise type(error)(f"{self.net.place_name}: {error}") from error
        except MemoryError:
            raise
        except Exception as error:  # an argument that an operation is not written for
            raise self.net.refuse(
                f"{operation.target.removeprefix('aten.')} called with {', '.join(operation.arguments)} like this is "
                "not supported"
            ) from error

    def added(self, operation: Operation, name: str) -> None:
        """Compute one operation, and keep its results."""
        result = self.computed(operation)
        outputs = operation.outputs
        source = _first(operation)
        if _is_in_place(name) and source is not None:
            result = self.as_before(self.read(source), result)
            self.write(source, result)
            self.keep(outputs[0], result)
            if isinstance(outputs[0], str):
                self.bases[outputs[0]] = (source, _alias(operation, source, outputs[0]), None)
            self.check(operation)
            return
        if len(outputs) == 1:
            self.keep(outputs[0], result)
        else:
            results = result if isinstance(result, tuple) else (result,)
            for output, one in zip(outputs, results):
                self.keep(output, one)
        if source is not None and (name in _VIEWS or name in _SAME) and not self.is_copy(operation, source):
            for output in outputs:
                if isinstance(output, tuple):
                    for k, one in enumerate(output):
                        self.bases[one] = (source, operation, k)
                elif output is not None:
                    self.bases[output] = (source, operation, None)
        self.check(operation)

    def is_copy(self, operation: Operation, source: str) -> bool:
        """Whether one of `_VIEWS` has memory of its own: a cast to another type."""
        if name_of(operation) not in _CASTS:
            return False
        types = [self.first.types.get(str(name)) for name in (source, operation.outputs[0])]
        return bool(operation.arguments.get("copy")) or not all(
            isinstance(kind, TensorType) and kind.dtype == types[0].dtype  # type: ignore[union-attr]
            for kind in types
        )

    def as_before(self, before: Any, new: Any) -> Any:
        """What an operation in place gives, in the shape and the type of the tensor that it writes."""
        if not isinstance(new, (Tensor, Constant, np.ndarray)):
            return new
        if shape_of(new) != shape_of(before):
            new = shape.expand(self.net, new, shape_of(before))
        return cast(self.net, new, dtype_of(before))

    def computed(self, operation: Operation) -> Any:
        """The result of an operation."""
        net = self.net
        name = name_of(operation)
        library = operation.target.split(".")[0]
        arguments = {key: self.argument(one) for key, one in operation.arguments.items()}
        if name == "sym_size":
            sizes = shape_of(arguments["self"])
            return sizes[arguments.get("dim", 0)]
        if library in ("_operator", "math", "builtins", "torch"):
            return self.of_numbers(name, list(arguments.values()))
        plain = name.rstrip("_") if _is_in_place(name) or name in _SAME else name
        plain = _IN_PLACE.get(name, plain)
        function = OPERATIONS.get(plain)
        if function is None or library not in ("aten", "prim", "cylstm"):
            raise net.refuse(f"the operation {operation.target.removeprefix('aten.')} is not supported")
        if plain != "pack" and plain not in _KEEPS_PACKED:
            arguments = {key: _unpacked(one) for key, one in arguments.items()}
        arguments.pop("out", None)
        for key in NUMBERS.get(plain, ()):
            if isinstance(arguments.get(key), Varying):
                arguments[key] = net.size(arguments[key])
        if len(self.programs) == 1:
            check_numbers(net, self.first, operation, plain, arguments, self.readers, name_of)
        return function(net, **arguments)

    def of_numbers(self, name: str, given: list[Any]) -> Any:
        """Arithmetic of sizes."""
        if name == "getitem":
            return given[0][given[1]]
        if name not in _OF_NUMBERS:
            raise self.net.refuse(f"the arithmetic {name} of sizes is not supported")
        if name in ("eq", "ne") and any(isinstance(one, Dim) for one in given):
            same = given[0] == given[1]
            if not same:
                raise self.net.needs_time("a choice by a size")
            return same == (name == "eq")
        try:
            return _OF_NUMBERS[name](*given)
        except TypeError as error:
            raise self.net.needs_time(f"the arithmetic {name} of sizes") from error

    def keep(self, output: Any, result: Any) -> None:
        if isinstance(output, tuple):
            if not isinstance(result, (tuple, list)) or len(result) != len(output):
                raise self.net.refuse(f"expected {len(output)} results")
            for name, one in zip(output, result):
                self.values[name] = one
        elif output is not None:
            self.values[output] = result

    def check(self, operation: Operation) -> None:
        """Raise `UnsupportedError` if a shape is not the one recorded: our own mistake, or a size that is another."""
        for name in _flat(operation.outputs):
            found = self.values.get(name)
            if not isinstance(found, (Tensor, Constant, np.ndarray)) or getattr(found, "cropped", False):
                continue
            for k, program in enumerate(self.programs):
                kind = program.types.get(name)
                if not isinstance(kind, TensorType) or len(kind.shape) != len(found.shape):
                    if isinstance(kind, TensorType):
                        raise self.net.refuse(f"a result of shape {found.shape}, where {kind.shape} was recorded")
                    continue
                for own, recorded in zip(found.shape, kind.shape):
                    if not isinstance(recorded, int) or (isinstance(own, Dim) and not self.net.examples):
                        continue
                    if self.net.numbers(own)[k] != recorded:
                        raise self.net.needs_time(f"a result of shape {found.shape}, where {kind.shape} was recorded,")

    # In place

    def write(self, name: str, new: Any) -> None:
        """Other numbers for a tensor, and for all that share its memory."""
        net = self.net
        self.values[name] = new
        self.stale.discard(name)
        path = {name}
        while name in self.bases:
            base, operation, part = self.bases[name]
            if name_of(operation) in _MAY_COPY:
                break
            before = self.read(base)
            new = self.written_back(operation, before, new, part)
            self.values[base] = new
            path.add(base)
            name = base
        if name in self.first.constants and name in self.first.constant_names:
            others = [
                one for one in self.readers.get(name, ()) if not _is_in_place(name_of(one))
            ]  # fmt: skip
            if others or name in _references(self.first.outputs):
                raise net.refuse(
                    "changes a parameter or a buffer of the module, so that each call depends on the ones before, "
                    "which is not supported; give it as an argument and a result of the forward"
                )
        root = self.root(name)
        for view in (root, *self.bases):
            if view in path or self.root(view) != root:
                continue
            if self.certain_root(view) != name:
                self.uncertain.add(view)
            elif view in self.values:
                self.stale.add(view)

    def root(self, name: str) -> str:
        while name in self.bases:
            name = self.bases[name][0]
        return name

    def certain_root(self, name: str) -> str:
        """The tensor whose memory this one certainly shares."""
        while name in self.bases and name_of(self.bases[name][1]) not in _MAY_COPY:
            name = self.bases[name][0]
        return name

    def written_back(self, operation: Operation, base: Any, new: Any, part: int | None) -> Any:
        """The tensor of which a view has these numbers now."""
        net = self.net
        name = name_of(operation)
        arguments = {key: self.argument(one) for key, one in operation.arguments.items()}
        rank = len(shape_of(base))
        if name in ("contiguous", "detach", "alias", "to", "type_as", "positive", "dropout") or _is_in_place(name):
            return new
        if name in ("view", "reshape", "_unsafe_view", "view_as", "reshape_as", "flatten", "unflatten", "squeeze",
                    "unsqueeze"):  # fmt: skip
            return shape.reshape(net, new, shape_of(base))
        if name in ("transpose", "swapaxes", "swapdims"):
            dims = [one for key, one in arguments.items() if key != "self"]
            return shape.transpose(net, new, *dims)
        if name in ("t", "mT"):
            return shape.transpose(net, new, -2, -1)
        if name == "permute":
            order = [dim % rank for dim in arguments["dims"]]
            return shape.permute(net, new, [order.index(i) for i in range(rank)])
        if name == "select":
            dim, index = arguments["dim"] % rank, arguments["index"]
            index = -1 if isinstance(index, (Dim, Varying)) else index
            stop = None if index == -1 else index + 1
            return written(net, base, shape.unsqueeze(net, new, dim), dim, index, stop, 1)
        if name in ("slice", "narrow"):
            dim = arguments.get("dim", 0) % rank
            start, stop = arguments.get("start"), arguments.get("end")
            if name == "narrow":
                stop = start + arguments["length"]
            stop = None if isinstance(stop, int) and stop > 1 << 60 else stop
            if shape_of(new) == shape_of(base):
                return new
            return written(net, base, new, dim, start, stop, arguments.get("step", 1))
        if name == "getitem":
            pieces = list(base)
            pieces[arguments["1"]] = new
            return tuple(pieces)
        if name in ("chunk", "split", "split_with_sizes", "unbind", "unsafe_chunk"):
            pieces = list(self.computed(operation)) if part is not None else list(new)
            if part is not None:
                pieces[part] = new
            dim = arguments.get("dim", 0)
            return parts.stack(net, pieces, dim) if name == "unbind" else parts.concat(net, pieces, dim)
        raise net.refuse(
            f"writes its result over a tensor of which another view is read later ({name}), which is not supported; "
            "write it without in-place operations"
        )

    # Results

    def add_outputs(self, interface: Interface, found: Any) -> None:
        """All tensors of what the program returns, as outputs of the graph."""
        if isinstance(found, (tuple, list)):
            for one in found:
                self.add_outputs(interface, one)
        elif isinstance(found, dict):
            for one in found.values():
                self.add_outputs(interface, one)
        elif isinstance(found, Reference):
            interface.add_output(self.read(found.name))
        elif found is not None:
            raise FormatError(f"output: a result that is no tensor ({found!r:.60}) is not supported")


_KEEPS_PACKED = frozenset(
    ("lstm", "gru", "rnn_tanh", "rnn_relu", "dropout", "to", "contiguous", "unpack", "lengths", "detach")
)  # fmt: skip


def _unpacked(found: Any) -> Any:
    return found.tensor if isinstance(found, Packed) else found


def _is_in_place(name: str) -> bool:
    return (name.endswith("_") and not name.startswith("__") and name not in _SAME) or name in _IN_PLACE


def _are_equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _alias(operation: Operation, source: str, output: str) -> Operation:
    return Operation("aten.alias.default", {"self": Reference(source)}, (output,), operation.where)


def _first(operation: Operation) -> str | None:
    """The name of the first argument, if it is a value."""
    for found in operation.arguments.values():
        return found.name if isinstance(found, Reference) else None
    return None


def _flat(outputs: Any) -> list[str]:
    if isinstance(outputs, str):
        return [outputs]
    return [] if outputs is None else [name for one in outputs for name in _flat(one)]


def _references(found: Any) -> set[str]:
    """The names of all values in a structure."""
    if isinstance(found, Reference):
        return {found.name}
    if isinstance(found, Mapping):
        found = list(found.values())
    if isinstance(found, (tuple, list)):
        return set().union(*map(_references, found)) if found else set()
    return set()


def _unify(net: Network, given: Sequence[Any]) -> Any:
    """Arguments of the same operation in several programs as one."""
    first = given[0]
    if isinstance(first, dict):
        if any(one.keys() != first.keys() for one in given):
            raise net.needs_time("a choice by the time")
        return {key: _unify(net, [one[key] for one in given]) for key in first}
    if isinstance(first, (tuple, list)):
        if any(not isinstance(one, (tuple, list)) or len(one) != len(first) for one in given):
            raise net.needs_time("a loop over the time")
        return tuple(_unify(net, group) for group in zip(*given))
    if type(first) is int and all(type(one) is int for one in given):
        return first if len(set(given)) == 1 else Varying(tuple(given))
    if any(one != first for one in given):
        if isinstance(first, float) and all(isinstance(one, (int, float)) for one in given):
            raise net.needs_time("a number that changes with the time")
        raise net.needs_time("a choice by the time")
    return first
