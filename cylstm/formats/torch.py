"""PyTorch checkpoints: the zip archives that ``torch.save`` has written since 1.6. PyTorch is not needed.

An archive holds ``<root>/data.pkl``, a pickle in which each tensor names a storage, and one uncompressed member
``<root>/data/<key>`` per storage.
"""

from __future__ import annotations

import bisect
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import FormatError, UnsupportedError
from ..graph import Graph
from ..layers import GRU, LSTM, RNN, Layer, Linear
from ._arrays import bfloat16_bits_to_float32
from ._pickle import Global, Placeholder, load_pickle
from ._zip import Archive
from .state_dict import from_state_dict, graph_from_tensors

_MAX_PICKLE_BYTES = 256 << 20
_MAX_RANK = 32
# A tensor may repeat its storage's elements (stride 0), but not turn a few bytes into gigabytes.
_FREE_ELEMENTS = 1 << 20

#: storage class or dtype -> NumPy type; bfloat16 is read as its bits
_STORAGES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_DTYPES = {
    "float32": "f4",
    "float64": "f8",
    "float16": "f2",
    "bfloat16": "bfloat16",
    "int64": "i8",
    "int32": "i4",
    "int16": "i2",
    "int8": "i1",
    "uint8": "u1",
    "uint16": "u2",
    "uint32": "u4",
    "uint64": "u8",
    "bool": "?",
}
_KINDS = {*_STORAGES.values(), *_DTYPES.values()}


@dataclass(frozen=True)
class _Storage:
    """A member of the archive. `kind` is a value of `_STORAGES`, "untyped", or the name of what is not read."""

    key: str
    kind: str
    elements: int


@dataclass(frozen=True)
class _Tensor:
    """A tensor as the pickle describes it: nothing has been read yet. Offset and strides are in elements."""

    storage: _Storage
    kind: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch(path: str, layers: Sequence[Layer] | None) -> Graph:
    """Read the state dict in a ``.pt`` or ``.pth`` file into a graph.

    Parameters
    ----------
    path : str
    layers : sequence of Layer or None
        What the tensors are wired to; None raises `FormatError` with a proposal.

    Raises
    ------
    FormatError
        If the file is damaged, holds no state dict or several, or its tensors do not fit `layers`.
    UnsupportedError
        If it is a TorchScript archive, a pickled module, or holds tensors of kinds that are not read.
    """
    with Archive(path) as archive:
        tensors, version = _read_state_dict(archive)
    provenance = {"format": "torch", "version": version, "framework_version": None, "source": path}
    return graph_from_tensors(tensors, layers, where=path, provenance=provenance)


def from_torch(module: object) -> Graph:
    """The graph of a live ``torch.nn.LSTM``, ``GRU``, ``RNN``, one of their cells, or ``Linear``; weights are copied.

    A recurrent layer gives its output at every step.

    Raises
    ------
    UnsupportedError
        On any other module: the order of children says nothing about the wiring.
    """
    kind = type(module).__name__
    layers = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN, "Linear": Linear}
    layer = layers.get(kind.removesuffix("Cell"))
    if not type(module).__module__.startswith("torch.nn.") or layer is None or kind == "LinearCell":
        raise UnsupportedError(
            f"from_torch takes torch.nn.LSTM, GRU, RNN, their cells or Linear, found {type(module).__module__}.{kind}; "
            "for a network use from_state_dict(module.state_dict(), layers=[...])"
        )
    options = {"activation": module.nonlinearity} if layer is RNN else {}
    graph = from_state_dict(module.state_dict(), [layer("", **options)])
    graph.provenance.update(
        format="torch", framework_version=getattr(sys.modules.get("torch"), "__version__", None), source=f"live {kind}"
    )
    return graph


def _read_state_dict(archive: Archive) -> tuple[dict[str, np.ndarray], str | None]:
    """Name -> array of the one state dict in the archive, and the archive's format version."""
    path, names = archive.path, set(archive.names)
    roots = [name[: -len("data.pkl")] for name in names if name.count("/") <= 1 and name.endswith("data.pkl")]
    roots = [root for root in roots if root == "" or root.endswith("/")]
    if len(roots) != 1:
        raise FormatError(f"{path}: expected one data.pkl in a PyTorch checkpoint, found {len(roots)}")
    root = roots[0]
    if f"{root}constants.pkl" in names:
        raise UnsupportedError(
            f"{path}: a TorchScript archive, which holds a program; save the weights with "
            "torch.save(module.state_dict(), ...) instead"
        )
    order = "little"
    if f"{root}byteorder" in names:
        order = archive.read(f"{root}byteorder", 16).decode("ascii", "replace").strip()
        if order not in ("little", "big"):
            raise FormatError(f"{path}: byteorder expected 'little' or 'big', found {order!r}")
    version = None
    if f"{root}version" in names:
        version = archive.read(f"{root}version", 64).decode("ascii", "replace").strip()
    start, size = archive.locate(f"{root}data.pkl")
    if size > _MAX_PICKLE_BYTES:
        raise FormatError(f"{path}: data.pkl has {size} bytes; at most {_MAX_PICKLE_BYTES} are read")
    pickle = archive.read_at(start, size, "data.pkl")
    content = load_pickle(pickle, f"{path}: data.pkl", _FUNCTIONS, _storage_of)
    reader = _Reader(archive, root, order)
    return {name: reader.read(name, tensor) for name, tensor in _find_state_dict(path, content).items()}, version


def _find_state_dict(path: str, content: object) -> dict[str, _Tensor]:
    """The state dict in what a checkpoint's pickle made: all of it, or the one entry that consists of tensors."""
    if isinstance(content, Placeholder):
        raise UnsupportedError(
            f"{path}: the pickle calls {content}, which is not run; it may hold a whole pickled module: "
            "save module.state_dict() instead"
        )
    if isinstance(content, _Tensor):
        raise FormatError(f"{path}: a single tensor; expected a state dict")
    if not isinstance(content, dict):
        raise FormatError(f"{path}: expected a state dict, found a {type(content).__name__}")
    nested = {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, dict) and _is_state_dict(value)
    }
    if len(nested) == 1:
        ((key, value),) = nested.items()
        return _tensors_of(path, f"{key}: ", value)
    if not nested and _is_state_dict(content):
        return _tensors_of(path, "", content)
    if nested:
        raise FormatError(
            f"{path}: several state dicts, under {', '.join(map(repr, nested))}; save the one to load on its own"
        )
    called = [f"{key!r} (made by {value})" for key, value in content.items() if isinstance(value, Placeholder)]
    raise FormatError(
        f"{path}: no state dict found; the entries are {', '.join(repr(key) for key in content) or 'none'}"
        + (f"; not run: {', '.join(called)}" if called else "")
    )


def _is_state_dict(value: Mapping[object, object]) -> bool:
    return any(isinstance(key, str) and isinstance(item, _Tensor) for key, item in value.items())


def _tensors_of(path: str, where: str, content: Mapping[object, object]) -> dict[str, _Tensor]:
    """The tensors of a mapping. Plain numbers and text beside them are ignored, all else is refused."""
    found = {}
    for key, value in content.items():
        if isinstance(value, _Tensor) and isinstance(key, str):
            found[key] = value
        elif isinstance(value, Placeholder):
            raise UnsupportedError(f"{path}: {where}{key!r} is made by {value}, which is not run")
        elif not (value is None or isinstance(value, (bool, int, float, str, bytes))):
            raise FormatError(f"{path}: {where}{key!r} is a {type(value).__name__} among tensors")
    return found


class _Reader:
    """Reads tensors out of the archive, each storage at most once."""

    def __init__(self, archive: Archive, root: str, order: str) -> None:
        self.archive = archive
        self.root = root
        self.order = "<" if order == "little" else ">"
        self.storages: dict[str, np.ndarray] = {}
        self.ranges: list[tuple[int, int]] = []
        self.repeated = 0

    def read(self, name: str, tensor: _Tensor) -> np.ndarray:
        storage = tensor.storage
        what = f"{self.archive.path}: tensor {name!r}"
        if tensor.kind not in _KINDS:
            raise UnsupportedError(f"{what}: {tensor.kind} is not supported")
        if tensor.kind != storage.kind and storage.kind != "untyped":
            raise FormatError(f"{what}: a {tensor.kind} tensor in a {storage.kind} storage")
        type_ = np.dtype("u2" if tensor.kind == "bfloat16" else tensor.kind).newbyteorder(self.order)
        data = self.bytes_of(what, storage)
        if len(data) % type_.itemsize:
            raise FormatError(f"{what}: {len(data)} bytes are no whole number of {tensor.kind}")
        elements = len(data) // type_.itemsize
        count = math.prod(tensor.shape)
        # At least the storage's own size, so that tied weights and transposes pass.
        self.repeated += max(0, count - elements)
        if self.repeated > _FREE_ELEMENTS:
            raise FormatError(f"{what}: shape {tensor.shape} from a storage of only {elements} elements")
        if count:
            last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
            if last >= elements:
                raise FormatError(
                    f"{what}: shape {tensor.shape}, strides {tensor.strides} and offset {tensor.offset} reach element "
                    f"{last} of a storage of {elements}"
                )
            flat = data[tensor.offset * type_.itemsize :].view(type_)
            array = np.lib.stride_tricks.as_strided(
                flat, tensor.shape, [step * type_.itemsize for step in tensor.strides], writeable=False
            )
        else:
            array = np.empty(tensor.shape, type_)
        array = np.array(array, dtype=type_.newbyteorder("="), order="C")
        if tensor.kind == "bfloat16":
            return bfloat16_bits_to_float32(array)
        return array.astype(np.float32) if tensor.kind == "f2" else array

    def bytes_of(self, what: str, storage: _Storage) -> np.ndarray:
        found = self.storages.get(storage.key)
        if found is None:
            name = f"{self.root}data/{storage.key}"
            if name not in self.archive.names:
                raise FormatError(f"{what}: its data, the member {name!r}, is missing")
            start, size = self.archive.locate(name)
            place = bisect.bisect(self.ranges, (start, start + size))
            before, after = self.ranges[max(place - 1, 0) : place], self.ranges[place : place + 1]
            if any(end > start for _, end in before) or any(begin < start + size for begin, _ in after):
                raise FormatError(f"{what}: its data overlaps that of another tensor")
            self.ranges.insert(place, (start, start + size))
            found = np.frombuffer(self.archive.read_at(start, size, name), np.uint8)
            self.storages[storage.key] = found
        itemsize = (
            1 if storage.kind == "untyped" else 2 if storage.kind == "bfloat16" else np.dtype(storage.kind).itemsize
        )
        if storage.elements * itemsize != len(found):
            raise FormatError(
                f"{what}: storage {storage.key!r} expected {storage.elements * itemsize} bytes, found {len(found)}"
            )
        return found


# What the pickle's calls become


def _storage_of(identifier: object) -> _Storage:
    """The storage of a persistent id ``("storage", class, key, device, elements)``."""
    if not (isinstance(identifier, tuple) and len(identifier) == 5 and identifier[0] == "storage"):
        raise FormatError("data.pkl: a persistent id that names no storage")
    _, kind, key, _, elements = identifier
    if not (isinstance(kind, Global) and isinstance(key, str) and _is_count(elements)):
        raise FormatError("data.pkl: a storage described in an unknown way")
    if str(kind) == "torch.storage.UntypedStorage":
        return _Storage(key, "untyped", elements)
    known = kind.module == "torch" and kind.name in _STORAGES
    return _Storage(key, _STORAGES[kind.name] if known else str(kind), elements)


def _tensor(storage: object, kind: str, offset: object, shape: object, strides: object, metadata: object) -> _Tensor:
    if not isinstance(storage, _Storage):
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
    if isinstance(metadata, dict) and any(metadata.values()):
        kind = "a conjugated or negated view"
    return _Tensor(storage, kind, offset, shape, strides)


def _rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks, metadata=None) -> _Tensor:
    return _tensor(storage, getattr(storage, "kind", ""), offset, shape, strides, metadata)


def _rebuild_tensor_v3(storage, offset, shape, strides, requires_grad, hooks, dtype, metadata=None) -> _Tensor:
    if not isinstance(dtype, Global):
        raise FormatError("data.pkl: a tensor without a dtype")
    known = dtype.module == "torch" and dtype.name in _DTYPES
    return _tensor(storage, _DTYPES[dtype.name] if known else str(dtype), offset, shape, strides, metadata)


def _rebuild_parameter(data, requires_grad, hooks, state=None) -> object:
    return data


def _rebuild_from_type_v2(function, kind, arguments, state) -> object:
    plain = ("torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter")
    if not (isinstance(kind, Global) and isinstance(function, Global) and isinstance(arguments, tuple)):
        return Placeholder("torch._tensor._rebuild_from_type_v2")
    if str(kind) not in plain or str(function) not in _FUNCTIONS:
        return Placeholder(kind)
    return _FUNCTIONS[str(function)](*arguments)


def _ordered_dict(items=()) -> dict[object, object]:
    found: dict[object, object] = {}
    if not isinstance(items, (list, tuple)):
        raise FormatError("data.pkl: an OrderedDict of something else than a list of pairs")
    for item in items:
        if not isinstance(item, (list, tuple)) or len(item) != 2 or not isinstance(item[0], str):
            raise FormatError("data.pkl: an OrderedDict of something else than named entries")
        found[item[0]] = item[1]
    return found


def _size(items=()) -> tuple[object, ...]:
    if not isinstance(items, (list, tuple)):
        raise FormatError("data.pkl: a torch.Size of something else than numbers")
    return tuple(items)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


_FUNCTIONS = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor_v2,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch._tensor._rebuild_from_type_v2": _rebuild_from_type_v2,
    "torch.Size": _size,
}
