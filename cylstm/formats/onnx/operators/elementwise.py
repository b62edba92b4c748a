"""ONNX's operators element by element: arithmetic, comparisons, logic, choices, casts and functions of one number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cylstm.formats.onnx import rows
from cylstm.formats.onnx.call import Call
from cylstm.formats.onnx.folding import (
    computed,
    folded,
    is_array,
    is_number,
    is_scores,
    is_sizes,
    number,
    operand,
    shape,
    size_array,
    unknown,
)
from cylstm.formats.onnx.model import NUMPY_TYPES, type_name
from cylstm.program.network import MIXES, Network
from cylstm.program.operations import activations
from cylstm.program.operations import elementwise as ops
from cylstm.program.operations.attention import masked, scaled
from cylstm.program.operations.elementwise import activation
from cylstm.program.tensor import Dim, DType, Tensor, dtype_of

Function = Callable[..., Any]


def of_one(function: Function, dtype: Any = None) -> Callable[[Call], Any]:
    """An operator of one input; `dtype` is that of the result if it is not the input's."""

    def operator(call: Call) -> Any:
        x = call.required(0)
        if is_sizes(x):
            raise unknown(call, "this operator of a size", x)
        return folded(call, function, x, dtype=dtype) if is_array(x) else function(call.net, x)

    return operator


def of_function(name: str, dtype: Any = None) -> Callable[[Call], Any]:
    return of_one(lambda net, x: ops.function(net, x, name), dtype)


def activated(name: str, **given: float) -> Callable[[Call], Any]:
    """An activation; `given` has its attributes in order, with their defaults."""

    def operator(call: Call) -> Any:
        values = [float(call.attribute(attribute, default)) for attribute, default in given.items()]
        return of_one(lambda net, x: activation(net, x, name, *values))(call)

    return operator


def with_attributes(function: Function, **given: Any) -> Callable[[Call], Any]:
    """An operator of one input and of attributes, whose defaults are `given`."""

    def operator(call: Call) -> Any:
        values = {name: call.attribute(name, default) for name, default in given.items()}
        return of_one(lambda net, x: function(net, x, **values))(call)

    return operator


# Arithmetic, also of sizes


def of_two(function: Function, of_sizes: Function | None = None, dtype: Any = None) -> Callable[[Call], Any]:
    """An operator of two inputs; `of_sizes` is the same of two sizes or whole numbers."""
    return lambda call: applied(call, call.required(0), call.required(1), function, of_sizes, dtype)


def applied(call: Call, a: Any, b: Any, function: Function, of_sizes: Function | None, dtype: Any = None) -> Any:
    """A function of two inputs, each a constant, sizes or what the network computes."""
    if is_array(a) and is_array(b):
        if is_sizes(a) or is_sizes(b):
            return sized(call, of_sizes, a, b, dtype)
        return folded(call, function, a, b, dtype=dtype)
    return function(call.net, operand(call, a), operand(call, b))


def sized(call: Call, function: Function | None, a: np.ndarray, b: np.ndarray, dtype: Any = None) -> np.ndarray:
    """A function of two arrays of sizes."""
    if function is None or a.dtype.kind == "f" or b.dtype.kind == "f":
        raise unknown(call, "arithmetic with a size", a, b)
    try:
        found = np.frompyfunc(function, 2, 1)(a.astype(object), b.astype(object))
    except TypeError:
        raise unknown(call, "arithmetic with a size", a, b) from None
    found = size_array(found)
    if any(isinstance(one, Dim) and one.count < 0 for one in found.reshape(-1)):
        raise unknown(call, "a place counted from the end by a size", a, b)
    return found if dtype is None else found.astype(dtype)


def quotient(a: Any, b: Any) -> Any:
    """a / b, rounded towards 0."""
    if isinstance(a, int) and isinstance(b, int):
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return a // b


def rest(a: Any, b: Any) -> Any:
    """a modulo b, where that is the same for all sizes."""
    if isinstance(a, Dim) and isinstance(b, int) and b > 0 and a.count % b == 0:
        return 0
    if isinstance(a, Dim) or isinstance(b, Dim):
        raise TypeError
    return a % b


def is_equal(a: Any, b: Any) -> bool:
    """Whether two sizes are equal; a size that is no number is at least 1."""
    if a == b:
        return True
    if isinstance(a, Dim) or isinstance(b, Dim):
        other = b if isinstance(a, Dim) else a
        if isinstance(other, Dim) or other > 0:
            raise TypeError
    return False


def is_less(a: Any, b: Any) -> bool:
    """Whether a size is less than another, where that is known."""
    if isinstance(a, Dim) and isinstance(b, int) and b <= 1:
        return False
    if isinstance(a, int) and isinstance(b, Dim) and a < 1:
        return True
    if a == b:
        return False
    return bool(a < b)  # of a size and a number it is not known: a TypeError


def larger(a: Any, b: Any) -> Any:
    return b if is_less(a, b) else a


def smaller(a: Any, b: Any) -> Any:
    return a if is_less(a, b) else b


def add(call: Call) -> Any:
    a, b = call.required(0), call.required(1)
    if rows.are_rows(a, b):
        return rows.added(call, a, b)
    for scores, mask in ((a, b), (b, a)):
        if is_scores(scores):
            found = masked(call.net, scores, operand(call, mask))
            if found is not None:
                return found
    return applied(call, a, b, ops.add, lambda x, y: x + y)


def multiply(call: Call) -> Any:
    a, b = call.required(0), call.required(1)
    if rows.are_rows(a, b):
        return rows.multiplied(call, a, b)
    for scores, factor in ((a, b), (b, a)):
        if is_scores(scores) and not scores.is_softmax and not scores.causal and is_number(factor):
            return scaled(scores, number(factor))
    return applied(call, a, b, ops.multiply, lambda x, y: x * y)


def divide(call: Call) -> Any:
    a, b = call.required(0), call.required(1)
    if is_scores(a) and not a.is_softmax and not a.causal and is_number(b):
        return scaled(a, 1.0 / number(b))
    if is_array(a) and is_array(b) and a.dtype.kind in "iu":
        if (b == 0).any():
            raise call.refuse("a division of whole numbers by 0")
        with np.errstate(all="ignore"):
            found = a // b
            return np.asarray(found + ((found < 0) & (found * b != a)), a.dtype)
    return applied(call, a, b, _quotient_of_tensors, quotient)


def _quotient_of_tensors(net: Network, a: Any, b: Any) -> Any:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return ops.divide(net, a, b)
    found = ops.divide(net, a, b)
    whole = dtype_of(a) == "int" and dtype_of(b) == "int"
    return ops.function(net, found, "trunc").of("int") if whole else found


def modulo(call: Call) -> Any:
    mode = "fmod" if call.attribute("fmod", 0) else "mod"
    a, b = call.required(0), call.required(1)
    if call.opset < 28 and mode == "mod" and "float" in (dtype_of(a), dtype_of(b)) and not (is_sizes(a) or is_sizes(b)):
        raise call.refuse("Mod of floating-point numbers expected the attribute fmod=1")
    if is_array(b) and b.dtype.kind in "iu" and (b == 0).any():
        raise call.refuse("a division of whole numbers by 0")
    return applied(call, a, b, lambda net, x, y: ops.binary(net, mode, x, y), rest if mode == "mod" else None)


def power(call: Call) -> Any:
    a, b = call.required(0), call.required(1)
    if is_array(a) and is_array(b) and not (is_sizes(a) or is_sizes(b)):
        if a.dtype.kind in "iu" and (b.dtype.kind in "iu" and (b >= 0).all()):
            return np.asarray(np.power(a, b.astype(a.dtype)), a.dtype)
        return folded(call, lambda net, x, y: np.power(x.astype(np.float64), y.astype(np.float64)), a, b)

    def function(net: Network, x: Any, y: Any) -> Any:
        found = ops.power(net, x, y)
        if dtype_of(x) != "int":
            return found.of("float") if isinstance(found, Tensor) else found
        return ops.function(net, found, "trunc").of("int") if dtype_of(found) == "float" else found

    return applied(call, a, b, function, None)


def binary(mode: str) -> Function:
    return lambda net, a, b: ops.binary(net, mode, a, b)


def compared(mode: str, of_sizes: Function) -> Callable[[Call], Any]:
    return of_two(binary(mode), of_sizes, bool)


def of_many(function: Function, of_sizes: Function | None, finish: Function | None = None) -> Callable[[Call], Any]:
    """An operator of any number of inputs, taken in turn; `finish` takes the network, the result and their number."""

    def operator(call: Call) -> Any:
        found, *others = call.inputs
        if not is_array(found) and not others:
            return found
        if all(is_array(one) and not is_sizes(one) for one in call.inputs):
            return folded(call, lambda net, *xs: _in_turn(net, xs, function, finish), *call.inputs)
        for other in others:
            found = applied(call, found, other, function, of_sizes)
        return found if finish is None else finish(call.net, found, len(call.inputs))

    return operator


def _in_turn(net: Network, xs: Any, function: Function, finish: Function | None) -> Any:
    found = xs[0]
    for x in xs[1:]:
        found = function(net, found, x)
    return found if finish is None else finish(net, found, len(xs))


def bits(function: Callable[..., Any]) -> Callable[[Call], Any]:
    """An operator on the bits of whole numbers, of constants alone."""

    def operator(call: Call) -> Any:
        if not all(is_array(one) and one.dtype.kind in "iu" for one in call.inputs):
            raise call.refuse("the bits of whole numbers that the network computes are not supported")
        return np.asarray(function(*call.inputs), call.inputs[0].dtype)

    return operator


def shift_bits(call: Call) -> Any:
    direction = call.attribute("direction", "")
    if direction not in ("LEFT", "RIGHT"):
        raise call.refuse(f"direction expected 'LEFT' or 'RIGHT', found {direction!r}")
    return bits(np.left_shift if direction == "LEFT" else np.right_shift)(call)


# Choices, limits, types


def where(call: Call) -> Any:
    condition, a, b = call.required(0), call.required(1), call.required(2)
    if is_array(condition) and is_array(a) and is_array(b):
        if a.dtype == object or b.dtype == object:
            return size_array(np.where(condition, a, b))
        return folded(call, lambda net, c, x, y: np.where(c, x, y), condition, a, b, dtype=a.dtype)
    for scores, value, is_masked in ((b, a, condition), (a, b, None)):
        if is_scores(scores) and is_array(condition) and is_number(value) and number(value) <= -1e9:
            mask = condition if is_masked is not None else np.logical_not(condition)
            found = masked(call.net, scores, np.where(mask, number(value), 0.0), is_filled=True)
            if found is not None:
                return found
    return ops.where(call.net, condition, operand(call, a), operand(call, b))


def clip(call: Call) -> Any:
    x = call.required(0)
    if call.opset < 11:
        limits = [call.attribute("min", None), call.attribute("max", None)]
        low, high = (None if one is None else np.asarray(one, np.float64) for one in limits)
    else:
        low, high = call.input(1), call.input(2)
    given = [one for one in (low, high) if one is not None]
    if is_array(x) and all(is_array(one) for one in given):
        if is_sizes(x) or any(map(is_sizes, given)):
            for limit, function in ((low, larger), (high, smaller)):
                x = x if limit is None else sized(call, function, x, limit)
            return x
        found = x if low is None else np.maximum(x, low.astype(x.dtype))
        return np.asarray(found if high is None else np.minimum(found, high.astype(x.dtype)), x.dtype)
    low, high = (_limit(call, one, dtype_of(x)) for one in (low, high))
    return ops.clip(call.net, computed(call, x), low, high)


def _limit(call: Call, found: Any, dtype: DType) -> Any:
    if found is None or not is_number(found):
        return None if found is None else operand(call, found)
    return number(found) if dtype == "float" else int(number(found))


#: types that networks compute in: float16 and bfloat16 as float32
_COMPUTED: Mapping[int, DType] = {1: "float", 6: "int", 7: "int", 9: "bool", 10: "float", 11: "float", 16: "float"}
_FOUR_BITS = (21, 22)


def cast(call: Call) -> Any:
    return cast_to(call, call.required(0), int(call.attribute("to", 0)))


def cast_to(call: Call, x: Any, to: int) -> Any:
    """An input as another of ONNX's types."""
    if rows.are_rows(x):
        if to not in (6, 7):
            raise call.refuse(MIXES)
        return x
    if is_sizes(x):
        if to in (6, 7):
            return x
        if to not in (1, 10, 11, 16):
            raise unknown(call, f"a size as {type_name(to)}", x)
        return operand(call, x).of("float")
    if is_array(x):
        if to not in NUMPY_TYPES or to in _FOUR_BITS:
            raise call.refuse(f"a cast of {x.dtype} to {type_name(to)} is not supported")
        with np.errstate(all="ignore"):
            found = x.astype(np.float16 if to == 10 else NUMPY_TYPES[to]).astype(NUMPY_TYPES[to])
        return as_bfloat16(found) if to == 16 else found
    if to in (3, 5) and dtype_of(x) == "bool":
        return ops.cast(call.net, x, "int")
    if to not in _COMPUTED:
        raise call.refuse(
            f"numbers computed in {type_name(to)} are not supported; float32, float64, int32, int64 "
            "and bool are, and float16 and bfloat16, which are computed in float32"
        )
    return as_kind(call, x, _COMPUTED[to])


def as_kind(call: Call, x: Any, kind: DType) -> Any:
    """What the network computes as another type."""
    if isinstance(x, Tensor) and x.value.kind == "index" and kind != "int":
        x = call.net.tensor(x)
    return ops.cast(call.net, x, kind)


def as_bfloat16(array: np.ndarray) -> np.ndarray:
    """Numbers rounded to bfloat16, of two that are as near to the even one."""
    raw = array.astype(np.float32).view(np.uint32)
    rounded = (raw + np.uint32(0x7FFF) + ((raw >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(array), array, rounded.view(np.float32)).astype(np.float32)


def cast_like(call: Call) -> Any:
    x, like = call.required(0), call.required(1)
    dtype = np.dtype(np.int64) if is_sizes(like) else like.dtype if is_array(like) else None
    if dtype is not None and dtype.itemsize == 1 and dtype.kind != "b":  # numbers of four bits are held in these too
        raise call.refuse(f"a cast to the type of a constant that is held as {dtype} is not supported; use Cast")
    if dtype is None:
        return cast_to(call, x, {"float": 1, "int": 7, "bool": 9}[dtype_of(like)])
    return cast_to(call, x, next(to for to, own in NUMPY_TYPES.items() if own == dtype))


# Functions of one number


def selu(net: Network, x: Any, alpha: float, gamma: float) -> Any:
    return ops.multiply(net, activation(net, x, "elu", float(alpha)), float(gamma))


def shrink(net: Network, x: Any, bias: float, lambd: float) -> Any:
    """x + bias below -lambd, x - bias above lambd, and 0 between them."""
    below, above = ops.binary(net, "less", x, -float(lambd)), ops.binary(net, "greater", x, float(lambd))
    low, high = (x, x) if bias == 0 else (ops.add(net, x, float(bias)), ops.subtract(net, x, float(bias)))
    return ops.where(net, below, low, ops.where(net, above, high, 0.0))


def thresholded(net: Network, x: Any, alpha: float) -> Any:
    return ops.where(net, ops.binary(net, "greater", x, float(alpha)), x, 0.0)


def swish(net: Network, x: Any, alpha: float) -> Any:
    """x sigmoid(alpha x)."""
    if alpha == 1:
        return activation(net, x, "silu")
    return ops.multiply(net, x, activation(net, ops.multiply(net, x, float(alpha)), "sigmoid"))


def is_infinite(net: Network, x: Any, detect_negative: int, detect_positive: int) -> Any:
    if detect_negative and detect_positive:
        return ops.function(net, x, "isinf")
    if not detect_negative and not detect_positive:
        return ops.binary(net, "less", x, x)
    return ops.binary(net, "equal", x, math.inf if detect_positive else -math.inf)


def isinf(call: Call) -> Any:
    values = {name: call.attribute(name, 1) for name in ("detect_negative", "detect_positive")}
    return of_one(lambda net, x: is_infinite(net, x, **values), bool)(call)


def gelu(call: Call) -> Any:
    approximate = call.attribute("approximate", "none")
    if approximate not in ("none", "tanh"):
        raise call.refuse(f"approximate expected 'none' or 'tanh', found {approximate!r}")
    return of_one(lambda net, x: activations.gelu(net, x, approximate))(call)


def biased(name: str) -> Callable[[Call], Any]:
    """An activation of the sum of x and a bias, which may be left out."""

    def operator(call: Call) -> Any:
        x, bias = call.required(0), call.input(1)
        if bias is not None:
            x = applied(call, x, bias, ops.add, None)
        if is_array(x):
            return folded(call, lambda net, one: activation(net, one, name), x)
        return activation(call.net, x, name)

    return operator


def prelu(call: Call) -> Any:
    """x, times the slope where it is below 0; the slope is repeated over x from the last axis on."""
    x, slope = call.required(0), call.required(1)
    if len(shape(call, slope)) > len(shape(call, x)):
        raise call.refuse(f"expected a slope that is repeated over {shape(call, x)}, found {shape(call, slope)}")
    if is_array(x) or not is_array(slope) or sum(size != 1 for size in slope.shape) > 1:
        return applied(call, x, slope, _sloped, None)
    tensor = call.net.tensor(x)
    if slope.size > 1:
        axis = tensor.ndim - slope.ndim + next(i for i, size in enumerate(slope.shape) if size != 1)
        if tensor.size(call.net.axis(tensor, axis)) != slope.size:
            raise call.refuse(f"expected a slope that is repeated over {tensor.shape}, found {slope.shape}")
        tensor = call.net.last(tensor, axis)
    weights = {"slope": call.net.array(slope.reshape(-1))}
    return Tensor(call.net.add_layer("prelu", tensor.value, weights), tensor.axes)


def _sloped(net: Network, x: Any, slope: Any) -> Any:
    return ops.where(net, ops.binary(net, "less", x, 0), ops.multiply(net, x, slope), x)


def inverted(net: Network, x: Any) -> Any:
    return ops.function(net, x, "logical_not")


def mean(net: Network, found: Any, count: int) -> Any:
    return ops.divide(net, found, float(count)) if count > 1 else found


OPERATORS: Mapping[str, Callable[[Call], Any]] = {
    "Add": add,
    "Sub": of_two(ops.subtract, lambda a, b: a - b),
    "Mul": multiply,
    "Div": divide,
    "Mod": modulo,
    "Pow": power,
    "Sum": of_many(ops.add, lambda a, b: a + b),
    "Mean": of_many(ops.add, None, mean),
    "Max": of_many(binary("max"), larger),
    "Min": of_many(binary("min"), smaller),
    "Equal": compared("equal", is_equal),
    "Less": compared("less", is_less),
    "Greater": compared("greater", lambda a, b: is_less(b, a)),
    "LessOrEqual": compared("less_equal", lambda a, b: not is_less(b, a)),
    "GreaterOrEqual": compared("greater_equal", lambda a, b: not is_less(a, b)),
    "And": of_two(binary("and"), None, bool),
    "Or": of_two(binary("or"), None, bool),
    "Xor": of_two(binary("xor"), None, bool),
    "Not": of_one(inverted, bool),
    "BitShift": shift_bits,
    "BitwiseAnd": bits(np.bitwise_and),
    "BitwiseOr": bits(np.bitwise_or),
    "BitwiseXor": bits(np.bitwise_xor),
    "BitwiseNot": bits(np.bitwise_not),
    "Where": where,
    "Clip": clip,
    "Cast": cast,
    "CastLike": cast_like,
    "IsNaN": of_function("isnan", bool),
    "IsInf": isinf,
    **{
        name: of_function(own)
        for name, own in {
            "Neg": "neg", "Abs": "abs", "Sign": "sign", "Reciprocal": "reciprocal", "Sqrt": "sqrt", "Floor": "floor",
            "Ceil": "ceil", "Round": "round", "Log": "log", "Sin": "sin", "Cos": "cos", "Tan": "tan", "Asin": "asin",
            "Acos": "acos", "Atan": "atan", "Sinh": "sinh", "Cosh": "cosh", "Asinh": "asinh", "Acosh": "acosh",
            "Atanh": "atanh", "Erf": "erf",
        }.items()
    },
    "Exp": activated("exponential"),
    "Relu": activated("relu"),
    "Tanh": activated("tanh"),
    "Sigmoid": activated("sigmoid"),
    "Softplus": activated("softplus"),
    "Softsign": activated("softsign"),
    "LeakyRelu": activated("leaky_relu", alpha=0.01),
    "Elu": activated("elu", alpha=1.0),
    "Selu": with_attributes(selu, alpha=1.6732631921768188, gamma=1.0507010221481323),
    "HardSigmoid": activated("hard_sigmoid", alpha=0.2, beta=0.5),
    "HardSwish": of_one(activations.hardswish),
    "Mish": of_one(activations.mish),
    "Celu": with_attributes(activations.celu, alpha=1.0),
    "ThresholdedRelu": with_attributes(thresholded, alpha=1.0),
    "Shrink": with_attributes(shrink, bias=0.0, lambd=0.5),
    "Swish": with_attributes(swish, alpha=1.0),
    "Gelu": gelu,
    "PRelu": prelu,
    "com.microsoft.Gelu": of_one(activations.gelu),
    "com.microsoft.BiasGelu": biased("gelu"),
    "com.microsoft.FastGelu": biased("gelu_tanh"),
    "com.microsoft.QuickGelu": with_attributes(swish, alpha=1.702),
}  # fmt: skip
