"""Layers about steps that are valid and those that are not."""

from __future__ import annotations

from cylstm.formats.onnx.export.call import Call, Mask


def masking(call: Call) -> None:
    nodes, x, rank = call.nodes, call.input(), len(call.value().shape)
    differs = nodes.op("Not", nodes.op("Equal", x, nodes.number(call.number("mask_value"))))
    step = nodes.cast(nodes.reduce("Max", nodes.cast(differs, "int32"), *range(2, rank + 1)), "bool")
    call.give(nodes.op("Where", step, x, nodes.number(0)))
    call.give_mask(Mask(nodes.squeeze(step, *range(2, rank + 1)), x))


def index_mask(call: Call) -> None:
    nodes, indices = call.nodes, call.input("indices")
    call.give_mask(Mask(nodes.op("Not", nodes.op("Equal", indices, nodes.ints(call.whole("padding")))), indices))


def mask_merge(call: Call) -> None:
    nodes, mode, masks = call.nodes, call.text("mode"), call.masks()
    names = [mask.name for mask in masks if mask.name is not None]
    if not names or (mode == "any" and len(names) < len(masks)):
        call.give_mask(Mask(None, masks[0].like))
        return
    found = names[0]
    for name in names[1:]:
        found = nodes.op("Or" if mode == "any" else "And", found, name)
    call.give_mask(Mask(found, masks[0].like))


def mask_fill(call: Call) -> None:
    nodes, mask, x = call.nodes, call.mask(), call.input()
    rank = len(call.output().shape)
    value = call.number("value")
    sides = [x]
    if call.has_input("x1"):
        other, is_single = call.input("x1"), call.value("x1").size == 1
        if not call.value("x1").has_time:
            other = nodes.unsqueeze(other, 1)
        sides.append(nodes.reshape(other, 0, 0, *[1] * (rank - 1)) if is_single else other)
    else:
        sides.append(nodes.number(value))
    if call.value().size == 1:
        sides[0] = nodes.reshape(x, 0, 0, *[1] * (rank - 1))
    if mask is None:
        call.give(nodes.expand(sides[0], 1, 1, *call.output().step_shape))
        return
    call.give(nodes.op("Where", nodes.unsqueeze(mask, *range(2, rank + 1)), *sides))


def mask_numbers(call: Call) -> None:
    nodes, mask = call.nodes, call.mask_as_given("mask")
    if mask.name is None:
        call.give(nodes.expand(nodes.number(1), nodes.size(mask.like, 0), nodes.size(mask.like, 1), 1))
        return
    call.give(nodes.unsqueeze(nodes.cast(mask.name), 2))


def number_mask(call: Call) -> None:
    x = call.input()
    call.give_mask(Mask(call.nodes.is_true(call.nodes.squeeze(x, 2)), x))


def last(call: Call) -> None:
    """The last valid step of each row, found by its place; zeros where there is none."""
    nodes, x, mask = call.nodes, call.input(), call.mask()
    if mask is None:
        call.give(nodes.squeeze(nodes.slice(x, 1, -1), 1))
        return
    places = nodes.unsqueeze(nodes.count_up(nodes.size(x, 1)), 0)
    place = nodes.reduce("Max", nodes.op("Where", mask, places, nodes.ints(-1)), 1)
    y = nodes.add("GatherND", [x, nodes.op("Max", place, nodes.ints(0))], 1, batch_dims=1)[0]
    rank = len(call.output().shape)
    is_there = nodes.op("GreaterOrEqual", nodes.reshape(place, 0, *[1] * rank), nodes.ints(0))
    call.give(nodes.op("Where", is_there, y, nodes.number(0)))
