"""The tensors of PyTorch's files: what the pickle says of each, checked, and its elements read from the file.

A tensor is a view of a storage: an offset and one stride per axis, all counted in elements. Storages may be larger
than their tensors, shared between them, transposed or repeated with a stride of 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.arrays import bfloat16_bits_to_float32
from cylstm.formats.untrusted.pickle import Global, Placeholder
from cylstm.graph.weights import PIECE_BYTES, StoredTensor

_MAX_RANK = 32
_MAX_KEY = 100
# Tensors may share storages, but must not make gigabytes of a few bytes, nor take hours to read.
_FREE_BYTES = 16 << 20
_FREE_SPAN = 64 << 20
_SPANS_PER_STORAGE = 8

#: storage class or dtype -> dtype as PyTorch and NumPy name it
_STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    # of quantised tensors: the whole numbers
    "QInt8Storage": "int8",
    "QUInt8Storage": "uint8",
    "QInt32Storage": "int32",
}
_KINDS = {*_STORAGES.values(), "uint16", "uint32", "uint64"}
#: kind of a weight -> its type once read
_REAL_TYPES: dict[str, np.dtype] = {kind: np.dtype(np.float32) for kind in ("float32", "float16", "bfloat16")}
_REAL_TYPES["float64"] = np.dtype(np.float64)


class StorageRef(NamedTuple):
    """A storage as the pickle names it. `kind` is a dtype, "untyped", or the name of what is not read."""

    key: str
    kind: str
    elements: int

    def nbytes(self) -> int:
        """Its size; 0 if the kind is not read."""
        if self.kind == "untyped":
            return self.elements
        return self.elements * _item_type(self.kind).itemsize if self.kind in _KINDS else 0


class TensorRef(NamedTuple):
    """A tensor as the pickle describes it: nothing has been read yet. Offset and strides are in elements."""

    storage: StorageRef
    kind: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def describe(self) -> str:
        """``float32 (20, 3) in storage 0``, with strides and offset where they are not the usual ones."""
        text = f"{self.kind} {self.shape}"
        if self.strides != _contiguous(self.shape):
            text += f", strides {self.strides}"
        return f"{text}{f', offset {self.offset}' if self.offset else ''} in storage {self.storage.key}"


def tensor_ref(
    storage: StorageRef, kind: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> TensorRef:
    """A tensor as its description says; the stride of an axis of one element, which may be anything, is as usual."""
    usual = _contiguous(shape)
    strides = tuple(one if size == 1 else step for size, step, one in zip(shape, strides, usual, strict=True))
    return TensorRef(storage, kind, offset, shape, strides)


class QuantizedRef(NamedTuple):
    """A quantised tensor, ``(numbers - zero_point) * scale``, with one scale or one for each row of `axis`."""

    numbers: TensorRef
    scale: float | TensorRef
    zero_point: int | TensorRef
    axis: int

    @property
    def shape(self) -> tuple[int, ...]:
        """That of its numbers."""
        return self.numbers.shape

    def describe(self) -> str:
        """As `TensorRef.describe`."""
        return f"quantised to {self.numbers.describe()}"

    def parts(self, name: str) -> dict[str, TensorRef]:
        """The tensors that it is made of."""
        found = {"numbers": self.numbers, "scales": self.scale, "zero points": self.zero_point}
        return {f"{name} ({part})": ref for part, ref in found.items() if isinstance(ref, TensorRef)}


class TensorReader:
    """Reads the tensors of one file.

    Parameters
    ----------
    where : str
        The file, for messages.
    locate : callable
        Storage -> offset and size of its bytes in the file; raises `FormatError` if it is not there.
    read_into : callable
        ``read_into(offset, buffer, name)`` fills the buffer from the file.
    little_endian : bool
    """

    def __init__(
        self,
        where: str,
        locate: Callable[[StorageRef], tuple[int, int]],
        read_into: Callable[[int, memoryview, str], None],
        little_endian: bool,
    ) -> None:
        self.where = where
        self.locate = locate
        self.read_into = read_into
        self.order: Literal["<", ">"] = "<" if little_endian else ">"

    def read_all(self, tensors: Mapping[str, TensorRef | QuantizedRef]) -> dict[str, np.ndarray | StoredTensor]:
        """Name -> tensor in C order and native bytes; half precision and quantised ones become float32.

        Equal views are one tensor. Large weights are not read yet.
        """
        plain: dict[str, TensorRef] = {}
        for name, tensor in tensors.items():
            plain |= tensor.parts(name) if isinstance(tensor, QuantizedRef) else {name: tensor}
        read = self._read_plain(plain)
        return {
            name: self._dequantised(name, tensor, read) if isinstance(tensor, QuantizedRef) else read[name]
            for name, tensor in tensors.items()
        }

    def _dequantised(
        self, name: str, tensor: QuantizedRef, read: Mapping[str, np.ndarray | StoredTensor]
    ) -> np.ndarray:
        """In float32, as PyTorch's ``dequantize``."""
        numbers, *others = (np.asarray(read[part]) for part in tensor.parts(name))
        scale, zero = others or (np.float64(tensor.scale), np.int64(tensor.zero_point))  # type: ignore[arg-type]
        if others:
            rows = numbers.shape[tensor.axis : tensor.axis + 1]
            if scale.shape != rows or zero.shape != rows or scale.dtype.kind != "f" or zero.dtype.kind not in "iu":
                raise FormatError(
                    f"{self._what(name)}: expected one scale and one zero point for each of {rows} rows, found "
                    f"{scale.dtype} {scale.shape} and {zero.dtype} {zero.shape}"
                )
            wide = (-1, *(1,) * (numbers.ndim - tensor.axis - 1))
            scale, zero = scale.reshape(wide), zero.reshape(wide)
        return (numbers.astype(np.int64) - zero).astype(np.float32) * np.asarray(scale).astype(np.float32)

    def _read_plain(self, tensors: Mapping[str, TensorRef]) -> dict[str, np.ndarray | StoredTensor]:
        places = {}
        for name, tensor in tensors.items():
            if tensor.storage not in places:
                places[tensor.storage] = self._place(name, tensor.storage)
            self._check(name, tensor)
        self._check_total(tensors)
        found: dict[TensorRef, np.ndarray | StoredTensor] = {}
        for name, tensor in tensors.items():
            if tensor not in found:
                start = places[tensor.storage]
                found[tensor] = self._stored(name, tensor, start) or self._read(name, tensor, start)
        return {name: found[tensor] for name, tensor in tensors.items()}

    def _what(self, name: str) -> str:
        return f"{self.where}: tensor {name!r}"

    def _place(self, name: str, storage: StorageRef) -> int:
        if storage.kind not in _KINDS and storage.kind != "untyped":
            raise UnsupportedError(f"{self._what(name)}: {storage.kind} is not supported")
        start, size = self.locate(storage)
        if size != storage.nbytes():
            raise FormatError(
                f"{self._what(name)}: storage {storage.key!r} expected {storage.nbytes()} bytes, found {size}"
            )
        return start

    def _check(self, name: str, tensor: TensorRef) -> None:
        storage, what = tensor.storage, self._what(name)
        if tensor.kind not in _KINDS:
            raise UnsupportedError(f"{what}: {tensor.kind} is not supported")
        if tensor.kind != storage.kind and storage.kind != "untyped":
            raise FormatError(f"{what}: a {tensor.kind} tensor in a {storage.kind} storage")
        elements, rest = divmod(storage.nbytes(), _item_type(tensor.kind).itemsize)
        if rest:
            raise FormatError(f"{what}: {storage.nbytes()} bytes are no whole number of {tensor.kind}")
        if tensor.offset + _span(tensor) > elements:
            raise FormatError(
                f"{what}: shape {tensor.shape}, strides {tensor.strides} and offset {tensor.offset} reach element "
                f"{tensor.offset + _span(tensor) - 1} of a storage of {elements}"
            )

    def _check_total(self, tensors: Mapping[str, TensorRef]) -> None:
        """Refuse tensors that together are far larger than what they are made from."""
        stored = sum(storage.nbytes() for storage in {tensor.storage for tensor in tensors.values()})
        taken = spanned = 0
        seen: set[TensorRef] = set()
        for name, tensor in tensors.items():
            if tensor in seen:
                continue
            seen.add(tensor)
            size = _item_type(tensor.kind).itemsize
            taken += math.prod(tensor.shape) * size
            spanned += _span(tensor) * size
            if taken > stored + _FREE_BYTES or spanned > _SPANS_PER_STORAGE * stored + _FREE_SPAN:
                raise FormatError(
                    f"{self._what(name)}: shape {tensor.shape}, with the tensors before it {max(taken, spanned)} bytes "
                    f"from storages of only {stored}"
                )

    def _stored(self, name: str, tensor: TensorRef, start: int) -> StoredTensor | None:
        """A large weight as it waits in the file, None for any other tensor."""
        dtype = _REAL_TYPES.get(tensor.kind)
        if dtype is None or len(tensor.shape) < 2 or tensor.strides != _contiguous(tensor.shape):
            return None
        row = tensor.strides[0]

        def read_rows(first: int, count: int) -> np.ndarray:
            shape = (count, *tensor.shape[1:])
            return self._read(name, tensor._replace(offset=tensor.offset + first * row, shape=shape), start)

        stored = StoredTensor(tensor.shape, dtype, read_rows)
        return stored if stored.nbytes > PIECE_BYTES else None

    def _read(self, name: str, tensor: TensorRef, start: int) -> np.ndarray:
        type_ = _item_type(tensor.kind).newbyteorder(self.order)
        flat = np.empty(_span(tensor), type_)
        if flat.size:
            self.read_into(start + tensor.offset * type_.itemsize, flat.view(np.uint8).data, f"tensor {name!r}")
        if tensor.strides == _contiguous(tensor.shape):
            array = flat.reshape(tensor.shape)
        elif flat.size:
            steps = [step * type_.itemsize for step in tensor.strides]
            array = np.lib.stride_tricks.as_strided(flat, tensor.shape, steps, writeable=False)
        else:
            array = np.empty(tensor.shape, type_)
        if tensor.kind == "bfloat16":
            return bfloat16_bits_to_float32(np.ascontiguousarray(array)).reshape(tensor.shape)
        wanted = np.dtype(np.float32) if tensor.kind == "float16" else type_.newbyteorder("=")
        # A bool read from a byte other than 0 and 1 would be neither true nor false.
        if tensor.kind == "bool":
            numbers = array.view(np.uint8) if array.flags.c_contiguous else np.array(array.astype(np.uint8))
            return np.asarray(numbers != 0)
        return array.astype(wanted, order="C", copy=not array.flags.c_contiguous)


def _item_type(kind: str) -> np.dtype:
    """The NumPy type of one element; bfloat16 is read as its bits."""
    return np.dtype("uint16" if kind == "bfloat16" else kind)


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of C order."""
    found, step = [], 1
    for size in reversed(shape):
        found.append(step)
        step *= max(size, 1)
    return tuple(reversed(found))


def _span(tensor: TensorRef) -> int:
    """Elements of the storage from the tensor's first to its last."""
    if 0 in tensor.shape:
        return 0
    return 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.strides, strict=True))


# What the pickle's calls become


def storage_of(identifier: object) -> StorageRef | Global | Placeholder:
    """The storage of a persistent id ``("storage", class, key, device, elements)``, with the stream's sixth field.

    The stream also names classes so, ``("module", class, file, source text)``: the class is only a name here too.
    """
    if isinstance(identifier, tuple) and len(identifier) == 4 and identifier[0] == "module":
        return identifier[1] if isinstance(identifier[1], Global) else Placeholder("a class")
    if not (isinstance(identifier, tuple) and len(identifier) in (5, 6) and identifier[0] == "storage"):
        raise FormatError("data.pkl: a persistent id that names no storage")
    _, kind, key, _, elements, *view = identifier
    if not (isinstance(kind, Global) and isinstance(key, str) and len(key) <= _MAX_KEY and _is_count(elements)):
        raise FormatError("data.pkl: a storage described in an unknown way")
    if view not in ([], [None]):
        raise UnsupportedError("data.pkl: views of storages, from before PyTorch 0.4, are not supported")
    if str(kind) == "torch.storage.UntypedStorage":
        return StorageRef(key, "untyped", elements)
    known = kind.module == "torch" and kind.name in _STORAGES
    return StorageRef(key, _STORAGES[kind.name] if known else str(kind), elements)


def _tensor(storage: object, kind: str, offset: Any, shape: Any, strides: Any, metadata: object) -> TensorRef:
    if not isinstance(storage, StorageRef):
        raise FormatError("data.pkl: a tensor without a storage")
    if not (
        _is_count(offset)
        and isinstance(shape, tuple)
        and isinstance(strides, tuple)
        and len(shape) == len(strides) <= _MAX_RANK
        and all(map(_is_count, shape))
        and all(map(_is_count, strides))
        and math.prod(max(size, 1) for size in shape) < 1 << 59
    ):
        raise FormatError("data.pkl: a tensor whose offset, shape or strides are no reasonable natural numbers")
    if isinstance(metadata, dict) and (len(metadata) > 8 or any(flag is not False for flag in metadata.values())):
        kind = "a conjugated or negated view"
    return tensor_ref(storage, kind, offset, shape, strides)


def _rebuild_tensor_v2(
    storage: Any, offset: Any, shape: Any, strides: Any, requires_grad: Any, hooks: Any, metadata: Any = None
) -> TensorRef:
    return _tensor(storage, getattr(storage, "kind", ""), offset, shape, strides, metadata)


def _rebuild_tensor_v3(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    requires_grad: Any,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> TensorRef:
    if not isinstance(dtype, Global):
        raise FormatError("data.pkl: a tensor without a dtype")
    known = dtype.module == "torch" and dtype.name in _KINDS
    return _tensor(storage, dtype.name if known else str(dtype), offset, shape, strides, metadata)


def _rebuild_qtensor(
    storage: Any, offset: Any, shape: Any, strides: Any, quantizer: Any, requires_grad: Any, hooks: Any
) -> QuantizedRef:
    numbers = _tensor(storage, getattr(storage, "kind", ""), offset, shape, strides, None)
    scheme, *parameters = quantizer if isinstance(quantizer, tuple) and quantizer else ("",)
    if str(scheme) == "torch.per_tensor_affine" and len(parameters) == 2:
        scale, zero = parameters
        if type(scale) is float and math.isfinite(scale) and type(zero) is int and abs(zero) < 1 << 31:
            return QuantizedRef(numbers, scale, zero, 0)
    if str(scheme) == "torch.per_channel_affine" and len(parameters) == 3:
        scale, zero, axis = parameters
        refs = isinstance(scale, TensorRef) and isinstance(zero, TensorRef)
        if refs and type(axis) is int and 0 <= axis < len(numbers.shape):
            return QuantizedRef(numbers, scale, zero, axis)
    raise UnsupportedError(
        f"data.pkl: a tensor quantised by {scheme}; read are torch.per_tensor_affine and torch.per_channel_affine, "
        "with finite scales"
    )


def _rebuild_parameter(data: Any, requires_grad: Any, hooks: Any, state: Any = None) -> object:
    return data


def _rebuild_from_type_v2(function: Any, kind: Any, arguments: Any, state: Any) -> object:
    plain = ("torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
    if not (isinstance(kind, Global) and isinstance(function, Global) and isinstance(arguments, tuple)):
        return Placeholder("torch._tensor._rebuild_from_type_v2")
    if str(kind) not in plain or not str(function).startswith("torch._utils.") or str(function) not in FUNCTIONS:
        return Placeholder(kind)
    return FUNCTIONS[str(function)](*arguments)


def _ordered_dict(items: Any = ()) -> dict[object, object]:
    found: dict[object, object] = {}
    if not isinstance(items, (list, tuple)):
        raise FormatError("data.pkl: an OrderedDict of something else than a list of pairs")
    for item in items:
        if not isinstance(item, (list, tuple)) or len(item) != 2 or not isinstance(item[0], str):
            raise FormatError("data.pkl: an OrderedDict of something else than named entries")
        found[item[0]] = item[1]
    return found


def _size(items: Any = ()) -> tuple[object, ...]:
    if not isinstance(items, (list, tuple)):
        raise FormatError("data.pkl: a torch.Size of something else than numbers")
    return tuple(items)


def _set(items: Any = ()) -> list[object]:
    if not isinstance(items, (list, tuple)):
        raise FormatError("data.pkl: a set of something else than a list")
    return list(items)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


#: what `load_pickle` calls in place of the functions of these names
FUNCTIONS: dict[str, Callable[..., object]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor_v2,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
    "torch._utils._rebuild_qtensor": _rebuild_qtensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch._tensor._rebuild_from_type_v2": _rebuild_from_type_v2,
    "torch.Size": _size,
    "builtins.set": _set,
    "__builtin__.set": _set,
}
