"""A sequence backwards in time."""

from __future__ import annotations

from cylstm.graph.graph import Value
from cylstm.graph.layers._layer import LayerKind, check_kind, check_roles


class ReverseLayer(LayerKind):
    """``y[t] = x[time - 1 - t]``, what Keras's ``go_backwards`` leaves a sequence in.

    Inputs: ``x`` (sequence). Outputs: ``y`` (sequence), with the mask of x as it is, as Keras has it.
    """

    name = "reverse"

    def infer(self, where, inputs, weights, options):
        check_roles(where, inputs, ("x",), (), "inputs")
        check_roles(where, weights, (), (), "weights")
        check_kind(where, inputs["x"], ("sequence",))
        return {"y": Value("", "sequence", inputs["x"].shape, inputs["x"].mask, inputs["x"].axis)}

    def streams(self, options):
        return "reversed time needs the end of the sequence"
