"""What this installation is and what it found on this machine."""

from __future__ import annotations

import platform

THREADS = {"pool": "of its own pool", "openmp": "OpenMP's", "none": "built without threads: serial"}


def show_config() -> None:
    """Print the version, the instruction set chosen and those available, the threads, and the BLAS found and where."""
    import numpy as np

    from . import _engine
    from ._version import __version__
    from .blas import find_blas
    from .errors import BlasNotFoundError, UnsupportedError
    from .threads import available_threads

    try:
        chosen = _engine.chosen_isa()
    except UnsupportedError as error:
        chosen = f"none: {error}"
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
        ("threads", f"{available_threads()} ({THREADS[_engine.threads_name()]})"),
        ("blas", blas),
    ]
    for name, text in rows:
        print(f"{name + ':':17}{text}")
