"""ATen's operations that are layers: recurrent ones, convolutions, pooling, normalisation, attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cylstm.formats.torch.aten.shapes import DRAWS
from cylstm.program.network import MIXES, Network
from cylstm.program.operations import attention, conv, elementwise, norm, shape
from cylstm.program.operations.frames import has_frames, on_frames
from cylstm.program.operations.linear import linear
from cylstm.program.operations.recurrent import Direction, cell, recurrent, rnn_activation
from cylstm.program.operations.reduce import reduce
from cylstm.program.operations.resize import resize
from cylstm.program.tensor import BATCH, Packed, Stack, Tensor, Unavailable, dtype_of, is_constant, shape_of

_KINDS = {"lstm": "lstm", "gru": "gru", "rnn_tanh": "rnn", "rnn_relu": "rnn"}


def layer_weights(net: Network, kind: str, given: Sequence[Any]) -> dict[str, np.ndarray | None]:
    """Role -> array of one layer and direction, the two biases summed where only their sum counts."""
    arrays = [net.array(one) for one in given]
    weight_ih, weight_hh, *rest = arrays
    weight_hr = rest.pop() if rest and len(rest) % 2 else None
    bias_ih, bias_hh = rest if rest else (None, None)
    found = {"weight_ih": weight_ih, "weight_hh": weight_hh, "weight_hr": weight_hr}
    if kind == "gru":
        return found | {"bias_ih": bias_ih, "bias_hh": bias_hh}
    return found | {"bias": None if bias_ih is None else bias_ih + bias_hh}


def recurrent_of(name: str) -> Callable[..., Any]:
    """``aten.lstm.input`` and its like, of padded sequences or with `data` of packed ones."""
    kind = _KINDS[name]

    def found(
        net: Network,
        params: Sequence[Any],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        input: Any = None,
        hx: Any = None,
        batch_first: bool = False,
    ) -> Any:
        if train and dropout:
            raise net.refuse(f"a dropout that is on, also after eval(), {DRAWS}")
        directions = 2 if bidirectional else 1
        each = len(params) // (num_layers * directions)
        groups = [params[k : k + each] for k in range(0, len(params), each)]
        if each * num_layers * directions != len(params) or not groups:
            raise net.refuse(f"expected the weights of {num_layers * directions} layers and directions")
        layers = [
            [Direction(layer_weights(net, kind, groups[k * directions + d]), bool(d)) for d in range(directions)]
            for k in range(num_layers)
        ]
        states = list(hx) if isinstance(hx, (tuple, list)) else [hx]
        options = rnn_activation(net, name.removeprefix("rnn_")) if kind == "rnn" else None
        packed = input if isinstance(input, Packed) else None
        x = packed.tensor if packed is not None else input
        mask = packed.mask if packed is not None else None

        def call(x: Any, *states: Any) -> Any:
            return recurrent(
                net, kind, x, states, layers, batch_first=batch_first, options=options, mask=mask, dropout=dropout
            )

        if has_frames(x) and batch_first:
            if any(isinstance(one, (Tensor, Stack)) for one in states):
                raise net.refuse("a computed first state of a layer on single steps as rows is not supported")
            return on_frames(net, call, (x, *[None if not np.any(getattr(s, "array", s)) else s for s in states]))
        y, *last = call(x, *states)
        return (y if packed is None else replace(packed, tensor=y), *last)

    return found


def cell_of(kind: str, activation: str | None = None) -> Callable[..., Any]:
    def found(
        net: Network,
        input: Any,
        hx: Any,
        w_ih: Any,
        w_hh: Any,
        b_ih: Any = None,
        b_hh: Any = None,
    ) -> Any:
        given = [w_ih, w_hh] + ([] if b_ih is None else [b_ih, b_hh])
        weights = layer_weights(net, kind, given)
        options = rnn_activation(net, activation) if activation else None
        states = list(hx) if isinstance(hx, (tuple, list)) else [hx]
        is_single = len(shape_of(input)) == 1
        if is_single:
            raise net.refuse("a cell of a single row without a batch is not supported; give the batch an axis")
        result = cell(net, kind, input, states, weights, options)
        return result if kind == "lstm" else result[0]

    return found


def convolve(
    net: Network,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """``aten.conv1d`` and ``aten.conv2d``."""
    _check_numbers(net, input)
    return conv.conv(net, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose(
    net: Network,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """``aten.conv_transpose1d`` and ``aten.conv_transpose2d``."""
    _check_numbers(net, input)
    return conv.conv_transpose(net, input, weight, bias, stride, padding, output_padding, groups, dilation)


def _check_numbers(net: Network, input: Any) -> None:
    if dtype_of(input) != "float":
        raise net.refuse("a convolution of whole numbers is not supported; make them floating-point ones")


def convolution(
    net: Network,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    **others: Any,
) -> Any:
    if len(shape_of(weight)) > 4:
        raise net.refuse(_VOLUMES)
    if transposed:
        return conv_transpose(net, input, weight, bias, stride, padding, output_padding, groups, dilation)
    return convolve(net, input, weight, bias, stride, padding, dilation, groups)


_VOLUMES = "a convolution or pooling over volumes is not supported; those over time and over images are"


def pad(net: Network, self: Any, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Any:
    return conv.pad(net, self, list(pad), mode, value)


def padding(mode: str) -> Callable[..., Any]:
    def found(net: Network, self: Any, padding: Sequence[int]) -> Any:
        return conv.pad(net, self, list(padding), mode)

    return found


def batch_norm(
    net: Network,
    input: Any,
    weight: Any = None,
    bias: Any = None,
    running_mean: Any = None,
    running_var: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Any:
    return norm.batch_norm(net, input, None if training else running_mean, running_var, weight, bias, eps)


def instance_norm(
    net: Network,
    input: Any,
    weight: Any = None,
    bias: Any = None,
    running_mean: Any = None,
    running_var: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Any:
    if isinstance(input, Tensor) and input.axes[:2] == (None, BATCH) and input.ndim in (3, 4):
        if not use_input_stats or weight is not None or bias is not None:
            raise net.refuse(f"a normalisation with numbers for each row of a batch, taken as channels, {MIXES}")
        rows = input.with_axes((BATCH, None, *input.axes[2:]))
        y = norm.instance_norm(net, rows, None, None, None, None, True, eps)
        return y.with_axes((y.axes[1], y.axes[0], *y.axes[2:]))
    return norm.instance_norm(net, input, running_mean, running_var, weight, bias, use_input_stats, eps)


def layer_norm(
    net: Network,
    input: Any,
    normalized_shape: Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Any:
    return norm.layer_norm(net, input, normalized_shape, weight, bias, eps)


def rms_norm(
    net: Network,
    input: Any,
    normalized_shape: Sequence[int],
    weight: Any = None,
    eps: float | None = None,
) -> Any:
    return norm.layer_norm(net, input, normalized_shape, weight, None, norm.rms_epsilon(net, eps), "rms")


def sdpa(
    net: Network,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    if dropout_p:
        raise net.refuse(f"a dropout that is on, also after eval(), {DRAWS}")
    if enable_gqa:
        raise net.refuse("queries with more heads than keys (enable_gqa) are not supported")
    return attention.scaled_dot_product_attention(net, query, key, value, attn_mask, is_causal, scale)


def of_rows(call: Callable[[Any], Any], x: Any, spatial: int) -> Any:
    """`call` of (batch, channels, *spatial); of (batch, *spatial), whose rows PyTorch takes as channels, with one
    channel.
    """
    if not isinstance(x, Tensor) or x.ndim != spatial + 1 or x.axes[0] != BATCH:
        return call(x)
    found: Tensor = call(x.with_axes((BATCH, None, *x.axes[1:])))
    return found.with_axes((found.axes[0], *found.axes[2:]))


def max_pool(spatial: int) -> Callable[..., Any]:
    def found(
        net: Network,
        self: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> Any:
        def call(x: Any) -> Any:
            return conv.pool(net, x, "max", net_size(net, x, kernel_size), stride, padding, dilation, ceil_mode)

        return of_rows(call, self, spatial)

    return found


def avg_pool(spatial: int) -> Callable[..., Any]:
    def found(
        net: Network,
        self: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Any:
        if dtype_of(self) != "float":
            raise net.refuse("an average of whole numbers, cut off to whole numbers, is not supported")

        def call(x: Any) -> Any:
            kernel = net_size(net, x, kernel_size)
            return conv.pool(
                net, x, "average", kernel, stride, padding, 1, ceil_mode, count_include_pad, divisor_override
            )

        return of_rows(call, self, spatial)

    return found


def with_indices(call: Callable[..., Any]) -> Callable[..., Any]:
    """A pooling that gives the places of its maxima too."""

    def found(net: Network, *args: Any, **others: Any) -> Any:
        return call(net, *args, **others), Unavailable("return_indices is not supported")

    return found


def net_size(net: Network, x: Any, given: Any) -> Any:
    """A window's sizes, of which one may be the number of all steps."""
    sizes = given if isinstance(given, (tuple, list)) else (given,)
    axes = shape_of(x)[2:]
    sizes = tuple(sizes) * len(axes) if len(sizes) == 1 else tuple(sizes)
    if len(sizes) != len(axes):
        return given
    return tuple(whole if net.numbers(size) == net.numbers(whole) else size for size, whole in zip(sizes, axes))


def adaptive(mode: str, spatial: int) -> Callable[..., Any]:
    def found(net: Network, self: Any, output_size: Any) -> Any:
        return of_rows(lambda x: conv.adaptive_pool(net, x, mode, output_size), self, spatial)

    return found


def upsample(mode: str) -> Callable[..., Any]:
    """``aten.upsample_nearest1d`` and its like, mode "nearest" or "linear", also named by the axes."""

    def found(
        net: Network,
        input: Any = None,
        self: Any = None,
        output_size: Any = None,
        align_corners: bool = False,
        scale_factors: Any = None,
        scales: Any = None,
        scales_h: Any = None,
        scales_w: Any = None,
    ) -> Any:
        factors = scale_factors
        if factors is None and scales is not None:
            factors = (scales,)
        if factors is None and scales_h is not None and scales_w is not None:
            factors = (scales_h, scales_w)
        sizes = output_size if output_size is None or isinstance(output_size, (tuple, list)) else (output_size,)
        return resize(net, self if input is None else input, mode, sizes, factors, align_corners)

    return found


def pixel_shuffle(net: Network, self: Any, upscale_factor: int) -> Any:
    """(..., channels * r * r, rows, columns) to (..., channels, rows * r, columns * r)."""
    r, at = upscale_factor, len(shape_of(self)) - 3
    *front, channels, rows, columns = shape_of(self)
    y = shape.reshape(net, self, (*front, channels // r**2, r, r, rows, columns))
    y = shape.permute(net, y, (*range(at), *(at + i for i in (0, 3, 1, 4, 2))))
    return shape.reshape(net, y, (*front, channels // r**2, rows * r, columns * r))


def pixel_unshuffle(net: Network, self: Any, downscale_factor: int) -> Any:
    """(..., channels, rows * r, columns * r) to (..., channels * r * r, rows, columns)."""
    r, at = downscale_factor, len(shape_of(self)) - 3
    *front, channels, rows, columns = shape_of(self)
    y = shape.reshape(net, self, (*front, channels, rows // r, r, columns // r, r))
    y = shape.permute(net, y, (*range(at), *(at + i for i in (0, 2, 4, 1, 3))))
    return shape.reshape(net, y, (*front, channels * r**2, rows // r, columns // r))


def pack(net: Network, input: Any, lengths: Any, time: int) -> Any:
    """What stands for ``pack_padded_sequence``: the padded sequence and which of its steps are valid."""
    tensor = net.tensor(input)
    axis = tensor.value.axis if tensor.value.kind == "sequence" else None
    if tensor.ndim < 3 or tensor.axes[time] != 0 or tensor.axes[1 - time] != BATCH or axis is None:
        raise net.refuse(f"a packed sequence expected (batch, time, features), found {tensor.shape}")
    if is_constant(lengths):
        raise net.refuse(
            "a packed sequence of lengths that are no argument of the forward, the same for every batch, is not "
            "supported; give the lengths as an argument"
        )
    lengths = net.tensor(lengths)
    mask = net.lengths.get(lengths.value.name)
    is_computed = mask is None
    if mask is None:
        # a step is valid if its number is less than the length of its row
        valid: Tensor = elementwise.binary(net, "less", net.positions(axis), shape.unsqueeze(net, lengths, 1))
        mask = net.add_layers("number_mask", net.arrange(valid, [1]), part="mask")["mask"]
    if mask.axis != axis:
        raise net.refuse("a packed sequence with the lengths of another one, whose time is not the same")
    return Packed(tensor, mask, is_computed)


def unpack(net: Network, input: Any, whole: bool) -> Any:
    """Zeros after the valid steps of each row."""
    if not isinstance(input, Packed):
        raise net.refuse("pad_packed_sequence of something that is not packed is not supported")
    if input.is_computed and not whole:
        raise net.refuse(
            "pad_packed_sequence of lengths that the network computes gives as many steps as the longest row of the "
            "batch has, which is not supported; say total_length=x.size(1)"
        )
    value = net.add_layer("mask_fill", input.tensor.value, options={"value": 0.0}, part="unpack", mask=input.mask)
    net.unpacked.add(value.name)
    if not whole:
        net.shortened.add(value.name)
    return Tensor(value, input.tensor.axes, input.tensor.dtype)


def lengths_of(net: Network, input: Any, time: int) -> Any:
    """How many steps of each row are valid."""
    if not isinstance(input, Packed):
        raise net.refuse("pad_packed_sequence of something that is not packed is not supported")
    steps = Tensor(net.add_layer("mask_numbers", None, part="steps", mask=input.mask), (BATCH, 0), "bool")
    found: Tensor = reduce(net, steps, "sum", 1)
    net.lengths[found.value.name] = input.mask
    return found.of("int")


def weight_norm(net: Network, v: Any, g: Any, dim: int = 0) -> Any:
    """A weight as its direction times its length along an axis."""
    if not is_constant(v) or not is_constant(g):
        raise net.refuse("a normalised weight that the network computes is not supported")
    direction = np.asarray(v)
    others = tuple(i for i in range(direction.ndim) if dim == -1 or i != dim)
    length = np.sqrt(np.square(direction.astype(np.float64)).sum(axis=others, keepdims=True))
    return (direction * (np.asarray(g) / length)).astype(direction.dtype)


def bilinear(net: Network, input1: Any, input2: Any, weight: Any, bias: Any = None) -> Any:
    """``x1 W x2`` for each W, as a Linear of all products of a number of `input1` and one of `input2`."""
    array = net.array(weight)
    products = elementwise.multiply(
        net, shape.unsqueeze(net, input1, -1), shape.unsqueeze(net, input2, len(shape_of(input2)) - 1)
    )
    return linear(net, shape.flatten(net, products, -2, -1), array.reshape(len(array), -1), bias)


def refused(why: str) -> Callable[..., Any]:
    def found(net: Network, *args: Any, **others: Any) -> Any:
        raise net.refuse(why)

    return found


#: of a normalisation, beside its result
_STATISTICS = (Unavailable("the mean and the deviation that a normalisation computes are not results"),) * 2

#: ATen's name without its overload -> function
LAYERS: Mapping[str, Callable[..., Any]] = {
    **{name: recurrent_of(name) for name in _KINDS},
    "lstm_cell": cell_of("lstm"),
    "gru_cell": cell_of("gru"),
    "rnn_tanh_cell": cell_of("rnn", "tanh"),
    "rnn_relu_cell": cell_of("rnn", "relu"),
    "conv1d": convolve,
    "conv2d": convolve,
    "conv3d": refused(_VOLUMES),
    "conv_transpose1d": conv_transpose,
    "conv_transpose2d": conv_transpose,
    "conv_transpose3d": refused(_VOLUMES),
    "convolution": convolution,
    "_convolution": convolution,
    "pad": pad,
    "constant_pad_nd": lambda net, self, pad, value=0: conv.pad(net, self, list(pad), "constant", value),
    **{f"reflection_pad{n}d": padding("reflect") for n in (1, 2)},
    **{f"replication_pad{n}d": padding("replicate") for n in (1, 2)},
    "batch_norm": batch_norm,
    "_native_batch_norm_legit_no_training": lambda net, input, weight, bias, running_mean, running_var, momentum, eps: (
        batch_norm(net, input, weight, bias, running_mean, running_var, False, momentum, eps), *_STATISTICS),
    "instance_norm": instance_norm,
    "layer_norm": layer_norm,
    "native_layer_norm": lambda net, input, normalized_shape, weight=None, bias=None, eps=1e-5: (
        layer_norm(net, input, normalized_shape, weight, bias, eps), *_STATISTICS),
    "native_group_norm": lambda net, input, weight, bias, N, C, HxW, group, eps: (
        norm.group_norm(net, input, group, weight, bias, eps), *_STATISTICS),
    "rms_norm": rms_norm,
    "group_norm": lambda net, input, num_groups, weight=None, bias=None, eps=1e-5, cudnn_enabled=True: norm.group_norm(
        net, input, num_groups, weight, bias, eps),
    "scaled_dot_product_attention": sdpa,
    **{f"max_pool{n}d": max_pool(n) for n in (1, 2)},
    **{f"max_pool{n}d_with_indices": with_indices(max_pool(n)) for n in (1, 2)},
    **{f"avg_pool{n}d": avg_pool(n) for n in (1, 2)},
    **{f"adaptive_avg_pool{n}d": adaptive("mean", n) for n in (1, 2)},
    "_adaptive_avg_pool2d": adaptive("mean", 2),
    **{f"adaptive_max_pool{n}d": with_indices(adaptive("max", n)) for n in (1, 2)},
    **dict.fromkeys(("max_pool3d", "avg_pool3d", "adaptive_avg_pool3d", "adaptive_max_pool3d"), refused(_VOLUMES)),
    **dict.fromkeys(("upsample_nearest1d", "upsample_nearest2d"), upsample("nearest")),
    **dict.fromkeys(("upsample_linear1d", "upsample_bilinear2d"), upsample("linear")),
    "upsample_bicubic2d": refused("upsampling with mode='bicubic' is not supported; 'nearest' and 'bilinear' are"),
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "bilinear": bilinear,
    "pack": pack,
    "unpack": unpack,
    "lengths": lengths_of,
    "_weight_norm": weight_norm,
}  # fmt: skip
