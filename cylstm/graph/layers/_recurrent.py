"""What the recurrent kinds share."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.errors import ShapeError
from cylstm.graph.layers._checks import check_activation, check_choice, check_kind, check_mask, check_number
from cylstm.graph.layers._layer import Inputs, LayerKind, Options, Weights
from cylstm.graph.values import Option

#: the options of every recurrent kind
RECURRENT_DEFAULTS: dict[str, Option] = {"reverse": False, "padding": "zero", "empty_state": "initial"}


class RecurrentLayer(LayerKind):
    """One direction of one recurrent layer.

    Inputs: ``x`` (sequence), optional ``mask``, optional initial states ``h0`` (and ``c0``).
    Outputs: ``y`` (sequence, in the time order of x), ``h`` (and ``c``): the states after the last step processed.

    Options: ``reverse`` processes time backwards. ``padding`` says what y holds at masked steps: "zero", or "repeat"
    (the previous output; zeros before the first valid step). ``empty_state`` says what the final states of a batch row
    without any valid step are: its "initial" ones, or "zero" (ONNX Runtime, for a length of 0). The states of a
    stream, which has no end, carry on in either case.
    """

    optional_inputs: tuple[str, ...] = ("mask", "h0")
    weights: tuple[str, ...] = ("weight_ih", "weight_hh")
    matrices: tuple[str, ...] = ("weight_ih", "weight_hh")
    reads_mask = True
    slots: tuple[str, ...] = ("activation",)

    def check_call(self, where: str, inputs: Inputs, options: Options, states: Mapping[str, tuple[int, ...]]) -> None:
        """Check inputs, initial states (role -> shape) and the options that the recurrent kinds share."""
        check_kind(where, inputs["x"], ("sequence",))
        if "mask" in inputs:
            check_mask(where, inputs["mask"], inputs["x"])
        for role, shape in states.items():
            if role not in inputs:
                continue
            check_kind(where, inputs[role], ("state", "vector"))
            if inputs[role].shape != shape:
                raise ShapeError(
                    f"layer {where!r}: initial state {role!r} expected shape {shape}, found {inputs[role].shape}"
                )
        check_choice(where, options, "padding", ("zero", "repeat"))
        check_choice(where, options, "empty_state", ("initial", "zero"))
        for slot in self.slots:
            check_activation(where, options, slot, gate=True)
        for name in ("gate_clip", "cell_clip"):
            if name in options:
                check_number(where, options, name, least=0.0)

    def streams(self, options: Mapping[str, Option]) -> str | None:
        return "a backward direction needs the end of the sequence" if options["reverse"] else None


def hidden_size(where: str, weights: Weights, gates: int) -> int:
    """Units of a layer from its ``weight_ih`` (gates*hidden, input). Raises `ShapeError`."""
    for role in ("weight_ih", "weight_hh"):
        if weights[role].ndim != 2 or weights[role].shape[0] % gates or not weights[role].size:
            expected = f"({gates}*hidden, size)" if gates > 1 else "(hidden, size)"
            raise ShapeError(
                f"layer {where!r}, tensor {role!r}: expected shape {expected}, found {weights[role].shape}"
            )
    return int(weights["weight_ih"].shape[0]) // gates
