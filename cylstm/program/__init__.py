"""Tensor programs: what frameworks export, without any of them, and the functions in which users write custom layers.

``from cylstm import program as xp`` has the functions of `cylstm.program.functions`, by the names of the Python array
API standard. They are imported when the first of them is used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cylstm.program.array import Array, SymbolicSize
    from cylstm.program.functions import *  # noqa: F403

    __all__ = ["Array", "SymbolicSize"]


def __getattr__(name: str) -> object:
    from importlib import import_module  # which does not look for its module here first

    if not name.startswith("_"):
        if name in ("Array", "SymbolicSize"):
            return getattr(import_module("cylstm.program.array"), name)
        functions = import_module("cylstm.program.functions")
        if name in functions.NAMES:
            return getattr(functions, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    from cylstm.program.functions import NAMES

    return sorted({*globals(), *NAMES, "Array", "SymbolicSize"})
