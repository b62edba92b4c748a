"""Attention: as one operation, and written out as products and a softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cylstm.graph.values import Option, Value
from cylstm.program.network import MIXES, Network
from cylstm.program.operations.constants import checked
from cylstm.program.operations.elementwise import add, binary, multiply, where
from cylstm.program.operations.products import product
from cylstm.program.operations.shape import transpose
from cylstm.program.operations.softmax import softmax
from cylstm.program.tensor import BATCH, Scores, Tensor, dtype_of, is_constant, shape_of


def is_causal_mask(mask: Any) -> bool:
    """Whether a constant mask (..., steps, steps) leaves out exactly the later keys: false, or minus infinity there."""
    array = np.asarray(mask)
    if array.ndim < 2 or array.shape[-1] != array.shape[-2] or array.size != array.shape[-1] ** 2:
        return False
    array = array.reshape(array.shape[-2:])
    later = np.triu(np.ones(array.shape, bool), 1)
    if array.dtype == np.bool_:
        return bool((array == ~later).all())
    return bool((array[later] <= -1e9).all() and (array[~later] == 0).all())


def scaled(scores: Scores, factor: float) -> Scores:
    """The scores times a number."""
    return replace(scores, scale=scores.scale * factor)


def masked(net: Network, scores: Scores, mask: Any, *, is_filled: bool = False) -> Any:
    """Scores to which a mask is added, or written where it is not 0; None if it is none that attention knows."""
    keys = None if scores.is_softmax or scores.keys is not None else mask_of_keys(net, mask)
    if keys is not None:
        return replace(scores, keys=keys)
    if not is_constant(mask) or not isinstance(mask, np.ndarray) or scores.causal or scores.is_softmax:
        return None
    if not mask.any() and len(mask.shape) <= scores.ndim:
        return scores
    if is_causal_mask(mask) and mask.dtype != np.bool_ and mask.shape[-2:] == shape_of(scores)[-2:]:
        later = np.asarray(mask, net.dtype).reshape(mask.shape[-2:])
        return replace(scores, causal=True, mask=later, is_filled=is_filled)
    return None


def mask_of_keys(net: Network, mask: Any) -> Value | None:
    """Which keys count, where a framework's own layer adds minus infinity to the scores of those that do not.

    That is a tensor with one number for each key, made of nothing but the mask of an input.
    """
    if not net.is_in_layer or not isinstance(mask, Tensor) or mask.value.axis is None or mask.ndim < 2:
        return None
    sources = [net.builder.value(name) for name in net.builder.sources(mask.value, ("activation", "positions"))]
    masks = [value for value in sources if value.kind == "mask"]
    if len(masks) != 1 or mask.size(mask.ndim - 2) != 1 or any(net.builder.is_input(value) for value in sources):
        return None
    return masks[0] if masks[0].axis == mask.value.axis else None


def computed_scores(net: Network, scores: Scores) -> Tensor:
    """The scores as numbers, where something else than the values of an attention reads them."""
    if scores.keys is not None:
        raise net.needs_time("the weights of an attention with a mask")
    found: Any = product(net, scores.query, transpose(net, scores.key, -2, -1))
    if scores.scale != 1.0:
        found = multiply(net, found, scores.scale)
    if scores.mask is not None:
        found = where(net, scores.mask != 0, scores.mask, found) if scores.is_filled else add(net, found, scores.mask)
    if scores.is_softmax:
        found = softmax(net, found, -1)
    if scores.joined:
        found = found.with_axes(((found.axes[0], found.axes[1]), *found.axes[2:]))
    return found  # type: ignore[no-any-return]


def weighted(net: Network, scores: Scores, value: Tensor) -> Any:
    """The sum of the values, weighted by a softmax of scores: one attention layer."""

    plain = value
    if scores.joined and isinstance(value.axes[0], tuple):
        plain = value.with_axes((*value.axes[0], *value.axes[1:]))
    fits = (
        plain.ndim == scores.query.ndim
        and plain.axes[0] == BATCH
        and not plain.is_joined
        and (plain.ndim == 3 or plain.size(1) == scores.query.size(1))
    )
    if not fits:
        return product(net, computed_scores(net, scores), value)
    y = attention(net, scores.query, scores.key, plain, scores.scale, scores.causal, scores.keys)
    pair: Any = y.axes[:2]
    return y.with_axes((pair, *y.axes[2:])) if scores.joined else y


def attention(
    net: Network, query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool, mask: Value | None = None
) -> Tensor:
    """Attention over (batch, time, size) or (batch, heads, time, size)."""
    rank = query.ndim
    heads: Any = query.size(1) if rank == 4 else 1
    if any(BATCH in t.axes[1:] for t in (query, key, value)):
        raise net.refuse(f"attention over the batch {MIXES}")
    if rank not in (3, 4) or any(t.ndim != rank or t.axes[0] != BATCH for t in (query, key, value)):
        raise net.refuse(
            "attention expected (batch, time, size) or (batch, heads, time, size), found "
            f"{query.shape}, {key.shape} and {value.shape}"
        )
    if any(rank == 4 and t.size(1) != heads for t in (key, value)):
        raise net.refuse("attention whose queries have more heads than its keys is not supported")
    parts: list[Value] = []
    for tensor, name in ((query, "query"), (key, "key"), (value, "value")):
        if rank == 3:
            parts.append(net.arrange(tensor, [1, 2]))
            continue
        flat = net.arrange(tensor, [2, 1, 3])
        wide = math.prod(size or 1 for size in flat.shape[1:])  # the time alone has no number, and comes first
        parts.append(net.reshaped(flat, [flat.shape[0], wide], part=name))
    steps = next((part for part in parts if part.has_time), None)
    if steps is not None:
        # keys and values that are constants, or a query that is
        parts = [part if part.has_time else net.as_steps(part, steps) for part in parts]
    options: dict[str, Option] = {"heads": heads, "scale": float(scale), "causal": causal}
    y = net.add_layer("attention", parts[0], options=options, key=parts[1], value=parts[2], mask=None, mask_value=mask)
    if rank == 3:
        return Tensor(y, (BATCH, 0, 1))
    y = net.reshaped(y, [y.shape[0], heads, y.features // heads], part="heads")
    return Tensor(y, (BATCH, 1, 0, 2))


def scaled_dot_product_attention(
    net: Network,
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    causal: bool = False,
    scale: float | None = None,
    *,
    left_out: float = -math.inf,
) -> Any:
    """PyTorch's function of this name: ``softmax(query key^T * scale + mask) value``.

    `causal` holds beside a mask. `left_out` is the score of a key that a query does not see, as `over_allowed` takes
    it.
    """
    q, k, v = (net.constant(one) if is_constant(one) else net.tensor(one) for one in (query, key, value))
    if scale is None:
        size: Any = q.size(q.ndim - 1)
        scale = 1.0 / math.sqrt(size)
    steps: list[Any] = [one.size(one.ndim - 2) for one in (q, k)]
    if mask is not None and is_constant(mask) and isinstance(mask, np.ndarray):
        if is_causal_mask(mask) and mask.shape[-2:] == tuple(steps):
            mask, causal = None, True
        elif mask.all() if mask.dtype == np.bool_ else not mask.any():
            mask = None
    keys = mask_of_keys(net, mask)
    if (mask is None or keys is not None) and not (causal and steps[0] != steps[1]):
        return attention(net, q, k, v, scale, causal, keys)

    allowed: list[Any] = []
    if causal:
        if not all(isinstance(one, int) for one in steps):
            raise net.needs_time("causal attention beside a mask, or between two times of different lengths,")
        checked(net, math.prod(steps))
        allowed.append(np.tril(np.ones(steps, bool)))
    scores: Any = multiply(net, product(net, q, transpose(net, k, -2, -1)), scale)
    if dtype_of(mask) == "bool":
        allowed.append(mask)
    elif mask is not None:
        scores = add(net, scores, mask)
        allowed.append(binary(net, "not_equal", mask, -math.inf))
    return over_allowed(net, scores, allowed, v, left_out)


def over_allowed(net: Network, scores: Any, allowed: Sequence[Any], value: Tensor, left_out: float = -math.inf) -> Any:
    """The sum of the values, weighted by a softmax over the keys that all of `allowed` let a query see.

    The scores of the other keys are `left_out`. Where that is minus infinity, a query that sees no key gives 0, as in
    PyTorch and ONNX; where it is a large number, it gives the average of all values, as in Keras.
    """
    for one in allowed:
        if not (is_constant(one) and np.all(one)):
            scores = where(net, one, scores, left_out)
    weights = softmax(net, scores, -1)
    if left_out == -math.inf and not (len(allowed) == 1 and _each_sees_one(allowed[0])):
        for one in allowed:
            weights = where(net, one, weights, 0.0)
    return product(net, weights, value)


def _each_sees_one(allowed: Any) -> bool:
    return is_constant(allowed) and isinstance(allowed, np.ndarray) and bool(allowed.any(-1).all())
