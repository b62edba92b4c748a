"""Convolution over rows and columns."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.errors import ShapeError, UnsupportedError
from cylstm.graph.layers._axes import check_whole_number
from cylstm.graph.layers._layer import (
    DATA,
    Inputs,
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
from cylstm.graph.layers._window import WindowLayer
from cylstm.graph.values import Option, Value


class Conv2dLayer(WindowLayer):
    """``y[r, q] = activation(bias[f] + sum over i, j, c of weight[f, i, j, c] * x[row, column, c])``.

    With row ``r*stride_rows + i*dilation_rows - pad_before`` and column ``q*stride_columns + j*dilation_columns -
    pad_left``, and zeros outside of x. Channels last. In ``groups``, of which each reads its share of the channels; a
    group of one channel is a depthwise convolution (Keras: filters in the order channel, multiplier).

    Weights: ``weight`` (filters, kernel_rows, kernel_columns, channels/groups), optional ``bias`` (filters,).
    Inputs: ``x``, a sequence of (rows, columns, channels), whose time is the rows; or one of (time, rows, columns,
    channels), or a value (rows, columns, channels) without time: then each step is an image of its own.
    Outputs: ``y``; where the rows are the time, without mask.

    Options: ``padding``, ``pad_before`` and ``pad_after`` of the rows, as those of `WindowLayer`; ``pad_left`` and
    ``pad_right`` of the columns, which padding "same" fills in (Keras: the odd column on the right); ``stride_rows``,
    ``stride_columns``, ``dilation_rows``, ``dilation_columns``, ``groups``, ``activation``. ``reach`` (of the rows),
    ``input_columns`` and ``is_framed`` (the rows are not the time) are filled in. With padding "causal" and rows that
    are the time, the layer carries (reach - 1, columns, channels) rows of history.
    """

    name = "conv2d"
    axis = "_rows"
    weights = ("weight",)
    matrices = ("weight",)
    optional_weights = ("bias",)
    defaults = {
        **{f"{what}_{axis}": 1 for what in ("stride", "dilation") for axis in ("rows", "columns")},
        "padding": "valid",
        **dict.fromkeys(("pad_before", "pad_after", "pad_left", "pad_right"), 0),
        "groups": 1,
        "reach": 1,
        "input_columns": 0,
        "is_framed": False,
        **activation_defaults(activation="linear"),
    }

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x, weight = inputs["x"], weights["weight"]
        check_activation(where, options, "activation")
        groups = check_whole_number(where, options, "groups", 1, 10**6)
        check_kind(where, x, DATA)
        is_framed = not (x.has_time and len(x.shape) == 3)
        if len(x.step_shape) != 2 + is_framed:
            raise ShapeError(
                f"layer {where!r}: expected (rows, columns, channels) or (time, rows, columns, channels), found "
                f"{x.shape}"
            )
        if x.features % groups or weight.ndim != 4 or not weight.size or weight.shape[0] % groups:
            raise ShapeError(
                f"layer {where!r}, tensor 'weight': expected shape (filters, kernel_rows, kernel_columns, "
                f"{x.features}/{groups}) with filters a multiple of {groups}, found {weight.shape}"
            )
        filters, kernel_rows, kernel_columns = weight.shape[:3]
        check_shape(where, "weight", weight, (filters, kernel_rows, kernel_columns, x.features // groups))
        check_vectors(where, weights, {"bias": filters})
        rows = Value(x.name, "sequence", x.step_shape) if is_framed else x
        steps, axis = self.window(where, rows, kernel_rows, options)
        columns = self.columns(where, x.step_shape[-2], kernel_columns, options)
        options["reach"] = self.reach(kernel_rows, options)
        options["input_columns"] = x.step_shape[-2]
        options["is_framed"] = is_framed
        if is_framed:
            shape = (steps, columns, filters)
            return {"y": like(x, (x.shape[0], *shape) if x.has_time else shape)}
        return {"y": Value("", "sequence", (steps, columns, filters), None, axis)}

    @staticmethod
    def columns(where: str, size: int, kernel: int, options: Options) -> int:
        """Columns of the output; fills in the padding of the columns that "same" has."""
        stride, dilation = (
            check_whole_number(where, options, f"{name}_columns", 1, 1 << 20) for name in ("stride", "dilation")
        )
        left, right = (check_whole_number(where, options, name, 0, 1 << 20) for name in ("pad_left", "pad_right"))
        reach = (kernel - 1) * dilation + 1
        if reach > 1 << 24:
            raise UnsupportedError(f"layer {where!r}: a window that reaches over {reach} columns is not supported")
        if options["padding"] == "same":
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            same = total // 2, total - total // 2
            if (left, right) not in ((0, 0), same):
                raise UnsupportedError(
                    f"layer {where!r}: pad_left and pad_right contradict padding='same', which has {same} of them"
                )
            options["pad_left"], options["pad_right"] = left, right = same
        if left + size + right < reach:
            raise ShapeError(f"layer {where!r}: a kernel that reaches over {reach} columns does not fit {size}")
        return (left + size + right - reach) // stride + 1

    def state(self, weights: Weights, options: Mapping[str, Option]) -> States:
        if options["padding"] != "causal" or options["reach"] == 1 or options["is_framed"]:
            return ()
        channels = weights["weight"].shape[3] * int(options["groups"])
        return (("history", (int(options["reach"]) - 1, int(options["input_columns"]), channels)),)

    def streams(self, options: Mapping[str, Option]) -> str | None:
        return None if options["is_framed"] else self.why_whole(int(options["reach"]), options)

    def needs_multiple(self, options: Mapping[str, Option]) -> int:
        return 1 if options["is_framed"] or options["reach"] == 1 else super().needs_multiple(options)
