"""Attention, and the products of two values."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.errors import ShapeError
from cylstm.graph.layers._axes import check_whole_number, need_shape
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
    check_shape,
    like,
)
from cylstm.graph.values import Option, Value


class AttentionLayer(LayerKind):
    """``y[q] = sum over k of softmax over k(scale * score(x[q], key[k])) * value[k]``, in heads.

    ``score``: "dot", ``x . key``; "additive", the sum of ``weight * tanh(factor * (x + key))``, weight (size of a
    head,) (Keras's AdditiveAttention; ones without use_scale); "concat", the same with weight (1,) (Keras's Attention
    with score_mode="concat"). Head h takes the h-th part of the features of each. The projections of multi-head
    attention are dense layers before and after; there ``scale`` is ``1 / sqrt(size of a head)``.

    Inputs: ``x``, the query (time, features); ``key`` and ``value``, which share one time; optional ``mask`` of the
    query, whose invalid steps give 0, ``mask_query``, at whose invalid steps no key is valid, and ``mask_value`` of the
    key and value. The caller has to connect them. Outputs: ``y`` (time of the query, features of the value), with the
    mask of x.
    Options: ``score``, ``heads``, ``scale``, ``factor``, ``causal`` (step q sees the keys up to q) and ``masked``, what
    happens to keys that are not valid: "exclude" (PyTorch: NaN where none is valid), "zero" (0 where none is valid),
    "average" (the mean over all steps where none is valid) or "penalty" (1e9 is taken from their score). In Keras,
    Attention is "penalty", and MultiHeadAttention one of the last three, by version.
    """

    name = "attention"
    inputs = ("x", "key", "value")
    optional_inputs = ("mask", "mask_query", "mask_value")
    optional_weights = ("weight",)
    defaults = {
        "score": "dot",
        "heads": 1,
        "scale": 1.0,
        "factor": 1.0,
        "causal": False,
        "masked": "exclude",
    }

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        check_choice(where, options, "score", ("dot", "additive", "concat"))
        check_choice(where, options, "masked", ("exclude", "zero", "average", "penalty"))
        check_roles(where, weights, () if options["score"] == "dot" else ("weight",), (), "weights")
        heads = check_whole_number(where, options, "heads", 1, 10**6)
        for name in ("scale", "factor"):
            check_number(where, options, name, least=-1e30)
        x, key, value = (inputs[role] for role in ("x", "key", "value"))
        for one in (x, key, value):
            check_kind(where, one, ("sequence",))
            if len(one.shape) != 2 or one.features % heads:
                raise ShapeError(f"layer {where!r}: expected (time, features in {heads} heads), found {one.shape}")
        if x.features != key.features:
            raise ShapeError(f"layer {where!r}: query and key of different sizes, {x.shape} and {key.shape}")
        if key.shape[0] != value.shape[0] or key.axis != value.axis:
            raise ShapeError(f"layer {where!r}: key and value of different times, {key.name!r} and {value.name!r}")
        for role, of in (("mask", x), ("mask_query", x), ("mask_value", value)):
            if role in inputs:
                check_mask(where, inputs[role], of, role)
        if "weight" in weights:
            size = x.features // heads if options["score"] == "additive" else 1
            check_shape(where, "weight", weights["weight"], (size,))
        return {"y": like(x, (x.shape[0], value.features))}

    def streams(self, options: Mapping[str, Option]) -> str | None:
        return "attention needs all steps at once"


class DotLayer(LayerKind):
    """``y[i, j] = x[i] . x1[j]``: the products of the steps of two sequences, or of vectors, over the last axis.

    Inputs: ``x`` (features,) or (time, features); ``x1`` likewise, its steps known in advance. Outputs: ``y`` of the
    time of x, a number for each step of x1 (one for a vector). Option ``normalize``: of vectors of length 1 (Keras).
    """

    name = "dot"
    inputs = ("x", "x1")
    defaults = {"normalize": False}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x, other = inputs["x"], inputs["x1"]
        for one in (x, other):
            check_kind(where, one, DATA)
            if len(one.step_shape) != 1 or one.features != x.features:
                raise ShapeError(
                    f"layer {where!r}: expected two of (time, features) or (features,), found {x.shape}, {other.shape}"
                )
        columns = need_shape(where, other, "a product with every step")[0] if other.has_time else 1
        return {"y": like(x, (x.shape[0], columns)) if x.has_time else Value("", "vector", (columns,))}
