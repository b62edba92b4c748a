"""Layers that move numbers, and those that make them from nothing."""

from __future__ import annotations

import numpy as np

from cylstm.formats.onnx.export.call import Call
from cylstm.formats.onnx.export.elementwise import lined_up
from cylstm.formats.onnx.export.nodes import FIRST, LAST


def dropout(call: Call) -> None:
    call.ignore("rate")
    call.give(call.input())


def reshape(call: Call) -> None:
    text = call.text("shape")
    known = [size for size in call.output().shape if size is not None]
    if text.startswith("time*"):  # the number of steps follows from the rest
        known = [-1, *call.output().step_shape]
    elif text.split(",")[0] == "time":
        known = [0, *call.output().step_shape]
    call.give(call.nodes.reshape(call.input(), 0, *known))


def permute(call: Call) -> None:
    call.give(call.nodes.transpose(call.input(), [0, *(1 + int(axis) for axis in call.text("order"))]))


def slice_(call: Call) -> None:
    axis, start, step = call.whole("axis"), call.whole("start"), call.whole("step")
    count, before_end = call.whole("count"), call.whole("before_end")
    size = call.value().shape[axis]
    if start < 0 and size is not None:
        start += size
    end = -before_end if before_end else LAST
    if count:
        end = start + (count - 1) * step + 1
        end = LAST if start < 0 and end >= 0 else end  # the last step of an open time
    call.give(call.nodes.slice(call.input(), 1 + axis, start, end, step))


def slice_like(call: Call) -> None:
    nodes, start = call.nodes, call.whole("start")
    end = nodes.op("Add", nodes.size(call.input("x1"), 1), nodes.ints(start))
    call.give(nodes.op("Slice", call.input(), nodes.ints(start), end, nodes.ints(1)))


def pad(call: Call) -> None:
    nodes, x, mode = call.nodes, call.input(), call.text("mode")
    axis, before, after = 1 + call.whole("axis"), call.whole("before"), call.whole("after")
    if mode == "circular":
        size = call.value().shape[axis - 1] or 0
        parts = [nodes.slice(x, axis, size - before, size)] if before else []
        parts += [x, *([nodes.slice(x, axis, 0, after)] if after else [])]
        call.give(nodes.op("Concat", *parts, axis=axis))
        return
    modes = {"zero": "constant", "reflect": "reflect", "replicate": "edge"}
    if mode not in modes:
        raise call.refuse(f"option mode={mode!r} has no form there")
    call.give(nodes.pad(x, 1 + len(call.value().shape), axis, before, after, 0, modes[mode]))


def upsample(call: Call) -> None:
    nodes, axis, size = call.nodes, call.whole("axis"), call.whole("size")
    shape = call.value().shape
    copies = nodes.unsqueeze(call.input(), axis + 2)
    copies = nodes.expand(copies, *[1] * (axis + 2), size, *[1] * (len(shape) - 1 - axis))
    after = [-1 if shape[axis] is None else (shape[axis] or 0) * size, *shape[axis + 1 :]]
    call.give(nodes.reshape(copies, *[0] * (axis + 1), *(size for size in after if size is not None)))


def repeat_vector(call: Call) -> None:
    nodes, rank = call.nodes, len(call.value().shape)
    call.give(nodes.expand(nodes.unsqueeze(call.input(), 1), 1, call.whole("count"), *[1] * rank))


def reverse(call: Call) -> None:
    call.give(call.nodes.slice(call.input(), 1, -1, FIRST, -1))


def take(call: Call) -> None:
    call.ignore("size")
    indices = call.nodes.constant(call.weight("indices").astype(np.int64), "indices")
    call.give(call.nodes.op("Gather", call.input(), indices, axis=1 + call.whole("axis")))


def take_along(call: Call) -> None:
    nodes, x, indices = call.nodes, call.input(), call.input("indices")
    rank, axis = len(call.value().shape), 1 + call.whole("axis")
    if call.value("indices").kind != "index":
        indices = nodes.op("Where", nodes.op("IsNaN", indices), nodes.number(0), indices)
        # beyond what an int64 holds the conversion has no meaning
        indices = nodes.op("Max", nodes.op("Min", indices, nodes.number(2.0**31)), nodes.number(-(2.0**31)))
        indices = nodes.cast(indices, "int64")
    indices = lined_up(nodes, indices, call.value("indices"), rank)
    end = nodes.op("Sub", nodes.size(x, axis), nodes.ints(1))
    indices = nodes.op("Max", nodes.op("Min", indices, end), nodes.ints(0))
    # both repeated along all axes but this one
    of_x, of_indices = (nodes.op("Shape", tensor) for tensor in (x, indices))
    before = [nodes.slice(shape, 0, 0, axis) for shape in (of_x, of_indices)]
    after = [nodes.slice(shape, 0, axis + 1) for shape in (of_x, of_indices)]
    around = [nodes.op("Max", *before), nodes.op("Max", *after)]
    x, indices = (
        nodes.op("Expand", tensor, nodes.op("Concat", around[0], nodes.size(tensor, axis), around[1], axis=0))
        for tensor in (x, indices)
    )
    call.give(nodes.op("GatherElements", x, indices, axis=axis))


def topk(call: Call) -> None:
    nodes, x = call.nodes, call.input()
    axis, k, largest = 1 + call.whole("axis"), call.whole("k"), call.flag("largest")
    count = nodes.ints(k) if k else nodes.size(x, axis)
    y, places = nodes.add("TopK", [x, count], 2, axis=axis, largest=int(largest), sorted=1)
    call.give(y)
    call.give(nodes.cast(places), "indices")


# numbers from nothing, from the steps and from indices


def constant(call: Call) -> None:
    call.ignore("has_time")
    value = call.weight("value")
    call.give(call.nodes.expand(call.nodes.weight(value[np.newaxis]), call.batch, *[1] * value.ndim))


def positions(call: Call) -> None:
    nodes, x = call.nodes, call.input()
    call.ignore("length")
    start, step = call.number("start"), call.number("step")
    time = nodes.size(x, 1)
    count = nodes.unsqueeze(nodes.cast(nodes.count_up(time)), 0)
    taken = call.initial("steps")  # (batch, 2): n mod 2^24 and floor(n / 2^24)
    if taken is not None:
        whole = nodes.cast(taken, "int64")
        before = nodes.op("Mul", nodes.slice(whole, 1, 1, 2), nodes.ints(1 << 24))
        before = nodes.op("Add", before, nodes.slice(whole, 1, 0, 1))
        count = nodes.cast(nodes.op("Add", before, nodes.unsqueeze(nodes.count_up(time), 0)))
        now = nodes.op("Add", before, time)
        parts = [nodes.op("Mod", now, nodes.ints(1 << 24)), nodes.op("Div", now, nodes.ints(1 << 24))]
        call.final("steps", nodes.cast(nodes.op("Concat", *parts, axis=1)))
    y = nodes.op("Add", nodes.op("Mul", count, nodes.number(step)), nodes.number(start))
    call.give(nodes.expand(nodes.unsqueeze(y, 2), call.batch, time, 1))


def step_table(call: Call) -> None:
    nodes, time = call.nodes, call.nodes.size(call.input(), 1)
    # Gather refuses a step beyond the table, where a slice would end
    rows = nodes.op("Gather", nodes.weight(call.weight("table"), "table"), nodes.count_up(time), axis=0)
    call.give(nodes.expand(nodes.unsqueeze(rows, 0), call.batch, 1, 1))


def embedding(call: Call) -> None:
    table = call.nodes.weight(call.weight("weight"), "table")
    call.give(call.nodes.op("Gather", table, call.input("indices"), axis=0))


def numbers(call: Call) -> None:
    y = call.nodes.cast(call.input("indices"))
    call.give(call.nodes.unsqueeze(y, 2) if len(call.value("indices").shape) == 1 else y)
