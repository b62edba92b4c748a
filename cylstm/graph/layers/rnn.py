"""RNN: the simple recurrent network (Elman, 1990)."""

from __future__ import annotations

from collections.abc import Mapping

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


class RnnLayer(RecurrentLayer):
    """One direction of one simple recurrent layer: ``h = activation(W x + R h + b)``.

    Weights: ``weight_ih`` (hidden, input), ``weight_hh`` (hidden, hidden), optional ``bias`` (hidden,).

    Options beside those of `RecurrentLayer`: ``activation``; ``gate_clip`` limits the pre-activation to [-clip, clip],
    0 for no limit.
    """

    name = "rnn"
    gates = ("h",)
    optional_weights = ("bias",)
    defaults = {**RECURRENT_DEFAULTS, **activation_defaults(activation="tanh"), "gate_clip": 0.0}

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        hidden = hidden_size(where, weights, 1)
        self.check_call(where, inputs, options, {"h0": (hidden,)})
        x = inputs["x"]
        check_shape(where, "weight_ih", weights["weight_ih"], (hidden, x.size))
        check_recurrent_columns(where, inputs, weights, hidden, hidden)
        check_vectors(where, weights, {"bias": hidden})
        return {"y": like(x, (x.shape[0], hidden)), "h": Value("", "state", (hidden,))}

    def state(self, weights: Weights, options: Mapping[str, Option]) -> States:
        return (("h", (weights["weight_ih"].shape[0],)),)
