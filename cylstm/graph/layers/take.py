"""Chosen numbers of one axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from cylstm.errors import CylstmError, ShapeError
from cylstm.graph.layers._axes import find_axis, need_shape
from cylstm.graph.layers._layer import DATA, Inputs, LayerKind, Options, Outputs, Weights, check_kind, like
from cylstm.graph.values import Axis, Kind, Option, StaticTimeNeeded, Value
from cylstm.graph.weights import StoredTensor


class TakeLayer(LayerKind):
    """``y[..., j, ...] = x[..., indices[j], ...]``: constant places of one axis, in any order, any of them repeatedly.

    Weights: ``indices`` (n,), whole numbers from 0 to the size of the axis less 1. Inputs: ``x`` (sequence, vector or
    state). Outputs: ``y``, whose axis has n numbers. Options: ``axis``, batch not counted, which is no time of any
    length; ``size``, filled in, that of the axis of x.
    """

    name = "take"
    weights = ("indices",)
    defaults = {"axis": -1, "size": 0}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x, indices = inputs["x"], weights["indices"]
        check_kind(where, x, DATA)
        axis = options["axis"] = find_axis(where, x, options["axis"])
        size = x.shape[axis]
        if size is None:
            raise StaticTimeNeeded(
                f"layer {where!r}: chosen steps need the number of steps in advance, found shape {x.shape} of "
                f"{x.name!r}"
            )
        if indices.ndim != 1 or not indices.size:
            raise ShapeError(f"layer {where!r}, tensor 'indices': expected shape (n,), found {tuple(indices.shape)}")
        options["size"] = size
        if not isinstance(indices, StoredTensor):  # the engine checks the numbers of a file
            self.check_numbers(where, {"indices": indices}.__getitem__, options, ShapeError)
        y = like(x, (*x.shape[:axis], int(indices.size), *x.shape[axis + 1 :]))
        if axis == 0 and x.has_time:
            y = y._replace(mask=None)  # the steps are others
        return {"y": y}

    def streams(self, options: Mapping[str, Option]) -> str | None:
        return "it needs all steps at once" if options["axis"] == 0 else None

    def check_numbers(
        self,
        where: str,
        read: Callable[[str], np.ndarray],
        options: Mapping[str, Option],
        error: type[CylstmError],
    ) -> None:
        indices, size = read("indices"), int(options["size"])
        for index in indices[~((indices >= 0) & (indices < size) & (indices == np.floor(indices)))][:1]:
            raise error(
                f"layer {where!r}, tensor 'indices': expected whole numbers from 0 to {size - 1}, found {index}"
            )


class TakeAlongLayer(LayerKind):
    """``y[..., j, ...] = x[..., indices[..., j, ...], ...]`` along one axis, with indices that are known at run time.

    Inputs: ``x`` (sequence, vector or state); ``indices``, numbers or indices of the network's input, with as many axes
    as x or fewer, which line up with the last ones. Along ``axis`` y has the numbers of indices; along each other axis
    the two have the same size, or one of them has size 1, or none, and is repeated. Outputs: ``y``.

    An index cannot be refused at run time: what is before the axis is its first place, what is beyond it the last one,
    a fraction goes towards 0, and NaN is the first place. Option ``axis``, of x, batch not counted.
    """

    name = "take_along"
    inputs = ("x", "indices")
    defaults = {"axis": -1}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x, indices = inputs["x"], inputs["indices"]
        check_kind(where, x, DATA)
        check_kind(where, indices, (*DATA, "index"))
        axis = options["axis"] = find_axis(where, x, options["axis"])
        rank = len(x.shape)
        is_first = len(indices.shape) == rank
        if len(indices.shape) > rank or (rank == 1 and None in indices.shape):
            raise ShapeError(
                f"layer {where!r}: indices {indices.name!r} of {indices.shape} have more axes than {x.name!r} of "
                f"{x.shape}; give x an axis of size 1 for each of them"
            )
        if not is_first:
            need_shape(where, indices, "taking numbers along another axis than the time")
        padded = (*[1] * (rank - len(indices.shape)), *indices.shape)
        shape: list[int | None] = []
        time: Axis | None = None
        for i, (size, chosen) in enumerate(zip(x.shape, padded)):
            of_x = 1 if i == axis else size
            if of_x != chosen and 1 not in (of_x, chosen):
                raise self._mismatch(where, x, indices, axis)
            shape.append(chosen if of_x == 1 else of_x)
            if of_x is None and chosen is None and x.axis != indices.axis:
                raise self._mismatch(where, x, indices, axis)
            if shape[i] is None:
                time = x.axis if of_x is None else indices.axis
        kind: Kind = "sequence" if rank > 1 and (x.has_time or (indices.has_time and is_first)) else "vector"
        masked = x if axis > 0 and x.has_time and x.shape[0] == shape[0] else indices if is_first else None
        return {"y": Value("", kind, tuple(shape), None if masked is None else masked.mask, time)}

    @staticmethod
    def _mismatch(where: str, x: Value, indices: Value, axis: int) -> ShapeError:
        return ShapeError(
            f"layer {where!r}: shapes {x.shape} of {x.name!r} and {indices.shape} of the indices {indices.name!r} do "
            f"not match but along axis {axis}"
            + (", or their times come from different inputs" if None in x.shape and None in indices.shape else "")
        )

    def streams(self, options: Mapping[str, Option]) -> str | None:
        return "it needs all steps at once" if options["axis"] == 0 else None
