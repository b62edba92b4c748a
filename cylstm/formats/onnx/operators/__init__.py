"""The operators: tables of them by name, each in a module for a kind of operators.

A table, ``OPERATORS``, has functions of a `Call`, by the operator's name; with the domain in front, and a dot, if that
is not ONNX's own: ``"com.microsoft.FusedMatMul"``.
"""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.formats.onnx.call import Operator
from cylstm.formats.onnx.operators import (
    attention,
    conv,
    elementwise,
    indexing,
    linear,
    norm,
    quantised,
    recurrent,
    reductions,
    resizing,
    shapes,
    whole,
)

_TABLES = tuple(
    module.OPERATORS
    for module in (
        attention,
        conv,
        elementwise,
        indexing,
        linear,
        norm,
        quantised,
        recurrent,
        reductions,
        resizing,
        shapes,
    )
)

_OF_NUMBERS: Mapping[str, Operator] = {name: operator for table in _TABLES for name, operator in table.items()}

OPERATORS: Mapping[str, Operator] = {**_OF_NUMBERS, **whole.operators(_OF_NUMBERS)}
