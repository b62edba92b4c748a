"""Normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cylstm.program.network import Network
from cylstm.program.operations.frames import has_frames, on_frames
from cylstm.program.operations.shape import reshape
from cylstm.program.tensor import Tensor


def batch_norm(net: Network, x: Any, mean: Any, variance: Any, weight: Any, bias: Any, eps: float) -> Tensor:
    if mean is None or variance is None:
        raise net.refuse("without running statistics it takes those of the batch, which mixes its rows")
    x = net.tensor(x)
    x = net.last(x, net.axis(x, 1))
    weights = {"mean": mean, "variance": variance, "gain": weight, "shift": bias}
    weights = {role: net.array(tensor) for role, tensor in weights.items()}
    return Tensor(net.add_layer("batch_norm", x.value, weights, {"epsilon": float(eps)}), x.axes)


def layer_norm(
    net: Network,
    x: Any,
    shape: Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    mode: str = "layer",
) -> Tensor:
    x = net.tensor(x)
    count = len(shape)
    axes = [net.axis(x, i) for i in range(-count, 0)]
    if tuple(x.size(i) for i in axes) != tuple(shape):
        raise net.refuse(f"normalises over {tuple(shape)}, found a tensor {x.shape}")
    if count == 1:
        x = net.last(x, axes[0])
    else:
        counts = [len(p) if isinstance(p, tuple) else 1 for p in x.axes]
        x = net.plain(x)
        axes = list(range(len(x.axes) - count, len(x.axes)))
        wanted = [i for i in x.stored if i not in axes] + axes
        x = net.rejoin(net.place(net.arrange(x, wanted), wanted, x), counts)
    weights = {
        role: None if tensor is None else net.array(tensor).reshape(-1)
        for role, tensor in (("gain", weight), ("shift", bias))
    }
    options = {"mode": mode, "axes": count, "epsilon": float(eps)}
    return Tensor(net.add_layer("layer_norm", x.value, weights, options), x.axes)


def group_norm(net: Network, x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    x = net.tensor(x)
    if has_frames(x):
        return _group_norm_of_frames(net, x, groups, weight, bias, eps)
    x = net.last(x, net.axis(x, 1))
    weights = {"gain": net.array(weight), "shift": net.array(bias)}
    return Tensor(net.add_layer("group_norm", x.value, weights, {"groups": groups, "epsilon": float(eps)}), x.axes)


def _group_norm_of_frames(net: Network, x: Tensor, groups: int, weight: Any, bias: Any, eps: float) -> Tensor:
    """Steps as rows: each with statistics of its own, which a normalisation of the numbers of one step has."""
    sizes = [size for size in x.shape[1:] if isinstance(size, int)]
    if len(sizes) < len(x.axes) - 1:
        found: Tensor = on_frames(net, lambda one: group_norm(net, one, groups, weight, bias, eps), (x,))
        return found
    each = math.prod(sizes) // groups
    y = layer_norm(net, reshape(net, x, (x.size(0), groups, each)), (each,), eps=eps)
    y = net.tensor(reshape(net, y, x.shape))
    if weight is None and bias is None:
        return y
    channels = (sizes[0], *[1] * (len(sizes) - 1))
    scale, shift = (
        np.full(channels, neutral) if given is None else net.array(given).reshape(channels)
        for given, neutral in ((weight, 1.0), (bias, 0.0))
    )
    return net.affine(y, scale, shift)


def instance_norm(
    net: Network, x: Any, mean: Any, variance: Any, weight: Any, bias: Any, use_input_stats: bool, eps: float
) -> Tensor:
    x = net.tensor(x)
    if not use_input_stats:
        return batch_norm(net, x, mean, variance, weight, bias, eps)
    channels = x.size(1)
    if len(x.axes) not in (3, 4) or x.batch != 0 or not isinstance(channels, int):
        raise net.refuse(
            f"expected a tensor (batch, channels, time) or (batch, channels, rows, columns), found {x.shape}"
        )
    return group_norm(net, x, channels, weight, bias, eps)


def rms_epsilon(net: Network, eps: float | None) -> float:
    """PyTorch's None is the epsilon of the type."""
    return float(np.finfo(net.dtype).eps) if eps is None else eps
