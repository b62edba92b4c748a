"""Pooling along one axis."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.errors import UnsupportedError
from cylstm.graph.layers._axes import check_whole_number, find_axis
from cylstm.graph.layers._layer import Inputs, Options, Outputs, Weights, check_choice, check_kind, like
from cylstm.graph.layers._window import WINDOW_DEFAULTS, WindowLayer
from cylstm.graph.values import Option, Value


class Pool1dLayer(WindowLayer):
    """The maximum or the average of windows of time, or of another axis.

    Inputs: ``x`` (sequence). Outputs: ``y``, without mask unless the time stays. Options: those of `WindowLayer` but
    "causal"; ``mode`` "max" or "average"; ``pool``, the steps of a window; ``count_include_pad``: an average counts the
    padding (PyTorch's default; Keras does not); ``ceil_mode``: a last window that is not full (PyTorch), which has to
    begin within x; ``axis`` (batch not counted). Pooling of images is one layer for each axis. With ``dilation`` a
    window may lie in the padding alone: its maximum is -infinity, as PyTorch's, its average 0, or NaN if the padding
    does not count.
    """

    name = "pool1d"
    defaults = {**WINDOW_DEFAULTS, "mode": "max", "pool": 2, "count_include_pad": False, "ceil_mode": False, "axis": 0}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["x"]
        check_kind(where, x, ("sequence",))
        check_choice(where, options, "mode", ("max", "average"))
        pool = check_whole_number(where, options, "pool", 1, 10**6)
        if options["padding"] == "causal":
            raise UnsupportedError(f"layer {where!r}: pooling has no padding='causal'")
        place = options["axis"] = find_axis(where, x, options["axis"])
        line = x if place == 0 else Value(x.name, "sequence", (x.shape[place], 1))
        steps, axis = self.window(where, line, pool, options, ceil_mode=bool(options["ceil_mode"]))
        half = self.reach(pool, options) // 2
        if int(options["pad_before"]) > half or int(options["pad_after"]) > half:
            raise UnsupportedError(f"layer {where!r}: padding of more than half the window ({half}) is not supported")
        shape = (*x.shape[:place], steps, *x.shape[place + 1 :])
        return {"y": Value("", "sequence", shape, None, axis) if place == 0 else like(x, shape)}

    def streams(self, options: Mapping[str, Option]) -> str | None:
        if options["axis"] != 0:
            return None
        reach = self.reach(int(options["pool"]), options)
        if options["ceil_mode"] and reach > int(options["stride"]) > 1:
            return "ceil_mode adds a window at the end"
        if options["pad_before"]:
            return "its first window lies in the padding in part"
        return self.why_whole(reach, options)

    def needs_multiple(self, options: Mapping[str, Option]) -> int:
        if options["axis"] != 0 or self.reach(int(options["pool"]), options) == 1:
            return 1
        return int(options["stride"]) if options["ceil_mode"] else super().needs_multiple(options)
