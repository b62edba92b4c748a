"""Layers that only move numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress

from cylstm.errors import ShapeError, UnsupportedError
from cylstm.graph.layers._axes import check_whole_number, derived_time, find_axis, kind_of, need_shape
from cylstm.graph.layers._layer import (
    DATA,
    Inputs,
    LayerKind,
    Options,
    Outputs,
    Weights,
    check_choice,
    check_kind,
    like,
)
from cylstm.graph.values import MAX_RANK, Axis, Option, Value


def _along(x: Value, axis: int, shape: list[int | None], time: Axis | None) -> Value:
    """A result whose `shape` differs from that of `x` along `axis`; if that is the time, `time` is its own."""
    if x.has_time and axis == 0:
        return Value("", "sequence", tuple(shape), None, time)
    return like(x, tuple(shape))


class ReshapeLayer(LayerKind):
    """The same numbers, in the same order, in another shape.

    Inputs: ``x`` (sequence, vector or state). Outputs: ``y``; of several axes the first is its time. Option ``shape``:
    sizes separated by commas, batch not counted, "-1" for the one that follows from the others, and "time" first for
    one that keeps the time and reshapes each step ("time,4,-1"), or "time*3" for one that makes three steps of each;
    any other needs the steps in advance. Flatten is "-1".
    """

    name = "reshape"
    defaults = {"shape": "-1"}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["x"]
        check_kind(where, x, DATA)
        text = options["shape"]
        sizes = text.split(",") if isinstance(text, str) else []
        keeps_time = sizes[:1] == ["time"]
        if sizes and sizes[0].startswith("time*"):
            return {"y": self._steps_divided(where, x, str(text), sizes)}
        if keeps_time and not x.has_time:
            raise ShapeError(f"layer {where!r}: shape {text!r} keeps a time that {x.name!r} of {x.shape} has not")
        given = x.step_shape if keeps_time else need_shape(where, x, "a reshape over time")
        target: list[int] = []
        with suppress(ValueError):
            target = [int(size) for size in (sizes[1:] if keeps_time else sizes)]
        if not target or len(target) + keeps_time > MAX_RANK or any(size < 1 and size != -1 for size in target):
            raise UnsupportedError(f"layer {where!r}: option shape expected sizes such as '4,-1', found {text!r}")
        total, known = math.prod(given), math.prod(size for size in target if size != -1)
        if target.count(-1) == 1 and total % known == 0:
            target[target.index(-1)] = total // known
        if -1 in target or math.prod(target) != total:
            raise ShapeError(f"layer {where!r}: {given} of {x.name!r} cannot be reshaped to {text!r}")
        if keeps_time:
            return {"y": like(x, (x.shape[0], *target))}
        return {"y": Value("", kind_of(target), tuple(target))}

    @staticmethod
    def _steps_divided(where: str, x: Value, text: str, sizes: list[str]) -> Value:
        """The result of "time*n,...", of n steps for each of x."""
        if not x.has_time:
            raise ShapeError(
                f"layer {where!r}: shape {text!r} divides the steps of {x.name!r} of {x.shape}: it has none"
            )
        count, target = 0, []
        with suppress(ValueError):
            count, target = int(sizes[0][len("time*") :]), [int(size) for size in sizes[1:]]
        if not 0 < count <= 1 << 24 or not target or len(target) >= MAX_RANK or min(target) < 1:
            raise UnsupportedError(f"layer {where!r}: option shape expected one such as 'time*3,4', found {text!r}")
        if count * math.prod(target) != x.size:
            raise ShapeError(f"layer {where!r}: a step {x.step_shape} of {x.name!r} cannot be reshaped to {text!r}")
        steps, time = derived_time(where, x, 0, 1, count)
        return Value("", "sequence", (steps, *target), None, time)


class PermuteLayer(LayerKind):
    """The axes in another order: axis i of y is axis ``order[i]`` of x, batch not counted.

    Inputs: ``x`` of several axes. Outputs: ``y``. Option ``order``: digits from 0, "102". Moving the time needs the
    steps in advance.
    """

    name = "permute"
    defaults = {"order": "0"}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["x"]
        check_kind(where, x, DATA)
        order = options["order"]
        if not isinstance(order, str) or sorted(order) != [str(i) for i in range(len(x.shape))]:
            raise ShapeError(
                f"layer {where!r}: option order expected each axis of {x.shape} once, such as "
                f"{''.join(map(str, reversed(range(len(x.shape)))))!r}, found {order!r}"
            )
        moves_time = x.has_time and order[0] != "0"
        if moves_time:
            need_shape(where, x, "moving the time axis")
        shape = tuple(x.shape[int(i)] for i in order)
        return {"y": Value("", kind_of(shape), shape) if moves_time else like(x, shape)}


class SliceLayer(LayerKind):
    """A part of one axis: steps, features, a split, a chunk, cropping.

    Inputs: ``x``. Outputs: ``y``, of the same rank. Options: ``axis``, batch not counted; ``start`` (negative: from the
    end); ``step``; and ``count``, how many numbers, or 0 for all up to ``before_end`` numbers from the end (cropping is
    ``start=before, before_end=after``). A count along a time that is not known in advance is possible for the first
    (start 0) or last step (start -1, count 1).
    """

    name = "slice"
    defaults = {"axis": 0, "start": 0, "count": 0, "step": 1, "before_end": 0}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["x"]
        check_kind(where, x, DATA)
        axis = options["axis"] = find_axis(where, x, options["axis"])
        start = check_whole_number(where, options, "start", -(1 << 24))
        count = check_whole_number(where, options, "count", 0)
        step = check_whole_number(where, options, "step", 1)
        before_end = check_whole_number(where, options, "before_end", 0)
        if (count and before_end) or (not count and start < 0):
            raise UnsupportedError(
                f"layer {where!r}: a slice takes a count, or a start of at least 0 and before_end; "
                f"found {dict(options)}"
            )
        size, over_time = x.shape[axis], x.has_time and axis == 0
        shape, time = list(x.shape), None
        if count:
            first = start if start >= 0 or size is None else size + start
            if size is None and not (count == 1 and start in (0, -1)):
                need_shape(where, x, "a slice of a number of steps")
            elif size is not None and not (first >= 0 and first + (count - 1) * step < size):
                raise ShapeError(
                    f"layer {where!r}: {count} numbers from {start} on, {step} apart, are not in axis {axis} of "
                    f"{x.shape}"
                )
            shape[axis] = count
        elif over_time:
            shape[0], time = derived_time(where, x, step - 1 - start - before_end, step)
        else:
            left = ((size or 0) - start - before_end + step - 1) // step
            if left < 1:
                raise ShapeError(f"layer {where!r}: axis {axis} of {x.shape} has too few numbers for {dict(options)}")
            shape[axis] = left
        return {"y": _along(x, axis, shape, time)}

    def streams(self, options: Mapping[str, Option]) -> str | None:
        over_time = options["axis"] == 0 and options["count"]
        return "a part of the time needs to know where the sequence begins or ends" if over_time else None


class SliceLikeLayer(LayerKind):
    """The steps of a sequence from ``start`` on, as many as another sequence has: what a skip connection cuts off.

    Inputs: ``x`` (sequence) and ``x1`` (sequence), of which only the time is read; it must follow from the same input's
    as that of ``x`` and never be longer than what is left of it. Outputs: ``y``, without mask. Option ``start``.
    """

    name = "slice_like"
    inputs = ("x", "x1")
    defaults = {"start": 0}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x, other = inputs["x"], inputs["x1"]
        check_kind(where, x, ("sequence",))
        check_kind(where, other, ("sequence",))
        start = check_whole_number(where, options, "start", 0)
        lead: int | None = None
        if x.axis is not None and other.axis is not None:
            lead = x.axis.least_lead(other.axis)
        elif x.shape[0] is not None and other.shape[0] is not None:
            lead = x.shape[0] - other.shape[0]
        if lead is None or lead < start:
            raise ShapeError(
                f"layer {where!r}: {x.name!r} of {x.shape} may have fewer steps after the first {start} than "
                f"{other.name!r} of {other.shape}, as many as which it is to take"
            )
        return {"y": Value("", "sequence", (other.shape[0], *x.step_shape), None, other.axis)}


class PadLayer(LayerKind):
    """Numbers before and after one axis.

    Inputs: ``x``. Outputs: ``y``. Options: ``axis``, batch not counted; ``before``, ``after``; ``mode``: "zero",
    "replicate" (the number at the end), "reflect" (as in a mirror at it) or "circular", the last two over an axis whose
    size is known in advance.
    """

    name = "pad"
    defaults = {"axis": 0, "before": 0, "after": 0, "mode": "zero"}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["x"]
        check_kind(where, x, DATA)
        axis = options["axis"] = find_axis(where, x, options["axis"])
        check_choice(where, options, "mode", ("zero", "reflect", "replicate", "circular"))
        before, after = (check_whole_number(where, options, name, 0) for name in ("before", "after"))
        if options["mode"] in ("reflect", "circular"):
            size = need_shape(where, x, f"padding mode {options['mode']!r}")[0] if axis == 0 else x.shape[axis] or 0
            if max(before, after) > size - (options["mode"] == "reflect"):
                raise ShapeError(f"layer {where!r}: {before} and {after} numbers of padding are too many for {x.shape}")
        shape, time = list(x.shape), None
        if x.has_time and axis == 0:
            shape[0], time = derived_time(where, x, before + after)
        else:
            shape[axis] = (x.shape[axis] or 0) + before + after
        return {"y": _along(x, axis, shape, time)}

    def streams(self, options: Mapping[str, Option]) -> str | None:
        if options["axis"] != 0 or not (options["before"] or options["after"]):
            return None
        if options["after"] or options["mode"] != "zero":
            return "padding of the time needs to know where the sequence begins or ends"
        return (
            f"padding in front gives {options['before']} more steps than it takes, so that the last ones come when the "
            "sequence has ended; in front of a convolution that reaches over one step more it streams, as padding "
            '"causal"'
        )


class UpsampleLayer(LayerKind):
    """Each number of one axis repeated ``size`` times. Inputs: ``x``. Outputs: ``y``. Options: ``axis``, ``size``."""

    name = "upsample"
    defaults = {"axis": 0, "size": 2}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["x"]
        check_kind(where, x, DATA)
        axis = options["axis"] = find_axis(where, x, options["axis"])
        size = check_whole_number(where, options, "size", 1)
        shape, time = list(x.shape), None
        if x.has_time and axis == 0:
            shape[0], time = derived_time(where, x, 0, 1, size)
        else:
            shape[axis] = (x.shape[axis] or 0) * size
        return {"y": _along(x, axis, shape, time)}


class RepeatVectorLayer(LayerKind):
    """A vector as every step of a sequence of ``count`` steps. Inputs: ``x`` (vector or state). Outputs: ``y``."""

    name = "repeat_vector"
    defaults = {"count": 1}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["x"]
        check_kind(where, x, DATA)
        check_kind(where, x, ("vector", "state"))
        return {"y": Value("", "sequence", (check_whole_number(where, options, "count", 1), *x.shape))}
