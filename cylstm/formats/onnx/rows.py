"""The numbers of the rows of a batch, 0, 1, 2, ..., where they choose from each row a place of its own.

PyTorch writes ``y[torch.arange(batch), lengths - 1]`` with them: of the rows joined with their steps the places ``row *
steps + place``, or pairs of a row and a place. Anything else that is done with them mixes the rows, and is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cylstm.formats.onnx.call import Call
from cylstm.formats.onnx.folding import computed, is_array, shape
from cylstm.program.network import MIXES
from cylstm.program.operations import shape as shapes
from cylstm.program.operations.constants import take_along
from cylstm.program.tensor import BATCH_SIZE, RowNumbers, Size, shape_of


@dataclass(frozen=True, eq=False)
class RowPlaces:
    """A place in each row.

    Attributes
    ----------
    places : Any
        (batch,); None as long as it is the first of each row.
    steps : int, Dim or None
        They are those of rows joined with so many steps, ``row * steps + place``; None for pairs (row, place).
    """

    places: Any
    steps: Size | None

    @property
    def shape(self) -> tuple[Size, ...]:
        return (BATCH_SIZE,) if self.steps is not None else (BATCH_SIZE, 2)


def are_rows(*found: Any) -> bool:
    """Whether one of several operands is the numbers of rows, or places in them."""
    return any(isinstance(one, (RowNumbers, RowPlaces)) for one in found)


def multiplied(call: Call, a: Any, b: Any) -> RowPlaces:
    """The first place of each row where it is joined with its steps."""
    rows, steps = (a, b) if are_rows(a) else (b, a)
    if not isinstance(rows, RowNumbers) or rows.shape != (BATCH_SIZE,) or not is_array(steps) or steps.size != 1:
        raise call.refuse(MIXES)
    return RowPlaces(None, steps.reshape(-1)[0])


def added(call: Call, a: Any, b: Any) -> RowPlaces:
    """A place in each row, from its first place on."""
    rows, places = (a, b) if are_rows(a) else (b, a)
    if not isinstance(rows, RowPlaces) or rows.places is not None or shape_of(places) not in ((BATCH_SIZE,), ()):
        raise call.refuse(MIXES)
    return RowPlaces(places, rows.steps)


def unsqueezed(call: Call, rows: Any, axes: list[int]) -> RowNumbers:
    if not isinstance(rows, RowNumbers) or rows.shape != (BATCH_SIZE,) or axes not in ([1], [-1]):
        raise call.refuse(MIXES)
    return RowNumbers((BATCH_SIZE, 1))


def joined(call: Call, found: list[Any], axis: int) -> RowPlaces:
    """Pairs of a row and a place in it."""
    if len(found) != 2 or not isinstance(found[0], RowNumbers) or are_rows(found[1]) or axis % 2 != 1:
        raise call.refuse(MIXES)
    if found[0].shape != (BATCH_SIZE, 1) or shape_of(found[1]) != (BATCH_SIZE, 1):
        raise call.refuse(MIXES)
    return RowPlaces(shapes.squeeze(call.net, found[1], 1), None)


def taken(call: Call, x: Any, rows: Any) -> Any:
    """The places of each row, which the result has instead of the steps."""
    net, own = call.net, shape(call, x)
    if not isinstance(rows, RowPlaces) or is_array(x):
        raise call.refuse(MIXES)
    if rows.steps is not None:
        if not own or own[0] != BATCH_SIZE * rows.steps:
            raise call.refuse(MIXES)
        x = shapes.reshape(net, x, [BATCH_SIZE, rows.steps, *own[1:]])
    places = rows.places
    if places is None or not shape_of(places):
        raise call.refuse(MIXES)
    return take_along(net, computed(call, x), computed(call, places), 1)
