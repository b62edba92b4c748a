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
import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.arrays import shape_text
from cylstm.formats.keras.build import Model
from cylstm.formats.keras.cudnn import from_cudnn, without_cudnn
from cylstm.formats.keras.weights import (
    ARCHIVE_ROOTS,
    LEGACY_NAMES,
    ArchiveWeights,
    LegacyWeights,
    is_weight,
    legacy_names,
)
from cylstm.formats.registry import KERAS_H5, KERAS_WEIGHTS, Format
from cylstm.formats.state_dict.assemble import graph_from_tensors
from cylstm.formats.state_dict.wiring import GRU, ConvLSTM, Layer
from cylstm.formats.untrusted.hdf5 import Hdf5File, Hdf5Tensor, open_hdf5
from cylstm.formats.untrusted.json import parse_json
from cylstm.formats.untrusted.zip import Archive
from cylstm.graph.graph import Graph

_MAX_CONFIG_BYTES = 64 << 20
_MAX_WEIGHTS_BYTES = 16 << 30
_MAX_SHARDS = 1000
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_NEEDED = (
    "weights without the model's config, so their wiring is unknown: give architecture= (the text or file of "
    "model.to_json(), or a .keras or .h5 file of the whole model) or layers="
)


class Architecture(NamedTuple):
    """A model's config as Keras serialises it, the version of the Keras that wrote it, and its backend."""

    config: object
    version: str | None
    backend: str | None


class _Folder:
    """A folder with the members of an archive, read as one."""

    def __init__(self, path: str) -> None:
        self.path = path
        known = (_CONFIG, _METADATA, _WEIGHTS)
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

    def readinto(self, buffer) -> int:
        part = self._data[self._place : self._place + len(buffer)]
        buffer[: len(part)] = part
        self._place += len(part)
        return len(part)


def read_keras(
    path: str,
    *,
    keras_version: str | None = None,
) -> Graph:
    """Read a ``.keras`` archive, or the folder of one, into a graph.

    Parameters
    ----------
    path : str
    keras_version : str, optional
        Read the config as this version wrote it, instead of the one that the archive names.

    Raises
    ------
    FormatError
        If the archive is damaged, or its weights do not fit its config.
    UnsupportedError
        If the model has a layer or an option that is not computed, or h5py is missing.
    """
    with _members(path) as archive:
        if _WEIGHTS not in archive:
            raise FormatError(f"{path}: {_WEIGHTS} is missing; found {', '.join(archive.names[:20])}")
        found = _archive_config(path, archive)
        model = _model(path, found, keras_version)
        content = archive.read(_WEIGHTS, _MAX_WEIGHTS_BYTES)
    with open_hdf5(path, _View(content), content) as file:
        weights = ArchiveWeights(path, [file], model.layers)
        return model.graph(weights, {"format": "keras", "source": path, "backend": found.backend})


def read_h5(
    path: str,
    *,
    layers: Sequence[Layer] | None = None,
    architecture: object = None,
    keras_version: str | None = None,
    check_options: Callable[[Format], None],
) -> Graph:
    """Read a whole model or weights alone in HDF5 (``.h5``, ``.hdf5``, ``.weights.h5``) into a graph.

    Parameters
    ----------
    path : str
    layers : sequence of Layer, optional
        What weights alone are wired to: `LSTM`, `GRU`, `RNN`, `Linear` and so on in the order of computation, each with
        the name of its group in the file, for example ``[LSTM("lstm_1"), Last(), Linear("dense")]``.
    architecture : str, path-like or mapping, optional
        What weights alone belong to: the text of ``model.to_json()``, a file that holds it, a ``.keras`` or ``.h5``
        file of a whole model, or the config as a dict.
    keras_version : str, optional
        Read the config as this version wrote it, instead of the one that is named beside it.
    check_options : callable
        Refuses the options that the file, once it is known, does not take.

    Raises
    ------
    FormatError
        If the file is damaged, or its weights do not fit the config; if both or neither of `layers` and `architecture`
        are given for weights alone, or one for a whole model.
    UnsupportedError
        If the model has a layer or an option that is not computed, or h5py is missing.
    """
    given = None if architecture is None else read_architecture(path, architecture)
    with _opened(path) as file:
        if "model_config" in file.file.attrs:
            check_options(KERAS_H5)
            found = _h5_config(path, file)
            model = _model(path, found, keras_version)
            weights = LegacyWeights(path, file, "model_weights", model.weighted())
            return model.graph(weights, {"format": "keras h5", "source": path, "backend": found.backend})
        is_legacy = any(name in file.file.attrs for name in LEGACY_NAMES)
        if not is_legacy and not any(root in file for root in (*ARCHIVE_ROOTS, "vars")):
            raise FormatError(f"{path}: an HDF5 file, but not a Keras model: it has no model_config and no layers")
        check_options(KERAS_WEIGHTS)
        _check_wiring(path, layers, architecture, keras_version)
        format_ = "keras h5 weights" if is_legacy else "keras weights"
        if given is None:
            tensors = _legacy_tensors(file) if is_legacy else _archive_tensors(path, [file])
            return _graph_of_layers(path, tensors, layers, {"format": format_, "source": path})
        found = given
        if is_legacy:
            own = file.attribute(file.file, "keras_version"), file.attribute(file.file, "backend")
            texts = [text if isinstance(text, str) else None for text in own]
            found = found._replace(version=found.version or texts[0], backend=found.backend or texts[1])
        model = _model(path, found, keras_version)
        weights = (
            LegacyWeights(path, file, "", model.weighted()) if is_legacy else ArchiveWeights(path, [file], model.layers)
        )
        return model.graph(weights, {"format": format_, "source": path, "backend": found.backend})


def read_keras_index(
    path: str,
    *,
    layers: Sequence[Layer] | None = None,
    architecture: object = None,
    keras_version: str | None = None,
) -> Graph:
    """Read weights that Keras 3 has spread over several files: ``.weights.json`` and those it names.

    Takes and raises as `read_h5`; also `FormatError` if a file is missing, or holds what the index does not say.
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
            files.append(stack.enter_context(_opened(shard)))
        _check_shards(path, places, dict(zip(names, files, strict=True)))
        _check_wiring(path, layers, architecture, keras_version)
        provenance = {"format": "keras weights, sharded", "source": path, "files": names}
        if given is None:
            return _graph_of_layers(path, _archive_tensors(path, files), layers, provenance)
        model = _model(path, given, keras_version)
        return model.graph(ArchiveWeights(path, files, model.layers), provenance | {"backend": given.backend})


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
    if os.path.isdir(source):
        return _archive_config(source, _Folder(source))
    with open(source, "rb") as file:
        head = file.read(8)
        if head[:2] != b"PK" and head[:1] != b"\x89":
            text = head + file.read(_MAX_CONFIG_BYTES)
            if len(text) > _MAX_CONFIG_BYTES:
                raise FormatError(f"{source}: more than {_MAX_CONFIG_BYTES} bytes of a config")
            return _described(source, parse_json(text, source))
    if head[:2] == b"PK":
        with Archive(source) as archive:
            return _archive_config(source, archive)
    with _opened(source) as file:
        if "model_config" not in file.file.attrs:
            raise FormatError(f"{source}: weights alone, no architecture: it has no model_config")
        return _h5_config(source, file)


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


def _members(path: str) -> contextlib.AbstractContextManager[Archive | _Folder]:
    return contextlib.nullcontext(_Folder(path)) if os.path.isdir(path) else Archive(path)


def _archive_config(path: str, archive: Archive | _Folder) -> Architecture:
    if _CONFIG not in archive:
        raise FormatError(f"{path}: {_CONFIG} is missing; found {', '.join(archive.names[:20]) or 'nothing'}")
    config = parse_json(archive.read(_CONFIG, _MAX_CONFIG_BYTES), f"{path}: {_CONFIG}")
    metadata: object = {}
    if _METADATA in archive:
        metadata = parse_json(archive.read(_METADATA, _MAX_CONFIG_BYTES), f"{path}: {_METADATA}")
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    if not isinstance(version, str):
        raise FormatError(f"{path}: {_METADATA} names no keras_version")
    return Architecture(config, version, None)


def _h5_config(path: str, file: Hdf5File) -> Architecture:
    text = file.attribute(file.file, "model_config")
    if not isinstance(text, str) or len(text) > _MAX_CONFIG_BYTES:
        raise FormatError(f"{path}: model_config expected text of at most {_MAX_CONFIG_BYTES} bytes")
    group = file.group("model_weights")
    found = {}
    for name in ("keras_version", "backend"):
        found[name] = file.attribute(file.file, name) or file.attribute(group, name)
        if not isinstance(found[name], str | None):
            raise FormatError(f"{path}: {name} expected text, found {found[name]!r:.80}")
    # Keras itself takes a file without a version for one of Keras 1.
    return Architecture(parse_json(text, f"{path}: model_config"), found["keras_version"] or "1", found["backend"])


def _model(path: str, found: Architecture, keras_version: str | None) -> Model:
    version = keras_version or found.version
    if not isinstance(version, str):
        raise FormatError(
            f"{path}: nothing tells which Keras wrote the config; give it, for example keras_version='2.2.4'"
        )
    return Model(path, without_cudnn(found.config), version)


def _check_wiring(path: str, layers: object, architecture: object, keras_version: object) -> None:
    """Weights alone need one of `layers` and `architecture`; only a config has a version."""
    if layers is None and architecture is None:
        raise FormatError(f"{path}: {_NEEDED}")
    if layers is not None and architecture is not None:
        raise FormatError(f"{path}: both architecture= and layers= say the wiring; leave out one")
    if layers is not None and keras_version is not None:
        raise FormatError(
            f"{path}: keras_version= is of the config that architecture= gives; leave it out with layers="
        )


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Hdf5File]:
    """An HDF5 file on disk, on guard."""
    if not os.path.getsize(path):
        raise FormatError(f"{path}: the file is empty")
    with (
        open(path, "rb") as raw,
        mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data,
        open_hdf5(path, raw, data) as file,
    ):
        yield file


# Weights spread over several files


def _shards(path: str) -> dict[str, list[str]]:
    """Group of variables -> names of the files that hold them, from an index."""
    if os.path.getsize(path) > _MAX_CONFIG_BYTES:
        raise FormatError(f"{path}: an index of {os.path.getsize(path)} bytes; at most {_MAX_CONFIG_BYTES} are read")
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


# Weights alone, wired by layers=


class _Group(NamedTuple):
    """One direction of a layer in a file of weights: the layer's name there, and Keras role -> tensor."""

    name: str
    is_backward: bool
    tensors: dict[str, Hdf5Tensor]


#: Groups between a layer's own and its variables, which its name leaves out.
_WITHIN = ("cell", "forward_layer", "backward_layer")


def _archive_tensors(path: str, files: Sequence[Hdf5File]) -> list[_Group]:
    """The variables of all layers, whose order tells what they are.

    A layer is named by its group, which is below ``layers`` or, for an attribute of a model that is a class of its own,
    beside it; by the whole path where that name is another's too.
    """
    weights = ArchiveWeights(path, files, [])
    whole = {group: [part for part in group.split("/")[:-1] if part not in _WITHIN] for group in weights.vars}
    short = {group: "/".join(parts[1:] if parts[:1] == [weights.root] else parts) for group, parts in whole.items()}
    owners: dict[str, set[str]] = {}
    for group, name in short.items():
        owners.setdefault(name, set()).add("/".join(whole[group]))
    found = []
    for group, variables in weights.vars.items():
        parts = group.split("/")
        roles = ("kernel", "recurrent_kernel", "bias") if "cell" in parts or len(variables) == 3 else ("kernel", "bias")
        if not short[group]:
            raise UnsupportedError(f"{path}: {group!r} holds weights of the model itself, which layers= cannot name")
        if sorted(variables) != [str(j) for j in range(len(variables))] or len(variables) > len(roles):
            raise UnsupportedError(
                f"{path}: {group!r} is of no layer that layers= can name; give architecture=, "
                f"found {len(variables)} arrays"
            )
        tensors = {
            role: weights.files[f"{group}/{j}"].tensor(f"{group}/{j}") for j, role in zip(range(len(variables)), roles)
        }
        name = short[group] if len(owners[short[group]]) == 1 else "/".join(whole[group])
        found.append(_Group(name, "backward_layer" in parts, tensors))
    return found


def _legacy_tensors(file: Hdf5File) -> list[_Group]:
    """The groups that the attributes of an older file name; a second set in one is that of the backward layer."""
    found = []
    left = dict.fromkeys(filter(is_weight, file.datasets("")))
    for layer, names in legacy_names(file, ""):
        sets: dict[str, dict[str, Hdf5Tensor]] = {}
        for name in names:
            parent, _, role = name.rpartition("/")
            sets.setdefault(parent, {})[role.split(":")[0]] = file.tensor(f"{layer}/{name}")
            left.pop(f"{layer}/{name}", None)
        backward = [parent for parent in sets if any(part.startswith("backward_") for part in parent.split("/"))]
        if len(sets) > 2 or (len(sets) == 2 and len(backward) != 1):
            raise UnsupportedError(
                f"{file.path}: {layer!r} is of no layer that layers= can name; give architecture=, "
                f"found {', '.join(names[:12])}"
            )
        found += [_Group(layer, parent in backward, tensors) for parent, tensors in sets.items()]
    if left:
        raise FormatError(
            f"{file.path}: weights that belong to no layer that its attribute layer_names names: "
            f"{', '.join(list(left)[:40])}"
        )
    return found


def _graph_of_layers(
    path: str, groups: Sequence[_Group], layers: Sequence[Layer], provenance: Mapping[str, object]
) -> Graph:
    """The weights under PyTorch's names and in its layout, wired by `layers`."""
    arrays: dict[str, np.ndarray] = {}
    sources: dict[str, str] = {}
    layouts: dict[str, str] = {}
    gru_biases: dict[str, int] = {}
    for group in groups:
        what = f"{path}: layer {group.name!r}"
        made = _as_pytorch(what, group)
        bias = group.tensors.get("bias")
        if "weight_ih_l0" in "".join(made) and bias is not None:
            gru_biases[group.name] = (
                1 if len(bias.shape) == 1 and bias.shape == group.tensors["kernel"].shape[-1:] else 2
            )
        for name, (role, array) in made.items():
            full = f"{group.name}.{name}"
            if full in arrays:
                raise FormatError(f"{what}: two sets of weights for {name!r}")
            arrays[full] = array
            sources[full] = group.tensors[role].name
            layouts[group.tensors[role].name] = group.tensors[role].layout
    for layer in layers if isinstance(layers, (list, tuple)) else ():
        expected = gru_biases.get(layer.prefix) if isinstance(layer, GRU) else None
        if expected is not None and (expected == 2) != layer.reset_after:
            raise FormatError(
                f"{path}: layer GRU({layer.prefix!r}): {expected} bias in the file is that of a GRU with "
                f"reset_after={expected == 2}; write GRU({layer.prefix!r}, reset_after={expected == 2})"
            )
        if isinstance(layer, ConvLSTM):
            raise UnsupportedError(f"{path}: layer {layer!r}: a ConvLSTM of Keras needs architecture=")
    base = {"version": None, "framework_version": None, **provenance, "layouts": layouts}
    graph = graph_from_tensors(arrays, layers, where=path, provenance=base)
    used: dict[str, str] = {}
    for name, role in graph.provenance["tensors"].items():
        source = sources.get(name, name)
        used[source] = role if used.get(source, role) == role else f"{used[source]}+{role.rpartition('/')[2]}"
    return graph._replace(provenance={**graph.provenance, "tensors": used})


def _as_pytorch(what: str, group: _Group) -> dict[str, tuple[str, np.ndarray]]:
    """PyTorch's name -> Keras role, and array."""
    roles = set(group.tensors)
    if roles not in (
        {"kernel"},
        {"kernel", "bias"},
        {"kernel", "recurrent_kernel"},
        {"kernel", "recurrent_kernel", "bias"},
    ):
        raise UnsupportedError(
            f"{what}: of no layer that layers= can name; give architecture=, found {', '.join(sorted(roles))}"
        )
    arrays = {role: tensor.read() for role, tensor in group.tensors.items()}
    kernel = arrays["kernel"]
    if kernel.ndim != 2 or any(array.dtype.kind != "f" for array in arrays.values()):
        raise UnsupportedError(
            f"{what}: of no layer that layers= can name; give architecture=, found a kernel {shape_text(kernel.shape)}"
        )
    if "recurrent_kernel" not in arrays:
        return {"weight": ("kernel", kernel.T)} | ({"bias": ("bias", arrays["bias"])} if "bias" in arrays else {})
    recurrent = arrays["recurrent_kernel"]
    rows = kernel.shape[1]
    gates = rows // recurrent.shape[0] if recurrent.ndim == 2 and recurrent.size else 0
    if gates not in (1, 3, 4) or recurrent.shape != (rows // gates, rows):
        raise FormatError(
            f"{what}: expected a recurrent_kernel (units, gates*units), found {shape_text(recurrent.shape)} beside a "
            f"kernel {shape_text(kernel.shape)}"
        )
    if "bias" in arrays and arrays["bias"].shape == (2 * rows,) and gates > 1:
        arrays = from_cudnn(arrays, gates)
    found = {
        "weight_ih": ("kernel", arrays["kernel"].T),
        "weight_hh": ("recurrent_kernel", arrays["recurrent_kernel"].T),
    }
    if "bias" in arrays:
        bias = arrays["bias"]
        if bias.shape not in (((rows,), (2, rows)) if gates == 3 else ((rows,),)):
            raise FormatError(f"{what}: expected a bias ({rows},), found {shape_text(bias.shape)}")
        pair = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))
        found |= {"bias_ih": ("bias", pair[0]), "bias_hh": ("bias", pair[1])}
    if gates == 3:
        found = {name: (role, _reset_gate_first(array)) for name, (role, array) in found.items()}
    suffix = "_l0_reverse" if group.is_backward else "_l0"
    return {name + suffix: entry for name, entry in found.items()}


def _reset_gate_first(array: np.ndarray) -> np.ndarray:
    """The blocks z r h of rows as r z h."""
    z, r, h = np.split(array, 3)
    return np.concatenate((r, z, h))
