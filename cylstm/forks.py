"""A fork while another thread imports: the child would wait for ever for the lock of that import.

Much of the package is imported when it is first used, and that may be a call on another thread. So before a fork, what
calls import is imported, which waits for whoever is at it.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

#: what calls of models, streams and traces import when they are first made
OF_CALLS = (
    "cylstm._version",
    "cylstm.engine.threads",
    "cylstm.graph.streaming",
    "cylstm.inputs",
    "cylstm.monte_carlo.predict",
    "cylstm.prediction",
    "cylstm.stream",
    "cylstm.trace",
    "cylstm.trace_chunks",
    "cylstm.warm_up",
    "threadpoolctl",
)


def finish_imports() -> None:
    """Import what calls need, and wait for every import of the package that another thread has begun."""
    for name in OF_CALLS:
        import_module(name)
    for name, module in sys.modules.copy().items():
        begun = getattr(getattr(module, "__spec__", None), "_initializing", False)
        if begun and name.partition(".")[0] in ("cylstm", "threadpoolctl"):
            import_module(name)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=finish_imports)
