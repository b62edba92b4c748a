"""Files that are in memory, or open: copied to where the readers, which open a file by its path, find them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO

from cylstm.errors import CylstmError, FormatError, UnsupportedError, described

_SHOWN_NAME = 120


@contextmanager
def path_of(given: Any) -> Iterator[tuple[str, str]]:
    """The path of a copy while it is needed, and the name that messages give it; errors within say that name.

    The copy is in a folder of its own, so that nothing which a file says of others beside it leads anywhere. On Linux
    its content is in memory alone.

    Raises
    ------
    UnsupportedError
        If it is neither bytes nor a file; says which function takes it.
    FormatError
        If it is a file that gives texts.
    OSError
        If it cannot be read or copied.
    """
    if not isinstance(given, (bytes, bytearray, memoryview)) and not callable(getattr(given, "read", None)):
        raise UnsupportedError(f"load {_elsewhere(given)}")
    name = _name(given)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cylstm-"))
        path = os.path.join(folder, "model")
        file: BinaryIO
        if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
            file = stack.enter_context(open(os.memfd_create("cylstm-model"), "wb"))
            os.symlink(f"/proc/self/fd/{file.fileno()}", path)
        else:
            file = stack.enter_context(open(path, "xb"))
        _copy(given, file, name)
        file.flush()
        try:
            yield path, name
        except CylstmError as error:
            text = str(error).replace(path, name).replace(folder, name)
            raise type(error)(text) from error.__cause__


def with_name(item: Any, path: str, name: str) -> Any:
    """What a loader says about itself, with the name of the file where it has the path of the copy."""
    if isinstance(item, str):
        return item.replace(path, name)
    if isinstance(item, dict):
        return {key: with_name(value, path, name) for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        return tuple(with_name(value, path, name) for value in item)
    return item


def _copy(given: Any, file: BinaryIO, name: str) -> None:
    if isinstance(given, (bytes, bytearray, memoryview)):
        file.write(given)
        return
    try:
        shutil.copyfileobj(given, file)
    except TypeError as error:
        raise FormatError(
            f'{name}: expected a file of bytes, found {described(given)}; open it with mode "rb"'
        ) from error


def _name(given: Any) -> str:
    name = getattr(given, "name", None)
    if isinstance(name, str) and name:
        return name[:_SHOWN_NAME]
    return f"<{type(given).__name__}>"


def _elsewhere(given: Any) -> str:
    """What takes a live model, or tensors in memory, in the place of `load`."""
    kinds = [kind.__module__ for kind in type(given).__mro__]
    found = f"takes the path of a file, found {type(given).__module__}.{type(given).__name__}: "
    is_keras = any(kind.partition(".")[0] in ("keras", "tf_keras") or ".keras." in kind for kind in kinds)
    if is_keras:
        return found + "a live model of Keras goes to cylstm.from_keras(model)"
    if any(kind.startswith("torch.nn.") for kind in kinds):
        return found + "a live module of PyTorch goes to cylstm.from_torch(module)"
    if any(kind.startswith("torch.export") for kind in kinds):
        return found + 'an exported program is loaded from the file of torch.export.save(program, "model.pt2")'
    if any(kind.startswith("cylstm.") for kind in kinds):
        return found + "it has been loaded already"
    if hasattr(given, "keys"):
        return found + "a state dict in memory goes to cylstm.from_state_dict(tensors, layers=[...])"
    return found + (
        "the bytes of a file and a file that is open for reading are taken too; a module of PyTorch goes to "
        "from_torch, a model of Keras to from_keras, a state dict to from_state_dict"
    )
