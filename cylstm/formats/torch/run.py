"""One attempt to build a graph: the recorded operations, gone through once with certain shapes of the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats.arrays import warn_not_finite
from cylstm.formats.torch.functions import call_function
from cylstm.formats.torch.module import Shape, leaves
from cylstm.formats.torch.modules import call_module
from cylstm.formats.torch.network import Network
from cylstm.formats.torch.tensor import BATCH, Dim, Tensor, Unavailable
from cylstm.graph.graph import Graph
from cylstm.graph.values import Value

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


#: methods with an underscore that change no number
_SAME = frozenset(("squeeze_", "unsqueeze_", "transpose_", "requires_grad_"))


class Run:
    """Goes through the recorded operations once, with certain shapes of the inputs."""

    def __init__(self, module: Any, net: Network, constants: Mapping[str, Any]) -> None:
        self.module = module
        self.net = net
        self.constants = constants
        self.names: dict[str, str] = {}
        self.batch: list[int] = []
        self.found: dict[Any, object] = {}
        self.axis_orders: dict[str, str] = {}
        self.inputs: list[str] = []
        self.outputs: list[Value] = []
        self.done = 0

    def build(self, traced: Any, shapes: Mapping[str, Shape | None]) -> Graph:
        taken = {str(node.target) for node in traced.nodes if node.op == "call_module"}
        taken |= {node.name for node in traced.nodes if node.op.startswith("call")}
        for node in traced.nodes:
            if node.op == "placeholder":
                name = node.target.lstrip("*")
                while name in taken:
                    name += "_"
                self.found[node] = self.add_input(node, name, shapes[node.target])
            elif node.op == "output":
                self.net.name = "output"
                for found in leaves(self.argument(node.args[0])):
                    self.add_output(found)
            else:
                self.found[node] = self.call(node)
                if self.is_in_place(node):
                    self.follow_in_place(node)
            self.done += 1
        if not self.outputs:
            raise FormatError(f"{type(self.module).__name__}: it gives no tensor")
        builder = self.net.builder
        for value in self.outputs:
            builder.output(value)
        graph = _without_unused(builder.build())
        warn_not_finite(type(self.module).__name__, graph.tensors)
        return graph._replace(layouts=self.axis_orders)

    def add_input(self, node: Any, name: str, shape: Shape | None) -> object:
        self.inputs.append(name)
        if shape is not None:
            self.names[node.target] = name
        if shape is None:
            # an optional argument left out, one that nothing reads, or the mask of another input
            return node.args[0] if node.args else Unavailable(f"the argument {node.target!r} is not an input")
        rest: list[Any] = [size for size in shape if size != "N"]
        if self.reads_indices(node):
            value = self.net.builder.input(name, tuple(None if size == "T" else size for size in rest), indices=True)
            return Tensor(value, tuple(BATCH if size == "N" else rest.index(size) for size in shape))
        order = sorted(range(len(rest)), key=lambda i: rest[i] != "T")
        stored = [None if rest[i] == "T" else rest[i] for i in order]
        if stored == [None]:
            stored.append(1)
        value = self.net.builder.input(name, tuple(stored))
        places = [order.index(i) for i in range(len(rest))]
        if places != list(range(len(stored))):
            self.axis_orders[name] = "".join(map(str, places))
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

    def argument(self, found: Any) -> Any:
        import torch

        return torch.fx.node.map_arg(found, lambda node: self.found[node])

    def call(self, node: Any) -> object:
        args, kwargs = self.argument(node.args), self.argument(node.kwargs)
        net = self.net
        net.fx_node = node
        net.name = str(node.target) if node.op == "call_module" else node.name
        if node.op == "get_attr":
            # a copy, so that in-place operations do not change the module
            return self.constants[node.target].detach().clone()
        try:
            if node.op == "call_module":
                return call_module(net, self.module.get_submodule(node.target), args, kwargs)
            return call_function(net, node, args, kwargs)
        except CylstmError as error:
            if net.name in str(error):
                raise
            raise type(error)(f"layer {net.name!r}: {error}") from error
        except (TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            raise UnsupportedError(
                f"layer {net.name!r}: called in a way that is not supported: {node.format_node()} ({error})"
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
            raise self.net.refuse(
                "changes a parameter or a buffer of the module, so that each call depends on the ones before, which is "
                "not supported; give it as an argument and a result of the forward"
            )
        order = {one: i for i, one in enumerate(node.graph.nodes)}
        family = self.sharing(source) - self.sharing_below(node)
        later = {user for one in family for user in one.users if order[user] > order[node]}
        if not later:
            return
        if any(self.is_part(one) for one in family):
            raise self.net.refuse(
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

    def add_output(self, found: Any) -> None:
        """One output, and how its axes lie in what the module returns."""
        net = self.net
        tensor = net.tensor(found)
        self.batch.append(tensor.batch)
        inner = tensor.inner
        order = net.order([tensor], inner)
        if not any(isinstance(tensor.size(i), Dim) for i in inner):
            order = inner
        value = net.arrange(tensor, order)
        if value.name in self.inputs or value in self.outputs:
            value = net.add_layer("activation", value)
        places = [order.index(i) for i in inner]
        if places != list(range(len(value.shape))):
            self.axis_orders[value.name] = "".join(map(str, places))
        self.outputs.append(value)


def _without_unused(graph: Graph) -> Graph:
    """The graph without layers that no output needs, and without their weights."""
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
