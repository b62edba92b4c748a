"""PyTorch's files, read without PyTorch: checkpoints of any age, pickled modules and TorchScript archives.

Since 1.6 ``torch.save`` writes a zip archive with ``<root>/data.pkl``, a pickle in which each tensor names a storage,
and one uncompressed member ``<root>/data/<key>`` per storage. A TorchScript archive is such a zip with a program
beside it. Before, and still with ``_use_new_zipfile_serialization=False``, the file is a stream: five pickles (magic
number, protocol, system, the object, the storages' keys), then for each key an int64 count and the raw elements.

The pickles are interpreted without running anything, so a pickled module yields its weights too.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BufferedReader
from typing import Any, Literal, NamedTuple

from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats.arrays import Tensors
from cylstm.formats.state_dict.assemble import graph_from_tensors
from cylstm.formats.state_dict.quantised import NOTE, is_packed, unpacked, without_scales
from cylstm.formats.state_dict.wiring import Layer
from cylstm.formats.torch.tensors import FUNCTIONS, QuantizedRef, StorageRef, TensorReader, TensorRef, storage_of
from cylstm.formats.untrusted.pickle import Placeholder, load_pickle
from cylstm.formats.untrusted.zip import Archive
from cylstm.graph.graph import Graph
from cylstm.graph.weights import Tensor

_MAX_PICKLE_BYTES = 256 << 20
_MAX_DEPTH = 8
_MAX_VISITED = 20_000
_MAX_PATH = 512
_LISTED = 20
_STREAM_MAGIC = 0x1950A86A20F9469CFC6C
_STREAM_PROTOCOL = 1001
_SAVE = 'save one with torch.save(module.state_dict(), "model.pt")'
_NOTE_SCRIPT = "the weights of a TorchScript archive; its program is not run"
_NOTE_MODULE = "the weights of a pickled module; its class is not imported"


def read_torch(path: str, *, layers: Sequence[Layer] | None, key: str | None = None) -> Graph:
    """Read the state dict in a ``.pt`` or ``.pth`` file into a graph.

    Parameters
    ----------
    path : str
    layers : sequence of Layer or None
        What the tensors are wired to; None raises `FormatError` with a proposal.
    key : str, optional
        Which state dict, where a checkpoint holds several: its entry, or a path such as ``"nets/generator"``; ""
        for the whole.

    Raises
    ------
    FormatError
        If the file is damaged, holds no state dict or several, or its tensors do not fit `layers`.
    UnsupportedError
        If it holds tensors of kinds that are not read.
    """
    found = read_torch_tensors(path, key)
    return graph_from_tensors(found.arrays, layers, where=path, provenance=found.provenance)


def read_torch_tensors(path: str, key: str | None = None) -> Tensors:
    """As `read_torch`, without the wiring."""
    with open(path, "rb") as file:
        is_archive = file.read(2) == b"PK"
    # left open for the tensors that are not read yet
    return _read_archive(Archive(path), key) if is_archive else _read_stream(path, open(path, "rb"), key)


# The two containers


class TensorArchive(NamedTuple):
    """A zip that ``torch.save`` wrote: what was saved, how its tensors are read, and what the zip says beside."""

    content: object
    reader: TensorReader
    version: str | None
    is_script: bool


def open_tensor_archive(archive: Archive) -> TensorArchive:
    """What ``torch.save`` wrote into a zip; tensors in it are `TensorRef`, and nothing of its pickle is run."""
    path, names = archive.path, archive.names
    roots = [name[: -len("data.pkl")] for name in names if name.count("/") <= 1 and name.endswith("data.pkl")]
    roots = [root for root in roots if root == "" or root.endswith("/")]
    if len(roots) != 1:
        raise FormatError(f"{path}: expected one data.pkl in a PyTorch checkpoint, found {len(roots)}")
    root = roots[0]
    little_endian = is_little_endian(archive, root)
    version = None
    if f"{root}version" in archive:
        version = archive.read(f"{root}version", 64, checksum=False).decode("ascii", "replace").strip()
    pickle = archive.read(f"{root}data.pkl", _MAX_PICKLE_BYTES, checksum=False)
    content = load_pickle(pickle, f"{path}: data.pkl", FUNCTIONS, storage_of)

    def locate(storage: StorageRef) -> tuple[int, int]:
        name = f"{root}data/{storage.key}"
        if name not in archive:
            raise FormatError(f"{path}: the storage {storage.key!r}, member {name!r}, is missing")
        return archive.locate(name)

    reader = TensorReader(path, locate, archive.read_into, little_endian)
    return TensorArchive(content, reader, version, f"{root}constants.pkl" in archive)


def is_little_endian(archive: Archive, root: str) -> bool:
    """The byte order of the tensors in a zip of PyTorch's, as it says."""
    if f"{root}byteorder" not in archive:
        return True
    order = archive.read(f"{root}byteorder", 16, checksum=False).decode("ascii", "replace").strip()
    if order not in ("little", "big"):
        raise FormatError(f"{archive.path}: byteorder expected 'little' or 'big', found {order!r}")
    return order == "little"


def _read_archive(archive: Archive, key: str | None) -> Tensors:
    found = open_tensor_archive(archive)
    chosen = _choose(archive.path, found.content, key)
    arrays = chosen.read(archive.path, found.reader)
    provenance = chosen.provenance("torchscript" if found.is_script else "torch", found.version, archive.path)
    if found.is_script:
        provenance["note"] = _NOTE_SCRIPT
    return Tensors(arrays, provenance)


def _read_stream(path: str, file: BufferedReader, key: str | None) -> Tensors:
    size = os.fstat(file.fileno()).st_size

    def read_into(offset: int, buffer: memoryview, name: str) -> None:
        file.seek(offset)
        if file.readinto(buffer) != len(buffer):
            raise FormatError(f"{path}: {name} lies beyond the end of the file; truncated?")

    weakref.finalize(read_into, file.close)

    def pickle(what: str, persistent: Callable[[object], object] = storage_of) -> Any:
        left = min(size - file.tell(), _MAX_PICKLE_BYTES)
        return load_pickle(file, f"{path}: {what}", FUNCTIONS, persistent, left)

    if pickle("magic number") != _STREAM_MAGIC:
        raise UnsupportedError(f"{path}: a plain pickle; save the tensors with torch.save or as .safetensors")
    protocol = pickle("protocol")
    if protocol != _STREAM_PROTOCOL:
        raise UnsupportedError(f"{path}: PyTorch's stream protocol {protocol!r}; {_STREAM_PROTOCOL} is read")
    system = pickle("system")
    little_endian = system.get("little_endian") if isinstance(system, dict) else None
    if not isinstance(little_endian, bool):
        raise FormatError(f"{path}: the stream's system information does not tell the byte order")
    storages: dict[str, StorageRef] = {}

    def persistent(identifier: object) -> object:
        found = storage_of(identifier)
        if isinstance(found, StorageRef) and storages.setdefault(found.key, found) != found:
            raise FormatError(f"{path}: the storage {found.key!r} is described in two ways")
        return found

    content = pickle("object", persistent)
    keys = pickle("list of storages")
    places = dict(_stream_places(path, file, size, keys, storages, "little" if little_endian else "big"))

    def locate(storage: StorageRef) -> tuple[int, int]:
        if storage.key not in places:
            raise FormatError(f"{path}: the storage {storage.key!r} is missing")
        return places[storage.key]

    chosen = _choose(path, content, key)
    arrays = chosen.read(path, TensorReader(path, locate, read_into, little_endian))
    return Tensors(arrays, chosen.provenance("torch stream", str(protocol), path))


def _stream_places(
    path: str,
    file: BufferedReader,
    size: int,
    keys: object,
    storages: Mapping[str, StorageRef],
    order: Literal["little", "big"],
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Key -> offset and size of each storage behind the pickles, to the very end of the file."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or len(set(keys)) != len(keys):
        raise FormatError(f"{path}: the list of storages expected different names")
    for key in keys:
        if key not in storages:
            raise FormatError(f"{path}: the storage {key!r} belongs to no tensor")
        storage = storages[key]
        if storage.elements and not storage.nbytes():
            # Its size is unknown, so that what follows it cannot be found.
            raise UnsupportedError(f"{path}: the storage {key!r}: {storage.kind} is not supported")
        count = int.from_bytes(file.read(8), order)  # a count that the end of the file cuts off is refused below
        start = file.tell()
        if count != storage.elements or storage.nbytes() > size - start:
            raise FormatError(
                f"{path}: the storage {key!r} expected {storage.elements} elements, found a count of {count} and "
                f"{size - start} bytes; truncated?"
            )
        yield key, (start, storage.nbytes())
        file.seek(start + storage.nbytes())
    if file.tell() != size:
        raise FormatError(f"{path}: {size - file.tell()} bytes after the last storage")


# Finding the state dict in a checkpoint


class _Chosen(NamedTuple):
    """A state dict: where in the checkpoint it was found ("" if it is the whole), and what else is there.

    `linear` has the prefixes of quantised linear layers.
    """

    key: str
    tensors: dict[str, TensorRef | QuantizedRef]
    linear: list[str]
    beside: list[str]
    framework_version: str | None
    note: str | None

    def read(self, path: str, reader: TensorReader) -> dict[str, Tensor]:
        """Name -> tensor."""
        return without_scales(path, reader.read_all(self.tensors), self.linear)

    def provenance(self, format_: str, version: str | None, path: str) -> dict[str, object]:
        found: dict[str, object] = {
            "format": format_,
            "version": version,
            "framework_version": self.framework_version,
            "source": path,
            "key": self.key,
            "beside": self.beside,
            "layouts": {name: tensor.describe() for name, tensor in self.tensors.items()},
        }
        return found if self.note is None else {**found, "note": self.note}


def _choose(path: str, content: object, key: str | None) -> _Chosen:
    """The state dict named by `key`, or the only one; those of optimizers do not count."""
    if isinstance(content, (TensorRef, QuantizedRef)):
        raise FormatError(f"{path}: a single tensor {content.shape}, which has no name; expected a state dict: {_SAVE}")
    if isinstance(content, (list, tuple)) and any(isinstance(item, (dict, Placeholder)) for item in content):
        content = {str(i): item for i, item in enumerate(content)}
    if not isinstance(content, (dict, Placeholder)):
        raise FormatError(f"{path}: expected a state dict, found a {type(content).__name__}; {_SAVE}")
    candidates = dict(_candidates(content))
    if key is None:
        weights = [name for name in candidates if not name.lower().startswith("optim")]
        if not weights:
            raise _nothing_found(path, content)
        if len(weights) > 1:
            raise FormatError(f"{path}: several state dicts; choose one with {_choices(candidates)}")
        (key,) = weights
    elif key not in candidates:
        raise FormatError(f"{path}: no state dict under {key!r:.100}; found {_choices(candidates) or 'none'}")
    where = f"{key}: " if key else ""
    owner, note, linear = candidates[key], None, list[str]()
    tensors: dict[str, TensorRef | QuantizedRef]
    if isinstance(owner, Placeholder):
        tensors, note = _module_tensors(path, owner), _NOTE_MODULE
    else:
        owner, linear = unpacked(path, owner, _script_state)
        tensors = _tensors_of(path, where, owner)
        if linear or any(isinstance(tensor, QuantizedRef) for tensor in tensors.values()):
            note = NOTE
    top = key.partition("/")[0]
    beside = [name for name in content if isinstance(name, str) and name != top] if isinstance(content, dict) else []
    lightning = content.get("pytorch-lightning_version") if isinstance(content, dict) else None
    return _Chosen(
        key,
        tensors,
        linear,
        beside if key else [],
        f"Lightning {lightning}" if isinstance(lightning, str) else None,
        note,
    )


def _script_state(value: object) -> object:
    """The state of an object of a class written in C++, which PyTorch pickles as its state and its class."""
    return value.items if isinstance(value, Placeholder) and value.made_by == "torch.ScriptObject" else None


def _candidates(content: object) -> Iterator[tuple[str, dict[Any, Any] | Placeholder]]:
    """Path -> each mapping with tensors and each module, from the outside in, without those inside them."""
    waiting: list[tuple[str, object, int]] = [("", content, 0)]
    seen: set[int] = set()
    visited = 0
    while waiting:
        name, value, depth = waiting.pop()
        visited += 1
        if id(value) in seen or visited > _MAX_VISITED:
            continue
        seen.add(id(value))
        if isinstance(value, Placeholder):
            if value.state is not None and (not name or (_is_module(value) and _has_tensors(value))):
                yield name, value
            continue
        if not isinstance(value, dict):
            continue
        if any(
            isinstance(key, str) and ((isinstance(item, (TensorRef, QuantizedRef)) and item.shape) or is_packed(key))
            for key, item in value.items()
        ):
            yield name, value
        if depth < _MAX_DEPTH:
            inner = [
                (f"{name}/{key}" if name else key, item, depth + 1)
                for key, item in value.items()
                if isinstance(key, str) and isinstance(item, (dict, Placeholder)) and len(name) + len(key) < _MAX_PATH
            ]
            waiting += reversed(inner)


def _is_module(value: Placeholder) -> bool:
    """Whether it was a ``torch.nn.Module``, pickled by Python or by TorchScript."""
    state = value.state or {}
    return value.made_by.startswith("__torch__.") or ("_parameters" in state and "_modules" in state)


def _choices(candidates: Mapping[str, object]) -> str:
    return " or ".join(f"key={name!r}" for name in list(candidates)[:_LISTED])


def _nothing_found(path: str, content: dict[Any, Any] | Placeholder) -> FormatError | UnsupportedError:
    if isinstance(content, Placeholder):
        return UnsupportedError(
            f"{path}: the pickle calls {content}, which is not run; it may hold a whole pickled module: "
            "save module.state_dict() instead"
        )
    called = [
        f"{repr(key)[:100]} (made by {value})" for key, value in content.items() if isinstance(value, Placeholder)
    ]
    shown = [repr(key)[:100] for key, _ in zip(content, range(_LISTED))]
    return FormatError(
        f"{path}: no state dict found; the entries are {', '.join(shown) or 'none'}"
        + (f"; not run: {', '.join(called[:_LISTED])}" if called else "")
    )


def _tensors_of(path: str, where: str, content: Mapping[object, object]) -> dict[str, TensorRef | QuantizedRef]:
    """The tensors of a mapping. Plain numbers and text beside them are ignored, all else is refused."""
    found: dict[str, TensorRef | QuantizedRef] = {}
    for key, value in content.items():
        if isinstance(value, (TensorRef, QuantizedRef)) and isinstance(key, str):
            found[key] = value
        elif isinstance(value, Placeholder):
            raise UnsupportedError(f"{path}: {where}{key!r} is made by {value}, which is not run")
        elif not (value is None or isinstance(value, (bool, int, float, str, bytes))):
            raise FormatError(f"{path}: {where}{key!r} is a {type(value).__name__} among tensors")
    return found


def _has_tensors(module: Placeholder) -> bool:
    """Whether a module or one inside it has a parameter or buffer."""
    try:
        return bool(_module_tensors("", module))
    except CylstmError:
        return False


def _module_tensors(path: str, module: Placeholder) -> dict[str, TensorRef | QuantizedRef]:
    """Dotted name -> parameter or buffer of a pickled module and the modules in it."""
    found: dict[str, TensorRef | QuantizedRef] = {}
    waiting = [("", module)]
    visited = 0
    while waiting:
        prefix, owner = waiting.pop()
        state = owner.state or {}
        parts: list[tuple[object, object]] = []
        if "_parameters" in state:
            left_out = state.get("_non_persistent_buffers_set")
            for part in ("_parameters", "_buffers", "_modules"):
                entries = state.get(part)
                parts += entries.items() if isinstance(entries, dict) else ()
            if isinstance(left_out, list):
                parts = [(name, value) for name, value in parts if name not in left_out]
        else:
            parts = list(state.items())
        visited += 1 + len(parts)
        if visited > _MAX_VISITED or len(prefix) > _MAX_PATH:
            raise FormatError(f"{path}: a pickled module of more than {_MAX_VISITED} entries, or nested without end")
        inner = []
        for name, value in parts:
            if name in ("_packed_params", "_all_weight_values", "_packed_weight_ih"):
                raise UnsupportedError(
                    f"{path}: {prefix + str(name)!r}: a quantised module that was pickled whole; save "
                    "module.state_dict(), which is read, or better that of the module before it was quantised"
                )
            if isinstance(name, str) and isinstance(value, (TensorRef, QuantizedRef)):
                found[prefix + name] = value
            elif isinstance(name, str) and isinstance(value, Placeholder) and _is_module(value):
                inner.append((f"{prefix}{name}.", value))
        waiting += reversed(inner)
    if not found:
        raise _nothing_found(path, module)
    return found
