"""Convolution and pooling over time."""

from __future__ import annotations

from cylstm.errors import ShapeError, UnsupportedError
from cylstm.graph.graph import Value
from cylstm.graph.layers._axes import check_steps, check_whole_number, derived_time
from cylstm.graph.layers._layer import (
    LayerKind,
    check_activation,
    check_choice,
    check_roles,
    check_shape,
    check_vectors,
)

WINDOW_DEFAULTS = {"stride": 1, "dilation": 1, "padding": "valid", "pad_before": 0, "pad_after": 0}


class WindowLayer(LayerKind):
    """Windows over time.

    Options: ``stride``, ``dilation`` and ``padding``: "valid"; "same" (Keras: ceil(time / stride) steps, the odd step
    of padding behind); "causal" (padding in front only, for streams); "explicit" with ``pad_before`` and ``pad_after``
    (PyTorch's ``padding=n`` is n and n).
    """

    def window(self, where: str, x: Value, kernel: int, options, *, ceil_mode: bool = False):
        """``(steps, axis)`` of the output."""
        check_steps(where, x)
        stride, dilation = (check_whole_number(where, options, name, 1, 1 << 20) for name in ("stride", "dilation"))
        before, after = (check_whole_number(where, options, name, 0, 1 << 20) for name in ("pad_before", "pad_after"))
        padding = options["padding"]
        check_choice(where, options, "padding", ("valid", "same", "causal", "explicit"))
        if padding != "explicit" and (before or after):
            raise UnsupportedError(f"layer {where!r}: pad_before and pad_after contradict padding={padding!r}")
        reach = (kernel - 1) * dilation + 1
        if reach > 1 << 24:
            raise UnsupportedError(f"layer {where!r}: a window that reaches over {reach} steps is not supported")
        if ceil_mode:
            if padding in ("same", "causal") or stride > reach - before:
                raise UnsupportedError(
                    f"layer {where!r}: ceil_mode with windows that may begin in the padding (stride {stride}, "
                    f"{before} steps of padding, a reach of {reach}) is not supported"
                )
            after += stride - 1
        if padding in ("same", "causal"):
            return derived_time(where, x, stride - 1, stride)
        return derived_time(where, x, before + after - reach + stride, stride)

    def reach(self, kernel: int, options) -> int:
        return (kernel - 1) * options["dilation"] + 1

    def why_whole(self, reach: int | None, options) -> str | None:
        """Why a sequence cannot come in pieces."""
        if options["padding"] == "causal":
            return None
        if options["padding"] == "valid" or (
            options["padding"] == "explicit" and not options["pad_before"] and not options["pad_after"]
        ):
            if reach <= options["stride"]:
                return None
            return (
                f"its windows reach over {reach} steps with a stride of {options['stride']}; "
                'padding="causal" carries the steps before'
            )
        if options["padding"] == "same" and reach == 1:
            return None
        return f'padding={options["padding"]!r} needs the steps after; padding="causal" does not'


class Conv1dLayer(WindowLayer):
    """``y[t] = activation(bias + sum over k, c of weight[f, k, c] * x[t*stride + k*dilation - before, c])``.

    Channels last. In ``groups``, of which each reads its share of the channels; a group of one channel is a depthwise
    convolution (Keras: filters in the order channel, multiplier).

    Weights: ``weight`` (filters, kernel, channels/groups), optional ``bias`` (filters,).
    Inputs: ``x`` (sequence of (time, channels)). Outputs: ``y``, without mask.
    Options: those of `WindowLayer`, ``groups``, ``activation``; ``reach``, filled in. With padding "causal" the layer
    carries (reach - 1, channels) steps of history.
    """

    name = "conv1d"
    defaults = {
        **WINDOW_DEFAULTS,
        "groups": 1,
        "reach": 1,
        "activation": "linear",
        "activation_alpha": 0.0,
        "activation_beta": 0.0,
    }

    def infer(self, where, inputs, weights, options):
        check_roles(where, inputs, ("x",), (), "inputs")
        check_roles(where, weights, ("weight",), ("bias",), "weights")
        x, weight = inputs["x"], weights["weight"]
        check_activation(where, options, "activation")
        groups = check_whole_number(where, options, "groups", 1, 10**6)
        check_steps(where, x)
        if len(x.shape) != 2:
            raise ShapeError(f"layer {where!r}: expected (time, channels), found {x.shape}")
        if x.features % groups or weight.ndim != 3 or not weight.size or weight.shape[0] % groups:
            raise ShapeError(
                f"layer {where!r}, tensor 'weight': expected shape (filters, kernel, {x.features}/{groups}) with "
                f"filters a multiple of {groups}, found {weight.shape}"
            )
        filters, kernel = weight.shape[:2]
        check_shape(where, "weight", weight, (filters, kernel, x.features // groups))
        check_vectors(where, weights, {"bias": filters})
        steps, axis = self.window(where, x, kernel, options)
        options["reach"] = self.reach(kernel, options)
        return {"y": Value("", "sequence", (steps, filters), None, axis)}

    def state(self, weights, options):
        if options["padding"] != "causal" or options["reach"] == 1:
            return ()
        channels = weights["weight"].shape[2] * options["groups"]
        return (("history", (options["reach"] - 1, channels)),)

    def streams(self, options):
        return self.why_whole(options["reach"], options)


class Pool1dLayer(WindowLayer):
    """The maximum or the average of windows of time.

    Inputs: ``x`` (sequence). Outputs: ``y``, without mask. Options: those of `WindowLayer` but "causal"; ``mode`` "max"
    or "average"; ``pool``, the steps of a window; ``count_include_pad``: an average counts the padding (PyTorch's
    default; Keras does not); ``ceil_mode``: a last window that is not full (PyTorch).
    """

    name = "pool1d"
    defaults = {**WINDOW_DEFAULTS, "mode": "max", "pool": 2, "count_include_pad": False, "ceil_mode": False}

    def infer(self, where, inputs, weights, options):
        check_roles(where, inputs, ("x",), (), "inputs")
        check_roles(where, weights, (), (), "weights")
        x = inputs["x"]
        check_choice(where, options, "mode", ("max", "average"))
        pool = check_whole_number(where, options, "pool", 1, 10**6)
        if options["padding"] == "causal":
            raise UnsupportedError(f"layer {where!r}: pooling has no padding='causal'")
        steps, axis = self.window(where, x, pool, options, ceil_mode=bool(options["ceil_mode"]))
        half = self.reach(pool, options) // 2
        if options["pad_before"] > half or options["pad_after"] > half:
            raise UnsupportedError(f"layer {where!r}: padding of more than half the window ({half}) is not supported")
        return {"y": Value("", "sequence", (steps, *x.shape[1:]), None, axis)}

    def streams(self, options):
        if options["ceil_mode"] and options["stride"] > 1:
            return "ceil_mode adds a window at the end"
        return self.why_whole(self.reach(options["pool"], options), options)
