"""What a module's forward does, recorded by torch.fx; where it asks for a size, one that any batch has.

``for t in range(x.size(1))`` and ``if x.dim() == 3`` ask for a number while they are recorded. The operations recorded
so far are then run on arrays of zeros, of several batch sizes and of several times where the time may be any: a size
that is the same in all of them is the size.
"""

from __future__ import annotations

import contextlib
import operator
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..errors import UnsupportedError

#: batch and time of the arrays of zeros
_EXAMPLES = ((1, 61), (2, 64), (3, 67))

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


def trace(module: Any, shapes: Mapping[str, tuple | None] | None) -> Any:
    """What `module` does, a torch.fx graph.

    Parameters
    ----------
    module : torch.nn.Module
    shapes : dict of str to (tuple or None), optional
        Of the inputs, with "N" for the batch and "T" for a time of any length.

    Raises
    ------
    ShapesNeeded
        Without `shapes`, if it asks for a size.
    UnsupportedError
        If it cannot be recorded.
    """
    import torch

    from ._torch_rows import OF_LAST_AXES

    tracer = _tracer(torch, shapes)
    try:
        with _plain_sequences(torch, module) as unpacked:
            graph = tracer.trace(module)
    except (ShapesNeeded, UnsupportedError):
        raise
    except Exception as error:  # whatever the module's own code raises on symbols
        text = "".join(traceback.format_exception(error))
        advice = next((f" ({advice})" for sign, advice in _ADVICE.items() if sign in text), "")
        raise UnsupportedError(
            f"{type(module).__name__} cannot be traced: {type(error).__name__}: {error}{advice}. Its forward has to be "
            "free of branches and loops that depend on its inputs; a chain of layers can be given as "
            "from_state_dict(module.state_dict(), layers=[...])"
        ) from error
    for node in graph.nodes:
        if node.op == "call_module":
            is_of_steps = not isinstance(module.get_submodule(node.target), torch.nn.RNNBase)
        else:
            is_of_steps = getattr(node.target, "__name__", node.target) in OF_LAST_AXES
        if is_of_steps and any(one in unpacked for one in node.all_input_nodes):  # dropout, Linear, relu
            unpacked.append(node)
        if node.target is operator.getitem and node.args[0] in unpacked and _takes_a_step(node.args[1]):
            raise UnsupportedError(
                f"{type(module).__name__}: single steps of what pad_packed_sequence gives are 0 in rows that are "
                "shorter, which is not supported; take the last step that counts from the layer's state, h[-1]"
            )
    return graph


def _takes_a_step(index: object) -> bool:
    """Whether an index takes single steps or rows of (batch, time, ...) or (time, batch, ...)."""
    return any(not isinstance(one, slice) for one in (index if isinstance(index, tuple) else (index,))[:2])


def _tracer(torch: Any, shapes: Mapping[str, tuple | None] | None) -> Any:
    """Records buffers too, ``x += y`` as such, and the constants whose shape has the size of an input in it."""

    module = torch.nn.Module
    plain = vars(module)["__call__"], vars(module)["__getattr__"]

    class Numbers:
        """What a symbol can be asked for while it is recorded."""

        def __index__(self) -> int:
            return self.tracer.number(self, int, (bool, int))

        def __int__(self) -> int:
            return self.tracer.number(self, int, (bool, int, float))

        def __len__(self) -> int:
            return self.tracer.length(self)

    class Attribute(Numbers, torch.fx.proxy.Attribute):
        """``x.shape`` and the like, recorded once something reads it."""

    class Proxy(Numbers, torch.fx.Proxy):
        """A symbol; torch.fx's own takes ``x += y`` for ``x + y``."""

        def __getattr__(self, name: str) -> Attribute:
            return Attribute(self, name)

    def recorded(function: Any) -> Callable[..., Any]:
        return lambda self, other: self.tracer.create_proxy("call_function", function, (self, other), {})

    for name in ("iadd", "isub", "imul", "itruediv"):
        setattr(Proxy, f"__{name}__", recorded(getattr(operator, name)))

    class Tracer(torch.fx.Tracer):
        proxy_buffer_attributes = True

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.examples: list[dict[Any, object]] = [{} for _ in _EXAMPLES]

        def proxy(self, node: Any) -> Any:
            return Proxy(node, self)

        def to_bool(self, symbol: Any) -> bool:
            return self.number(symbol, bool, (bool, int))

        def iter(self, symbol: Any) -> Iterator[Any]:
            return (symbol[k] for k in range(self.length(symbol)))

        def number(self, symbol: Any, kind: type, kinds: tuple[type, ...]) -> Any:
            """A number or a truth that follows from sizes that are the same in all examples."""
            found = self.values(symbol.node)
            if not self.is_fixed(symbol.node) or type(found[0]) not in kinds:
                raise torch.fx.proxy.TraceError(
                    "symbolically traced variables cannot be used as inputs to control flow: it depends on the numbers "
                    "in a tensor, or on a size that is not fixed"
                )
            return kind(found[0])

        def length(self, symbol: Any) -> int:
            sizes = {len(found) for found in self.values(symbol.node)}
            if len(sizes) > 1:
                raise torch.fx.proxy.TraceError(
                    "a loop over the batch or over a time that is not known in advance; say the number of steps, for "
                    "example inputs=[('N', 20, 6)]"
                )
            return sizes.pop()

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
                raise ShapesNeeded(self.graph)
            patched = vars(module)["__call__"], vars(module)["__getattr__"]
            module.__call__, module.__getattr__ = plain  # for what is run here is not recorded
            try:
                for sizes, known in zip(_EXAMPLES, self.examples):
                    for one in self.graph.nodes:
                        if one not in known:
                            known[one] = self.run(one, known, *sizes)
                        if one is node:
                            break
            finally:
                module.__call__, module.__getattr__ = patched
            return [known[node] for known in self.examples]

        def run(self, node: Any, known: Mapping[Any, object], batch: int, time: int) -> object:
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda one: known[one])
            if node.op == "placeholder":
                shape = shapes[node.target]
                if shape is None and not node.args:
                    raise torch.fx.proxy.TraceError("say the shapes of the inputs, for example inputs=[('N', 'T', 6)]")
                if shape is None:
                    return node.args[0] if node.args else None
                return torch.zeros([{"N": batch, "T": time}.get(size, size) for size in shape])
            if node.op == "get_attr":
                return operator.attrgetter(node.target)(self.root)
            with torch.no_grad():
                if node.op == "call_module":
                    layer = self.root.get_submodule(node.target)
                    return (
                        layer(args[0].long(), *args[1:])
                        if "Embedding" in type(layer).__name__
                        else layer(*args, **kwargs)
                    )
                function = getattr(args[0], node.target) if node.op == "call_method" else node.target
                return function(*args[1:] if node.op == "call_method" else args, **kwargs)

    tracer = Tracer(autowrap_functions=(torch.zeros, torch.ones, torch.full, torch.arange))
    tracer._autowrap_search.append(torch)
    return tracer


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

    changed = [
        (rnn.pack_padded_sequence, packed),
        (rnn.pad_packed_sequence, padded),
        (torch.autograd.Variable, lambda tensor, *args, **kwargs: tensor),
    ]
    scopes = [vars(rnn), vars(torch.autograd)]
    for part in module.modules():
        scope = getattr(type(part).forward, "__globals__", {})
        if not any(scope is one for one in scopes):
            scopes.append(scope)
    before = [(scope, name, found) for scope in scopes for name, found in scope.items() if _known(changed, found)]
    for scope, name, found in before:
        scope[name] = next(new for old, new in changed if old is found)
    try:
        yield unpacked
    finally:
        for scope, name, found in before:
            scope[name] = found


def _known(changed: list[tuple[Any, Any]], found: object) -> bool:
    return any(found is old for old, _ in changed)
