"""Operators on the whole numbers of a quantisation: what they compute of the numbers that these stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from cylstm.formats.onnx.call import Call, Operator
from cylstm.formats.onnx.operators.linear import requantised
from cylstm.formats.onnx.operators.quantised import Quantised, constant_parameter, dequantised_value

#: operators that only move numbers, or choose among them
MOVES = frozenset((
    "Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
))  # fmt: skip

#: that of ONNX whose operators those of ONNX Runtime's own domain are like
_OPSET = 13


def moving(operator: Operator) -> Operator:
    """An operator that moves whole numbers as it moves others."""

    def found(call: Call) -> Any:
        x = call.input(0)
        if not isinstance(x, Quantised) or x.scale is None:
            return operator(call)
        if x.scale.size > 1:
            raise call.refuse("whole numbers with a scale of their own for each place of an axis are not moved")
        results = operator(replace(call, inputs=(x.real, *call.inputs[1:])))
        if isinstance(results, tuple):
            return tuple(replace(x, real=call.net.tensor(one)) for one in results)
        return replace(x, real=call.net.tensor(results))

    return found


def _real(call: Call, k: int) -> Any:
    """What the input `k` stands for by the scale and the zero point after it."""
    scale, zero = (constant_parameter(call, call.input(k + i), "a scale or zero point") for i in (1, 2))
    if scale is None:
        raise call.refuse("expected a scale, found none")
    return dequantised_value(call, call.input(k), scale, zero)


def of_one(operator: Operator) -> Operator:
    """Of x with its scale and zero point, and those of the result."""

    def found(call: Call) -> Any:
        if call.attribute("channels_last", 0):
            raise call.refuse("channels_last is not supported")
        y = operator(replace(call, inputs=(_real(call, 0),), opset=_OPSET))
        return requantised(call, y, call.input(3), call.input(4))

    return found


def of_two(operator: Operator) -> Operator:
    def found(call: Call) -> Any:
        y = operator(replace(call, inputs=(_real(call, 0), _real(call, 3)), opset=_OPSET))
        return requantised(call, y, call.input(6), call.input(7))

    return found


def of_many(operator: Operator) -> Operator:
    """Of scale and zero point of the result, then any number of tensors with theirs."""

    def found(call: Call) -> Any:
        given = tuple(_real(call, k) for k in range(2, len(call.inputs), 3))
        y = operator(replace(call, inputs=given, opset=_OPSET))
        return requantised(call, y, call.input(0), call.input(1))

    return found


def operators(known: Mapping[str, Operator]) -> Mapping[str, Operator]:
    """The operators of whole numbers, of the tables of all others."""
    pairs: Mapping[str, tuple[Callable[[Operator], Operator], str]] = {
        "QLinearAdd": (of_two, "Add"),
        "QLinearMul": (of_two, "Mul"),
        "QLinearConcat": (of_many, "Concat"),
        "QLinearSigmoid": (of_one, "Sigmoid"),
        "QLinearLeakyRelu": (of_one, "LeakyRelu"),
        "QLinearAveragePool": (of_one, "AveragePool"),
        "QLinearGlobalAveragePool": (of_one, "GlobalAveragePool"),
    }
    found = {f"com.microsoft.{name}": wrap(known[plain]) for name, (wrap, plain) in pairs.items()}
    return {**found, **{name: moving(known[name]) for name in MOVES}}
