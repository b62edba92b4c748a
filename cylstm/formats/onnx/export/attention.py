"""Attention, written out."""

from __future__ import annotations

from cylstm.formats.onnx.export.call import Call


def attention(call: Call) -> None:
    nodes, heads = call.nodes, call.whole("heads")
    query, key, value = (_in_heads(call, role, heads) for role in ("x", "key", "value"))
    factor, masked = call.number("factor"), call.text("masked")
    if call.text("score") == "dot":
        scores = nodes.op("MatMul", query, nodes.transpose(key, [0, 1, 3, 2]))
    else:
        both = nodes.op("Add", nodes.unsqueeze(query, 3), nodes.unsqueeze(key, 2))
        bent = nodes.op("Tanh", nodes.op("Mul", both, nodes.number(factor)))
        scores = nodes.reduce("Sum", nodes.op("Mul", bent, nodes.weight(call.weight("weight"))), -1, keepdims=False)
    scores = nodes.op("Mul", scores, nodes.number(call.number("scale")))
    counts = _counts(call)
    if counts is None:
        weights = nodes.op("Softmax", scores, axis=-1)
    elif masked == "penalty":
        # in float32 numbers near 1e9 are 64 apart, and that is part of what Keras computes
        penalty = nodes.cast(nodes.cast(nodes.op("Sub", scores, nodes.number(1e9)), "float32"))
        weights = nodes.op("Softmax", nodes.op("Where", counts, scores, penalty), axis=-1)
    elif masked in ("exclude", "zero", "average"):
        weights = nodes.op("Softmax", nodes.op("Where", counts, scores, nodes.number(float("-inf"))), axis=-1)
        if masked != "exclude":
            has_any = nodes.cast(nodes.reduce("Max", nodes.cast(counts, "int32"), -1), "bool")
            alone = nodes.number(0)
            if masked == "average":
                alone = nodes.op("Reciprocal", nodes.cast(nodes.size(call.input("value"), 1)))
            weights = nodes.op("Where", has_any, weights, alone)
    else:
        raise call.refuse(f"option masked={masked!r} has no form there")
    y = nodes.transpose(nodes.op("MatMul", weights, value), [0, 2, 1, 3])
    y = nodes.reshape(y, 0, 0, call.value("value").features)
    mask = call.mask()
    if mask is not None:
        y = nodes.op("Where", nodes.unsqueeze(mask, 2), y, nodes.number(0))
    call.give(y)


def _in_heads(call: Call, role: str, heads: int) -> str:
    """(batch, heads, time, size)"""
    size = call.value(role).features // heads
    return call.nodes.transpose(call.nodes.reshape(call.input(role), 0, 0, heads, size), [0, 2, 1, 3])


def _counts(call: Call) -> str | None:
    """bool (batch, 1, queries, keys): which keys a query sees; None if all."""
    nodes = call.nodes
    parts = []
    for role, axes in (("mask_value", (1, 2)), ("mask_query", (1, 3))):
        mask = call.mask(role)
        if mask is not None:
            parts.append(nodes.unsqueeze(mask, *axes))
    if call.flag("causal"):
        queries, keys = (nodes.count_up(nodes.size(call.input(role), 1)) for role in ("x", "key"))
        parts.append(nodes.op("GreaterOrEqual", nodes.unsqueeze(queries, 0, 1, 3), nodes.unsqueeze(keys, 0, 1, 2)))
    if not parts:
        return None
    found = parts[0]
    for part in parts[1:]:
        found = nodes.op("And", found, part)
    return found
