"""ATen's operations element by element. Each function's parameters have ATen's names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cylstm.program.network import Network
from cylstm.program.operations import elementwise as ops
from cylstm.program.operations.activations import (
    celu,
    gelu,
    glu,
    hardswish,
    log_sigmoid,
    mish,
    prelu,
    softplus,
    softshrink,
    tanhshrink,
)
from cylstm.program.operations.attention import masked, scaled
from cylstm.program.operations.conv import like
from cylstm.program.operations.elementwise import activation
from cylstm.program.operations.softmax import softmax
from cylstm.program.tensor import Constant, DType, Scores, Tensor, dtype_of, is_constant, shape_of


def dtype(net: Network, name: Any) -> DType:
    """The kind of numbers of one of PyTorch's types. Raises `UnsupportedError` for narrow and complex ones."""
    name = str(name)
    if name == "bool":
        return "bool"
    if name.startswith(("int", "uint")):
        return "int"
    if name in ("float32", "float64"):
        return "float"
    raise net.refuse(f"numbers computed in {name} are not supported, float32 and float64 are")


def add(net: Network, self: Any, other: Any, alpha: Any = 1) -> Any:
    for scores, mask in ((self, other), (other, self)):
        if isinstance(scores, Scores) and alpha == 1:
            found = masked(net, scores, mask)
            if found is not None:
                return found
    return ops.add(net, self, other, alpha)


def sub(net: Network, self: Any, other: Any, alpha: Any = 1) -> Any:
    return ops.subtract(net, self, other, alpha)


def mul(net: Network, self: Any, other: Any) -> Any:
    for scores, factor in ((self, other), (other, self)):
        if isinstance(scores, Scores) and not scores.is_softmax and not scores.causal and _is_number(factor):
            return scaled(scores, float(np.asarray(factor).reshape(-1)[0]))
    return ops.multiply(net, self, other)


def _is_number(found: Any) -> bool:
    return is_constant(found) and not isinstance(found, Constant) and np.size(found) == 1


def div(net: Network, self: Any, other: Any, rounding_mode: str | None = None) -> Any:
    if rounding_mode is None:
        if isinstance(self, Scores) and not self.is_softmax and not self.causal and _is_number(other):
            return scaled(self, 1.0 / float(np.asarray(other).reshape(-1)[0]))
        return ops.divide(net, self, other)
    if rounding_mode == "floor":
        return ops.floor_divide(net, self, other)
    result = ops.function(net, ops.divide(net, self, other), "trunc")
    return ops.cast(net, result, ops.joined_dtype(self, other))


def pow(net: Network, self: Any, exponent: Any) -> Any:
    if (
        dtype_of(self) != "float"
        and dtype_of(exponent) != "float"
        and not is_constant(self)
        and not _is_number(exponent)
    ):
        raise net.refuse("a power of whole numbers with a computed exponent is not supported; use floating-point ones")
    return ops.power(net, self, exponent)


def clamp(net: Network, self: Any, min: Any = None, max: Any = None) -> Any:
    return ops.clip(net, self, min, max)


def where(net: Network, condition: Any, self: Any = None, other: Any = None) -> Any:
    if self is None:
        raise net.refuse("the places where a condition is true, whose number depends on the numbers, are not supported")
    return ops.where(net, condition, self, other)


def masked_fill(net: Network, self: Any, mask: Any, value: Any) -> Any:
    if isinstance(self, Scores) and is_constant(mask) and isinstance(mask, np.ndarray) and _is_number(value):
        number = float(np.asarray(value).reshape(-1)[0])
        if number <= -1e9:
            found = masked(net, self, np.where(mask, number, 0.0), is_filled=True)
            if found is not None:
                return found
    return ops.where(net, mask, ops.cast(net, value, dtype_of(self)), self)


def lerp(net: Network, self: Any, end: Any, weight: Any) -> Any:
    return ops.add(net, self, ops.multiply(net, weight, ops.subtract(net, end, self)))


def addcmul(net: Network, self: Any, tensor1: Any, tensor2: Any, value: Any = 1) -> Any:
    return ops.add(net, self, ops.multiply(net, tensor1, tensor2), value)


def addcdiv(net: Network, self: Any, tensor1: Any, tensor2: Any, value: Any = 1) -> Any:
    return ops.add(net, self, ops.divide(net, tensor1, tensor2), value)


def copied(net: Network, self: Any, src: Any, non_blocking: bool = False) -> Any:
    """The numbers of `src`, repeated to the shape of `self`."""
    from cylstm.program.operations.shape import expand

    shape = shape_of(self)
    src = ops.cast(net, src, dtype_of(self)) if not isinstance(src, Scores) else src
    return src if shape_of(src) == shape else expand(net, src, shape)


def fill(net: Network, self: Any, value: Any) -> Any:
    from cylstm.program.operations.constants import full

    return full(net, shape_of(self), value, dtype_of(self))


def to(net: Network, self: Any, dtype: Any = None, **others: Any) -> Any:
    """A cast. Of floating-point numbers to a narrower type it is refused."""
    other = others.get("other")
    if other is not None:
        return ops.cast(net, self, dtype_of(other))
    return self if dtype is None else ops.cast(net, self, globals()["dtype"](net, dtype))


def relu6(net: Network, self: Any) -> Any:
    return ops.clip(net, self, 0, 6)


def elu(net: Network, self: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Any:
    x = self if input_scale == 1 else ops.multiply(net, self, input_scale)
    y = activation(net, x, "elu", float(alpha))
    return y if scale == 1 else ops.multiply(net, y, scale)


def hardtanh(net: Network, self: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    kind = dtype_of(self)
    return ops.clip(net, self, like(min_val, kind), like(max_val, kind))


def rrelu(
    net: Network, self: Any, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, generator: Any = None
) -> Any:
    if training:
        raise net.refuse("rrelu that draws its slopes is not supported; export the module after eval()")
    return activation(net, self, "leaky_relu", (float(lower) + float(upper)) / 2)


def threshold(net: Network, self: Any, threshold: float, value: float) -> Any:
    threshold, value = like(threshold, dtype_of(self)), like(value, dtype_of(self))
    return ops.where(net, ops.binary(net, "greater", self, threshold), self, value)


def nan_to_num(net: Network, self: Any, nan: Any = None, posinf: Any = None, neginf: Any = None) -> Any:
    if dtype_of(self) != "float":
        return self
    largest = float(np.finfo(np.float32).max)
    found = ops.where(net, ops.function(net, self, "isnan"), 0.0 if nan is None else nan, self)
    found = ops.where(net, ops.binary(net, "equal", self, math.inf), largest if posinf is None else posinf, found)
    return ops.where(net, ops.binary(net, "equal", self, -math.inf), -largest if neginf is None else neginf, found)


def of_one(name: str) -> Callable[..., Any]:
    return lambda net, self: ops.function(net, self, name)


def of_two(mode: str) -> Callable[..., Any]:
    return lambda net, self, other: ops.binary(net, mode, self, other)


def activated(name: str, *values: float) -> Callable[..., Any]:
    return lambda net, self: activation(net, self, name, *values)


def softmax_of(net: Network, self: Any, dim: int, log: bool, dtype: Any = None) -> Any:
    if dtype is not None and str(dtype) not in ("float32", "float64"):
        raise net.refuse(f"a softmax computed in torch.{dtype} is not supported, float32 and float64 are")
    return softmax(net, self, dim, log=log)


def bitwise(mode: str) -> Callable[..., Any]:
    def found(net: Network, self: Any, other: Any) -> Any:
        if dtype_of(self) != "bool" or dtype_of(other) != "bool":
            raise net.refuse("the bits of whole numbers are not supported, truths are")
        return ops.binary(net, mode, self, other)

    return found


def bitwise_not(net: Network, self: Any) -> Any:
    if dtype_of(self) != "bool":
        raise net.refuse("the bits of whole numbers are not supported, truths are")
    return ops.function(net, self, "logical_not")


def rounded(net: Network, self: Any, decimals: int = 0) -> Any:
    if not decimals:
        return ops.function(net, self, "round")
    scale = 10.0**decimals
    return ops.divide(net, ops.function(net, ops.multiply(net, self, scale), "round"), scale)


def logaddexp(net: Network, self: Any, other: Any) -> Any:
    """The logarithm of a sum of exponentials: the larger, and log1p of what the smaller adds."""
    apart = ops.function(net, ops.function(net, ops.subtract(net, self, other), "abs"), "neg")
    apart = ops.where(net, ops.binary(net, "equal", self, other), 0.0, apart)  # of two infinities too
    return ops.add(
        net, ops.binary(net, "max", self, other), ops.function(net, activation(net, apart, "exponential"), "log1p")
    )


def xlog1py(net: Network, self: Any, other: Any) -> Any:
    return xlogy(net, self, other, "log1p")


def xlogy(net: Network, self: Any, other: Any, name: str = "log") -> Any:
    """x log(y), 0 where x is 0; NaN where y is."""
    product = ops.multiply(net, self, ops.function(net, other, name))
    is_zero = ops.binary(net, "and", ops.binary(net, "equal", self, 0), ops.binary(net, "equal", other, other))
    return ops.where(net, is_zero, 0.0, product)


#: ATen's name without its overload -> function
ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    "add": add,
    "sub": sub,
    "subtract": sub,
    "rsub": lambda net, self, other, alpha=1: ops.subtract(net, other, self, alpha),
    "mul": mul,
    "multiply": mul,
    "div": div,
    "divide": div,
    "true_divide": div,
    "floor_divide": of_two("floor_div"),
    "remainder": of_two("mod"),
    "fmod": of_two("fmod"),
    "pow": pow,
    "float_power": lambda net, self, exponent: ops.power(
        net, ops.cast(net, self, "float"), ops.cast(net, exponent, "float")),
    "maximum": of_two("max"),
    "minimum": of_two("min"),
    "fmax": lambda net, self, other: ops.where(
        net, ops.function(net, self, "isnan"), other,
        ops.where(net, ops.function(net, other, "isnan"), self, ops.binary(net, "max", self, other))),
    "fmin": lambda net, self, other: ops.where(
        net, ops.function(net, self, "isnan"), other,
        ops.where(net, ops.function(net, other, "isnan"), self, ops.binary(net, "min", self, other))),
    "atan2": of_two("atan2"),
    "arctan2": of_two("atan2"),
    "hypot": of_two("hypot"),
    "eq": of_two("equal"),
    "ne": of_two("not_equal"),
    "lt": of_two("less"),
    "le": of_two("less_equal"),
    "gt": of_two("greater"),
    "ge": of_two("greater_equal"),
    "logical_and": of_two("and"),
    "logical_or": of_two("or"),
    "logical_xor": of_two("xor"),
    "logical_not": of_one("logical_not"),
    "bitwise_and": bitwise("and"),
    "bitwise_or": bitwise("or"),
    "bitwise_xor": bitwise("xor"),
    "__and__": bitwise("and"),
    "__or__": bitwise("or"),
    "__xor__": bitwise("xor"),
    "bitwise_not": bitwise_not,
    "clamp": clamp,
    "clip": clamp,
    "clamp_min": clamp,
    "clamp_max": clamp,
    "where": where,
    "masked_fill": masked_fill,
    "lerp": lerp,
    "addcmul": addcmul,
    "addcdiv": addcdiv,
    "copy": copied,
    "fill": fill,
    "zero": lambda net, self: fill(net, self, 0),
    "to": to,
    "_to_copy": to,
    "type_as": lambda net, self, other: ops.cast(net, self, dtype_of(other)),
    "neg": of_one("neg"),
    "negative": of_one("neg"),
    "abs": of_one("abs"),
    "absolute": of_one("abs"),
    "sign": of_one("sign"),
    "sgn": of_one("sign"),
    "square": lambda net, self: ops.power(net, self, 2),
    "reciprocal": of_one("reciprocal"),
    "round": rounded,
    **{name: of_one(name) for name in (
        "sqrt", "rsqrt", "floor", "ceil", "trunc", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos",
        "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "erf", "erfc", "isnan", "isinf",
        "isfinite")},
    "fix": of_one("trunc"),
    "frac": lambda net, self: ops.subtract(net, self, ops.function(net, self, "trunc")),
    "special_expm1": of_one("expm1"),
    "special_log1p": of_one("log1p"),
    "special_erf": of_one("erf"),
    "special_expit": activated("sigmoid"),
    "nan_to_num": nan_to_num,
    "deg2rad": lambda net, self: ops.multiply(net, self, math.pi / 180),
    "rad2deg": lambda net, self: ops.multiply(net, self, 180 / math.pi),
    "relu": activated("relu"),
    "relu6": relu6,
    "tanh": activated("tanh"),
    "sigmoid": activated("sigmoid"),
    "exp": activated("exponential"),
    "selu": activated("selu"),
    "silu": activated("silu"),
    "softsign": activated("softsign"),
    "hardsigmoid": activated("hard_sigmoid", 1 / 6, 0.5),
    "hardswish": lambda net, self: hardswish(net, self),
    "mish": lambda net, self: mish(net, self),
    "celu": lambda net, self, alpha=1.0: celu(net, self, alpha),
    "elu": elu,
    "leaky_relu": lambda net, self, negative_slope=0.01: activation(net, self, "leaky_relu", float(negative_slope)),
    "hardtanh": hardtanh,
    "gelu": lambda net, self, approximate="none": gelu(net, self, approximate),
    "softplus": lambda net, self, beta=1, threshold=20: softplus(net, self, beta, threshold),
    "log_sigmoid": lambda net, self: log_sigmoid(net, self),
    "softshrink": lambda net, self, lambd=0.5: softshrink(net, self, lambd),
    "hardshrink": lambda net, self, lambd=0.5: ops.where(
        net, ops.binary(net, "greater", ops.function(net, self, "abs"), lambd), self, 0.0),
    "tanhshrink": lambda net, self: tanhshrink(net, self),
    "threshold": threshold,
    "prelu": lambda net, self, weight: prelu(net, self, weight),
    "rrelu": rrelu,
    "glu": lambda net, self, dim=-1: glu(net, self, dim),
    "softmax": lambda net, self, dim, dtype=None: softmax_of(net, self, dim, False, dtype),
    "_softmax": lambda net, self, dim, half_to_float=False: softmax_of(net, self, dim, False),
    "special_softmax": lambda net, self, dim, dtype=None: softmax_of(net, self, dim, False, dtype),
    "log_softmax": lambda net, self, dim, dtype=None: softmax_of(net, self, dim, True, dtype),
    "_log_softmax": lambda net, self, dim, half_to_float=False: softmax_of(net, self, dim, True),
    "logit": lambda net, self, eps=None: (lambda x: ops.function(
        net, ops.divide(net, x, ops.subtract(net, 1.0, x)), "log"))(
            self if eps is None else ops.clip(net, self, eps, 1 - eps)),
    "xlogy": xlogy,
    "special_xlogy": xlogy,
    "special_xlog1py": xlog1py,
    "logaddexp": logaddexp,
    "isposinf": lambda net, self: ops.binary(net, "equal", self, math.inf),
    "isneginf": lambda net, self: ops.binary(net, "equal", self, -math.inf),
    "special_ndtr": lambda net, self: ops.multiply(
        net, ops.function(net, ops.multiply(net, self, -math.sqrt(0.5)), "erfc"), 0.5),
    "heaviside": lambda net, self, values: ops.where(
        net, ops.binary(net, "equal", self, 0), values,
        ops.cast(net, ops.binary(net, "greater", self, 0), dtype_of(self))),
}  # fmt: skip
#: other names of the same operations
_OTHER_NAMES: Mapping[str, str] = {
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "not_equal": "ne",
    "special_round": "round",
    "special_log_softmax": "log_softmax",
    "special_logit": "logit",
    "special_erfc": "erfc",
    "special_exp2": "exp2",
    **{f"arc{name}": f"a{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
}
ARITHMETIC = {**ARITHMETIC, **{name: ARITHMETIC[other] for name, other in _OTHER_NAMES.items()}}


__all__ = ["ARITHMETIC", "Tensor", "dtype"]
