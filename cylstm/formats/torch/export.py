"""Programs of live modules: ``torch.export`` runs a module on stand-ins for tensors and records what it does."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cylstm.errors import UnsupportedError
from cylstm.formats.arrays import as_numpy
from cylstm.formats.torch.module import class_of
from cylstm.formats.torch.state import Change, ChangesError, Kept, describe, draw_once, without
from cylstm.program.program import Operation, Program, Reference, TensorType

#: the oldest PyTorch whose export is read
OLDEST = (2, 6)
#: operations that a forward may call; beyond, it is taken for a loop that does not end
_MOST_OPERATIONS = 100_000
#: one module at a time: functions of PyTorch are replaced while one is exported
_EXPORTING = threading.RLock()


class EndlessError(UnsupportedError):
    """A forward does not end: other inputs need not be tried."""


def check_version(torch: Any) -> None:
    """Raise `UnsupportedError` for a PyTorch whose programs are not read."""
    found = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2] if part.isdecimal())
    if found < OLDEST:
        raise UnsupportedError(
            f"from_torch needs PyTorch {'.'.join(map(str, OLDEST))} or later, found {torch.__version__}; save "
            'module.state_dict() and load it with layers=, for example cylstm.load("weights.pt", '
            'layers=[cylstm.LSTM("lstm"), cylstm.Linear("fc")])'
        )


def export(module: Any, arguments: Mapping[str, Any], kept: Kept) -> Program:
    """What a module's forward does with these tensors, by the names of its arguments; the module is as it was then.

    Raises
    ------
    UnsupportedError
        If PyTorch cannot export it, or if it depends on what it keeps from call to call.
    """
    kind = type(module).__name__
    program, changes, drew = _recorded(module, arguments, kept)
    if drew:
        draw_once()  # of other numbers another program would be made
        if not _are_same(program, _recorded(module, arguments, kept)[0]):
            raise UnsupportedError(f"{kind}: {DRAWS}")
    if not changes:
        return program
    names = describe(changes)
    advice = "give what it keeps from call to call as arguments and results of the forward"
    if any(change.attribute_of is None for change in changes):
        raise ChangesError(kind, changes)
    # attributes that nothing reads before they are assigned may be anything
    without(changes)
    try:
        again, changed, _ = _recorded(module, arguments, kept)
    except UnsupportedError as error:
        raise UnsupportedError(
            f"{kind}: its forward reads {names} and then assigns it, so that each call depends on the one before, "
            f"which is not supported; {advice}"
        ) from error
    if not _are_same(program, again) or {change.name for change in changed} - {change.name for change in changes}:
        raise UnsupportedError(
            f"{kind}: its forward assigns {names} and does other things where that is missing, which is not "
            f"supported; {advice}"
        )
    return program


DRAWS = (
    "its forward draws random numbers, so that no two calls give the same, which is not supported; draw them outside "
    "and give them as an argument"
)


def _recorded(module: Any, arguments: Mapping[str, Any], kept: Kept) -> tuple[Program, list[Change], bool]:
    """What a module does, what that changed of what is kept, and whether generators moved; all is put back."""
    import torch

    with (
        _EXPORTING,
        stand_ins(torch, module),
        limited(torch, module),
        _whole_parts(torch),
        quiet(),
        _attributes_may_change(),
        _whole_layers(torch),
        torch.no_grad(),
    ):
        try:
            exported = torch.export.export(module, (), dict(arguments), strict=False)
            drew = kept.drew_random_numbers()
            changes = [change for change in kept.changes() if not _is_same_state(change)]
        except (UnsupportedError, _Endless, MemoryError):
            raise
        except Exception as error:  # whatever the module's own code raises
            changes = [change for change in kept.changes() if not _is_same_state(change)]
            besides = f"; its forward changes {describe(changes)}" if changes else ""
            raise UnsupportedError(_why(module, error) + besides) from error
        finally:
            kept.restore()
        try:
            return program_of(torch, exported), changes, drew
        except UnsupportedError as error:
            raise UnsupportedError(f"{type(module).__name__}: {error}") from error


def _is_same_state(change: Change) -> bool:
    """Whether an attribute is one that torch.export itself changes."""
    return str(change.key).startswith(("_export", "_flat_weight"))


class _Endless(BaseException):
    """No `Exception`, so that a forward that catches all of these ends too."""


@contextlib.contextmanager
def limited(torch: Any, module: Any) -> Iterator[None]:
    """A forward that calls more than `_MOST_OPERATIONS` operations is ended. Raises `UnsupportedError` then."""

    class Counting(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
        calls = 0

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            Counting.calls += 1
            if Counting.calls > _MOST_OPERATIONS:
                raise _Endless
            return function(*args, **(kwargs or {}))

    try:
        with Counting():
            yield
    except _Endless as error:
        raise EndlessError(
            f"{type(module).__name__}: its forward calls more than {_MOST_OPERATIONS} operations, perhaps a loop that "
            f"does not end, which is not supported{_line(error)}"
        ) from None


def _whole_parts(torch: Any) -> Any:
    """Records ``x[..., :stop]`` where `stop` is the size or beyond, which PyTorch leaves out: with another number of
    steps it may be less.
    """

    class Recording(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.Tensor.__getitem__ and _takes_whole(*args):
                return _part(torch, *args)
            return function(*args, **(kwargs or {}))

    return Recording()


def _places(x: Any, index: Any) -> list[Any]:
    """What an index takes of each axis, None for a new one; empty if it has anything but numbers and parts."""
    items = list(index) if isinstance(index, tuple) else [index]
    if not all(item is None or item is Ellipsis or type(item) in (int, slice) for item in items):
        return []
    axes = len([item for item in items if item is not None and item is not Ellipsis])
    at = items.index(Ellipsis) if Ellipsis in items else len(items)
    return [*items[:at], *[slice(None)] * (x.ndim - axes), *items[at + 1 :]]


def _takes_whole(x: Any, index: Any) -> bool:
    """Whether an index takes an axis as a part that ends at its size or beyond."""
    sizes = iter(x.shape)
    for item in _places(x, index):
        size = 0 if item is None else next(sizes, 0)
        if type(item) is slice and type(item.stop) is int and item.stop >= size and item.start in (None, 0):
            return item.step in (None, 1)
    return False


def _part(torch: Any, x: Any, index: Any) -> Any:
    """``x[index]`` in the operations of which PyTorch makes it, none of them left out."""
    axis = 0
    for item in _places(x, index):
        if type(item) is int:
            x = torch.select(x, axis, item)
            continue
        if item is None:
            x = torch.unsqueeze(x, axis)
        elif item != slice(None):
            stop = sys.maxsize if item.stop is None else item.stop
            x = torch.ops.aten.slice.Tensor(x, axis, item.start or 0, stop, item.step or 1)
        axis += 1
    return x


@contextlib.contextmanager
def _whole_layers(torch: Any) -> Iterator[None]:
    """Without the single operations in which PyTorch computes a whole Transformer layer."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def _attributes_may_change() -> Iterator[None]:
    """torch.export refuses modules that assign tensors to attributes; whether that matters is found out here."""
    from torch.export import _trace

    name = "_detect_attribute_assignment"
    before = getattr(_trace, name, None)
    if before is None:
        yield
        return
    setattr(_trace, name, lambda *args, **kwargs: contextlib.nullcontext())
    try:
        yield
    finally:
        setattr(_trace, name, before)


def _are_same(one: Program, other: Program) -> bool:
    """Whether two programs do the same with the same constants."""
    if [(a.target, a.arguments) for a in one.operations] != [(b.target, b.arguments) for b in other.operations]:
        return False
    return one.constants.keys() == other.constants.keys() and all(
        np.array_equal(array, other.constants[name], equal_nan=array.dtype.kind == "f")
        for name, array in one.constants.items()
    )


def _why(module: Any, error: Exception) -> str:
    """Why PyTorch does not export a module, in a sentence."""
    kind = type(module).__name__
    text = str(error)
    if "data-dependent" in text or "GuardOnDataDependent" in type(error).__name__ or "aten._local_scalar" in text:
        return (
            f"{kind}: control flow that depends on the numbers in a tensor, such as an if or a loop, is not supported; "
            "write it with torch.where, or as a loop of a fixed number of steps" + _line(error)
        )
    return f"{kind}: torch.export cannot record its forward: {told(error)}" + _line(error)


def told(error: Exception) -> str:
    """The class and the first line of an error of the user's code or of PyTorch."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first[:300]}" if first else type(error).__name__


def _line(error: BaseException) -> str:
    """Where in the user's own code an error came up."""
    found = None
    trace = error.__traceback__
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if trace.tb_frame.f_code.co_name != "<module>" and not _is_library(path):
            found = f" ({path.replace(chr(92), '/').rpartition('/')[2]} line {trace.tb_lineno})"
        trace = trace.tb_next
    return found or ""


def _is_library(path: str) -> bool:
    path = path.replace("\\", "/")
    return "/torch/" in path or "/cylstm/" in path or path.startswith("<")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without PyTorch's warnings and reports about what it exports."""
    logger = logging.getLogger("torch")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)


def program_of(torch: Any, exported: Any) -> Program:
    """An exported program as plain data."""
    signature = exported.graph_signature
    state = {**exported.state_dict, **exported.constants}
    constants, names, inputs = {}, {}, []
    fixed: dict[str, Any] = {}
    arrays: dict[int, Any] = {}
    for spec in signature.input_specs:
        name = getattr(spec.arg, "name", None)
        if spec.target is not None and name is not None:
            tensor = state.get(spec.target)
            if tensor is None:
                tensor = exported.constants.get(spec.target)
            if not isinstance(tensor, torch.Tensor):
                raise UnsupportedError(f"{spec.target}: a constant that is no tensor is not supported")
            if id(tensor) not in arrays:
                arrays[id(tensor)] = as_numpy(spec.target, tensor)
            constants[name] = arrays[id(tensor)]
            names[name] = spec.target
        elif name is not None and hasattr(spec.arg, "value"):
            fixed[name] = spec.arg.value
        elif name is not None:
            inputs.append(name)
    flat = _Flat(torch)
    returned = flat.add(exported.graph_module)
    results = []
    mutated: dict[str, str] = {}
    for spec, found in zip(signature.output_specs, returned):
        if "USER_OUTPUT" in str(spec.kind):
            results.append(found)
        elif spec.target is not None and isinstance(found, Reference):
            mutated[spec.target] = found.name
    outputs = torch.utils._pytree.tree_unflatten(results, exported.call_spec.out_spec)
    return Program(
        tuple(inputs),
        {name: name for name in inputs},
        fixed,
        tuple(flat.operations),
        _plain(outputs),
        constants,
        names,
        flat.types,
        {},
        mutated,
        f"PyTorch {torch.__version__} export",
    )


def _plain(found: Any) -> Any:
    """Nested results as tuples and dicts."""
    if isinstance(found, Mapping):
        return {str(key): _plain(one) for key, one in found.items()}
    if isinstance(found, (tuple, list)):
        return tuple(_plain(one) for one in found)
    return found


def _type(torch: Any, found: Any) -> TensorType | None:
    if not isinstance(found, torch.Tensor):
        return None
    if not all(isinstance(size, int) or size.node.has_hint() for size in found.shape):
        return None  # how many there are depends on the numbers
    return TensorType(str(found.dtype).removeprefix("torch."), tuple(int(size) for size in found.shape))


#: operations that call a part of the program under another setting that does not matter here
_CALLS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}


class _Flat:
    """The operations of a graph and of the parts that it calls, one after the other.

    Attributes
    ----------
    operations : list of Operation
    types : dict
        Of each result.
    """

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.operations: list[Operation] = []
        self.types: dict[str, TensorType] = {}
        self._values: dict[Any, Any] = {}

    def add(self, module: Any, given: Sequence[Any] | None = None, prefix: str = "") -> Sequence[Any]:
        """Add the operations of a graph, called with these values; what it returns."""
        remaining = iter(given or ())
        for node in module.graph.nodes:
            if node.op == "placeholder":
                self._values[node] = Reference(node.name) if given is None else next(remaining)
                self._note_type(node.name, node)
            elif node.op == "get_attr":
                self._values[node] = getattr(module, node.target)
            elif node.op == "output":
                found = self._argument(node.args[0])
                return found if isinstance(found, tuple) else (found,)
            else:
                self._values[node] = self._called(node, prefix)
        return ()

    def _called(self, node: Any, prefix: str) -> Any:
        kind = getattr(node.target, "__name__", "")
        if kind in _CALLS:
            options = node.args[: _CALLS[kind]]
            part, *given = (self._argument(one) for one in node.args[_CALLS[kind] :])
            if kind == "wrap_with_autocast" and options[2]:
                raise UnsupportedError(
                    "torch.autocast, which computes in a narrower type, is not supported; export the module without it"
                )
            return self.add(part, given, f"{prefix}{node.name}.")
        if kind == "getitem" and isinstance(self._argument(node.args[0]), tuple):
            return self._argument(node.args[0])[node.args[1]]
        name = f"{prefix}{node.name}"
        self.operations.append(self._operation(node, name))
        self._note_type(name, node)
        return Reference(name)

    def _note_type(self, name: str, node: Any) -> None:
        kind = _type(self.torch, node.meta.get("val"))
        if kind is not None:
            self.types[name] = kind

    def _operation(self, node: Any, name: str) -> Operation:
        """One operation, its arguments by name."""
        target = node.target
        schema = getattr(target, "_schema", None)
        if schema is not None:
            names = [argument.name for argument in schema.arguments]
            given = dict(zip(names, node.args)) | dict(node.kwargs)
            text = str(target)
        else:
            given = {str(k): one for k, one in enumerate(node.args)} | dict(node.kwargs)
            text = f"_operator.{target.__name__}" if getattr(target, "__module__", "") == "_operator" else (
                f"{getattr(target, '__module__', '')}.{getattr(target, '__name__', target)}")  # fmt: skip
        arguments = {key: self._argument(found) for key, found in given.items()}
        where, layer = _where(node)
        return Operation(text, arguments, (name,), where, layer)

    def _argument(self, found: Any) -> Any:
        torch = self.torch
        if isinstance(found, torch.fx.Node):
            return self._values[found]
        if isinstance(found, (list, tuple)):
            return tuple(self._argument(one) for one in found)
        if isinstance(found, (torch.dtype, torch.layout, torch.memory_format)):
            return str(found).removeprefix("torch.")
        if isinstance(found, torch.device):
            return str(found)
        if isinstance(found, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            raise UnsupportedError("a size that depends on the numbers in a tensor is not supported")
        return found


def _where(node: Any) -> tuple[str, str]:
    """Where in the user's code an operation comes from, and the path of the layer of torch.nn that it belongs to."""
    layer = ""
    for path, kind in (node.meta.get("nn_module_stack") or {}).values():
        if str(kind).startswith("torch.nn.") and ".container." not in str(kind):
            layer = str(path)
    text = ""
    for line in str(node.meta.get("stack_trace") or "").splitlines():
        pieces = line.strip().split('"')
        if len(pieces) == 3 and pieces[0] == "File " and not _is_library(pieces[1]):
            number = pieces[2].removeprefix(", line ").partition(",")[0]
            text = f"{pieces[1].replace(chr(92), '/').rpartition('/')[2]} line {number}"
    return text, layer.removeprefix("L['self'].")


# What cannot be exported as it is


@contextlib.contextmanager
def stand_ins(torch: Any, module: Any, noted: list[Any] | None = None) -> Iterator[None]:
    """Packed sequences as operations of their own while a module is exported, and ``Variable(x)`` as x.

    The lengths of packed sequences are added to `noted`.
    """
    rnn = torch.nn.utils.rnn
    pack_operation = _pack_operation(torch)

    def check_order(batch_first: object) -> None:
        layers = [part for part in module.modules() if isinstance(part, torch.nn.RNNBase)]
        if any(layer.batch_first != batch_first for layer in layers):
            raise UnsupportedError(
                f"{type(module).__name__}: a packed sequence with batch_first={batch_first}, and recurrent layers that "
                "have it otherwise, is not supported; give it the same everywhere"
            )

    def packed(sequence: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> Any:
        check_order(batch_first)
        if not isinstance(lengths, torch.Tensor):
            raise UnsupportedError(
                f"{type(module).__name__}: pack_padded_sequence with lengths that are no tensor is not supported; give "
                "them as an argument of the forward, and lengths= to predict"
            )
        if (
            lengths.ndim != 1
            or lengths.is_floating_point()
            or lengths.shape[0] != sequence.shape[0 if batch_first else 1]
        ):
            raise ValueError(f"expected a length for each row, found shape {tuple(lengths.shape)}")
        if noted is not None:
            noted.append(lengths)
        return pack_operation(sequence, lengths, 1 if batch_first else 0)

    def padded(
        sequence: Any, batch_first: bool = False, padding_value: float = 0.0, total_length: object = None
    ) -> tuple[Any, Any]:
        check_order(batch_first)
        if padding_value != 0:
            raise UnsupportedError(
                f"{type(module).__name__}: pad_packed_sequence with a padding_value is not supported"
            )
        place = 1 if batch_first else 0
        if total_length is not None and total_length != sequence.shape[place]:
            raise UnsupportedError(
                f"{type(module).__name__}: pad_packed_sequence with a total_length other than that of the input is not "
                "supported"
            )
        whole = total_length is not None
        return torch.ops.cylstm.unpack(sequence, whole), torch.ops.cylstm.lengths(sequence, place)

    changed: list[tuple[Any, Callable[..., Any]]] = [
        (rnn.pack_padded_sequence, packed),
        (rnn.pad_packed_sequence, padded),
        (torch.autograd.Variable, lambda tensor, *args, **kwargs: tensor),
    ]
    scopes: list[dict[str, Any]] = [vars(rnn), vars(torch.autograd)]
    users = []
    for part in module.modules():
        forward: Any = getattr(class_of(part), "forward", None)
        scope = getattr(forward, "__globals__", {})
        if not any(scope is one for one in scopes):
            scopes.append(scope)
            if not str(scope.get("__name__")).startswith("torch."):
                users.append(scope)
    users = [scope for scope in users if "type" not in scope]
    before = [
        (scope, name, found)
        for scope in scopes
        for name, found in list(scope.items())
        if any(found is old for old, _ in changed)
    ]
    thread = threading.get_ident()

    def on_this_thread(old: Any, new: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: (new if threading.get_ident() == thread else old)(*args, **kwargs)

    for scope, name, found in before:
        scope[name] = next(on_this_thread(old, new) for old, new in changed if old is found)
    for scope in users:
        scope["type"] = _Type
    try:
        yield
    finally:
        for scope, name, found in before:
            scope[name] = found
        for scope in users:
            scope.pop("type", None)


class _KindOfTensors(type):
    """Makes ``type(x)`` of what stands for a tensor that of the tensor."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        found: Any = type(*args, **kwargs)
        if found.__module__.startswith("torch._subclasses") and found.__name__ == "FakeTensor":
            return next(kind for kind in found.__mro__ if kind.__module__ == "torch")
        return found

    def __instancecheck__(cls, one: object) -> bool:
        return isinstance(one, type)

    def __subclasscheck__(cls, one: type) -> bool:
        return issubclass(one, type)


class _Type(metaclass=_KindOfTensors):
    """`type`, as the module's own code sees it while it is exported."""


_LIBRARY: list[Any] = []


def _pack_operation(torch: Any) -> Callable[..., Any]:
    """The operations that stand for packed sequences, made once."""
    if not _LIBRARY:
        library = torch.library.Library("cylstm", "DEF")
        library.define("pack(Tensor input, Tensor lengths, int time) -> Tensor")
        library.define("unpack(Tensor input, bool whole) -> Tensor")
        library.define("lengths(Tensor input, int time) -> Tensor")
        library.impl("pack", lambda input, lengths, time: input.clone(), "CompositeExplicitAutograd")
        library.impl("unpack", lambda input, whole: input.clone(), "CompositeExplicitAutograd")
        library.impl(
            "lengths",
            lambda input, time: input.new_full([input.shape[1 - time]], input.shape[time], dtype=torch.int64),
            "CompositeExplicitAutograd",
        )
        _LIBRARY.append(library)
    return torch.ops.cylstm.pack  # type: ignore[no-any-return]
