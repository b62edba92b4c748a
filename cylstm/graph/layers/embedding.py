"""Rows of a table, chosen by indices."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.errors import ShapeError
from cylstm.graph.layers._layer import Inputs, LayerKind, Options, Outputs, Weights, check_kind
from cylstm.graph.values import Option, Value


class EmbeddingLayer(LayerKind):
    """``y = weight[indices]``.

    Weights: ``weight`` (rows, size). Inputs: ``indices``, an input of the network made with ``indices=True``, of shape
    (time,) or (time, ..., n). Outputs: ``y`` (time, ..., size), with the mask of the input; the loader may connect
    another mask (`IndexMaskLayer`). An index that is not in [0, rows) is an error before anything runs.
    """

    name = "embedding"
    inputs = ("indices",)
    weights = ("weight",)
    matrices = ("weight",)

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x, weight = inputs["indices"], weights["weight"]
        check_kind(where, x, ("index",))
        if weight.ndim != 2 or not weight.size:
            raise ShapeError(f"layer {where!r}, tensor 'weight': expected shape (rows, size), found {weight.shape}")
        return {"y": Value("", "sequence", (*x.shape, weight.shape[1]), x.mask, x.axis)}

    def limit(self, weights: Weights, options: Mapping[str, Option]) -> int | None:
        return int(weights["weight"].shape[0])
