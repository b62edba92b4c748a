"""Batch normalisation, whose statistics were fixed in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from cylstm.errors import CylstmError, ShapeError
from cylstm.graph.layers._layer import (
    DATA,
    Inputs,
    LayerKind,
    Options,
    Outputs,
    Weights,
    check_kind,
    check_number,
    check_vectors,
    like,
)
from cylstm.graph.values import Option
from cylstm.graph.weights import StoredTensor


class BatchNormLayer(LayerKind):
    """``y = gain * (x - mean) / sqrt(variance + epsilon) + shift`` over the last axis, with fixed statistics.

    Weights, all (features,): ``mean``, ``variance``, optional ``gain`` and ``shift``. Inputs: ``x`` (sequence, vector
    or state). Outputs: ``y``. Option ``epsilon`` (1e-5 in PyTorch, 1e-3 in Keras). Keras's Normalization and Rescaling
    are this layer too.
    """

    name = "batch_norm"
    weights = ("mean", "variance")
    optional_weights = ("gain", "shift")
    defaults = {"epsilon": 1e-5}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x, variance = inputs["x"], weights["variance"]
        check_kind(where, x, DATA)
        check_number(where, options, "epsilon", least=0.0)
        check_vectors(where, weights, dict.fromkeys(("mean", "variance", "gain", "shift"), x.features))
        if not isinstance(variance, StoredTensor):  # the engine checks the numbers of a file
            self.check_numbers(where, {"variance": variance}.__getitem__, options, ShapeError)
        return {"y": like(x)}

    def check_numbers(
        self,
        where: str,
        read: Callable[[str], np.ndarray],
        options: Mapping[str, Option],
        error: type[CylstmError],
    ) -> None:
        if (read("variance") + float(options["epsilon"]) <= 0).any():
            raise error(f"layer {where!r}, tensor 'variance': expected numbers above 0, found one that is not")
