"""Numbers that depend on nothing."""

from __future__ import annotations

from cylstm.errors import ShapeError
from cylstm.graph.layers._layer import Inputs, LayerKind, Options, Outputs, Weights
from cylstm.graph.values import MAX_RANK, Kind, Value

#: the most numbers of a value
_MOST = 1 << 28


class ConstantLayer(LayerKind):
    """``y = value``, the same in every row.

    It has no inputs. Weights: ``value``, of any shape of 1 to 8 axes. Options: ``has_time``, whether the first axis of
    several is time, of as many steps as it is long. Outputs: ``y``, a sequence with time, else a vector.
    """

    name = "constant"
    inputs = ()
    weights = ("value",)
    defaults = {"has_time": False}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        value = weights["value"]
        least = 2 if options["has_time"] else 1
        if not least <= value.ndim <= MAX_RANK or not 0 < value.size <= _MOST:
            raise ShapeError(
                f"layer {where!r}, tensor 'value': expected {least} to {MAX_RANK} axes and at most {_MOST:,} numbers, "
                f"found shape {tuple(value.shape)}"
            )
        kind: Kind = "sequence" if options["has_time"] else "vector"
        return {"y": Value("", kind, tuple(value.shape))}
