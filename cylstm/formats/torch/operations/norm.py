"""Normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cylstm.formats.torch.network import Network
from cylstm.formats.torch.tensor import Tensor


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
        wanted = [i for i in x.stored if i not in axes] + axes
        x = net.place(net.arrange(x, wanted), wanted, x)
    weights = {
        role: None if tensor is None else net.array(tensor).reshape(-1)
        for role, tensor in (("gain", weight), ("shift", bias))
    }
    options = {"mode": mode, "axes": count, "epsilon": float(eps)}
    return Tensor(net.add_layer("layer_norm", x.value, weights, options), x.axes)


def group_norm(net: Network, x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    x = net.tensor(x)
    x = net.last(x, net.axis(x, 1))
    weights = {"gain": net.array(weight), "shift": net.array(bias)}
    return Tensor(net.add_layer("group_norm", x.value, weights, {"groups": groups, "epsilon": float(eps)}), x.axes)


def instance_norm(net: Network, m: Any, x: Any) -> Tensor:
    x = net.tensor(x)
    if len(x.axes) != 3 or x.batch != 0:
        raise net.refuse(f"expected a tensor (batch, channels, time), found {x.shape}")
    if m.track_running_stats:
        return batch_norm(net, x, m.running_mean, m.running_var, m.weight, m.bias, m.eps)
    return group_norm(net, x, m.num_features, m.weight, m.bias, m.eps)


def rms_epsilon(net: Network, eps: float | None) -> float:
    """PyTorch's None is the epsilon of the type."""
    return float(np.finfo(net.dtype).eps) if eps is None else eps
