"""A function of one number as a layer."""

from __future__ import annotations

from cylstm.errors import UnsupportedError
from cylstm.graph.functions import FUNCTIONS
from cylstm.graph.layers._layer import DATA, Inputs, LayerKind, Options, Outputs, Weights, check_kind, like


class FunctionLayer(LayerKind):
    """``y = f(x)``, element by element.

    Inputs: ``x`` (sequence, vector or state). Outputs: ``y``, a sequence or a vector. Options: ``function``, one of
    `cylstm.graph.functions.FUNCTIONS`, which has to be given.
    """

    name = "function"
    defaults = {"function": ""}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        check_kind(where, inputs["x"], DATA)
        if options["function"] not in FUNCTIONS:
            raise UnsupportedError(
                f"layer {where!r}: unknown function {options['function']!r}; known are {', '.join(sorted(FUNCTIONS))}"
            )
        return {"y": like(inputs["x"])}
