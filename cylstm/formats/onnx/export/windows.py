"""Convolution and pooling."""

from __future__ import annotations

import numpy as np

from cylstm.formats.onnx.export.call import Call
from cylstm.formats.onnx.export.elementwise import activate
from cylstm.formats.onnx.export.nodes import Attribute


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


def _padding(pads: tuple[int, int] | None) -> dict[str, Attribute]:
    return {"auto_pad": "SAME_UPPER"} if pads is None else {"pads": list(pads)}


def conv1d(call: Call) -> None:
    nodes, x, value = call.nodes, call.input(), call.value()
    weight = call.weight("weight")
    kernel, stride, dilation = weight.shape[1], call.whole("stride"), call.whole("dilation")
    reach = (kernel - 1) * dilation + 1
    call.ignore("reach")
    pads = _pads(call, value.shape[0], reach, stride)
    history = call.initial("history")
    if history is not None and call.text("padding") == "causal":
        x, pads = nodes.op("Concat", history, x, axis=1), (0, 0)
        call.final("history", nodes.slice(x, 1, 1 - reach))
    tensors = [nodes.transpose(x, [0, 2, 1]), nodes.weight(weight.transpose(0, 2, 1))]
    if call.has_weight("bias"):
        tensors.append(nodes.weight(call.weight("bias"), "bias"))
    windows: dict[str, Attribute] = {"kernel_shape": [kernel], "strides": [stride], "dilations": [dilation]}
    y = nodes.op("Conv", *tensors, group=call.whole("groups"), **windows, **_padding(pads))
    call.give(activate(nodes, nodes.transpose(y, [0, 2, 1]), call.activation("activation")))


def pool1d(call: Call) -> None:
    """Over the last of three axes, to which the window's is moved and all others are joined."""
    nodes, value, mode = call.nodes, call.value(), call.text("mode")
    axis = 0
    rank = len(value.shape)
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
    windows: dict[str, Attribute] = {"kernel_shape": [pool], "strides": [stride], **_padding(pads)}
    if mode == "max":
        y = nodes.op("MaxPool", rows, dilations=[dilation], ceil_mode=int(ceil_mode), **windows)
    elif mode != "average":
        raise call.refuse(f"option mode={mode!r} has no form there")
    elif dilation == 1 and not ceil_mode and pads is not None:
        y = nodes.op("AveragePool", rows, count_include_pad=int(counts_padding), **windows)
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
    if pads is not None:
        before, after = pads
        more = stride - 1 if ceil_mode else 0
        flat = nodes.pad(flat, 3, 2, before, after + more, 0)
        if counts_padding:
            ones = nodes.pad(nodes.pad(ones, 3, 2, before, after, 1), 3, 2, 0, more, 0)
        else:
            ones = nodes.pad(ones, 3, 2, before, after + more, 0)
        pads = (0, 0)
    kernel = nodes.weight(np.ones((1, 1, pool)))
    options: dict[str, Attribute] = {"kernel_shape": [pool], "strides": [stride], "dilations": [dilation]}
    sums, counts = (nodes.op("Conv", tensor, kernel, **options, **_padding(pads)) for tensor in (flat, ones))
    y = nodes.op("Div", sums, counts)
    return nodes.op("Reshape", y, nodes.shape(nodes.size(rows, 0), nodes.size(rows, 1), nodes.size(y, 2)))
