"""Loading OpenMP's threads, when a call on several threads first wants them.

They are a library beside the extension, compiled for OpenMP but linked to no OpenMP runtime. The runtime is the one
that the process has already, whoever brought it and under whatever file name; else the system's libgomp.
"""

from __future__ import annotations

import ctypes
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import threadpoolctl

from cylstm.engine import _engine

#: what the region that GCC compiles calls; other runtimes than libgomp have these too
_FUNCTIONS = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
_SYSTEM_NAME = "libgomp.so.1"


@dataclass(frozen=True)
class OpenMP:
    """What was found; it stays loaded.

    Attributes
    ----------
    library, runtime : str
        Paths of our own library and of the OpenMP runtime; empty where there is none.
    reason : str
        Why OpenMP's threads cannot be used, so that the pool's are; empty if they can.
    """

    library: str
    runtime: str
    reason: str


_lock = threading.RLock()
_found: OpenMP | None = None


def _release_in_child() -> None:
    """A thread that is loading has no part in a forked child, which would wait for it for ever."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)


def load() -> OpenMP:
    """Load the library and a runtime; once, by whichever thread comes first."""
    global _found
    with _lock:
        if _found is None:
            _found = _load()
    return _found


def _load() -> OpenMP:
    engine = Path(_engine.__file__)
    path = engine.with_name(engine.name.replace("_engine", "_openmp", 1))
    if not path.exists():
        return OpenMP("", "", f"built without OpenMP ({path.name} is missing)")
    runtime, reason = _runtime()
    if runtime is None:
        return OpenMP(str(path), "", reason)
    name = next((loaded for loaded in _loaded() if ctypes.CDLL(loaded)._handle == runtime._handle), runtime._name)
    try:
        library = ctypes.CDLL(str(path))
        addresses = [_address(runtime, name) for name in _FUNCTIONS]
        # copied, so that it need not live on
        library.cyl_openmp_use((ctypes.c_void_p * len(addresses))(*addresses))
        _engine.bind_openmp(_address(library, "cyl_openmp_region"))
    except (OSError, AttributeError) as error:
        return OpenMP(str(path), name, f"{path} cannot be used: {error}")
    return OpenMP(str(path), name, "")


def _runtime() -> tuple[ctypes.CDLL | None, str]:
    """A runtime with the functions, and why there is none."""
    reasons = []
    for path in [*_loaded(), _SYSTEM_NAME]:
        try:
            runtime = ctypes.CDLL(path)
        except OSError as error:
            reasons.append(f"no OpenMP runtime: {error}")
            continue
        if all(hasattr(runtime, name) for name in _FUNCTIONS):
            return runtime, ""
        reasons.append(f"{path} has not all of {', '.join(_FUNCTIONS)}")
    return None, "; ".join(reasons)


def _loaded() -> list[str]:
    """Paths of the OpenMP runtimes of this process."""
    return [info["filepath"] for info in threadpoolctl.threadpool_info() if info["user_api"] == "openmp"]


def _address(library: ctypes.CDLL, name: str) -> int:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
