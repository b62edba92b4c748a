"""Operations element by element: arithmetic, comparisons, logic, choices and functions of one number.

Each takes tensors, constants and numbers, matched as NumPy does. What depends on constants alone is computed by NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cylstm.graph.activations import activation_options
from cylstm.program.network import Network
from cylstm.program.tensor import (
    BATCH,
    BATCH_SIZE,
    Constant,
    Dim,
    DType,
    Tensor,
    constant,
    dtype_of,
    is_constant,
    shape_of,
)

#: mode of the merge layer -> NumPy's function
_OF_TWO: Mapping[str, Callable[..., Any]] = {
    "sum": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.true_divide,
    "pow": np.power,
    "mod": np.mod,
    "fmod": np.fmod,
    "floor_div": np.floor_divide,
    "max": np.maximum,
    "min": np.minimum,
    "atan2": np.arctan2,
    "hypot": np.hypot,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
}
_TRUTHS = frozenset(
    ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "and", "or", "xor")
)  # fmt: skip
_NEEDS_FLOAT = frozenset(("div", "atan2", "hypot"))


def fold(net: Network, function: Callable[..., Any], *found: Any) -> Any:
    """A function of NumPy's of constants, repeated over sizes that are not known."""
    shapes = [shape_of(one) for one in found]
    shape = broadcast_shapes(net, shapes)
    arrays = [one.array if isinstance(one, Constant) else one for one in found]
    rank = len(shape)
    widened = [np.asarray(a).reshape((1,) * (rank - np.ndim(a)) + np.shape(a)) if rank else np.asarray(a)
               for a in arrays]  # fmt: skip
    arrays = [w.astype(net.dtype) if w.dtype == np.float64 and np.ndim(a) else w for a, w in zip(arrays, widened)]
    with np.errstate(all="ignore"):
        result = function(*arrays)
    if not rank and all(isinstance(one, (bool, int, float)) for one in found):
        return result.item() if isinstance(result, (np.generic, np.ndarray)) else result
    return constant(result, shape)


def broadcast_shapes(net: Network, shapes: Sequence[Sequence[Any]]) -> list[Any]:
    """The shape of what these shapes are repeated to."""
    rank = max(map(len, shapes), default=0)
    found: list[Any] = [1] * rank
    for shape in shapes:
        for i, size in enumerate(shape, rank - len(shape)):
            if size == 1:
                continue
            if found[i] not in (1, size):
                raise net.refuse(f"shapes {' and '.join(str(tuple(shape)) for shape in shapes)} do not match")
            found[i] = size
    return found


def _operands(net: Network, *found: Any) -> list[Tensor]:
    """Tensors, and constants as tensors."""
    tensors = [None if is_constant(one) else net.tensor(one) for one in found]
    computed = [one for one in tensors if one is not None]
    return [
        net.constant(_of_any_batch(net, one, computed), is_repeated=False) if tensor is None else tensor
        for one, tensor in zip(found, tensors)
    ]


def _of_any_batch(net: Network, constant: Any, tensors: Sequence[Tensor]) -> Any:
    """A constant of rows that are alike, as many as the example's batch has, beside a batch: as one row."""
    if not isinstance(constant, np.ndarray) or not net.examples:
        return constant
    for tensor in tensors:
        axis = tensor.batch - tensor.ndim
        if tensor.batch < 0 or -axis > constant.ndim or tensor.axes[axis] != BATCH:
            continue
        if (constant.shape[axis],) * len(net.examples) == net.numbers(BATCH_SIZE):
            row = np.take(constant, [0], axis)
            return row if np.array_equal(np.broadcast_to(row, constant.shape), constant) else constant
    return constant


def joined_dtype(*found: Any) -> DType:
    """The type of the result of arithmetic."""
    return max((dtype_of(one) for one in found), key=("bool", "int", "float").index)


def binary(net: Network, mode: str, a: Any, b: Any) -> Any:
    """A mode of the merge layer, of two operands."""
    if isinstance(a, Dim) or isinstance(b, Dim):
        return _of_sizes(net, mode, a, b)
    keeps = mode in _TRUTHS or mode in ("max", "min")
    if is_constant(a) and is_constant(b):
        return fold(net, _OF_TWO[mode], *((a, b) if keeps else (_as_number(net, a), _as_number(net, b))))
    dtype: DType = "bool" if mode in _TRUTHS else "float" if mode in _NEEDS_FLOAT else joined_dtype(a, b)
    dtype = "int" if dtype == "bool" and not keeps else dtype
    return _spread(net, net.merge(mode, _operands(net, a, b), dtype=dtype), a, b)


def _as_number(net: Network, found: Any) -> Any:
    """A constant that holds no truths, of which NumPy computes in half precision."""
    return cast(net, found, "int") if dtype_of(found) == "bool" else found


def _spread(net: Network, result: Tensor, *found: Any) -> Tensor:
    """`result` repeated over the sizes that only constants among the operands have, which are not stored."""
    rank = result.ndim
    for one in found:
        if isinstance(one, Constant):
            for i, size in enumerate(one.shape, rank - one.ndim):
                if size != 1 and result.size(i) == 1:
                    from cylstm.program.operations.shape import repeated

                    result = repeated(net, result, i, size)
    return result


def _of_sizes(net: Network, mode: str, a: Any, b: Any) -> Any:
    """Arithmetic with a size that is not known; with a tensor, that of a time becomes a number of each call."""
    if isinstance(a, (Dim, int)) and isinstance(b, (Dim, int)):
        if mode == "mul":
            return a * b
        if mode == "sum":
            return a + b if isinstance(a, Dim) else b + a
        if mode == "sub" and isinstance(a, Dim):
            return a - b
        if mode == "floor_div" and isinstance(a, Dim):
            return a // b
        if mode == "div" and isinstance(a, Dim) and isinstance(b, (int, Dim)) and a.count % (
            b if isinstance(b, int) else b.count) == 0:  # fmt: skip
            return a // b
        if mode in ("equal", "not_equal") and a != b and not (isinstance(a, Dim) and isinstance(b, Dim)):
            raise net.needs_time("a comparison of a size")
    return binary(net, mode, *(length(net, one) if isinstance(one, Dim) else one for one in (a, b)))


def length(net: Network, size: Dim) -> Tensor:
    """The number of steps of a time, computed: the last position and one."""
    if size == BATCH_SIZE or size.axis is None:
        raise net.refuse(f"computes with the size {size!r}, which depends on the number of rows")
    last = net.add_layer("last", net.positions(size.axis, 1.0).value, part="length")
    return Tensor(last, (), "int")


def add(net: Network, a: Any, b: Any, alpha: Any = 1) -> Any:
    """a + alpha b; of truths, whether one of them is true."""
    if dtype_of(a) == dtype_of(b) == "bool":
        return binary(net, "or", a, b)
    if alpha != 1:
        b = multiply(net, b, alpha)
    if _is_affine(a, b):
        return net.affine(net.tensor(a), 1.0, b).of(joined_dtype(a, b))
    if _is_affine(b, a):
        return net.affine(net.tensor(b), 1.0, a).of(joined_dtype(a, b))
    for one, other in ((a, b), (b, a)):
        if _is_all(0.0, other, one):
            return one
    return binary(net, "sum", a, b)


def subtract(net: Network, a: Any, b: Any, alpha: Any = 1) -> Any:
    """a - alpha b."""
    if alpha != 1:
        b = multiply(net, b, alpha)
    if _is_affine(a, b):
        return net.affine(net.tensor(a), 1.0, -np.asarray(b, np.float64)).of(joined_dtype(a, b))
    if _is_affine(b, a):
        return net.affine(net.tensor(b), -1.0, a).of(joined_dtype(a, b))
    return binary(net, "sub", a, b)


def multiply(net: Network, a: Any, b: Any) -> Any:
    """a b; of two truths whether both are true."""
    if dtype_of(a) == dtype_of(b) == "bool":
        return binary(net, "and", a, b)
    if isinstance(a, (Dim, int)) and isinstance(b, (Dim, int)) and not isinstance(a, bool):
        return a * b
    if _is_affine(a, b):
        return net.affine(net.tensor(a), b, 0.0).of(joined_dtype(a, b))
    if _is_affine(b, a):
        return net.affine(net.tensor(b), a, 0.0).of(joined_dtype(a, b))
    for one, other in ((a, b), (b, a)):
        if _is_all(1.0, other, one):
            return one
    return binary(net, "mul", a, b)


def _is_all(number: float, constant: Any, tensor: Any) -> bool:
    """Whether a constant over sizes that are not known is one number, and a tensor keeps its shape beside it."""
    if not isinstance(constant, Constant) or not isinstance(tensor, Tensor):
        return False
    if joined_dtype(constant, tensor) != tensor.dtype or (constant.array != number).any():
        return False
    own = tensor.shape[tensor.ndim - constant.ndim :] if constant.ndim <= tensor.ndim else ()
    return len(own) == constant.ndim and all(size in (1, mine) for size, mine in zip(constant.shape, own))


def _is_affine(tensor: Any, number: Any) -> bool:
    """Whether a constant is one that `Network.affine` takes: finite numbers, one or along one axis."""
    if is_constant(tensor) or isinstance(tensor, Dim) or not is_constant(number) or isinstance(number, Constant):
        return False
    array = np.asarray(number)
    return bool(
        array.size >= 1
        and array.ndim <= len(shape_of(tensor))
        and sum(size > 1 for size in array.shape) <= 1
        and np.isfinite(array).all()
    )


def divide(net: Network, a: Any, b: Any) -> Any:
    """a / b."""
    if _is_affine(a, b) and np.size(b) == 1 and float(np.asarray(b).reshape(-1)[0]) != 0.0:
        number = float(np.asarray(b).reshape(-1)[0])
        if math.frexp(number)[0] in (0.5, -0.5):  # a power of two, whose reciprocal is exact
            return net.affine(net.tensor(a), 1.0 / number, 0.0).of("float")
    return binary(net, "div", a, b)


def floor_divide(net: Network, a: Any, b: Any) -> Any:
    """The largest whole number that is at most a / b."""
    return binary(net, "floor_div", a, b)


def power(net: Network, a: Any, b: Any) -> Any:
    """a to the power of b."""
    if not is_constant(a) and is_constant(b) and np.size(b) == 1 and not isinstance(b, Constant):
        number = float(np.asarray(b).reshape(-1)[0])
        if number == 1:
            return a
        if number in (2, 3):
            x = net.tensor(a)
            return net.merge("mul", [x] * int(number), dtype=joined_dtype(x, b))
        if number == 0.5:
            return function(net, a, "sqrt")
        if number == -1:
            return function(net, a, "reciprocal")
        if number == -0.5:
            return function(net, a, "rsqrt")
    return binary(net, "pow", a, b)


def where(net: Network, condition: Any, a: Any, b: Any) -> Any:
    """a where the condition is true, else b."""
    if is_constant(condition):
        if not isinstance(condition, Constant) and np.asarray(condition).size:
            truth = np.asarray(condition, bool)
            if truth.all() or not truth.any():
                chosen = a if truth.all() else b
                if not is_constant(chosen) and len(shape_of(chosen)) >= truth.ndim and truth.size == 1:
                    return chosen
        if is_constant(a) and is_constant(b):
            return fold(net, np.where, condition, a, b)
    operands = _operands(net, condition, a, b)
    result = net.elementwise("where", operands, {}, roles=("condition", "x", "x1"), dtype=joined_dtype(a, b))
    return _spread(net, result, condition, a, b)


def clip(net: Network, x: Any, low: Any = None, high: Any = None) -> Any:
    """x, at least `low` and at most `high`."""
    numbers = [one for one in (low, high) if one is not None]
    if all(is_constant(one) for one in (x, *numbers)):
        x = x if low is None else binary(net, "max", x, low)
        return x if high is None else binary(net, "min", x, high)
    numbers = [one for one in numbers if isinstance(one, (int, float)) and not isinstance(one, bool)]
    if len(numbers) == 2 and all(map(math.isfinite, numbers)) and low <= high:
        return activation(net, x, "clip", float(low), float(high)).of(joined_dtype(x, low, high))
    if numbers == [0] and high is None:
        return activation(net, x, "relu").of(joined_dtype(x, low))
    if low is not None:
        x = binary(net, "max", x, low)
    return x if high is None else binary(net, "min", x, high)


def _one_by_one(function: Callable[[float], float]) -> Callable[[Any], np.ndarray]:
    """A function of Python's of many numbers, a block at a time: each takes a hundred bytes meanwhile."""
    of_block = np.vectorize(function, otypes=[np.float64])

    def of_array(x: Any) -> np.ndarray:
        given = np.asarray(x, np.float64)
        found = np.empty(given.shape)
        numbers, results = given.reshape(-1), found.reshape(-1)
        for start in range(0, given.size, _BLOCK):
            results[start : start + _BLOCK] = of_block(numbers[start : start + _BLOCK])
        return found

    return of_array


_BLOCK = 1 << 16

#: name of the function layer -> NumPy's function
_OF_ONE: Mapping[str, Callable[..., Any]] = {
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "square": np.square,
    "reciprocal": lambda x: 1.0 / x,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "cbrt": np.cbrt,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
    "trunc": np.trunc,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "erf": _one_by_one(math.erf),
    "erfc": _one_by_one(math.erfc),
    "logical_not": np.logical_not,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
}
_OF_ONE_TRUTHS = frozenset(("logical_not", "isnan", "isinf", "isfinite"))
#: those of a whole number that are whole numbers
_WHOLE = frozenset(("neg", "abs", "sign", "square", "floor", "ceil", "round", "trunc"))


def function(net: Network, x: Any, name: str) -> Any:
    """A function of the function layer."""
    if is_constant(x):
        return fold(net, _OF_ONE[name], x if name in _OF_ONE_TRUTHS else _as_number(net, x))
    x = net.tensor(x)
    if name == "neg":
        return net.affine(x, -1.0, 0.0).of(x.dtype)
    if x.dtype != "float" and name in ("floor", "ceil", "round", "trunc"):
        return x
    value = net.add_layer("function", x.value, options={"function": name})
    dtype: DType = "bool" if name in _OF_ONE_TRUTHS else "float" if name not in _WHOLE else x.dtype
    return Tensor(value, x.axes, "int" if dtype == "bool" and name in _WHOLE and name != "sign" else dtype)


def functions() -> Sequence[str]:
    """The names that `function` takes."""
    return tuple(_OF_ONE)


def cast(net: Network, x: Any, dtype: DType) -> Any:
    """The numbers as another type: to whole numbers rounded towards zero, to truths as unlike zero."""
    if isinstance(x, Dim):
        return x
    if is_constant(x):
        target = {"float": net.dtype, "int": np.dtype(np.int64), "bool": np.dtype(bool)}[dtype]
        if dtype_of(x) == dtype:
            return x
        return fold(net, lambda array: np.asarray(array).astype(target), x)
    if isinstance(x, Tensor) and (x.dtype == dtype or x.value.kind == "index"):
        return x
    found = dtype_of(x)
    if dtype == "bool" and found != "bool":
        return binary(net, "not_equal", x, 0)
    if dtype == "int" and found == "float":
        return function(net, x, "trunc").of("int")
    return net.tensor(x).of(dtype)


def activation(net: Network, x: Any, name: str, alpha: float | None = None, beta: float | None = None) -> Any:
    options = activation_options("activation", name, alpha, beta, where=f"layer {net.name!r}")
    if is_constant(x):
        folded = _FOLDED[name](float(options["activation_alpha"]), float(options["activation_beta"]))
        return fold(net, folded, _as_number(net, x))
    x = net.tensor(x)
    dtype: DType = x.dtype if name in ("relu", "linear") else "float"
    return Tensor(net.add_layer("activation", x.value, options=options, part=""), x.axes, dtype)


def _sigmoid(x: np.ndarray) -> Any:
    return np.where(x >= 0, 1.0 / (1.0 + np.exp(-np.abs(x))), 1.0 - 1.0 / (1.0 + np.exp(-np.abs(x))))


_ERF = _one_by_one(math.erf)

#: name -> alpha, beta -> NumPy's function of a constant
_FOLDED: Mapping[str, Callable[[float, float], Callable[[np.ndarray], np.ndarray]]] = {
    "linear": lambda a, b: lambda x: x,
    "tanh": lambda a, b: np.tanh,
    "sigmoid": lambda a, b: _sigmoid,
    "relu": lambda a, b: lambda x: np.maximum(x, 0),
    "leaky_relu": lambda a, b: lambda x: np.where(x > 0, x, a * x),
    "elu": lambda a, b: lambda x: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))),
    "selu": lambda a, b: (
        lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
    ),
    "softplus": lambda a, b: lambda x: np.logaddexp(x, 0),
    "softsign": lambda a, b: lambda x: x / (1 + np.abs(x)),
    "silu": lambda a, b: lambda x: x * _sigmoid(x),
    "gelu": lambda a, b: lambda x: 0.5 * x * (1 + _ERF(x / math.sqrt(2))),
    "gelu_tanh": lambda a, b: lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "exponential": lambda a, b: np.exp,
    "hard_sigmoid": lambda a, b: lambda x: np.clip(a * x + b, 0, 1),
    "clip": lambda a, b: lambda x: np.clip(x, a, b),
}
