"""RNN: the simple recurrent network (Elman, 1990)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..graph import Value
from ._op import Layer, check_roles, check_shape
from ._recurrent import RECURRENT_DEFAULTS, RecurrentOp, activation_defaults, check_vectors, hidden_size

if TYPE_CHECKING:
    from .activation import Activation


class RnnOp(RecurrentOp):
    """One direction of one simple recurrent layer: ``h = activation(W x + R h + b)``.

    Weights: ``weight_ih`` (hidden, input), ``weight_hh`` (hidden, hidden), optional ``bias`` (hidden,).

    Options beside those of `RecurrentOp`: ``activation``; ``gate_clip`` limits the pre-activation to [-clip, clip],
    0 for no limit.
    """

    name = "rnn"
    defaults = {**RECURRENT_DEFAULTS, **activation_defaults(activation="tanh"), "gate_clip": 0.0}

    def infer(self, where, inputs, weights, options):
        check_roles(where, weights, ("weight_ih", "weight_hh"), ("bias",), "weights")
        hidden = hidden_size(where, weights, 1)
        self.check_call(where, inputs, options, {"h0": (hidden,)})
        x = inputs["x"]
        check_shape(where, "weight_ih", weights["weight_ih"], (hidden, x.size))
        check_shape(where, "weight_hh", weights["weight_hh"], (hidden, hidden))
        check_vectors(where, weights, {"bias": hidden})
        return {"y": Value("", "sequence", (x.shape[0], hidden), x.mask, x.axis), "h": Value("", "state", (hidden,))}

    def state(self, weights, options):
        return (("h", (weights["weight_hh"].shape[1],)),)


class RNN(Layer):
    """A simple recurrent layer of a state dict, ``torch.nn.RNN`` or ``torch.nn.RNNCell``.

    Sizes, depth, directions and biases are read from the tensors.

    Parameters
    ----------
    prefix : str
        What stands before ``.weight_ih_l0`` in the tensors' names; "" if nothing does.
    activation : str or Activation
        PyTorch's ``nonlinearity``, which is not in a state dict.
    gate_clip : float or None
        Limits the pre-activation to [-clip, clip].
    reverse, merge, backward, padding, empty_state
        As in `LSTM`.
    """

    def __init__(
        self,
        prefix: str,
        *,
        activation: str | Activation | None = "tanh",
        gate_clip: float | None = None,
        reverse: bool = False,
        merge: str | None = "concat",
        backward: RNN | None = None,
        padding: str = "zero",
        empty_state: str = "initial",
    ) -> None:
        super().__init__(
            prefix=prefix,
            activation=activation,
            gate_clip=gate_clip,
            reverse=reverse,
            merge=merge,
            backward=backward,
            padding=padding,
            empty_state=empty_state,
        )
