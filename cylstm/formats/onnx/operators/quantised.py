"""Whole numbers that stand for floating-point ones: folded, so that a network of int8 runs as float32.

Weights become the numbers that they stand for. What the network quantises while it runs is not rounded; it is limited
to what the whole numbers can say, because exporters leave a Relu out where these begin at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cylstm.formats.onnx.call import Call
from cylstm.program.operations import elementwise
from cylstm.program.tensor import Tensor, Unavailable

_NO_WHOLE = (
    "whole numbers that the network makes by a quantisation are not computed, only what they stand for: they are no "
    "result, and operators of whole numbers and DequantizeLinear alone may read them"
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Quantised(Unavailable):
    """Numbers of which the program has whole ones, ``real / scale + zero``, before they are rounded.

    Attributes
    ----------
    real : Tensor
        What they stand for.
    scale, zero : numpy.ndarray or None
        None of numbers quantised by their own extremes, whose scale is known to the program alone.
    axis : int
        Of a scale and zero of more than one number.
    """

    reason: str = _NO_WHOLE
    real: Tensor
    scale: np.ndarray | None = None
    zero: np.ndarray | None = None
    axis: int = 1

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.real.shape

    @property
    def ndim(self) -> int:
        return self.real.ndim


def dequantised(
    array: np.ndarray, scale: np.ndarray | None, zero: np.ndarray | None = None, axis: int = 1, block: int = 0
) -> np.ndarray:
    """``(array - zero) * scale``; for each place of `axis`, or each `block` of places, where there are several."""
    factor = np.asarray(1.0, np.float32) if scale is None else np.asarray(scale)
    kind = factor.dtype if factor.dtype in (np.float32, np.float64) else np.dtype(np.float32)
    # beside the array, and not the other way round
    factor = np.broadcast_to(spread(factor, array.shape, axis, block), array.shape)
    if zero is not None:
        zero = np.broadcast_to(spread(np.asarray(zero), array.shape, axis, block), array.shape)
    # a difference of 32-bit numbers has more than float32 holds
    whole = array.astype(np.int64)
    if zero is not None:
        whole = whole - zero.astype(np.int64)
    return (whole.astype(np.float64) * factor.astype(np.float64)).astype(kind)


def spread(parameter: np.ndarray, shape: tuple[int, ...], axis: int, block: int = 0) -> np.ndarray:
    """A scale or a zero point beside an array of this shape."""
    if parameter.size == 1 and not block:
        return parameter.reshape(())
    if block:
        size = shape[axis]
        used = np.take(parameter, np.arange(-(-size // block)), axis)
        return np.take(np.repeat(used, min(block, size), axis), np.arange(size), axis)
    if parameter.ndim != 1:
        return parameter
    return parameter.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])


def constant_parameter(call: Call, found: Any, what: str) -> np.ndarray | None:
    if found is not None and not isinstance(found, (np.ndarray, np.generic, int, float)):
        raise call.refuse(f"{what} that the network computes is not supported")
    return None if found is None else np.asarray(found)


def _parameters(call: Call, scale: Any, zero: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """A scale and a zero point, which have to be constants."""
    scale = constant_parameter(call, scale, "a scale")
    if scale is None:
        raise call.refuse("expected a scale, found none")
    zero = constant_parameter(call, zero, "a zero point")
    for one in (scale, zero):
        if one is not None and (one.dtype.kind not in "fiu" or not np.isfinite(one).all()):
            raise call.refuse(f"expected numbers as scale and zero point, found {one.dtype}")
    return scale, zero


#: ONNX's number of a type -> NumPy's
_TYPES: Mapping[int, type] = {2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32}


class Limits(NamedTuple):
    """What the whole numbers of a quantisation can say."""

    min: int
    max: int
    dtype: np.dtype


def limits_of(dtype: np.dtype) -> Limits:
    found = np.iinfo(dtype)
    noted: Mapping[str, Any] = dtype.metadata or {}
    unused = found.bits - int(noted.get("bits", found.bits))
    return Limits(found.min >> unused, found.max >> unused, dtype)


def _limits(call: Call, zero: np.ndarray | None) -> Limits:
    """Those of the type of the zero point, or of the one that an attribute names."""
    number = int(call.attribute("output_dtype", 0) or 0)
    if number and number not in _TYPES:
        raise call.refuse(f"a quantisation to type {number} of ONNX is not supported; 8 and 16 bits are")
    kind = np.dtype(_TYPES[number]) if number else np.dtype(np.uint8) if zero is None else zero.dtype
    if kind.kind not in "iu":
        raise call.refuse(f"a quantisation to {kind} is not supported; whole numbers are")
    return limits_of(kind)


def quantised(call: Call, x: Any, scale: np.ndarray, zero: np.ndarray | None, axis: int, limits: Limits) -> Any:
    """x as whole numbers that are not rounded."""
    net = call.net
    low, high = (_limit(one, scale, zero) for one in (limits.min, limits.max))
    real = net.tensor(x)
    if low.size == high.size == 1:
        real = elementwise.activation(net, real, "clip", float(low.reshape(-1)[0]), float(high.reshape(-1)[0]))
    else:
        beside = [one.reshape(_along(real.ndim, axis)) for one in (low, high)]
        real = net.tensor(elementwise.clip(net, real, *beside))
    return Quantised(real=real, scale=scale, zero=zero, axis=axis)


def _limit(limit: int, scale: np.ndarray, zero: np.ndarray | None) -> np.ndarray:
    found: np.ndarray = (limit - (0 if zero is None else zero.astype(np.float64))) * scale.astype(np.float64)
    return np.asarray(found).astype(np.float32)


def _along(rank: int, axis: int) -> list[int]:
    return [-1 if i == axis % rank else 1 for i in range(rank)]


@dataclass(frozen=True)
class OwnZero(Unavailable):
    """The zero point of numbers that are quantised by their own extremes."""

    reason: str = _NO_WHOLE


#: what may read whole numbers whose scale and zero point the program alone knows
_TAKES_OWN = frozenset(("MatMulInteger", "ConvInteger", "DequantizeLinear", "com.microsoft.MatMulIntegerToFloat"))
_TAKES_SCALE = frozenset(("Mul", "DequantizeLinear", "com.microsoft.MatMulIntegerToFloat"))


def dynamic_quantize_linear(call: Call) -> Any:
    """The numbers as they are, with 1 as their scale, where only products read them and are multiplied by the scale."""
    for k, takes in ((0, _TAKES_OWN), (1, _TAKES_SCALE), (2, _TAKES_OWN)):
        others = call.readers(k) - takes
        if others:
            raise call.refuse(
                f"a quantisation by extremes that {', '.join(sorted(others))} reads is not supported; products of "
                "whole numbers with MatMulInteger and ConvInteger, multiplied by its scale, are"
            )
    return Quantised(real=call.net.tensor(call.input(0))), np.ones((), np.float32), OwnZero()


def check_scaled(call: Call, x: Any) -> None:
    """Raise `UnsupportedError` if the whole numbers themselves that a product of `x` gives are read."""
    if isinstance(x, Quantised) and x.scale is None and call.readers(0) - {"Cast"}:
        others = ", ".join(sorted(call.readers(0) - {"Cast"}))
        raise call.refuse(f"a product of whole numbers that {others} reads before a Cast is not supported")


def quantize_linear(call: Call) -> Any:
    x = call.input(0)
    scale, zero = _parameters(call, call.input(1), call.input(2))
    axis, block = int(call.attribute("axis", 1)), int(call.attribute("block_size", 0) or 0)
    limits = _limits(call, zero)
    if isinstance(x, (np.ndarray, np.generic)):
        array = np.asarray(x)
        factor = spread(scale, array.shape, axis, block)
        shift = 0 if zero is None else spread(zero, array.shape, axis, block).astype(np.float64)
        found = np.rint(array.astype(np.float64) / factor.astype(np.float64)) + shift
        return np.clip(found, limits.min, limits.max).astype(limits.dtype)
    if block:
        raise call.refuse("a quantisation by blocks of what the network computes is not supported")
    return quantised(call, x, scale, zero, axis, limits)


def dequantize_linear(call: Call) -> Any:
    if isinstance(call.input(0), Quantised) and isinstance(call.input(2), OwnZero):
        return call.input(0).real
    scale, zero = _parameters(call, call.input(1), call.input(2))
    axis, block = int(call.attribute("axis", 1)), int(call.attribute("block_size", 0) or 0)
    return dequantised_value(call, call.input(0), scale, zero, axis, block)


def dequantised_value(
    call: Call, x: Any, scale: np.ndarray, zero: np.ndarray | None, axis: int = 1, block: int = 0
) -> Any:
    """What whole numbers stand for: constants, those of a quantisation, or those that the network computes."""
    net = call.net
    if isinstance(x, (np.ndarray, np.generic)):
        array = np.asarray(x)
        if array.dtype.kind not in "iu":
            raise call.refuse(f"expected whole numbers to dequantise, found {array.dtype}")
        return dequantised(array, scale, zero, axis, block)
    if block:
        raise call.refuse("a quantisation by blocks of what the network computes is not supported")
    if isinstance(x, Quantised):
        if x.scale is None:
            raise call.refuse("a scale of its own for numbers quantised by their extremes is not supported")
        if _are_equal(x.scale, scale) and _are_equal(_or_zero(x.zero), _or_zero(zero)) and (
            scale.size == 1 or x.axis % x.ndim == axis % x.ndim
        ):  # fmt: skip
            return x.real
        # (real / its scale + its zero - zero) * scale
        own = [one.astype(np.float64).reshape(_along(x.ndim, x.axis)) for one in (x.scale, _or_zero(x.zero))]
        now = [one.astype(np.float64).reshape(_along(x.ndim, axis)) for one in (scale, _or_zero(zero))]
        return net.affine(x.real, now[0] / own[0], (own[1] - now[1]) * now[0])
    tensor = net.tensor(x)
    if tensor.dtype == "float":
        raise call.refuse("expected whole numbers to dequantise, found floating-point ones")
    factor, shift = (one.astype(np.float64).reshape(_along(tensor.ndim, axis)) for one in (scale, _or_zero(zero)))
    return net.affine(tensor, factor, -shift * factor).of("float")


def _or_zero(zero: np.ndarray | None) -> np.ndarray:
    return np.zeros((), np.int64) if zero is None else zero


def _are_equal(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.array_equal(a.reshape(-1).astype(np.float64), b.reshape(-1).astype(np.float64)))


OPERATORS: Mapping[str, Callable[[Call], Any]] = {
    "QuantizeLinear": quantize_linear,
    "DynamicQuantizeLinear": dynamic_quantize_linear,
    "DequantizeLinear": dequantize_linear,
}
