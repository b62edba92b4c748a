"""Functions of numbers, one by one, and layers that apply them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from cylstm.formats.onnx.export.call import Call
from cylstm.formats.onnx.export.nodes import Nodes
from cylstm.graph.values import Value

#: activations without parameters that are an operator
_NAMED = {"tanh": "Tanh", "sigmoid": "Sigmoid", "relu": "Relu", "softsign": "Softsign", "exponential": "Exp"}
_SELU = (1.0507009873554805, 1.6732632423543772)


def activate(nodes: Nodes, x: str, activation: tuple[str, float, float], axis: int = -1) -> str:
    """``f(x)`` for an activation with its parameters; a softmax is along `axis`."""
    name, alpha, beta = activation
    if name == "linear":
        return x
    if name in _NAMED:
        return nodes.op(_NAMED[name], x)
    if name == "softmax":
        return nodes.op("Softmax", x, axis=axis)
    return _WRITTEN_OUT[name](nodes, x, alpha, beta)


def _leaky_relu(nodes: Nodes, x: str, alpha: float, beta: float) -> str:
    return _where_positive(nodes, x, nodes.op("Mul", x, nodes.number(alpha)))


def _elu(nodes: Nodes, x: str, alpha: float, beta: float) -> str:
    below = nodes.op("Mul", _expm1(nodes, nodes.op("Min", x, nodes.number(0))), nodes.number(alpha))
    return _where_positive(nodes, x, below)


def _selu(nodes: Nodes, x: str, alpha: float, beta: float) -> str:
    scale, slope = _SELU
    return nodes.op("Mul", _elu(nodes, x, slope, 0), nodes.number(scale))


def _softplus(nodes: Nodes, x: str, alpha: float, beta: float) -> str:
    """max(x, 0) + ln(1 + e^-|x|)"""
    small = nodes.op("Exp", nodes.op("Neg", nodes.op("Abs", x)))
    log = nodes.op("Log", nodes.op("Add", small, nodes.number(1)))
    return nodes.op("Add", nodes.op("Max", x, nodes.number(0)), log)


def _silu(nodes: Nodes, x: str, alpha: float, beta: float) -> str:
    return nodes.op("Mul", x, nodes.op("Sigmoid", x))


def _gelu(nodes: Nodes, x: str, alpha: float, beta: float) -> str:
    inner = nodes.op("Erf", nodes.op("Mul", x, nodes.number(math.sqrt(0.5))))
    return _half_of_one_plus(nodes, x, inner)


def _gelu_tanh(nodes: Nodes, x: str, alpha: float, beta: float) -> str:
    cube = nodes.op("Mul", nodes.op("Mul", x, nodes.op("Mul", x, x)), nodes.number(0.044715))
    inner = nodes.op("Mul", nodes.op("Add", x, cube), nodes.number(math.sqrt(2 / math.pi)))
    return _half_of_one_plus(nodes, x, nodes.op("Tanh", inner))


def _half_of_one_plus(nodes: Nodes, x: str, inner: str) -> str:
    factor = nodes.op("Mul", nodes.op("Add", inner, nodes.number(1)), nodes.number(0.5))
    return nodes.op("Mul", x, factor)


def _hard_sigmoid(nodes: Nodes, x: str, alpha: float, beta: float) -> str:
    line = nodes.op("Add", nodes.op("Mul", x, nodes.number(alpha)), nodes.number(beta))
    return nodes.op("Clip", line, nodes.number(0), nodes.number(1))


def _clip(nodes: Nodes, x: str, alpha: float, beta: float) -> str:
    return nodes.op("Min", nodes.op("Max", x, nodes.number(alpha)), nodes.number(beta))


def _where_positive(nodes: Nodes, x: str, below: str) -> str:
    """x where it is above 0."""
    return nodes.op("Where", nodes.op("Greater", x, nodes.number(0)), x, below)


# written out, so that their parameters are not rounded to the float32 of an attribute
_WRITTEN_OUT = {
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "selu": _selu,
    "softplus": _softplus,
    "silu": _silu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "hard_sigmoid": _hard_sigmoid,
    "clip": _clip,
}


def activation(call: Call) -> None:
    call.give(activate(call.nodes, call.input(), call.activation("activation")))


def prelu(call: Call) -> None:
    nodes, x, value = call.nodes, call.input(), call.value()
    slope = call.weight("slope")
    if slope.size not in (1, value.features):
        slope = slope.reshape(value.step_shape)
    below = nodes.op("Mul", x, nodes.weight(slope, "slope"))
    call.give(_where_positive(nodes, x, below))


def glu(call: Call) -> None:
    nodes = call.nodes
    a, b = nodes.split(call.input(), 2, call.value().features // 2)
    call.give(nodes.op("Mul", a, activate(nodes, b, call.activation("activation"))))


# the layer "function"


def _expm1(nodes: Nodes, x: str) -> str:
    """tanh(x/2) (e^x + 1), which loses nothing near 0"""
    half = nodes.op("Tanh", nodes.op("Mul", x, nodes.number(0.5)))
    return nodes.op("Mul", half, nodes.op("Add", nodes.op("Exp", x), nodes.number(1)))


def _log1p(nodes: Nodes, x: str) -> str:
    """x ln u / (u - 1), u = 1 + x rounded; x where u is 1, ln x where u is x"""
    one = nodes.number(1)
    u = nodes.op("Add", x, one)
    is_one, is_large = nodes.op("Equal", u, one), nodes.op("Equal", u, x)
    log = nodes.op("Log", u)
    less = nodes.op("Where", is_one, one, nodes.op("Sub", u, one))
    found = nodes.op("Mul", log, nodes.op("Where", is_large, one, nodes.op("Div", x, less)))
    return nodes.op("Where", is_one, x, found)


def _log_to(base: float) -> float:
    return 1 / math.log(base)


def _cbrt(nodes: Nodes, x: str) -> str:
    return nodes.op("Mul", nodes.op("Sign", x), nodes.op("Pow", nodes.op("Abs", x), nodes.number(1 / 3)))


def _trunc(nodes: Nodes, x: str) -> str:
    return nodes.op("Mul", nodes.op("Sign", x), nodes.op("Floor", nodes.op("Abs", x)))


def _isfinite(nodes: Nodes, x: str) -> str:
    return nodes.cast(nodes.op("Not", nodes.op("Or", nodes.op("IsNaN", x), nodes.op("IsInf", x))))


_OPERATORS = {
    "neg": "Neg", "abs": "Abs", "sign": "Sign", "reciprocal": "Reciprocal", "sqrt": "Sqrt", "floor": "Floor",
    "ceil": "Ceil", "round": "Round", "exp": "Exp", "log": "Log", "sin": "Sin", "cos": "Cos", "tan": "Tan",
    "asin": "Asin", "acos": "Acos", "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh", "asinh": "Asinh", "acosh": "Acosh",
    "atanh": "Atanh", "erf": "Erf",
}  # fmt: skip
_COMPOSED: Mapping[str, Callable[[Nodes, str], str]] = {
    "square": lambda nodes, x: nodes.op("Mul", x, x),
    "rsqrt": lambda nodes, x: nodes.op("Reciprocal", nodes.op("Sqrt", x)),
    "cbrt": _cbrt,
    "trunc": _trunc,
    "exp2": lambda nodes, x: nodes.op("Pow", nodes.number(2), x),
    "expm1": _expm1,
    "log2": lambda nodes, x: nodes.op("Mul", nodes.op("Log", x), nodes.number(_log_to(2))),
    "log10": lambda nodes, x: nodes.op("Mul", nodes.op("Log", x), nodes.number(_log_to(10))),
    "log1p": _log1p,
    "erfc": lambda nodes, x: nodes.op("Sub", nodes.number(1), nodes.op("Erf", x)),
    "logical_not": lambda nodes, x: nodes.cast(nodes.op("Equal", x, nodes.number(0))),
    "isnan": lambda nodes, x: nodes.cast(nodes.op("IsNaN", x)),
    "isinf": lambda nodes, x: nodes.cast(nodes.op("IsInf", x)),
    "isfinite": _isfinite,
}


def function(call: Call) -> None:
    name, x = call.text("function"), call.input()
    if name in _OPERATORS:
        call.give(call.nodes.op(_OPERATORS[name], x))
    elif name in _COMPOSED:
        call.give(_COMPOSED[name](call.nodes, x))
    else:
        raise call.refuse(f"option function={name!r} has no form there")


# several values


def lined_up(nodes: Nodes, x: str, value: Value, rank: int) -> str:
    """A value with axes of size 1 after the batch, up to `rank` axes without batch."""
    return nodes.unsqueeze(x, *range(1, 1 + rank - len(value.shape)))


def _mod(nodes: Nodes, x: str, y: str) -> str:
    """With the sign of y."""
    rest = nodes.op("Mod", x, y, fmod=1)
    nought = nodes.number(0)
    is_other = nodes.op("Less", nodes.op("Mul", nodes.op("Sign", rest), nodes.op("Sign", y)), nought)
    return nodes.op("Where", is_other, nodes.op("Add", rest, y), rest)


def _floor_div(nodes: Nodes, x: str, y: str) -> str:
    """The whole number that (x - mod(x, y)) / y is but for rounding; x / y for y = 0"""
    whole = nodes.op("Round", nodes.op("Div", nodes.op("Sub", x, _mod(nodes, x, y)), y))
    return nodes.op("Where", nodes.op("Equal", y, nodes.number(0)), nodes.op("Div", x, y), whole)


def _is_negative(nodes: Nodes, x: str) -> str:
    """The sign bit, of zeros too."""
    nought = nodes.number(0)
    below = nodes.op("Less", x, nought)
    return nodes.op("Or", below, nodes.op("Less", nodes.op("Reciprocal", x), nought))


def _copysign(nodes: Nodes, x: str, y: str) -> str:
    size = nodes.op("Abs", x)
    return nodes.op("Where", _is_negative(nodes, y), nodes.op("Neg", size), size)


def _hypot(nodes: Nodes, x: str, y: str) -> str:
    """m sqrt((x/m)^2 + (y/m)^2), m the larger, so that no square overflows"""
    x, y = nodes.op("Abs", x), nodes.op("Abs", y)
    most = nodes.op("Max", x, y)
    is_plain = nodes.op("And", nodes.op("Greater", most, nodes.number(0)), nodes.op("Not", nodes.op("IsInf", most)))
    unit = nodes.op("Where", is_plain, most, nodes.number(1))
    parts = [nodes.op("Div", part, unit) for part in (x, y)]
    squares = [nodes.op("Mul", part, part) for part in parts]
    return nodes.op("Mul", nodes.op("Sqrt", nodes.op("Add", *squares)), unit)


def _atan2(nodes: Nodes, y: str, x: str) -> str:
    """atan(s / l) of the smaller and the larger size, turned into its octant"""
    wide, high = nodes.op("Abs", x), nodes.op("Abs", y)
    is_steep = nodes.op("Greater", high, wide)
    less = nodes.op("Where", is_steep, wide, high)
    more = nodes.op("Where", is_steep, high, wide)
    both_none = nodes.op("Equal", more, nodes.number(0))
    both_infinite = nodes.op("IsInf", less)
    ratio = nodes.op("Div", less, nodes.op("Where", both_none, nodes.number(1), more))
    ratio = nodes.op("Where", both_infinite, nodes.number(1), ratio)
    angle = nodes.op("Atan", ratio)
    angle = nodes.op("Where", is_steep, nodes.op("Sub", nodes.number(math.pi / 2), angle), angle)
    angle = nodes.op("Where", _is_negative(nodes, x), nodes.op("Sub", nodes.number(math.pi), angle), angle)
    return _copysign(nodes, angle, y)


def _logical(kind: str, nodes: Nodes, x: str, y: str) -> str:
    return nodes.cast(nodes.op(kind, nodes.is_true(x), nodes.is_true(y)))


_OF_ANY_NUMBER = {"sum": "Add", "ave": "Add", "mul": "Mul", "sub": "Sub", "max": "Max", "min": "Min", "div": "Div"}
_PAIRS: Mapping[str, Callable[[Nodes, str, str], str]] = {
    "pow": lambda nodes, x, y: nodes.op("Pow", x, y),
    "mod": _mod,
    "fmod": lambda nodes, x, y: nodes.op("Mod", x, y, fmod=1),
    "floor_div": _floor_div,
    "atan2": _atan2,
    "hypot": _hypot,
    "copysign": _copysign,
    "equal": lambda nodes, x, y: nodes.cast(nodes.op("Equal", x, y)),
    "not_equal": lambda nodes, x, y: nodes.cast(nodes.op("Not", nodes.op("Equal", x, y))),
    "less": lambda nodes, x, y: nodes.cast(nodes.op("Less", x, y)),
    "less_equal": lambda nodes, x, y: nodes.cast(nodes.op("LessOrEqual", x, y)),
    "greater": lambda nodes, x, y: nodes.cast(nodes.op("Greater", x, y)),
    "greater_equal": lambda nodes, x, y: nodes.cast(nodes.op("GreaterOrEqual", x, y)),
    "and": lambda nodes, x, y: _logical("And", nodes, x, y),
    "or": lambda nodes, x, y: _logical("Or", nodes, x, y),
    "xor": lambda nodes, x, y: _logical("Xor", nodes, x, y),
}


def merge(call: Call) -> None:
    nodes, mode = call.nodes, call.text("mode")
    call.ignore("axis", "positions")
    rank = max(len(value.shape) for _, value in call.inputs())
    if mode == "concat":
        call.give(nodes.op("Concat", *(x for x, _ in call.inputs()), axis=call.whole("axis")))
        return
    values = [lined_up(nodes, x, value, rank) for x, value in call.inputs()]
    if mode in _PAIRS:
        call.give(_PAIRS[mode](nodes, *values))
        return
    if mode not in _OF_ANY_NUMBER:
        raise call.refuse(f"option mode={mode!r} has no form there")
    y = values[0]
    for value in values[1:]:
        y = nodes.op(_OF_ANY_NUMBER[mode], y, value)
    call.give(nodes.op("Div", y, nodes.number(len(values))) if mode == "ave" else y)


def where(call: Call) -> None:
    nodes = call.nodes
    roles = ("condition", "x", "x1")
    rank = max(len(call.value(role).shape) for role in roles)
    condition, x, other = (lined_up(nodes, call.input(role), call.value(role), rank) for role in roles)
    call.give(nodes.op("Where", nodes.is_true(condition), x, other))
