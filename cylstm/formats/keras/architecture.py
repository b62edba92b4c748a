"""The config of a Keras model: what describes its layers, wherever it is kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from cylstm.errors import FormatError
from cylstm.formats import check_path
from cylstm.formats.unknown import missing_file
from cylstm.formats.untrusted.hdf5 import Hdf5File, open_hdf5_file
from cylstm.formats.untrusted.json import parse_json
from cylstm.formats.untrusted.zip import Archive

MAX_CONFIG_BYTES = 64 << 20
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


class Architecture(NamedTuple):
    """A model's config as Keras serialises it, the version of the Keras that wrote it, and its backend."""

    config: object
    version: str | None
    backend: str | None


class Folder:
    """A folder with the members of an archive, which is read like one."""

    def __init__(self, path: str) -> None:
        self.path = path
        known = (CONFIG, METADATA, WEIGHTS)
        self.names = [name for name in known if os.path.isfile(os.path.join(path, name))]

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def read(self, name: str, limit: int) -> bytes:
        """The content of a member of at most `limit` bytes."""
        with open(os.path.join(self.path, name), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise FormatError(f"{self.path}: {name} has {size} bytes; at most {limit} are read")
            return file.read(size)


def read_architecture(path: str, given: object) -> Architecture:
    """The config that `architecture=` stands for; `path` is the weights' file, for messages.

    Raises
    ------
    FormatError
        If it is no config, or the file holds none.
    FileNotFoundError
        If there is no such file.
    """
    what = f"{path}: architecture"
    if isinstance(given, Mapping):
        return _described(what, given)
    if isinstance(given, (bytes, bytearray)) or (isinstance(given, str) and given.lstrip()[:1] == "{"):
        return _described(what, parse_json(given if isinstance(given, str) else bytes(given), what))
    if not isinstance(given, (str, os.PathLike)):
        raise FormatError(
            f"{what}= expected a config as text, a dict or a file, found {type(given).__name__}; a list of layers "
            "is given as layers="
        )
    source = os.fsdecode(given)
    check_path("architecture=", source)
    if not os.path.exists(source):
        raise missing_file(source)
    if os.path.isdir(source):
        return archive_config(source, Folder(source))
    with open(source, "rb") as file:
        head = file.read(8)
        if head[:2] != b"PK" and head[:1] != b"\x89":
            size = os.fstat(file.fileno()).st_size
            if size > MAX_CONFIG_BYTES:
                raise FormatError(f"{source}: more than {MAX_CONFIG_BYTES} bytes of a config")
            text = head + file.read(size)
            return _described(source, parse_json(text, source))
    if head[:2] == b"PK":
        with Archive(source) as archive:
            return archive_config(source, archive)
    with open_hdf5_file(source) as file:
        if not file.has_attribute("model_config"):
            raise FormatError(f"{source}: weights alone, no architecture: it has no model_config")
        return h5_config(source, file)


def _described(what: str, config: object) -> Architecture:
    """What ``model.to_json()`` wrote: Keras 2 put its version there, Keras 3 does not."""
    if not isinstance(config, Mapping):
        raise FormatError(f"{what}: expected an object with class_name and config, found a {type(config).__name__}")
    version = config.get("keras_version")
    if version is None and "module" in config:
        version = "3"
    backend = config.get("backend")
    return Architecture(
        config,
        version if isinstance(version, str) else None,
        backend if isinstance(backend, str) else None,
    )


def archive_config(path: str, archive: Archive | Folder) -> Architecture:
    """The config in a ``.keras`` archive. Raises `FormatError`."""
    if CONFIG not in archive:
        raise FormatError(f"{path}: {CONFIG} is missing; found {', '.join(archive.names[:20]) or 'nothing'}")
    config = parse_json(archive.read(CONFIG, MAX_CONFIG_BYTES), f"{path}: {CONFIG}")
    metadata: object = {}
    if METADATA in archive:
        metadata = parse_json(archive.read(METADATA, MAX_CONFIG_BYTES), f"{path}: {METADATA}")
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    if not isinstance(version, str):
        raise FormatError(f"{path}: {METADATA} names no keras_version")
    return Architecture(config, version, None)


def h5_config(path: str, file: Hdf5File) -> Architecture:
    """The config in an ``.h5`` file of a whole model. Raises `FormatError`."""
    text = file.attribute(file.file, "model_config")
    if not isinstance(text, str) or len(text) > MAX_CONFIG_BYTES:
        raise FormatError(f"{path}: model_config expected text of at most {MAX_CONFIG_BYTES} bytes")
    group = file.group("model_weights")
    found: dict[str, str | None] = {}
    for name in ("keras_version", "backend"):
        text_or_list = file.attribute(file.file, name) or file.attribute(group, name)
        if isinstance(text_or_list, list):
            raise FormatError(f"{path}: {name} expected text, found {text_or_list!r:.80}")
        found[name] = text_or_list
    # Keras itself reads a file without a version as one of Keras 1.
    return Architecture(parse_json(text, f"{path}: model_config"), found["keras_version"] or "1", found["backend"])
