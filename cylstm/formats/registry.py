"""The formats in one list, reading with the one that recognises a file, and writing the native ``.cylstm``.

A module in the list is imported when a file is not of the formats before it; readers are imported with the first file
of their kind. With h5py, zlib and the rest they take longer to import than the whole engine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cylstm.errors import CylstmError, FormatError, UnsupportedError, described
from cylstm.formats import File, Format, PackedGraph, path_text

if TYPE_CHECKING:
    import numpy as np

    from cylstm.formats.native.check import Check
    from cylstm.formats.state_dict.wiring import Layer
    from cylstm.graph.graph import Graph

#: modules of this package, in the order in which they are asked; each lists its formats in ``FORMATS``
MODULES = ("native", "safetensors", "torch", "keras", "npz", "guitarml", "rtneural", "sharded", "onnx")

#: where other things than paths go
_ELSEWHERE = ": a module of PyTorch goes to from_torch, a model of Keras to from_keras, a state dict to from_state_dict"

#: option of `load` -> what it is for
_OPTIONS = {
    "layers": "says how the tensors of a state dict, or of Keras weights alone, are wired",
    "key": "chooses a state dict in a PyTorch checkpoint",
    "architecture": "says which model Keras weights alone belong to",
    "keras_version": "says which Keras wrote the config of a model",
    "custom_layers": "says what custom layers and Lambdas of a Keras model compute",
    "time": "says how many steps an exported program takes",
    "constants": "says what inputs of a model of ONNX always are",
    "states": "says which outputs of a model of ONNX are states that its inputs take at the next call",
    "mmap": 'maps the weights of a packed file, which model.save("....cylstm", packed=True) writes',
}


def all_formats() -> Iterator[Format]:
    """Every format, in the order in which they are tried."""
    for name in MODULES:
        yield from import_module(f"cylstm.formats.{name}").FORMATS


def open_file(
    path: str | os.PathLike[str],
    *,
    layers: Sequence[Layer] | None = None,
    key: str | None = None,
    architecture: object = None,
    keras_version: str | None = None,
    custom_layers: Mapping[str, Any] | None = None,
    time: int | str | None = None,
    constants: Mapping[str, Any] | None = None,
    states: Mapping[str, str] | None = None,
    mmap: bool = False,
) -> tuple[Graph, dict[str, list[np.ndarray]] | None]:
    """Read a network from a file, without reading tensors that can wait until they are packed.

    The content decides what a file is; the extension only serves the message if the content is unknown.

    Parameters
    ----------
    path : str or path-like
    layers : sequence of Layer, optional
        What a state dict (``.pt``, ``.pth``, ``.safetensors``, ``.npz``) is wired to, for example
        ``[LSTM("lstm"), Last(), Linear("fc")]``. The other formats hold their wiring themselves.
    key : str, optional
        Which state dict of a PyTorch checkpoint that holds several, for example ``"model"``; see
        `cylstm.formats.torch.checkpoint.read_torch`.
    architecture : str, path-like or mapping, optional
        The model that weights alone of Keras (``.weights.h5``, ``.weights.json``, older ``.h5``) belong to; see
        `cylstm.formats.keras.files.read_h5`.
    keras_version : str, optional
        Read a Keras model as this version wrote it, for example ``"2.2.4"``, whatever the file says.
    custom_layers : dict of str to callable, optional
        What custom layers and Lambdas of a Keras model compute, by class or name; see `cylstm.load`.
    time : int or str, optional
        How many steps an exported program (``.pt2``, ``.onnx``) takes where its file leaves that open: a number, or
        ``"T"`` for any.
    constants, states : dict, optional
        Inputs of a model of ONNX that never change, and outputs of it that are states; see `cylstm.load`.
    mmap : bool
        Map the weights of a packed file; another file is refused.

    Returns
    -------
    graph : Graph
        Its `provenance` says which format, version and source it came from, and for each tensor of the file
        which layer and role it became.
    arrays : dict of str to list of ndarray, or None
        The weights of a packed file, as the engine takes them; the graph has their shapes only.

    Raises
    ------
    MissingFileError
        If there is no such file; a `FileNotFoundError` too.
    FormatError
        If the file is empty, truncated, damaged or inconsistent; for a state dict also if `layers` is missing (the
        message proposes them) or does not fit.
    UnsupportedError
        If the file is of a kind, or holds a layer or an option, that CyLSTM does not compute.
    """
    path = path_text("load", path, _ELSEWHERE)
    for name, option in (("key", key), ("keras_version", keras_version)):
        if option is not None and not isinstance(option, str):
            raise FormatError(f"{path}: {name}= expected a text, found {described(option)}")
    options = {
        "layers": layers,
        "key": key,
        "architecture": architecture,
        "keras_version": keras_version,
        "custom_layers": custom_layers,
        "time": time,
        "constants": constants,
        "states": states,
        "mmap": mmap,
    }
    try:
        try:
            opened = File(path)
        except FileNotFoundError:
            from cylstm.formats.unknown import missing_file

            raise missing_file(path) from None
        with opened as file:
            format_ = next((format_ for format_ in all_formats() if format_.recognises(file)), None)
            if format_ is None:
                from cylstm.formats.unknown import unknown_file

                raise unknown_file(file, list(all_formats()))
            _refuse_options(path, options, format_)
            found = format_.read(file, **{name: options[name] for name in format_.options})
        return (found.graph, found.arrays) if isinstance(found, PackedGraph) else (found, None)
    except CylstmError as error:
        if path in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error


def write(
    graph: Graph,
    path: str | os.PathLike[str],
    arrays: Mapping[str, Sequence[np.ndarray]] | None = None,
    check: Check | None = None,
) -> None:
    """Write a network to a native ``.cylstm`` file; see `cylstm.formats.native.write.write_cylstm`.

    Raises
    ------
    UnsupportedError
        If `path` has another extension.
    OSError
        If the file cannot be written; one that was there before is then untouched.
    """
    path = path_text("save", path)
    if os.path.splitext(path)[1].lower() != ".cylstm":
        raise UnsupportedError(f"{path}: networks are written as .cylstm files only; Model.export_onnx writes .onnx")
    from cylstm.formats.native.write import write_cylstm

    write_cylstm(graph, path, arrays, check)


def export(
    graph: Graph, path: str | os.PathLike[str], dtype: np.dtype, *, states: bool, lengths: bool, mask: bool
) -> None:
    """Write a network as an ONNX model; see `cylstm.model.Model.export_onnx`.

    Raises
    ------
    UnsupportedError
        If `path` has another extension, or ONNX cannot say what the network does.
    ArgumentError
        If `lengths` or `mask` has no meaning for the network.
    OSError
        If the file cannot be written; one that was there before is then untouched.
    """
    path = path_text("export_onnx", path)
    if not is_onnx_path(path):
        raise UnsupportedError(f"{path}: networks are exported as .onnx files only; save writes .cylstm files")
    from cylstm.formats.onnx.export.write import check_steps, write_onnx

    write_onnx(graph, path, dtype, states=states, steps=check_steps(graph, lengths=lengths, mask=mask))


def is_onnx_path(path: str | os.PathLike[str]) -> bool:
    """Whether a file of this name is to be an ONNX model. Raises as `path_text`."""
    return os.path.splitext(path_text("save", path))[1].lower() == ".onnx"


def _refuse_options(path: str, options: Mapping[str, object], format_: Format) -> None:
    """Raise `FormatError` about the options given (neither None nor False) that a file of this format does not take."""
    given = [name for name, option in options.items() if option is not None and option is not False]
    left = [name for name in given if name not in format_.options]
    if left:
        taken = _listed(format_.options) if format_.options else "none of its options but engine=, dtype= and weights="
        reasons = "; ".join(_OPTIONS[name] if len(left) == 1 else f"{name}= {_OPTIONS[name]}" for name in left)
        raise FormatError(
            f"{path}: this is {format_.name}, of which load takes {taken}; leave out {_listed(left)} ({reasons})"
        )


def _listed(names: Sequence[str]) -> str:
    """``a=, b= and c=``"""
    texts = [f"{name}=" for name in names]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
