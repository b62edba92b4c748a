"""Predictions on their way to a file, and as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cylstm.errors import UnsupportedError
from cylstm.inputs import from_layout

if TYPE_CHECKING:
    from cylstm.graph.values import Value
    from cylstm.model import Model

#: of each output more rows of it, or None if no more has come
Pieces = Sequence[np.ndarray | None]


class Output(NamedTuple):
    """What is written of one output of a network.

    Attributes
    ----------
    value : Value
    layout : str or None
        The user's order of its axes, if that is another one.
    names : tuple of str
        Of its columns in a table.
    is_batch : bool
        Whether the first axis is that of a batch; otherwise it is one sample, without a batch axis.
    """

    value: Value
    layout: str | None
    names: tuple[str, ...]
    is_batch: bool

    @property
    def is_whole(self) -> bool:
        """Whether it comes in one piece: it does not grow along its first axis."""
        return not self.is_batch and (not self.value.has_time or self.layout is not None)

    def rows(self, array: np.ndarray) -> np.ndarray:
        """As (rows, columns), or (rows, steps, columns) of a batch of sequences."""
        if self.layout is not None:
            array = from_layout(array, self.layout, self.value)
        width = len(self.names)
        if self.is_batch and self.value.has_time:
            return array.reshape(*array.shape[:2], width)
        return array.reshape(-1, width)


def outputs_of(model: Model, is_batch: bool, targets: Sequence[str] | None) -> list[Output]:
    """The outputs of a network; `targets` are the names of the features of its only one."""
    found = []
    for name in model.outputs:
        value = model.graph.values[name]
        width = math.prod(value.step_shape)
        names = tuple(f"{name}.{k}" for k in range(width)) if width != 1 else (name,)
        found.append(Output(value, model.graph.layouts.get(name), tuple(targets or names), is_batch))
    return found


def one_table(
    path: str, outputs: Sequence[Output], pieces: Pieces, first: int
) -> tuple[list[str], list[np.ndarray], int]:
    """The names of the columns, their numbers in these pieces, and how many rows of the output these are.

    A row is one step of a sequence, or one row of a batch; a batch of sequences has the columns ``row`` and ``step``
    before the others, from 0. Several outputs are side by side.

    Raises
    ------
    UnsupportedError
        If outputs are not of equally many rows.
    """
    arrays = [output.rows(piece) for output, piece in zip(outputs, pieces) if piece is not None]
    if len(arrays) != len(outputs) or len({array.shape[:-1] for array in arrays}) > 1:
        raise UnsupportedError(f"{path}: the outputs have different numbers of rows: write them to an .npz file")
    names = [name for output in outputs for name in output.names]
    columns = [array[..., k].reshape(-1) for array in arrays for k in range(array.shape[-1])]
    count = len(arrays[0])
    if arrays[0].ndim == 3:
        steps = arrays[0].shape[1]
        names = ["row", "step", *names]
        columns = [np.repeat(np.arange(first, first + count), steps), np.tile(np.arange(steps), count), *columns]
    return names, columns, count
