"""Keras: files of whole models and of weights alone, read without Keras, and live models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cylstm.formats import File, Format

if TYPE_CHECKING:
    from cylstm.graph.graph import Graph


def _is_archive(file: File) -> bool:
    is_saved_model = "saved_model.pb" in file.members
    return not is_saved_model and ("config.json" in file.members or "model.weights.h5" in file.members)


def _is_hdf5_model(file: File) -> bool:
    return file.hdf5 is not None and file.hdf5.has_attribute("model_config")


def _is_hdf5(file: File) -> bool:
    return file.hdf5 is not None


def _is_index(file: File) -> bool:
    return file.path.lower().endswith(".weights.json") and file.head.lstrip()[:1] == b"{"


def _read_archive(file: File, **options: Any) -> Graph:
    from cylstm.formats.keras.files import read_keras

    return read_keras(file.path, **options)


def _read_hdf5_model(file: File, **options: Any) -> Graph:
    from cylstm.formats.keras.files import read_h5

    assert file.hdf5 is not None
    return read_h5(file.hdf5, **options)


def _read_hdf5_weights(file: File, **options: Any) -> Graph:
    from cylstm.formats.keras.files import read_h5_weights

    assert file.hdf5 is not None
    return read_h5_weights(file.hdf5, **options)


def _read_index(file: File, **options: Any) -> Graph:
    from cylstm.formats.keras.files import read_keras_index

    return read_keras_index(file.path, **options)


def _is_ordered(file: File) -> bool:
    return bool(file.members) and all(name[:4] == "arr_" and name[4:-4].isdecimal() for name in file.members)


def _read_ordered(file: File, **options: Any) -> Graph:
    from cylstm.formats.keras.ordered import read_ordered

    return read_ordered(file, **options)


_OF_MODELS = ("keras_version", "custom_layers")
_OF_WEIGHTS = ("layers", "architecture", *_OF_MODELS)
FORMATS = (
    Format("a Keras archive", (".keras",), _OF_MODELS, _is_archive, _read_archive),
    Format("a Keras model in HDF5", (".h5", ".hdf5"), _OF_MODELS, _is_hdf5_model, _read_hdf5_model),
    Format("a file of Keras weights alone", (".h5", ".hdf5"), _OF_WEIGHTS, _is_hdf5, _read_hdf5_weights),
    Format("an index of Keras weights", (".weights.json",), _OF_WEIGHTS, _is_index, _read_index),
    Format("a NumPy archive of arrays without names", (".npz",), _OF_WEIGHTS, _is_ordered, _read_ordered),
)
