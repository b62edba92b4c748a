"""How large the constants may become that a model computes: a few bytes of a file can ask for any number of zeros."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cylstm.formats.onnx.call import Call
from cylstm.program.tensor import Dim

#: The most numbers of one constant that is computed of fewer, and of all together beside those of the file. Masks and
#: tables of positions are such constants: one may be of 4096 steps beside 4096. All together take half a gigabyte where
#: each number takes 8 bytes, and what is computed on the way less than that again.
MOST_NUMBERS, MOST_IN_ALL = 1 << 24, 1 << 26
#: how often each number of the file may go into a constant
MOST_TIMES = 16
#: the most sizes that are no numbers in one array, factors of such a size, and the largest factor
_MOST_SIZES, _MOST_FACTORS, _LARGEST = 4096, 8, 1 << 62

_OF_SHAPES = frozenset(("ConstantOfShape", "Expand", "Resize", "Upsample", "Range", "OneHot", "Tile", "Pad"))


def most_of(call: Call) -> int:
    """The most numbers of a constant that is computed of these inputs; one that is there twice counts once."""
    given = {id(one): one.size for one in call.inputs if isinstance(one, np.ndarray)}
    return max(MOST_NUMBERS, 2 * sum(given.values()))


def check_result(call: Call) -> None:
    """Raise `UnsupportedError` before a constant is computed that has more numbers than any network needs."""
    if not all(one is None or isinstance(one, np.ndarray) for one in call.inputs):
        return
    count = _numbers(call)
    if count > most_of(call):
        raise call.refuse(
            f"a constant of {count:.3g} numbers, computed from others, is not supported; at most {MOST_NUMBERS:,} are"
        )


def check_sizes(call: Call, found: Any) -> None:
    """Raise `UnsupportedError` about sizes that are no numbers and larger than any network has."""
    if isinstance(found, tuple):
        for one in found:
            check_sizes(call, one)
    elif isinstance(found, np.ndarray) and found.dtype == object:
        sizes = found.reshape(-1)
        if len(sizes) > _MOST_SIZES or any(
            abs(one.count) > _LARGEST or len(one.factors) > _MOST_FACTORS
            if isinstance(one, Dim)
            else abs(one) > _LARGEST
            for one in sizes
        ):
            raise call.refuse("sizes that no network has")


def _numbers(call: Call) -> float:
    """About how many numbers a result may have, of constant inputs."""
    name, given = call.operator, [one for one in call.inputs if one is not None and one.dtype != object]
    shapes = [one.shape for one in given]
    if name == "Range" and len(given) < 3:  # up to a size that is no number
        return 0.0
    if name in _OF_SHAPES and given:
        return _of_shape(call, given)
    if name in ("MatMul", "Gemm", "MatMulInteger", "Einsum"):
        return float(math.prod(math.prod(shape) / max(1, min(shape, default=1)) for shape in shapes))
    if name == "Concat":
        return float(sum(map(math.prod, shapes)))
    if name in ("Gather", "GatherND"):
        data, indices = (*shapes, (), ())[:2]
        return float(math.prod(data) * math.prod(indices) / max(1, min(data, default=1)))
    # element by element, repeated as NumPy does
    rank = max(map(len, shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return float(math.prod(map(max, zip(*padded)))) if padded else 0.0


def _of_shape(call: Call, given: list[np.ndarray]) -> float:
    """Of operators whose inputs or attributes say how large the result is."""
    name, x = call.operator, given[0]
    with np.errstate(all="ignore"):
        others = [np.abs(one.astype(np.float64)).reshape(-1) for one in given if one.dtype.kind in "iuf"]
        if name == "ConstantOfShape":
            return float(np.prod(others[0]))
        if name == "Range":
            start, stop, step = (float(one.reshape(-1)[0]) for one in given[:3])
            return abs(stop - start) / abs(step) if step else math.inf
        sizes = others[1] if len(others) > 1 else np.ones(0)
        if name == "OneHot":
            return float(x.size) * float(np.prod(sizes))
        if name == "Pad":
            pads = np.abs(np.asarray(call.attribute("pads", sizes), np.float64))
            return float(np.prod(np.asarray(x.shape, np.float64) + pads.sum()))
        scales = np.asarray(call.attribute("scales", ()), np.float64)
        return float(x.size) * float(max(np.prod(np.maximum(one, 1)) for one in (scales, *others[1:], np.ones(1))))
