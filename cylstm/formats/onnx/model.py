"""A model of ONNX as plain data: what a file says, with every structure checked, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as it lies in the file, or in one beside it; `cylstm.formats.onnx.tensors.read_array` gives its numbers.

    Attributes
    ----------
    name : str
    data_type : int
        The number of its type in TensorProto.DataType.
    shape : tuple of int
    fields : mapping
        What the message holds besides.
    """

    name: str
    data_type: int
    shape: tuple[int, ...]
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """An input or an output.

    Attributes
    ----------
    name : str
    data_type : int or None
        The number of its type in TensorProto.DataType; None if it is no tensor, or not said.
    shape : tuple of (int, str or None) or None
        A name where the size may be any, None where it has none; None in place of all if the rank is not said.
    kind : str
        "tensor", "sequence", "map", "optional", "sparse tensor" or "opaque".
    """

    name: str
    data_type: int | None
    shape: tuple[int | str | None, ...] | None
    kind: str = "tensor"


@dataclass(frozen=True, slots=True)
class AttributeReference:
    """An attribute of a node in a function that is one of the function's own."""

    name: str


@dataclass(frozen=True, slots=True)
class Node:
    """One call of an operator or a function.

    Attributes
    ----------
    operator, domain, overload, name : str
        The domain of ONNX's own operators is "".
    inputs, outputs : tuple of str
        "" where one is left out.
    attributes : mapping
        int, float, str, bytes, tuples of these, `StoredTensor`, `Subgraph` and `AttributeReference`.
    """

    operator: str
    domain: str
    overload: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The operator's name as the tables of operators have it."""
        return f"{self.domain}.{self.operator}" if self.domain else self.operator


@dataclass(frozen=True, slots=True)
class Subgraph:
    """A graph: the model's own, or a branch of a node.

    Attributes
    ----------
    name : str
    nodes : tuple of Node
    initializers : mapping of str to StoredTensor
    inputs, outputs : tuple of ValueInfo
    types : mapping of str to ValueInfo
        What is said of values between nodes.
    """

    name: str
    nodes: tuple[Node, ...]
    initializers: Mapping[str, StoredTensor]
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    types: Mapping[str, ValueInfo]


@dataclass(frozen=True, slots=True)
class Function:
    """An operator that the model defines itself.

    Attributes
    ----------
    name : str
    inputs, outputs : tuple of str
    attributes : tuple of str
        Those that a call must give.
    defaults : mapping
        Those that a call may give.
    nodes : tuple of Node
    opsets : mapping of str to int
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[str, ...]
    defaults: Mapping[str, Any]
    nodes: tuple[Node, ...]
    opsets: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """A whole file.

    Attributes
    ----------
    path : str
        Of the file; external data lies beside it.
    ir_version : int
    opsets : mapping of str to int
        Domain -> version of its operators.
    producer : str
    metadata : mapping of str to str
    graph : Subgraph
    functions : mapping of (str, str, str) to Function
        By domain, name and overload.
    """

    path: str
    ir_version: int
    opsets: Mapping[str, int]
    producer: str
    metadata: Mapping[str, str]
    graph: Subgraph
    functions: Mapping[tuple[str, str, str], Function]


#: number in TensorProto.DataType -> name of the type
TYPE_NAMES: Mapping[int, str] = dict(enumerate((
    "undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16",
    "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16", "float8e4m3fn", "float8e4m3fnuz",
    "float8e5m2", "float8e5m2fnuz", "uint4", "int4", "float4e2m1", "float8e8m0", "uint2", "int2", "float6e2m3",
    "float6e3m2",
)))  # fmt: skip

#: number in TensorProto.DataType -> NumPy's type of its numbers here; half precision is widened,
#: and where there are four bits its metadata say so
NUMPY_TYPES: Mapping[int, np.dtype] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.uint8),
    3: np.dtype(np.int8),
    4: np.dtype(np.uint16),
    5: np.dtype(np.int16),
    6: np.dtype(np.int32),
    7: np.dtype(np.int64),
    9: np.dtype(bool),
    10: np.dtype(np.float32),
    11: np.dtype(np.float64),
    12: np.dtype(np.uint32),
    13: np.dtype(np.uint64),
    16: np.dtype(np.float32),
    21: np.dtype(np.uint8, metadata={"bits": 4}),
    22: np.dtype(np.int8, metadata={"bits": 4}),
}


def type_name(data_type: int | None) -> str:
    """The name of a type by its number, for messages."""
    return "no type" if data_type is None else TYPE_NAMES.get(data_type, f"the unknown type {data_type}")
