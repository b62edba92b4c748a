"""Layers over one axis, and products of matrices."""

from __future__ import annotations

from cylstm.formats.onnx.export.call import Call
from cylstm.formats.onnx.export.elementwise import activate, lined_up

_MODES = {"mean": "Mean", "sum": "Sum", "max": "Max", "min": "Min", "prod": "Prod", "norm": "L2",
          "logsumexp": "LogSumExp"}  # fmt: skip
#: what an invalid step counts as
_NEUTRAL = {"sum": 0.0, "prod": 1.0, "norm": 0.0, "any": 0.0, "all": 1.0}


def reduce(call: Call) -> None:
    nodes, x, mode = call.nodes, call.input(), call.text("mode")
    axis = 1 + call.whole("axis")
    keepdims = len(call.output().shape) == len(call.value().shape)
    correction = call.number("correction")
    mask = call.mask()
    valid = None
    if mask is not None:
        valid = nodes.unsqueeze(mask, *range(2, len(call.value().shape) + 1))
    if mode in ("argmax", "argmin"):
        places = nodes.op("ArgMax" if mode == "argmax" else "ArgMin", x, axis=axis, keepdims=int(keepdims))
        call.give(nodes.cast(places))
        return
    if mode in ("any", "all"):
        x = nodes.cast(nodes.is_true(x))
    if mode in ("mean", "var"):
        call.give(_mean_or_variance(call, x, axis, valid, correction, keepdims))
        return
    if valid is not None:
        if mode not in _NEUTRAL:
            raise call.refuse(f"option mode={mode!r} with a mask has no form there")
        x = nodes.op("Where", valid, x, nodes.number(_NEUTRAL[mode]))
    name = {"any": "Max", "all": "Min"}.get(mode) or _MODES.get(mode)
    if name is None:
        raise call.refuse(f"option mode={mode!r} has no form there")
    call.give(nodes.reduce(name, x, axis, keepdims=keepdims))


def _mean_or_variance(call: Call, x: str, axis: int, valid: str | None, correction: float, keepdims: bool) -> str:
    nodes, mode = call.nodes, call.text("mode")
    if valid is None:
        if mode == "mean":
            return nodes.reduce("Mean", x, axis, keepdims=keepdims)
        count = nodes.cast(nodes.size(x, axis))
        mean = nodes.reduce("Mean", x, axis)
    else:
        nought = nodes.number(0)
        count = nodes.reduce("Sum", nodes.cast(valid), axis)
        mean = nodes.op("Div", nodes.reduce("Sum", nodes.op("Where", valid, x, nought), axis), count)
    found = mean
    if mode == "var":
        apart = nodes.op("Sub", x, mean)
        squares = nodes.op("Mul", apart, apart)
        if valid is not None:
            squares = nodes.op("Where", valid, squares, nodes.number(0))
        divisor = nodes.op("Max", nodes.op("Sub", count, nodes.number(correction)), nodes.number(0))
        found = nodes.op("Div", nodes.reduce("Sum", squares, axis), divisor)
    return found if keepdims else nodes.squeeze(found, axis)


def softmax(call: Call) -> None:
    kind = "LogSoftmax" if call.flag("log") else "Softmax"
    call.give(call.nodes.op(kind, call.input(), axis=1 + call.whole("axis")))


def cumulate(call: Call) -> None:
    nodes, x, mode = call.nodes, call.input(), call.text("mode")
    axis, exclusive, reverse = 1 + call.whole("axis"), call.flag("exclusive"), call.flag("reverse")
    call.ignore("size")
    if mode == "sum":
        call.give(nodes.op("CumSum", x, nodes.whole(axis), exclusive=int(exclusive), reverse=int(reverse)))
        return
    kinds = {"prod": ("Mul", 1.0), "max": ("Max", float("-inf")), "min": ("Min", float("inf"))}
    if mode not in kinds:
        raise call.refuse(f"option mode={mode!r} has no form there")
    kind, first = kinds[mode]
    like = nodes.squeeze(nodes.slice(x, axis, 0, 1), axis)
    start = nodes.op("Expand", nodes.number(first), nodes.op("Shape", like))

    def step(states: list[str], xs: list[str]) -> tuple[list[str], list[str]]:
        after = nodes.op(kind, states[0], xs[0])
        return [after], [states[0] if exclusive else after]

    shape = ["batch", *call.value().shape]
    del shape[axis]
    _, (y,) = nodes.scan([start], [(x, nodes.dtype.name)], step, [shape, shape], axis=axis, reverse=reverse)
    call.give(y)


def dense(call: Call) -> None:
    nodes = call.nodes
    y = nodes.op("MatMul", call.input(), nodes.weight(call.weight("weight").T))
    if call.has_weight("bias"):
        y = nodes.op("Add", y, nodes.weight(call.weight("bias"), "bias"))
    call.give(activate(nodes, y, call.activation("activation")))


def matmul(call: Call) -> None:
    nodes = call.nodes
    call.ignore("over_time")
    rank = max(len(call.value(role).shape) for role in ("x", "x1"))
    sides = []
    for role in ("x", "x1"):
        side = lined_up(nodes, call.input(role), call.value(role), rank)
        swapped = [*range(rank - 1), rank, rank - 1]
        sides.append(nodes.transpose(side, swapped) if call.flag(f"transpose_{role}") else side)
    call.give(nodes.op("MatMul", *sides))


def dot(call: Call) -> None:
    nodes, normalize = call.nodes, call.flag("normalize")
    sides = []
    for role in ("x", "x1"):
        side = call.input(role)
        if normalize:
            square = nodes.reduce("Sum", nodes.op("Mul", side, side), -1)
            length = nodes.op("Sqrt", nodes.op("Max", square, nodes.number(1e-12)))
            side = nodes.op("Div", side, length)
        sides.append(side if call.value(role).has_time else nodes.unsqueeze(side, 1))
    y = nodes.op("MatMul", sides[0], nodes.transpose(sides[1], [0, 2, 1]))
    call.give(y if call.value().has_time else nodes.squeeze(y, 1))
