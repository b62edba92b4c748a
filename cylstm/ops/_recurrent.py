"""What all recurrent operations share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import ShapeError, UnsupportedError
from ..graph import Option, Value
from ._op import Op, check_activation, check_kind, check_roles, check_shape


def activation_defaults(**slots: str) -> dict[str, Option]:
    """Default options of activation slots, given as ``slot="tanh"``."""
    found: dict[str, Option] = {}
    for slot, name in slots.items():
        found |= {slot: name, f"{slot}_alpha": 0.0, f"{slot}_beta": 0.0}
    return found


#: Options of every recurrent operation.
RECURRENT_DEFAULTS: dict[str, Option] = {"reverse": False, "padding": "zero", "empty_state": "initial"}


class RecurrentOp(Op):
    """One direction of one recurrent layer.

    Inputs: ``x`` (sequence), optional ``mask``, optional initial states ``h0`` (and ``c0``).
    Outputs: ``y`` (sequence, in the time order of x), ``h`` (and ``c``): the states after the last step processed.

    Options: ``reverse`` processes time backwards. ``padding`` says what y holds at masked steps: "zero", or "repeat"
    (the previous output; zeros before the first step that counts). ``empty_state`` says what the final states of a
    row without any step that counts are: its "initial" ones, or "zero" (ONNX Runtime, for a length of 0); the states of
    a stream, which has no end, carry on in either case.
    """

    reads_mask = True
    slots: tuple[str, ...] = ("activation",)

    def check_call(
        self,
        where: str,
        inputs: Mapping[str, Value],
        options: Mapping[str, Option],
        states: Mapping[str, tuple[int, ...]],
    ) -> None:
        """Check inputs, initial states (role -> shape) and the options that recurrent operations share."""
        check_roles(where, inputs, ("x",), ("mask", *states), "inputs")
        check_kind(where, inputs["x"], ("sequence",))
        if "mask" in inputs:
            check_kind(where, inputs["mask"], ("mask",))
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

    def streams(self, options):
        return "a backward direction needs the end of the sequence" if options["reverse"] else None


def check_choice(where: str, options: Mapping[str, Option], name: str, choices: tuple[str, ...]) -> None:
    """Raise `UnsupportedError` unless the option is one of `choices`."""
    if options[name] not in choices:
        expected = " or ".join(map(repr, choices))
        raise UnsupportedError(f"layer {where!r}: option {name} expected {expected}, found {options[name]!r}")


def check_number(where: str, options: Mapping[str, Option], name: str, *, least: float) -> None:
    """Raise `UnsupportedError` unless the option is a finite number of at least `least`."""
    number = options[name]
    if isinstance(number, str) or not np.isfinite(number) or number < least:
        raise UnsupportedError(
            f"layer {where!r}: option {name} expected a number of at least {least}, found {number!r}"
        )


def hidden_size(where: str, weights: Mapping[str, np.ndarray], gates: int) -> int:
    """Units of a layer from its ``weight_ih`` (gates*hidden, input). Raises `ShapeError`."""
    for role in ("weight_ih", "weight_hh"):
        if weights[role].ndim != 2 or weights[role].shape[0] % gates or not weights[role].size:
            expected = f"({gates}*hidden, size)" if gates > 1 else "(hidden, size)"
            raise ShapeError(
                f"layer {where!r}, tensor {role!r}: expected shape {expected}, found {weights[role].shape}"
            )
    return weights["weight_ih"].shape[0] // gates


def check_vectors(where: str, weights: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> None:
    """Raise `ShapeError` unless each tensor of `sizes` that is there is a vector of that size."""
    for role, size in sizes.items():
        if role in weights:
            check_shape(where, role, weights[role], (size,))
