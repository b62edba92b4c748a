"""Pooling over time."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.errors import UnsupportedError
from cylstm.graph.layers._axes import check_whole_number
from cylstm.graph.layers._layer import Inputs, Options, Outputs, Weights, check_choice
from cylstm.graph.layers._window import WINDOW_DEFAULTS, WindowLayer
from cylstm.graph.values import Option, Value


class Pool1dLayer(WindowLayer):
    """The maximum or the average of windows of time.

    Inputs: ``x`` (sequence). Outputs: ``y``, without mask. Options: those of `WindowLayer` but "causal"; ``mode`` "max"
    or "average"; ``pool``, the steps of a window; ``count_include_pad``: an average counts the padding (PyTorch's
    default; Keras does not); ``ceil_mode``: a last window that is not full (PyTorch).
    """

    name = "pool1d"
    defaults = {**WINDOW_DEFAULTS, "mode": "max", "pool": 2, "count_include_pad": False, "ceil_mode": False}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x = inputs["x"]
        check_choice(where, options, "mode", ("max", "average"))
        pool = check_whole_number(where, options, "pool", 1, 10**6)
        if options["padding"] == "causal":
            raise UnsupportedError(f"layer {where!r}: pooling has no padding='causal'")
        steps, axis = self.window(where, x, pool, options, ceil_mode=bool(options["ceil_mode"]))
        half = self.reach(pool, options) // 2
        if int(options["pad_before"]) > half or int(options["pad_after"]) > half:
            raise UnsupportedError(f"layer {where!r}: padding of more than half the window ({half}) is not supported")
        return {"y": Value("", "sequence", (steps, *x.shape[1:]), None, axis)}

    def streams(self, options: Mapping[str, Option]) -> str | None:
        if options["ceil_mode"] and int(options["stride"]) > 1:
            return "ceil_mode adds a window at the end"
        return self.why_whole(self.reach(int(options["pool"]), options), options)
