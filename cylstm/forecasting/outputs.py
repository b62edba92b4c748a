"""What a network gives for each step of the horizon: names of its numbers, and where they are in its results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cylstm.errors import ArgumentError, UnsupportedError

if TYPE_CHECKING:
    from cylstm.model import Model

#: the names of the heads of a normal distribution
MU, SIGMA = "mu", "sigma"
_QUANTILE = re.compile(r"q(0\.\d{1,6})")


def quantile_of(name: str) -> float | None:
    """The level of an output such as ``"q0.9"``, else None."""
    found = _QUANTILE.fullmatch(name)
    level = float(found[1]) if found else 0.0
    return level if level > 0 else None


def is_head(name: str) -> bool:
    """Whether it is the name of a head of a distribution of the target."""
    return name in (MU, SIGMA) or quantile_of(name) is not None


def point_of(outputs: Sequence[str], target: str) -> str:
    """Which output is the forecast of the target: itself, the mean or the median. Raises `ArgumentError`."""
    for name in (target, MU, *(name for name in outputs if quantile_of(name) == 0.5)):
        if name in outputs:
            return name
    raise ArgumentError(f"outputs: expected the target {target!r}, 'mu' or 'q0.5' among {', '.join(outputs)}")


class Reader(NamedTuple):
    """How the results of a network become (batch, horizon, outputs)."""

    horizon: int
    outputs: int
    #: of each result whether its last step is the forecast, all of it is, or it has no time
    kinds: tuple[str, ...]

    def read(self, results: Any) -> np.ndarray | None:
        """(batch, horizon, outputs), of the last step; None while the network warms up."""
        arrays = results if isinstance(results, list) else [results]
        parts = []
        for kind, array in zip(self.kinds, arrays, strict=True):
            if kind == "last":
                if array.shape[1] == 0:
                    return None
                array = array[:, -1]
            parts.append(array.reshape(len(array), self.horizon, -1))
        return parts[0].copy() if len(parts) == 1 else np.concatenate(parts, axis=2)


def reader_of(model: Model, horizon: int, outputs: Sequence[str]) -> Reader:
    """How this network's results are read. Raises `ArgumentError` if they do not have these numbers."""
    count = len(outputs)
    several = len(model.outputs) > 1
    if several and len(model.outputs) != count:
        raise ArgumentError(
            f"outputs: the network has {len(model.outputs)} outputs ({', '.join(model.outputs)}), expected a name for "
            f"each, found {', '.join(outputs)}; Model.extract takes some of them"
        )
    size = horizon * (1 if several else count)
    kinds = []
    for name in model.outputs:
        value = model.graph.values[name]
        shape = tuple(value.shape)
        if model.graph.layouts.get(name, "01"[: len(shape)]) != "01"[: len(shape)] or value.kind == "index":
            raise UnsupportedError(f"output {name!r}: the order of its axes is not that of (time, features)")
        if value.has_time and len(shape) == 2 and shape[1] == size:
            kinds.append("last")
        elif shape == (size,) or (len(shape) == 2 and shape == (horizon, size // horizon)):
            kinds.append("vector" if len(shape) == 1 else "whole")
        else:
            known = tuple("time" if axis is None else axis for axis in shape)
            raise ArgumentError(
                f"horizon: output {name!r} of the network has shape {known}, expected {size} numbers as its last axis, "
                f"{horizon} steps of {', '.join(outputs)}"
            )
    return Reader(horizon, count, tuple(kinds))
