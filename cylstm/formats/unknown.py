"""The errors about a file that is not there, or that no format recognises: what it is, and what to give instead."""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Callable, Sequence

from cylstm.errors import CylstmError, FormatError, MissingFileError, UnsupportedError
from cylstm.formats import ZIP_SIGNATURES, File, Format

_SAVE_KERAS = 'model.save("model.keras")'
_SAVE_TORCH = 'torch.save(module.state_dict(), "model.pt")'

_TFLITE = (
    "TensorFlow Lite models are not supported, and hold no names to go back by; save the Keras model that it was "
    f"converted from with {_SAVE_KERAS}"
)
_SAVED_MODEL = (
    "TensorFlow SavedModels are not supported; where TensorFlow is, "
    f"tf.keras.models.load_model(FOLDER).{_SAVE_KERAS.removeprefix('model.')} turns one into a file that is read "
    "(one of model.export() holds no Keras model: save that instead)"
)
_TF_GRAPH = (
    f"a frozen graph of TensorFlow is not supported; save the Keras model that it was made of with {_SAVE_KERAS}"
)
_TF_CHECKPOINT = (
    "TensorFlow checkpoints are not supported; where TensorFlow is, call model.load_weights() on it and then "
    f'{_SAVE_KERAS}, or model.save_weights("model.weights.h5") to be loaded with architecture='
)
_PICKLE = (
    "plain pickles are programs and are not run; where you trust it, load it in Python and save its tensors by name: "
    'safetensors.numpy.save_file(tensors, "model.safetensors") or numpy.savez("model.npz", **tensors)'
)
_NPY = (
    "a single NumPy array holds no network; save the arrays of one by their names: "
    'numpy.savez("model.npz", **{"lstm.weight_ih_l0": ..., ...})'
)
_KERAS_CONFIG = (
    "the config of a Keras model, without its weights; a config without weights is no network: load the weights "
    '(model.save_weights("model.weights.h5")) with architecture= this file'
)
_JSON = (
    "a JSON file of no known kind, and a config without weights is no network; read are indices of weights (with a "
    "weight_map), GuitarML's models (model_data and state_dict) and RTNeural's (in_shape and layers)"
)
_CORE_ML = (
    f"Core ML models are not supported; load the network that it was converted from: {_SAVE_KERAS} or {_SAVE_TORCH}"
)

#: extension -> what such a file is, and what to do, where the content does not say
_OTHER_EXTENSIONS = {
    ".tflite": _TFLITE,
    ".pb": f"TensorFlow graphs and SavedModels are not supported; save the Keras model with {_SAVE_KERAS}",
    ".index": _TF_CHECKPOINT,
    ".npy": _NPY,
    ".pkl": _PICKLE,
    ".pickle": _PICKLE,
    ".json": _JSON,
    ".mlmodel": _CORE_ML,
}

# the end of a table of TensorFlow's checkpoints and of LevelDB
_TABLE_MAGIC = bytes.fromhex("57fb808b247547db")
_TEXT = rb"[\x20-\x7e]"
# GraphDef: a node, in it a name and the operation
_GRAPH_DEF = re.compile(rb"\x0a[\x80-\xff]*[\x00-\x7f]\x0a[\x00-\x7f]" + _TEXT + rb"+\x12[\x00-\x7f][A-Za-z]")
# Model: the version of the specification, then a description that begins with the inputs
_CORE_ML_MODEL = re.compile(rb"\x08[\x01-\x1e]\x12[\x80-\xff]*[\x00-\x7f]\x0a")
_SAVED_MODEL_PB = re.compile(rb"\x08\x01\x12[\x80-\xff]+[\x00-\x7f][\x0a\x12]")

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"Rar!": "RAR",
    b"\x04\x22\x4d\x18": "LZ4",
}
# of files that `load` may take, inside a folder or an archive
_MODEL_FILE = re.compile(r".*\.(?:keras|h5|hdf5|pt|pth|ckpt|safetensors|npz|cylstm|bin)|saved_model\.pb", re.DOTALL)
_LISTED = 10


def missing_file(path: str) -> CylstmError:
    """The error about a path where nothing is, with what lies near it."""
    folder, name = os.path.split(path)
    beside = _names(folder or ".")
    if f"{name}.index" in beside or any(other.startswith(f"{name}.data-") for other in beside):
        return UnsupportedError(f"{path}: {_TF_CHECKPOINT}")
    if folder and not os.path.isdir(folder):
        text = f"{path}: no such file, nor its folder"
    else:
        close = difflib.get_close_matches(name, beside, 3, 0.75)
        models = [other for other in beside if _MODEL_FILE.fullmatch(other)]
        near = close or models[:_LISTED]
        text = f"{path}: no such file" + (f"; the folder has {', '.join(near)}" if near else "")
    error = MissingFileError(text)
    error.errno, error.filename = errno.ENOENT, path
    return error


def unknown_file(file: File, formats: Sequence[Format]) -> CylstmError:
    """The error that tells what the file seems to be, and which formats there are."""
    if file.is_folder:
        return _folder(file)
    path, head = file.path, file.head
    for recognised in (_of_text, _of_archive, _of_binary):
        error = recognised(file)
        if error is not None:
            return error
    if re.fullmatch(r".*\.data-\d{5}-of-\d{5}", path, re.DOTALL):
        return UnsupportedError(f"{path}: {_TF_CHECKPOINT}")
    if file.extension in _OTHER_EXTENSIONS:
        return UnsupportedError(f"{path}: {_OTHER_EXTENSIONS[file.extension]}")
    usual = [format_.name for format_ in formats if file.extension in format_.extensions]
    if usual:
        return FormatError(
            f"{path}: expected {' or '.join(usual)}, found {file.size} bytes that begin with {head[:8]!r}; "
            "damaged, truncated or of another kind"
        )
    known = dict.fromkeys(extension for format_ in formats for extension in format_.extensions)
    return UnsupportedError(
        f"{path}: an unknown kind of file; supported are {', '.join(known)} (recognised by content)"
    )


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _folder(file: File) -> CylstmError:
    path, names = file.path, _names(file.path)
    if "saved_model.pb" in names:
        return UnsupportedError(f"{path}: {_SAVED_MODEL}")
    if "checkpoint" in names or any(name.endswith(".index") for name in names):
        return UnsupportedError(f"{path}: {_TF_CHECKPOINT}")
    if "Manifest.json" in names:
        return UnsupportedError(f"{path}: {_CORE_ML}")
    models = [name for name in names if _MODEL_FILE.fullmatch(name) or name.endswith(".index.json")]
    if models:
        return FormatError(
            f"{path}: a directory, expected a file; give one of those in it: {', '.join(models[:_LISTED])}"
        )
    found = f"it holds {', '.join(names[:_LISTED])}" if names else "it is empty"
    return FormatError(f"{path}: a directory, expected a file, and no weights are in it: {found}")


def _of_text(file: File) -> CylstmError | None:
    """Texts: what was downloaded or written in place of a model, and JSON."""
    path, head = file.path, file.head
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        size = re.search(rb"\nsize (\d{1,18})\n", head)
        of = f" of {int(size[1])} bytes" if size else ""
        return FormatError(
            f"{path}: a pointer of Git LFS to a file{of}, not the file; fetch that with git lfs pull, or download it"
        )
    if re.match(rb"<(?:!doctype\s+html|html|head|body)", start, re.IGNORECASE):
        return FormatError(
            f"{path}: a web page (HTML) saved under this name, not a model; download the file itself (on GitHub its "
            "raw form, on Hugging Face the link with /resolve/)"
        )
    if start.startswith(b"<?xml"):
        return UnsupportedError(
            f"{path}: an XML text, such as OpenVINO's, holds no weights that are read; load the network that it was "
            f"made of: {_SAVE_TORCH} or {_SAVE_KERAS}"
        )
    if start.startswith(b"model_checkpoint_path:"):
        return UnsupportedError(f"{path}: {_TF_CHECKPOINT}")
    if file.json_text:
        return _of_json(file)
    return None


def _of_json(file: File) -> CylstmError:
    from cylstm.formats.untrusted.json import parse_json

    path = file.path
    keys = set(parse_json(file.json_text, path))
    if {"modelTopology", "weightsManifest"} & keys:
        what = f"a model of TensorFlow.js is not supported; save the Keras model that it was made of with {_SAVE_KERAS}"
    elif {"architecture", "weights"} <= keys:
        what = (
            "a model of Neural Amp Modeler is not supported; read are the JSON files of GuitarML (model_data and "
            "state_dict) and RTNeural (in_shape and layers)"
        )
    elif {"class_name", "config"} <= keys:
        return FormatError(f"{path}: {_KERAS_CONFIG}")
    elif {"architectures", "model_type"} & keys:
        what = (
            "a config without weights is no network; load the file of weights beside it (model.safetensors, its "
            ".index.json, or pytorch_model.bin) with layers="
        )
    else:
        return FormatError(f"{path}: {_JSON}; found {', '.join(repr(key)[:40] for key in sorted(keys)[:_LISTED])}")
    return UnsupportedError(f"{path}: {what}")


def _of_archive(file: File) -> CylstmError | None:
    path, head = file.path, file.head
    if head.startswith(ZIP_SIGNATURES):
        names = file.members
        models = [name for name in names if _MODEL_FILE.fullmatch(name.rpartition("/")[2])]
        what = f"{path}: a zip archive, but neither a PyTorch checkpoint nor a Keras model; "
        if any(name.endswith("saved_model.pb") for name in names):
            return UnsupportedError(f"{what}it holds a SavedModel: {_SAVED_MODEL}")
        if models:
            return FormatError(f"{what}unpack it and load {' or '.join(models[:_LISTED])}")
        return FormatError(f"{what}it holds {', '.join(names[:_LISTED]) or 'nothing'}")
    for signature, name in _COMPRESSED.items():
        if head.startswith(signature):
            return FormatError(f"{path}: compressed with {name}; unpack it, and load the file in it")
    if head[257:262] == b"ustar":
        return UnsupportedError(
            f"{path}: a tar archive; if a model was packed with it, unpack it, and if it is PyTorch's format from "
            "before 0.1.10, save the state dict with a later PyTorch instead"
        )
    return None


def _of_binary(file: File) -> CylstmError | None:
    path, head = file.path, file.head
    if head.startswith(b"\x93NUMPY"):
        objects = ", and this one holds Python objects, which are pickles" if b"'|O'" in head else ""
        return UnsupportedError(f"{path}: {_NPY}{objects}")
    kinds: tuple[tuple[Callable[[bytes], object], str], ...] = (
        (lambda head: head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"), _PICKLE),
        (lambda head: head[4:8] == b"TFL3", _TFLITE),
        (lambda head: b"_tf_keras_" in head, _SAVED_MODEL),
        (_SAVED_MODEL_PB.match, _SAVED_MODEL),
        (_GRAPH_DEF.match, _TF_GRAPH),
        (_CORE_ML_MODEL.match, _CORE_ML),
        (
            lambda head: head.startswith(b"GGUF"),
            f"GGUF models are not supported; load what it was converted from, {_SAVE_TORCH}, with layers=",
        ),
        (
            lambda head: head.startswith(b"MATLAB "),
            "MATLAB files are not read; scipy.io.loadmat reads them, and from_state_dict takes the arrays by name",
        ),
    )
    for matches, what in kinds:
        if matches(head):
            return UnsupportedError(f"{path}: {what}")
    if file.size >= 8:
        with open(path, "rb") as opened:
            opened.seek(file.size - 8)
            if opened.read(8) == _TABLE_MAGIC:
                return UnsupportedError(f"{path}: {_TF_CHECKPOINT}")
    return None
