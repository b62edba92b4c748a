"""Windows along an axis, which convolution and pooling share."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.errors import UnsupportedError
from cylstm.graph.layers._axes import check_whole_number, derived_time
from cylstm.graph.layers._layer import LayerKind, Options, check_choice, check_kind
from cylstm.graph.values import Axis, Option, Value

WINDOW_DEFAULTS: dict[str, Option] = {"stride": 1, "dilation": 1, "padding": "valid", "pad_before": 0, "pad_after": 0}


class WindowLayer(LayerKind):
    """Windows over time, or over rows that may be the time.

    Options: ``stride``, ``dilation`` and ``padding``: "valid"; "same" (Keras: ceil(time / stride) steps, the odd step
    of padding behind); "causal" (padding in front only, for streams); "explicit" with ``pad_before`` and ``pad_after``
    (PyTorch's ``padding=n`` is n and n).

    Attributes
    ----------
    axis : str
        What the names of the options ``stride`` and ``dilation`` end in, where a kind has windows over several axes.
    """

    axis = ""

    def window(
        self, where: str, x: Value, kernel: int, options: Options, *, ceil_mode: bool = False
    ) -> tuple[int | None, Axis | None]:
        """``(steps, axis)`` of the output."""
        check_kind(where, x, ("sequence",))
        stride, dilation = (
            check_whole_number(where, options, name + self.axis, 1, 1 << 20) for name in ("stride", "dilation")
        )
        before, after = (check_whole_number(where, options, name, 0, 1 << 20) for name in ("pad_before", "pad_after"))
        padding = check_choice(where, options, "padding", ("valid", "same", "causal", "explicit"))
        if padding != "explicit" and (before or after):
            raise UnsupportedError(f"layer {where!r}: pad_before and pad_after contradict padding={padding!r}")
        reach = (kernel - 1) * dilation + 1
        if reach > 1 << 24:
            raise UnsupportedError(f"layer {where!r}: a window that reaches over {reach} steps is not supported")
        if ceil_mode:
            # a last window for the steps left over; it has to begin within x, whatever the number of steps
            size = x.shape[0]
            last = 0 if size is None else (size + before + after - reach + stride - 1) // stride * stride
            begins_within = stride <= reach - before if size is None else last - before < size
            if padding in ("same", "causal") or not begins_within:
                raise UnsupportedError(
                    f"layer {where!r}: ceil_mode with windows that may begin in the padding (stride {stride}, "
                    f"{before} steps of padding, a reach of {reach}) is not supported"
                )
            after += stride - 1
        if padding in ("same", "causal"):
            return derived_time(where, x, stride - 1, stride)
        return derived_time(where, x, before + after - reach + stride, stride)

    def reach(self, kernel: int, options: Mapping[str, Option]) -> int:
        """How many steps a window reaches over."""
        return (kernel - 1) * int(options[f"dilation{self.axis}"]) + 1

    def why_whole(self, reach: int, options: Mapping[str, Option]) -> str | None:
        """Why a sequence cannot come in pieces; None if it can."""
        padding, before = options["padding"], int(options["pad_before"])
        if padding == "same" and reach > int(options[f"stride{self.axis}"]):
            return 'padding="same" needs the steps after; padding="causal" does not'
        if options["pad_after"]:
            return 'padding at the end needs to know where the sequence ends; padding="causal" does not'
        if padding == "explicit" and before >= reach:
            return f"its first windows lie in the padding alone, {before} steps of it"
        return None

    def needs_multiple(self, options: Mapping[str, Option]) -> int:
        """A sequence of no multiple of the stride is padded, by its length."""
        return int(options[f"stride{self.axis}"]) if options["padding"] == "same" else 1
