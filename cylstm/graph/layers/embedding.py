"""Rows of a table, chosen by indices."""

from __future__ import annotations

from cylstm.errors import ShapeError
from cylstm.graph.graph import Value
from cylstm.graph.layers._layer import LayerKind, check_kind, check_roles


class EmbeddingLayer(LayerKind):
    """``y = weight[indices]``.

    Weights: ``weight`` (rows, size). Inputs: ``indices``, an input of the network made with ``indices=True``, of shape
    (time,) or (time, ..., n). Outputs: ``y`` (time, ..., size), with the mask of the input; another mask is the
    loader's to wire (`IndexMaskLayer`). An index that is not in [0, rows) is an error before anything runs.
    """

    name = "embedding"

    def infer(self, where, inputs, weights, options):
        check_roles(where, inputs, ("indices",), (), "inputs")
        check_roles(where, weights, ("weight",), (), "weights")
        x, weight = inputs["indices"], weights["weight"]
        check_kind(where, x, ("index",))
        if weight.ndim != 2 or not weight.size:
            raise ShapeError(f"layer {where!r}, tensor 'weight': expected shape (rows, size), found {weight.shape}")
        return {"y": Value("", "sequence", (*x.shape, weight.shape[1]), x.mask, x.axis)}

    def limit(self, weights, options):
        return weights["weight"].shape[0]
