"""Convolution and pooling."""

from __future__ import annotations

import numpy as np

from cylstm.formats.onnx.export.call import Call
from cylstm.formats.onnx.export.elementwise import activate
from cylstm.formats.onnx.export.nodes import Nodes


def _pads(call: Call, size: int | None, reach: int, stride: int) -> tuple[int, int] | None:
    """Numbers of padding before and after; None for those of "same" where they depend on a size that is open."""
    padding = call.text("padding")
    before, after = call.whole("pad_before"), call.whole("pad_after")
    if padding == "causal":
        return reach - 1, 0
    if padding == "same":
        if stride > 1 and size is None:
            return None
        total = reach - 1 if size is None else max((-(-size // stride) - 1) * stride + reach - size, 0)
        return total // 2, total - total // 2
    if padding not in ("valid", "explicit"):
        raise call.refuse(f"option padding={padding!r} has no form there")
    return before, after


def _padded_same(nodes: Nodes, x: str, rank: int, axis: int, reach: int, stride: int, number: float) -> str:
    """Padding "same" of an axis of any size. (ONNX Runtime has the attribute for it without dilation alone.)"""
    size = nodes.size(x, axis)
    windows = nodes.op("Div", nodes.op("Add", size, nodes.ints(stride - 1)), nodes.ints(stride))
    covered = nodes.op("Add", nodes.op("Mul", windows, nodes.ints(stride)), nodes.ints(reach - stride))
    total = nodes.op("Max", nodes.op("Sub", covered, size), nodes.ints(0))
    before = nodes.op("Div", total, nodes.ints(2))
    sizes: list[str | int] = [0] * (2 * rank)
    sizes[axis], sizes[rank + axis] = before, nodes.op("Sub", total, before)
    return nodes.op("Pad", x, nodes.shape(*sizes), nodes.number(number), mode="constant")


def _padding(*pads: tuple[int, int]) -> list[int]:
    """Of each axis, as an attribute."""
    return [*(before for before, _ in pads), *(after for _, after in pads)]


def conv1d(call: Call) -> None:
    _convolution(call, ("",), 0)


def conv2d(call: Call) -> None:
    call.ignore("input_columns", "is_framed")
    frames = len(call.value().shape) - 3
    _convolution(call, ("_rows", "_columns"), frames)


def _convolution(call: Call, axes: tuple[str, ...], frames: int) -> None:
    """Along the last axes but the channels, whose options end in `axes`; channels come first in ONNX."""
    nodes, value, x = call.nodes, call.value(), call.input()
    weight = call.weight("weight")
    kernel = list(weight.shape[1:-1])
    strides, dilations = ([call.whole(f"{what}{axis}") for axis in axes] for what in ("stride", "dilation"))
    reach = (kernel[0] - 1) * dilations[0] + 1
    call.ignore("reach")
    pads = _pads(call, value.shape[frames], reach, strides[0])
    sides = [(call.whole("pad_left"), call.whole("pad_right"))] if len(axes) == 2 else []
    history = call.initial("history")
    if history is not None and call.text("padding") == "causal" and not frames:
        x, pads = nodes.op("Concat", history, x, axis=1), (0, 0)
        call.final("history", nodes.slice(x, 1, 1 - reach))
    if pads is None:
        x, pads = _padded_same(nodes, x, 1 + len(value.shape), 1, reach, strides[0], 0), (0, 0)
    tensors = [_channels_first(nodes, _as_rows(call, x, frames), len(kernel)), nodes.weight(np.moveaxis(weight, -1, 1))]
    if call.has_weight("bias"):
        tensors.append(nodes.weight(call.weight("bias"), "bias"))
    y = nodes.op(
        "Conv",
        *tensors,
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        group=call.whole("groups"),
        pads=_padding(pads, *sides),
    )
    y = _from_rows(call, _channels_last(nodes, y, len(kernel)), frames)
    call.give(activate(nodes, y, call.activation("activation")))


def conv_transpose(call: Call) -> None:
    nodes, value, x = call.nodes, call.value(), call.input()
    weight, groups = call.weight("weight"), call.whole("groups")
    kernel = list(weight.shape[1:-1])
    frames = len(value.shape) - len(kernel) - 1
    axes = (("rows", "before", "after"), ("columns", "left", "right"))
    options = [
        [call.whole(name) for name in (f"stride_{axis}", f"dilation_{axis}", f"crop_{first}")]
        + [call.whole(f"output_padding_{axis}") - call.whole(f"crop_{last}")]
        for axis, first, last in axes
    ][: len(kernel)]
    call.ignore("reach", "history", "input_columns")
    history = call.initial("history")
    before = 0
    if history is not None:
        before = call.whole("history")
        x = nodes.op("Concat", history, x, axis=1)
        call.final("history", nodes.slice(x, 1, -before))
    # (filters, *kernel, channels of a group) -> (channels, filters of a group, *kernel)
    grouped = np.moveaxis(weight.reshape(groups, -1, *weight.shape[1:]), -1, 1)
    y = nodes.op(
        "ConvTranspose",
        _channels_first(nodes, _as_rows(call, x, frames), len(kernel)),
        nodes.weight(grouped.reshape(-1, *grouped.shape[2:])),
        kernel_shape=kernel,
        strides=[stride for stride, *_ in options],
        dilations=[dilation for _, dilation, *_ in options],
        group=groups,
        pads=[*(first for *_, first, _ in options), *(max(-more, 0) for *_, more in options)],
    )
    for axis, (*_, more) in enumerate(options):  # what is added behind has the bias alone
        y = nodes.pad(y, 2 + len(kernel), 2 + axis, 0, max(more, 0), 0)
    y = _channels_last(nodes, y, len(kernel))
    if before:
        y = nodes.slice(y, 1, before * options[0][0])
    if call.has_weight("bias"):
        y = nodes.op("Add", y, nodes.weight(call.weight("bias"), "bias"))
    call.give(activate(nodes, _from_rows(call, y, frames), call.activation("activation")))


def _channels_first(nodes: Nodes, x: str, axes: int) -> str:
    return nodes.transpose(x, [0, 1 + axes, *range(1, 1 + axes)])


def _channels_last(nodes: Nodes, x: str, axes: int) -> str:
    return nodes.transpose(x, [0, *range(2, 2 + axes), 1])


def _as_rows(call: Call, x: str, frames: int) -> str:
    """With the frames, if there are any, as rows of the batch."""
    return call.nodes.reshape(x, -1, *(size or 0 for size in call.value().shape[1:])) if frames else x


def _from_rows(call: Call, y: str, frames: int) -> str:
    nodes, time = call.nodes, call.value().shape[0]
    if not frames:
        return y
    sizes = (size or 0 for size in call.output().shape[1:])
    return nodes.op("Reshape", y, nodes.shape(-1, time or nodes.size(call.input(), 1), *sizes))


def pool1d(call: Call) -> None:
    """Over the last of three axes, to which the window's is moved and all others are joined."""
    nodes, value, mode = call.nodes, call.value(), call.text("mode")
    axis, rank = call.whole("axis"), len(value.shape)
    others = [i for i in range(rank) if i != axis]
    rows = nodes.transpose(call.input(), [0, *(1 + i for i in others), 1 + axis])
    open_rows = any(value.shape[i] is None for i in others)
    size = value.shape[axis]
    rows = (
        nodes.reshape(rows, 0, -1, size) if open_rows and size else nodes.reshape(rows, 0, _product(call, others), -1)
    )
    pool, stride, dilation = call.whole("pool"), call.whole("stride"), call.whole("dilation")
    reach = (pool - 1) * dilation + 1
    ceil_mode, counts_padding = call.flag("ceil_mode"), call.flag("count_include_pad")
    pads = _pads(call, size, reach, stride)
    if pads is None and counts_padding and mode == "average":
        # all of the padding counts, as other numbers do
        rows, pads, counts_padding = _padded_same(nodes, rows, 3, 2, reach, stride, 0), (0, 0), False
    if mode == "max":
        if pads is None:
            rows, pads = _padded_same(nodes, rows, 3, 2, reach, stride, float("-inf")), (0, 0)
        y = nodes.op(
            "MaxPool",
            rows,
            kernel_shape=[pool],
            strides=[stride],
            dilations=[dilation],
            pads=_padding(pads),
            ceil_mode=int(ceil_mode),
        )
    elif mode != "average":
        raise call.refuse(f"option mode={mode!r} has no form there")
    elif dilation == 1 and not ceil_mode and pads is not None:
        y = nodes.op(
            "AveragePool",
            rows,
            kernel_shape=[pool],
            strides=[stride],
            pads=_padding(pads),
            count_include_pad=int(counts_padding),
        )
    else:
        y = _average(call, rows, pool, stride, dilation, pads, ceil_mode, counts_padding)
    after = call.output().shape
    if open_rows:
        y = nodes.reshape(y, 0, *(-1 if after[i] is None else after[i] or 0 for i in others), after[axis] or 0)
    else:
        y = nodes.reshape(y, 0, *(after[i] or 0 for i in others), -1)
    order = [0] * (rank + 1)
    for place, i in enumerate([*others, axis]):
        order[1 + i] = 1 + place
    call.give(nodes.transpose(y, order))


def _product(call: Call, axes: list[int]) -> int:
    return int(np.prod([call.value().shape[i] or 0 for i in axes], dtype=np.int64))


def _average(
    call: Call,
    rows: str,
    pool: int,
    stride: int,
    dilation: int,
    pads: tuple[int, int] | None,
    ceil_mode: bool,
    counts_padding: bool,
) -> str:
    """The sums of the windows over the counts of what is inside: of rows (batch, n, size), as two convolutions.

    AveragePool has no dilation in this opset, and runtimes differ in what a last window that is not full divides by.
    """
    nodes = call.nodes
    # (batch, n, size) -> (batch * n, 1, size)
    size = nodes.size(rows, 2)
    flat = nodes.op("Reshape", rows, nodes.shape(-1, 1, size))
    ones = nodes.expand(nodes.weight(np.ones((1, 1, 1))), 1, 1, size)
    if pads is None:
        reach = (pool - 1) * dilation + 1
        flat, ones = (_padded_same(nodes, tensor, 3, 2, reach, stride, 0) for tensor in (flat, ones))
    else:
        before, after = pads
        more = stride - 1 if ceil_mode else 0
        flat = nodes.pad(flat, 3, 2, before, after + more, 0)
        if counts_padding:
            ones = nodes.pad(nodes.pad(ones, 3, 2, before, after, 1), 3, 2, 0, more, 0)
        else:
            ones = nodes.pad(ones, 3, 2, before, after + more, 0)
    kernel = nodes.weight(np.ones((1, 1, pool)))
    sums, counts = (
        nodes.op("Conv", tensor, kernel, kernel_shape=[pool], strides=[stride], dilations=[dilation])
        for tensor in (flat, ones)
    )
    y = nodes.op("Div", sums, counts)
    return nodes.op("Reshape", y, nodes.shape(nodes.size(rows, 0), nodes.size(rows, 1), nodes.size(y, 2)))
