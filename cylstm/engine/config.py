"""What this installation is and what it found on this machine."""

from __future__ import annotations

import platform

from cylstm.errors import CylstmError

OWN_THREADS = {"pool": "our own pool", "none": "none: this build has no threads of its own"}


def _threads(engine: str) -> str:
    """Whose threads an engine's calls use, from which file, and why not OpenMP's where they are wanted."""
    from cylstm.engine import _engine
    from cylstm.engine.choose import backend_of

    own = OWN_THREADS[_engine.threads_name()]
    try:
        backend = backend_of(engine)
    except CylstmError as error:
        return f"none: {error}"
    if backend == "pool":
        return f"{own} ({_engine.__file__})"
    from cylstm.engine.openmp import load

    found = load()
    if found.reason:
        return f"{own} ({_engine.__file__}), not OpenMP: {found.reason}"
    return f"OpenMP ({found.library} with {found.runtime})"


def show_config() -> None:
    """Print what there is and what was chosen: version, instruction set, each engine's threads, BLAS, and where.

    It loads what the BLAS engine would: a BLAS and, where there is one, an OpenMP runtime.
    """
    import numpy as np

    from cylstm._version import __version__
    from cylstm.engine import _engine
    from cylstm.engine.blas import find_blas
    from cylstm.engine.choose import chosen_isa
    from cylstm.engine.threads import available_threads
    from cylstm.errors import ArgumentError, BlasNotFoundError, UnsupportedError

    try:
        chosen = chosen_isa()
    except UnsupportedError as error:
        chosen = f"none: {error}"
    try:
        threads = f"at most {available_threads()}"
    except ArgumentError as error:
        threads = f"none: {error}"
    try:
        found = find_blas()
        blas = f"{found.path} ({found.origin}, {64 if found.is_int64 else 32}-bit integers)"
    except BlasNotFoundError as error:
        blas = f"none: {error}"
    rows = [
        ("cylstm", __version__),
        ("python", f"{platform.python_version()} on {platform.machine()}"),
        ("numpy", np.__version__),
        ("instruction set", f"{chosen} (available: {', '.join(_engine.isa_names())})"),
        ("CPU features", ", ".join(_engine.cpu_features()) or "none beyond the instruction set"),
        ("threads", threads),
        ("packed engine", _threads("packed")),
        ("BLAS engine", _threads("blas")),
        ("blas", blas),
    ]
    for name, text in rows:
        print(f"{name + ':':17}{text}")
