"""The numbers of a tensor: from the file itself, or from one beside it."""

from __future__ import annotations

import math
import os
import stat
from typing import Any

import numpy as np

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.arrays import bfloat16_bits_to_float32
from cylstm.formats.onnx.model import NUMPY_TYPES, StoredTensor, type_name

#: a tensor has no more bytes; what the numbers of a file really take is far less, since they have to be in it
_MOST_BYTES = 1 << 40
_FLOAT, _STRING, _BOOL, _FLOAT16, _DOUBLE, _BFLOAT16, _UINT4, _INT4 = 1, 8, 9, 10, 11, 16, 21, 22
#: number of the type -> how raw data hold its numbers
_RAW = {
    1: "<f4",
    2: "|u1",
    3: "|i1",
    4: "<u2",
    5: "<i2",
    6: "<i4",
    7: "<i8",
    9: "|u1",
    10: "<f2",
    11: "<f8",
    12: "<u4",
    13: "<u8",
    16: "<u2",
}
#: number of the type -> the field that holds its numbers if raw data do not
_FIELDS = {
    1: "float_data",
    **dict.fromkeys((2, 3, 4, 5, 6, 9, 10, 16, 21, 22), "int32_data"),
    7: "int64_data",
    11: "double_data",
    **dict.fromkeys((12, 13), "uint64_data"),
}
_ALL_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


def read_array(tensor: StoredTensor, path: str, where: str) -> np.ndarray:
    """The numbers of a tensor of the model at `path`; half precision becomes float32.

    Raises
    ------
    FormatError
        If there are more or fewer numbers than the shape says, or numbers that the type does not have.
    UnsupportedError
        For types of numbers that are not read, texts among them.
    """
    where = f"{where}, tensor {tensor.name!r:.200}" if tensor.name else f"{where}, tensor"
    kind, fields = tensor.data_type, tensor.fields
    if kind not in NUMPY_TYPES:
        raise UnsupportedError(f"{where}: numbers of {type_name(kind)} are not supported")
    count = math.prod(tensor.shape)
    if count > _MOST_BYTES:
        raise FormatError(f"{where}: {count} numbers, shape {tensor.shape}")
    given = [field for field in (*_ALL_FIELDS, "raw_data") if field in fields]
    if fields.get("data_location", 0) == 1:
        if given:
            raise FormatError(f"{where}: data beside the file, and in it ({', '.join(given)})")
        return _from_raw(_external(tensor, path, where), tensor, where)
    if fields.get("data_location", 0) != 0:
        raise FormatError(f"{where}: data_location {fields['data_location']} is none")
    if "external_data" in fields and not given:
        raise FormatError(f"{where}: data that are said to be in the file and beside it")
    if len(given) > 1:
        raise FormatError(f"{where}: data twice ({', '.join(given)})")
    if "raw_data" in fields:
        return _from_raw(np.frombuffer(fields["raw_data"], np.uint8), tensor, where)
    field = _FIELDS[kind]
    if given not in ([], [field]):
        raise FormatError(f"{where}: numbers of {type_name(kind)} lie in {field}, found {given[0]}")
    found: Any = fields.get(field, np.zeros(0, np.int64))
    if kind in (_UINT4, _INT4):
        _check_range(found, 0, 255, where)
        return _nibbles(found.astype(np.uint8), tensor, where)
    if len(found) != count:
        raise FormatError(f"{where}: {count} numbers expected for shape {tensor.shape}, found {len(found)}")
    if kind in (_FLOAT16, _BFLOAT16):
        _check_range(found, 0, 0xFFFF, where)
        bits = found.astype(np.uint16)
        wide = bfloat16_bits_to_float32(bits) if kind == _BFLOAT16 else bits.view(np.float16).astype(np.float32)
        return wide.reshape(tensor.shape)
    dtype = NUMPY_TYPES[kind]
    if kind == _BOOL:
        _check_range(found, 0, 1, where)
    elif dtype.kind in "iu":
        limits = np.iinfo(dtype)
        _check_range(found, limits.min, limits.max, where)
    return np.asarray(found, dtype).reshape(tensor.shape)


def _check_range(found: np.ndarray, least: int, most: int, where: str) -> None:
    if found.size and (int(found.min()) < least or int(found.max()) > most):
        raise FormatError(f"{where}: numbers beyond {least} to {most}, which its type does not have")


def _from_raw(data: np.ndarray, tensor: StoredTensor, where: str) -> np.ndarray:
    """Numbers as they lie in memory, little-endian."""
    kind, shape = tensor.data_type, tensor.shape
    if kind in (_UINT4, _INT4):
        return _nibbles(data, tensor, where)
    raw = np.dtype(_RAW[kind])
    expected = math.prod(shape) * raw.itemsize
    if len(data) != expected:
        raise FormatError(f"{where}: {expected} bytes expected for {type_name(kind)} {shape}, found {len(data)}")
    found = data.view(raw).reshape(shape)
    if kind == _BFLOAT16:
        return bfloat16_bits_to_float32(found)
    if kind == _FLOAT16:
        return found.astype(np.float32)
    if kind == _BOOL:
        _check_range(found, 0, 1, where)
        return found.astype(bool)
    return found.astype(raw.newbyteorder("="), copy=False)


def _nibbles(data: np.ndarray, tensor: StoredTensor, where: str) -> np.ndarray:
    """Numbers of four bits, the first of two in the lower half of a byte."""
    count = math.prod(tensor.shape)
    if len(data) != (count + 1) // 2:
        raise FormatError(
            f"{where}: {(count + 1) // 2} bytes expected for {type_name(tensor.data_type)} {tensor.shape}, found "
            f"{len(data)}"
        )
    found = np.stack([data & 15, data >> 4], axis=-1).reshape(-1)[:count]
    if tensor.data_type == _INT4:
        found = (found.astype(np.int8) ^ 8) - 8
    return found.reshape(tensor.shape).astype(NUMPY_TYPES[tensor.data_type])


def _external(tensor: StoredTensor, path: str, where: str) -> np.ndarray:
    """Data in a file beside that of the model."""
    given: dict[str, str] = {}
    for pair in tensor.fields.get("external_data", ()):
        if pair.get("key", "") in given:
            raise FormatError(f"{where}: external data: {pair.get('key', '')!r:.100} twice")
        given[pair.get("key", "")] = pair.get("value", "")
    unknown = set(given) - {"location", "offset", "length", "checksum"}
    if unknown or "location" not in given:
        raise FormatError(f"{where}: external data: expected location, offset and length, found {sorted(given)!r:.300}")
    numbers = {}
    for key in ("offset", "length"):
        text = given.get(key, "")
        if text and not (text.isascii() and text.isdecimal() and len(text) < 19):
            raise FormatError(f"{where}: external data: {key} expected a number, found {text!r:.100}")
        numbers[key] = int(text) if text else None
    name = _beside(path, given["location"], where)
    offset = numbers["offset"] or 0
    try:
        # a pipe that nobody writes to would be waited for
        flags = (getattr(os, flag, 0) for flag in ("O_BINARY", "O_NOFOLLOW", "O_NONBLOCK"))
        descriptor = os.open(name, os.O_RDONLY | sum(flags))
    except OSError as error:
        raise FormatError(f"{where}: external data: {name}: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise FormatError(f"{where}: external data: {name} is no file")
    with open(descriptor, "rb") as file:
        length = status.st_size - offset if numbers["length"] is None else numbers["length"]
        if length < 0 or offset + length > status.st_size:
            raise FormatError(
                f"{where}: external data: bytes {offset} to {offset + length} of {name}, which has {status.st_size}"
            )
        expected = _bytes_of(tensor)
        if length != expected:
            raise FormatError(
                f"{where}: external data: {expected} bytes expected for {type_name(tensor.data_type)} {tensor.shape}, "
                f"found {length}"
            )
        file.seek(offset)
        found = np.fromfile(file, np.uint8, length)
    if len(found) != length:
        raise FormatError(f"{where}: external data: {name} ends before byte {offset + length}")
    return found


def _bytes_of(tensor: StoredTensor) -> int:
    count = math.prod(tensor.shape)
    return (
        (count + 1) // 2 if tensor.data_type in (_UINT4, _INT4) else count * np.dtype(_RAW[tensor.data_type]).itemsize
    )


def _beside(path: str, location: str, where: str) -> str:
    """The path of external data: in the model's folder or one below it, and through no link."""
    parts = location.replace("\\", "/").split("/")
    parts = parts[1:] if parts[0] == "." else parts
    if (
        not location
        or len(location) > 4096
        or "\0" in location
        or os.path.isabs(location)
        or ":" in location
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise FormatError(
            f"{where}: external data: expected a path in the model's folder without '..', found {location!r:.200}"
        )
    found = os.path.dirname(path)
    for part in parts:
        found = os.path.join(found, part)
        if os.path.islink(found):
            raise FormatError(f"{where}: external data: {found} is a link, which is not followed")
    return found
