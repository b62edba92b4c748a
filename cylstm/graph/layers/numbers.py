"""Indices and masks as numbers to compute with, and numbers as a mask."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.errors import ShapeError
from cylstm.graph.layers._layer import Inputs, LayerKind, Options, Outputs, Weights, check_kind
from cylstm.graph.values import Option, Value

#: every whole number up to this one is a float32
MOST_EXACT = 1 << 24


class NumbersLayer(LayerKind):
    """``y = indices``, as numbers.

    Inputs: ``indices``, an input of the network made with ``indices=True``. Outputs: ``y``, of their shape, or
    (time, 1) for indices (time,), with their mask. An index above `MOST_EXACT` is an error before anything runs.
    """

    name = "numbers"
    inputs = ("indices",)

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["indices"]
        check_kind(where, x, ("index",))
        shape = x.shape if len(x.shape) > 1 else (*x.shape, 1)
        return {"y": Value("", "sequence", shape, x.mask, x.axis)}

    def limit(self, weights: Weights, options: Mapping[str, Option]) -> int | None:
        return MOST_EXACT + 1


class MaskNumbersLayer(LayerKind):
    """``y[t] = 1`` where the step is valid, else 0. A mask that the user does not give is valid everywhere.

    Inputs: ``mask``. Outputs: ``y`` (time, 1), without a mask of its own.
    """

    name = "mask_numbers"
    inputs = ("mask",)

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        mask = inputs["mask"]
        check_kind(where, mask, ("mask",))
        return {"y": Value("", "sequence", (mask.shape[0], 1), None, mask.axis)}


class NumberMaskLayer(LayerKind):
    """A step is valid where its number is not 0; NaN is not 0.

    Inputs: ``x`` (time, 1). Outputs: ``mask``.
    """

    name = "number_mask"

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["x"]
        check_kind(where, x, ("sequence",))
        if x.step_shape != (1,):
            raise ShapeError(f"layer {where!r}: expected one number a step, found {x.shape} of {x.name!r}")
        return {"mask": Value("", "mask", x.shape[:1], None, x.axis)}
