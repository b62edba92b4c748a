"""Operators that need little more than the program's own operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cylstm.formats.onnx.call import Call, Operator
from cylstm.program.operations import elementwise as ops
from cylstm.program.operations.linear import matmul
from cylstm.program.tensor import shape_of


def _identity(call: Call) -> Any:
    return call.required(0)


def _constant(call: Call) -> Any:
    """The one attribute that it has."""
    if "value" in call.attributes:
        return call.attribute("value")
    for name, dtype in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if name in call.attributes:
            return np.asarray(call.attribute(name), dtype)
    raise call.refuse(f"a constant of {', '.join(call.attributes) or 'nothing'} is not supported")


def _shape(call: Call) -> Any:
    sizes = shape_of(call.required(0))
    start, end = call.attribute("start", 0), call.attribute("end", None)
    sizes = sizes[start:end]
    found = np.empty(len(sizes), object)
    found[:] = sizes
    return found


def _add(call: Call) -> Any:
    a, b = call.required(0), call.required(1)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.asarray(a + b)
    return ops.add(call.net, a, b)


def _matmul(call: Call) -> Any:
    return matmul(call.net, call.required(0), call.required(1))


def _relu(call: Call) -> Any:
    x = call.required(0)
    return np.maximum(x, 0) if isinstance(x, np.ndarray) else ops.activation(call.net, x, "relu")


OPERATORS: Mapping[str, Operator] = {
    "Add": _add,
    "Constant": _constant,
    "Identity": _identity,
    "MatMul": _matmul,
    "Relu": _relu,
    "Shape": _shape,
}
