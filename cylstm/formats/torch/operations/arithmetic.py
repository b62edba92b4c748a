"""Arithmetic between tensors and constants, element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cylstm.formats.torch.network import Network
from cylstm.formats.torch.operations.activations import activation
from cylstm.formats.torch.operations.reduce import reduce
from cylstm.formats.torch.tensor import Dim, Scores, Stack, Tensor, Unavailable, is_constant

#: of float32
_LARGEST = 3.4028234663852886e38


def _number(found: Any) -> Any:
    """A constant as a number or an array."""
    return found.detach().cpu().numpy() if hasattr(found, "detach") else found


def add(net: Network, a: Any, b: Any, *, alpha: float = 1) -> object:
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return (*a, *b)
    if alpha != 1:
        b = mul(net, b, alpha)
    if is_constant(b):
        return net.affine(net.tensor(a), 1.0, _number(b))
    if is_constant(a):
        return net.affine(net.tensor(b), 1.0, _number(a))
    return net.merge("sum", [net.tensor(a), net.tensor(b)])


def sub(net: Network, a: Any, b: Any, *, alpha: float = 1) -> Tensor:
    if alpha != 1:
        b = mul(net, b, alpha)
    if is_constant(b):
        return net.affine(net.tensor(a), 1.0, -_number(b))
    if is_constant(a):
        return net.affine(net.tensor(b), -1.0, _number(a))
    return net.merge("sub", [net.tensor(a), net.tensor(b)])


def mul(net: Network, a: Any, b: Any) -> object:
    if isinstance(a, (Dim, int)) and isinstance(b, (Dim, int)):
        return Dim((a, b))
    if is_constant(a):
        a, b = b, a
    if is_constant(b):
        if isinstance(a, Scores) and isinstance(b, (int, float)) and not a.is_softmax:
            return Scores(a.query, a.key, a.scale * b)
        return net.affine(net.tensor(a), _number(b), 0.0)
    return net.merge("mul", [net.tensor(a), net.tensor(b)])


def div(net: Network, a: Any, b: Any, *, rounding_mode: str | None = None) -> object:
    if rounding_mode is not None:
        raise net.refuse("rounding_mode is not supported")
    if is_constant(b):
        return mul(net, a, 1.0 / _number(b))
    if is_constant(a):
        raise net.refuse("a constant divided by a tensor is not supported")
    return net.merge("div", [net.tensor(a), net.tensor(b)])


def power(net: Network, x: Any, exponent: Any) -> Tensor:
    x = net.tensor(x)
    if exponent not in (1, 2, 3):
        raise net.refuse(f"a power of {exponent!r}: only 1, 2 and 3 are supported")
    return net.merge("mul", [x] * int(exponent)) if exponent > 1 else x


def extreme(mode: str) -> Callable[..., object]:
    """``max`` and ``min``: of two tensors, or along an axis."""

    def found(net: Network, a: Any, b: Any = None, keepdim: bool = False, *, dim: Any = None) -> object:
        if isinstance(b, (Tensor, Stack)):
            return net.merge(mode, [net.tensor(a), net.tensor(b)])
        dim = b if dim is None else dim
        if dim is None:
            raise net.refuse("over all axes mixes the rows of a batch; say dim=")
        return (reduce(net, a, mode, dim, keepdim), Unavailable("the indices of a maximum or minimum are not computed"))

    return found


def elementwise(mode: str) -> Callable[..., Tensor]:
    return lambda net, a, b: net.merge(mode, [net.tensor(a), net.tensor(b)])


def clamp(net: Network, x: Any, min: float | None = None, max: float | None = None) -> Tensor:
    low, high = (-_LARGEST if min is None else min), (_LARGEST if max is None else max)
    if not isinstance(low, (int, float)) or not isinstance(high, (int, float)):
        raise net.refuse("clamp by tensors is not supported")
    return activation(net, x, "clip", float(low), float(high))


def absolute(net: Network, x: Any) -> Tensor:
    x = net.tensor(x)
    return net.merge("max", [x, net.affine(x, -1.0, 0.0)])
