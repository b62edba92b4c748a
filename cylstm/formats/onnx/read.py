"""Reads the file of a model into plain data, and checks all that can be checked before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.onnx.model import (
    AttributeReference,
    Function,
    Node,
    OnnxModel,
    StoredTensor,
    Subgraph,
    ValueInfo,
)
from cylstm.formats.untrusted.protobuf import Field, read_message

_FIRST_IR, _FIRST_OPSET = 3, 7
_MOST_RANK = 32
#: protocol buffers have no larger files
_MOST_BYTES = 1 << 31

_PAIRS = Field("metadata_props", "skipped", True)
SCHEMAS: Mapping[str, Mapping[int, Field]] = {
    "Model": {
        1: Field("ir_version", "int"),
        2: Field("producer_name", "text"),
        3: Field("producer_version", "text"),
        4: Field("domain", "text"),
        5: Field("model_version", "int"),
        6: Field("doc_string", "skipped"),
        7: Field("graph", "Graph"),
        8: Field("opset_import", "OperatorSet", True),
        14: Field("metadata_props", "Pair", True),
        20: Field("training_info", "skipped", True),
        25: Field("functions", "Function", True),
        26: Field("configuration", "skipped", True),
    },
    "OperatorSet": {1: Field("domain", "text"), 2: Field("version", "int")},
    "Pair": {1: Field("key", "text"), 2: Field("value", "text")},
    "Graph": {
        1: Field("node", "Node", True),
        2: Field("name", "text"),
        5: Field("initializer", "Tensor", True),
        10: Field("doc_string", "skipped"),
        11: Field("input", "ValueInfo", True),
        12: Field("output", "ValueInfo", True),
        13: Field("value_info", "ValueInfo", True),
        14: Field("quantization_annotation", "skipped", True),
        15: Field("sparse_initializer", "SparseTensor", True),
        16: _PAIRS,
    },
    "Node": {
        1: Field("input", "text", True),
        2: Field("output", "text", True),
        3: Field("name", "text"),
        4: Field("op_type", "text"),
        5: Field("attribute", "Attribute", True),
        6: Field("doc_string", "skipped"),
        7: Field("domain", "text"),
        8: Field("overload", "text"),
        9: _PAIRS,
        10: Field("device_configurations", "skipped", True),
    },
    "Attribute": {
        1: Field("name", "text"),
        2: Field("f", "float"),
        3: Field("i", "int"),
        4: Field("s", "bytes"),
        5: Field("t", "Tensor"),
        6: Field("g", "Graph"),
        7: Field("floats", "float", True),
        8: Field("ints", "int", True),
        9: Field("strings", "bytes", True),
        10: Field("tensors", "Tensor", True),
        11: Field("graphs", "Graph", True),
        13: Field("doc_string", "skipped"),
        14: Field("tp", "skipped"),
        15: Field("type_protos", "skipped", True),
        20: Field("type", "int"),
        21: Field("ref_attr_name", "text"),
        22: Field("sparse_tensor", "SparseTensor"),
        23: Field("sparse_tensors", "SparseTensor", True),
    },
    "Tensor": {
        1: Field("dims", "int", True),
        2: Field("data_type", "int"),
        3: Field("segment", "bytes"),
        4: Field("float_data", "float", True),
        5: Field("int32_data", "int", True),
        6: Field("string_data", "bytes", True),
        7: Field("int64_data", "int", True),
        8: Field("name", "text"),
        9: Field("raw_data", "bytes"),
        10: Field("double_data", "double", True),
        11: Field("uint64_data", "uint", True),
        12: Field("doc_string", "skipped"),
        13: Field("external_data", "Pair", True),
        14: Field("data_location", "int"),
        16: _PAIRS,
    },
    "SparseTensor": {
        1: Field("values", "Tensor"),
        2: Field("indices", "Tensor"),
        3: Field("dims", "int", True),
    },
    "ValueInfo": {
        1: Field("name", "text"),
        2: Field("type", "Type"),
        3: Field("doc_string", "skipped"),
        4: _PAIRS,
    },
    "Type": {
        1: Field("tensor", "TensorType"),
        4: Field("sequence", "bytes"),
        5: Field("map", "bytes"),
        6: Field("denotation", "skipped"),
        7: Field("opaque", "bytes"),
        8: Field("sparse tensor", "bytes"),
        9: Field("optional", "bytes"),
    },
    "TensorType": {1: Field("elem_type", "int"), 2: Field("shape", "Shape")},
    "Shape": {1: Field("dim", "Dimension", True)},
    "Dimension": {1: Field("dim_value", "int"), 2: Field("dim_param", "text"), 3: Field("denotation", "skipped")},
    "Function": {
        1: Field("name", "text"),
        4: Field("input", "text", True),
        5: Field("output", "text", True),
        6: Field("attribute", "text", True),
        7: Field("node", "Node", True),
        8: Field("doc_string", "skipped"),
        9: Field("opset_import", "OperatorSet", True),
        10: Field("domain", "text"),
        11: Field("attribute_proto", "Attribute", True),
        12: Field("value_info", "ValueInfo", True),
        13: Field("overload", "text"),
        14: _PAIRS,
    },
}  # fmt: skip

#: number in AttributeProto.AttributeType -> the field that holds the value
_ATTRIBUTE_FIELDS = {
    1: "f",
    2: "i",
    3: "s",
    4: "t",
    5: "g",
    6: "floats",
    7: "ints",
    8: "strings",
    9: "tensors",
    10: "graphs",
}


def read_model(path: str | os.PathLike[str]) -> OnnxModel:
    """The model in a file. Raises `FormatError` or `UnsupportedError`, with the file's name."""
    path = os.fspath(path)
    size = os.path.getsize(path)
    if size > _MOST_BYTES:
        raise FormatError(f"{path}: {size:,} bytes, and a file of protocol buffers has at most {_MOST_BYTES:,}")
    with open(path, "rb") as file:
        data = file.read(size)
    return model_of(data, path)


def model_of(data: bytes, path: str) -> OnnxModel:
    """The model that these bytes are. Raises `FormatError` or `UnsupportedError`."""
    found = read_message(data, SCHEMAS, "Model", path)
    version = found.get("ir_version", 0)
    if version < _FIRST_IR:
        raise UnsupportedError(
            f"{path}: IR version {version} of ONNX; {_FIRST_IR} (2017) and later are read: export it anew, or convert "
            "it with onnx.version_converter"
        )
    opsets = _opsets(found.get("opset_import", ()), path)
    own = opsets.get("")
    if own is None:
        raise FormatError(f"{path}: the model does not say which version of ONNX's operators it has; truncated?")
    if own < _FIRST_OPSET:
        raise UnsupportedError(
            f"{path}: version {own} of ONNX's operators; {_FIRST_OPSET} and later are read: export it anew, or convert "
            "it with onnx.version_converter"
        )
    if "graph" not in found:
        raise FormatError(f"{path}: a model without a graph")
    functions = {}
    for one in found.get("functions", ()):
        domain = _domain(one.get("domain", ""))
        key = (domain, one.get("name", ""), one.get("overload", ""))
        if key in functions:
            raise FormatError(f"{path}: the function {key[1]!r:.200} of domain {domain!r:.200} is defined twice")
        functions[key] = _function(one, path)
    producer = " ".join(filter(None, (found.get("producer_name", ""), found.get("producer_version", ""))))
    metadata = {one.get("key", ""): one.get("value", "") for one in found.get("metadata_props", ())}
    return OnnxModel(path, version, opsets, producer, metadata, _graph(found["graph"], path), functions)


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _opsets(found: Sequence[Mapping[str, Any]], where: str) -> dict[str, int]:
    opsets: dict[str, int] = {}
    for one in found:
        domain = _domain(one.get("domain", ""))
        version = one.get("version", 0)
        if opsets.setdefault(domain, version) != version:
            raise FormatError(f"{where}: two versions of the operators of domain {domain!r:.200}")
    return opsets


def _function(found: Mapping[str, Any], where: str) -> Function:
    name = found.get("name", "")
    where = f"{where}: function {name!r:.200}"
    inputs, outputs = tuple(found.get("input", ())), tuple(found.get("output", ()))
    if len(set(inputs)) < len(inputs) or len(set(outputs)) < len(outputs):
        raise FormatError(f"{where}: an input or output twice")
    nodes = tuple(_node(one, where) for one in found.get("node", ()))
    _check_unique(nodes, inputs, where)
    opsets = _opsets(found.get("opset_import", ()), where)
    return Function(
        name,
        inputs,
        outputs,
        tuple(found.get("attribute", ())),
        _attributes(found.get("attribute_proto", ()), where),
        nodes,
        opsets,
    )


def _graph(found: Mapping[str, Any], where: str) -> Subgraph:
    name = found.get("name", "")
    if found.get("sparse_initializer"):
        raise UnsupportedError(f"{where}: sparse initializers are not supported; write them dense")
    tensors = [_tensor(one, f"{where}: initializer") for one in found.get("initializer", ())]
    initializers = {one.name: one for one in tensors}
    if len(initializers) < len(tensors):
        raise FormatError(f"{where}: two initializers of one name")
    inputs, outputs = ([_value_info(one, where) for one in found.get(role, ())] for role in ("input", "output"))
    for role, given in (("inputs", inputs), ("outputs", outputs)):
        if len({one.name for one in given}) < len(given):
            raise FormatError(f"{where}: two {role} of one name")
    nodes = tuple(_node(one, where) for one in found.get("node", ()))
    _check_unique(nodes, {*initializers, *(one.name for one in inputs)}, where)
    types = {one.name: one for one in (_value_info(one, where) for one in found.get("value_info", ()))}
    return Subgraph(name, nodes, initializers, tuple(inputs), tuple(outputs), types)


def _check_unique(nodes: Sequence[Node], before: Iterator[str] | Any, where: str) -> None:
    """Raise `FormatError` if a value is computed twice."""
    known = set(before)
    for node in nodes:
        for output in node.outputs:
            if output in known:
                raise FormatError(f"{where}: node {node.name!r:.200}: the value {output!r:.200} is there twice")
            if output:
                known.add(output)


def _node(found: Mapping[str, Any], where: str) -> Node:
    operator = found.get("op_type", "")
    outputs = tuple(found.get("output", ()))
    name = found.get("name", "") or next(filter(None, outputs), operator)
    where = f"{where}: node {name!r:.200} ({operator:.200})"
    if not operator:
        raise FormatError(f"{where}: a node without an operator")
    return Node(
        operator,
        _domain(found.get("domain", "")),
        found.get("overload", ""),
        name,
        tuple(found.get("input", ())),
        outputs,
        _attributes(found.get("attribute", ()), where),
    )


def _attributes(found: Sequence[Mapping[str, Any]], where: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for one in found:
        name = one.get("name", "")
        if not name or name in attributes:
            raise FormatError(f"{where}: attribute {name!r:.200}: without a name, or there twice")
        attributes[name] = _attribute(one, f"{where}, attribute {name!r:.200}")
    return attributes


def _attribute(found: Mapping[str, Any], where: str) -> Any:
    if found.get("ref_attr_name"):
        return AttributeReference(found["ref_attr_name"])
    fields = [field for field in (*_ATTRIBUTE_FIELDS.values(), "sparse_tensor", "sparse_tensors") if field in found]
    kind = found.get("type", 0)
    if not kind and len(fields) == 1:
        field = fields[0]
    elif kind in _ATTRIBUTE_FIELDS:
        field = _ATTRIBUTE_FIELDS[kind]
    else:
        raise UnsupportedError(f"{where}: an attribute of type {kind} is not supported")
    if any(other != field for other in fields):
        raise FormatError(f"{where}: it says that its value is in {field!r}, and {', '.join(fields)} are there")
    if field == "f":
        return float(found.get("f", 0.0))
    if field == "i":
        return int(found.get("i", 0))
    if field == "s":
        return _text(found.get("s", b""))
    if field == "floats":
        return tuple(map(float, found.get("floats", ())))
    if field == "ints":
        return tuple(map(int, found.get("ints", ())))
    if field == "strings":
        return tuple(_text(one) for one in found.get("strings", ()))
    if field in ("tensors", "graphs"):
        read: Any = _tensor if field == "tensors" else _graph
        return tuple(read(one, where) for one in found.get(field, ()))
    if field not in found:
        raise FormatError(f"{where}: its value is missing")
    return _tensor(found["t"], where) if field == "t" else _graph(found["g"], where)


def _text(data: memoryview | bytes) -> str | bytes:
    """A text, or the bytes if they are none."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        return bytes(data)


def _tensor(found: Mapping[str, Any], where: str) -> StoredTensor:
    name = found.get("name", "")
    dims = found.get("dims", np.zeros(0, np.int64))
    where = f"{where} {name!r:.200}"
    if len(dims) > _MOST_RANK:
        raise FormatError(f"{where}: {len(dims)} axes; at most {_MOST_RANK} are read")
    shape = tuple(map(int, dims))
    if any(size < 0 for size in shape):
        raise FormatError(f"{where}: a negative size in {shape}")
    if "segment" in found:
        raise UnsupportedError(f"{where}: a tensor in segments is not supported")
    return StoredTensor(name, found.get("data_type", 0), shape, found)


def _value_info(found: Mapping[str, Any], where: str) -> ValueInfo:
    name = found.get("name", "")
    kinds = found.get("type", {})
    if len(kinds) > 1:
        raise FormatError(f"{where}: value {name!r:.200}: of several types")
    kind = next(iter(kinds), "tensor")
    if kind != "tensor":
        return ValueInfo(name, None, None, kind)
    tensor = kinds.get("tensor", {})
    shape: tuple[int | str | None, ...] | None = None
    if "shape" in tensor:
        dims = tensor["shape"].get("dim", ())
        if len(dims) > _MOST_RANK:
            raise FormatError(f"{where}: value {name!r:.200}: {len(dims)} axes; at most {_MOST_RANK} are read")
        shape = tuple(_dimension(dim, f"{where}: value {name!r:.200}") for dim in dims)
    return ValueInfo(name, tensor.get("elem_type"), shape)


def _dimension(found: Mapping[str, Any], where: str) -> int | str | None:
    if "dim_value" in found and "dim_param" in found:
        raise FormatError(f"{where}: a size that is a number and a name")
    if "dim_value" in found:
        size = int(found["dim_value"])
        if size < 0:
            return None  # -1 is what old exporters write for any size
        return size
    return found.get("dim_param") or None
