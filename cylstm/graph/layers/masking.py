"""Masks that the network computes."""

from __future__ import annotations

from cylstm.errors import ShapeError
from cylstm.graph.layers._axes import check_whole_number
from cylstm.graph.layers._layer import (
    DATA,
    Inputs,
    LayerKind,
    Options,
    Outputs,
    Weights,
    check_choice,
    check_kind,
    check_mask,
    check_number,
    check_roles,
    like,
)
from cylstm.graph.values import Value


class MaskingLayer(LayerKind):
    """A step is valid where any of its numbers differs from ``mask_value``; the others become 0.

    Inputs: ``x`` (sequence). Outputs: ``y``, which carries ``mask``. Option ``mask_value``.
    """

    name = "masking"
    defaults = {"mask_value": 0.0}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["x"]
        check_kind(where, x, ("sequence",))
        check_number(where, options, "mask_value", least=-3e38)
        return {"y": Value("", "sequence", x.shape, None, x.axis), "mask": Value("", "mask", x.shape[:1], None, x.axis)}


class IndexMaskLayer(LayerKind):
    """A step is valid where its index is not ``padding`` (Keras's ``Embedding(mask_zero=True)``).

    Inputs: ``indices`` of shape (time,). Outputs: ``mask``. Option ``padding``.
    """

    name = "index_mask"
    inputs = ("indices",)
    defaults = {"padding": 0}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["indices"]
        check_kind(where, x, ("index",))
        check_whole_number(where, options, "padding", 0)
        if len(x.shape) != 1:
            raise ShapeError(f"layer {where!r}: expected indices of shape (time,), found {x.shape}")
        return {"mask": Value("", "mask", x.shape, None, x.axis)}


class MaskMergeLayer(LayerKind):
    """Several masks into one: a step is valid if it is in "any" or in "all" of them (option ``mode``).

    A mask that the user does not give is valid everywhere.

    Inputs: ``mask``, ``mask1``, ... Outputs: ``mask``.
    """

    name = "mask_merge"
    defaults = {"mode": "any"}

    def check_roles(self, where: str, inputs: Inputs, weights: Weights) -> None:
        check_roles(where, inputs, ["mask", *(f"mask{i}" for i in range(1, len(inputs)))], (), "inputs")
        check_roles(where, weights, (), (), "weights")

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        check_choice(where, options, "mode", ("any", "all"))
        first = inputs["mask"]
        for value in inputs.values():
            check_kind(where, value, ("mask",))
            if value.shape != first.shape or value.axis != first.axis:
                raise ShapeError(f"layer {where!r}: masks of different times, {first.name!r} and {value.name!r}")
        return {"mask": Value("", "mask", first.shape, None, first.axis)}


class MaskFillLayer(LayerKind):
    """``y[t] = x[t]`` where the step is valid, else ``x1[t]``, or ``value`` if there is no x1.

    Inputs: ``x`` (sequence), ``mask`` over its time; optional ``x1``: a sequence of the same time, or one vector or
    state for all these steps. Outputs: ``y``, with the mask of x. Option ``value``. A step of x1 has the shape of a
    step of x; where one of the two is a single number, it is repeated.
    """

    name = "mask_fill"
    inputs = ("x", "mask")
    optional_inputs = ("x1",)
    defaults = {"value": 0.0}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        check_number(where, options, "value", least=-3.4e38)
        x, mask, other = inputs["x"], inputs["mask"], inputs.get("x1")
        check_kind(where, x, ("sequence",))
        check_mask(where, mask, x)
        step = x.step_shape
        if other is not None:
            check_kind(where, other, DATA)
            if x.size == 1:
                step = other.step_shape
            of_time = not other.has_time or (other.shape[0], other.axis) == (x.shape[0], x.axis)
            if not of_time or (other.step_shape != step and other.size != 1):
                raise ShapeError(
                    f"layer {where!r}: expected two values of one time whose steps have the same shape, or one of "
                    f"which is a single number, found {x.shape} of {x.name!r} and {other.shape} of {other.name!r}"
                )
        return {"y": like(x, (*x.shape[:1], *step))}
