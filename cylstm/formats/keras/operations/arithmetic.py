"""Operations of ``keras.ops`` element by element. The parameters have Keras's names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cylstm.formats.keras.operations.network import KerasNetwork, array_of
from cylstm.program.operations import elementwise as ops
from cylstm.program.operations import shape as shapes
from cylstm.program.operations.attention import masked, scaled
from cylstm.program.operations.constants import full
from cylstm.program.operations.elementwise import activation
from cylstm.program.operations.reduce import reduce
from cylstm.program.tensor import Constant, Dim, DType, Scores, dtype_of, is_constant, shape_of

_MOST_CHOICES = 256


def tensor(net: KerasNetwork, x: Any) -> Any:
    """A tensor or a constant; a list of numbers is an array, a list with tensors in it is stacked."""
    if isinstance(x, (list, tuple)):
        if any(isinstance(one, Dim) for one in x):
            raise net.refuse("a shape read as numbers, other than to reshape, is not supported")
        if any(not is_constant(one) and not isinstance(one, (list, tuple)) for one in x):
            from cylstm.program.operations.parts import stack

            return stack(net, [tensor(net, one) for one in x], 0)
        return array_of(net.what, x)
    if isinstance(x, str) or x is None or x is Ellipsis or isinstance(x, slice):
        raise net.refuse(f"expected a tensor or a number, found {x!r:.80}")
    return x


def dtype_named(net: KerasNetwork, name: Any) -> DType:
    """The kind of numbers of one of Keras's types. Raises `UnsupportedError` for narrow and complex ones."""
    if name in ("bool",):
        return "bool"
    if name in ("int32", "int64", "int", "uint32"):
        return "int"
    if name in ("float32", "float64", "float"):
        return "float"
    raise net.refuse(f"numbers computed in {name!s:.40} are not supported; float32, float64, int32, int64 and bool are")


def cast(net: KerasNetwork, x: Any, dtype: Any) -> Any:
    x, kind = tensor(net, x), dtype_named(net, dtype)
    if kind == "float" and not is_constant(x) and dtype_of(x) != "float":
        return net.tensor(x).of("float")
    return ops.cast(net, x, kind)


def _is_number(found: Any) -> bool:
    return is_constant(found) and not isinstance(found, Constant) and np.size(found) == 1


def add(net: KerasNetwork, x1: Any, x2: Any) -> Any:
    x1, x2 = tensor(net, x1), tensor(net, x2)
    for scores, mask in ((x1, x2), (x2, x1)):
        if isinstance(scores, Scores) and is_constant(mask):
            found = masked(net, scores, mask)
            if found is not None:
                return found
    if dtype_of(x1) == dtype_of(x2) == "bool":
        return ops.binary(net, "or", x1, x2)
    return ops.add(net, x1, x2)


def subtract(net: KerasNetwork, x1: Any, x2: Any) -> Any:
    return ops.subtract(net, tensor(net, x1), tensor(net, x2))


def multiply(net: KerasNetwork, x1: Any, x2: Any) -> Any:
    x1, x2 = tensor(net, x1), tensor(net, x2)
    for scores, factor in ((x1, x2), (x2, x1)):
        if isinstance(scores, Scores) and not scores.is_softmax and not scores.causal and _is_number(factor):
            return scaled(scores, float(np.asarray(factor).reshape(-1)[0]))
    if dtype_of(x1) == dtype_of(x2) == "bool":
        return ops.binary(net, "and", x1, x2)
    return ops.multiply(net, x1, x2)


def divide(net: KerasNetwork, x1: Any, x2: Any) -> Any:
    x1, x2 = tensor(net, x1), tensor(net, x2)
    if isinstance(x1, Scores) and not x1.is_softmax and not x1.causal and _is_number(x2):
        number = float(np.asarray(x2).reshape(-1)[0])
        if number:
            return scaled(x1, 1.0 / number)
    return ops.divide(net, x1, x2)


def divide_no_nan(net: KerasNetwork, x1: Any, x2: Any) -> Any:
    """x1 / x2, and 0 where x2 is 0."""
    x1, x2 = tensor(net, x1), tensor(net, x2)
    is_zero = ops.binary(net, "equal", x2, 0)
    return ops.where(net, is_zero, 0.0, ops.divide(net, x1, ops.where(net, is_zero, 1.0, x2)))


def power(net: KerasNetwork, x1: Any, x2: Any) -> Any:
    x1, x2 = tensor(net, x1), tensor(net, x2)
    is_whole = not is_constant(x1) and dtype_of(x1) != "float" and dtype_of(x2) != "float"
    if is_whole and (not is_constant(x2) or np.min(np.asarray(x2)) < 0):
        raise net.refuse("a power of whole numbers with a computed or negative exponent is not supported")
    return ops.power(net, x1, x2)


def of_two(mode: str) -> Callable[..., Any]:
    return lambda net, x1, x2: ops.binary(net, mode, tensor(net, x1), tensor(net, x2))


def of_one(name: str) -> Callable[..., Any]:
    return lambda net, x: ops.function(net, tensor(net, x), name)


def extreme(mode: str) -> Callable[..., Any]:
    """The larger or smaller of two; one that is a number limits the other."""

    def found(net: KerasNetwork, x1: Any, x2: Any) -> Any:
        x1, x2 = tensor(net, x1), tensor(net, x2)
        for x, number in ((x1, x2), (x2, x1)):
            if type(number) in (int, float) and math.isfinite(number) and not is_constant(x):
                return ops.clip(net, x, *((number, None) if mode == "max" else (None, number)))
        return ops.binary(net, mode, x1, x2)

    return found


def without_nan(mode: str) -> Callable[..., Any]:
    """The larger or smaller of two; where one is NaN, the other."""

    def found(net: KerasNetwork, x1: Any, x2: Any) -> Any:
        a, b = tensor(net, x1), tensor(net, x2)
        chosen = ops.where(net, ops.function(net, b, "isnan"), a, ops.binary(net, mode, a, b))
        return ops.where(net, ops.function(net, a, "isnan"), b, chosen)

    return found


def clip(net: KerasNetwork, x: Any, x_min: Any, x_max: Any) -> Any:
    low, high = (None if one is None else tensor(net, one) for one in (x_min, x_max))
    return ops.clip(net, tensor(net, x), low, high)


def where(net: KerasNetwork, condition: Any, x1: Any = None, x2: Any = None) -> Any:
    if x1 is None or x2 is None:
        raise net.refuse("the places where a condition is true, whose number depends on the numbers, are not supported")
    condition, a, b = (tensor(net, one) for one in (condition, x1, x2))
    if isinstance(a, Scores) and not isinstance(condition, np.ndarray):
        a = net.tensor(a)
    if isinstance(a, Scores) and _is_number(b) and float(np.asarray(b).reshape(-1)[0]) <= -1e9:
        found = masked(net, a, np.where(condition, 0.0, -np.inf))
        if found is not None:
            return found
    return ops.where(net, ops.cast(net, condition, "bool"), a, b)


def select(net: KerasNetwork, condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Any:
    """The choice of the first condition that is true."""
    if len(condlist) != len(choicelist) or not 0 < len(condlist) <= _MOST_CHOICES:
        raise net.refuse("expected a choice for each condition")
    y = tensor(net, default)
    for condition, choice in reversed(list(zip(condlist, choicelist))):
        y = ops.where(net, ops.cast(net, tensor(net, condition), "bool"), tensor(net, choice), y)
    return y


def rounded(net: KerasNetwork, x: Any, decimals: int = 0) -> Any:
    """To the nearest, halves to the even one."""
    x = tensor(net, x)
    if dtype_of(x) != "float":
        return x
    if not decimals:
        return ops.function(net, x, "round")
    scale = 10.0**decimals
    return ops.divide(net, ops.function(net, ops.multiply(net, x, scale), "round"), scale)


def nan_to_num(net: KerasNetwork, x: Any, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    x, most = tensor(net, x), float(np.finfo(np.float32).max)
    y = ops.where(net, ops.function(net, x, "isnan"), nan, x)
    y = ops.where(net, ops.binary(net, "equal", y, math.inf), most if posinf is None else posinf, y)
    return ops.where(net, ops.binary(net, "equal", y, -math.inf), -most if neginf is None else neginf, y)


def isclose(
    net: KerasNetwork, x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    """|a - b| <= atol + rtol |b|, or equal."""
    a, b = tensor(net, x1), tensor(net, x2)
    difference = ops.function(net, ops.subtract(net, a, b), "abs")
    limit = ops.add(net, ops.multiply(net, ops.function(net, b, "abs"), rtol), atol)
    near = ops.binary(net, "and", ops.binary(net, "less_equal", difference, limit), ops.function(net, b, "isfinite"))
    found = ops.binary(net, "or", near, ops.binary(net, "equal", a, b))
    if not equal_nan:
        return found
    both = ops.binary(net, "and", ops.function(net, a, "isnan"), ops.function(net, b, "isnan"))
    return ops.binary(net, "or", found, both)


def log_add_exp(net: KerasNetwork, x1: Any, x2: Any) -> Any:
    """log(exp(a) + exp(b)) = max + log1p(exp(-|a - b|))."""
    a, b = tensor(net, x1), tensor(net, x2)
    distance = ops.function(net, ops.subtract(net, a, b), "abs")
    small = ops.function(net, activation(net, ops.multiply(net, distance, -1.0), "exponential"), "log1p")
    y = ops.add(net, ops.binary(net, "max", a, b), small)
    return ops.where(net, ops.binary(net, "equal", a, b), ops.add(net, a, math.log(2.0)), y)


def log_add_exp2(net: KerasNetwork, x1: Any, x2: Any) -> Any:
    """log2(2^a + 2^b)."""
    a, b = (ops.multiply(net, tensor(net, one), math.log(2.0)) for one in (x1, x2))
    return ops.multiply(net, log_add_exp(net, a, b), 1.0 / math.log(2.0))


def sinc(net: KerasNetwork, x: Any) -> Any:
    """sin(pi x) / (pi x), and 1 at 0."""
    x = tensor(net, x)
    is_zero = ops.binary(net, "equal", x, 0)
    turned = ops.multiply(net, ops.where(net, is_zero, 1.0, x), math.pi)
    return ops.where(net, is_zero, 1.0, ops.divide(net, ops.function(net, turned, "sin"), turned))


def infinite(number: float) -> Callable[..., Any]:
    return lambda net, x: ops.binary(net, "equal", tensor(net, x), number)


def is_in(net: KerasNetwork, x1: Any, x2: Any, assume_unique: bool = False, invert: bool = False) -> Any:
    """Whether a number is among constant ones."""
    x, among = tensor(net, x1), tensor(net, x2)
    if not is_constant(among) or isinstance(among, Constant):
        raise net.refuse("whether numbers are among computed ones is not supported")
    equal = ops.binary(net, "equal", shapes.unsqueeze(net, x, -1), np.asarray(among).reshape(-1))
    found = reduce(net, equal, "any", -1)
    return ops.function(net, found, "logical_not") if invert else found


def search_sorted(net: KerasNetwork, sorted_sequence: Any, values: Any, side: str = "left") -> Any:
    """How many of ascending constants are less than a number, or for the right side at most it."""
    ascending, x = tensor(net, sorted_sequence), tensor(net, values)
    if not is_constant(ascending) or np.ndim(ascending) != 1 or side not in ("left", "right"):
        raise net.refuse("places among computed numbers are not supported, among constant ones they are")
    mode = "less" if side == "left" else "less_equal"
    found = ops.binary(net, mode, np.asarray(ascending), shapes.unsqueeze(net, x, -1))
    return reduce(net, found, "sum", -1)


def digitize(net: KerasNetwork, x: Any, bins: Any) -> Any:
    return search_sorted(net, bins, x, "right")


def heaviside(net: KerasNetwork, x1: Any, x2: Any) -> Any:
    x = tensor(net, x1)
    positive = ops.cast(net, ops.binary(net, "greater", x, 0), "float")
    return ops.where(net, ops.binary(net, "equal", x, 0), tensor(net, x2), positive)


def bits(mode: str) -> Callable[..., Any]:
    """Of truths alone."""

    def found(net: KerasNetwork, x: Any, y: Any) -> Any:
        a, b = tensor(net, x), tensor(net, y)
        if dtype_of(a) != "bool" or dtype_of(b) != "bool":
            raise net.refuse("the bits of whole numbers are not supported, truths are")
        return ops.binary(net, mode, a, b)

    return found


def inverted_bits(net: KerasNetwork, x: Any) -> Any:
    x = tensor(net, x)
    if dtype_of(x) != "bool":
        raise net.refuse("the bits of whole numbers are not supported, truths are")
    return ops.function(net, x, "logical_not")


def logical_not(net: KerasNetwork, x: Any) -> Any:
    return ops.function(net, ops.cast(net, tensor(net, x), "bool"), "logical_not")


def logical(mode: str) -> Callable[..., Any]:
    return lambda net, x1, x2: ops.binary(net, mode, *(ops.cast(net, tensor(net, one), "bool") for one in (x1, x2)))


def same(net: KerasNetwork, x: Any) -> Any:
    return tensor(net, x)


def as_it_is(net: KerasNetwork, x: Any, dtype: Any = None, sparse: Any = None, ragged: Any = None) -> Any:
    if sparse or ragged:
        raise net.refuse("sparse and ragged tensors are not supported")
    return tensor(net, x) if dtype is None else cast(net, x, dtype)


def like(value: float) -> Callable[..., Any]:
    def found(net: KerasNetwork, x: Any, dtype: Any = None) -> Any:
        x = tensor(net, x)
        return full(net, shape_of(x), value, dtype_of(x) if dtype is None else dtype_named(net, dtype))

    return found


def full_like(net: KerasNetwork, x: Any, fill_value: Any, dtype: Any = None) -> Any:
    x = tensor(net, x)
    kind = dtype_of(x) if dtype is None else dtype_named(net, dtype)
    return full(net, shape_of(x), tensor(net, fill_value), kind)


#: name of the class -> function
ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    "Add": add,
    "Subtract": subtract,
    "Multiply": multiply,
    "Divide": divide,
    "TrueDivide": divide,
    "DivideNoNan": divide_no_nan,
    "FloorDivide": of_two("floor_div"),
    "Mod": of_two("mod"),
    "Fmod": of_two("fmod"),
    "Power": power,
    "Maximum": extreme("max"),
    "Minimum": extreme("min"),
    "Fmax": without_nan("max"),
    "Fmin": without_nan("min"),
    "Arctan2": of_two("atan2"),
    "Hypot": of_two("hypot"),
    "Ldexp": lambda net, x1, x2: ops.multiply(net, tensor(net, x1), ops.function(net, tensor(net, x2), "exp2")),
    "Logaddexp": log_add_exp,
    "Logaddexp2": log_add_exp2,
    "Heaviside": heaviside,
    "Equal": of_two("equal"),
    "NotEqual": of_two("not_equal"),
    "Less": of_two("less"),
    "LessEqual": of_two("less_equal"),
    "Greater": of_two("greater"),
    "GreaterEqual": of_two("greater_equal"),
    "Isclose": isclose,
    "IsIn": is_in,
    "Digitize": digitize,
    "SearchSorted": search_sorted,
    "LogicalAnd": logical("and"),
    "LogicalOr": logical("or"),
    "LogicalXor": logical("xor"),
    "LogicalNot": logical_not,
    "BitwiseAnd": bits("and"),
    "BitwiseOr": bits("or"),
    "BitwiseXor": bits("xor"),
    "BitwiseNot": inverted_bits,
    "BitwiseInvert": inverted_bits,
    "Where": where,
    "Select": select,
    "Clip": clip,
    "Cast": cast,
    "SaturateCast": cast,
    "Round": rounded,
    "NanToNum": nan_to_num,
    "Sinc": sinc,
    "Negative": of_one("neg"),
    "Absolute": of_one("abs"),
    "Abs": of_one("abs"),
    "Fabs": of_one("abs"),
    "Sign": of_one("sign"),
    "Square": lambda net, x: ops.power(net, tensor(net, x), 2),
    "Reciprocal": of_one("reciprocal"),
    "Exp": lambda net, x: activation(net, tensor(net, x), "exponential"),
    **{
        name.capitalize(): of_one(name)
        for name in (
            "sqrt", "rsqrt", "cbrt", "floor", "ceil", "trunc", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin",
            "cos", "tan", "sinh", "cosh", "erf", "erfc", "isnan", "isinf", "isfinite",
        )
    },
    **{f"Arc{name}": of_one(f"a{name}") for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "Isposinf": infinite(math.inf),
    "Isneginf": infinite(-math.inf),
    "Deg2rad": lambda net, x: ops.multiply(net, tensor(net, x), math.pi / 180.0),
    "Rad2deg": lambda net, x: ops.multiply(net, tensor(net, x), 180.0 / math.pi),
    "Copy": same,
    "Real": same,
    "Conj": same,
    "Conjugate": same,
    "StopGradient": lambda net, variable: tensor(net, variable),
    "ConvertToTensor": as_it_is,
    "Array": as_it_is,
    "ZerosLike": like(0),
    "EmptyLike": like(0),
    "OnesLike": like(1),
    "FullLike": full_like,
}  # fmt: skip
