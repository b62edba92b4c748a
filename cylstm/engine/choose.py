"""What a new model runs on: the engine, the type of its numbers, the instruction set and whose threads."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from cylstm.engine._engine import best_isa, isa_fuses, isa_names
from cylstm.errors import ArgumentError, BlasNotFoundError, ChoiceArgumentError, UnsupportedError, described

ENGINES = ("packed", "blas", "auto")
#: whose threads there are
BACKENDS = ("pool", "openmp")


def real_dtype(dtype: object) -> np.dtype:
    """The dtype that is meant, float32 or float64. Raises `ArgumentError`."""
    try:
        real: np.dtype = np.dtype(dtype)  # type: ignore[call-overload]
    except MemoryError:
        raise
    except Exception as error:  # whatever an object raises when NumPy looks at it
        raise ArgumentError(f"dtype: expected float32 or float64, found {described(dtype)}") from error
    if real not in (np.float32, np.float64):
        raise ChoiceArgumentError(f"dtype: expected float32 or float64, found {real}")
    return real


def check_engine(engine: object) -> str:
    """The name of an engine. Raises `ArgumentError`."""
    if not isinstance(engine, str) or engine not in ENGINES:
        raise ChoiceArgumentError(f"engine: expected one of {', '.join(ENGINES)}, found {described(engine)}")
    return engine


def chosen_isa() -> str:
    """The instruction set of new models: ``CYLSTM_ISA`` if set, else the best one of `isa_names`.

    Raises
    ------
    UnsupportedError
        If ``CYLSTM_ISA`` names a set that does not exist or that this CPU or build lacks.
    """
    wanted = os.environ.get("CYLSTM_ISA", "")
    if not wanted:
        return best_isa()
    names = isa_names()
    if wanted not in names:
        raise UnsupportedError(f"CYLSTM_ISA={wanted}: expected one that this machine has: {', '.join(names)}")
    return wanted


def backend_of(engine: str) -> str:
    """Whose threads the calls of a new model of this engine use: "pool" or "openmp".

    ``CYLSTM_THREADS`` if set, else OpenMP's for the BLAS engine and those of our own pool for the packed one. Where
    OpenMP's cannot be used (`cylstm.engine.openmp` says why), the pool's are.

    Raises
    ------
    UnsupportedError
        If ``CYLSTM_THREADS`` is neither.
    """
    wanted = os.environ.get("CYLSTM_THREADS", "")
    if wanted not in ("", *BACKENDS):
        raise UnsupportedError(f"CYLSTM_THREADS={wanted}: expected {' or '.join(BACKENDS)}, or nothing for the default")
    return wanted or ("openmp" if engine == "blas" else "pool")


def choose_engine(isa: str, is_double: bool, smaller: Sequence[str] = ()) -> tuple[str, str]:
    """The engine of a model loaded with ``engine="auto"``, and why it is taken.

    The packed engine was the faster one wherever it was measured on an instruction set with a fused multiply-add, at
    every size, batch and kind of layer, so the model's size does not come into it. Where the multiply-add must be put
    together, its products cost many times those of any BLAS. docs/performance.md has the measurements.

    Parameters
    ----------
    isa : str
        The instruction set of the model's kernels.
    is_double : bool
        Whether the model computes in float64.
    smaller : sequence of str
        The types of weights that only the packed engine has.
    """
    if smaller and not is_double:
        return "packed", f"the only engine with weights of {smaller[0]}"
    if is_double:
        return "blas", "the only engine in float64"
    if isa_fuses(isa):
        return "packed", f"{isa} has a fused multiply-add"
    from cylstm.engine.blas import find_blas

    try:
        find_blas()
    except BlasNotFoundError:
        return "packed", "no BLAS was found"
    return "blas", f"{isa} has no fused multiply-add"
