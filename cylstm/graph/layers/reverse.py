"""A sequence backwards in time."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.graph.layers._layer import Inputs, LayerKind, Options, Outputs, Weights, check_kind, like
from cylstm.graph.values import Option


class ReverseLayer(LayerKind):
    """``y[t] = x[time - 1 - t]``, the order in which Keras's ``go_backwards`` leaves a sequence.

    Inputs: ``x`` (sequence). Outputs: ``y`` (sequence), with the mask of x, which is not reversed (as in Keras).
    """

    name = "reverse"

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        check_kind(where, inputs["x"], ("sequence",))
        return {"y": like(inputs["x"])}

    def streams(self, options: Mapping[str, Option]) -> str | None:
        return "reversed time needs the end of the sequence"
