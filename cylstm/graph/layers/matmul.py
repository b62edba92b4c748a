"""Products of two computed matrices."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.errors import ShapeError
from cylstm.graph.layers._layer import DATA, Inputs, LayerKind, Options, Outputs, Weights, check_kind
from cylstm.graph.values import Axis, Kind, Option, StaticTimeNeeded, Value


class MatmulLayer(LayerKind):
    """``y = x @ x1``: the products of the matrices in the last two axes, (..., m, k) and (..., k, n).

    ``transpose_x`` and ``transpose_x1`` say that these lie the other way round, (..., k, m) and (..., n, k). The axes
    before them line up from the last one on; one of size 1, or one that is not there, is repeated.

    Inputs: ``x``, ``x1``, each of two or more axes. Outputs: ``y`` (..., m, n). A time of any length may be the first
    of the axes before the matrices, of one or of both; or m of an x (time, k), so that y is (time, n); or k of an x
    (time, m) that is transposed and of an x1 (time, n) with the same time, so that y is (m, n) and the whole sequence
    is needed. Options: ``transpose_x``, ``transpose_x1``; ``over_time``, filled in: whether a time of any length is
    summed over.
    """

    name = "matmul"
    inputs = ("x", "x1")
    defaults = {"transpose_x": False, "transpose_x1": False, "over_time": False}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x, other = inputs["x"], inputs["x1"]
        for value in (x, other):
            check_kind(where, value, DATA)
            if len(value.shape) < 2:
                raise ShapeError(
                    f"layer {where!r}: expected two or more axes (batch not counted), found {value.shape} of "
                    f"{value.name!r}; a vector of n numbers is a matrix (1, n) or (n, 1)"
                )
        rows, depth = reversed(x.shape[-2:]) if options["transpose_x"] else x.shape[-2:]
        other_depth, columns = reversed(other.shape[-2:]) if options["transpose_x1"] else other.shape[-2:]
        if depth != other_depth or (depth is None and x.axis != other.axis):
            raise self._mismatch(where, x, other, options, f"{depth} and {other_depth} numbers to sum over")
        rank = max(len(x.shape), len(other.shape)) - 2
        of_x, of_other = ((*[1] * (rank + 2 - len(value.shape)), *value.shape[:-2]) for value in (x, other))
        shape: list[int | None] = []
        for a, b in zip(of_x, of_other):
            if (a != b and 1 not in (a, b)) or (a is None and b is None and x.axis != other.axis):
                raise self._mismatch(where, x, other, options, "different axes before the matrices")
            shape.append(b if a == 1 else a)
        shape += [rows, columns]
        if None in shape[1:]:
            raise StaticTimeNeeded(
                f"layer {where!r}: a product of {x.shape} of {x.name!r} and {other.shape} of {other.name!r} whose "
                "result does not have the time first needs the number of steps in advance"
            )
        options["over_time"] = depth is None
        time: Axis | None = None
        mask: str | None = None
        if shape[0] is None:
            first = x if x.shape[0] is None else other
            time, mask = first.axis, first.mask
        kind: Kind = "sequence" if x.has_time or other.has_time else "vector"
        return {"y": Value("", kind, tuple(shape), mask, time)}

    @staticmethod
    def _mismatch(where: str, x: Value, other: Value, options: Options, why: str) -> ShapeError:
        shapes = [
            f"{value.shape} of {value.name!r}{', transposed' if options[option] else ''}"
            for value, option in ((x, "transpose_x"), (other, "transpose_x1"))
        ]
        open_times = x.axis is not None and other.axis is not None and x.axis != other.axis
        return ShapeError(
            f"layer {where!r}: {' and '.join(shapes)} cannot be multiplied: {why}"
            + ("; their times come from different inputs" if open_times else "")
        )

    def streams(self, options: Mapping[str, Option]) -> str | None:
        return "it sums over all steps" if options["over_time"] else None
