"""LSTM: long short-term memory with forget gate (Gers, Schmidhuber & Cummins, 2000)."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from ..errors import ShapeError
from ..graph import Value
from ._op import Op, check_activation, check_kind, check_roles, check_shape
from .activation import Activation


class LstmOp(Op):
    """One direction of one LSTM layer.

    Weights (gate blocks in the order i, f, g, o): ``weight_ih`` (4*hidden, input), ``weight_hh``
    (4*hidden, output), optional ``bias`` (4*hidden,), optional ``weight_hr`` (projection, hidden); output is
    projection if there is one, else hidden.

    Inputs: ``x`` (sequence), optional ``mask``, optional ``h0`` (output,) and ``c0`` (hidden,).
    Outputs: ``y`` (sequence, in the time order of x), ``h`` and ``c`` (the states after the last step processed).

    Options: ``reverse`` processes time backwards; ``padding`` says what y holds at masked steps, "zero" or
    "repeat" (the previous output); ``activation`` is used for g and for c in the output,
    ``recurrent_activation`` for i, f and o.
    """

    name = "lstm"
    reads_mask = True
    defaults: ClassVar = {
        "reverse": False,
        "padding": "zero",
        "activation": "tanh",
        "activation_alpha": 0.0,
        "activation_beta": 0.0,
        "recurrent_activation": "sigmoid",
        "recurrent_activation_alpha": 0.0,
        "recurrent_activation_beta": 0.0,
    }

    def infer(self, where, inputs, weights, options):
        check_roles(where, inputs, ("x",), ("mask", "h0", "c0"), "inputs")
        check_roles(where, weights, ("weight_ih", "weight_hh"), ("bias", "weight_hr"), "weights")
        x = inputs["x"]
        check_kind(where, x, ("sequence",))
        hidden_size, output_size = self.sizes(where, weights)
        check_shape(where, "weight_ih", weights["weight_ih"], (4 * hidden_size, x.features))
        check_shape(where, "weight_hh", weights["weight_hh"], (4 * hidden_size, output_size))
        if "bias" in weights:
            check_shape(where, "bias", weights["bias"], (4 * hidden_size,))
        if "weight_hr" in weights:
            check_shape(where, "weight_hr", weights["weight_hr"], (output_size, hidden_size))
        else:
            check_shape(where, "weight_hh", weights["weight_hh"], (4 * hidden_size, hidden_size))
        if "mask" in inputs:
            check_kind(where, inputs["mask"], ("mask",))
        for role, size in (("h0", output_size), ("c0", hidden_size)):
            if role not in inputs:
                continue
            check_kind(where, inputs[role], ("state", "vector"))
            if inputs[role].features != size:
                raise ShapeError(
                    f"layer {where!r}: initial state {role!r} expected {size} features, found {inputs[role].features}"
                )
        if options["padding"] not in ("zero", "repeat"):
            raise ShapeError(
                f"layer {where!r}: option padding expected 'zero' or 'repeat', found {options['padding']!r}"
            )
        check_activation(where, options, "activation", gate=True)
        check_activation(where, options, "recurrent_activation", gate=True)
        return {
            "y": Value("", "sequence", (None, output_size), x.mask),
            "h": Value("", "state", (output_size,)),
            "c": Value("", "state", (hidden_size,)),
        }

    def state(self, weights, options):
        hidden_size, output_size = self.sizes("", weights)
        return (("h", output_size), ("c", hidden_size))

    def streams(self, options):
        return "a backward direction needs the end of the sequence" if options["reverse"] else None

    @staticmethod
    def sizes(where: str, weights) -> tuple[int, int]:
        """``(hidden_size, output_size)``; they differ if there is a projection."""
        for role in ("weight_ih", "weight_hh"):
            if weights[role].ndim != 2 or weights[role].shape[0] % 4 or not weights[role].size:
                raise ShapeError(
                    f"layer {where!r}, tensor {role!r}: expected shape (4*hidden, size), found {weights[role].shape}"
                )
        return weights["weight_hh"].shape[0] // 4, weights["weight_hh"].shape[1]


@dataclass(frozen=True)
class LSTM:
    """An LSTM of a state dict, ``torch.nn.LSTM`` or ``torch.nn.LSTMCell``.

    Sizes, depth, directions, projection and biases are read from the tensors.

    Parameters
    ----------
    prefix : str
        What stands before ``.weight_ih_l0`` in the tensors' names; "" if nothing does.
    activation : str or Activation
        Of the candidate g, and of the cell in the output.
    recurrent_activation : str or Activation
        Of the gates i, f and o.
    """

    prefix: str
    _: KW_ONLY
    activation: str | Activation | None = "tanh"
    recurrent_activation: str | Activation | None = "sigmoid"
