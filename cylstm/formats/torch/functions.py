"""What each function of PyTorch and method of a tensor becomes: one operation each, in the table `FUNCTIONS`."""

from __future__ import annotations

import builtins
import functools
import math
import operator
from collections.abc import Callable
from typing import Any

from cylstm.formats.torch.network import Network
from cylstm.formats.torch.operations.activations import (
    activation,
    celu,
    gelu,
    glu,
    hardswish,
    log_sigmoid,
    mish,
    prelu,
    softmax,
    softplus,
    softshrink,
    tanhshrink,
    unchanged,
)
from cylstm.formats.torch.operations.arithmetic import absolute, add, clamp, div, elementwise, extreme, mul, power, sub
from cylstm.formats.torch.operations.attention import scaled_dot_product_attention
from cylstm.formats.torch.operations.axes import (
    expand,
    matrix_transpose,
    movedim,
    permute,
    repeat,
    squeeze,
    transpose,
    unsqueeze,
)
from cylstm.formats.torch.operations.constants import made, made_like
from cylstm.formats.torch.operations.conv import avg_pool1d, conv1d, global_pool, max_pool1d, pad, upsample
from cylstm.formats.torch.operations.linear import einsum, embedding, linear, matmul
from cylstm.formats.torch.operations.norm import batch_norm, group_norm, layer_norm, rms_epsilon
from cylstm.formats.torch.operations.parts import cat, chunk, flip, getitem, narrow, select, split, stack, unbind
from cylstm.formats.torch.operations.reduce import norm, normalize, reduction
from cylstm.formats.torch.operations.rows import has_rows, on_rows
from cylstm.formats.torch.operations.shape import attribute, flatten, reshape, size, unflatten, view
from cylstm.formats.torch.tensor import SYMBOLS, Dim, Scores, Tensor, flat

#: those that take rows themselves
_OF_SHAPES = frozenset(("view", "reshape", "view_as", "reshape_as", "flatten", "size", "dim"))


def call_function(net: Network, node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    """The result of a function or a method. Raises `UnsupportedError` for one that has no function here."""
    import torch

    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    known = FUNCTIONS.get(name)
    if node.op == "call_function":
        homes = (operator, torch, torch.nn.functional, math, builtins)
        if not any(getattr(home, name, None) is node.target for home in homes):
            known = None
    if not any(isinstance(one, (*SYMBOLS, Dim)) for one in flat((args, kwargs))):
        # called with constants alone: PyTorch computes it
        if node.op == "call_method":
            return getattr(args[0], name)(*args[1:], **kwargs)
        return node.target(*args, **kwargs)
    if known is None:
        what = f"the method {name!r}" if node.op == "call_method" else f"the function {name or node.target!r}"
        raise net.refuse(f"{what} is not supported")
    if has_rows((args, kwargs)) and name not in _OF_SHAPES and not (name == "getattr" and args[1] in ("shape", "ndim")):
        return on_rows(net, name, functools.partial(known, net), args, kwargs)
    return known(net, *args, **kwargs)


def softmax_function(net: Network, x: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> object:
    _check_softmax_type(net, dtype)
    if isinstance(x, Scores):
        if dim not in (-1, len(x.query.axes) - 1):
            raise net.refuse("a softmax of scores over another axis than that of the keys is not supported")
        return Scores(x.query, x.key, x.scale, True)
    return softmax(net, x, dim)


def log_softmax_function(
    net: Network, x: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None
) -> object:
    _check_softmax_type(net, dtype)
    return softmax(net, x, dim, log=True)


def _check_softmax_type(net: Network, dtype: Any) -> None:
    """Softmax is computed in the model's type; PyTorch's argument may be that type or a wider one."""
    if dtype is not None and str(dtype) not in ("torch.float32", "torch.float64"):
        raise net.refuse(f"a softmax computed in {dtype} is not supported, float32 and float64 are")


def activation_function(name: str, *values: float) -> Callable[..., Tensor]:
    return lambda net, x, inplace=False: activation(net, x, name, *values)


def parametric(name: str, default: float) -> Callable[..., Tensor]:
    return lambda net, x, *args, **kwargs: activation(
        net, x, name, float(next(iter((*args, *(v for k, v in kwargs.items() if k != "inplace"))), default))
    )


def interpolate(
    net: Network, x: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", **others: Any
) -> Tensor:
    return upsample(net, x, size, scale_factor, mode)


#: name of a method, or of a function of torch, torch.nn.functional, operator or math -> function(network, arguments)
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("add", "iadd", "add_", "__add__"), add),
    **dict.fromkeys(("sub", "isub", "sub_", "subtract"), sub),
    "rsub": lambda net, a, b: sub(net, b, a),
    **dict.fromkeys(("mul", "imul", "mul_", "multiply"), mul),
    **dict.fromkeys(("div", "truediv", "itruediv", "true_divide", "divide", "div_"), div),
    **dict.fromkeys(("neg", "negative"), lambda net, x: net.affine(net.tensor(x), -1.0, 0.0)),
    **dict.fromkeys(("abs", "absolute"), absolute),
    "square": lambda net, x: power(net, x, 2),
    "pow": power,
    "max": extreme("max"),
    "min": extreme("min"),
    "maximum": elementwise("max"),
    "minimum": elementwise("min"),
    **dict.fromkeys(("clamp", "clip", "clamp_"), clamp),
    "mean": reduction("mean"),
    "sum": reduction("sum"),
    "amax": reduction("max"),
    "amin": reduction("min"),
    "norm": norm,
    "normalize": normalize,
    **dict.fromkeys(("cat", "concat", "concatenate"), cat),
    "stack": stack,
    "hstack": lambda net, tensors: cat(net, tensors, 1),
    "flip": flip,
    "split": split,
    "chunk": chunk,
    "unbind": unbind,
    "narrow": narrow,
    "select": select,
    "getitem": getitem,
    "permute": permute,
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "transpose_"), transpose),
    "t": matrix_transpose,
    **dict.fromkeys(("movedim", "moveaxis"), movedim),
    **dict.fromkeys(("squeeze", "squeeze_"), squeeze),
    **dict.fromkeys(("unsqueeze", "unsqueeze_"), unsqueeze),
    **dict.fromkeys(("view", "reshape"), view),
    "view_as": lambda net, x, other: reshape(net, x, size(net, other)),
    "reshape_as": lambda net, x, other: reshape(net, x, size(net, other)),
    "flatten": flatten,
    "unflatten": unflatten,
    "expand": expand,
    "expand_as": lambda net, x, other: expand(net, x, *net.tensor(other).shape),
    "repeat": repeat,
    "size": size,
    "dim": lambda net, x: len(size(net, x)),
    "getattr": attribute,
    **{name: made(name) for name in ("zeros", "ones", "full")},
    "new_zeros": made_like("zeros"),
    "new_ones": made_like("ones"),
    "zeros_like": made_like("zeros"),
    "ones_like": made_like("ones"),
    **dict.fromkeys(
        ("contiguous", "to", "float", "double", "detach", "clone", "type_as", "requires_grad_", "cpu", "long", "int"),
        unchanged,
    ),
    **dict.fromkeys(
        ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout", "dropout_"),
        unchanged,
    ),
    **dict.fromkeys(("matmul", "bmm", "mm"), matmul),
    "einsum": einsum,
    "scaled_dot_product_attention": scaled_dot_product_attention,
    "softmax": softmax_function,
    "log_softmax": log_softmax_function,
    "linear": linear,
    "conv1d": conv1d,
    "embedding": lambda net, x, weight, padding_idx=None, max_norm=None, *rest, **more: embedding(
        net, x, weight, max_norm
    ),
    "batch_norm": lambda net, x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5: batch_norm(
        net, x, None if training else mean, var, weight, bias, eps
    ),
    "layer_norm": layer_norm,
    "rms_norm": lambda net, x, shape, weight=None, eps=None: layer_norm(
        net, x, shape, weight, None, rms_epsilon(net, eps), "rms"
    ),
    "group_norm": group_norm,
    "pad": pad,
    "interpolate": interpolate,
    "max_pool1d": max_pool1d,
    "avg_pool1d": avg_pool1d,
    "adaptive_avg_pool1d": lambda net, x, size: global_pool(net, x, "mean", size),
    "adaptive_max_pool1d": lambda net, x, size: global_pool(net, x, "max", size),
    **dict.fromkeys(("relu", "relu_"), activation_function("relu")),
    "relu6": activation_function("clip", 0.0, 6.0),
    **dict.fromkeys(("tanh", "tanh_"), activation_function("tanh")),
    **dict.fromkeys(("sigmoid", "sigmoid_"), activation_function("sigmoid")),
    "exp": activation_function("exponential"),
    "selu": activation_function("selu"),
    "silu": activation_function("silu"),
    "softsign": activation_function("softsign"),
    "hardsigmoid": activation_function("hard_sigmoid", 1 / 6, 0.5),
    "gelu": lambda net, x, approximate="none": gelu(net, x, approximate),
    "hardswish": lambda net, x, inplace=False: hardswish(net, x),
    "mish": lambda net, x, inplace=False: mish(net, x),
    "celu": lambda net, x, alpha=1.0, inplace=False: celu(net, x, alpha),
    "elu": parametric("elu", 1.0),
    "leaky_relu": parametric("leaky_relu", 0.01),
    "hardtanh": lambda net, x, min_val=-1.0, max_val=1.0, inplace=False: activation(net, x, "clip", min_val, max_val),
    "softplus": softplus,
    "logsigmoid": log_sigmoid,
    "softshrink": lambda net, x, lambd=0.5: softshrink(net, x, lambd),
    "tanhshrink": tanhshrink,
    "prelu": prelu,
    "glu": glu,
}
