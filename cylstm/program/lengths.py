"""Numbers of a program recorded once that may depend on the number of steps it was recorded with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cylstm.program.network import Network
from cylstm.program.tensor import Scores, Tensor, shape_of, time_size

#: fewer steps are numbers that mean anything
_FEW = 8


def example_steps(net: Network) -> list[int]:
    """How long the times of unknown length were in the example."""
    axes = dict.fromkeys(value.axis for value in net.builder.values() if value.axis is not None)
    return [net.numbers(time_size(axis))[0] for axis in axes]


def check_number(net: Network, found: Any, operands: Sequence[Any], steps: Sequence[int]) -> None:
    """Raise `StaticTimeNeeded` if an operand of arithmetic is a number that may depend on the number of steps.

    Parameters
    ----------
    net : Network
    found : object
        The operand.
    operands : sequence
        All of them.
    steps : sequence of int
        `example_steps`.
    """
    number = _number(found)
    if number is not None and any(_depends(number, count, operands) for count in steps):
        raise net.needs_time(f"the number {number:.6g}, which may be computed from the number of steps,")


def _number(found: Any) -> float | None:
    """A plain number, or a constant that holds one."""
    if isinstance(found, (bool, np.bool_)):
        return None
    if isinstance(found, (int, float)):
        return float(found)
    if isinstance(found, np.ndarray) and found.size == 1 and found.dtype.kind in "iuf":
        return float(found.reshape(-1)[0])
    return None


def _depends(number: float, count: int, operands: Sequence[Any]) -> bool:
    """Whether a number may be the number of steps, one less, or the root or the reciprocal of these."""
    likely = [float(count)] if count > 1 else []
    if count >= _FEW:
        likely.append(count - 1.0)
        tensors = [one for one in operands if isinstance(one, Tensor)]
        scaled = any(isinstance(one, Scores) for one in operands)
        if not scaled and not any(count in shape_of(one) for one in tensors):
            likely.append(math.sqrt(count))  # otherwise rather that of a number of features, as attention divides by
    likely += [1.0 / one for one in likely]
    return any(abs(abs(number) - one) <= 1e-6 * one for one in likely)
