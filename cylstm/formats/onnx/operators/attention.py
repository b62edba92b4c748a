"""Attention as one operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cylstm.formats.onnx.call import Call
from cylstm.program.operations import shape
from cylstm.program.operations.attention import scaled_dot_product_attention
from cylstm.program.tensor import is_constant, shape_of


def attention(call: Call) -> Any:
    """``softmax(Q K^T * scale + mask) V`` of (batch, heads, time, size), or of (batch, time, heads * size)."""
    net = call.net
    if call.input(4) is not None or call.input(5) is not None or call.outputs > 1:
        raise call.refuse("keys and values of steps before (past_key, present_key) are not supported")
    if call.input(6) is not None:
        raise call.refuse("nonpad_kv_seqlen is not supported")
    if float(call.attribute("softcap", 0.0) or 0.0):
        raise call.refuse("a softcap is not supported")
    sides = [call.input(k) for k in range(3)]
    sides = [net.constant(one) if is_constant(one) else net.tensor(one) for one in sides]
    is_flat = sides[0].ndim == 3
    heads, of_keys = int(call.attribute("q_num_heads", 0) or 0), int(call.attribute("kv_num_heads", 0) or 0)
    if is_flat and not (heads and of_keys):
        raise call.refuse("expected the attributes q_num_heads and kv_num_heads beside (batch, time, size)")
    if is_flat:
        apart = [shape.unflatten(net, one, 2, (count, shape_of(one)[2] // count))
                 for one, count in zip(sides, (heads, of_keys, of_keys))]  # fmt: skip
        sides = [shape.transpose(net, one, 1, 2) for one in apart]
    counts: list[Any] = [shape_of(sides[k])[1] for k in (0, 1)]
    if counts[0] != counts[1]:
        if not all(isinstance(one, int) for one in counts) or counts[0] % counts[1]:
            raise call.refuse(f"expected heads of queries in groups of one key, found {counts[0]} and {counts[1]}")
        sides[1:] = [shape.repeat_interleave(net, one, counts[0] // counts[1], 1) for one in sides[1:]]
    scale, causal = call.attribute("scale", None), bool(call.attribute("is_causal", 0))
    query, key, value = sides
    y = scaled_dot_product_attention(
        net, query, key, value, call.input(3), causal, None if scale is None else float(scale)
    )
    if is_flat:
        y = shape.flatten(net, shape.transpose(net, y, 1, 2), 2, 3)
    return y


OPERATORS: Mapping[str, Callable[[Call], Any]] = {"Attention": attention}
