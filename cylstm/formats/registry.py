"""Reading and writing networks: `read` chooses the format, `write` makes the native ``.cylstm``.

The formats' modules are imported when first used: with zipfile, json and the rest they take longer to import than
the whole engine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.graph.graph import Graph, Record, read_only

if TYPE_CHECKING:
    from cylstm.checks import Check
    from cylstm.formats.state_dict.wiring import Layer

__all__ = ["open_file", "read", "write"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
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


class File:
    """What formats are recognised by.

    Attributes
    ----------
    path, extension : str
    is_folder : bool
    head : bytes
        At most 512 of them, none of a folder.
    size : int
    names : list of str
        Of the members, if it is a folder with Keras's files or a zip archive.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.extension = os.path.splitext(path)[1].lower()
        self.is_folder = os.path.isdir(path)
        self.head, self.size, self.names = b"", 0, []
        if self.is_folder:
            self.names = [
                name for name in ("config.json", "saved_model.pb") if os.path.exists(os.path.join(path, name))
            ]
            return
        with open(path, "rb") as file:
            self.head = file.read(512)
            self.size = os.fstat(file.fileno()).st_size
        if not self.head:
            raise FormatError(f"{path}: the file is empty")
        if self.head.startswith(_ZIP):
            from cylstm.formats.untrusted.zip import Archive

            with Archive(path) as archive:
                self.names = archive.names


def _is_torch(file: File) -> bool:
    if file.head[:1] == b"\x80":
        return _STREAM_MAGIC in file.head[:32]
    return not file.is_folder and any(name == "data.pkl" or name.endswith("/data.pkl") for name in file.names)


def _is_keras(file: File) -> bool:
    is_saved_model = "saved_model.pb" in file.names
    return not is_saved_model and ("config.json" in file.names or "model.weights.h5" in file.names)


def _is_npz(file: File) -> bool:
    return bool(file.names) and all(name.endswith(".npy") for name in file.names)


def _is_hdf5(file: File) -> bool:
    return file.head.startswith(_HDF5)


def _is_json(file: File) -> bool:
    return file.extension == ".json" and file.head.lstrip()[:1] == b"{"


def _is_keras_index(file: File) -> bool:
    return _is_json(file) and file.path.lower().endswith(".weights.json")


def is_safetensors(file: File) -> bool:
    head, length = file.head, int.from_bytes(file.head[:8], "little")
    is_whole = length <= file.size - 8 or file.extension in (".safetensors", ".cylstm")
    return len(head) > 8 and head[8:9] in b"{ " and is_whole


class Format(Record):
    """A kind of file.

    Attributes
    ----------
    name : str
        With its article, as messages call it.
    extensions : tuple of str
        Usual ones, which serve messages only: the content decides.
    options : tuple of str
        Those of `load` that it takes. Every other one that is given is refused, see `refuse_options`.
    recognises : callable
        ``recognises(file)`` tells whether a `File` is one. Formats that only its reader tells apart have the same.
    read : callable
        ``read(path, **options)`` gives the graph, or a tuple as `open_file` does. One that reads several formats gets
        the options of them all and ``check_options``, which it calls with the `Format` once it knows which it is.
    """

    __slots__ = ()

    name: str
    extensions: tuple[str, ...]
    options: tuple[str, ...]
    recognises: Callable[[File], bool]
    read: Callable[..., Any]


# the modules are imported with the first file of their kind


def _read_torch(path: str, **options: Any) -> Graph:
    from cylstm.formats.torch.checkpoint import read_torch

    return read_torch(path, **options)


def _read_keras(path: str, **options: Any) -> Graph:
    from cylstm.formats.keras.files import read_keras

    return read_keras(path, **options)


def _read_h5(path: str, **options: Any) -> Graph:
    from cylstm.formats.keras.files import read_h5

    return read_h5(path, **options)


def _read_keras_index(path: str, **options: Any) -> Graph:
    from cylstm.formats.keras.files import read_keras_index

    return read_keras_index(path, **options)


def _read_npz(path: str, **options: Any) -> Graph:
    from cylstm.formats.npz import read_npz

    return read_npz(path, **options)


def _read_index(path: str, **options: Any) -> Graph:
    from cylstm.formats.sharded import read_index

    return read_index(path, **options)


def _read_safetensors(path: str, **options: Any) -> tuple[Graph, dict[str, list] | None]:
    from cylstm.formats.safetensors import read_safetensors

    return read_safetensors(path, **options)


_OF_WEIGHTS = ("layers", "architecture", "keras_version")
KERAS_H5 = Format("a Keras model in HDF5", (".h5", ".hdf5"), ("keras_version",), _is_hdf5, _read_h5)
KERAS_WEIGHTS = Format("a file of Keras weights alone", (".h5", ".hdf5"), _OF_WEIGHTS, _is_hdf5, _read_h5)
SAFETENSORS = Format("a safetensors file", (".safetensors",), ("layers",), is_safetensors, _read_safetensors)
NATIVE = Format("a .cylstm file", (".cylstm",), (), is_safetensors, _read_safetensors)
PACKED = Format("a packed .cylstm file", (".cylstm",), ("mmap",), is_safetensors, _read_safetensors)

#: in the order in which they are tried
FORMATS = (
    Format("a PyTorch checkpoint", (".pt", ".pth", ".ckpt"), ("layers", "key"), _is_torch, _read_torch),
    Format("a Keras archive", (".keras",), ("keras_version",), _is_keras, _read_keras),
    Format("a NumPy archive", (".npz",), ("layers",), _is_npz, _read_npz),
    KERAS_H5,
    KERAS_WEIGHTS,
    Format("an index of Keras weights", (".weights.json",), _OF_WEIGHTS, _is_keras_index, _read_keras_index),
    Format("an index of weights", (".index.json",), ("layers",), _is_json, _read_index),
    SAFETENSORS,
    NATIVE,
    PACKED,
)

#: option of `load` -> what it is for
_OPTIONS = {
    "layers": "says how the tensors of a state dict, or of Keras weights alone, are wired",
    "key": "chooses a state dict in a PyTorch checkpoint",
    "architecture": "says which model Keras weights alone belong to",
    "keras_version": "says which Keras wrote the config of a model",
    "mmap": 'maps the weights of a packed file, which model.save("....cylstm", packed=True) writes',
}


def refuse_options(path: str, options: Mapping[str, object], format_: Format) -> None:
    """Raise `FormatError` about the options given (neither None nor False) that a file of this format does not take."""
    given = [name for name, option in options.items() if option is not None and option is not False]
    left = [name for name in given if name not in format_.options]
    if left:
        taken = _listed(format_.options) if format_.options else "none of its options but engine= and dtype="
        reasons = "; ".join(_OPTIONS[name] if len(left) == 1 else f"{name}= {_OPTIONS[name]}" for name in left)
        raise FormatError(
            f"{path}: this is {format_.name}, of which load takes {taken}; leave out {_listed(left)} ({reasons})"
        )


def _listed(names: Sequence[str]) -> str:
    """``a=, b= and c=``"""
    texts = [f"{name}=" for name in names]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


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
        `cylstm.formats.torch.checkpoint.read_torch`.
    architecture : str, path-like or mapping, optional
        The model that weights alone of Keras (``.weights.h5``, ``.weights.json``, older ``.h5``) belong to; see
        `cylstm.formats.keras.files.read_h5`.
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
        from cylstm.model import Model

        graph = Model._of_arrays(graph, arrays, None, None).graph
    return graph._replace(tensors=dict(graph.tensors), provenance=read_only(graph.provenance))


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
        The weights of a packed file, as the engine takes them; the graph has their shapes only.
    """
    try:
        path = os.fspath(path)
    except TypeError:
        raise UnsupportedError(
            f"load takes the path of a file, found {type(path).__module__}.{type(path).__name__}: a module of PyTorch "
            "goes to from_torch, a model of Keras to from_keras, a state dict to from_state_dict"
        ) from None
    if not isinstance(path, str):
        path = os.fsdecode(path)
    for name, option in (("key", key), ("keras_version", keras_version)):
        if option is not None and not isinstance(option, str):
            raise FormatError(f"{path}: {name}= expected a text, found {option!r}")
    options = {
        "layers": layers,
        "key": key,
        "architecture": architecture,
        "keras_version": keras_version,
        "mmap": mmap,
    }
    try:
        file = File(path)
        formats = [format_ for format_ in FORMATS if format_.recognises(file)]
        if not formats:
            raise _unknown(file)
        # the first decides, with those that only its reader tells apart
        formats = [format_ for format_ in formats if format_.read is formats[0].read]
        taken = {name: options[name] for format_ in formats for name in format_.options}
        check_options = partial(refuse_options, path, options)
        if len(formats) == 1:
            check_options(formats[0])
            found = formats[0].read(path, **taken)
        else:
            found = formats[0].read(path, **taken, check_options=check_options)
        return found if isinstance(found, tuple) and not isinstance(found, Graph) else (found, None)
    except CylstmError as error:
        if path in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error


def write(
    graph: Graph, path: str | os.PathLike[str], arrays: dict[str, list] | None = None, check: Check | None = None
) -> None:
    """Write a network to a native ``.cylstm`` file; see `cylstm.formats.native.write.write_cylstm`.

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
    from cylstm.formats.native.write import write_cylstm

    write_cylstm(graph, path, arrays, check)


def _unknown(file: File) -> CylstmError:
    """What to say of a file that is of no known format."""
    path, head = file.path, file.head
    if file.is_folder:
        if "saved_model.pb" in file.names:
            return UnsupportedError(f"{path}: TensorFlow SavedModels are not supported; {_RESAVE_KERAS}")
        return FormatError(f"{path}: a directory, expected a file")
    if head.startswith(_ZIP):
        return FormatError(
            f"{path}: a zip archive, but neither a PyTorch checkpoint nor a Keras model; "
            f"it holds {', '.join(file.names[:10]) or 'nothing'}"
        )
    if head[257:262] == b"ustar":
        return UnsupportedError(f"{path}: a tar archive, PyTorch's format from before 0.1.10; {_RESAVE_TORCH}")
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return UnsupportedError(f"{path}: {_OTHER_EXTENSIONS['.pkl']}")
    if head[4:8] == b"TFL3":
        return UnsupportedError(f"{path}: {_OTHER_EXTENSIONS['.tflite']}")
    if head.startswith(b"\x93NUMPY"):
        return UnsupportedError(f"{path}: {_OTHER_EXTENSIONS['.npy']}")
    if file.extension in _OTHER_EXTENSIONS:
        return UnsupportedError(f"{path}: {_OTHER_EXTENSIONS[file.extension]}")
    usual = [format_.name for format_ in FORMATS if file.extension in format_.extensions]
    if usual:
        return FormatError(
            f"{path}: expected {' or '.join(usual)}, found {file.size} bytes that begin with {head[:8]!r}; "
            "damaged, truncated or of another kind"
        )
    known = dict.fromkeys(extension for format_ in FORMATS for extension in format_.extensions)
    return UnsupportedError(
        f"{path}: an unknown kind of file; supported are {', '.join(known)} (recognised by content)"
    )
