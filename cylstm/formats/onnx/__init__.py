"""ONNX: the file that other tools write, read without the onnx package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cylstm.formats import File, Format

if TYPE_CHECKING:
    from cylstm.graph.graph import Graph

_VARINT, _BYTES = 0, 2
#: fields of a model -> their wire type
_FIELDS = {1: _VARINT, 2: _BYTES, 3: _BYTES, 4: _BYTES, 5: _VARINT, 6: _BYTES, 7: _BYTES, 8: _BYTES, 14: _BYTES,
           20: _BYTES, 25: _BYTES, 26: _BYTES}  # fmt: skip
#: those that are short texts
_TEXTS = (2, 3, 4)


def _is_onnx(file: File) -> bool:
    """Whether the file begins with the version of the IR, as every writer begins, and goes on as a model does."""
    head = file.head
    if file.is_folder or len(head) < 4 or head[0] != 0x08 or not 0 < head[1] < 0x80:
        return False
    at = 2
    while at < len(head):
        tag, at = _varint(head, at)
        if _FIELDS.get(tag >> 3) != tag & 7:
            return False
        number, at = _varint(head, at)
        if tag & 7 == _BYTES:
            if tag >> 3 in _TEXTS and not head[at : at + number].decode("latin-1").isprintable():
                return False
            if tag >> 3 in (7, 8):  # the graph, or the operators' versions
                return True
            at += number
    return at > 2


def _varint(data: bytes, at: int) -> tuple[int, int]:
    found = shift = 0
    while at < len(data):
        byte = data[at]
        found |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    return found, at


def _read(file: File, **options: Any) -> Graph:
    from cylstm.formats.onnx.build import graph_from_onnx

    return graph_from_onnx(file.path, **options)


FORMATS = (Format("a model of ONNX", (".onnx",), ("time", "constants", "states"), _is_onnx, _read),)
