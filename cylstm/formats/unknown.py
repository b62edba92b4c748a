"""The error about a file that no format recognises."""

from __future__ import annotations

from collections.abc import Sequence

from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats import ZIP_SIGNATURES, File, Format

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


def unknown_file(file: File, formats: Sequence[Format]) -> CylstmError:
    """The error that tells what the file seems to be, and which formats there are."""
    path, head = file.path, file.head
    if file.is_folder:
        if "saved_model.pb" in file.members:
            return UnsupportedError(f"{path}: TensorFlow SavedModels are not supported; {_RESAVE_KERAS}")
        return FormatError(f"{path}: a directory, expected a file")
    if head.startswith(ZIP_SIGNATURES):
        return FormatError(
            f"{path}: a zip archive, but neither a PyTorch checkpoint nor a Keras model; "
            f"it holds {', '.join(file.members[:10]) or 'nothing'}"
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
