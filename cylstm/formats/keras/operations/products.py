"""Operations of ``keras.ops`` that multiply and sum. The parameters have Keras's names."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cylstm.errors import ShapeError
from cylstm.formats.keras.operations.arithmetic import tensor
from cylstm.formats.keras.operations.network import KerasNetwork
from cylstm.formats.keras.operations.shapes import inner_axis, rank_of
from cylstm.program.operations import elementwise, linear, parts
from cylstm.program.operations import shape as shapes
from cylstm.program.operations.attention import scaled_dot_product_attention
from cylstm.program.tensor import is_constant, shape_of


def matmul(net: KerasNetwork, x1: Any, x2: Any) -> Any:
    return linear.matmul(net, tensor(net, x1), tensor(net, x2))


def einsum(net: KerasNetwork, *operands: Any, subscripts: str) -> Any:
    return linear.einsum(net, subscripts, [tensor(net, one) for one in operands])


def tensordot(net: KerasNetwork, x1: Any, x2: Any, axes: Any = 2) -> Any:
    """Summed over the last axes of one and the first of the other, or over those that are given."""
    a, b = tensor(net, x1), tensor(net, x2)
    ranks = rank_of(net, a), rank_of(net, b)
    if isinstance(axes, int):
        if not 0 <= axes <= min(ranks):
            raise ShapeError(f"{net.what}: option axes expected a number up to {min(ranks)}, found {axes}")
        of_a, of_b = list(range(ranks[0] - axes, ranks[0])), list(range(axes))
    else:
        of_a, of_b = ([one] if isinstance(one, int) else list(one) for one in axes)
    of_a, of_b = [one % ranks[0] for one in of_a], [one % ranks[1] for one in of_b]
    if len(of_a) != len(of_b) or sum(ranks) > 26:
        raise ShapeError(f"{net.what}: option axes expected as many axes of one as of the other, found {axes!r:.80}")
    letters = string.ascii_lowercase
    first, second = list(letters[: ranks[0]]), list(letters[ranks[0] : sum(ranks)])
    for i, j in zip(of_a, of_b):
        second[j] = first[i]
    result = [one for i, one in enumerate(first) if i not in of_a] + [
        one for j, one in enumerate(second) if j not in of_b
    ]
    return linear.einsum(net, f"{''.join(first)},{''.join(second)}->{''.join(result)}", [a, b])


def dot(net: KerasNetwork, x1: Any, x2: Any) -> Any:
    """Over the last axis of one, and the last but one of the other."""
    a, b = tensor(net, x1), tensor(net, x2)
    if not rank_of(net, a) or not rank_of(net, b):
        return elementwise.multiply(net, a, b)
    return tensordot(net, a, b, [[-1], [-2 if rank_of(net, b) > 1 else -1]])


def inner(net: KerasNetwork, x1: Any, x2: Any) -> Any:
    """Over the last axis of both."""
    a, b = tensor(net, x1), tensor(net, x2)
    if not rank_of(net, a) or not rank_of(net, b):
        return elementwise.multiply(net, a, b)
    return tensordot(net, a, b, [[-1], [-1]])


def cross(
    net: KerasNetwork, x1: Any, x2: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None
) -> Any:
    """Of vectors of three numbers."""
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = tensor(net, x1), tensor(net, x2)
    a = shapes.moveaxis(net, a, inner_axis(net, a, axisa), -1)
    b = shapes.moveaxis(net, b, inner_axis(net, b, axisb), -1)
    if shape_of(a)[-1] != 3 or shape_of(b)[-1] != 3:
        raise net.refuse("a cross product of vectors of other than three numbers is not supported")

    def turned(x: Any, by: Sequence[int]) -> Any:
        return parts.take(net, x, np.asarray(by), -1)

    first = elementwise.multiply(net, turned(a, (1, 2, 0)), turned(b, (2, 0, 1)))
    second = elementwise.multiply(net, turned(a, (2, 0, 1)), turned(b, (1, 2, 0)))
    return shapes.moveaxis(net, elementwise.subtract(net, first, second), -1, axisc)


def kron(net: KerasNetwork, x1: Any, x2: Any) -> Any:
    a, b = tensor(net, x1), tensor(net, x2)
    if not (is_constant(a) and is_constant(b)):
        raise net.refuse("a Kronecker product of computed numbers is not supported")
    net.checked(np.size(a) * np.size(b))
    return np.kron(np.asarray(a), np.asarray(b))


def dot_product_attention(
    net: KerasNetwork,
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    scale: Any = None,
    is_causal: bool = False,
    flash_attention: Any = None,
    attn_logits_soft_cap: Any = None,
) -> Any:
    """Of (batch, time, heads, size); the mask and the bias are (batch or 1, heads or 1, time, time)."""
    if attn_logits_soft_cap:
        raise net.refuse("option attn_logits_soft_cap is not supported")
    q, k, v = (shapes.permute(net, tensor(net, one), (0, 2, 1, 3)) for one in (query, key, value))
    masks = [tensor(net, one) for one in (mask, bias) if one is not None]
    if len(masks) > 1:
        raise net.refuse("a mask and a bias together are not supported; add the mask to the bias as -1e9")
    given = masks[0] if masks else None
    if mask is not None:
        given = elementwise.cast(net, given, "bool")
    least = float(-0.7 * np.finfo(net.dtype).max)
    y = scaled_dot_product_attention(net, q, k, v, given, is_causal, scale, left_out=least)
    return shapes.permute(net, y, (0, 2, 1, 3))


#: name of the class -> function
PRODUCTS: Mapping[str, Callable[..., Any]] = {
    "Matmul": matmul,
    "Einsum": einsum,
    "Tensordot": tensordot,
    "Dot": dot,
    "Inner": inner,
    "Cross": cross,
    "Kron": kron,
    "DotProductAttention": dot_product_attention,
}
