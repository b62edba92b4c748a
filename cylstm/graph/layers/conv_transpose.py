"""Transposed convolution in one or two dimensions."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.errors import ShapeError, UnsupportedError
from cylstm.graph.layers._axes import check_whole_number, derived_time
from cylstm.graph.layers._layer import (
    Inputs,
    LayerKind,
    Options,
    Outputs,
    States,
    Weights,
    activation_defaults,
    check_activation,
    check_kind,
    check_shape,
    check_vectors,
    like,
)
from cylstm.graph.values import Axis, Option, Value

#: the options of each axis: stride, dilation, what is cut off before and after, what is added behind
_NAMES = (
    ("stride_rows", "dilation_rows", "crop_before", "crop_after", "output_padding_rows"),
    ("stride_columns", "dilation_columns", "crop_left", "crop_right", "output_padding_columns"),
)


class ConvTransposeLayer(LayerKind):
    """``y[o] = activation(bias + sum over t, k, c of weight[f, k, c] * x[t, c])``, of those steps t and taps k for
    which ``t*stride + k*dilation - crop_before`` is o.

    Channels last, in ``groups``, of which each reads its share of the channels. There are ``(time - 1)*stride +
    (kernel - 1)*dilation + 1 + output_padding - crop_before - crop_after`` steps: what PyTorch's padding and Keras's
    "same" take away is cut off. In two dimensions the same holds for rows and columns.

    Weights: ``weight`` (filters, kernel, channels/groups), or (filters, kernel_rows, kernel_columns, channels/groups);
    optional ``bias`` (filters,).
    Inputs: ``x``, (time, channels) or (rows, columns, channels), of which the first axis may be a time of any length;
    or with frames in front of these, each computed for itself. Outputs: ``y``, without mask unless there are frames.
    Options: ``stride_rows``, ``dilation_rows``, ``crop_before``, ``crop_after``, ``output_padding_rows`` of the time or
    the rows, ``stride_columns``, ``dilation_columns``, ``crop_left``, ``crop_right``, ``output_padding_columns`` of the
    columns; ``groups``, ``activation``. Filled in: ``reach``, (kernel - 1)*dilation + 1 of the first of these axes, 0
    behind frames; ``history``, the steps before that a step's outputs need, where a sequence may come in pieces; and
    ``input_columns`` of these (0 in one dimension).
    """

    name = "conv_transpose"
    weights = ("weight",)
    matrices = ("weight",)
    optional_weights = ("bias",)
    defaults = {
        **{name: 1 if at < 2 else 0 for names in _NAMES for at, name in enumerate(names)},
        "groups": 1,
        **dict.fromkeys(("reach", "history", "input_columns"), 0),
        **activation_defaults(activation="linear"),
    }

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x, weight = inputs["x"], weights["weight"]
        check_activation(where, options, "activation")
        groups = check_whole_number(where, options, "groups", 1, 10**6)
        check_kind(where, x, ("sequence",))
        if weight.ndim not in (3, 4) or not weight.size or weight.shape[0] % groups or x.features % groups:
            raise ShapeError(
                f"layer {where!r}, tensor 'weight': expected shape (filters, kernel, {x.features}/{groups}) or "
                f"(filters, kernel_rows, kernel_columns, {x.features}/{groups}) with filters a multiple of {groups}, "
                f"found {weight.shape}"
            )
        filters, *kernel = weight.shape[:-1]
        check_shape(where, "weight", weight, (filters, *kernel, x.features // groups))
        check_vectors(where, weights, {"bias": filters})
        if len(x.shape) not in (len(kernel) + 1, len(kernel) + 2):
            raise ShapeError(
                f"layer {where!r}: expected {'(time, channels)' if len(kernel) == 1 else '(rows, columns, channels)'} "
                f"or such with frames in front, found {x.shape}"
            )
        self._check_options(where, kernel, options)
        frames = x.shape[: len(x.shape) - len(kernel) - 1]
        sizes = x.shape[len(frames) : -1]
        options["history"] = 0
        options["reach"] = 0 if frames else (kernel[0] - 1) * int(options["dilation_rows"]) + 1
        options["input_columns"] = int(sizes[1] or 0) if len(kernel) == 2 else 0
        found: list[int | None] = []
        axis: Axis | None = None
        for names, size, taps in zip(_NAMES, sizes, kernel):
            if size is None:
                steps, axis = self._time(where, x, names, taps, options)
            else:
                steps = size * int(options[names[0]]) + _excess(names, taps, options)
                if steps < 1:
                    raise ShapeError(f"layer {where!r}: nothing is left of {x.shape} by {dict(options)}")
            found.append(steps)
        shape = (*frames, *found, filters)
        return {"y": like(x, shape) if frames else Value("", "sequence", shape, None, axis)}

    @staticmethod
    def _check_options(where: str, kernel: list[int], options: Options) -> None:
        for i, names in enumerate(_NAMES):
            for at, name in enumerate(names):
                number = check_whole_number(where, options, name, 1 if at < 2 else 0, 1 << 20)
                if i >= len(kernel) and number != (1 if at < 2 else 0):
                    raise UnsupportedError(f"layer {where!r}: option {name} is of columns, of which x has none")
        for names, taps in zip(_NAMES, kernel):
            reach = taps * int(options[names[1]])
            if reach > 1 << 24:
                raise UnsupportedError(f"layer {where!r}: a kernel that reaches over {reach} steps is not supported")

    @staticmethod
    def _time(
        where: str, x: Value, names: tuple[str, ...], taps: int, options: Options
    ) -> tuple[int | None, Axis | None]:
        """Steps and axis of the output for a time of any length, and ``history`` where it may come in pieces."""
        stride, more = int(options[names[0]]), _excess(names, taps, options)
        if more == 0 and not options[names[2]]:
            options["history"] = (taps - 1) * int(options[names[1]]) // stride
        if more % stride == 0:
            return derived_time(where, x, more // stride, 1, stride)
        _, axis = derived_time(where, x, 0, 1, stride)
        return None, None if axis is None else axis.after(more, 1, 1)

    def state(self, weights: Weights, options: Mapping[str, Option]) -> States:
        if not options["history"]:
            return ()
        columns = (int(options["input_columns"]),) if options["input_columns"] else ()
        channels = weights["weight"].shape[-1] * int(options["groups"])
        return (("history", (int(options["history"]), *columns, channels)),)

    def streams(self, options: Mapping[str, Option]) -> str | None:
        stride, reach = int(options["stride_rows"]), int(options["reach"])
        if not reach:
            return None
        if options["crop_before"]:
            return (
                f"it cuts off {options['crop_before']} of its first steps, so that the last ones of a piece need the "
                "piece after; what is cut off at the end only does not"
            )
        more = reach - stride + int(options["output_padding_rows"]) - int(options["crop_after"])
        if more:
            return (
                f"a sequence gives {stride} steps for each of its own and {more} besides at the end; a piece can give "
                f"{stride} for each (crop_after={reach - stride} without output padding)"
            )
        return None


def _excess(names: tuple[str, ...], taps: int, options: Mapping[str, Option]) -> int:
    """How many more outputs there are than ``size * stride``."""
    stride, dilation, before, after, more = (int(options[name]) for name in names)
    return (taps - 1) * dilation + 1 - stride + more - before - after
