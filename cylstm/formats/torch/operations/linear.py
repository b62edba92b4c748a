"""Affine maps and products."""

from __future__ import annotations

from typing import Any

import numpy as np

from cylstm.formats.torch.network import Network
from cylstm.formats.torch.operations.attention import weighted
from cylstm.formats.torch.operations.axes import squeeze, unsqueeze
from cylstm.formats.torch.operations.reduce import reduce
from cylstm.formats.torch.tensor import Scores, Tensor, is_constant, listed


def linear(net: Network, x: Any, weight: Any, bias: Any = None, *, part: str = "") -> Tensor:
    x = net.tensor(x)
    x = net.last(x, net.axis(x, -1))
    weights = {"weight": weight if isinstance(weight, np.ndarray) else net.array(weight)}
    weights["bias"] = bias if isinstance(bias, np.ndarray) else net.array(bias)
    return Tensor(net.add_layer("dense", x.value, weights, part=part), x.axes)


def embedding(net: Network, x: Any, weight: Any, max_norm: float | None = None) -> Tensor:
    if not isinstance(x, Tensor) or x.value.kind != "index":
        raise net.refuse("an Embedding of something else than an input of the network")
    if max_norm is not None:
        raise net.refuse("max_norm, which changes the weights, is not supported")
    value = net.add_layer("embedding", x.value, {"weight": net.array(weight)})
    return Tensor(value, (*x.axes, len(value.shape) - 1))


def matmul(net: Network, a: Any, b: Any) -> object:
    if is_constant(b):
        matrix = net.array(b)
        if matrix.ndim == 1:
            return squeeze(net, linear(net, a, matrix[None, :].copy()), -1)
        if matrix.ndim != 2:
            raise net.refuse(f"a product with a constant of shape {matrix.shape} is not supported")
        return linear(net, a, matrix.T.copy())
    if isinstance(a, Scores):
        return weighted(net, a, net.tensor(b))
    if is_constant(a):
        raise net.refuse("a constant times a tensor is not supported; write the tensor first")
    a, b = net.tensor(a), net.tensor(b)
    if len(a.axes) != len(b.axes) or a.batch != b.batch or a.batch >= len(a.axes) - 2:
        raise net.refuse(f"a product of {a.shape} and {b.shape} is not supported")
    if len(a.axes) == 3 and a.size(1) == 1:
        # one row: the sum over k of a[k] b[k, j]
        column = Tensor(a.value, (a.axes[0], a.axes[2], None))
        return unsqueeze(net, reduce(net, net.merge("mul", [column, b]), "sum", 1), 1)
    if len(b.axes) == 3 and b.size(2) == 1:
        row = Tensor(b.value, (b.axes[0], None, b.axes[1]))
        return reduce(net, net.merge("mul", [a, row]), "sum", 2, True)
    return Scores(a, Tensor(b.value, (*b.axes[:-2], b.axes[-1], b.axes[-2])))


def einsum(net: Network, equation: str, *operands: Any) -> Tensor:
    """A product of two tensors, the axes of one among those of the other, summed over axes: a weighted sum of steps."""
    operands = tuple(listed(operands))
    inputs, _, result = str(equation).replace(" ", "").partition("->")
    terms = inputs.split(",")
    names = [*terms, result]
    if len(terms) != 2 or len(operands) != 2 or not result or any(len(set(one)) < len(one) for one in names):
        raise net.refuse(f"einsum {equation!r}: only products of two tensors, 'bt,bth->bh', are supported")
    wide, narrow_ = sorted(zip(terms, operands), key=lambda pair: -len(pair[0]))
    if not set(narrow_[0]) <= set(wide[0]) or not set(result) <= set(wide[0]) or "." in equation:
        raise net.refuse(f"einsum {equation!r}: only weighted sums, 'bt,bth->bh', are supported; matmul and bmm are")
    x, y = net.tensor(wide[1]), net.tensor(narrow_[1])
    if len(x.axes) != len(wide[0]) or len(y.axes) != len(narrow_[0]):
        raise net.refuse(f"einsum {equation!r} of {x.shape} and {y.shape}")
    place = dict(zip(narrow_[0], y.axes))
    x = net.merge("mul", [x, Tensor(y.value, tuple(place.get(name) for name in wide[0]))])
    gone = [i for i, name in enumerate(wide[0]) if name not in result]
    left = [name for name in wide[0] if name in result]
    x = reduce(net, x, "sum", gone) if gone else x
    return Tensor(x.value, tuple(x.axes[left.index(name)] for name in result))
