"""What a module's forward does, recorded by torch.fx; where it asks for a size, one that any batch has.

``for t in range(x.size(1))`` and ``if x.dim() == 3`` ask for a number while they are recorded. The operations recorded
so far are then run on arrays of zeros, of several batch sizes and of several times where the time may be any: a size
that is the same in all of them is the size.
"""

# Classes here are derived from those of torch.fx, which is imported late: mypy knows nothing of them.
# mypy: disable-error-code="misc, attr-defined, no-any-return, type-arg, var-annotated, index"

from __future__ import annotations

import contextlib
import inspect
import operator
import threading
import traceback
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any, NamedTuple

from cylstm.errors import CylstmError, UnsupportedError
from cylstm.formats.torch.operations.rows import OF_LAST_AXES
from cylstm.formats.torch.state import Change, Kept, describe, draw_once, equal, version, without

#: batch and time of the arrays of zeros
_EXAMPLES = ((1, 61), (2, 64), (3, 67))

#: operations that a forward may consist of
_MOST_OPERATIONS = 50_000
#: one module at a time: torch.fx replaces methods of torch.nn.Module and puts them back
_RECORDING = threading.RLock()

#: functions, methods and attributes that may give something else than one tensor
_NO_TENSOR = frozenset(
    (
        "split", "chunk", "unbind", "tensor_split", "split_with_sizes", "unsafe_chunk", "unsafe_split", "hsplit",
        "vsplit", "dsplit", "max", "min", "median", "nanmedian", "mode", "sort", "topk", "kthvalue", "cummax",
        "cummin", "std_mean", "var_mean", "lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell",
        "multi_head_attention_forward", "unique", "meshgrid", "broadcast_tensors", "nonzero", "where", "svd", "qr",
        "size", "stride", "dim", "ndimension", "numel", "nelement", "item", "tolist", "shape", "ndim", "dtype",
        "device", "layout", "is_floating_point", "is_complex", "is_contiguous", "is_cuda", "element_size", "type",
        "get_device", "storage_offset", "equal", "allclose", "is_same_size", "getattr", "getitem", "len", "isinstance",
    )
)  # fmt: skip
#: attributes of a tensor that are tensors
_TENSOR_ATTRIBUTES = frozenset(("data", "T", "mT", "H", "mH", "real"))

_ADVICE = {
    "item assignment": "collect the steps in a list and join them with torch.stack",
    "'len' is not supported": "say x.size(0) for len(x)",
    "_packed_sequence": "call it with batches of sequences, and give lengths= to predict",
}


class ShapesNeeded(Exception):
    """The forward asks for a size before those of the inputs are known. `traced` is what it did so far."""

    def __init__(self, traced: Any) -> None:
        super().__init__("the shapes of the inputs are needed")
        self.traced = traced


class _TooMany(BaseException):
    """The forward does more than is recorded. No code that catches exceptions may go on after it."""


class EndlessError(UnsupportedError):
    """The forward did not end, whatever the shapes of its inputs."""


class Argument(NamedTuple):
    """One of the forward's. `default` is `REQUIRED` if it has none."""

    name: str
    default: object


REQUIRED = object()


def arguments(module: Any) -> list[Argument]:
    """Of the forward, in its order; ``*args`` and ``**kwargs`` are left out, for nothing is given for them."""
    empty = inspect.Parameter.empty
    return [
        Argument(parameter.name, REQUIRED if parameter.default is empty else parameter.default)
        for parameter in inspect.signature(module.forward).parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


def trace(module: Any, shapes: Mapping[str, tuple[Any, ...] | None] | None, given: Container[str], kept: Kept) -> Any:
    """What `module` does, a torch.fx graph. `module` is then as it was before.

    Parameters
    ----------
    module : torch.nn.Module
    shapes : dict of str to (tuple or None), optional
        Of the inputs, with "N" for the batch and "T" for a time of any length.
    given : container of str
        The arguments that are inputs although they have a default; the others keep it.
    kept : Kept
        Of `module`.

    Returns
    -------
    torch.fx.Graph
        Its `constants` are the tensors that its "get_attr" nodes name.

    Raises
    ------
    ShapesNeeded
        Without `shapes`, if it asks for a size.
    UnsupportedError
        If it cannot be recorded, or depends on what it keeps from call to call.
    """
    kind = type(module).__name__
    graph, changes, drew = _record(module, shapes, given, kept)
    if drew:
        draw_once()  # of other numbers another graph would be made
        if not _are_same(graph, _record(module, shapes, given, kept)[0]):
            raise UnsupportedError(
                f"{kind}: its forward draws random numbers, so that no two calls give the same, which is not "
                "supported; draw them outside and give them as an argument"
            )
    if not changes:
        return graph
    names = describe(changes)
    advice = "give what it keeps from call to call as arguments and results of the forward"
    if any(change.attribute_of is None for change in changes):
        raise UnsupportedError(f"{kind}: its forward changes {names}, which is not supported; {advice}")
    # attributes that nothing reads before they are assigned may be anything
    without(changes)
    try:
        again, changed, _ = _record(module, shapes, given, kept)
    except CylstmError as error:
        raise UnsupportedError(
            f"{kind}: its forward reads {names} and then assigns it, so that each call depends on the one before, "
            f"which is not supported; {advice}"
        ) from error
    if not _are_same(graph, again) or {change.name for change in changed} - {change.name for change in changes}:
        raise UnsupportedError(
            f"{kind}: its forward assigns {names} and does other things where that is missing, which is not "
            f"supported; {advice}"
        )
    return graph


def _record(
    module: Any, shapes: Mapping[str, tuple[Any, ...] | None] | None, given: Container[str], kept: Kept
) -> tuple[Any, list[Change], bool]:
    """What `module` does, what that changed of what is kept, and whether generators moved; all is put back."""
    import torch

    kind = type(module).__name__
    with _RECORDING:  # torch.fx replaces methods of torch.nn.Module meanwhile
        tracer = _tracer(torch, shapes, given)
        try:
            with torch.no_grad(), _plain_sequences(torch, module) as unpacked:
                graph = tracer.trace(module)
            if tracer.asked is not None:  # and the forward went on all the same
                raise tracer.asked
            drew = kept.drew_random_numbers()
            changes = kept.changes()
        except (ShapesNeeded, UnsupportedError):
            raise
        except _TooMany:
            raise EndlessError(
                f"{kind}: more than {_MOST_OPERATIONS:,} operations: its forward has a loop that does not end, or one "
                "over too many steps; use a layer for whole sequences, such as LSTM for LSTMCell"
            ) from None
        except Exception as error:  # whatever the module's own code raises on symbols
            if isinstance(tracer.asked, ShapesNeeded):
                raise tracer.asked from error
            text = "".join(traceback.format_exception(error))
            advice = next((f" ({advice})" for sign, advice in _ADVICE.items() if sign in text), "")
            raise UnsupportedError(
                f"{kind} cannot be traced: {type(error).__name__}: {error}{advice}. Its forward has to be "
                "free of branches and loops that depend on its inputs; a chain of layers can be given as "
                "from_state_dict(module.state_dict(), layers=[...])"
            ) from error
        finally:
            kept.restore()
    graph.constants = tracer.constants
    for node in graph.nodes:
        if node.op == "call_module":
            is_of_steps = not isinstance(module.get_submodule(node.target), torch.nn.RNNBase)
        else:
            is_of_steps = getattr(node.target, "__name__", node.target) in OF_LAST_AXES
        if is_of_steps and any(one in unpacked for one in node.all_input_nodes):  # dropout, Linear, relu
            unpacked.append(node)
        if node.target is operator.getitem and node.args[0] in unpacked and _takes_a_step(node.args[1]):
            raise UnsupportedError(
                f"{kind}: single steps of what pad_packed_sequence gives are 0 in rows that are "
                "shorter, which is not supported; take the last step that counts from the layer's state, h[-1]"
            )
    return graph, changes, drew


def _are_same(one: Any, other: Any) -> bool:
    """Whether two graphs do the same with the same constants."""
    if len(one.nodes) != len(other.nodes):
        return False
    places: dict[Any, int] = {}
    for i, (a, b) in enumerate(zip(one.nodes, other.nodes)):
        places[a] = places[b] = i
        if a.op != b.op or str(a.target) != str(b.target) or _written(a, places) != _written(b, places):
            return False
        if a.op == "get_attr" and not equal(one.constants[a.target], other.constants[b.target]):
            return False
    return True


def _written(node: Any, places: Mapping[Any, int]) -> str:
    from torch.fx.node import map_arg

    return repr(map_arg((node.args, node.kwargs), lambda one: f"node {places[one]}"))


def _takes_a_step(index: object) -> bool:
    """Whether an index takes single steps or rows of (batch, time, ...) or (time, batch, ...)."""
    return any(not isinstance(one, slice) for one in (index if isinstance(index, tuple) else (index,))[:2])


def _tracer(torch: Any, shapes: Mapping[str, tuple[Any, ...] | None] | None, given: Container[str]) -> Any:
    """Records buffers too, ``x += y`` as such, and the constants whose shape has the size of an input in it."""

    module = torch.nn.Module
    plain = vars(module)["__call__"], vars(module)["__getattr__"]
    thread = threading.get_ident()
    tensor_names = set(dir(torch.Tensor))
    known_names = {name for kind in (torch.Tensor, torch.Size, torch.dtype, torch.device, int) for name in dir(kind)}
    known_names |= {"values", "indices"}

    class Numbers:
        """What a symbol can be asked for while it is recorded."""

        is_symbol = True

        @property
        def __class__(self) -> type:  # isinstance(x, torch.Tensor)
            return self.tracer.kind(self.node)

        def __index__(self) -> int:
            return self.tracer.number(self, int, (bool, int))

        def __int__(self) -> int:
            return self.tracer.number(self, int, (bool, int, float))

        def __float__(self) -> float:
            return self.tracer.number(self, float, (bool, int, float))

        def __len__(self) -> int:
            return self.tracer.length(self)

        def __hash__(self) -> int:
            return id(self) if self.tracer.kind(self.node) is torch.Tensor else self.tracer.hash(self)

        def __array__(self, *args: Any, **kwargs: Any) -> Any:
            raise self.tracer.failed("a tensor that is computed becomes an array of NumPy")

    class Attribute(Numbers, torch.fx.proxy.Attribute):
        """``x.shape`` and the like, recorded once something reads it."""

    class Proxy(Numbers, torch.fx.Proxy):
        """A symbol; torch.fx's own takes ``x += y`` for ``x + y``, and has every attribute."""

        def __getattr__(self, name: str) -> Attribute:
            is_tensor = self.tracer.kind_if_known(self.node) is torch.Tensor
            if name.startswith("__") or name not in (tensor_names if is_tensor else known_names):
                raise AttributeError(f"'Tensor' object has no attribute {name!r}")
            return Attribute(self, name)

    def recorded(function: Any) -> Callable[..., Any]:
        return lambda self, other: self.tracer.create_proxy("call_function", function, (self, other), {})

    for name in ("iadd", "isub", "imul", "itruediv"):
        setattr(Proxy, f"__{name}__", recorded(getattr(operator, name)))

    class Tracer(torch.fx.Tracer):
        """`asked` is what was raised where the forward asked for too much; `constants` are the tensors by name."""

        proxy_buffer_attributes = True

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.examples: list[dict[Any, object]] = [{} for _ in _EXAMPLES]
            self.asked: Exception | None = None
            self.constants: dict[str, Any] = {}
            self._constant_names: dict[tuple[int, int], str] = {}
            self._alive: list[Any] = []
            self._kinds: dict[Any, type | None] = {}
            self._nodes: dict[Any, int] = {}
            self._in_order: list[Any] = []
            self._run = [0 for _ in _EXAMPLES]

        def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list]:
            """The forward, and a symbol for each of its arguments that is an input; the others keep their default."""
            forward, positional, named = self.root.forward, [], {}
            for parameter in inspect.signature(forward).parameters.values():
                if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                    continue
                value = parameter.default
                if value is parameter.empty or parameter.name in given:
                    is_first = not positional and not named
                    default = () if value is parameter.empty or is_first else (value,)
                    value = self.create_proxy("placeholder", parameter.name, default, {})
                if parameter.kind == parameter.KEYWORD_ONLY:
                    named[parameter.name] = value
                else:
                    positional.append(value)
            return lambda *args: forward(*args, **named), positional

        def create_node(self, *args: Any, **kwargs: Any) -> Any:
            if len(self._in_order) == _MOST_OPERATIONS:
                raise _TooMany
            node = super().create_node(*args, **kwargs)
            self._nodes[node] = len(self._in_order)
            self._in_order.append(node)
            if node.op == "get_attr" and node.target not in self.constants:
                self.constants[node.target] = _stored(self.root, node.target)
            self._kinds[node] = self.kind_by_rule(node)
            return node

        def create_arg(self, found: Any) -> Any:
            if isinstance(found, torch.fx.Proxy):
                return found.node
            if isinstance(found, torch.Tensor) and not isinstance(found, torch.nn.Parameter):
                for name, buffer in self.root.named_buffers():
                    if found is buffer:
                        return self.create_node("get_attr", name, (), {})
                return self.create_node("get_attr", self.constant(found), (), {})
            return super().create_arg(found)

        def constant(self, tensor: Any) -> str:
            """The name of a tensor as it is now: one that is changed in place later is another."""
            key = id(tensor), version(tensor)
            if key not in self._constant_names:
                name = self._constant_names[key] = f"_constant{len(self._constant_names)}"
                self.constants[name] = tensor.detach().clone()
                self._alive.append(tensor)
            return self._constant_names[key]

        def call_module(self, called: Any, forward: Any, args: tuple, kwargs: dict) -> Any:
            if threading.get_ident() != thread:  # of another thread, whose modules run meanwhile
                return forward(*args, **kwargs)
            return super().call_module(called, forward, args, kwargs)

        def getattr(self, name: str, found: Any, cache: dict[str, Any]) -> Any:
            if threading.get_ident() != thread or isinstance(found, torch.fx.Proxy):
                return found
            return super().getattr(name, found, cache)

        def proxy(self, node: Any) -> Any:
            return Proxy(node, self)

        def to_bool(self, symbol: Any) -> bool:
            return self.number(symbol, bool, (bool, int))

        def iter(self, symbol: Any) -> Iterator[Any]:
            return (symbol[k] for k in range(self.length(symbol)))

        def failed(self, why: str) -> Exception:
            self.asked = torch.fx.proxy.TraceError(why)
            return self.asked

        def number(self, symbol: Any, kind: type, kinds: tuple[type, ...]) -> Any:
            """A number or a truth that follows from sizes that are the same in all examples."""
            found = self.values(symbol.node)
            if not self.is_fixed(symbol.node) or type(found[0]) not in kinds:
                raise self.failed(
                    "symbolically traced variables cannot be used as inputs to control flow: it depends on the numbers "
                    "in a tensor, or on a size that is not fixed"
                )
            return kind(found[0])

        def hash(self, symbol: Any) -> int:
            found = self.values(symbol.node)
            if len({str(one) for one in found}) > 1 or isinstance(found[0], torch.Tensor):
                raise self.failed("a size that is not fixed is looked up in a dict or a set")
            return hash(found[0])

        def length(self, symbol: Any) -> int:
            sizes = {len(found) for found in self.values(symbol.node)}
            if len(sizes) > 1:
                raise self.failed(
                    "a loop over the batch or over a time that is not known in advance; say the number of steps, for "
                    "example inputs=[('N', 20, 6)]"
                )
            return sizes.pop()

        def kind(self, node: Any) -> type:
            """What it is, a tensor or something else."""
            found = self.kind_if_known(node)
            if found is None:
                kinds = {type(one) for one in self.values(node)}
                if len(kinds) > 1:
                    raise self.failed("what kind of thing it is depends on a size that is not fixed")
                found = kinds.pop()
            return found

        def kind_if_known(self, node: Any) -> type | None:
            return self._kinds.get(node)

        def kind_by_rule(self, node: Any) -> type | None:
            """As `kind` where no example is needed to tell."""
            tensor = torch.Tensor
            if node.op == "placeholder":
                return tensor
            if node.op == "get_attr":
                return type(self.constants[node.target])
            if node.op == "call_module":
                layer = self.root.get_submodule(node.target)
                if isinstance(layer, (torch.nn.RNNBase, torch.nn.LSTMCell, torch.nn.MultiheadAttention)):
                    return tuple
                return None if getattr(layer, "return_indices", False) else tensor
            name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
            sources = [one for one in node.args if isinstance(one, torch.fx.Node)]
            if name == "getitem" and sources:
                source = sources[0]
                layer = self.root.get_submodule(source.target) if source.op == "call_module" else None
                of_layer = isinstance(layer, (torch.nn.RNNBase, torch.nn.LSTMCell))
                if self.kind_if_known(source) is tensor:
                    return tensor
                if of_layer:
                    return tuple if isinstance(layer, torch.nn.LSTM) and node.args[1] in (1, -1) else tensor
                return None
            if name == "getattr" and sources and self.kind_if_known(sources[0]) is tensor:
                return tensor if node.args[1] in _TENSOR_ATTRIBUTES else None
            if name in _NO_TENSOR:
                return None
            return tensor if any(self.kind_if_known(one) is tensor for one in sources) else None

        def is_fixed(self, node: Any) -> bool:
            """Whether it is made of numbers alone that are the same in all examples."""
            found = self.values(node)
            if not all(type(one) in (bool, int, float) for one in found):
                return False
            if all(self.is_number(one) for one in node.all_input_nodes):
                return all(self.is_fixed(one) for one in node.all_input_nodes)
            return len(set(found)) == 1

        def is_number(self, node: Any) -> bool:
            return type(self.values(node)[0]) in (bool, int, float)

        def values(self, node: Any) -> list[Any]:
            """What it is in each example: everything recorded up to it is run."""
            if shapes is None:
                self.asked = ShapesNeeded(self.graph)
                self.asked.traced.constants = self.constants
                raise self.asked
            patched = vars(module)["__call__"], vars(module)["__getattr__"]
            module.__call__, module.__getattr__ = plain  # for what is run here is not recorded
            try:
                for i, (sizes, known) in enumerate(zip(_EXAMPLES, self.examples)):
                    while self._run[i] <= self._nodes[node]:
                        one = self._in_order[self._run[i]]
                        if not one._erased:
                            known[one] = self.run(one, known, *sizes)
                        self._run[i] += 1
            finally:
                module.__call__, module.__getattr__ = patched
            return [known[node] for known in self.examples]

        def run(self, node: Any, known: Mapping[Any, object], batch: int, time: int) -> object:
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda one: known[one])
            if node.op == "placeholder":
                shape = shapes[node.target]
                if shape is None and not node.args:
                    raise self.failed("say the shapes of the inputs, for example inputs=[('N', 'T', 6)]")
                if shape is None:
                    return node.args[0] if node.args else None
                return torch.zeros([{"N": batch, "T": time}.get(size, size) for size in shape])
            if node.op == "get_attr":
                return self.constants[node.target].detach().clone()  # what is done in place stays out of the module
            if node.op == "call_module":
                layer = self.root.get_submodule(node.target)
                return (
                    layer(args[0].long(), *args[1:]) if "Embedding" in type(layer).__name__ else layer(*args, **kwargs)
                )
            function = getattr(args[0], node.target) if node.op == "call_method" else node.target
            return function(*args[1:] if node.op == "call_method" else args, **kwargs)

    tracer = Tracer(autowrap_functions=(torch.zeros, torch.ones, torch.full, torch.arange))
    tracer._autowrap_search.append(torch)
    return tracer


def _stored(root: Any, path: str) -> Any:
    """A parameter or buffer by its path, as it is stored."""
    *parts, name = path.split(".")
    for part in parts:
        root = vars(root)["_modules"][part]
    own = vars(root)
    return own["_parameters"][name] if name in own["_parameters"] else own["_buffers"][name]


@contextlib.contextmanager
def _plain_sequences(torch: Any, module: Any) -> Iterator[list[Any]]:
    """Lets packed sequences be plain ones, whose lengths `predict` takes, and ``Variable(x)`` be x, as it is.

    Gives the nodes that were unpacked, in a list that is filled while the module is recorded.
    """
    rnn = torch.nn.utils.rnn

    def check_order(batch_first: object) -> None:
        layers = [part for part in module.modules() if isinstance(part, torch.nn.RNNBase)]
        if any(layer.batch_first != batch_first for layer in layers):
            raise UnsupportedError(
                f"{type(module).__name__}: a packed sequence with batch_first={batch_first}, and recurrent layers that "
                "have it otherwise, is not supported; give it the same everywhere"
            )

    def packed(sequence: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> Any:
        check_order(batch_first)
        node = getattr(lengths, "node", None)
        while node is not None and node.op == "call_method":  # such as lengths.cpu()
            source = node.args[0]
            if not node.users:
                node.graph.erase_node(node)
            node = source
        if node is None or node.op != "placeholder":
            raise UnsupportedError(
                f"{type(module).__name__}: pack_padded_sequence with lengths that are no argument of the forward is "
                "not supported; give them as one, and lengths= to predict"
            )
        return sequence

    def padded(
        sequence: Any, batch_first: bool = False, padding_value: float = 0.0, total_length: object = None
    ) -> tuple[Any, None]:
        check_order(batch_first)
        if padding_value != 0 or total_length is not None:
            raise UnsupportedError(
                f"{type(module).__name__}: pad_packed_sequence with a padding_value or a total_length is not supported"
            )
        unpacked.append(getattr(sequence, "node", None))
        return sequence, None

    unpacked: list[Any] = []
    thread = threading.get_ident()

    def replaced(old: Any, new: Callable[..., Any]) -> tuple[Any, Callable[..., Any]]:
        return old, lambda *args, **kwargs: (new if threading.get_ident() == thread else old)(*args, **kwargs)

    changed = [
        replaced(rnn.pack_padded_sequence, packed),
        replaced(rnn.pad_packed_sequence, padded),
        replaced(torch.autograd.Variable, lambda tensor, *args, **kwargs: tensor),
    ]
    scopes, users = [vars(rnn), vars(torch.autograd)], []
    for part in module.modules():
        scope = getattr(type(part).forward, "__globals__", {})
        if not any(scope is one for one in scopes):
            scopes.append(scope)
            if not str(scope.get("__name__")).startswith("torch."):
                users.append(scope)
    before = [(scope, name, found) for scope in scopes for name, found in scope.items() if _known(changed, found)]
    kinds = [scope for scope in users if "type" not in scope]
    for scope, name, found in before:
        scope[name] = next(new for old, new in changed if old is found)
    for scope in kinds:
        scope["type"] = _Type
    try:
        yield unpacked
    finally:
        for scope, name, found in before:
            scope[name] = found
        for scope in kinds:
            del scope["type"]


class _KindOfSymbols(type):
    """Makes ``type(x)`` of a symbol what it is of the tensor that it stands for."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        found = type(*args, **kwargs)
        return args[0].__class__ if getattr(found, "is_symbol", False) else found

    def __instancecheck__(cls, one: object) -> bool:
        return isinstance(one, type)

    def __subclasscheck__(cls, one: type) -> bool:
        return issubclass(one, type)


class _Type(metaclass=_KindOfSymbols):
    """`type`, as the module's own code sees it while it is recorded."""


def _known(changed: list[tuple[Any, Any]], found: object) -> bool:
    return any(found is old for old, _ in changed)
