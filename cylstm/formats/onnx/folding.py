"""What a network computes of constants alone, and of sizes, before it runs.

A size that is no number is a `Dim` of the program. Arrays of sizes have dtype object while one is among them; NumPy
takes, joins and reshapes them like any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numpy as np

from cylstm.formats.onnx.call import Call
from cylstm.formats.onnx.limits import most_of
from cylstm.program.network import Network
from cylstm.program.operations import elementwise
from cylstm.program.tensor import Constant, Dim, Scores, Tensor, Unavailable, shape_of


def is_array(found: object) -> TypeGuard[np.ndarray]:
    """Whether it is known: a NumPy array, of numbers or of sizes."""
    return isinstance(found, np.ndarray)


def is_sizes(found: object) -> bool:
    """Whether it is an array in which a size is no number."""
    return isinstance(found, np.ndarray) and found.dtype == object


def size_array(found: Any) -> np.ndarray:
    """An array of sizes: whole numbers if all are known, else of dtype object."""
    array = np.asarray(found, object)
    flat = [int(one) if isinstance(one, (int, np.integer)) else one for one in array.reshape(-1)]
    if all(type(one) is int for one in flat):
        return np.array(flat, np.int64).reshape(array.shape)
    kept = np.empty(len(flat), object)
    kept[:] = flat
    return kept.reshape(array.shape)


def known(call: Call, i: int, what: str) -> np.ndarray:
    """An input that has to be a constant, or sizes."""
    found = call.required(i)
    if not is_array(found):
        raise call.refuse(f"{what} that the network computes is not supported; it has to be a constant")
    return found


def numbers(call: Call, i: int, what: str) -> list[int] | None:
    """Whole numbers that an input gives; None if it is left out."""
    if call.input(i) is None:
        return None
    array = known(call, i, what)
    if is_sizes(array):
        raise unknown(call, what, array)
    return [int(one) for one in array.reshape(-1)]


def unknown(call: Call, what: str, *found: Any) -> Exception:
    """The error of something that depends on sizes which are no numbers."""
    dims = [one for array in found for one in np.asarray(array, object).reshape(-1) if isinstance(one, Dim)]
    if any(factor != "batch" for dim in dims for factor in dim.factors):
        return call.net.needs_time(what)
    return call.refuse(f"{what} depends on the number of rows of the batch, which is not supported")


def shape(call: Call, found: Any) -> tuple[Any, ...]:
    """The shape of an input."""
    if isinstance(found, Unavailable):
        raise call.refuse(found.reason)
    return shape_of(found)


def axis_of(call: Call, axis: Any, rank: int) -> int:
    """The number of an axis, from 0."""
    if not isinstance(axis, (int, np.integer)) or not -rank <= axis < rank:
        raise call.refuse(f"expected an axis of a tensor of {rank} axes, found {axis}")
    return int(axis) % rank


def axes_of(call: Call, given: Sequence[Any], rank: int) -> list[int]:
    """Several axes, from 0, each once."""
    found = [axis_of(call, axis, rank) for axis in given]
    if len(set(found)) < len(found):
        raise call.refuse(f"an axis twice: {tuple(given)}")
    return found


def check_count(call: Call, sizes: Sequence[Any]) -> None:
    """Raise `UnsupportedError` for more numbers than constants may have; sizes that are no numbers do not count."""
    found = [int(size) for size in sizes if not isinstance(size, Dim)]
    count, most = math.prod(found), most_of(call)
    if count > most:
        raise call.refuse(f"a constant of shape {tuple(found)}, {count} numbers, is not supported; up to {most} are")


def folded(call: Call, function: Callable[..., Any], *arrays: np.ndarray, dtype: Any = None) -> np.ndarray:
    """A function of the program of constants alone, computed in double precision and rounded once."""
    try:
        check_count(call, np.broadcast_shapes(*(array.shape for array in arrays)))
    except ValueError:
        raise call.refuse(f"shapes {' and '.join(str(array.shape) for array in arrays)} do not match") from None
    net = Network(np.float64)
    net.name, net.where = call.net.name, call.net.where
    wide = [array.astype(np.float64) if array.dtype.kind == "f" else array for array in arrays]
    result = np.asarray(function(net, *wide))
    with np.errstate(all="ignore"):
        return result.astype(arrays[0].dtype if dtype is None else dtype)


def operand(call: Call, found: Any) -> Any:
    """An input beside one that the network computes: a size is counted when it runs."""
    if not is_sizes(found):
        return found
    if found.size != 1:
        raise unknown(call, "an array of sizes beside numbers that the network computes", found)
    length = elementwise.length(call.net, found.reshape(-1)[0])
    return length.with_axes((None,) * found.ndim)


def computed(call: Call, found: Any) -> Tensor:
    """An input as numbers that the network computes, constants too."""
    if isinstance(found, Constant) or (is_array(found) and not is_sizes(found)):
        return call.net.constant(found)
    return call.net.tensor(operand(call, found))


def is_number(found: Any) -> bool:
    """Whether it is one known number."""
    return is_array(found) and found.size == 1 and not is_sizes(found)


def number(found: np.ndarray) -> float:
    """The one number of an array."""
    return float(found.reshape(-1)[0])


def is_scores(found: Any) -> TypeGuard[Scores]:
    """Whether it is the product of a query and a key that may become an attention."""
    return isinstance(found, Scores)
