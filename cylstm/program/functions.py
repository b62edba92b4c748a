"""The functions of arrays, by the names of the Python array API standard and of neural networks.

They take arrays of a network (`Array`), NumPy arrays and numbers. Of NumPy arrays alone they give NumPy arrays. Sums
and the like over the first axis, the batch, are refused: its rows are predicted each for itself.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cylstm.program.array import (
    Array,
    SymbolicSize,
    apply,
    as_constant,
    binary,
    inverted,
    logical,
    number,
    product,
    unary,
)
from cylstm.program.network import Network
from cylstm.program.operations import constants, elementwise, linear, parts, reduce
from cylstm.program.operations import shape as _shape
from cylstm.program.operations import softmax as _softmax
from cylstm.program.tensor import Dim, DType, is_constant, shape_of

e = math.e
pi = math.pi
inf = math.inf
nan = math.nan
newaxis = None


def _axis(net: Network, x: Any, axis: Any) -> int:
    """An axis of `x`, from 0."""
    rank = len(shape_of(x))
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)) or not -rank <= axis < rank:
        raise net.refuse(f"expected an axis of an array of shape {tuple(shape_of(x))}, found {axis!r:.40}")
    return int(axis) % rank


def _axes(net: Network, x: Any, axis: Any) -> list[int]:
    """Several axes of `x`, from 0; None is all."""
    if axis is None:
        return list(range(len(shape_of(x))))
    found = [_axis(net, x, one) for one in (axis if isinstance(axis, (tuple, list)) else [axis])]
    if len(set(found)) < len(found):
        raise net.refuse(f"an axis twice: {axis!r:.40}")
    return found


# Element by element


def abs(x: Any) -> Any:
    """The absolute value."""
    return apply("abs", unary("abs"), x)


def acos(x: Any) -> Any:
    """The inverse of the cosine."""
    return apply("acos", unary("acos"), x)


def acosh(x: Any) -> Any:
    """The inverse of the hyperbolic cosine."""
    return apply("acosh", unary("acosh"), x)


def add(x1: Any, x2: Any) -> Any:
    """x1 + x2."""
    return apply("add", binary("sum"), x1, x2)


def asin(x: Any) -> Any:
    """The inverse of the sine."""
    return apply("asin", unary("asin"), x)


def asinh(x: Any) -> Any:
    """The inverse of the hyperbolic sine."""
    return apply("asinh", unary("asinh"), x)


def atan(x: Any) -> Any:
    """The inverse of the tangent."""
    return apply("atan", unary("atan"), x)


def atan2(x1: Any, x2: Any) -> Any:
    """The angle of the point (x2, x1)."""
    return apply("atan2", binary("atan2"), x1, x2)


def atanh(x: Any) -> Any:
    """The inverse of the hyperbolic tangent."""
    return apply("atanh", unary("atanh"), x)


def ceil(x: Any) -> Any:
    """The smallest whole number that is at least x."""
    return apply("ceil", unary("ceil"), x)


def clip(x: Any, min: Any = None, max: Any = None) -> Any:
    """x, at least `min` and at most `max`."""

    def function(net: Network, x: Any, low: Any, high: Any) -> Any:
        return elementwise.clip(net, number(net, x), low, high)

    return apply("clip", function, x, min, max)


def cos(x: Any) -> Any:
    """The cosine."""
    return apply("cos", unary("cos"), x)


def cosh(x: Any) -> Any:
    """The hyperbolic cosine."""
    return apply("cosh", unary("cosh"), x)


def divide(x1: Any, x2: Any) -> Any:
    """x1 / x2."""
    return apply("divide", binary("div"), x1, x2)


def equal(x1: Any, x2: Any) -> Any:
    """Whether x1 == x2."""
    return apply("equal", binary("equal"), x1, x2)


def erf(x: Any) -> Any:
    """The error function."""
    return apply("erf", unary("erf"), x)


def exp(x: Any) -> Any:
    """e to the power of x."""
    return apply("exp", _activation("exponential"), x)


def expm1(x: Any) -> Any:
    """exp(x) - 1."""
    return apply("expm1", unary("expm1"), x)


def floor(x: Any) -> Any:
    """The largest whole number that is at most x."""
    return apply("floor", unary("floor"), x)


def floor_divide(x1: Any, x2: Any) -> Any:
    """x1 // x2."""
    return apply("floor_divide", binary("floor_div"), x1, x2)


def greater(x1: Any, x2: Any) -> Any:
    """Whether x1 > x2."""
    return apply("greater", binary("greater"), x1, x2)


def greater_equal(x1: Any, x2: Any) -> Any:
    """Whether x1 >= x2."""
    return apply("greater_equal", binary("greater_equal"), x1, x2)


def hypot(x1: Any, x2: Any) -> Any:
    """The root of x1 x1 + x2 x2."""
    return apply("hypot", binary("hypot"), x1, x2)


def isfinite(x: Any) -> Any:
    """Whether it is neither infinite nor NaN."""
    return apply("isfinite", unary("isfinite"), x)


def isinf(x: Any) -> Any:
    """Whether it is infinite."""
    return apply("isinf", unary("isinf"), x)


def isnan(x: Any) -> Any:
    """Whether it is NaN."""
    return apply("isnan", unary("isnan"), x)


def less(x1: Any, x2: Any) -> Any:
    """Whether x1 < x2."""
    return apply("less", binary("less"), x1, x2)


def less_equal(x1: Any, x2: Any) -> Any:
    """Whether x1 <= x2."""
    return apply("less_equal", binary("less_equal"), x1, x2)


def log(x: Any) -> Any:
    """The natural logarithm."""
    return apply("log", unary("log"), x)


def log1p(x: Any) -> Any:
    """log(1 + x)."""
    return apply("log1p", unary("log1p"), x)


def log2(x: Any) -> Any:
    """The logarithm to base 2."""
    return apply("log2", unary("log2"), x)


def log10(x: Any) -> Any:
    """The logarithm to base 10."""
    return apply("log10", unary("log10"), x)


def logical_and(x1: Any, x2: Any) -> Any:
    """Whether both are true."""
    return apply("logical_and", logical("and"), x1, x2)


def logical_not(x: Any) -> Any:
    """Whether it is false."""
    return apply("logical_not", inverted, x)


def logical_or(x1: Any, x2: Any) -> Any:
    """Whether one is true."""
    return apply("logical_or", logical("or"), x1, x2)


def logical_xor(x1: Any, x2: Any) -> Any:
    """Whether one alone is true."""
    return apply("logical_xor", logical("xor"), x1, x2)


def maximum(x1: Any, x2: Any) -> Any:
    """The larger of two."""
    return apply("maximum", binary("max"), x1, x2)


def minimum(x1: Any, x2: Any) -> Any:
    """The smaller of two."""
    return apply("minimum", binary("min"), x1, x2)


def multiply(x1: Any, x2: Any) -> Any:
    """x1 * x2."""
    return apply("multiply", binary("mul"), x1, x2)


def negative(x: Any) -> Any:
    """-x."""
    return apply("negative", unary("neg"), x)


def not_equal(x1: Any, x2: Any) -> Any:
    """Whether x1 != x2."""
    return apply("not_equal", binary("not_equal"), x1, x2)


def pow(x1: Any, x2: Any) -> Any:
    """x1 ** x2."""
    return apply("pow", binary("pow"), x1, x2)


def reciprocal(x: Any) -> Any:
    """1 / x."""
    return apply("reciprocal", unary("reciprocal"), x)


def remainder(x1: Any, x2: Any) -> Any:
    """x1 % x2."""
    return apply("remainder", binary("mod"), x1, x2)


def round(x: Any) -> Any:
    """The nearest whole number, of two the even one."""
    return apply("round", unary("round"), x)


def rsqrt(x: Any) -> Any:
    """1 / sqrt(x)."""
    return apply("rsqrt", unary("rsqrt"), x)


def sign(x: Any) -> Any:
    """-1, 0 or 1."""
    return apply("sign", unary("sign"), x)


def sin(x: Any) -> Any:
    """The sine."""
    return apply("sin", unary("sin"), x)


def sinh(x: Any) -> Any:
    """The hyperbolic sine."""
    return apply("sinh", unary("sinh"), x)


def sqrt(x: Any) -> Any:
    """The square root."""
    return apply("sqrt", unary("sqrt"), x)


def square(x: Any) -> Any:
    """x * x."""
    return apply("square", unary("square"), x)


def subtract(x1: Any, x2: Any) -> Any:
    """x1 - x2."""
    return apply("subtract", binary("sub"), x1, x2)


def tan(x: Any) -> Any:
    """The tangent."""
    return apply("tan", unary("tan"), x)


def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return apply("tanh", _activation("tanh"), x)


def trunc(x: Any) -> Any:
    """The whole number that is nearest towards 0."""
    return apply("trunc", unary("trunc"), x)


def where(condition: Any, x1: Any, x2: Any) -> Any:
    """x1 where the condition is true, else x2."""

    def function(net: Network, condition: Any, a: Any, b: Any) -> Any:
        return elementwise.where(net, as_constant(net, condition), number(net, a), number(net, b))

    return apply("where", function, condition, x1, x2)


# Functions of neural networks


def _activation(name: str, alpha: float | None = None, beta: float | None = None) -> Callable[[Network, Any], Any]:
    return lambda net, x: elementwise.activation(net, number(net, x), name, alpha, beta)


def elu(x: Any, alpha: float = 1.0) -> Any:
    """x above 0, below it alpha (exp(x) - 1)."""
    return apply("elu", _activation("elu", alpha), x)


def gelu(x: Any, approximate: bool = False) -> Any:
    """x times the normal distribution of x, or the usual approximation with tanh."""
    return apply("gelu", _activation("gelu_tanh" if approximate else "gelu"), x)


def leaky_relu(x: Any, slope: float) -> Any:
    """x above 0, below it slope x."""
    return apply("leaky_relu", _activation("leaky_relu", slope), x)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """The logarithm of the softmax."""

    def function(net: Network, x: Any) -> Any:
        return _softmax.softmax(net, as_constant(net, x), _axis(net, x, axis), log=True)

    return apply("log_softmax", function, x)


def relu(x: Any) -> Any:
    """x above 0, below it 0."""
    return apply("relu", _activation("relu"), x)


def selu(x: Any) -> Any:
    """The self-normalising elu."""
    return apply("selu", _activation("selu"), x)


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return apply("sigmoid", _activation("sigmoid"), x)


def silu(x: Any) -> Any:
    """x sigmoid(x)."""
    return apply("silu", _activation("silu"), x)


def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) over its sum along an axis."""

    def function(net: Network, x: Any) -> Any:
        return _softmax.softmax(net, as_constant(net, x), _axis(net, x, axis))

    return apply("softmax", function, x)


def softplus(x: Any) -> Any:
    """log(1 + exp(x))."""
    return apply("softplus", _activation("softplus"), x)


def softsign(x: Any) -> Any:
    """x / (1 + abs(x))."""
    return apply("softsign", _activation("softsign"), x)


# Over axes


def _reduced(mode: str, x: Any, axis: Any, keepdims: bool, name: str = "", **options: Any) -> Any:
    def function(net: Network, x: Any) -> Any:
        x = as_constant(net, x)
        return reduce.reduce(net, x, mode, _axes(net, x, axis), bool(keepdims), **options)

    return apply(name or mode, function, x)


def all(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Whether all are true."""
    return _reduced("all", x, axis, keepdims)


def any(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Whether any is true."""
    return _reduced("any", x, axis, keepdims)


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Where the largest is, the first of equal ones."""
    return _reduced("argmax", x, axis, keepdims)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Where the smallest is, the first of equal ones."""
    return _reduced("argmin", x, axis, keepdims)


def _cumulated(mode: str, x: Any, axis: int | None) -> Any:
    def function(net: Network, x: Any) -> Any:
        x = as_constant(net, x)
        if axis is None and len(shape_of(x)) != 1:
            raise net.refuse("expected axis=, of an array of several axes")
        return reduce.cumulate(net, x, mode, _axis(net, x, 0 if axis is None else axis))

    return apply(f"cumulative_{mode}", function, x)


def cumulative_prod(x: Any, axis: int | None = None) -> Any:
    """The running product."""
    return _cumulated("prod", x, axis)


def cumulative_sum(x: Any, axis: int | None = None) -> Any:
    """The running sum."""
    return _cumulated("sum", x, axis)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The logarithm of the sum of exp(x)."""
    return _reduced("logsumexp", x, axis, keepdims)


def max(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The largest."""
    return _reduced("max", x, axis, keepdims)


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The mean."""
    return _reduced("mean", x, axis, keepdims)


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The smallest."""
    return _reduced("min", x, axis, keepdims)


def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The product."""
    return _reduced("prod", x, axis, keepdims)


def std(x: Any, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """The root of the variance."""
    return sqrt(var(x, axis, correction, keepdims))


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The sum."""
    return _reduced("sum", x, axis, keepdims)


def var(x: Any, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """The mean of the squares of what numbers differ from their mean; their count is less by `correction`."""
    return _reduced("var", x, axis, keepdims, correction=float(correction))


def vector_norm(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The root of the sum of squares."""
    return _reduced("norm", x, axis, keepdims, "vector_norm")


# Sorted


def _ordered(name: str, x: Any, count: int, axis: int, descending: bool) -> tuple[Any, Any]:
    def function(net: Network, x: Any) -> Any:
        return reduce.top(net, x, count, _axis(net, x, axis), bool(descending))

    found: tuple[Any, Any] = apply(name, function, x)
    return found


def argsort(x: Any, axis: int = -1, descending: bool = False) -> Any:
    """Where the numbers are in their order."""
    return _ordered("argsort", x, 0, axis, descending)[1]


def sort(x: Any, axis: int = -1, descending: bool = False) -> Any:
    """The numbers in their order."""
    return _ordered("sort", x, 0, axis, descending)[0]


def top_k(x: Any, k: int, axis: int = -1) -> tuple[Any, Any]:
    """The k largest numbers, the largest first, and where they are."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"k: expected a whole number of 1 or more, found {k!r:.40}")
    return _ordered("top_k", x, k, axis, True)


# Products


def einsum(equation: str, *operands: Any) -> Any:
    """A sum of products over axes by their names, ``"bij,bjk->bik"``."""

    def function(net: Network, *found: Any) -> Any:
        return linear.einsum(net, equation, [as_constant(net, one) for one in found])

    return apply("einsum", function, *operands)


def matmul(x1: Any, x2: Any) -> Any:
    """x1 @ x2."""
    return apply("matmul", product, x1, x2)


def tensordot(x1: Any, x2: Any, axes: Any = 2) -> Any:
    """The sum of products over the last axes of x1 and the first of x2, or over pairs of axes."""

    def function(net: Network, a: Any, b: Any) -> Any:
        a, b = as_constant(net, a), as_constant(net, b)
        ranks = len(shape_of(a)), len(shape_of(b))
        if isinstance(axes, int):
            if not 0 <= axes <= builtins.min(ranks):
                raise net.refuse(f"expected at most {builtins.min(ranks)} axes, found {axes}")
            pairs = [(ranks[0] - axes + k, k) for k in range(axes)]
        else:
            first, second = ([one] if isinstance(one, int) else list(one) for one in axes)
            if len(first) != len(second):
                raise net.refuse(f"expected as many axes of one array as of the other, found {axes!r:.60}")
            pairs = [(_axis(net, a, i), _axis(net, b, j)) for i, j in zip(first, second)]
        names = "abcdefghijklmnopqrstuvwxyz"
        left, right = list(names[: ranks[0]]), list(names[ranks[0] : ranks[0] + ranks[1]])
        for i, j in pairs:
            right[j] = left[i]
        gone = {left[i] for i, _ in pairs}
        result = [one for one in (*left, *right) if one not in gone]
        return linear.einsum(net, f"{''.join(left)},{''.join(right)}->{''.join(result)}", [a, b])

    return apply("tensordot", function, x1, x2)


def vecdot(x1: Any, x2: Any, axis: int = -1) -> Any:
    """The sum of products along one axis."""
    return sum(multiply(x1, x2), axis)


# Shapes


def broadcast_to(x: Any, shape: Sequence[Any]) -> Any:
    """Axes of size 1 repeated, up to this shape."""
    return apply("broadcast_to", lambda net, x, sizes: _shape.expand(net, as_constant(net, x), sizes), x, list(shape))


def concat(arrays: Sequence[Any], axis: int = 0) -> Any:
    """Side by side along an axis."""

    def function(net: Network, found: Sequence[Any]) -> Any:
        found = [as_constant(net, one) for one in found]
        if not found:
            raise net.refuse("expected one array or more")
        return parts.concat(net, found, _axis(net, found[0], axis))

    return apply("concat", function, list(arrays))


def expand_dims(x: Any, axis: int = 0) -> Any:
    """A new axis of size 1."""

    def function(net: Network, x: Any) -> Any:
        x = as_constant(net, x)
        rank = len(shape_of(x)) + 1
        if not isinstance(axis, int) or not -rank <= axis < rank:
            raise net.refuse(f"expected a place among {rank} axes, found {axis!r:.40}")
        return _shape.unsqueeze(net, x, axis)

    return apply("expand_dims", function, x)


def flip(x: Any, axis: Any = None) -> Any:
    """Axes the other way round."""

    def function(net: Network, x: Any) -> Any:
        x = as_constant(net, x)
        return parts.flip(net, x, _axes(net, x, axis))

    return apply("flip", function, x)


def matrix_transpose(x: Any) -> Any:
    """The last two axes swapped."""
    return apply("matrix_transpose", lambda net, x: _shape.transpose(net, as_constant(net, x), -2, -1), x)


def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """Axes moved to other places."""

    def function(net: Network, x: Any) -> Any:
        x = as_constant(net, x)
        return _shape.moveaxis(net, x, _axes(net, x, source), _axes(net, x, destination))

    return apply("moveaxis", function, x)


def permute_dims(x: Any, axes: Sequence[int]) -> Any:
    """The axes in another order."""

    def function(net: Network, x: Any) -> Any:
        x = as_constant(net, x)
        return _shape.permute(net, x, _axes(net, x, list(axes)))

    return apply("permute_dims", function, x)


def repeat(x: Any, repeats: int, axis: int) -> Any:
    """Each place of an axis several times in a row."""

    def function(net: Network, x: Any) -> Any:
        x = as_constant(net, x)
        if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
            raise net.refuse(f"expected a whole number of repeats, found {repeats!r:.40}")
        return _shape.repeat_interleave(net, x, repeats, _axis(net, x, axis))

    return apply("repeat", function, x)


def reshape(x: Any, shape: Sequence[Any]) -> Any:
    """The same numbers in another shape; one size may be -1."""
    sizes = list(shape) if isinstance(shape, (tuple, list)) else [shape]
    return apply("reshape", lambda net, x, sizes: _shape.reshape(net, as_constant(net, x), sizes), x, sizes)


def roll(x: Any, shift: Any, axis: Any) -> Any:
    """Places moved along axes, those that fall off the end put in front."""

    def function(net: Network, x: Any) -> Any:
        x = as_constant(net, x)
        shifts = list(shift) if isinstance(shift, (tuple, list)) else [shift]
        axes = _axes(net, x, [axis] if isinstance(axis, int) else axis)
        if len(shifts) != len(axes):
            raise net.refuse(f"expected a shift for each axis, found {shift!r:.40} and {axis!r:.40}")
        return parts.roll(net, x, shifts, axes)

    return apply("roll", function, x)


def squeeze(x: Any, axis: Any) -> Any:
    """Axes of size 1 dropped."""

    def function(net: Network, x: Any) -> Any:
        x = as_constant(net, x)
        axes = _axes(net, x, axis)
        wide = [one for one in axes if isinstance(shape_of(x)[one], Dim) or shape_of(x)[one] != 1]
        if wide and isinstance(size := shape_of(x)[wide[0]], Dim) and size.axis is not None:
            raise net.needs_time(f"dropping axis {wide[0]} of an array of shape {tuple(shape_of(x))}")
        if wide:
            raise net.refuse(f"expected an axis of size 1 of an array of shape {tuple(shape_of(x))}, found {wide[0]}")
        return _shape.squeeze(net, x, axes)

    return apply("squeeze", function, x)


def stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    """Along a new axis."""

    def function(net: Network, found: Sequence[Any]) -> Any:
        found = [as_constant(net, one) for one in found]
        if not found or not isinstance(axis, int) or not -len(shape_of(found[0])) - 1 <= axis <= len(
            shape_of(found[0])
        ):  # fmt: skip
            raise net.refuse(f"expected one array or more, and a place among their axes, found {axis!r:.40}")
        at = axis % (len(shape_of(found[0])) + 1)
        return parts.concat(net, [_shape.unsqueeze(net, one, at) for one in found], at)

    return apply("stack", function, list(arrays))


def take(x: Any, indices: Any, axis: int) -> Any:
    """Places of one axis by a list of whole numbers."""

    def function(net: Network, x: Any, indices: Any) -> Any:
        x = as_constant(net, x)
        if not is_constant(indices) and not isinstance(indices, (list, tuple)):
            raise net.refuse("places that are computed are taken with take_along_axis")
        return parts.take(net, x, np.asarray(indices), _axis(net, x, axis))

    return apply("take", function, x, indices)


def take_along_axis(x: Any, indices: Any, axis: int = -1) -> Any:
    """The numbers at computed places of one axis; the other axes are matched."""

    def function(net: Network, x: Any, indices: Any) -> Any:
        x, indices = as_constant(net, x), as_constant(net, indices)
        if is_constant(x) and is_constant(indices):
            return np.take_along_axis(np.asarray(x), np.asarray(indices), axis)
        return constants.gather(net, x, indices, _axis(net, x, axis))

    return apply("take_along_axis", function, x, indices)


def tile(x: Any, repetitions: Sequence[int]) -> Any:
    """The whole array several times along each axis."""
    return apply("tile", lambda net, x, counts: _shape.tile(net, as_constant(net, x), counts), x, list(repetitions))


def unstack(x: Any, axis: int = 0) -> tuple[Any, ...]:
    """Every place of an axis."""

    def function(net: Network, x: Any) -> Any:
        x = as_constant(net, x)
        return parts.unbind(net, x, _axis(net, x, axis))

    found: tuple[Any, ...] = apply("unstack", function, x)
    return found


# Types and constants


def _dtype(dtype: Any) -> DType:
    """The type of numbers that is asked for: "float32", ``int``, a type of NumPy's."""
    kind = np.dtype(dtype).kind
    found: dict[str, DType] = {"f": "float", "i": "int", "u": "int", "b": "bool"}
    if kind not in found:
        raise ValueError(f"dtype: expected a type of real numbers or truths, found {dtype!r:.40}")
    return found[kind]


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Any:
    """start, start + step, ... up to `stop`, which may be the size of a time."""
    if stop is None:
        start, stop = 0, start
    wanted = None if dtype is None else _dtype(dtype)

    def function(net: Network, start: Any, stop: Any) -> Any:
        found = constants.arange(net, start, stop, step, wanted)
        if not is_constant(found) and not hasattr(found, "axes"):
            raise net.refuse("a range over the rows of a batch, which are predicted each for itself")
        return found

    return apply("arange", function, start, stop)


def asarray(x: Any, dtype: Any = None) -> Any:
    """A number, a list or an array as an array."""
    found = x if isinstance(x, (Array, SymbolicSize)) else np.asarray(x)
    return found if dtype is None else astype(found, dtype)


def astype(x: Any, dtype: Any) -> Any:
    """The numbers as another type: to whole numbers rounded towards 0, to truths as unlike 0."""
    return apply("astype", lambda net, x: elementwise.cast(net, number(net, x), _dtype(dtype)), x)


def eye(rows: int, columns: int | None = None) -> np.ndarray:
    """1 where row and column are equal, else 0."""
    return np.eye(rows, columns, dtype=np.float32)


def full(shape: Any, value: Any, dtype: Any = None) -> Any:
    """One number everywhere; sizes may be unknown ones."""
    sizes = list(shape) if isinstance(shape, (tuple, list)) else [shape]

    def function(net: Network, sizes: Any, value: Any) -> Any:
        kind = _dtype(np.asarray(value).dtype if dtype is None else dtype)
        return constants.full(net, sizes, value, kind)

    return apply("full", function, sizes, value)


def full_like(x: Any, value: Any, dtype: Any = None) -> Any:
    """One number in the shape of an array."""
    return full(x.shape, value, dtype or x.dtype)


def ones(shape: Any, dtype: Any = "float32") -> Any:
    """1 everywhere; sizes may be unknown ones."""
    return full(shape, 1, dtype)


def ones_like(x: Any, dtype: Any = None) -> Any:
    """1 in the shape of an array."""
    return full_like(x, 1, dtype)


def zeros(shape: Any, dtype: Any = "float32") -> Any:
    """0 everywhere; sizes may be unknown ones."""
    return full(shape, 0, dtype)


def zeros_like(x: Any, dtype: Any = None) -> Any:
    """0 in the shape of an array."""
    return full_like(x, 0, dtype)


#: all functions and constants
NAMES = (
    "newaxis",
    *sorted(
        name
        for name, found in globals().items()
        if not name.startswith("_") and (getattr(found, "__module__", None) == __name__ or type(found) is float)
    ),
)
