"""What to say when the compiled part of the package cannot be loaded."""

from __future__ import annotations

import platform
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path


def explain(error: ImportError) -> str:
    """A sentence for an `error` of importing ``cylstm._engine``: what was found, what was expected, what to do."""
    folder = Path(__file__).parent
    bits = 64 if sys.maxsize > 2**32 else 32
    machine = f"{platform.python_implementation()} {platform.python_version()}, {bits} bit, on {platform.machine()}"
    found = sorted(path.name for path in folder.glob("_engine.*") if path.suffix in (".so", ".pyd"))
    if not found:
        return (
            f"cylstm: {folder} holds no compiled part: this is the source, not an installation. "
            "Install it: pip install . (which needs a C compiler)"
        )
    if error.path:
        problem = f"{Path(error.path).name} cannot be loaded: {error}"
    else:
        problem = f"found {', '.join(found)}, expected _engine{EXTENSION_SUFFIXES[0]}"
    return (
        f"cylstm: the installed package is not for this machine ({machine}): {problem}. "
        "Install it again: pip install --force-reinstall --no-deps cylstm"
    )
