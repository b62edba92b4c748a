"""Softmax and its logarithm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cylstm.program.network import Network
from cylstm.program.tensor import Constant, Scores, Tensor, is_constant


def softmax(net: Network, x: Any, dim: int, log: bool = False) -> Any:
    """Along an axis; of the scores of an attention over the keys, what its values will be weighted with."""
    if isinstance(x, Scores) and not log and dim in (-1, x.ndim - 1) and not x.is_softmax:
        return replace(x, is_softmax=True)
    if is_constant(x) and not isinstance(x, Constant):
        shifted = np.asarray(x) - np.max(x, axis=dim, keepdims=True)
        logarithm = shifted - np.log(np.exp(shifted).sum(axis=dim, keepdims=True))
        return logarithm if log else np.exp(logarithm)
    x = net.tensor(x)
    x, place = net.stored_axis(x, net.axis(x, dim))
    return Tensor(net.add_layer("softmax", x.value, options={"axis": place, "log": log}), x.axes)
