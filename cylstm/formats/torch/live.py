"""Live modules and layers as graphs: torch.export records what a module does, and each operation becomes layers."""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cylstm.errors import CylstmError, UnsupportedError
from cylstm.formats.arrays import warn_not_finite
from cylstm.formats.state_dict.assemble import from_state_dict
from cylstm.formats.state_dict.wiring import GRU, LSTM, RNN, Linear
from cylstm.formats.torch.aten.build import build_graph
from cylstm.formats.torch.export import check_version, export
from cylstm.formats.torch.inputs import Input, arguments, example_inputs, given_shapes, guesses, likely_shape, runs
from cylstm.formats.torch.module import Call, Shape, call_of_layer, differs_in_training, evaluating, unwrapped
from cylstm.formats.torch.state import Kept
from cylstm.graph.graph import Graph
from cylstm.graph.values import StaticTimeNeeded
from cylstm.program.interface import Given
from cylstm.program.network import TimesAlike
from cylstm.program.program import Program

#: batch and time of the examples that a module is exported with: one time is even and the other odd, so that strides
#: and pooling show
EXAMPLES = ((3, 61), (5, 64))
#: more of them, where times that follow from the input's by different strides are as long as each other in these
_MORE = ((7, 71), (9, 78))
#: for layers that reach farther
_LONG = ((3, 1021), (5, 1024))


def from_torch(module: Any, inputs: Any = None, example: Any = None) -> Graph:
    """The graph of a live layer or network; weights are copied.

    A ``torch.nn.LSTM``, ``GRU``, ``RNN`` or one of their cells by itself gives its output at every step, and takes the
    batch first and the time second. Any other module is exported by ``torch.export``, which records what it does.

    Parameters
    ----------
    module : torch.nn.Module
    inputs : tuple, list of tuple, dict or None
    example : tensor, array, tuple, list, dict or None
        As in `cylstm.from_torch`.

    Raises
    ------
    UnsupportedError
        For what is no module or cannot be exported, and for operations that are not computed.
    ShapeError
        If the shapes of the inputs do not fit the layers, or have to be given.
    """
    return convert_module(module, inputs, example)[0]


def convert_module(module: Any, inputs: Any = None, example: Any = None) -> tuple[Graph, Call]:
    """As `from_torch`, with a `Call` to compare the module with its graph."""
    if isinstance(module, type):
        raise UnsupportedError(f"from_torch takes a torch.nn.Module, found the class {module.__name__}; make one of it")
    if not hasattr(module, "named_modules") or "torch" not in sys.modules:
        raise UnsupportedError(
            f"from_torch takes a torch.nn.Module, found {type(module).__module__}.{type(module).__name__}; for tensors "
            "use from_state_dict(tensors, layers=[...]), for a file load(path)"
        )
    module = unwrapped(module)
    kind = type(module).__name__
    layers = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN, "Linear": Linear}
    layer = layers.get(kind.removesuffix("Cell"))
    is_plain = type(module).__module__.startswith("torch.nn.modules.") and not _has_hooks(module)
    if layer is None or not is_plain or inputs is not None or example is not None:
        graph, call = graph_from_module(module, inputs, example)
        return _of_live(graph, kind, version=None), call
    options: dict[str, Any] = {"activation": module.nonlinearity} if layer is RNN else {}
    if getattr(module, "dropout", 0.0):
        options["dropout"] = float(module.dropout)
    graph = _of_live(from_state_dict(module.state_dict(), [layer("", **options)]), kind)
    return graph, call_of_layer(module, graph)


def _has_hooks(module: Any) -> bool:
    return any(part._forward_hooks or part._forward_pre_hooks for part in module.modules()) or "forward" in vars(module)


def _of_live(graph: Graph, kind: str, **beside: Any) -> Graph:
    """The graph with where it came from: a module of this class."""
    found = {"format": "torch", "framework_version": sys.modules["torch"].__version__, "source": f"live {kind}"}
    return graph._replace(provenance={**graph.provenance, **found, **beside})


def graph_from_module(module: Any, inputs: Any, example: Any = None) -> tuple[Graph, Call]:
    """The graph of a module that torch.export records, and how the two are called; see `cylstm.from_torch`.

    Raises
    ------
    UnsupportedError
        If it cannot be exported or computed.
    ShapeError
        If the shapes of the inputs do not fit, or have to be given.
    """
    import torch

    check_version(torch)
    kind = type(module).__name__
    if any(part.training and differs_in_training(part) for part in module.modules()):
        warnings.warn(
            f"{kind} is in training mode; it is taken as after module.eval(): no dropout, fixed statistics",
            UserWarning,
            stacklevel=5,
        )
    with evaluating(module):
        kept = Kept(module)
        try:
            return _first_that_fits(module, kept, inputs, example)
        finally:
            kept.restore(contents=True)


_SIZES = "the shapes of the inputs could not be found out; say them, for example "
_MOST_GUESSES = 12


def _first_that_fits(module: Any, kept: Kept, inputs: Any, example: Any) -> tuple[Graph, Call]:
    """The graph with the first shapes of the inputs, among the possible ones, that fit all layers."""
    import torch

    wide = any(parameter.dtype == torch.float64 for parameter in module.parameters())
    dtype = np.dtype(np.float64 if wide else np.float32)
    failures: list[CylstmError] = []
    likeliest: list[Shape] = [("N", 20, 6)]
    of_one_step: set[tuple[Shape, ...]] = set()
    for given, is_guess in itertools.islice(_possible(module, kept, inputs, example, failures, dtype), _MOST_GUESSES):
        if tuple(one.shape for one in given) in of_one_step:
            continue
        try:
            graph, batch = _graph(module, kept, given, dtype)
        except CylstmError as error:
            if not failures:
                likeliest = [one.shape for one in given if one.is_input]
            failures.append(error)
            if isinstance(error, StaticTimeNeeded):  # a network of several steps is none of a single one
                of_one_step.add(tuple(tuple(1 if size == "T" else size for size in one.shape) for one in given))
            continue
        made = {name for layer in graph.layers if layer.kind == "constant" for name in layer.weights.values()}
        weights = {name: tensor for name, tensor in graph.tensors.items() if name not in made}
        warn_not_finite(type(module).__name__, weights)  # infinity in a constant is a mask's
        names = iter(graph.inputs)
        of = {one.name: next(names) for one in given if one.is_input}
        if is_guess:
            graph = _without_unread_inputs(graph)
        found = tuple(
            (one.name, of[one.name] if of.get(one.name) in graph.inputs else None, one.shape) for one in given
        )
        truths = frozenset(one.name for one in given if one.kind == "truths")
        return graph, Call(module, found, batch, is_guess, {one.name: one.value for one in given}, truths=truths)
    if not failures:
        raise UnsupportedError(f"{type(module).__name__}: {_SIZES}{likely_shape(module)}")
    best = failures[0]
    if isinstance(best, StaticTimeNeeded) and "inputs=" not in str(best):
        shapes = [tuple(20 if size == "T" else size for size in shape) for shape in likeliest]
        raise StaticTimeNeeded(f"{best}; say it with from_torch(module, inputs={shapes})") from best
    raise best


def _without_unread_inputs(graph: Graph) -> Graph:
    """The graph without inputs that no layer reads, of arguments that the forward only tests."""
    read = {name for layer in graph.layers for name in layer.inputs.values()}
    unread = [name for name in graph.inputs if name not in read]
    gone = {*unread, *(graph.values[name].mask for name in unread)}
    return graph._replace(
        inputs=tuple(name for name in graph.inputs if name not in unread),
        values={name: value for name, value in graph.values.items() if name not in gone},
        layouts={name: layout for name, layout in graph.layouts.items() if name not in gone},
    )


def _possible(
    module: Any, kept: Kept, inputs: Any, example: Any, failures: list[CylstmError], dtype: np.dtype
) -> Iterator[tuple[list[Input], bool]]:
    """Inputs with which the module runs, the likeliest first, and whether optional arguments are among them."""
    known = arguments(module)
    if example is not None:
        yield from ((given, False) for given in example_inputs(module, kept, known, example, inputs))
        return
    given = given_shapes([one.name for one in known], inputs, module)
    wanted = [one for one in known if one.name in given or one.is_required]
    wanted = wanted or known[:1]
    optional = [one for one in known if one not in wanted and one.default is None]
    for is_guess, names in enumerate([wanted, [*wanted, *optional]] if optional else [wanted]):
        found = False
        for one in guesses(module, kept, names, given, failures, dtype):
            found = True
            yield one, bool(is_guess)
        if found:
            return


def _graph(module: Any, kept: Kept, given: Sequence[Input], dtype: np.dtype) -> tuple[Graph, tuple[int, ...]]:
    """The graph of a module with these inputs."""
    examples = EXAMPLES
    does_run = runs(module, kept, given, *EXAMPLES[0], dtype)
    if not does_run and any(one.has_time for one in given):
        examples = _LONG
    places = [Given(one.name, one.shape, one.kind, one.of) for one in given]
    programs: list[Program] = []

    def build(examples: Sequence[tuple[int, int]], *, one_time: bool = False) -> tuple[Graph, tuple[int, ...]]:
        for batch, time in examples[len(programs) :]:
            programs.append(export(module, {one.name: one.tensor(batch, time, dtype) for one in given}, kept))
        return build_graph(programs, places, examples, dtype, type(module).__name__, one_time=one_time)

    try:
        return build(examples)
    except TimesAlike:
        return build([*examples, *((batch, time + examples[0][1] - EXAMPLES[0][1]) for batch, time in _MORE)])
    except StaticTimeNeeded:
        # such as a mask of steps beside the sequence that it is about
        if sum(one.has_time and one.is_input for one in given) < 2:
            raise
        return build(examples, one_time=True)
