"""Reading and writing networks: `read` chooses the format, `write` makes the native ``.cylstm``.

The formats' modules are imported when first used: with zipfile, json and the rest they take longer to import than
the whole engine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import CylstmError, FormatError, UnsupportedError

if TYPE_CHECKING:
    from ..graph import Graph
    from ..layers import Layer

__all__ = ["open_file", "read", "write"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
# what the first pickle of PyTorch's stream holds, behind a protocol and perhaps a frame
_STREAM_MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"

_RESAVE_KERAS = "save the model as .keras or .h5 instead"
_RESAVE_TORCH = "save the state dict with a later PyTorch instead"

#: extension -> what such a file is, and what to do
_OTHER_EXTENSIONS = {
    ".onnx": "ONNX models are not supported yet",
    ".tflite": f"TensorFlow Lite models are not supported; {_RESAVE_KERAS}",
    ".pb": f"TensorFlow graphs and SavedModels are not supported; {_RESAVE_KERAS}",
    ".index": f"TensorFlow checkpoints are not supported; {_RESAVE_KERAS}",
    ".npy": "a single NumPy array holds no network",
    ".pkl": "plain pickles are programs and are not run; save the tensors as .safetensors",
    ".pickle": "plain pickles are programs and are not run; save the tensors as .safetensors",
    ".json": f"a config without weights is no network; {_RESAVE_KERAS}",
}
_KNOWN_EXTENSIONS = {
    ".keras": "a Keras archive (zip)",
    ".h5": "an HDF5 file",
    ".hdf5": "an HDF5 file",
    ".pt": "a PyTorch checkpoint (zip)",
    ".pth": "a PyTorch checkpoint (zip)",
    ".ckpt": "a PyTorch checkpoint (zip)",
    ".safetensors": "a safetensors file",
    ".npz": "a NumPy archive (zip)",
    ".cylstm": "a CyLSTM file (safetensors)",
}
_KERAS_READERS = ("read_keras", "read_h5", "read_keras_index")


def read(
    path: str | os.PathLike[str],
    *,
    layers: Sequence[Layer] | None = None,
    key: str | None = None,
    architecture: object = None,
    keras_version: str | None = None,
) -> Graph:
    """Read a network from a file: ``.keras``, ``.h5``, ``.pt``, ``.pth``, ``.safetensors``, ``.npz`` or ``.cylstm``.

    The content decides what a file is; the extension only serves the message if the content is unknown.

    Parameters
    ----------
    path : str or path-like
    layers : sequence of Layer, optional
        What a state dict (``.pt``, ``.pth``, ``.safetensors``, ``.npz``) is wired to, for example
        ``[LSTM("lstm"), Last(), Linear("fc")]``. The other formats hold it themselves.
    key : str, optional
        Which state dict of a PyTorch checkpoint that holds several, for example ``"model"``; see
        `cylstm.formats.torch.read_torch`.
    architecture : str, path-like or mapping, optional
        The model that weights alone of Keras (``.weights.h5``, ``.weights.json``, older ``.h5``) belong to; see
        `cylstm.formats.keras_files.read_h5`.
    keras_version : str, optional
        Read a Keras model as this version wrote it, for example ``"2.2.4"``, whatever the file says.

    Returns
    -------
    Graph
        Its `provenance` says which format, version and source it came from, and for each tensor of the file
        which layer and role it became.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If the file is empty, truncated, damaged or inconsistent; for a state dict also if `layers` is missing (the
        message proposes them) or does not fit.
    UnsupportedError
        If the file is of a kind, or holds a layer or an option, that CyLSTM does not compute.
    """
    graph, arrays = open_file(path, layers=layers, key=key, architecture=architecture, keras_version=keras_version)
    if arrays is not None:
        from ..model import Model

        graph = Model._of_arrays(graph, arrays, None, None).graph
    return graph._replace(tensors=dict(graph.tensors))


def open_file(
    path: str | os.PathLike[str],
    *,
    layers: Sequence[Layer] | None = None,
    key: str | None = None,
    architecture: object = None,
    keras_version: str | None = None,
    mmap: bool = False,
) -> tuple[Graph, dict[str, list] | None]:
    """As `read`, without reading tensors that can wait until they are packed.

    Parameters
    ----------
    path, layers, key, architecture, keras_version
        As in `read`.
    mmap : bool
        Map the weights of a packed file; another file is refused.

    Returns
    -------
    graph : Graph
    arrays : dict of str to list of ndarray, or None
        The weights of a packed file, as `cylstm._engine.PackedModel` takes them; the graph has their shapes only.
    """
    path = os.fspath(path)
    if not isinstance(path, str):
        path = os.fsdecode(path)
    try:
        reader = _reader(path)
        if key is not None:
            if reader.__name__ != "read_torch":
                raise FormatError(
                    f"{path}: key= chooses a state dict in a PyTorch checkpoint; this file has no such entries"
                )
            reader = partial(reader, key=key)
        elif reader.__name__ in _KERAS_READERS:
            reader = partial(reader, architecture=architecture, keras_version=keras_version)
        elif architecture is not None or keras_version is not None:
            raise FormatError(f"{path}: architecture= and keras_version= are for Keras files; this is none")
        elif reader.__name__ == "read_safetensors":
            return reader(path, layers, mmap=mmap)
        if mmap:
            raise UnsupportedError(f"{path}: mmap=True maps packed .cylstm files only")
        return reader(path, layers), None
    except CylstmError as error:
        if path in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error


def write(graph: Graph, path: str | os.PathLike[str], arrays: dict[str, list] | None = None) -> None:
    """Write a network to a native ``.cylstm`` file; see `cylstm.formats._cylstm_write.write_cylstm`.

    Raises
    ------
    UnsupportedError
        If `path` has another extension.
    OSError
        If the file cannot be written; one that was there before is then untouched.
    """
    path = os.fspath(path)
    if not isinstance(path, str):
        path = os.fsdecode(path)
    if os.path.splitext(path)[1].lower() != ".cylstm":
        raise UnsupportedError(f"{path}: networks are written as .cylstm files only")
    from ._cylstm_write import write_cylstm

    write_cylstm(graph, path, arrays)


def _reader(path: str) -> Callable[..., Any]:
    """The function that reads the file's format, found by its first bytes."""
    if os.path.isdir(path):
        if os.path.exists(os.path.join(path, "saved_model.pb")):
            raise UnsupportedError(f"{path}: TensorFlow SavedModels are not supported; {_RESAVE_KERAS}")
        if os.path.exists(os.path.join(path, "config.json")):
            from .keras_files import read_keras

            return read_keras
        raise FormatError(f"{path}: a directory, expected a file")
    with open(path, "rb") as file:
        head = file.read(512)
        size = os.fstat(file.fileno()).st_size
    if not head:
        raise FormatError(f"{path}: the file is empty")
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_reader(path)
    if head.startswith(_HDF5):
        from .keras_files import read_h5

        return read_h5
    extension = os.path.splitext(path)[1].lower()
    if extension == ".json" and head.lstrip()[:1] == b"{":
        if path.lower().endswith(".weights.json"):
            from .keras_files import read_keras_index

            return read_keras_index
        from .index import read_index

        return read_index
    length = int.from_bytes(head[:8], "little")
    if len(head) > 8 and head[8:9] in b"{ " and (length <= size - 8 or extension in (".safetensors", ".cylstm")):
        from .safetensors import read_safetensors

        return read_safetensors
    if head[:1] == b"\x80" and _STREAM_MAGIC in head[:32]:
        from .torch import read_torch

        return read_torch
    if head[257:262] == b"ustar":
        raise UnsupportedError(f"{path}: a tar archive, PyTorch's format from before 0.1.10; {_RESAVE_TORCH}")
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise UnsupportedError(f"{path}: {_OTHER_EXTENSIONS['.pkl']}")
    if head[4:8] == b"TFL3":
        raise UnsupportedError(f"{path}: {_OTHER_EXTENSIONS['.tflite']}")
    if head.startswith(b"\x93NUMPY"):
        raise UnsupportedError(f"{path}: {_OTHER_EXTENSIONS['.npy']}")
    if extension in _OTHER_EXTENSIONS:
        raise UnsupportedError(f"{path}: {_OTHER_EXTENSIONS[extension]}")
    if extension in _KNOWN_EXTENSIONS:
        raise FormatError(
            f"{path}: expected {_KNOWN_EXTENSIONS[extension]}, found {size} bytes that begin with {head[:8]!r}; "
            "damaged, truncated or of another kind"
        )
    raise UnsupportedError(
        f"{path}: an unknown kind of file; supported are {', '.join(_KNOWN_EXTENSIONS)} (recognised by content)"
    )


def _zip_reader(path: str) -> Callable[..., Any]:
    from ._zip import Archive

    with Archive(path) as archive:
        names = archive.names
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        from .torch import read_torch

        return read_torch
    if "config.json" in names or "model.weights.h5" in names:
        from .keras_files import read_keras

        return read_keras
    if names and all(name.endswith(".npy") for name in names):
        from .npz import read_npz

        return read_npz
    raise FormatError(
        f"{path}: a zip archive, but neither a PyTorch checkpoint nor a Keras model; "
        f"it holds {', '.join(names[:10]) or 'nothing'}"
    )
