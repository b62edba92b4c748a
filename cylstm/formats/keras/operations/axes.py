"""Operations of ``keras.ops`` over axes: reductions, running sums, order. The parameters have Keras's names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cylstm.formats.keras.operations.arithmetic import cast, tensor
from cylstm.formats.keras.operations.network import KerasNetwork
from cylstm.formats.keras.operations.shapes import inner_axis, rank_of
from cylstm.program.network import MIXES
from cylstm.program.operations import elementwise, parts
from cylstm.program.operations import shape as shapes
from cylstm.program.operations.reduce import cumulate, norm, reduce, top, variance
from cylstm.program.tensor import BATCH_SIZE, Dim, dtype_of, is_constant, shape_of


def dims_of(net: KerasNetwork, x: Any, axis: Any) -> list[int]:
    """The axes of an option, from 0 on; None is all of them. The batch is refused."""
    if axis is None:
        if not is_constant(x) and BATCH_SIZE in shape_of(x):
            raise net.refuse(f"over all axes it {MIXES}; say which axis")
        return list(range(rank_of(net, x)))
    return [inner_axis(net, x, one) for one in (axis if isinstance(axis, list) else [axis])]


def reduction(mode: str) -> Callable[..., Any]:
    def found(net: KerasNetwork, x: Any, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> Any:
        x = tensor(net, x)
        y = reduce(net, x, mode, dims_of(net, x, axis), keepdims)
        return y if dtype is None else cast(net, y, dtype)

    return found


def extreme(mode: str) -> Callable[..., Any]:
    def found(net: KerasNetwork, x: Any, axis: Any = None, keepdims: bool = False, initial: Any = None) -> Any:
        x = tensor(net, x)
        y = reduce(net, x, mode, dims_of(net, x, axis), keepdims)
        return y if initial is None else elementwise.binary(net, mode, y, tensor(net, initial))

    return found


def truth(mode: str) -> Callable[..., Any]:
    def found(net: KerasNetwork, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        x = elementwise.cast(net, tensor(net, x), "bool")
        return reduce(net, x, mode, dims_of(net, x, axis), keepdims)

    return found


def place_of(mode: str) -> Callable[..., Any]:
    """The first place of the largest or smallest number."""

    def found(net: KerasNetwork, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        x = tensor(net, x)
        dims = dims_of(net, x, axis)
        return reduce(net, x, mode, dims, keepdims)

    return found


def var(net: KerasNetwork, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Of the numbers themselves: divided by their count."""
    x = tensor(net, x)
    return variance(net, x, dims_of(net, x, axis), 0.0, keepdims)


def std(net: KerasNetwork, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return elementwise.function(net, var(net, x, axis, keepdims), "sqrt")


def moments(net: KerasNetwork, x: Any, axes: Any, keepdims: bool = False, synchronized: bool = False) -> list[Any]:
    x = tensor(net, x)
    dims = dims_of(net, x, axes)
    return [reduce(net, x, "mean", dims, keepdims), variance(net, x, dims, 0.0, keepdims)]


def average(net: KerasNetwork, x: Any, weights: Any = None, axis: Any = None) -> Any:
    """The mean, of numbers that count as their weights say."""
    x = tensor(net, x)
    dims = dims_of(net, x, axis)
    if weights is None:
        return reduce(net, x, "mean", dims)
    weights = tensor(net, weights)
    if rank_of(net, weights) == 1 and rank_of(net, x) > 1:
        if len(dims) != 1:
            raise net.refuse("weights of one axis need to know which axis")
        for _ in range(rank_of(net, x) - 1 - dims[0]):
            weights = shapes.unsqueeze(net, weights, -1)
    total = reduce(net, elementwise.multiply(net, x, weights), "sum", dims)
    if is_constant(weights) and shape_of(weights) != shape_of(x):
        weights = shapes.expand(net, weights, [1 if isinstance(s, Dim) and i not in dims else s
                                               for i, s in enumerate(shape_of(x))])  # fmt: skip
    count = reduce(net, weights, "sum", dims)
    return elementwise.divide(net, total, count)


def count_nonzero(net: KerasNetwork, x: Any, axis: Any = None) -> Any:
    x = tensor(net, x)
    return reduce(net, elementwise.cast(net, x, "bool"), "sum", dims_of(net, x, axis))


def peak_to_peak(net: KerasNetwork, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    x = tensor(net, x)
    dims = dims_of(net, x, axis)
    return elementwise.subtract(net, *(reduce(net, x, mode, dims, keepdims) for mode in ("max", "min")))


def without_nan(mode: str) -> Callable[..., Any]:
    """Of those numbers that are not NaN."""
    neutral = {"sum": 0.0, "prod": 1.0, "max": -math.inf, "min": math.inf}

    def found(net: KerasNetwork, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        x = tensor(net, x)
        dims = dims_of(net, x, axis)
        is_nan = elementwise.function(net, x, "isnan")
        if mode in neutral:
            y = reduce(net, elementwise.where(net, is_nan, neutral[mode], x), mode, dims, keepdims)
            if mode in ("sum", "prod"):
                return y
            # of NaN alone it is NaN: infinity less itself
            return elementwise.where(
                net, reduce(net, is_nan, "all", dims, keepdims), elementwise.subtract(net, y, y), y
            )
        kept = elementwise.function(net, is_nan, "logical_not")
        count = reduce(net, kept, "sum", dims, True)
        total = reduce(net, elementwise.where(net, is_nan, 0.0, x), "sum", dims, True)
        mean = elementwise.divide(net, total, count)
        if mode != "mean":
            away = elementwise.where(net, is_nan, 0.0, elementwise.subtract(net, x, mean))
            squares = reduce(net, elementwise.power(net, away, 2), "sum", dims, True)
            mean = elementwise.divide(net, squares, count)
            mean = elementwise.function(net, mean, "sqrt") if mode == "std" else mean
        return mean if keepdims else shapes.squeeze(net, mean, dims)

    return found


def vector_norm(net: KerasNetwork, x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Of vectors along one axis, or of matrices in two."""
    x = tensor(net, x)
    dims = dims_of(net, x, axis)
    ord = {"inf": math.inf, "-inf": -math.inf}.get(ord, ord) if isinstance(ord, str) else ord
    if len(dims) == 1 or ord is None or (ord == "fro" and len(dims) == 2):
        if isinstance(ord, str) and ord != "fro":
            raise net.refuse(f"option ord={ord!r:.40} is not supported")
        p = 2.0 if ord in (None, "fro") else float(ord)
        x = cast(net, x, "float32") if dtype_of(x) != "float" else x
        return norm(net, x, p, dims, keepdims)
    if len(dims) != 2 or ord not in (1, -1, math.inf, -math.inf):
        raise net.refuse(f"option ord={ord!r:.40} of matrices is not supported; None, 'fro', 1, -1 and infinity are")
    inside, outside = dims if abs(ord) == 1 else dims[::-1]
    y = reduce(net, elementwise.function(net, x, "abs"), "sum", inside, True)
    y = reduce(net, y, "max" if ord > 0 else "min", outside, True)
    return y if keepdims else shapes.squeeze(net, y, dims)


def normalize(net: KerasNetwork, x: Any, axis: Any = -1, order: Any = 2, epsilon: Any = None) -> Any:
    """x / |x|, of which at least epsilon is taken."""
    x, smallest = tensor(net, x), 1e-7 if epsilon is None else float(epsilon)
    dims = dims_of(net, x, axis)
    if order == 2:
        squares = reduce(net, elementwise.power(net, x, 2), "sum", dims, True)
        inverse = elementwise.clip(net, elementwise.function(net, squares, "rsqrt"), None, 1.0 / smallest)
        return elementwise.multiply(net, x, inverse)
    size = norm(net, x, float(order), dims, True)
    return elementwise.divide(net, x, elementwise.clip(net, size, smallest, None))


def logsumexp(net: KerasNetwork, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    x = tensor(net, x)
    return reduce(net, x, "logsumexp", dims_of(net, x, axis), keepdims)


def running(mode: str, neutral: float | None = None) -> Callable[..., Any]:
    """Sums or products up to each place; where `neutral` is given, NaN counts as that."""

    def found(net: KerasNetwork, x: Any, axis: Any = None, dtype: Any = None) -> Any:
        x = tensor(net, x)
        if axis is None:
            raise net.refuse(f"without an axis it {MIXES}")
        x = x if dtype is None else cast(net, x, dtype)
        if neutral is not None:
            x = elementwise.where(net, elementwise.function(net, x, "isnan"), neutral, x)
        return cumulate(net, x, mode, inner_axis(net, x, axis))

    return found


def difference(net: KerasNetwork, a: Any, n: int = 1, axis: Any = -1) -> Any:
    """Of neighbours along an axis, n times."""
    x = tensor(net, a)
    place = inner_axis(net, x, axis)
    if not 0 <= n <= 64:
        raise net.refuse(f"option n expected 0 to 64, found {n!r:.40}")
    for _ in range(n):
        later, earlier = parts.slice_axis(net, x, place, 1, None), parts.slice_axis(net, x, place, 0, -1)
        mode = "not_equal" if dtype_of(x) == "bool" else "sub"
        x = elementwise.binary(net, mode, later, earlier)
    return x


def trapezoid(net: KerasNetwork, y: Any, x: Any = None, dx: float = 1.0, axis: Any = -1) -> Any:
    """The integral by trapezoids."""
    values = tensor(net, y)
    place = inner_axis(net, values, axis)
    later, earlier = parts.slice_axis(net, values, place, 1, None), parts.slice_axis(net, values, place, 0, -1)
    middle = elementwise.multiply(net, elementwise.add(net, later, earlier), 0.5)
    if x is None:
        return reduce(net, elementwise.multiply(net, middle, dx), "sum", place)
    at = tensor(net, x)
    if not is_constant(at) or np.ndim(at) != 1:
        raise net.refuse("an integral over computed places is not supported")
    widths = np.diff(np.asarray(at)).reshape([-1 if i == place else 1 for i in range(rank_of(net, values))])
    return reduce(net, elementwise.multiply(net, middle, widths), "sum", place)


def _sorted(net: KerasNetwork, x: Any, axis: Any) -> tuple[Any, Any, int, int]:
    """In ascending order, the places they had, the axis and its size."""
    place = inner_axis(net, x, axis)
    size = shape_of(x)[place]
    if not isinstance(size, int):
        raise net.needs_time("an order of the steps")
    if is_constant(x):
        array = np.asarray(x)
        return np.sort(array, place), np.argsort(array, place, kind="stable"), place, size
    values, places = top(net, x, size, place, False)
    return values, places, place, size


def sort(net: KerasNetwork, x: Any, axis: Any = -1) -> Any:
    return _sorted(net, tensor(net, x), axis)[0]


def argsort(net: KerasNetwork, x: Any, axis: Any = -1) -> Any:
    if axis is None:
        raise net.refuse(f"without an axis it {MIXES}")
    return _sorted(net, tensor(net, x), axis)[1]


def top_k(net: KerasNetwork, x: Any, k: int, sorted: bool = True) -> list[Any]:
    x = tensor(net, x)
    inner_axis(net, x, -1)
    return list(top(net, x, k, -1))


def in_top_k(net: KerasNetwork, targets: Any, predictions: Any, k: int) -> Any:
    """Whether fewer than k numbers of a row are larger than the one that its target names."""
    targets, x = tensor(net, targets), tensor(net, predictions)
    size = shape_of(x)[-1]
    if not isinstance(size, int):
        raise net.needs_time("a choice of the steps")
    chosen = elementwise.binary(net, "equal", shapes.unsqueeze(net, targets, -1), np.arange(size))
    own = reduce(net, elementwise.where(net, chosen, x, 0.0), "sum", -1, True)
    larger = reduce(net, elementwise.binary(net, "greater", x, own), "sum", -1)
    return elementwise.binary(net, "less", larger, k)


def quantile(
    net: KerasNetwork, x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False
) -> Any:
    """Between the numbers in order, as NumPy's methods say. Several `q` are a new first axis."""
    x, fractions = tensor(net, x), tensor(net, q)
    if not is_constant(fractions) or np.ndim(fractions) > 1 or method not in _METHODS:
        raise net.refuse(f"quantiles that are computed, or with the method {method!r:.40}, are not supported")
    dims = dims_of(net, x, axis)
    if len(dims) != 1:
        raise net.refuse("quantiles over several axes are not supported")
    ordered, _, place, size = _sorted(net, x, dims[0])
    found = []
    for fraction in np.atleast_1d(fractions).astype(float):
        at = _METHODS[method](fraction * (size - 1))
        low = math.floor(at)
        part = at - low
        y = parts.slice_axis(net, ordered, place, low, low + 1)
        if part:
            above = parts.slice_axis(net, ordered, place, low + 1, low + 2)
            y = elementwise.add(net, y, elementwise.multiply(net, elementwise.subtract(net, above, y), part))
        found.append(y if keepdims else shapes.squeeze(net, y, place))
    return found[0] if np.ndim(fractions) == 0 else parts.stack(net, found, 0)


_METHODS: Mapping[str, Callable[[float], float]] = {
    "linear": lambda at: at,
    "lower": math.floor,
    "higher": math.ceil,
    "nearest": round,
    "midpoint": lambda at: (math.floor(at) + math.ceil(at)) / 2,
}


def percentile(
    net: KerasNetwork, x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False
) -> Any:
    fractions = tensor(net, q)
    if not is_constant(fractions):
        raise net.refuse("percentiles that are computed are not supported")
    return quantile(net, x, np.asarray(fractions, np.float64) / 100.0, axis, method, keepdims)


def model_quantile(
    net: KerasNetwork, x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False
) -> Any:
    """As in a model of Keras, which takes the linear method whatever the config says."""
    if method != "linear":
        raise net.refuse(f"option method={method!r:.40}, in place of which Keras computes 'linear', is not supported")
    return quantile(net, x, q, axis, method, keepdims)


def median(net: KerasNetwork, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return quantile(net, x, 0.5, axis, "linear", keepdims)


#: name of the class -> function
AXES: Mapping[str, Callable[..., Any]] = {
    "Sum": reduction("sum"),
    "Mean": reduction("mean"),
    "Prod": reduction("prod"),
    "Max": extreme("max"),
    "Min": extreme("min"),
    "Amax": extreme("max"),
    "Amin": extreme("min"),
    "Any": truth("any"),
    "All": truth("all"),
    "Argmax": place_of("argmax"),
    "Argmin": place_of("argmin"),
    "Var": var,
    "Std": std,
    "Moments": moments,
    "Average": average,
    "CountNonzero": count_nonzero,
    "Ptp": peak_to_peak,
    "Norm": vector_norm,
    "Normalize": normalize,
    "Logsumexp": logsumexp,
    "Cumsum": running("sum"),
    "Cumprod": running("prod"),
    "Nancumsum": running("sum", 0.0),
    "Nancumprod": running("prod", 1.0),
    "Nansum": without_nan("sum"),
    "Nanprod": without_nan("prod"),
    "Nanmax": without_nan("max"),
    "Nanmin": without_nan("min"),
    "Nanmean": without_nan("mean"),
    "Nanvar": without_nan("var"),
    "Nanstd": without_nan("std"),
    "Diff": difference,
    "Trapezoid": trapezoid,
    "Sort": sort,
    "Argsort": argsort,
    "TopK": top_k,
    "InTopK": in_top_k,
    "Quantile": model_quantile,
    "Percentile": percentile,
    "Median": median,
}
