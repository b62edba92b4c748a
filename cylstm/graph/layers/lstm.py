"""LSTM: long short-term memory, with forget gate (Gers, Schmidhuber & Cummins, 2000) and its classical variants."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.errors import UnsupportedError
from cylstm.graph.layers._layer import (
    RECURRENT_DEFAULTS,
    Inputs,
    Options,
    Outputs,
    RecurrentLayer,
    States,
    Weights,
    activation_defaults,
    check_choice,
    check_number,
    check_recurrent_columns,
    check_roles,
    check_shape,
    check_vectors,
    hidden_size,
    like,
)
from cylstm.graph.values import Option, Value

COUPLINGS = ("", "f=1-i", "i=1-f")
_NORMS = tuple(f"{norm}_{part}" for norm in ("norm_ih", "norm_hh", "norm_c") for part in ("gain", "shift"))


def lstm_gates(options: Mapping[str, object]) -> str:
    """The gates that have weights, in canonical order: "ifgo" without those that the options take away."""
    if options["coupled"] == "i=1-f":
        return "fgo"
    return "ifgo" if options["forget_gate"] and not options["coupled"] else "igo"


class LstmLayer(RecurrentLayer):
    """One direction of one LSTM layer.

    Weights (gate blocks in the order of `lstm_gates`, i f g o; G of them): ``weight_ih`` (G*hidden, input),
    ``weight_hh`` (G*hidden, output), optional ``bias`` (G*hidden,), optional ``weight_hr`` (projection, hidden);
    output is projection if there is one, else hidden. Optional peepholes ``peephole_i``, ``peephole_f`` (on the old
    cell) and ``peephole_o`` (on the new one), (hidden,) each. With ``layer_norm``: ``norm_ih_gain``,
    ``norm_ih_shift``, ``norm_hh_gain``, ``norm_hh_shift`` (G*hidden,), ``norm_c_gain``, ``norm_c_shift`` (hidden,).

    Options beside those of `RecurrentLayer`: ``activation`` of g, ``recurrent_activation`` of i, f and o,
    ``output_activation`` of c in the output; ``forget_gate`` False for the form of 1997 (``c = c + i*g``);
    ``coupled`` "f=1-i" or "i=1-f"; ``cell_clip`` limits the stored cell to [-clip, clip], ``gate_clip`` every
    pre-activation after bias and peephole, 0 for no limit; ``layer_norm`` "" for none, else
    ``[i f g o] = LN(W x) + LN(R h) + b`` over all gates together and ``h = o*output_activation(LN(c))``, the carried
    cell being the normalised one ("carried", TensorFlow Addons) or the one before ("output", Ba et al., 2016), with
    ``epsilon`` added to each variance.
    """

    name = "lstm"
    gates = ("i", "f", "g", "o")
    has_cell = True
    optional_inputs = ("mask", "h0", "c0", "h_mask")
    optional_weights = ("bias", "weight_hr", "peephole_i", "peephole_f", "peephole_o", *_NORMS)
    matrices = ("weight_ih", "weight_hh", "weight_hr")
    int8_matrices = matrices
    slots = ("activation", "recurrent_activation", "output_activation")
    defaults = {
        **RECURRENT_DEFAULTS,
        **activation_defaults(activation="tanh", recurrent_activation="sigmoid", output_activation="tanh"),
        "forget_gate": True,
        "coupled": "",
        "cell_clip": 0.0,
        "gate_clip": 0.0,
        "layer_norm": "",
        "epsilon": 1e-3,
    }

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        check_choice(where, options, "coupled", COUPLINGS)
        check_choice(where, options, "layer_norm", ("", "carried", "output"))
        check_number(where, options, "epsilon", least=0.0)
        if options["coupled"] and not options["forget_gate"]:
            raise UnsupportedError(
                f"layer {where!r}: option coupled={options['coupled']!r} contradicts forget_gate=False"
            )
        gates = lstm_gates(options)
        hidden = hidden_size(where, weights, len(gates))
        output = hidden
        if "weight_hr" in weights:
            # of a masked state weight_hh has as many columns as the mask
            output = int(weights["weight_hr"].shape[0] if "h_mask" in inputs else weights["weight_hh"].shape[1])
        self.check_call(where, inputs, options, {"h0": (output,), "c0": (hidden,)})
        rows = len(gates) * hidden
        x = inputs["x"]
        check_shape(where, "weight_ih", weights["weight_ih"], (rows, x.size))
        if "weight_hr" in weights:
            check_shape(where, "weight_hr", weights["weight_hr"], (output, hidden))
        check_recurrent_columns(where, inputs, weights, rows, output)
        check_vectors(where, weights, {"bias": rows, **{f"peephole_{gate}": hidden for gate in "ifo"}})
        for gate in "if":
            if f"peephole_{gate}" in weights and gate not in gates:
                raise UnsupportedError(f"layer {where!r}: peephole_{gate} contradicts options without that gate")
        norms = [role for role in weights if role.startswith("norm_")]
        if options["layer_norm"]:
            check_roles(where, dict.fromkeys(norms), _NORMS, (), "weights of the layer normalisation")
            check_vectors(where, weights, {role: hidden if "_c_" in role else rows for role in _NORMS})
            if "weight_hr" in weights:
                raise UnsupportedError(f"layer {where!r}: layer normalisation with a projection is not supported")
        elif norms:
            raise UnsupportedError(f"layer {where!r}: tensor {norms[0]!r} contradicts option layer_norm=''")
        return {
            "y": like(x, (x.shape[0], output)),
            "h": Value("", "state", (output,)),
            "c": Value("", "state", (hidden,)),
        }

    def state(self, weights: Weights, options: Mapping[str, Option]) -> States:
        hidden = weights["weight_ih"].shape[0] // len(lstm_gates(options))
        output = weights["weight_hr"].shape[0] if "weight_hr" in weights else hidden
        return (("h", (output,)), ("c", (hidden,)))
