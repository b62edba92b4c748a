"""Attention as one operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cylstm.formats.onnx.call import Call
from cylstm.formats.onnx.folding import check_count
from cylstm.program.operations import shape
from cylstm.program.operations.attention import over_allowed, scaled_dot_product_attention
from cylstm.program.operations.elementwise import activation, add, binary, multiply
from cylstm.program.operations.linear import linear
from cylstm.program.operations.products import product
from cylstm.program.tensor import Tensor, dtype_of, is_constant, shape_of

_KNOWN = frozenset((
    "is_causal", "kv_num_heads", "left_window_size", "q_num_heads", "qk_matmul_output_mode", "right_window_size",
    "scale", "softcap", "softmax_precision",
))  # fmt: skip


def attention(call: Call) -> Any:
    """``softmax(Q K^T * scale + mask) V`` of (batch, heads, time, size), or of (batch, time, heads * size)."""
    net = call.net
    if call.input(4) is not None or call.input(5) is not None or call.outputs > 1:
        raise call.refuse("keys and values of steps before (past_key, present_key) are not supported")
    if call.input(6) is not None:
        raise call.refuse("nonpad_kv_seqlen is not supported")
    unknown = sorted(set(call.attributes) - _KNOWN)
    if unknown:
        raise call.refuse(f"the attribute {unknown[0]} is not supported")
    sides = [call.input(k) for k in range(3)]
    sides = [net.constant(one) if is_constant(one) else net.tensor(one) for one in sides]
    is_flat = sides[0].ndim == 3
    if is_flat:
        heads, of_keys = int(call.attribute("q_num_heads", 0) or 0), int(call.attribute("kv_num_heads", 0) or 0)
        if not (heads and of_keys):
            raise call.refuse("expected the attributes q_num_heads and kv_num_heads beside (batch, time, size)")
        apart = [
            shape.unflatten(net, one, 2, (count, shape_of(one)[2] // count))
            for one, count in zip(sides, (heads, of_keys, of_keys))
        ]
        sides = [shape.transpose(net, one, 1, 2) for one in apart]
    counts: list[Any] = [shape_of(sides[k])[1] for k in (0, 1)]
    if counts[0] != counts[1]:
        if not all(isinstance(one, int) for one in counts) or counts[0] % counts[1]:
            raise call.refuse(f"expected heads of queries in groups of one key, found {counts[0]} and {counts[1]}")
        sides[1:] = [shape.repeat_interleave(net, one, counts[0] // counts[1], 1) for one in sides[1:]]
    y = _of_heads(call, *sides)
    return shape.flatten(net, shape.transpose(net, y, 1, 2), 2, 3) if is_flat else y


def _of_heads(call: Call, query: Tensor, key: Tensor, value: Tensor) -> Any:
    net, mask = call.net, call.input(3)
    causal, cap = bool(call.attribute("is_causal", 0)), float(call.attribute("softcap", 0.0) or 0.0)
    given, size = call.attribute("scale", None), shape_of(query)[3]
    if given is None and not isinstance(size, int):
        raise net.needs_time("an attention over the time as features")
    scale = float(given) if given is not None else 1.0 / math.sqrt(size)  # type: ignore[arg-type]
    times: list[Any] = [shape_of(one)[2] for one in (query, key)]
    windows = [int(call.attribute(f"{side}_window_size", -1)) for side in ("left", "right")]
    is_whole = max(windows) < 0 and (not causal or times[0] == times[1])
    if is_constant(mask) and isinstance(mask, np.ndarray):
        mask = None if (mask.all() if mask.dtype == np.bool_ else not mask.any()) else mask
    if mask is None and not cap and is_whole:
        return scaled_dot_product_attention(net, query, key, value, None, causal, scale)

    scores: Any = net.tensor(multiply(net, product(net, query, shape.transpose(net, key, -2, -1)), scale))
    if cap:
        scores = multiply(net, activation(net, multiply(net, scores, 1.0 / cap), "tanh"), cap)
    allowed: list[Any] = []
    if causal or max(windows) >= 0:
        allowed.append(_around(call, times, causal, windows))
    if mask is not None and dtype_of(mask) == "bool":
        allowed.append(mask)
    elif mask is not None:
        allowed.append(binary(net, "greater", mask, -math.inf))
        scores = add(net, scores, mask)
    return over_allowed(net, scores, allowed, value)


def _around(call: Call, times: list[Any], causal: bool, windows: list[int]) -> np.ndarray:
    """Which keys each query sees by their places."""
    if not all(isinstance(one, int) for one in times):
        raise call.net.needs_time("an attention that is causal beside a mask, or sees a window of the steps,")
    check_count(call, times)
    distance = np.arange(times[1]) - np.arange(times[0])[:, np.newaxis]
    seen = distance <= 0 if causal else np.ones(distance.shape, bool)
    left, right = windows
    seen &= (distance >= -left) | (left < 0)
    return np.asarray(seen & ((distance <= right) | (right < 0)))


_KNOWN_OF_RUNTIME = frozenset((
    "do_rotary", "mask_filter_value", "num_heads", "past_present_share_buffer", "qkv_hidden_sizes",
    "rotary_embedding_dim", "scale", "unidirectional",
))  # fmt: skip


def attention_of_runtime(call: Call) -> Any:
    """ONNX Runtime's: queries, keys and values of one product of (batch, time, size), and their attention."""
    net, heads = call.net, int(call.attribute("num_heads"))
    unknown = sorted(set(call.attributes) - _KNOWN_OF_RUNTIME)
    if unknown or call.attribute("do_rotary", 0):
        raise call.refuse(f"the attribute {unknown[0] if unknown else 'do_rotary'} is not supported")
    for k, what in ((3, "a mask (mask_index)"), (4, "steps before (past)"), (5, "a bias of the scores")):
        if call.input(k) is not None:
            raise call.refuse(f"{what} is not supported")
    if call.outputs > 1:
        raise call.refuse("the keys and values of all steps (present) are not supported as a result")
    weight, bias = net.array(call.required(1), "a weight"), net.array(call.input(2), "a bias")
    if weight.ndim != 2 or (bias is not None and bias.shape != weight.shape[1:]):
        raise call.refuse(f"expected weights (size, 3 * hidden) and a bias, found {weight.shape}")
    sizes = [int(one) for one in call.attribute("qkv_hidden_sizes", ()) or [weight.shape[1] // 3] * 3]
    if len(sizes) != 3 or sum(sizes) != weight.shape[1] or heads < 1 or any(one < 1 or one % heads for one in sizes):
        raise call.refuse(f"{heads} heads and sizes {sizes} do not fit {weight.shape[1]} numbers of a step")
    x = call.required(0)
    if len(shape_of(x)) != 3:
        raise call.refuse(f"expected (batch, time, size), found {shape_of(x)}")
    sides, ends = [], np.cumsum(sizes)
    for end, size in zip(ends, sizes):
        part = slice(int(end) - size, int(end))
        one = linear(net, x, np.ascontiguousarray(weight[:, part].T), None if bias is None else bias[part])
        sides.append(shape.transpose(net, shape.unflatten(net, one, 2, (heads, size // heads)), 1, 2))
    scale = float(call.attribute("scale", 0.0) or 0.0) or 1.0 / math.sqrt(sizes[0] // heads)
    y = scaled_dot_product_attention(
        net, sides[0], sides[1], sides[2], None, bool(call.attribute("unidirectional", 0)), scale
    )
    return shape.flatten(net, shape.transpose(net, y, 1, 2), 2, 3)


OPERATORS: Mapping[str, Callable[[Call], Any]] = {
    "Attention": attention,
    "com.microsoft.Attention": attention_of_runtime,
}
