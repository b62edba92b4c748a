"""What every kind of layer tells the graph about itself, what the recurrent kinds share, and the checks of them all."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from typing import TypeAlias

import numpy as np

from cylstm.errors import CylstmError, ShapeError, UnsupportedError
from cylstm.graph.activations import resolve_activation
from cylstm.graph.values import Kind, Option, Value
from cylstm.graph.weights import Tensor

Inputs: TypeAlias = Mapping[str, Value]
Weights: TypeAlias = Mapping[str, Tensor]
Options: TypeAlias = MutableMapping[str, Option]
Outputs: TypeAlias = dict[str, Value]
#: ``((label, shape without batch), ...)``
States: TypeAlias = Sequence[tuple[str, tuple[int, ...]]]

#: the kinds of values that hold numbers to compute with
DATA: tuple[Kind, ...] = ("sequence", "vector", "state")
#: the options of every recurrent kind
RECURRENT_DEFAULTS: dict[str, Option] = {"reverse": False, "padding": "zero", "empty_state": "initial"}


class LayerKind:
    """One kind of layer. Each is a subclass; `cylstm.graph.layers.LAYER_KINDS` holds one instance of each.

    Attributes
    ----------
    name : str
        The key in `LAYER_KINDS`, and the kind's name in ``csrc/layers``.
    inputs, optional_inputs : tuple of str
        The roles of the values that a layer reads.
    weights, optional_weights : tuple of str
        The roles of its tensors.
    matrices : tuple of str
        Those of its weights that the engine can hold in another type than float32, see
        `cylstm.graph.weights.WEIGHT_TYPES`; those of one layer are `matrices_of`.
    int8_matrices : tuple of str
        Those of `matrices` that it can hold in int8: what they multiply has one scale.
    has_one_type : bool
        Whether all its matrices have to be of one type, since one product takes them.
    defaults : dict
        Every option with its default; a layer's options have exactly these keys.
    reads_mask : bool
        Whether the mask of "x" becomes the input "mask" unless the caller gives one.
    is_inert : bool
        Whether the layer gives what it gets at inference, so that it is left out of the packed model.
    gates : tuple of str
        Of a recurrent layer: what the engine can trace, in its order.
    has_cell : bool
        Whether it has a cell beside its output, as an LSTM has.
    """

    name: str
    inputs: tuple[str, ...] = ("x",)
    optional_inputs: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    optional_weights: tuple[str, ...] = ()
    matrices: tuple[str, ...] = ()
    int8_matrices: tuple[str, ...] = ()
    has_one_type = False
    defaults: Mapping[str, Option] = {}
    reads_mask = False
    is_inert = False
    gates: tuple[str, ...] = ()
    has_cell = False

    def matrices_of(self, roles: Collection[str], options: Mapping[str, Option]) -> tuple[str, ...]:
        """Those of `matrices` that a layer with these weights and options has; a convolution in groups has none."""
        return tuple(role for role in self.matrices if role in roles and options.get("groups", 1) == 1)

    def check_roles(self, where: str, inputs: Inputs, weights: Weights) -> None:
        """Raise `ShapeError` unless a layer has the inputs and weights that it needs, and no others."""
        check_roles(where, inputs, self.inputs, self.optional_inputs, "inputs")
        check_roles(where, weights, self.weights, self.optional_weights, "weights")

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        """Check a call whose roles are right, and describe its outputs by role; the caller sets their names.

        Options that follow from the inputs are filled in.

        Raises
        ------
        ShapeError, UnsupportedError
            With `where`, the layer's name, in the message.
        """
        raise NotImplementedError

    def state(self, weights: Weights, options: Mapping[str, Option]) -> States:
        """What a layer carries from step to step; empty if nothing."""
        return ()

    def streams(self, options: Mapping[str, Option]) -> str | None:
        """None if the kind can run piece by piece over time, else the reason why it cannot."""
        return None

    def needs_multiple(self, options: Mapping[str, Option]) -> int:
        """The steps of which a sequence must have a multiple so that it can come in pieces; 1 for any number."""
        return 1

    def limit(self, weights: Weights, options: Mapping[str, Option]) -> int | None:
        """The number that all its indices must be below; None for a kind that reads none."""
        return None

    def most_steps(self, weights: Weights) -> int | None:
        """The most steps that its sequences may have; None if any number."""
        return None

    def check_numbers(
        self,
        where: str,
        read: Callable[[str], np.ndarray],
        options: Mapping[str, Option],
        error: type[CylstmError],
    ) -> None:
        """Raise `error` if numbers of a tensor make no sense, where the kind knows such; ``read(role)`` gives them."""


class RecurrentLayer(LayerKind):
    """One direction of one recurrent layer.

    Inputs: ``x`` (sequence), optional ``mask``, optional initial states ``h0`` (and ``c0``). With ``h_mask``, a vector
    (copies * output,), the recurrent product of every step reads so many copies of h side by side, each times its part
    of the mask, and ``weight_hh`` has a column for each number of them; the state itself is not multiplied
    (`cylstm.monte_carlo`).
    Outputs: ``y`` (sequence, in the time order of x), ``h`` (and ``c``): the states after the last step processed.

    Options: ``reverse`` processes time backwards. ``padding`` says what y holds at masked steps: "zero", or "repeat"
    (the previous output; zeros before the first valid step). ``empty_state`` says what the final states of a batch row
    without any valid step are: its "initial" ones, or "zero" (ONNX Runtime, for a length of 0). The states of a
    stream, which has no end, carry on in either case.
    """

    optional_inputs: tuple[str, ...] = ("mask", "h0", "h_mask")
    weights: tuple[str, ...] = ("weight_ih", "weight_hh")
    matrices: tuple[str, ...] = ("weight_ih", "weight_hh")
    int8_matrices: tuple[str, ...] = ("weight_ih", "weight_hh")
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


def check_recurrent_columns(where: str, inputs: Inputs, weights: Weights, rows: int, output: int) -> None:
    """Raise `ShapeError` unless ``weight_hh`` fits the output, or what an ``h_mask`` makes of it."""
    columns = output
    if "h_mask" in inputs:
        check_kind(where, inputs["h_mask"], ("state", "vector"))
        shape = inputs["h_mask"].shape
        columns = inputs["h_mask"].size
        if len(shape) != 1 or columns % output:
            raise ShapeError(f"layer {where!r}: h_mask expected a multiple of {output} numbers, found shape {shape}")
    check_shape(where, "weight_hh", weights["weight_hh"], (rows, columns))


def like(x: Value, shape: tuple[int | None, ...] | None = None) -> Value:
    """A result with the time and mask of `x`, and its shape unless another one is given."""
    return Value("", "sequence" if x.has_time else "vector", x.shape if shape is None else shape, x.mask, x.axis)


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


def check_shape(where: str, role: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    """Raise `ShapeError` unless the tensor has the `expected` shape."""
    if tuple(tensor.shape) != tuple(expected):
        raise ShapeError(
            f"layer {where!r}, tensor {role!r}: expected shape {tuple(expected)}, found {tuple(tensor.shape)}"
        )


def check_vectors(where: str, weights: Mapping[str, Tensor], sizes: Mapping[str, int]) -> None:
    """Raise `ShapeError` unless each tensor of `sizes` that is given is a vector of that size."""
    for role, size in sizes.items():
        if role in weights:
            check_shape(where, role, weights[role], (size,))


def check_kind(where: str, value: Value, kinds: Sequence[Kind]) -> None:
    """Raise `ShapeError` unless `value` is of one of `kinds`."""
    if value.kind not in kinds:
        raise ShapeError(
            f"layer {where!r}: expected a {' or '.join(kinds)} as input, found the {value.kind} {value.name!r}"
        )


def check_mask(where: str, mask: Value, value: Value, role: str = "mask") -> None:
    """Raise `ShapeError` unless `mask` is a mask over the time of `value`."""
    check_kind(where, mask, ("mask",))
    if mask.shape != value.shape[:1] or mask.axis != value.axis:
        raise ShapeError(f"layer {where!r}: {role} {mask.name!r} is not of the time of {value.name!r}")


def check_activation(where: str, options: Mapping[str, Option], slot: str, *, gate: bool = False) -> None:
    """Raise `UnsupportedError` unless ``options[slot]`` is a canonical activation; a gate's is never softmax."""
    found = options[slot]
    what = f"layer {where!r}, option {slot!r}"
    alpha, beta = float(options[f"{slot}_alpha"]), float(options[f"{slot}_beta"])
    name, _, _ = resolve_activation(found, alpha, beta, where=what)
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


def check_choice(where: str, options: Mapping[str, Option], name: str, choices: Sequence[str]) -> str:
    """The option as a text. Raises `UnsupportedError` unless it is one of `choices`."""
    if options[name] not in choices:
        expected = " or ".join(map(repr, choices))
        raise UnsupportedError(f"layer {where!r}: option {name} expected {expected}, found {options[name]!r}")
    return str(options[name])


def check_number(where: str, options: Mapping[str, Option], name: str, *, least: float) -> None:
    """Raise `UnsupportedError` unless the option is a finite number of at least `least`."""
    number = options[name]
    if isinstance(number, str) or not math.isfinite(number) or number < least:
        raise UnsupportedError(
            f"layer {where!r}: option {name} expected a number of at least {least}, found {number!r}"
        )
