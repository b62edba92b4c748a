"""Models of ONNX, written field by field without the onnx package; what no honest writer writes too."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

#: NumPy's type -> number in TensorProto.DataType
TYPES = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float16": 10,
    "float64": 11, "uint32": 12, "uint64": 13, "bfloat16": 16, "string": 8, "uint4": 21, "int4": 22,
}  # fmt: skip


def varint(number: int) -> bytes:
    """A number of 64 bits, seven in each byte."""
    number = int(number) & ((1 << 64) - 1)
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def field(number: int, value: Any) -> bytes:
    """One field: an int, a float (of 32 bits), a text or bytes; a list is the field several times."""
    if isinstance(value, (list, tuple)):
        return b"".join(field(number, one) for one in value)
    if isinstance(value, (bool, int, np.integer)):
        return varint(number << 3) + varint(int(value))
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else bytes(value)
    return varint(number << 3 | 2) + varint(len(data)) + data


def message(fields: dict[int, Any] | Iterable[tuple[int, Any]]) -> bytes:
    """The fields of a message, in this order."""
    pairs = fields.items() if isinstance(fields, dict) else fields
    return b"".join(field(number, value) for number, value in pairs if value is not None)


def packed(numbers: Iterable[int]) -> bytes:
    return b"".join(map(varint, numbers))


def tensor(name: str, array: Any, dtype: str | None = None, shape: Any = None, **fields: Any) -> bytes:
    """A tensor with raw data; `fields` by number (``f5=...``) take their place."""
    array = np.asarray(array)
    kind = TYPES[dtype or str(array.dtype)]
    dims = array.shape if shape is None else shape
    data = {int(key[1:]): value for key, value in fields.items()} or {9: array.tobytes()}
    return message([(1, [int(size) for size in dims]), (2, kind), (8, name), *data.items()])


def attribute(name: str, value: Any) -> bytes:
    """An attribute: int, float, text, a list of these, an array, a graph (bytes), or a reference ``("ref", name)``."""
    if isinstance(value, tuple) and value[:1] == ("ref",):
        return message({1: name, 21: value[1], 20: value[2]})
    if isinstance(value, (bool, int)):
        return message({1: name, 3: value, 20: 2})
    if isinstance(value, float):
        return message({1: name, 2: value, 20: 1})
    if isinstance(value, str):
        return message({1: name, 4: value, 20: 3})
    if isinstance(value, np.ndarray):
        return message({1: name, 5: tensor("", value), 20: 4})
    if isinstance(value, bytes):
        return message({1: name, 6: value, 20: 5})
    values = list(value)
    if all(isinstance(one, int) for one in values):
        return message({1: name, 8: values, 20: 7})
    if all(isinstance(one, float) for one in values):
        return message({1: name, 7: values, 20: 6})
    return message({1: name, 9: values, 20: 8})


def node(
    operator: str, inputs: Iterable[str], outputs: Iterable[str], name: str = "", domain: str = "", **attributes: Any
) -> bytes:
    found = [attribute(key, value) for key, value in attributes.items()]
    return message({1: list(inputs), 2: list(outputs), 3: name or None, 4: operator, 5: found, 7: domain or None})


def value(name: str, shape: Any, dtype: str = "float32") -> bytes:
    """An input or output; sizes are numbers, names, or None."""
    if shape is None:
        return message({1: name, 2: message({1: message({1: TYPES[dtype]})})})
    dims = [message({} if size is None else {2: size} if isinstance(size, str) else {1: size}) for size in shape]
    kind = message({1: TYPES[dtype], 2: message({1: dims})})
    return message({1: name, 2: message({1: kind})})


def graph(
    nodes: Iterable[bytes],
    inputs: Iterable[bytes] = (),
    outputs: Iterable[bytes] = (),
    tensors: Iterable[bytes] = (),
    name: str = "g",
) -> bytes:
    return message({1: list(nodes), 2: name, 5: list(tensors), 11: list(inputs), 12: list(outputs)})


def opset(version: int, domain: str = "") -> bytes:
    return message({1: domain or None, 2: version})


def function(
    name: str, inputs: Iterable[str], outputs: Iterable[str], nodes: Iterable[bytes], domain: str = "own",
    attributes: Iterable[str] = (), defaults: Iterable[bytes] = (), version: int = 17,
) -> bytes:  # fmt: skip
    return message({
        1: name, 4: list(inputs), 5: list(outputs), 6: list(attributes), 7: list(nodes),
        9: [opset(version), opset(1, domain)], 10: domain, 11: list(defaults),
    })  # fmt: skip


def model(
    graph: bytes, version: int = 17, ir: int = 8, functions: Iterable[bytes] = (), domains: Iterable[str] = ()
) -> bytes:
    opsets = [opset(version), *(opset(1, domain) for domain in domains)]
    return message({1: ir, 2: "tests", 7: graph, 8: opsets, 25: list(functions)})


def dense(rng: np.random.Generator, shape: Any = ("batch", "time", 5), size: int = 4) -> tuple[bytes, Any]:
    """The smallest network, relu(x @ w + b), and its weights."""
    w, b = rng.standard_normal((5, size)).astype("f4"), rng.standard_normal(size).astype("f4")
    nodes = [
        node("MatMul", ["x", "w"], ["a"], "/matmul"),
        node("Add", ["a", "b"], ["c"], "/add"),
        node("Relu", ["c"], ["y"], "/relu"),
    ]
    found = graph(nodes, [value("x", shape)], [value("y", None)], [tensor("w", w), tensor("b", b)])
    return model(found), (w, b)


def fields(data: bytes) -> dict[int, list[Any]]:
    """The fields of a message by number, as often as each occurs: numbers, or bytes."""
    found: dict[int, list[Any]] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = number()
        if tag & 7 == 0:
            found.setdefault(tag >> 3, []).append(number())
            continue
        size = {1: 8, 2: -1, 5: 4}[tag & 7]
        size = number() if size < 0 else size
        found.setdefault(tag >> 3, []).append(data[at : at + size])
        at += size
    return found
