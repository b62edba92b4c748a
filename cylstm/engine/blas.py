"""Finding the BLAS of this process, for ``engine="blas"``."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from cylstm.errors import BlasNotFoundError

#: (prefix, suffix, integers are 64 bits wide) around a CBLAS name, as builders of BLAS libraries spell it
_SPELLINGS = (
    ("", "", False),
    ("scipy_", "64_", True),
    ("scipy_", "", False),
    ("", "64_", True),
    ("", "_64", True),
    ("", "$NEWLAPACK$ILP64", True),
)
#: what openblas_get_parallel returns
_OPENBLAS_WITH_OPENMP = 2
_SYSTEM_NAMES = ("openblas", "blis", "mkl_rt", "cblas", "blas")


@dataclass(frozen=True)
class Blas:
    """A bound BLAS library, which stays loaded.

    Attributes
    ----------
    path : str
        Of the library.
    origin : str
        How it was found.
    addresses : dict of str to int
        Of sgemv, sgemm, dgemv, dgemm; and of set_threads, get_threads and exchange_threads, 0 where there are none.
    threads_are_local : bool
        Whether set_threads and get_threads are about the calling thread alone, not the process.
    is_int64 : bool
        Whether its integers are 64 bits wide.
    """

    path: str
    origin: str
    addresses: dict[str, int]
    threads_are_local: bool
    is_int64: bool


_lock = threading.RLock()
_found: Blas | None = None


def _release_in_child() -> None:
    """A thread that is searching has no part in a forked child, which would wait for it for ever."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)


def find_blas() -> Blas:
    """The library of ``CYLSTM_BLAS``, else the BLAS that NumPy has loaded, else a system library.

    Raises
    ------
    BlasNotFoundError
        If none works; the message lists what was tried and why it was not taken.
    """
    global _found
    with _lock:  # trying one sets its number of threads for a moment
        if _found is None:
            tried: list[str] = []
            for path, origin in _candidates(tried):
                blas = _bind(path, origin, tried)
                if blas is not None:
                    _found = blas
                    break
            else:
                raise BlasNotFoundError('engine="blas": no BLAS found; tried ' + "; ".join(tried))
        return _found


def _candidates(tried: list[str]) -> Iterator[tuple[str, str]]:
    path = os.environ.get("CYLSTM_BLAS")
    if path:
        yield path, "CYLSTM_BLAS"
        return
    import numpy  # noqa: F401  (loads its BLAS)
    import threadpoolctl

    loaded = [info for info in threadpoolctl.threadpool_info() if info.get("user_api") == "blas"]
    loaded.sort(key=lambda info: "numpy" not in info["filepath"])
    for info in loaded:
        yield info["filepath"], f"loaded in this process ({info.get('internal_api')} {info.get('version')})"
    if not loaded:
        tried.append("NumPy's own (threadpoolctl sees none in this process)")
    for name in _SYSTEM_NAMES:
        path = ctypes.util.find_library(name)
        if path:
            yield path, "system library"
        else:
            tried.append(f"lib{name} (not installed)")


def _address(library: ctypes.CDLL, *names: str) -> int:
    for name in names:
        function = getattr(library, name, None)
        if function is not None:
            return ctypes.cast(function, ctypes.c_void_p).value or 0
    return 0


def _bind(path: str, origin: str, tried: list[str]) -> Blas | None:
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        tried.append(f"{path} ({error})")
        return None
    for prefix, suffix, is_int64 in _SPELLINGS:
        addresses = {
            name: _address(library, f"{prefix}cblas_{name}{suffix}") for name in ("sgemv", "sgemm", "dgemv", "dgemm")
        }
        if not all(addresses.values()):
            continue
        if not _multiplies(addresses, is_int64):
            tried.append(f"{path} ({prefix}cblas_*{suffix} gives wrong products)")
            continue
        setters, are_local = _thread_setters(library, prefix, suffix)
        return Blas(path, origin, addresses | setters, are_local, is_int64)
    tried.append(f"{path} (no cblas_sgemv under any known spelling)")
    return None


def _thread_setters(library: ctypes.CDLL, prefix: str, suffix: str) -> tuple[dict[str, int], bool]:
    """Addresses of the functions that say how many threads a call of the library uses; whether of one thread's calls.

    openblas_set_num_threads_local is not among them: without OpenMP it sets the number of the whole process like
    openblas_set_num_threads (found in 0.3.31), and with OpenMP that of all threads' parallel regions.
    """
    found = {
        "set_threads": _address(
            library, f"{prefix}openblas_set_num_threads{suffix}", "openblas_set_num_threads", "MKL_Set_Num_Threads"
        ),
        "get_threads": _address(
            library, f"{prefix}openblas_get_num_threads{suffix}", "openblas_get_num_threads", "MKL_Get_Max_Threads"
        ),
        "exchange_threads": _address(library, "MKL_Set_Num_Threads_Local"),
    }
    parallel = _address(library, f"{prefix}openblas_get_parallel{suffix}", "openblas_get_parallel")
    if parallel and ctypes.CFUNCTYPE(ctypes.c_int)(parallel)() == _OPENBLAS_WITH_OPENMP:
        # it asks OpenMP at every call, and OpenMP has a number for each thread
        setters = {
            "set_threads": _address(library, "omp_set_num_threads"),
            "get_threads": _address(library, "omp_get_max_threads"),
        }
        if all(setters.values()):
            return found | setters, True
    setters = {
        "set_threads": _address(library, "bli_thread_set_num_threads"),
        "get_threads": _address(library, "bli_thread_get_num_threads"),
    }
    if all(setters.values()):
        return found | setters, _are_local(setters)
    return found, False


def _are_local(setters: dict[str, int]) -> bool:
    """Whether another thread sees the number that one sets; BLIS from 1.0 on has one for each thread."""
    set_threads = ctypes.CFUNCTYPE(None, ctypes.c_ssize_t)(setters["set_threads"])
    get_threads = ctypes.CFUNCTYPE(ctypes.c_ssize_t)(setters["get_threads"])
    before = get_threads()
    thread = threading.Thread(target=lambda: set_threads(get_threads() + 1))
    thread.start()
    thread.join()
    is_local = bool(get_threads() == before)
    if not is_local:
        set_threads(before)
    return is_local


def _multiplies(addresses: dict[str, int], is_int64: bool) -> bool:
    """Whether gemv of a 2x3 matrix comes out right: a library of another integer width would not survive silently."""
    integer = ctypes.c_int64 if is_int64 else ctypes.c_int
    for name, real in (("sgemv", ctypes.c_float), ("dgemv", ctypes.c_double)):
        pointer = ctypes.POINTER(real)
        gemv = ctypes.CFUNCTYPE(
            None,
            *(ctypes.c_int, ctypes.c_int, integer, integer, real, pointer, integer),
            *(pointer, integer, real, pointer, integer),
        )(addresses[name])
        a, x, y = (real * 6)(1, 2, 3, 4, 5, 6), (real * 3)(1, 10, 100), (real * 2)(0.5, 0.25)
        gemv(101, 111, 2, 3, 1, a, 3, x, 1, 1, y, 1)
        if list(y) != [321.5, 654.25]:
            return False
    return True
