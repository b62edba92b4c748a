"""Finding the BLAS of this process, for ``engine="blas"``."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from dataclasses import dataclass

from .errors import BlasNotFoundError

#: (prefix, suffix, integers are 64 bits wide) around a CBLAS name, as builders of BLAS libraries spell it
_SPELLINGS = (
    ("", "", False),
    ("scipy_", "64_", True),
    ("scipy_", "", False),
    ("", "64_", True),
    ("", "_64", True),
    ("", "$NEWLAPACK$ILP64", True),
)
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
        Of sgemv, sgemm, dgemv, dgemm; and of set_threads and get_threads, 0 where there are none.
    is_int64 : bool
        Whether its integers are 64 bits wide.
    """

    path: str
    origin: str
    addresses: dict[str, int]
    is_int64: bool


_found: Blas | None = None


def find_blas() -> Blas:
    """The library of ``CYLSTM_BLAS``, else the BLAS that NumPy has loaded, else a system library.

    Raises
    ------
    BlasNotFoundError
        If none works; the message lists what was tried and why it was not taken.
    """
    global _found
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


def _candidates(tried: list[str]):
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
        addresses["set_threads"] = _address(
            library, f"{prefix}openblas_set_num_threads{suffix}", "openblas_set_num_threads", "MKL_Set_Num_Threads"
        )
        addresses["get_threads"] = _address(
            library, f"{prefix}openblas_get_num_threads{suffix}", "openblas_get_num_threads", "MKL_Get_Max_Threads"
        )
        return Blas(path, origin, addresses, is_int64)
    tried.append(f"{path} (no cblas_sgemv under any known spelling)")
    return None


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
