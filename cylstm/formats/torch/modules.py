"""What each layer of ``torch.nn`` becomes: a function of `cylstm.formats.torch.operations` per class, in `MODULES`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from cylstm.formats.torch.module import class_of
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
)
from cylstm.formats.torch.operations.attention import multihead_attention
from cylstm.formats.torch.operations.conv import avg_pool1d, conv1d, global_pool, max_pool1d, pad, upsample
from cylstm.formats.torch.operations.linear import embedding, linear
from cylstm.formats.torch.operations.norm import batch_norm, group_norm, instance_norm, layer_norm, rms_epsilon
from cylstm.formats.torch.operations.recurrent import cell, recurrent
from cylstm.formats.torch.operations.rows import has_rows, on_rows
from cylstm.formats.torch.operations.shape import flatten, unflatten
from cylstm.formats.torch.tensor import SYMBOLS, flat


def is_known(module: Any) -> bool:
    """Whether it is a layer of ``torch.nn`` that has a function here."""
    kind = class_of(module)
    return kind.__module__.startswith("torch.nn.") and kind.__name__ in MODULES


def call_module(net: Network, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    """The result of calling a layer. Raises `UnsupportedError` for one that has no function here."""
    if not is_known(module):
        kind = class_of(module)
        raise net.refuse(f"{kind.__module__}.{kind.__name__} is not supported")
    name = class_of(module).__name__
    if not any(isinstance(one, SYMBOLS) for one in flat((args, kwargs))):
        return module(*args, **kwargs)  # of constants alone, such as a first state
    if name not in ("Flatten", "Unflatten") and has_rows((args, kwargs)):
        call = functools.partial(MODULES[name], net, module)
        return on_rows(net, name, call, args, kwargs, getattr(module, "dim", None))
    return MODULES[name](net, module, *args, **kwargs)


#: class of torch.nn -> function of (network, module, arguments of the call)
MODULES: dict[str, Callable[..., Any]] = {
    "Linear": lambda net, m, x: linear(net, x, m.weight, m.bias),
    "Embedding": lambda net, m, x: embedding(net, x, m.weight, m.max_norm),
    "LSTM": lambda net, m, input, hx=None: recurrent(net, m, input, hx),
    "GRU": lambda net, m, input, hx=None: recurrent(net, m, input, hx),
    "RNN": lambda net, m, input, hx=None: recurrent(net, m, input, hx),
    "LSTMCell": lambda net, m, input, hx=None: cell(net, m, input, hx),
    "GRUCell": lambda net, m, input, hx=None: cell(net, m, input, hx),
    "RNNCell": lambda net, m, input, hx=None: cell(net, m, input, hx),
    "MultiheadAttention": multihead_attention,
    "Conv1d": lambda net, m, x: conv1d(
        net, x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups, padding_mode=m.padding_mode
    ),
    "MaxPool1d": lambda net, m, x: max_pool1d(
        net, x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices
    ),
    "AvgPool1d": lambda net, m, x: avg_pool1d(
        net, x, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad
    ),
    "AdaptiveAvgPool1d": lambda net, m, x: global_pool(net, x, "mean", m.output_size),
    "AdaptiveMaxPool1d": lambda net, m, x: global_pool(net, x, "max", m.output_size),
    "Upsample": lambda net, m, x: upsample(net, x, m.size, m.scale_factor, m.mode),
    "ConstantPad1d": lambda net, m, x: pad(net, x, m.padding, "constant", m.value),
    "ZeroPad1d": lambda net, m, x: pad(net, x, m.padding),
    "ReflectionPad1d": lambda net, m, x: pad(net, x, m.padding, "reflect"),
    "ReplicationPad1d": lambda net, m, x: pad(net, x, m.padding, "replicate"),
    "CircularPad1d": lambda net, m, x: pad(net, x, m.padding, "circular"),
    "BatchNorm1d": lambda net, m, x: batch_norm(net, x, m.running_mean, m.running_var, m.weight, m.bias, m.eps),
    "LayerNorm": lambda net, m, x: layer_norm(net, x, m.normalized_shape, m.weight, m.bias, m.eps),
    "RMSNorm": lambda net, m, x: layer_norm(net, x, m.normalized_shape, m.weight, None, rms_epsilon(net, m.eps), "rms"),
    "GroupNorm": lambda net, m, x: group_norm(net, x, m.num_groups, m.weight, m.bias, m.eps),
    "InstanceNorm1d": instance_norm,
    "Flatten": lambda net, m, x: flatten(net, x, m.start_dim, m.end_dim),
    "Unflatten": lambda net, m, x: unflatten(net, x, m.dim, m.unflattened_size),
    "Identity": lambda net, m, x: x,
    "ReLU": lambda net, m, x: activation(net, x, "relu"),
    "ReLU6": lambda net, m, x: activation(net, x, "clip", 0.0, 6.0),
    "Tanh": lambda net, m, x: activation(net, x, "tanh"),
    "Sigmoid": lambda net, m, x: activation(net, x, "sigmoid"),
    "SELU": lambda net, m, x: activation(net, x, "selu"),
    "ELU": lambda net, m, x: activation(net, x, "elu", m.alpha),
    "CELU": lambda net, m, x: celu(net, x, m.alpha),
    "SiLU": lambda net, m, x: activation(net, x, "silu"),
    "GELU": lambda net, m, x: gelu(net, x, m.approximate),
    "Mish": lambda net, m, x: mish(net, x),
    "Softplus": lambda net, m, x: softplus(net, x, m.beta, m.threshold),
    "Softsign": lambda net, m, x: activation(net, x, "softsign"),
    "LeakyReLU": lambda net, m, x: activation(net, x, "leaky_relu", m.negative_slope),
    "Hardtanh": lambda net, m, x: activation(net, x, "clip", m.min_val, m.max_val),
    "Hardsigmoid": lambda net, m, x: activation(net, x, "hard_sigmoid", 1 / 6, 0.5),
    "Hardswish": lambda net, m, x: hardswish(net, x),
    "LogSigmoid": lambda net, m, x: log_sigmoid(net, x),
    "Softshrink": lambda net, m, x: softshrink(net, x, m.lambd),
    "Tanhshrink": lambda net, m, x: tanhshrink(net, x),
    "PReLU": lambda net, m, x: prelu(net, x, m.weight),
    "GLU": lambda net, m, x: glu(net, x, m.dim),
    "Softmax": lambda net, m, x: softmax(net, x, m.dim),
    "LogSoftmax": lambda net, m, x: softmax(net, x, m.dim, log=True),
    "Softmin": lambda net, m, x: softmax(net, net.affine(net.tensor(x), -1.0, 0.0), m.dim),
    **dict.fromkeys(
        ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"), lambda net, m, x: x
    ),
}
