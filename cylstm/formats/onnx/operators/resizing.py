"""ONNX's operators that make axes longer or shorter: by the nearest places, or by interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cylstm.formats.onnx.call import Call
from cylstm.formats.onnx.folding import (
    axes_of,
    check_count,
    computed,
    is_array,
    is_sizes,
    known,
    shape,
    size_array,
    unknown,
)
from cylstm.program.network import MIXES
from cylstm.program.operations import parts
from cylstm.program.operations import shape as shapes
from cylstm.program.operations.linear import linear
from cylstm.program.tensor import BATCH_SIZE, Dim, dtype_of


def upsample(call: Call) -> Any:
    scales = call.attribute("scales", None) if call.opset < 9 else _floats(call, 1)
    mode = call.attribute("mode", "nearest")
    return _resized(call, mode, scales, None, "asymmetric", "floor")


def resize(call: Call) -> Any:
    mode = call.attribute("mode", "nearest")
    if call.opset < 11:
        return _resized(call, mode, _floats(call, 1), None, "asymmetric", "floor")
    scales = _floats(call, 2)
    wanted = None if call.input(3) is None else call.sizes(3, "sizes")
    coordinates = call.attribute("coordinate_transformation_mode", "half_pixel")
    rounding = call.attribute("nearest_mode", "round_prefer_floor")
    if call.attribute("antialias", 0):
        raise call.refuse("antialias is not supported")
    return _resized(call, mode, scales or None, wanted or None, coordinates, rounding)


def _floats(call: Call, i: int) -> list[float] | None:
    if call.input(i) is None:
        return None
    array = known(call, i, "scales")
    if is_sizes(array):
        raise unknown(call, "scales", array)
    return [float(one) for one in array.reshape(-1)]


def _resized(
    call: Call,
    mode: str,
    scales: Sequence[float] | None,
    wanted: Sequence[Any] | None,
    coordinates: str,
    rounding: str,
) -> Any:
    if mode not in ("nearest", "linear", "cubic"):
        raise call.refuse(f"mode expected 'nearest', 'linear' or 'cubic', found {mode!r}")
    x = call.required(0)
    own = shape(call, x)
    axes = call.attribute("axes", None)
    chosen = list(range(len(own))) if axes is None else axes_of(call, axes, len(own))
    if (scales is None) == (wanted is None) or len(scales or wanted or ()) != len(chosen):
        raise call.refuse(f"expected either scales or sizes, of {len(chosen)} axes")
    if wanted is not None and call.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        wanted, scales = _with_ratio(call, [own[axis] for axis in chosen], wanted)
    for k, axis in enumerate(chosen):
        before = own[axis]
        if isinstance(before, Dim):
            factor = _factor(before, None if wanted is None else wanted[k], None if scales is None else scales[k])
            if factor == 1:
                continue
            if before == BATCH_SIZE:
                raise call.refuse(MIXES)
            check_count(call, [factor or 1, 64])
            if factor is None or mode != "nearest" or not _is_repetition(factor, coordinates, rounding):
                raise call.net.needs_time("a resize of the time by other than a whole factor")
            x = shapes.repeat_interleave(call.net, x, factor, axis)
            continue
        scale = scales[k] if scales is not None else None
        after = wanted[k] if wanted is not None else math.floor(before * scale)
        if isinstance(after, Dim):
            raise unknown(call, "a resize", size_array([after]))
        if after < 1:
            raise call.refuse("a tensor without numbers is not supported")
        scale = after / before if scale is None else scale
        if mode == "nearest":
            x = _taken(call, x, _places(call, before, after, scale, coordinates, rounding), axis)
        elif after != before or scale != 1:
            x = _interpolated(call, x, _weights(call, mode, before, after, scale, coordinates), axis)
    return x


def _interpolated(call: Call, x: Any, weights: np.ndarray, axis: int) -> Any:
    """The numbers along an axis multiplied by a matrix (after, before)."""
    if dtype_of(x) != "float":
        raise call.refuse("a resize of whole numbers by other than 'nearest' is not supported")
    if is_array(x):
        wide = np.moveaxis(x.astype(np.float64), axis, -1) @ weights.T
        return np.moveaxis(wide, -1, axis).astype(x.dtype)
    net = call.net
    found = linear(net, shapes.transpose(net, computed(call, x), axis, -1), weights.astype(net.dtype))
    return shapes.transpose(net, found, axis, -1)


def _weights(call: Call, mode: str, before: int, after: int, scale: float, coordinates: str) -> np.ndarray:
    """How much of each place (before) a place after the resize takes: beyond the ends the last numbers go on."""
    check_count(call, [after, before])
    try:
        found = _coordinates(before, after, scale, coordinates)
    except KeyError:
        raise _unknown_coordinates(call, coordinates) from None
    lower = np.floor(found)
    r = found - lower
    if mode == "linear":
        first, shares = 0, [1 - r, r]
    else:
        a = float(call.attribute("cubic_coeff_a", -0.75))
        far = [((a * d - 5 * a) * d + 8 * a) * d - 4 * a for d in (1 + r, 2 - r)]
        near = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (r, 1 - r)]
        first, shares = -1, [far[0], *near, far[1]]
    weights = np.zeros((after, before))
    for k, share in enumerate(shares):
        places = lower.astype(np.int64) + first + k
        if call.attribute("exclude_outside", 0):
            share = np.where((places >= 0) & (places < before), share, 0.0)
        np.add.at(weights, (np.arange(after), np.clip(places, 0, before - 1)), share)
    return weights / weights.sum(1, keepdims=True) if call.attribute("exclude_outside", 0) else weights


def _taken(call: Call, x: Any, places: np.ndarray, axis: int) -> Any:
    before = shape(call, x)[axis]
    if np.array_equal(places, np.arange(before)):
        return x
    if is_array(x):
        check_count(call, [len(places) if i == axis else size for i, size in enumerate(x.shape)])
        return np.take(x, places, axis)
    factor, left = divmod(len(places), before)
    if not left and factor > 0 and np.array_equal(places, np.arange(len(places)) // factor):
        return shapes.repeat_interleave(call.net, x, factor, axis)
    return parts.take(call.net, x, places, axis)


def _with_ratio(call: Call, before: Sequence[Any], wanted: Sequence[Any]) -> tuple[list[int], list[float]]:
    """The sizes, and the one scale, that keep the ratio of the axes."""
    if any(isinstance(size, Dim) for size in (*before, *wanted)):
        raise unknown(call, "a resize that keeps the ratio of its axes", size_array([*before, *wanted]))
    ratios = [after / size for size, after in zip(before, wanted)]
    policy = call.attribute("keep_aspect_ratio_policy", "stretch")
    if policy not in ("not_larger", "not_smaller"):
        raise call.refuse(f"keep_aspect_ratio_policy {policy!r} is not known")
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [math.floor(scale * size + 0.5) for size in before], [scale] * len(before)


def _factor(before: Dim, after: Any, scale: float | None) -> int | None:
    """The whole factor of a resize of a size that is no number."""
    if scale is not None:
        return int(scale) if scale >= 1 and float(scale).is_integer() else None
    if isinstance(after, Dim) and after.factors == before.factors and after.count % before.count == 0:
        return after.count // before.count
    return None


def _is_repetition(factor: int, coordinates: str, rounding: str) -> bool:
    """Whether each place is repeated, whatever the length."""
    lengths = (1, 2, 3, 5, 16)
    try:
        return all(
            np.array_equal(
                _positions(length, length * factor, factor, coordinates, rounding), np.arange(length * factor) // factor
            )
            for length in lengths
        )
    except KeyError:
        return False


def _places(call: Call, before: int, after: int, scale: float, coordinates: str, rounding: str) -> np.ndarray:
    check_count(call, [after])
    try:
        return _positions(before, after, scale, coordinates, rounding)
    except KeyError:
        raise _unknown_coordinates(call, coordinates) from None


def _unknown_coordinates(call: Call, coordinates: str) -> Exception:
    return call.refuse(
        f"coordinates {coordinates!r} are not supported here; half_pixel, half_pixel_symmetric, pytorch_half_pixel, "
        "align_corners and asymmetric are, where they and the rounding do not depend on the last bit of a scale"
    )


_ROUNDINGS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _coordinates(before: int, after: int, scale: float, coordinates: str) -> np.ndarray:
    """Where each of the places after a resize lies among those before it; KeyError for rules that are not known."""
    k = np.arange(after, dtype=np.float64)
    exact = scale * before
    if coordinates == "align_corners" and abs(exact - after) > 1e-3:
        raise KeyError(coordinates)  # whether the corners are those of the exact size differs between programs
    return {
        "half_pixel": (k + 0.5) / scale - 0.5,
        "half_pixel_symmetric": before / 2 * (1 - after / exact) + (k + 0.5) / scale - 0.5,
        "pytorch_half_pixel": (k + 0.5) / scale - 0.5 if after > 1 else k * 0.0,
        "align_corners": k * (before - 1) / (after - 1) if after > 1 else k * 0.0,
        "asymmetric": k / scale,
    }[coordinates]


def _positions(before: int, after: int, scale: float, coordinates: str, rounding: str) -> np.ndarray:
    """Which place each of the places after a resize takes."""
    found = _coordinates(before, after, scale, coordinates)
    about = 1 + np.arange(after)
    nearest = np.rint(found * 2) / 2
    found = np.where(np.abs(found - nearest) < 1e-9 * about, nearest, found)
    if (np.abs(found - nearest) < 1e-5 * about)[found != nearest].any():
        raise KeyError(coordinates)  # rounded in float32 it may be another place
    places: np.ndarray = np.clip(_ROUNDINGS[rounding](found), 0, before - 1).astype(np.int64)
    return places


OPERATORS: Mapping[str, Callable[[Call], Any]] = {"Upsample": upsample, "Resize": resize}
