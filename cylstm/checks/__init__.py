"""Whether a model gives what it should: a framework's numbers when it is made, the same bits where it is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.array_like import to_array
from cylstm.engine.mode import in_standard_mode
from cylstm.errors import BlasNotFoundError, CheckError, ShapeError, UnsupportedError, described
from cylstm.formats.native.check import MOST_BYTES, Check
from cylstm.inputs import input_list

if TYPE_CHECKING:
    from cylstm.model import Model

#: largest difference that is taken for rounding, over the largest number of the output, by the coarser of two types
TOLERANCES = {"float64": 1e-11, "float32": 1e-5, "float16": 2e-2, "bfloat16": 1e-1}
#: how many times the error of our own float32 a framework's may be, where a network makes rounding larger
_AMPLIFIED = 8


@in_standard_mode
def compare(
    model: Model, arrays: Sequence[np.ndarray], theirs: Sequence[tuple[np.ndarray, str]], slack: float = 1.0
) -> dict[str, object]:
    """Predict `arrays` and compare with what a framework gives.

    Parameters
    ----------
    model : Model
    arrays : sequence of ndarray
        One for each input, with a batch.
    theirs : sequence of (ndarray, str)
        The framework's outputs, in the order of the model's, the batch first, and the names of their types.
    slack : float
        How many times the tolerance is allowed.

    Returns
    -------
    dict
        ``"error"``, the largest difference over the largest number of its output, and ``"tolerance"``.

    Raises
    ------
    CheckError
        If an output has another shape, or differs by more than rounding explains.
    """
    ours = predictions(model, arrays)
    if len(ours) != len(theirs):
        raise CheckError(f"check: expected {len(theirs)} outputs as the framework gives, found {len(ours)}")
    worst, tolerance, exact = 0.0, 0.0, None
    for k, (name, found, (expected, kind)) in enumerate(zip(model.outputs, ours, theirs)):
        if found.shape != expected.shape:
            raise CheckError(
                f"check: output {name!r}: expected shape {expected.shape}, as the framework gives, found {found.shape}"
            )
        limit = slack * max(TOLERANCES[kind], TOLERANCES[model.dtype.name])
        difference = _difference(found, expected)
        scale = _largest(expected)
        error = float(difference.max(initial=0.0))
        if error > limit * scale:
            exact = _exact(model, arrays) if exact is None else exact
            own = 0.0 if exact is False else _largest(_difference(found, exact[k]))
            if error > _AMPLIFIED * own:
                place = tuple(int(i) for i in np.unravel_index(int(difference.argmax()), difference.shape))
                raise CheckError(
                    f"check: output {name!r} differs most at {place}: expected {float(expected[place])!r}, as the "
                    f"framework gives, found {float(found[place])!r}; {error / max(scale, 1e-300):.1e} of the largest "
                    f"number, allowed is {limit:.0e}. Do not use this model: a layer is read here in another way than "
                    "the framework computes it; please report the network"
                )
        worst, tolerance = max(worst, error / scale if scale else 0.0), max(tolerance, limit)
    return {"error": worst, "tolerance": tolerance}


def predictions(model: Model, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs, one array each."""
    found = model.predict(arrays[0] if len(arrays) == 1 else list(arrays))
    return found if isinstance(found, list) else [found]


def _difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Absolute differences in float64; 0 between equal infinities and between NaN, infinite between NaN and others."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    with np.errstate(invalid="ignore"):
        found: np.ndarray = np.abs(one - other)
    found[(one == other) | (np.isnan(one) & np.isnan(other))] = 0
    found[np.isnan(found)] = np.inf
    return found


def _largest(array: np.ndarray) -> float:
    """The largest finite magnitude."""
    array = np.abs(array.astype(np.float64))
    return float(array[np.isfinite(array)].max(initial=0.0))


def _exact(model: Model, arrays: Sequence[np.ndarray]) -> Any:
    """The model's outputs in float64; False where it computes in that itself, or no BLAS is there."""
    if model.dtype == np.float64:
        return False
    try:
        return predictions(type(model)(model.graph, engine="blas", dtype="float64"), arrays)
    except BlasNotFoundError:
        return False


def batched(model: Model, x: Any) -> list[np.ndarray]:
    """`x` as one array for each input, all with a batch; what `Model.predict` takes. Raises `ShapeError`."""
    arrays = [as_array(name, array) for name, array in zip(model.inputs, input_list(model._packed, x))]
    ranks = [len(model.graph.layouts.get(name, model.graph.values[name].shape)) for name in model.inputs]
    if all(array.ndim == rank for array, rank in zip(arrays, ranks)):
        return [array[np.newaxis] for array in arrays]
    return arrays


def as_array(name: str, x: Any) -> np.ndarray:
    """An array or a tensor as an array. Raises `ShapeError`."""
    if hasattr(x, "detach"):
        from cylstm.formats.arrays import as_numpy

        array = as_numpy(name, x)
    else:
        array = to_array(x, f"check: input {name!r}")
    if not array.size:
        raise ShapeError(f"check: input {name!r}: expected at least one sample and one step, found {array.shape}")
    if array.dtype.kind not in "biuf":
        raise ShapeError(f"check: input {name!r}: expected an array of real numbers, found {described(x)}")
    return array


def describe_inputs(model: Model, arrays: Sequence[np.ndarray]) -> str:
    """``x (2, 20, 3)``."""
    return ", ".join(f"{name} {array.shape}" for name, array in zip(model.inputs, arrays))


@in_standard_mode
def record(model: Model, x: Any) -> Check:
    """What `Model.save` keeps of ``check=x``.

    Raises
    ------
    UnsupportedError
        If the model's numbers are not the same on every machine.
    ShapeError
        If `x` is not what the model takes, or larger than 1 MB.
    """
    if model.engine != "packed":
        raise UnsupportedError(
            'check= keeps the bits of engine="packed" in float32, which are the same on every machine; this model has '
            f"engine={model.engine!r} and {model.dtype}, whose sums depend on the BLAS: load it without engine= and "
            'dtype="float64" to save it with a check'
        )
    from cylstm._version import __version__
    from cylstm.inputs import as_indices, as_real

    inputs = {}
    for name, array in zip(model.inputs, batched(model, x)):
        what = f"check: input {name!r}"
        is_index = model.graph.values[name].kind == "index"
        inputs[name] = as_indices(array, what) if is_index else as_real(array, np.dtype(np.float32), what)
    size = sum(array.nbytes for array in inputs.values())
    if size > MOST_BYTES:
        raise ShapeError(
            f"check: expected at most {MOST_BYTES:,} bytes of input, found {size:,}; some rows and steps are enough"
        )
    found = predictions(model, list(inputs.values()))
    outputs = tuple((name, array.shape, bits_of(array)) for name, array in zip(model.outputs, found))
    return Check(inputs, outputs, __version__)


def bits_of(array: np.ndarray) -> str:
    """SHA-256 of an array of float32 in C order, little-endian; every NaN counts as 0x7fc00000."""
    bits = np.array(array, dtype="<f4", order="C")
    bits[np.isnan(bits)] = np.array(0x7FC00000, "<u4").view("<f4")
    return hashlib.sha256(bits.tobytes()).hexdigest()
