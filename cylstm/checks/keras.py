"""Runs a Keras model beside the model that was made of it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.checks import batched, compare, describe_inputs
from cylstm.errors import ShapeError

if TYPE_CHECKING:
    from cylstm.model import Model


def check_keras(model: Model, keras_model: Any, x: Any) -> dict[str, object]:
    """Predict `x` with both and compare; the Keras model is left as it was.

    Parameters
    ----------
    model : cylstm.Model
    keras_model : keras.Model
    x : array_like, list or dict
        As `Model.predict` takes it.

    Raises
    ------
    CheckError
        If they differ.
    ShapeError
        If `x` does not fit.
    """
    arrays = batched(model, x)
    given = []
    for name, array in zip(model.inputs, arrays):
        is_index = model.graph.values[name].kind == "index"
        given.append(array.astype(np.int32 if is_index else _float_type(keras_model)))
    with _left_alone(keras_model):
        try:
            found = keras_model(_as_called(keras_model, model.inputs, given), training=False)
            theirs = [_as_array(one) for one in _leaves(found)]
        except Exception as error:  # whatever Keras and its backend raise
            text = " ".join(str(error).split())[:300]
            raise ShapeError(f"check: Keras itself fails on it: {type(error).__name__}: {text}") from error
    report = compare(model, arrays, theirs)
    version = next((sys.modules[name].__version__ for name in ("keras", "tf_keras") if name in sys.modules), "")
    return {"framework": f"keras {version}", "inputs": describe_inputs(model, arrays), **report}


def _float_type(keras_model: Any) -> str:
    kind = str(getattr(keras_model, "compute_dtype", None) or "float32")
    return kind if kind == "float64" else "float32"


def _as_called(keras_model: Any, names: Sequence[str], arrays: list[np.ndarray]) -> Any:
    """One array, or as many in the form that the model was made with."""
    try:
        form = keras_model.input
    except (AttributeError, ValueError):
        form = None
    if isinstance(form, Mapping):
        return dict(zip(names, arrays)) if set(form) == set(names) else dict(zip(form, arrays))
    return arrays[0] if len(arrays) == 1 and not isinstance(form, (list, tuple)) else arrays


def _leaves(found: Any) -> Iterator[Any]:
    if isinstance(found, Mapping):
        found = list(found.values())
    if isinstance(found, (list, tuple)):
        for part in found:
            yield from _leaves(part)
    else:
        yield found


def _as_array(found: Any) -> tuple[np.ndarray, str]:
    """An output as an array, and the name of its type."""
    if hasattr(found, "detach"):
        found = found.detach().cpu()
        if str(found.dtype) == "torch.bfloat16":
            return found.float().numpy(), "bfloat16"
        found = found.numpy()
    array = np.array(found)
    kind = array.dtype.name
    return (array.astype(np.float32), kind) if kind in ("float16", "bfloat16") else (array, kind)


@contextlib.contextmanager
def _left_alone(keras_model: Any) -> Iterator[None]:
    """States start at zero and are, like statistics and seeds, as before when it has run."""
    states = [state for layer in _layers(keras_model) if getattr(layer, "stateful", False) for state in _states(layer)]
    variables = {id(variable): variable for variable in (*getattr(keras_model, "non_trainable_variables", ()), *states)}
    before = [(variable, np.array(_as_array(_value(variable))[0])) for variable in variables.values()]
    try:
        for state in states:
            state.assign(np.zeros(tuple(state.shape), np.float32))
        yield
    finally:
        for variable, array in before:
            if not np.array_equal(_as_array(_value(variable))[0], array, equal_nan=array.dtype.kind == "f"):
                variable.assign(array)


def _layers(keras_model: Any) -> Iterator[Any]:
    """All layers, those inside others too."""
    waiting, seen = [keras_model], set()
    while waiting:
        layer = waiting.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        yield layer
        waiting += getattr(layer, "layers", None) or ()
        waiting += [getattr(layer, name) for name in _INNER if hasattr(getattr(layer, name, None), "get_config")]


#: where wrappers keep theirs
_INNER = ("layer", "forward_layer", "backward_layer")


def _states(layer: Any) -> Iterator[Any]:
    return (state for state in _leaves(getattr(layer, "states", None) or ()) if hasattr(state, "assign"))


def _value(variable: Any) -> Any:
    found = getattr(variable, "value", variable)
    return found() if callable(found) else found
