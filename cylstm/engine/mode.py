"""The floating-point mode of Python's part of a call, in which NumPy converts and computes.

C sets its own mode (csrc/platform/ieee.h). This is for what comes before and after it: another library may have changed
the rounding or flush subnormal numbers, and then a float64 array becomes other float32 numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from cylstm.engine import _engine

P = ParamSpec("P")
R = TypeVar("R")


def in_standard_mode(function: Callable[P, R]) -> Callable[P, R]:
    """The function, run with rounding to nearest and with subnormal numbers.

    The caller's mode is put back, also after errors.

    Not for generators, between whose steps the caller runs.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        mode = _engine.enter_standard_mode()
        try:
            return function(*args, **kwargs)
        finally:
            _engine.leave_standard_mode(mode)

    return run
