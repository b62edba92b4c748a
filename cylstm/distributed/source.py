"""How a network reaches the processes that predict: as the path of a file, or pickled; each of them loads it once."""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from cylstm.errors import ArgumentError, FormatError, UnsupportedError, described
from cylstm.forecasting import Forecaster
from cylstm.loading import load
from cylstm.model import Model

#: networks that a process keeps, the latest ones
_MOST_KEPT = 4

_kept: OrderedDict[tuple[type, str], Any] = OrderedDict()
_lock = threading.Lock()


class Source(NamedTuple):
    """A network on its way.

    Attributes
    ----------
    kind : type
        `Model` or `Forecaster`.
    digest : str
        Of the file or of the pickle: processes that have it load nothing.
    path : str or None
        Of the file, the same in each process.
    is_mapped : bool
        Whether the file is packed, so that it is mapped and not read.
    pickled : bytes or None
        The network itself, if there is no path.
    """

    kind: type
    digest: str
    path: str | None = None
    is_mapped: bool = False
    pickled: bytes | None = None


def source_of(given: Any, kind: type = Model) -> tuple[Source, Any]:
    """How a network goes to the workers, and itself.

    Parameters
    ----------
    given : path-like, or a `kind`
        A file that `load` reads without more arguments.
    kind : type
        `Model` or `Forecaster`.

    Raises
    ------
    ArgumentError
        If it is neither.
    CylstmError, OSError
        If the file cannot be loaded here.
    """
    if isinstance(given, kind):
        pickled = pickle.dumps(given, pickle.HIGHEST_PROTOCOL)
        return Source(kind, _digest(pickled), pickled=pickled), given
    if not isinstance(given, (str, os.PathLike)) or isinstance(os.fspath(given), bytes):
        raise ArgumentError(f"model: expected a path or a {kind.__name__}, found {described(given)}")
    path = os.path.abspath(os.fspath(given))
    digest = _digest_of_file(path)
    try:
        found, is_mapped = _reader(kind)(path, mmap=True), True
    except (FormatError, UnsupportedError):  # not packed, or it cannot be read, which is said again
        found, is_mapped = _reader(kind)(path), False
    return Source(kind, digest, path, is_mapped), found


def network_of(source: Source) -> Any:
    """The network, loaded once in this process.

    Raises
    ------
    FormatError
        If there is no such file here, or it has other content than where the work was given out.
    """
    key = source.kind, source.digest
    with _lock:  # of several threads one loads
        found = _kept.get(key)
        if found is None:
            found = pickle.loads(source.pickled) if source.pickled is not None else _load_file(source)
            _kept[key] = found
            while len(_kept) > _MOST_KEPT:
                _kept.popitem(last=False)
        _kept.move_to_end(key)
        return found


def _load_file(source: Source) -> Any:
    path = str(source.path)
    try:
        digest = _digest_of_file(path)
    except OSError as error:
        raise FormatError(
            f"{path}: the worker on {socket.gethostname()} cannot read this file ({error.strerror}); put it where "
            f"every worker has it under this path, or give the {source.kind.__name__} itself, which goes with the work"
        ) from error
    if digest != source.digest:
        raise FormatError(
            f"{path}: on {socket.gethostname()} this file has other content than where the work was given out; give "
            "every worker the same file, and a changed one another name"
        )
    return _reader(source.kind)(path, mmap=source.is_mapped)


def _reader(kind: type) -> Callable[..., Any]:
    return Forecaster.load if kind is Forecaster else load


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _digest_of_file(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
