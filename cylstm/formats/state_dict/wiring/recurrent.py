"""Recurrent layers, and the layers that choose which of their results is used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.arrays import shape_text
from cylstm.formats.state_dict.wiring.layer import Activation, Layer, Limit, Weighted, slot_options
from cylstm.graph.layers.lstm import COUPLINGS, lstm_gates
from cylstm.graph.layers.merge import DIRECTION_MERGES
from cylstm.graph.values import Option, Value
from cylstm.graph.weights import Tensor

if TYPE_CHECKING:
    from cylstm.formats.state_dict.assembler import Assembler

# tensors of the classical variants: role in the graph -> the name before "_l{k}", and the part behind it
_PEEPHOLES = {"peephole_i": ("weight_pi", ""), "peephole_f": ("weight_pf", ""), "peephole_o": ("weight_po", "")}
_NORMS = {
    f"{norm}_{role}": (norm, f".{part}")
    for norm in ("norm_ih", "norm_hh", "norm_c")
    for role, part in (("gain", "weight"), ("shift", "bias"))
}


class Last(Layer):
    """The last valid step of a sequence, ``output[:, length - 1]``.

    After a bidirectional layer, the backward half of that step has seen one step only; see `LastState`.
    """

    needs_time: ClassVar[bool] = True

    def __init__(self) -> None:
        pass  # without parameters

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        return assembler.builder.add("last", "last", {"x": x})["y"]


class LastState(Layer):
    """The final hidden state of the recurrent layer just before, directions concatenated.

    What PyTorch's ``h_n`` holds for the topmost layer, and what a Keras ``Bidirectional`` returns: the backward
    half has seen the whole sequence.
    """

    def __init__(self) -> None:
        pass  # without parameters

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        return x  # the recurrent layer before has given its state


class Dropout(Layer):
    """Dropout with probability `rate` in training; does nothing here."""

    rate: float

    def __init__(self, rate: float = 0.5) -> None:
        self._keep(locals())

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        return assembler.builder.add("dropout", "dropout", {"x": x}, options={"rate": float(self.rate)})["y"]


class Recurrent(Weighted):
    """What LSTM, GRU and RNN share: depth, directions, and the tensors of each."""

    needs_time: ClassVar[bool] = True
    has_state: ClassVar[bool] = True
    slots: ClassVar[tuple[str, ...]] = ("activation", "recurrent_activation")

    activation: str | Activation | None
    gate_clip: Limit
    reverse: bool
    merge: str | None
    backward: Layer | None
    padding: str
    empty_state: str
    dropout: float

    def gates(self, options: Mapping[str, Option]) -> int:
        """How many gates have weights."""
        raise NotImplementedError

    def biases(self, bias_ih: str, bias_hh: str) -> dict[str, str | tuple[str, str]]:
        """Role -> names of the biases in the graph; a pair is summed."""
        return {"bias": (bias_ih, bias_hh)}

    def variants(self, options: Mapping[str, Option]) -> dict[str, tuple[str, str]]:
        """Role -> the name before ``_l{k}`` and the part behind it, of the tensors that PyTorch does not have."""
        return {}

    def options(self, assembler: Assembler) -> dict[str, Option]:
        """The graph's options of one direction."""
        options: dict[str, Option] = {
            "padding": self.padding,
            "empty_state": self.empty_state,
            "gate_clip": self.clip(assembler, "gate_clip"),
        }
        for slot in self.slots:
            options |= slot_options(slot, getattr(self, slot), where=self.what)
        return options

    def clip(self, assembler: Assembler, name: str) -> float:
        """A limit as the graph has it, 0 for none."""
        limit = getattr(self, name)
        if limit is None:
            return 0.0
        if not 0.0 < limit < float("inf"):
            raise UnsupportedError(
                f"{assembler.where}: layer {self.what}: {name} expected a positive number or None, found {limit!r}"
            )
        return float(limit)

    def input_shape(self, assembler: Assembler) -> tuple[int, ...]:
        cell = self.tensor("weight_ih")
        name = cell if cell in assembler.tensors else self.tensor("weight_ih_l0")
        weight = assembler.take(self.what, name)
        if weight.ndim != 2 or not weight.size:
            raise assembler.misshaped(self.what, name, "(gates*hidden, input)")
        return (weight.shape[1],)

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        """One layer of the graph for each layer and direction; the result is the sequence, or the final h."""
        cell = self.tensor("weight_ih") in assembler.tensors
        depth, directions = (1, 1) if cell else self.extent(assembler)
        forward_and_backward = (self, self.checked_backward(assembler, directions))
        for k in range(depth):
            name = self.graph_name if cell else f"{self.graph_name}.l{k}"
            gives_state = isinstance(following, LastState) and k == depth - 1
            results = []
            for reverse, described in enumerate(forward_and_backward[:directions]):
                call = f"{name}.reverse" if reverse else name
                suffix = "" if cell else f"_l{k}_reverse" if reverse else f"_l{k}"
                options = {**described.options(assembler), "reverse": bool(reverse) or self.reverse}
                names = described.tensor_names(assembler, options, suffix, x.features)
                weights = assembler.register(call, names)
                outputs = assembler.builder.add(self.kind(), call, {"x": x}, weights, options)
                results.append(outputs["h" if gives_state else "y"])
            if directions == 1:
                (x,) = results
            elif self.merge is None:
                if following is not None or k < depth - 1:
                    raise UnsupportedError(
                        f"{assembler.where}: layer {self.what}: merge=None gives two outputs, in the last layer of a "
                        "network only"
                    )
                assembler.builder.output(results[0])
                x = results[1]
            else:
                merge = f"{name}.last_state" if gives_state else f"{name}.merge"
                pair = {"x": results[0], "x1": results[1]}
                x = assembler.builder.add("merge", merge, pair, options={"mode": self.merge})["y"]
            if self.dropout and k < depth - 1:
                rate: dict[str, Option] = {"rate": float(self.dropout)}
                x = assembler.builder.add("dropout", f"{name}.dropout", {"x": x}, options=rate)["y"]
        return x

    def kind(self) -> str:
        """The kind of the graph's layer."""
        return type(self).__name__.lower()

    def extent(self, assembler: Assembler) -> tuple[int, int]:
        """Number of layers and of directions, from the names of the tensors."""
        pattern = re.compile(re.escape(self.tensor("")) + r"(?:weight|bias)_(?:ih|hh|hr)_l(\d{1,6})(_reverse)?")
        found = [match for name in assembler.tensors if (match := pattern.fullmatch(name))]
        depth = max((int(match[1]) + 1 for match in found), default=1)
        return depth, 2 if any(match[2] for match in found) else 1

    def checked_backward(self, assembler: Assembler, directions: int) -> Recurrent:
        """The description of the backward direction, after checking that the options fit the number of directions."""
        what = f"{assembler.where}: layer {self.what}"
        backward = self if self.backward is None else self.backward
        if not isinstance(backward, Recurrent) or type(backward) is not type(self):
            raise UnsupportedError(f"{what}: backward expected {type(self).__name__}(...), found {backward!r}")
        if self.merge is not None and self.merge not in DIRECTION_MERGES:
            raise UnsupportedError(
                f"{what}: merge mode expected None or one of {', '.join(DIRECTION_MERGES)}, found {self.merge!r}"
            )
        if self.reverse and directions == 2:
            raise UnsupportedError(f"{what}: reverse=True contradicts the tensors of two directions")
        if directions == 1 and (self.backward is not None or self.merge != "concat"):
            raise UnsupportedError(f"{what}: merge= and backward= are for two directions, its tensors are of one")
        return backward._replace(prefix=self.prefix)

    def tensor_names(
        self, assembler: Assembler, options: Mapping[str, Option], suffix: str, features: int
    ) -> dict[str, str | tuple[str, str]]:
        """Role -> tensor name of one layer and direction, after checking the shapes; a pair of names is summed."""
        what, gates = self.what, self.gates(options)
        roles = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        names = {role: self.tensor(role + suffix) for role in roles}
        weight_ih, weight_hh = (assembler.take(what, names[role]) for role in ("weight_ih", "weight_hh"))
        projected = names["weight_hr"] in assembler.tensors and isinstance(self, LSTM)
        if not projected:
            self.refuse_another_cell(assembler, gates, weight_ih, weight_hh, names["weight_hh"])
        if weight_ih.ndim != 2 or not weight_ih.size or weight_ih.shape[0] % gates or weight_ih.shape[1] != features:
            rows_text = f"{gates}*hidden" if gates > 1 else "hidden"
            raise assembler.misshaped(what, names["weight_ih"], f"({rows_text}, {features})")
        rows = weight_ih.shape[0]
        hidden = output = rows // gates
        found: dict[str, str | tuple[str, str]] = {role: names[role] for role in ("weight_ih", "weight_hh")}
        if projected:
            weight_hr = assembler.take(what, names["weight_hr"])
            if weight_hr.ndim != 2 or not weight_hr.size or weight_hr.shape[1] != hidden:
                raise assembler.misshaped(what, names["weight_hr"], f"(projection, {hidden})")
            output = weight_hr.shape[0]
            found["weight_hr"] = names["weight_hr"]
        assembler.expect(what, names["weight_hh"], (rows, output))
        if names["bias_ih"] in assembler.tensors or names["bias_hh"] in assembler.tensors:
            assembler.expect(what, names["bias_ih"], (rows,))
            assembler.expect(what, names["bias_hh"], (rows,))
            found |= self.biases(names["bias_ih"], names["bias_hh"])
        for role, (stem, part) in self.variants(options).items():
            name = found[role] = self.tensor(stem + suffix + part)
            assembler.expect(what, name, (rows if role.startswith(("norm_ih", "norm_hh")) else hidden,))
        return found

    def refuse_another_cell(
        self, assembler: Assembler, gates: int, weight_ih: Tensor, weight_hh: Tensor, name: str
    ) -> None:
        """Raise `FormatError` if the tensors are those of another recurrent layer than the one given."""
        for count, other in BY_GATES.items():
            if (
                count != gates
                and other is not type(self)
                and weight_ih.ndim == weight_hh.ndim == 2
                and weight_hh.shape == (count * weight_hh.shape[1], weight_hh.shape[1])
                and weight_ih.shape[0] == weight_hh.shape[0]
            ):
                raise FormatError(
                    f"{assembler.where}: layer {self.what}, tensor {name!r} of shape {shape_text(weight_hh.shape)} is "
                    f'that of {other.__name__}; write cylstm.{other.__name__}("{self.prefix}")'
                )


class LSTM(Recurrent):
    """An LSTM of a state dict, ``torch.nn.LSTM`` or ``torch.nn.LSTMCell``, or one of its classical variants.

    Sizes, depth, directions, projection and biases are read from the tensors. PyTorch has no names for the tensors of
    the variants. They are called, for layer k (and again with ``_reverse``): ``weight_pi_l{k}``, ``weight_pf_l{k}``,
    ``weight_po_l{k}`` (hidden,) for peepholes; ``norm_ih_l{k}``, ``norm_hh_l{k}`` (gates*hidden,) and ``norm_c_l{k}``
    (hidden,), each with ``.weight`` and ``.bias`` like ``torch.nn.LayerNorm``, for layer normalisation. A gate that
    the options take away has no rows in ``weight_ih``, ``weight_hh`` and the biases.

    Parameters
    ----------
    prefix : str
        The part of the tensors' names before ``.weight_ih_l0``; "" if there is none.
    peepholes : bool
        Whether i and f also see the old cell, and o the new one (Gers, Schraudolph & Schmidhuber, 2002).
    forget_gate : bool
        False for the form of 1997, ``c = c + i*g``.
    coupled : {None, "f=1-i", "i=1-f"}
        One gate is 1 minus the other, and has no weights.
    activation, recurrent_activation, output_activation : str or Activation
        The functions of the candidate g, of the gates i, f and o, and of the cell in the output (None: `activation`).
    cell_clip, gate_clip : float or None
        Limit the stored cell, and every pre-activation, to [-clip, clip].
    layer_norm : {False, "carried", "output"}
        Layer normalisation of both products and of the cell. The normalised cell is "carried" to the next step
        (TensorFlow Addons), or used in the "output" alone (Ba et al., 2016).
    epsilon : float
        Added to the variances of the normalisation.
    reverse : bool
        Whether time runs backwards; the output is in the time order of the input even then.
    merge : {"concat", "sum", "mul", "ave", None}
        How the results of the two directions are joined; None for two outputs, in the last layer only.
    backward : LSTM, optional
        The options of the backward direction where they differ; its prefix is not used.
    padding : {"zero", "repeat"}
        What the output holds at steps that a length or a mask excludes: zeros (PyTorch, ONNX) or the previous output
        (Keras).
    empty_state : {"initial", "zero"}
        The final states of a batch row without any valid step: its initial ones, or zeros (ONNX Runtime). The states
        of a stream, which has no end, carry on in either case.
    dropout : float
        The rate at which the result of every layer but the last is dropped in training, as in PyTorch; prediction does
        not use it, `Model.predict_mc` does.
    """

    slots: ClassVar[tuple[str, ...]] = ("activation", "recurrent_activation", "output_activation")

    peepholes: bool
    forget_gate: bool
    coupled: str | None
    recurrent_activation: str | Activation | None
    output_activation: str | Activation | None
    cell_clip: Limit
    layer_norm: bool | str
    epsilon: float

    def __init__(
        self,
        prefix: str,
        *,
        peepholes: bool = False,
        forget_gate: bool = True,
        coupled: str | None = None,
        activation: str | Activation | None = "tanh",
        recurrent_activation: str | Activation | None = "sigmoid",
        output_activation: str | Activation | None = None,
        cell_clip: Limit = None,
        gate_clip: Limit = None,
        layer_norm: bool | str = False,
        epsilon: float = 1e-5,
        reverse: bool = False,
        merge: str | None = "concat",
        backward: Layer | None = None,
        padding: str = "zero",
        empty_state: str = "initial",
        dropout: float = 0.0,
    ) -> None:
        output_activation = activation if output_activation is None else output_activation
        self._keep(locals())

    def gates(self, options: Mapping[str, Option]) -> int:
        return len(lstm_gates(options))

    def variants(self, options: Mapping[str, Option]) -> dict[str, tuple[str, str]]:
        present = lstm_gates(options) if self.peepholes else ""
        peepholes = {role: name for role, name in _PEEPHOLES.items() if role[-1] in present}
        return peepholes | (_NORMS if self.layer_norm else {})

    def options(self, assembler: Assembler) -> dict[str, Option]:
        options = super().options(assembler)
        if self.layer_norm not in (False, "carried", "output"):
            raise UnsupportedError(
                f"{assembler.where}: layer {self.what}: layer_norm expected False, 'carried' (the normalised cell is "
                f"carried on) or 'output' (it is used in the output alone), found {self.layer_norm!r}"
            )
        coupled = self.coupled or ""
        if coupled not in COUPLINGS:
            raise UnsupportedError(
                f"{assembler.where}: layer {self.what}: coupled expected None, 'f=1-i' or 'i=1-f', "
                f"found {self.coupled!r}"
            )
        return options | {
            "forget_gate": self.forget_gate,
            "coupled": coupled,
            "cell_clip": self.clip(assembler, "cell_clip"),
            "layer_norm": self.layer_norm or "",
            "epsilon": float(self.epsilon),
        }


class GRU(Recurrent):
    """A GRU of a state dict, ``torch.nn.GRU`` or ``torch.nn.GRUCell``.

    Sizes, depth, directions and biases are read from the tensors.

    Parameters
    ----------
    prefix : str
        The part of the tensors' names before ``.weight_ih_l0``; "" if there is none.
    activation, recurrent_activation : str or Activation
        The functions of the candidate n, and of the gates r and z.
    reset_after : bool
        Whether r multiplies the recurrent product of n (PyTorch) or the state before it (then ``bias_hh`` is
        added to ``bias_ih``).
    gate_clip : float or None
        Limits every pre-activation to [-clip, clip].
    reverse, merge, backward, padding, empty_state, dropout
        As in `LSTM`.
    """

    recurrent_activation: str | Activation | None
    reset_after: bool

    def __init__(
        self,
        prefix: str,
        *,
        activation: str | Activation | None = "tanh",
        recurrent_activation: str | Activation | None = "sigmoid",
        reset_after: bool = True,
        gate_clip: Limit = None,
        reverse: bool = False,
        merge: str | None = "concat",
        backward: Layer | None = None,
        padding: str = "zero",
        empty_state: str = "initial",
        dropout: float = 0.0,
    ) -> None:
        self._keep(locals())

    def gates(self, options: Mapping[str, Option]) -> int:
        return 3

    def biases(self, bias_ih: str, bias_hh: str) -> dict[str, str | tuple[str, str]]:
        return {"bias_ih": bias_ih, "bias_hh": bias_hh} if self.reset_after else {"bias_ih": (bias_ih, bias_hh)}

    def options(self, assembler: Assembler) -> dict[str, Option]:
        return super().options(assembler) | {"reset_after": self.reset_after}


class RNN(Recurrent):
    """A simple recurrent layer of a state dict, ``torch.nn.RNN`` or ``torch.nn.RNNCell``.

    Sizes, depth, directions and biases are read from the tensors.

    Parameters
    ----------
    prefix : str
        The part of the tensors' names before ``.weight_ih_l0``; "" if there is none.
    activation : str or Activation
        PyTorch's ``nonlinearity``, which is not in a state dict.
    gate_clip : float or None
        Limits the pre-activation to [-clip, clip].
    reverse, merge, backward, padding, empty_state, dropout
        As in `LSTM`.
    """

    slots: ClassVar[tuple[str, ...]] = ("activation",)

    def __init__(
        self,
        prefix: str,
        *,
        activation: str | Activation | None = "tanh",
        gate_clip: Limit = None,
        reverse: bool = False,
        merge: str | None = "concat",
        backward: Layer | None = None,
        padding: str = "zero",
        empty_state: str = "initial",
        dropout: float = 0.0,
    ) -> None:
        self._keep(locals())

    def gates(self, options: Mapping[str, Option]) -> int:
        return 1


def last_state_first(where: str, layers: Sequence[Layer]) -> list[Layer]:
    """The layers with each `LastState` moved before the dropouts between it and its recurrent layer."""
    found: list[Layer] = []
    for layer in layers:
        if not isinstance(layer, LastState):
            found.append(layer)
            continue
        place = len(found)
        while place and isinstance(found[place - 1], Dropout):
            place -= 1
        if not place or not found[place - 1].has_state:
            before = found[place - 1] if place else "nothing"
            raise FormatError(f"{where}: LastState() has to follow a recurrent layer directly, found after {before}")
        found.insert(place, layer)
    return found


#: number of gates -> the layer, where no option takes gates away
BY_GATES: dict[int, type[Recurrent]] = {4: LSTM, 3: GRU, 1: RNN}
