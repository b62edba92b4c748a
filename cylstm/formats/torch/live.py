"""Live modules and layers as graphs: torch.fx records which operation reads what, and each becomes layers."""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cylstm.errors import CylstmError, UnsupportedError
from cylstm.formats.state_dict.assemble import from_state_dict
from cylstm.formats.state_dict.wiring import GRU, LSTM, RNN, Linear
from cylstm.formats.torch.inputs import given_shapes, guesses
from cylstm.formats.torch.module import Call, Shape, call_of_layer, differs_in_training, evaluating, named, refuse_hooks
from cylstm.formats.torch.modules import is_known
from cylstm.formats.torch.network import Network
from cylstm.formats.torch.run import Run
from cylstm.formats.torch.state import Kept
from cylstm.formats.torch.trace import EndlessError, ShapesNeeded, arguments, trace
from cylstm.graph.graph import Graph
from cylstm.graph.values import StaticTimeNeeded


def from_torch(module: Any, inputs: Any = None) -> Graph:
    """The graph of a live layer or network; weights are copied.

    A ``torch.nn.LSTM``, ``GRU``, ``RNN`` or one of their cells by itself gives its output at every step, and takes the
    batch first and the time second. A network is traced with ``torch.fx``, which records how its layers are wired.

    Parameters
    ----------
    module : torch.nn.Module
    inputs : tuple, list of tuple, dict or None
        As in `cylstm.from_torch`.

    Raises
    ------
    UnsupportedError
        For what is no module or cannot be traced, and for layers and operations that are not computed.
    ShapeError
        If the shapes of the inputs do not fit the layers, or have to be given.
    """
    return convert_module(module, inputs)[0]


def convert_module(module: Any, inputs: Any = None) -> tuple[Graph, Call]:
    """As `from_torch`, with a `Call` to compare the module with its graph."""
    kind = type(module).__name__
    layers = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN, "Linear": Linear}
    layer = layers.get(kind.removesuffix("Cell"))
    if isinstance(module, type):
        raise UnsupportedError(f"from_torch takes a torch.nn.Module, found the class {module.__name__}; make one of it")
    if not hasattr(module, "named_modules") or "torch" not in sys.modules:
        raise UnsupportedError(
            f"from_torch takes a torch.nn.Module, found {type(module).__module__}.{kind}; for tensors use "
            "from_state_dict(tensors, layers=[...])"
        )
    if not type(module).__module__.startswith("torch.nn.") or layer is None or inputs is not None:
        graph, call = graph_from_module(module, inputs)
        return _of_live(graph, kind, version=None), call
    refuse_hooks(module)
    options = {"activation": module.nonlinearity} if layer is RNN else {}
    graph = _of_live(from_state_dict(module.state_dict(), [layer("", **options)]), kind)
    return graph, call_of_layer(module, graph)


def _of_live(graph: Graph, kind: str, **beside: Any) -> Graph:
    """The graph with where it came from: a module of this class."""
    found = {"format": "torch", "framework_version": sys.modules["torch"].__version__, "source": f"live {kind}"}
    return graph._replace(provenance={**graph.provenance, **found, **beside})


def graph_from_module(module: Any, inputs: Any) -> tuple[Graph, Call]:
    """The graph of a module that torch.fx can trace, and how the two are called; see `cylstm.from_torch`.

    Raises
    ------
    UnsupportedError
        If it cannot be traced or computed.
    ShapeError
        If the shapes of the inputs do not fit, or have to be given.
    """
    import torch

    kind = type(module).__name__
    if is_known(module):
        module = named(torch, kind.lower(), module)
    if any(part.training and differs_in_training(part) for part in module.modules()):
        warnings.warn(
            f"{kind} is in training mode; it is taken as after module.eval(): no dropout, fixed statistics",
            UserWarning,
            stacklevel=4,
        )
    refuse_hooks(module)
    with evaluating(module):
        return _first_that_fits(module, inputs, Kept(module))


_SIZES = "the shapes of the inputs could not be found out; say them, for example inputs=[('N', 'T', 6)]"


_MOST_GUESSES = 64


def _first_that_fits(module: Any, inputs: Any, kept: Kept) -> tuple[Graph, Call]:
    """The graph with the first shapes of the inputs, among the possible ones, that fit all layers."""
    import torch

    wide = any(parameter.dtype == torch.float64 for parameter in module.parameters())
    dtype = np.dtype(np.float64 if wide else np.float32)
    arrays: dict[int, tuple[object, np.ndarray]] = {}
    failures: list[tuple[int, CylstmError]] = []
    known = arguments(module)
    given = given_shapes([one.name for one in known], inputs)
    wanted = {*given, *(one.name for one in known[:1])}
    # those without which the forward fails, although they have a default
    guessed = {one.name for one in known if one.default is None} - wanted
    for is_guess, names in enumerate([wanted, wanted | guessed] if guessed else [wanted]):
        failed = [] if is_guess else failures
        for traced, shapes in _attempts(module, names, given, failed, kept):
            run = Run(module, Network(dtype, arrays), traced.constants)
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
    # the error of the guess that got farthest is the most helpful one
    best = max(failures, key=lambda failure: failure[0])[1]
    if isinstance(best, StaticTimeNeeded):
        raise StaticTimeNeeded(f"{best}; say it with from_torch(module, inputs=[('N', 20, 6)])") from best
    if len(failures) > 1 and not str(best).endswith("is not supported"):
        raise type(best)(
            f"{best} (the shapes of the inputs are guesses; if they are wrong, say them, for example "
            "inputs=[('N', 'T', 6)])"
        ) from best
    raise best


def _attempts(
    module: Any,
    names: set[str],
    given: Mapping[str, Shape],
    failures: list[tuple[int, CylstmError]],
    kept: Kept,
) -> Iterator[tuple[Any, dict[str, Shape | None]]]:
    """The recorded forward with each possible shape of the inputs; `names` are the arguments that are given."""
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
    for shapes in itertools.islice(guesses(placeholders, module, given, is_asked), _MOST_GUESSES):
        if not is_asked:
            yield traced, shapes
            continue
        # the forward asks for a size, so what it does may depend on the shapes
        try:
            yield trace(module, shapes, names, kept), shapes
        except EndlessError:
            raise
        except CylstmError as error:
            failures.append((0, error))
