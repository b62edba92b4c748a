"""Files of ``torch.export.save`` (``.pt2``), read without PyTorch: an exported program with its weights.

Two layouts of the zip are known. Since PyTorch 2.8 there is a folder around all: ``models/<model>.json`` is the
program; ``data/weights/<model>_weights_config.json`` names for each parameter and buffer a member of raw bytes beside
it, with dtype, shape, strides and offset, and ``data/constants/`` the same for what is not in the state dict. (2.8
saved ``<model>.pt`` there, a state dict of ``torch.save``.) PyTorch 2.6 and 2.7 wrote
``serialized_exported_program.json`` and, of ``torch.save``, ``serialized_state_dict.pt`` and
``serialized_constants.pt``.

Pickles are interpreted without running anything, and only those that hold tensors which the program needs: sample
inputs, custom and opaque objects are never read.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.torch.checkpoint import is_little_endian, open_tensor_archive
from cylstm.formats.torch.exported import DTYPES, Exported, JsonFields, read_exported
from cylstm.formats.torch.tensors import StorageRef, TensorReader, TensorRef, tensor_ref
from cylstm.formats.untrusted.json import parse_json
from cylstm.formats.untrusted.pickle import Placeholder
from cylstm.formats.untrusted.zip import Archive
from cylstm.graph.weights import StoredTensors, Tensor
from cylstm.program.program import Program, TensorType

_OLD_PROGRAM = "serialized_exported_program.json"
_MODEL = re.compile(r"(?:[^/]+/)?models/([^/]+)\.json")
_COMPILED = re.compile(r"(?:[^/]+/)?data/aotinductor/")
_ARCHIVE_VERSION = "0"
_MAX_PROGRAM = 128 << 20
_MAX_CONFIG = 64 << 20
# Of a real program, a byte of text takes about two and a half bytes of elements, and an operation 6 kB.
_FREE_MEMORY = 32 << 20
_MEMORY_PER_BYTE = 4
_MAX_MEMORY = 256 << 20
_MISSING = object()
_MAX_RANK = 32
_RESAVE = "save the network with torch.export.save(torch.export.export(module, arguments), path)"


def is_exported(members: list[str]) -> bool:
    """Whether a zip with these members is a program of PyTorch, exported or compiled."""
    return _OLD_PROGRAM in members or any(_MODEL.fullmatch(name) or _COMPILED.match(name) for name in members)


def read_program(source: str | os.PathLike[str] | BinaryIO) -> Program:
    """Read what ``torch.export.save`` wrote.

    Parameters
    ----------
    source : path-like or binary file
        Large constants are read when they are asked for: a file stays open, and has to be, until then.

    Raises
    ------
    FormatError
        If the file is damaged, its program refers to what is not there, or tensors are not as it says.
    UnsupportedError
        If it is of another version, compiled, or needs something that is more than data.
    """
    if isinstance(source, (str, os.PathLike)):
        archive = Archive(os.fsdecode(source))
    else:
        archive = Archive("the exported program", source)  # a file in memory
    member, root, model = _program_of(archive)
    what = f"{archive.path}: {member}"
    # PyTorch 2.6 writes infinite numbers as they are
    exported = read_exported(_json(archive, member, _MAX_PROGRAM, not_finite=True), what)
    if member == _OLD_PROGRAM:
        weights = _saved(archive, "serialized_state_dict.pt")
        constants = _saved(archive, "serialized_constants.pt")
    else:
        weights = _payloads(archive, root, "weights", model)
        constants = _payloads(archive, root, "constants", model)
    return Program(
        exported.inputs,
        exported.input_names,
        exported.fixed,
        exported.operations,
        exported.outputs,
        StoredTensors(_read_constants(archive.path, exported, weights, constants)),
        {value: spec.path for value, spec in exported.constants.items()},
        exported.types,
        exported.ranges,
        exported.mutated,
        exported.source,
    )


def _json(archive: Archive, member: str, limit: int, *, not_finite: bool = False) -> Any:
    """A member of at most `limit` bytes; its elements may take a few times what they take as text."""
    data = archive.read(member, limit)
    memory = min(_FREE_MEMORY + _MEMORY_PER_BYTE * len(data), _MAX_MEMORY)
    return parse_json(data, f"{archive.path}: {member}", memory, not_finite=not_finite)


def _program_of(archive: Archive) -> tuple[str, str, str]:
    """The member with the program, the folder around all, and the name of the model."""
    path = archive.path
    if _OLD_PROGRAM in archive:
        return _OLD_PROGRAM, "", ""
    found = [match for name in archive.names if (match := _MODEL.fullmatch(name))]
    if not found:
        if any(_COMPILED.match(name) for name in archive.names):
            raise UnsupportedError(
                f"{path}: a package compiled by AOTInductor, which holds machine code and no program; {_RESAVE}"
            )
        raise FormatError(f"{path}: no program of torch.export in this archive")
    if len(found) > 1:
        listed = ", ".join(repr(match[1][:100]) for match in found[:10])
        raise FormatError(f"{path}: {len(found)} programs ({listed}); one per file is read: {_RESAVE} for each")
    member, model = found[0][0], found[0][1]
    root = member[: -len(f"models/{model}.json")]
    for name, expected in (("archive_format", "pt2"), ("archive_version", _ARCHIVE_VERSION)):
        if f"{root}{name}" in archive:
            text = archive.read(f"{root}{name}", 64, checksum=False).decode("ascii", "replace").strip()
            if text != expected:
                raise UnsupportedError(f"{path}: {name} {text!r} is not supported, {expected!r} is; {_RESAVE}")
    return member, root, model


# Tensors of the archive


class _Stored(NamedTuple):
    """A tensor in the archive, and the reader that reads it."""

    tensor: TensorRef
    reader: TensorReader


#: path of a parameter, buffer or constant -> its tensor, or why it cannot be read; None if it is not there
_Find = Callable[[str], _Stored | str | None]


def _saved(archive: Archive, member: str) -> _Find:
    """Of a dict that ``torch.save`` wrote into a member."""
    if member not in archive:
        raise FormatError(f"{archive.path}: {member} is missing")
    if not archive.size(member):
        return lambda path: None  # there was nothing to save
    content, reader, *_ = open_tensor_archive(_inner(archive, member))
    if not isinstance(content, dict):
        raise FormatError(f"{archive.path}: {member} expected a dict, found {type(content).__name__}")
    saved = content

    def find(path: str) -> _Stored | str | None:
        found = saved.get(path, _MISSING)
        if found is _MISSING:
            return None
        return _Stored(found, reader) if isinstance(found, TensorRef) else _why_not(found)

    return find


def _why_not(value: object) -> str:
    if isinstance(value, Placeholder):
        return f"is made by {value.made_by[:200]}, which is not run"
    return f"is a {type(value).__name__} and no tensor"


def _inner(archive: Archive, member: str) -> Archive:
    """The archive that is a member of another."""
    return Archive(f"{archive.path}: {member}", archive.open_member(member))


def _payloads(archive: Archive, root: str, folder: str, model: str) -> _Find:
    """Of a folder, as its config describes it."""
    base = f"{root}data/{folder}/"
    if f"{base}{model}.pt" in archive:
        return _saved(archive, f"{base}{model}.pt")
    config = f"{base}{model}_{folder}_config.json"
    if config not in archive:
        raise FormatError(f"{archive.path}: {config} is missing")
    what = f"{archive.path}: {config}"
    json = JsonFields(what)
    entries = json.field(_json(archive, config, _MAX_CONFIG), "config", dict, "the file")
    little_endian = is_little_endian(archive, root)
    reader = TensorReader(archive.path, lambda storage: archive.locate(storage.key), archive.read_into, little_endian)

    def find(path: str) -> _Stored | str | None:
        return _payload(archive, json, base, path, entries[path], reader) if path in entries else None

    return find


def _payload(
    archive: Archive, json: JsonFields, base: str, path: str, entry: object, reader: TensorReader
) -> _Stored | str:
    where = f"{path[:300]!r}"
    file = json.name(entry, "path_name", where)
    if f"{base}{file}" not in archive:
        json.fail(f"{where}: its file {file!r} is missing")
    member = f"{base}{file}"
    if not file.startswith(("weight_", "tensor_")):
        return f"is the object {file!r}, which is not read"
    if json.field(entry, "use_pickle", bool, where):
        opened = open_tensor_archive(_inner(archive, member))
        return (
            _Stored(opened.content, opened.reader)
            if isinstance(opened.content, TensorRef)
            else _why_not(opened.content)
        )
    meta = json.field(entry, "tensor_meta", dict, where)
    kind = json.known(json.field(meta, "dtype", int, where), DTYPES, "the dtype", where)
    shape, strides = (
        tuple([_count(json, size, where) for size in json.field(meta, key, list, where)])
        for key in ("sizes", "strides")
    )
    offset = _count(json, json.field(meta, "storage_offset", dict, where), where)
    if len(shape) != len(strides) or len(shape) > _MAX_RANK:
        json.fail(f"{where}: {len(shape)} axes and {len(strides)} strides")
    if math.prod(max(size, 1) for size in shape) >= 1 << 59:
        json.fail(f"{where}: shape {shape} is too large")
    storage = StorageRef(member, "untyped", archive.size(member))
    return _Stored(tensor_ref(storage, kind, offset, shape, strides), reader)


def _count(json: JsonFields, value: object, where: str) -> int:
    """The number in ``{"as_int": 3}``: a stored tensor has no symbolic sizes."""
    kind, number = json.union(value, where)
    if kind != "as_int":
        json.fail(f"{where}: a size that is no number")
    return json.count(number, where)


def _read_constants(path: str, exported: Exported, weights: _Find, constants: _Find) -> Mapping[str, Tensor]:
    """Value -> tensor of each constant of the program, checked against what the program says of it."""
    tensors: dict[TensorReader, dict[str, TensorRef]] = {}
    values: list[tuple[str, TensorReader, str]] = []
    for value, spec in exported.constants.items():
        first, second = (weights, constants) if spec.persistent else (constants, weights)
        found = first(spec.path) or second(spec.path)
        if found is None:
            raise FormatError(f"{path}: {spec.path!r}, which the program calls {value!r}, is missing")
        if isinstance(found, str):
            raise UnsupportedError(f"{path}: {spec.path!r}, which the program calls {value!r}, {found}")
        type_ = exported.types[value]
        tensor = found.tensor
        if not isinstance(type_, TensorType) or (tensor.kind, tensor.shape) != (type_.dtype, type_.shape):
            raise FormatError(
                f"{path}: {spec.path!r} is {tensor.kind} of shape {tensor.shape}; the program says {_shown(type_)}"
            )
        tensors.setdefault(found.reader, {})[spec.path] = tensor
        values.append((value, found.reader, spec.path))
    read = {reader: reader.read_all(named) for reader, named in tensors.items()}
    return {value: read[reader][name] for value, reader, name in values}


def _shown(type_: Any) -> str:
    return f"{type_.dtype} of shape ({', '.join(map(str, type_.shape))})" if isinstance(type_, TensorType) else "none"
