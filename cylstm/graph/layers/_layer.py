"""What every operation tells the graph about itself, what the recurrent ones share, and the checks of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cylstm.errors import ShapeError, UnsupportedError
from cylstm.graph.activations import resolve_activation
from cylstm.graph.graph import Option, Value


class LayerKind:
    """One operation. A subclass per layer; instances live in `cylstm.graph.layers.LAYER_KINDS`.

    Attributes
    ----------
    name : str
        The key in `LAYER_KINDS`, and the operation's name in ``csrc/layers``.
    defaults : dict
        Every option with its default; a layer's options have exactly these keys.
    reads_mask : bool
        Whether the mask of "x" is handed to the layer.
    """

    name: str
    defaults: Mapping[str, Option] = {}
    reads_mask = False

    def infer(
        self,
        where: str,
        inputs: Mapping[str, Value],
        weights: Mapping[str, np.ndarray],
        options: Mapping[str, Option],
    ) -> dict[str, Value]:
        """Check a call and describe its outputs by role (their names are set by the caller).

        Raises
        ------
        ShapeError, UnsupportedError
            With `where`, the layer's name, in the message.
        """
        raise NotImplementedError

    def state(
        self, weights: Mapping[str, np.ndarray], options: Mapping[str, Option]
    ) -> Sequence[tuple[str, tuple[int, ...]]]:
        """``((label, shape without batch), ...)`` of what the kind carries from step to step; empty if nothing."""
        return ()

    def streams(self, options: Mapping[str, Option]) -> str | None:
        """None if the kind can run piece by piece over time, else the reason why it cannot."""
        return None

    def limit(self, weights: Mapping[str, np.ndarray], options: Mapping[str, Option]) -> int | None:
        """What all its indices must be below; None for an kind that reads none."""
        return None


def check_roles(
    where: str, found: Mapping[str, object], required: Sequence[str], optional: Sequence[str], what: str
) -> None:
    """Raise `ShapeError` unless `found` has all `required` keys and no others than those and `optional`."""
    missing = [role for role in required if role not in found]
    extra = [role for role in found if role not in (*required, *optional)]
    if missing or extra:
        raise ShapeError(
            f"layer {where!r}: {what} expected {', '.join(required) or 'none'}"
            + (f" (and perhaps {', '.join(optional)})" if optional else "")
            + f"; found {', '.join(found) or 'none'}"
        )


def check_shape(where: str, tensor: str, array: np.ndarray, expected: tuple[int, ...]) -> None:
    """Raise `ShapeError` unless `array` has the `expected` shape."""
    if tuple(array.shape) != tuple(expected):
        raise ShapeError(
            f"layer {where!r}, tensor {tensor!r}: expected shape {tuple(expected)}, found {tuple(array.shape)}"
        )


def check_kind(where: str, value: Value, kinds: Sequence[str]) -> None:
    """Raise `ShapeError` unless `value` is of one of `kinds`."""
    if value.kind not in kinds:
        raise ShapeError(
            f"layer {where!r}: expected a {' or '.join(kinds)} as input, found the {value.kind} {value.name!r}"
        )


def check_mask(where: str, mask: Value, value: Value, role: str = "mask") -> None:
    """Raise `ShapeError` unless `mask` is a mask of the time of `value`."""
    check_kind(where, mask, ("mask",))
    if mask.shape != value.shape[:1] or mask.axis != value.axis:
        raise ShapeError(f"layer {where!r}: {role} {mask.name!r} is not of the time of {value.name!r}")


def check_activation(where: str, options: Mapping[str, Option], slot: str, *, gate: bool = False) -> None:
    """Raise `UnsupportedError` unless ``options[slot]`` is a canonical activation; a gate's is never softmax."""
    found = options[slot]
    what = f"layer {where!r}, option {slot!r}"
    name, _, _ = resolve_activation(found, options[f"{slot}_alpha"], options[f"{slot}_beta"], where=what)
    if name != found:
        raise UnsupportedError(f"{what}: expected the canonical name {name!r}, found {found!r}")
    if gate and name == "softmax":
        raise UnsupportedError(f"{what}: softmax needs the whole axis and cannot be a gate's activation")


def activation_defaults(**slots: str) -> dict[str, Option]:
    """Default options of activation slots, given as ``slot="tanh"``."""
    found: dict[str, Option] = {}
    for slot, name in slots.items():
        found |= {slot: name, f"{slot}_alpha": 0.0, f"{slot}_beta": 0.0}
    return found


#: Options of every recurrent operation.
RECURRENT_DEFAULTS: dict[str, Option] = {"reverse": False, "padding": "zero", "empty_state": "initial"}


class RecurrentLayer(LayerKind):
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
