"""What to do and to say when the compiled part of the package cannot be loaded."""

from __future__ import annotations

import platform
import sys
import warnings
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from importlib.util import module_from_spec
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
#: a clone or an unpacked source distribution
IS_SOURCE = (FOLDER.parent / "pyproject.toml").is_file()


def hand_over() -> bool:
    """Let the installed package take the place of this one, if this one is a source tree that is not built.

    Python looks in the current folder first, so that ``python -m cylstm`` inside a clone finds the source, although
    the package is installed.
    """
    found = _installed() if IS_SOURCE else None
    if found is None or found.loader is None or found.origin is None:
        return False
    warnings.warn(
        f"cylstm: the source in {FOLDER} is not built for this Python; the package installed in "
        f"{Path(found.origin).parent} is used instead",
        stacklevel=3,
    )
    # what an import returns is what sys.modules holds when the module has run
    module = module_from_spec(found)
    for name in [name for name in sys.modules if name.startswith("cylstm.")]:
        del sys.modules[name]
    sys.modules["cylstm"] = module
    found.loader.exec_module(module)
    return True


def _installed() -> ModuleSpec | None:
    """The first package cylstm on ``sys.path``, or of an editable installation, that is not this one and is built."""
    places = [place for place in sys.path if Path(place, "cylstm").resolve() != FOLDER]
    for finder in sys.meta_path:
        found = finder.find_spec("cylstm", places if finder is PathFinder else None)
        if found is not None and found.loader is not None and found.origin is not None:
            folder = Path(found.origin).resolve().parent
            if folder != FOLDER and any(
                (folder / "engine" / f"_engine{suffix}").is_file() for suffix in EXTENSION_SUFFIXES
            ):
                return found
    return None


def explain(error: ImportError) -> str:
    """A sentence for an `error` of importing the engine: what was found, what was expected, what to do."""
    bits = 64 if sys.maxsize > 2**32 else 32
    machine = f"{platform.python_implementation()} {platform.python_version()}, {bits} bit, on {platform.machine()}"
    found = sorted(path.name for path in (FOLDER / "engine").glob("_engine.*") if path.suffix in (".so", ".pyd"))
    if not found:
        return (
            f"cylstm: {FOLDER} holds no compiled part: this is the source, not an installation. "
            f"Install it: pip install {FOLDER.parent} (which needs a C compiler)"
        )
    if error.path:
        problem = f"{Path(error.path).name} cannot be loaded: {error}"
    else:
        problem = f"found {', '.join(found)}, expected _engine{EXTENSION_SUFFIXES[0]}"
    again = FOLDER.parent if IS_SOURCE else "--force-reinstall --no-deps cylstm"
    return (
        f"cylstm: the {'source' if IS_SOURCE else 'installed package'} is not built for this machine ({machine}): "
        f"{problem}. Install it again: pip install {again}"
    )
