"""Runs a module of PyTorch beside the model that was made of it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.checks import as_array, compare, describe_inputs
from cylstm.errors import CheckError, CylstmError, ShapeError, UnsupportedError
from cylstm.formats.arrays import as_numpy
from cylstm.formats.torch.module import Call, evaluating, leaves
from cylstm.formats.torch.state import Kept, describe
from cylstm.graph.streaming import index_limits
from cylstm.inputs import input_list

if TYPE_CHECKING:
    from cylstm.model import Model

#: batch and time of the random inputs that a recorded module is tried with: those of its examples, and others, for a
#: choice by the time, by the batch, or a division without its rest, that happens to be the same in both
_TRIED = ((2, 61), (3, 64), (4, 23), (2, 134), (33, 7), (2, 30), (3, 41), (2, 108))
#: beyond what rounding does: two networks differ by more
_SLACK = 100.0
_REFUSED = "which is not supported: its result has to depend on its arguments alone"


def check_module(model: Model, call: Call, x: Any) -> dict[str, object]:
    """Predict `x` with both and compare; the module is left as it was.

    Parameters
    ----------
    model : Model
    call : Call
        How both are called.
    x : array_like, list or dict
        As the module takes it, its axes in the module's order.

    Raises
    ------
    CheckError
        If they differ.
    ShapeError
        If `x` does not fit the module.
    """
    import torch

    if isinstance(x, tuple) and len(x) == len(model.inputs):
        x = list(x)
    if isinstance(x, Mapping):  # by input, or by argument of the forward
        names = {argument: name for argument, name, _ in call.inputs if name is not None}
        x = {key if key in model.inputs else names.get(key, key): one for key, one in x.items()}
    shapes = _shapes(call)
    arrays = {}
    for name, one in zip(model.inputs, input_list(model._packed, x)):
        array, shape = as_array(name, one), shapes[name]
        if array.ndim == len(shape) - 1:
            array = np.expand_dims(array, shape.index("N"))
        if array.ndim != len(shape):
            raise ShapeError(f"check: input {name!r}: expected shape {shape}, found {array.shape}")
        arrays[name] = array
    kept = Kept(call.module)
    with _left_alone(torch, call.module, kept):
        theirs = _call(torch, model, call, arrays)
    if isinstance(theirs, Exception):
        raise ShapeError(
            f"check: the module itself fails on it: {type(theirs).__name__}: {theirs}; the axes are the module's"
        ) from theirs
    if theirs is None:
        raise UnsupportedError("check: the module gives something else than tensors, which is not compared")
    ours = _to_model(model, call, arrays)
    found = compare(model, ours, theirs)
    return {"framework": f"torch {torch.__version__}", "inputs": describe_inputs(model, ours), **found}


def try_module(model: Model, call: Call) -> None:
    """Compare both on random numbers: a recording does not see everything that Python does.

    Raises
    ------
    UnsupportedError
        If they differ, or the module gives something else at every call or changes itself.
    """
    import torch

    kind = type(call.module).__name__
    kept = Kept(call.module)
    rng = np.random.default_rng(1)
    was_compared = False
    for batch, time in _TRIED:
        arrays = _random_arrays(rng, model, call, batch, time)
        with _left_alone(torch, call.module, kept):
            theirs = _call(torch, model, call, arrays)
            changes = [change for change in kept.changes(contents=True) if change.attribute_of is None]
            again = None if theirs is None or isinstance(theirs, Exception) else _call(torch, model, call, arrays)
        if theirs is None or isinstance(theirs, Exception):
            continue
        if changes:
            raise UnsupportedError(f"{kind}: its forward changes {describe(changes)}, {_REFUSED}")
        if not _are_alike(theirs, again):
            raise UnsupportedError(
                f"{kind}: a second call with the same gives other numbers, {_REFUSED}; does it draw random numbers, "
                "such as a dropout that is on in evaluation too, or keep something from call to call?"
            )
        try:
            compare(model, _to_model(model, call, arrays), theirs, _SLACK)
        except CheckError as error:
            raise UnsupportedError(
                f"{kind}: the network does something that recording its forward does not see, such as a test of what "
                f"a tensor is, {_REFUSED}. On random numbers: {str(error).removeprefix('check: ')}"
            ) from error
        except CylstmError:
            continue  # a size that the model refuses, such as no multiple of its strides
        was_compared = True
    if call.is_guess and not was_compared:
        raise UnsupportedError(
            f"{kind}: an argument of its forward has the default None, and without it the forward fails; make it "
            "one without a default"
        )


def _random_arrays(rng: Any, model: Model, call: Call, batch: int, time: int) -> dict[str, np.ndarray]:
    """By input, with the axes in the module's order."""
    limits = index_limits(model.graph)
    truths = {name for argument, name, _ in call.inputs if argument in call.truths}
    arrays = {}
    for name, shape in _shapes(call).items():
        sizes = [{"N": batch, "T": time}.get(size, size) for size in shape]
        if model.graph.values[name].kind == "index":
            arrays[name] = rng.integers(0, limits.get(name, 1), sizes)
        elif name in truths:
            arrays[name] = (rng.random(sizes) < 0.3).astype(np.float32)
        else:
            arrays[name] = rng.standard_normal(sizes).astype(np.float32)
    return arrays


def _shapes(call: Call) -> dict[str, tuple[Any, ...]]:
    """Input of the graph -> its shape, with the axes in the module's order."""
    return {name: shape for _, name, shape in call.inputs if name is not None and shape is not None}


def _to_model(model: Model, call: Call, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """In the order of the model's inputs, the batch first."""
    shapes = _shapes(call)
    return [np.moveaxis(arrays[name], shapes[name].index("N"), 0) for name in model.inputs]


@contextlib.contextmanager
def _left_alone(torch: Any, module: Any, kept: Kept) -> Iterator[None]:
    """The module runs as after ``eval()``, and is as before when it has."""
    try:
        with evaluating(module), torch.no_grad(), torch.autocast("cpu", enabled=False), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        kept.restore(contents=True)


def _call(
    torch: Any, model: Model, call: Call, arrays: Mapping[str, np.ndarray]
) -> list[tuple[np.ndarray, str]] | Exception | None:
    """What the module gives, with the batch first; what it raises; None if that is no tensors.

    Arguments that the graph does not have are the lengths of whole sequences, or nothing, or a mask of no padding.
    """
    parameter = next((one for one in call.module.parameters() if one.is_floating_point()), None)
    how = {} if parameter is None else {"device": parameter.device}
    dtype = torch.get_default_dtype() if parameter is None else parameter.dtype
    tensors = {}
    truths = {name for argument, name, _ in call.inputs if argument in call.truths}
    for name, array in arrays.items():
        is_index = model.graph.values[name].kind == "index"
        array = np.array(array, np.int64) if is_index else np.array(array)
        kind = torch.int64 if is_index else torch.bool if name in truths else dtype
        tensors[name] = torch.as_tensor(array, dtype=kind, **how)
    shape = next(shape for _, _, shape in call.inputs if shape is not None)
    sizes = next(tensors[name].shape for _, name, _ in call.inputs if name is not None)
    batch = sizes[shape.index("N")]
    time = next((size for size, of in zip(sizes, shape) if of != "N"), 1)
    whole = torch.full((batch,), time, dtype=torch.int64), None, torch.zeros((batch, time), dtype=torch.bool, **how)
    lacking = any(name is None for _, name, _ in call.inputs)
    raised: Exception | None = None
    for other in whole if lacking else whole[:1]:
        given = [other if name is None else tensors[name] for _, name, _ in call.inputs]
        try:
            found = call.run(*given)
        except Exception as error:  # whatever the module's own code raises
            raised = error if raised is None else raised
            continue
        found = list(leaves(found))
        if not all(isinstance(one, torch.Tensor) and one.ndim for one in found):
            return None
        if len(found) != len(call.batch):
            return [(as_numpy("output", one), "float32") for one in found]
        return [
            (np.moveaxis(as_numpy("output", one), axis, 0), str(one.dtype).removeprefix("torch."))
            for one, axis in zip(found, call.batch)
        ]
    return raised


def _are_alike(one: list[tuple[np.ndarray, str]], other: Any) -> bool:
    def alike(a: np.ndarray, b: np.ndarray) -> bool:
        scale = float(np.abs(a).max(initial=0.0))
        return a.shape == b.shape and np.allclose(a, b, rtol=1e-3, atol=1e-3 * scale, equal_nan=True)

    return isinstance(other, list) and all(alike(a, b) for (a, _), (b, _) in zip(one, other))
