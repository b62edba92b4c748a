"""Files of Keras models: ``.keras`` archives, ``.h5`` files, weights alone and spread over several files.

Keras 3, and 2.12 on, write a ``.keras`` archive (zip, or a folder with ``zipped=False``): a config, the version, and
weights in HDF5 under the names of classes, in snake case with a counter per class. ``.weights.h5`` is that HDF5 file
alone, ``.weights.json`` the index of several. The older ``.h5`` has the config in an attribute, and the weights under
names listed in attributes; weights alone are the same without the config. A file of weights needs ``architecture=`` or
``layers=``.

Reading any of them needs h5py, and neither Keras nor TensorFlow.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.keras.alone import Group, archive_groups, graph_of_layers, legacy_groups
from cylstm.formats.keras.architecture import (
    MAX_CONFIG_BYTES,
    WEIGHTS,
    Architecture,
    Folder,
    archive_config,
    h5_config,
    read_architecture,
)
from cylstm.formats.keras.build import Model
from cylstm.formats.keras.cudnn import without_cudnn
from cylstm.formats.keras.weights import ARCHIVE_ROOTS, LEGACY_NAMES, ArchiveWeights, LegacyWeights, is_weight
from cylstm.formats.state_dict.wiring import Layer
from cylstm.formats.untrusted.hdf5 import Hdf5File, open_hdf5, open_hdf5_file
from cylstm.formats.untrusted.json import parse_json
from cylstm.formats.untrusted.zip import Archive
from cylstm.graph.graph import Graph

_MAX_WEIGHTS_BYTES = 16 << 30
_MAX_SHARDS = 1000
_NEEDED = (
    "weights without the model's config, so their wiring is unknown: give architecture= (the text or file of "
    "model.to_json(), or a .keras or .h5 file of the whole model) or layers="
)


class _View(io.RawIOBase):
    """Bytes in memory as a file that copies none of them."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = memoryview(data)
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: len(self._data)}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        part = self._data[self._place : self._place + len(buffer)]
        buffer[: len(part)] = part
        self._place += len(part)
        return len(part)


def read_keras(
    path: str,
    *,
    keras_version: str | None = None,
    custom_layers: object = None,
) -> Graph:
    """Read a ``.keras`` archive, or the folder of one, into a graph.

    Parameters
    ----------
    path : str
    keras_version : str, optional
        Read the config as this version wrote it, instead of the one that the archive names.
    custom_layers : dict of str to callable, optional
        What custom layers and Lambdas compute, by class or name; see `cylstm.load`.

    Raises
    ------
    FormatError
        If the archive is damaged, or its weights do not fit its config.
    UnsupportedError
        If the model has a layer or an option that is not computed, or h5py is missing.
    """
    with _members(path) as archive:
        if WEIGHTS not in archive:
            raise FormatError(f"{path}: {WEIGHTS} is missing; found {', '.join(archive.names[:20])}")
        found = archive_config(path, archive)
        model = _model(path, found, keras_version, custom_layers)
        content = archive.read(WEIGHTS, _MAX_WEIGHTS_BYTES)
    with open_hdf5(path, _View(content), content) as file:
        weights = ArchiveWeights(path, [file], model.layers)
        return model.graph(weights, {"format": "keras", "source": path, "backend": found.backend})


def read_h5(file: Hdf5File, *, keras_version: str | None = None, custom_layers: object = None) -> Graph:
    """Read a whole model in HDF5 (``.h5``, ``.hdf5``) into a graph.

    Parameters
    ----------
    file : Hdf5File
    keras_version : str, optional
        Read the config as this version wrote it, instead of the one that is named beside it.
    custom_layers : dict of str to callable, optional
        What custom layers and Lambdas compute, by class or name; see `cylstm.load`.

    Raises
    ------
    FormatError
        If the file is damaged, or its weights do not fit the config.
    UnsupportedError
        If the model has a layer or an option that is not computed.
    """
    path = file.path
    found = h5_config(path, file)
    model = _model(path, found, keras_version, custom_layers)
    weighted = model.weighted(LegacyWeights.weighted_groups(file, "model_weights"))
    weights = LegacyWeights(path, file, "model_weights", weighted)
    return model.graph(weights, {"format": "keras h5", "source": path, "backend": found.backend})


def read_h5_weights(
    file: Hdf5File,
    *,
    layers: Sequence[Layer] | None = None,
    architecture: object = None,
    keras_version: str | None = None,
    custom_layers: object = None,
) -> Graph:
    """Read weights alone in HDF5 (``.h5``, ``.hdf5``, ``.weights.h5``) into a graph.

    Parameters
    ----------
    file : Hdf5File
    layers : sequence of Layer, optional
        What the weights are wired to: `LSTM`, `GRU`, `RNN`, `Linear` and so on in the order of computation, each with
        the name of its group in the file, for example ``[LSTM("lstm_1"), Last(), Linear("dense")]``.
    architecture : str, path-like or mapping, optional
        What the weights belong to: the text of ``model.to_json()``, a file that holds it, a ``.keras`` or ``.h5``
        file of a whole model, or the config as a dict.
    keras_version : str, optional
        Read the config as this version wrote it, instead of the one that is named beside it.
    custom_layers : dict of str to callable, optional
        What custom layers and Lambdas of `architecture` compute, by class or name; see `cylstm.load`.

    Raises
    ------
    FormatError
        If the file is damaged, or its weights do not fit the config; if both or neither of `layers` and `architecture`
        are given.
    UnsupportedError
        If the model has a layer or an option that is not computed.
    """
    path = file.path
    is_legacy = any(file.has_attribute(name) for name in LEGACY_NAMES)
    if not is_legacy and not any(root in file for root in (*ARCHIVE_ROOTS, "vars")):
        raise FormatError(f"{path}: an HDF5 file, but not a Keras model: it has no model_config and no layers")

    def groups() -> list[Group]:
        return legacy_groups(file) if is_legacy else archive_groups(path, [file])

    _check_wiring(path, layers, architecture, keras_version, custom_layers, groups)
    format_ = "keras h5 weights" if is_legacy else "keras weights"
    if architecture is None:
        return graph_of_layers(path, groups(), layers, {"format": format_, "source": path})
    found = read_architecture(path, architecture)
    if is_legacy:
        own = file.attribute(file.file, "keras_version"), file.attribute(file.file, "backend")
        texts = [text if isinstance(text, str) else None for text in own]
        found = found._replace(version=found.version or texts[0], backend=found.backend or texts[1])
    model = _model(path, found, keras_version, custom_layers)
    weights: LegacyWeights | ArchiveWeights
    if is_legacy:
        weights = LegacyWeights(path, file, "", model.weighted(LegacyWeights.weighted_groups(file, "")))
    else:
        weights = ArchiveWeights(path, [file], model.layers)
    return model.graph(weights, {"format": format_, "source": path, "backend": found.backend})


def read_keras_index(
    path: str,
    *,
    layers: Sequence[Layer] | None = None,
    architecture: object = None,
    keras_version: str | None = None,
    custom_layers: object = None,
) -> Graph:
    """Read weights that Keras 3 has spread over several files: ``.weights.json`` and those it names.

    Takes and raises as `read_h5_weights`; also `FormatError` if a file is missing, or
    holds what the index does not say.
    """
    given = None if architecture is None else read_architecture(path, architecture)
    places = _shards(path)
    names = list(dict.fromkeys(name for files in places.values() for name in files))
    if len(names) > _MAX_SHARDS:
        raise FormatError(f"{path}: an index of {len(names)} files; at most {_MAX_SHARDS} are read")
    with contextlib.ExitStack() as stack:
        files = []
        for name in names:
            shard = os.path.join(os.path.dirname(path), name)
            if not os.path.isfile(shard):
                raise FormatError(f"{path}: the file {name} is missing beside it")
            files.append(stack.enter_context(open_hdf5_file(shard)))
        _check_shards(path, places, dict(zip(names, files, strict=True)))
        _check_wiring(path, layers, architecture, keras_version, custom_layers, lambda: archive_groups(path, files))
        provenance = {"format": "keras weights, sharded", "source": path, "files": names}
        if given is None:
            return graph_of_layers(path, archive_groups(path, files), layers, provenance)
        model = _model(path, given, keras_version, custom_layers)
        return model.graph(ArchiveWeights(path, files, model.layers), provenance | {"backend": given.backend})


def _members(path: str) -> contextlib.AbstractContextManager[Archive | Folder]:
    return contextlib.nullcontext(Folder(path)) if os.path.isdir(path) else Archive(path)


def _model(path: str, found: Architecture, keras_version: str | None, custom_layers: object) -> Model:
    version = keras_version or found.version
    if not isinstance(version, str):
        raise FormatError(
            f"{path}: nothing tells which Keras wrote the config; give it, for example keras_version='2.2.4'"
        )
    return Model(path, without_cudnn(found.config), version, custom_layers)


def _check_wiring(
    path: str,
    layers: object,
    architecture: object,
    keras_version: object,
    custom_layers: object,
    groups: Callable[[], list[Group]],
) -> None:
    """Weights alone need one of `layers` and `architecture`; only a config has a version and custom layers.

    Where both are missing, the error proposes layers for the `groups` of the file, if there are layers for all.
    """
    if layers is None and architecture is None:
        proposed = ""
        try:
            graph_of_layers(path, groups(), None, {})
        except FormatError as error:
            proposed = str(error).partition(" is needed. ")[2]
        except UnsupportedError:
            pass
        raise FormatError(f"{path}: {_NEEDED}{'. ' * bool(proposed)}{proposed}")
    if layers is not None and architecture is not None:
        raise FormatError(f"{path}: both architecture= and layers= say the wiring; leave out one")
    if layers is not None and keras_version is not None:
        raise FormatError(
            f"{path}: keras_version= is of the config that architecture= gives; leave it out with layers="
        )
    if layers is not None and custom_layers is not None:
        raise FormatError(
            f"{path}: custom_layers= is of the config that architecture= gives; leave it out with layers="
        )


# Weights spread over several files


def _shards(path: str) -> dict[str, list[str]]:
    """Group of variables -> names of the files that hold them, from an index."""
    if os.path.getsize(path) > MAX_CONFIG_BYTES:
        raise FormatError(f"{path}: an index of {os.path.getsize(path)} bytes; at most {MAX_CONFIG_BYTES} are read")
    with open(path, "rb") as file:
        index = parse_json(file.read(), path)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places:
        raise FormatError(f"{path}: expected an index of weights, with a weight_map")
    found = {}
    for group, files in places.items():
        files = [files] if isinstance(files, str) else files
        if not isinstance(files, list) or not files or not all(isinstance(name, str) for name in files):
            raise FormatError(f"{path}: weight_map, {group!r:.80}: expected the names of files, found {files!r:.80}")
        for name in files:
            if not name or name in (".", "..") or set(name) & set("/\\\0") or os.path.basename(name) != name:
                raise FormatError(f"{path}: weight_map, {group!r:.80}: an unsafe file name: {name!r:.80}")
        found[group.strip("/")] = files
    return found


def _check_shards(path: str, places: Mapping[str, Sequence[str]], files: Mapping[str, Hdf5File]) -> None:
    """Refuse a file that holds, or lacks, variables other than the index says."""
    for name, file in files.items():
        groups = {found.rpartition("/")[0] for found in file.datasets("") if is_weight(found)}
        expected = {group for group, shards in places.items() if name in shards and is_weight(group)}
        for wrong, what in ((expected - groups, "lacks"), (groups - expected, "also holds")):
            if wrong:
                raise FormatError(f"{path}: {name} {what}, other than the index says: {', '.join(sorted(wrong)[:20])}")
