"""Attention: PyTorch's layer and function, and as products and a softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cylstm.formats.torch.network import Network
from cylstm.formats.torch.tensor import BATCH, Scores, Tensor, Unavailable
from cylstm.graph.values import Value


def is_causal_mask(mask: Any, steps: Any) -> bool:
    """Whether a constant mask (steps, steps) leaves out exactly the later keys."""
    if not hasattr(mask, "dtype") or mask.ndim != 2 or mask.shape[0] != mask.shape[1]:
        return False
    array = mask.numpy()
    later = np.triu(np.ones(array.shape, bool), 1)
    if array.dtype == np.bool_:
        return bool((array == later).all())
    return bool(np.isneginf(array[later]).all() and (array[~later] == 0).all())


def multihead_attention(
    net: Network,
    m: Any,
    query: Any,
    key: Any,
    value: Any,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Any, ...]:
    if m.bias_k is not None or m.bias_v is not None or m.add_zero_attn:
        raise net.refuse("add_bias_kv and add_zero_attn are not supported")
    tensors = [net.tensor(one) for one in (query, key, value)]
    time = 1 if m.batch_first else 0
    if any(len(t.axes) != 3 or t.batch != 1 - time for t in tensors):
        raise net.refuse(f"expected ({'batch, time' if time else 'time, batch'}, features), found {tensors[0].shape}")
    causal = False
    if attn_mask is not None:
        causal = is_causal_mask(attn_mask, None)
        if not causal or tensors[0].size(time) != attn_mask.shape[0] or tensors[1].size(time) != attn_mask.shape[1]:
            raise net.refuse("attn_mask may only be the constant causal mask of the steps that are there")
    width = m.embed_dim
    if m._qkv_same_embed_dim:
        projections = np.split(net.array(m.in_proj_weight), 3)
    else:
        projections = [net.array(one) for one in (m.q_proj_weight, m.k_proj_weight, m.v_proj_weight)]
    biases = [None] * 3 if m.in_proj_bias is None else np.split(net.array(m.in_proj_bias), 3)
    values = [
        net.add_layer(
            "dense", net.arrange(t, [time, 2]), {"weight": np.ascontiguousarray(weight), "bias": bias}, part=part
        )
        for t, weight, bias, part in zip(tensors, projections, biases, ("query", "key", "value"))
    ]
    others: dict[str, Value | None] = {"key": values[1], "value": values[2], "mask": None}
    if key_padding_mask is not None:
        if not isinstance(key_padding_mask, Unavailable) or values[1].mask is None:
            raise net.refuse("key_padding_mask may only be an input of the network: give lengths or a mask to predict")
        others["mask_value"] = net.builder.value(values[1].mask)
    options = {"heads": m.num_heads, "scale": 1.0 / math.sqrt(width // m.num_heads), "causal": causal}
    y = net.add_layer("attention", values[0], options=options, part="heads", **others)
    y = net.add_layer(
        "dense", y, {"weight": net.array(m.out_proj.weight), "bias": net.array(m.out_proj.bias)}, part="out"
    )
    weights = Unavailable("the weights of the attention are not computed") if need_weights else None
    return Tensor(y, (BATCH, 0, 1) if time else (0, BATCH, 1)), weights


def weighted(net: Network, scores: Scores, value: Tensor) -> Tensor:
    """The sum of the values, weighted by a softmax of scores: one attention layer."""
    if not scores.is_softmax:
        raise net.refuse("a product of three tensors without a softmax over the scores is not supported")
    return attention(net, scores.query, scores.key, value, scores.scale, False)


def attention(net: Network, query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool) -> Tensor:
    """Attention over (batch, time, size) or (batch, heads, time, size)."""
    rank = len(query.axes)
    heads: Any = query.size(1) if rank == 4 else 1
    if rank not in (3, 4) or query.batch != 0 or len(key.axes) != rank or len(value.axes) != rank:
        raise net.refuse("attention over (batch, time, size) or (batch, heads, time, size) only")
    parts: list[Value] = []
    for tensor, name in ((query, "query"), (key, "key"), (value, "value")):
        if rank == 3:
            parts.append(net.arrange(tensor, [1, 2]))
            continue
        flat = net.arrange(tensor, [2, 1, 3])
        steps = "time" if flat.shape[0] is None else str(flat.shape[0])
        wide = math.prod(size or 1 for size in flat.shape[1:])  # the time alone has no number, and comes first
        parts.append(net.add_layer("reshape", flat, options={"shape": f"{steps},{wide}"}, part=name))
    options = {"heads": heads, "scale": float(scale), "causal": causal}
    y = net.add_layer("attention", parts[0], options=options, key=parts[1], value=parts[2], mask=None)
    if rank == 3:
        return Tensor(y, (BATCH, 0, 1))
    steps = "time" if y.shape[0] is None else str(y.shape[0])
    y = net.add_layer("reshape", y, options={"shape": f"{steps},{heads},{y.features // heads}"}, part="heads")
    return Tensor(y, (BATCH, 1, 0, 2))


def scaled_dot_product_attention(
    net: Network,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    q, k, v = (net.tensor(one) for one in (query, key, value))
    if attn_mask is not None:
        if not is_causal_mask(attn_mask, None) and not is_causal_mask(~attn_mask, None):
            raise net.refuse("attn_mask may only be the constant causal mask of the steps that are there")
        is_causal = True
    if scale is None:
        size: Any = q.size(len(q.axes) - 1)
        scale = 1.0 / math.sqrt(size)
    return attention(net, q, k, v, scale, is_causal)
