"""A live module: its class and hooks, and how it is called to be compared with its graph."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from cylstm.errors import UnsupportedError
from cylstm.graph.graph import Graph

#: sizes, with "N" for the batch and "T" for a time of any length
Shape: TypeAlias = tuple[str | int, ...]


def class_of(module: Any) -> type:
    """The class of a layer; of a parametrized one, the original class."""
    kind = type(module)
    return kind.__mro__[1] if kind.__module__ == "torch.nn.utils.parametrize" else kind


def unwrapped(module: Any) -> Any:
    """The module in a compiled or a parallel one. Raises `UnsupportedError` for scripts, which hold no Python."""
    while True:
        kind = type(module)
        name = f"{kind.__module__}.{kind.__name__}"
        if kind.__name__ == "OptimizedModule" and hasattr(module, "_orig_mod"):
            module = module._orig_mod
        elif name.startswith("torch.nn.parallel.") and hasattr(module, "module"):
            module = module.module
        elif name.startswith("torch.jit."):
            raise UnsupportedError(
                f"from_torch takes a module, found a {kind.__name__} of TorchScript; give the module that was scripted "
                "or traced, or load module.state_dict() with layers="
            )
        elif kind.__name__ in ("GraphModule", "ExportedProgram") and "export" in name:
            raise UnsupportedError(
                "from_torch takes a module, found an exported program; save it with torch.export.save(program, "
                '"net.pt2") and load that, cylstm.load("net.pt2")'
            )
        else:
            return module


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


def differs_in_training(module: Any) -> bool:
    name = type(module).__name__
    rate = getattr(module, "dropout", 0.0)
    return (
        ("Dropout" in name and getattr(module, "p", 1.0) > 0)
        or "BatchNorm" in name
        or (isinstance(rate, float) and rate > 0)
    )


class Call(NamedTuple):
    """How a module and its graph are called with the same inputs.

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
    values : dict
        What the user gave as an example, by argument.
    is_layer : bool
        A recurrent layer by itself, of which the output alone counts.
    truths : set of str
        The arguments that are truths.
    """

    module: Any
    inputs: tuple[tuple[str, str | None, Shape | None], ...]
    batch: tuple[int, ...]
    is_guess: bool = False
    values: Mapping[str, Any] = {}
    is_layer: bool = False
    truths: frozenset[str] = frozenset()

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


def leaves(found: Any) -> Iterator[object]:
    """The tensors of what a module returns, in order; None is left out."""
    if isinstance(found, Mapping):
        found = list(found.values())
    if isinstance(found, (list, tuple)):
        for part in found:
            yield from leaves(part)
    elif found is not None:
        yield found
