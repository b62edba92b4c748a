"""GRU: gated recurrent unit (Cho et al., 2014)."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.errors import ShapeError
from cylstm.graph.layers._layer import (
    RECURRENT_DEFAULTS,
    Inputs,
    Options,
    Outputs,
    RecurrentLayer,
    States,
    Weights,
    activation_defaults,
    check_recurrent_columns,
    check_shape,
    check_vectors,
    hidden_size,
    like,
)
from cylstm.graph.values import Option, Value


class GruLayer(RecurrentLayer):
    """One direction of one GRU layer; z multiplies the old state: ``h = z*h + (1 - z)*n``.

    Weights (gate blocks in the order r, z, n): ``weight_ih`` (3*hidden, input), ``weight_hh`` (3*hidden, hidden),
    optional ``bias_ih`` (3*hidden,) and ``bias_hh`` (3*hidden,), kept apart because r multiplies n's second one.

    Options beside those of `RecurrentLayer`: ``reset_after`` applies r after the recurrent product of n (PyTorch, Keras
    by default) or before it, and then there is no ``bias_hh``; ``activation`` of n, ``recurrent_activation`` of r and
    z; ``gate_clip`` limits every pre-activation to [-clip, clip], 0 for no limit.
    """

    name = "gru"
    gates = ("r", "z", "n")
    optional_weights = ("bias_ih", "bias_hh")
    slots = ("activation", "recurrent_activation")
    defaults = {
        **RECURRENT_DEFAULTS,
        **activation_defaults(activation="tanh", recurrent_activation="sigmoid"),
        "reset_after": True,
        "gate_clip": 0.0,
    }

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        hidden = hidden_size(where, weights, 3)
        self.check_call(where, inputs, options, {"h0": (hidden,)})
        x = inputs["x"]
        check_shape(where, "weight_ih", weights["weight_ih"], (3 * hidden, x.size))
        check_recurrent_columns(where, inputs, weights, 3 * hidden, hidden)
        check_vectors(where, weights, {"bias_ih": 3 * hidden, "bias_hh": 3 * hidden})
        if not options["reset_after"] and "bias_hh" in weights:
            raise ShapeError(f"layer {where!r}: a GRU with reset_after=False has no second bias, found 'bias_hh'")
        return {"y": like(x, (x.shape[0], hidden)), "h": Value("", "state", (hidden,))}

    def state(self, weights: Weights, options: Mapping[str, Option]) -> States:
        return (("h", (weights["weight_ih"].shape[0] // 3,)),)
