"""Keras models: ``.keras`` archives (Keras 3, and 2.12 on), legacy ``.h5`` files, and live models.

Neither Keras nor TensorFlow is needed; reading a file needs h5py. A model's JSON config says what its layers are,
and the weights stand in HDF5: in a ``.keras`` archive under the class names in snake case with a counter per class,
in an ``.h5`` file under names listed in attributes. Keras's matrices are ``(input, gates*units)``.
"""

from __future__ import annotations

import io
import mmap
import sys
from collections.abc import Sequence

from ..errors import FormatError, UnsupportedError
from ..graph import Graph
from ..layers import Layer
from . import _hdf5
from ._json import parse_json
from ._keras_build import Model
from ._keras_weights import ArchiveWeights, LegacyWeights, LiveWeights
from ._zip import Archive

_MAX_CONFIG_BYTES = 64 << 20
_MAX_WEIGHTS_BYTES = 16 << 30


def read_keras(path: str, layers: Sequence[Layer] | None = None) -> Graph:
    """Read a ``.keras`` archive into a graph.

    Parameters
    ----------
    path : str
    layers : None
        The archive holds its own wiring.

    Raises
    ------
    FormatError
        If the archive is damaged, or its weights do not fit its config.
    UnsupportedError
        If the model has a layer or an option that is not computed, or h5py is missing.
    """
    _refuse_layers(path, layers)
    with Archive(path) as archive:
        for name in ("config.json", "model.weights.h5"):
            if name not in archive.names:
                raise FormatError(f"{path}: {name} is missing; found {', '.join(archive.names[:20])}")
        config = parse_json(archive.read("config.json", _MAX_CONFIG_BYTES), f"{path}: config.json")
        metadata: object = {}
        if "metadata.json" in archive.names:
            metadata = parse_json(archive.read("metadata.json", _MAX_CONFIG_BYTES), f"{path}: metadata.json")
        version = metadata.get("keras_version") if isinstance(metadata, dict) else None
        if not isinstance(version, str):
            raise FormatError(f"{path}: metadata.json names no keras_version")
        model = Model(path, config, version)
        content = archive.read("model.weights.h5", _MAX_WEIGHTS_BYTES)
        _hdf5.check_heaps(path, content)
        with _hdf5.open_hdf5(path, io.BytesIO(content)) as file:
            return model.graph(ArchiveWeights(path, file, model.network.layers), "keras", path)


def read_h5(path: str, layers: Sequence[Layer] | None = None) -> Graph:
    """Read a whole model saved as legacy ``.h5`` or ``.hdf5`` into a graph; takes and raises as `read_keras`."""
    _refuse_layers(path, layers)
    with open(path, "rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _hdf5.check_heaps(path, data)
    with open(path, "rb") as raw, _hdf5.open_hdf5(path, raw) as file:
        text = _hdf5.attribute(path, file, "model_config")
        if text is None:
            if "layers" in file or "layer_names" in file.attrs or "_layer_checkpoint_dependencies" in file:
                raise UnsupportedError(
                    f"{path}: weights without the model's config, so their wiring is unknown; save the whole model"
                )
            raise FormatError(f"{path}: an HDF5 file, but not a Keras model: it has no model_config")
        if not isinstance(text, str) or len(text) > _MAX_CONFIG_BYTES:
            raise FormatError(f"{path}: model_config expected text of at most {_MAX_CONFIG_BYTES} bytes")
        group = _hdf5.child(path, file, "model_weights")
        version = _hdf5.attribute(path, file, "keras_version") or _hdf5.attribute(path, group, "keras_version") or "1"
        if not isinstance(version, str):
            raise FormatError(f"{path}: keras_version expected text, found {version!r}")
        model = Model(path, parse_json(text, f"{path}: model_config"), version)
        return model.graph(LegacyWeights(path, group, model.weighted()), "keras h5", path)


def from_keras(model: object) -> Graph:
    """The graph of a live Keras model; its weights are copied. Keras is not imported by this function.

    Raises
    ------
    UnsupportedError
        If the model has a layer or an option that is not computed.
    """
    roots = [kind.__module__.split(".")[0] for kind in type(model).__mro__]
    root = next((name for name in roots if name in ("keras", "tf_keras", "tensorflow")), None)
    if root is None or not hasattr(model, "to_json"):
        raise UnsupportedError(f"from_keras takes a Keras model, found {type(model).__module__}.{type(model).__name__}")
    if not getattr(model, "built", False):
        raise FormatError("from_keras: the model has no weights yet; build it or call it once")
    library = sys.modules.get("keras" if root == "tensorflow" else root, sys.modules[root])
    try:
        text = model.to_json()
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UnsupportedError(f"from_keras: the model cannot be described: {error}") from error
    described = Model("Keras model", parse_json(text, "Keras model"), library.__version__)
    return described.graph(LiveWeights(model, described.network.layers), "keras live", "live model")


def _refuse_layers(path: str, layers: Sequence[Layer] | None) -> None:
    if layers is not None:
        raise FormatError(f"{path}: a Keras model holds its own wiring; leave out layers=")
