"""The graph of a model: which inputs are constants, what the axes of the others are, and all nodes from there on."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from cylstm.errors import CylstmError, FormatError, UnsupportedError, described
from cylstm.formats.onnx.inputs import Reading, possible_readings, with_lengths
from cylstm.formats.onnx.model import NUMPY_TYPES, OnnxModel, ValueInfo, type_name
from cylstm.formats.onnx.read import read_model
from cylstm.formats.onnx.run import Run, check_operators
from cylstm.graph.graph import Graph
from cylstm.graph.passes import with_value_names
from cylstm.graph.states import proposed_states, tie_states
from cylstm.graph.values import StaticTimeNeeded
from cylstm.program.interface import Interface
from cylstm.program.network import Network
from cylstm.program.patterns import with_biases, with_cells

_DOUBLE = 11
#: parts of the names of operators that take the last axes for time, or one that they know
_WINDOWS = ("Conv", "Pool", "LSTM", "GRU", "RNN", "Resize", "BatchNorm", "InstanceNorm", "If")


def graph_from_onnx(
    path: str | os.PathLike[str],
    *,
    time: str | int | None = None,
    constants: Mapping[str, Any] | None = None,
    states: Mapping[str, str] | None = None,
) -> Graph:
    """The graph of a model of ONNX.

    Parameters
    ----------
    path : str or os.PathLike
    time : "T", int or None
        "T" for a time of any length, or the number of steps. By default any length where the model shows that it does
        not depend on it, else the one that it was exported with.
    constants : dict of str to number or array, optional
        Inputs that never change, and what they are.
    states : dict of str to str, optional
        Outputs that are states, and the inputs that take them at the next call.

    Raises
    ------
    FormatError
        If the file is damaged, or `time`, `constants` or `states` do not fit it.
    UnsupportedError
        For operators that are not computed, and inputs without a batch.
    """
    path = os.fspath(path)
    model = read_model(path)
    pairs = _states(states)
    known = _constants(model, constants)
    inputs = [one for one in model.graph.inputs if one.name not in model.graph.initializers and one.name not in known]
    outputs = [one.name for one in model.graph.outputs]
    if not outputs:
        raise FormatError("the model gives no output")
    check_operators(model, outputs)
    failures: dict[int, list[CylstmError]] = {}
    for reading in possible_readings(inputs, time, has_windows=_has_windows(model)):
        try:
            graph = _build(model, reading, known, outputs)
            graph = tie_states(graph, pairs) if pairs else graph
        except CylstmError as error:
            failures.setdefault(reading.batch, []).append(error)
            continue
        proposed = {} if pairs else proposed_states(graph)
        provenance: dict[str, Any] = {
            "format": "onnx",
            "version": model.opsets[""],
            "framework_version": model.producer,
            "source": f"IR version {model.ir_version}",
            **({"states": proposed} if proposed else {}),
        }
        return graph._replace(provenance={**graph.provenance, **provenance})
    likeliest = next(iter(failures.values()))
    # that a number of steps is needed is no answer where it is not open
    other = next((one for one in likeliest if not isinstance(one, StaticTimeNeeded)), None)
    if other is None and not isinstance(time, int):
        raise StaticTimeNeeded(
            f"{likeliest[-1]}; load(path, time=24) says that there are 24, a model for each number of steps"
        ) from likeliest[-1]
    raise other or likeliest[-1]


def _build(model: OnnxModel, reading: Reading, known: Mapping[str, np.ndarray], outputs: list[str]) -> Graph:
    """The graph where the inputs are read in one way."""
    net = Network(_dtype(model))
    net.examples = reading.examples
    if reading.examples:
        net.static_sizes = frozenset(size for one in model.graph.initializers.values() for size in one.shape)
    interface = Interface(net)
    values: dict[str, Any] = dict(known)
    given = with_lengths(reading.given, model.graph)
    net.has_own_masks = any(one.kind == "lengths" for one in given)
    for one in given:
        net.name = one.name
        values[one.name] = interface.add_input(one)
    for found in Run(net, model).run(values, outputs):
        interface.add_output(found)
    graph = with_biases(with_cells(interface.build()))
    return with_value_names(graph, dict(zip(graph.outputs, outputs)))


def _has_windows(model: OnnxModel) -> bool:
    """Whether an operator shows which axis is the time, where that is not the first behind the batch."""
    nodes = [*model.graph.nodes, *(node for function in model.functions.values() for node in function.nodes)]
    return any(name in node.operator for node in nodes for name in _WINDOWS)


def _states(given: Any) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(one, str) for pair in given.items() for one in pair):
        raise FormatError(f"states expected a dict of outputs to inputs, found {described(given)}")
    return dict(given)


def _dtype(model: OnnxModel) -> np.dtype:
    """float64 if an input, or weights, are."""
    graph = model.graph
    wide = any(one.data_type == _DOUBLE for one in graph.inputs) or any(
        one.data_type == _DOUBLE and math.prod(one.shape) > 1 for one in graph.initializers.values()
    )
    return np.dtype(np.float64 if wide else np.float32)


def _constants(model: OnnxModel, given: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
    """The inputs that are given as constants, of the types and shapes that the model says."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise FormatError(f"constants expected a dict of inputs, found {described(given)}")
    inputs = {one.name: one for one in model.graph.inputs}
    found = {}
    for name, value in given.items():
        if name not in inputs:
            raise FormatError(
                f"constants: the model has no input {described(name)}; its inputs are {', '.join(inputs)}"
            )
        found[name] = _constant(inputs[name], value)
    return found


def _constant(info: ValueInfo, value: Any) -> np.ndarray:
    where = f"constants: input {info.name!r:.200}"
    dtype = NUMPY_TYPES.get(info.data_type or 0)
    if dtype is None:
        raise UnsupportedError(f"{where}: {type_name(info.data_type)} is not supported")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise FormatError(f"{where}: expected numbers, found {described(value)}") from error
    if array.dtype.kind not in ("b" if dtype.kind == "b" else "iub" if dtype.kind in "iu" else "fiub"):
        raise FormatError(f"{where}: expected numbers of {dtype}, found {described(value)}")
    cast = array.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(cast.astype(object), array.astype(object)):
        raise FormatError(f"{where}: a number beyond {dtype}")
    shape = info.shape
    if shape is not None and cast.size == 1 and all(size in (1, None) or isinstance(size, str) for size in shape):
        cast = cast.reshape((1,) * len(shape))
    if shape is not None and (
        len(shape) != cast.ndim or any(isinstance(a, int) and a != b for a, b in zip(shape, cast.shape))
    ):
        raise FormatError(f"{where}: expected the shape {shape}, found {array.shape}")
    return cast
