"""Recurrent layers: as the operator of their name where that says the same, else step by step as a Scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cylstm.formats.onnx.export.call import Call
from cylstm.formats.onnx.export.elementwise import activate
from cylstm.formats.onnx.export.nodes import Attribute
from cylstm.formats.onnx.export.normalise import normalised, scaled

#: activations of the operators LSTM, GRU and RNN that have no parameters
_NAMES = {"tanh": "Tanh", "sigmoid": "Sigmoid", "relu": "Relu", "softsign": "Softsign", "softplus": "Softplus"}

_Activation = tuple[str, float, float]
#: the states and one step of what the input gives -> the new states; the first is the output
_Step = Callable[[list[str], list[str]], list[str]]


def lstm(call: Call) -> None:
    nodes, shared = call.nodes, _Shared(call)
    gate, candidate, shown = (
        call.activation(slot) for slot in ("recurrent_activation", "activation", "output_activation")
    )
    forget_gate, coupled = call.flag("forget_gate"), call.text("coupled")
    cell_clip, gate_clip = call.number("cell_clip"), call.number("gate_clip")
    norm, epsilon = call.text("layer_norm"), call.number("epsilon")
    gates = "fgo" if coupled == "i=1-f" else "ifgo" if forget_gate and not coupled else "igo"
    weight_ih, weight_hh = call.weight("weight_ih"), call.weight("weight_hh")
    hidden = weight_ih.shape[0] // len(gates)
    bias = call.weight("bias") if call.has_weight("bias") else None
    peepholes = {g: call.weight(f"peephole_{g}") for g in "ifo" if call.has_weight(f"peephole_{g}")}
    is_plain = not (cell_clip or gate_clip or norm or call.has_weight("weight_hr"))
    if is_plain and gates != "fgo" and (forget_gate or coupled) and shared.has_operator([gate, candidate, shown]):
        blocks = _LstmBlocks(gates, hidden)
        tensors = {"W": blocks.rows(weight_ih), "R": blocks.rows(weight_hh)}
        if bias is not None:
            tensors["B"] = np.concatenate([blocks.rows(bias), np.zeros(4 * hidden)])
        if peepholes:
            tensors["P"] = np.concatenate([peepholes.get(g, np.zeros(hidden)) for g in "iof"])
        shared.operator("LSTM", hidden, tensors, [gate, candidate, shown], input_forget=int(bool(coupled)))
        return

    def normal(x: str, name: str) -> str:
        if not norm:
            return x
        gain, shift = (call.weight(f"norm_{name}_{part}") for part in ("gain", "shift"))
        return scaled(nodes, normalised(nodes, x, (-1,), epsilon), gain, shift)

    of_x = normal(nodes.op("MatMul", shared.x, nodes.weight(weight_ih.T)), "ih")
    if bias is not None:
        of_x = nodes.op("Add", of_x, nodes.weight(bias, "bias"))
    projection = call.weight("weight_hr") if call.has_weight("weight_hr") else None
    recurrent = nodes.weight(weight_hh.T)

    def step(states: list[str], xs: list[str]) -> list[str]:
        h, c = states
        pre = nodes.op("Add", xs[0], normal(nodes.op("MatMul", h, recurrent), "hh"))
        parts = dict(zip(gates, nodes.split(pre, len(gates), hidden)))
        one = nodes.number(1)

        def opening(name: str, cell: str) -> str:
            x = parts[name]
            if name in peepholes:
                x = nodes.op("Add", x, nodes.op("Mul", cell, nodes.weight(peepholes[name], "peephole")))
            return activate(nodes, nodes.clip(x, gate_clip), gate)

        i = opening("i", c) if "i" in gates else None
        f = opening("f", c) if "f" in gates else None
        if coupled == "f=1-i" and i is not None:
            f = nodes.op("Sub", one, i)
        if i is None and f is not None:
            i = nodes.op("Sub", one, f)
        new = nodes.op("Mul", str(i), activate(nodes, nodes.clip(parts["g"], gate_clip), candidate))
        c = nodes.clip(nodes.op("Add", new, c if f is None else nodes.op("Mul", f, c)), cell_clip)
        seen = normal(c, "c")
        h = nodes.op("Mul", opening("o", seen), activate(nodes, seen, shown))
        if projection is not None:
            h = nodes.op("MatMul", h, nodes.weight(projection.T))
        return [h, seen if norm == "carried" else c]

    output = hidden if projection is None else projection.shape[0]
    shared.scan(of_x, {"h": (output,), "c": (hidden,)}, step)


class _LstmBlocks:
    """From the blocks of our gates to ONNX's i o f c; a gate that is not there has zeros."""

    def __init__(self, gates: str, hidden: int) -> None:
        self._gates = gates
        self._hidden = hidden

    def rows(self, w: np.ndarray) -> np.ndarray:
        blocks = dict(zip(self._gates, np.split(w, len(self._gates))))
        return np.concatenate([blocks.get(gate, np.zeros((self._hidden, *w.shape[1:]))) for gate in "iofg"])


def gru(call: Call) -> None:
    nodes, shared = call.nodes, _Shared(call)
    gate, candidate = call.activation("recurrent_activation"), call.activation("activation")
    reset_after, gate_clip = call.flag("reset_after"), call.number("gate_clip")
    weight_ih, weight_hh = call.weight("weight_ih"), call.weight("weight_hh")
    hidden = weight_hh.shape[1]
    biases = {role: call.weight(role) for role in ("bias_ih", "bias_hh") if call.has_weight(role)}
    if not gate_clip and shared.has_operator([gate, candidate]):

        def rows(w: np.ndarray) -> np.ndarray:  # r z n -> z r h
            r, z, n = np.split(w, 3)
            return np.concatenate([z, r, n])

        tensors = {"W": rows(weight_ih), "R": rows(weight_hh)}
        if biases:
            nothing = np.zeros(3 * hidden)
            tensors["B"] = np.concatenate([rows(biases.get(role, nothing)) for role in ("bias_ih", "bias_hh")])
        shared.operator("GRU", hidden, tensors, [gate, candidate], linear_before_reset=int(reset_after))
        return

    def with_bias(x: str, role: str) -> str:
        return nodes.op("Add", x, nodes.weight(biases[role], "bias")) if role in biases else x

    of_x = with_bias(nodes.op("MatMul", shared.x, nodes.weight(weight_ih.T)), "bias_ih")

    def step(states: list[str], xs: list[str]) -> list[str]:
        (h,) = states
        xr, xz, xn = nodes.split(xs[0], 3, hidden)
        if reset_after:
            of_h = with_bias(nodes.op("MatMul", h, nodes.weight(weight_hh.T)), "bias_hh")
            hr, hz, hn = nodes.split(of_h, 3, hidden)
        else:
            hr, hz = nodes.split(nodes.op("MatMul", h, nodes.weight(weight_hh[: 2 * hidden].T)), 2, hidden)
        r, z = (activate(nodes, nodes.clip(nodes.op("Add", *pair), gate_clip), gate) for pair in ((xr, hr), (xz, hz)))
        if reset_after:
            hn = nodes.op("Mul", r, hn)
        else:
            hn = nodes.op("MatMul", nodes.op("Mul", r, h), nodes.weight(weight_hh[2 * hidden :].T))
        n = activate(nodes, nodes.clip(nodes.op("Add", xn, hn), gate_clip), candidate)
        fresh = nodes.op("Mul", nodes.op("Sub", nodes.number(1), z), n)
        return [nodes.op("Add", nodes.op("Mul", z, h), fresh)]

    shared.scan(of_x, {"h": (hidden,)}, step)


def rnn(call: Call) -> None:
    nodes, shared = call.nodes, _Shared(call)
    activation, gate_clip = call.activation("activation"), call.number("gate_clip")
    weight_ih, weight_hh = call.weight("weight_ih"), call.weight("weight_hh")
    hidden = weight_hh.shape[1]
    bias = call.weight("bias") if call.has_weight("bias") else None
    if not gate_clip and shared.has_operator([activation]):
        tensors = {"W": weight_ih, "R": weight_hh}
        if bias is not None:
            tensors["B"] = np.concatenate([bias, np.zeros(hidden)])
        shared.operator("RNN", hidden, tensors, [activation])
        return
    of_x = nodes.op("MatMul", shared.x, nodes.weight(weight_ih.T))
    if bias is not None:
        of_x = nodes.op("Add", of_x, nodes.weight(bias, "bias"))

    def step(states: list[str], xs: list[str]) -> list[str]:
        pre = nodes.op("Add", xs[0], nodes.op("MatMul", states[0], nodes.weight(weight_hh.T)))
        return [activate(nodes, nodes.clip(pre, gate_clip), activation)]

    shared.scan(of_x, {"h": (hidden,)}, step)


def conv_lstm(call: Call) -> None:
    """Channels first within: the states are (batch, filters, rows, columns) from step to step."""
    nodes, shared = call.nodes, _Shared(call, is_flat=False)
    gate, candidate = call.activation("recurrent_activation"), call.activation("activation")
    kernel, stride, dilation = (
        [call.whole(f"{what}_{axis}") for axis in ("rows", "columns")] for what in ("kernel", "stride", "dilation")
    )
    padding = call.text("conv_padding")
    call.ignore("input_rows", "input_columns", "spatial_axes")
    weight_ih, weight_hh = call.weight("weight_ih"), call.weight("weight_hh")
    filters = weight_ih.shape[0] // 4
    step_shape = call.value().step_shape
    sizes = (1, *step_shape[:-1])[-2:]
    channels = step_shape[-1]

    def kernels(w: np.ndarray) -> np.ndarray:
        return w.reshape(4 * filters, *kernel, -1).transpose(0, 3, 1, 2)

    def pads(sizes: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> list[int]:
        totals = [
            max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            for size, k, s, d in zip(sizes, kernel, stride, dilation)
        ]
        return [*(total // 2 for total in totals), *(total - total // 2 for total in totals)]

    # every step as a row of one convolution
    frames = nodes.reshape(shared.x, -1, *sizes, channels)
    frames = nodes.transpose(frames, [0, 3, 1, 2])
    tensors = [frames, nodes.weight(kernels(weight_ih))]
    if call.has_weight("bias"):
        tensors.append(nodes.weight(call.weight("bias"), "bias"))
    of_x = nodes.add(
        "Conv",
        tensors,
        kernel_shape=kernel,
        strides=stride,
        dilations=dilation,
        pads=pads(sizes, stride, dilation) if padding == "same" else [0] * 4,
    )[0]
    state = call.output("h").shape
    places = [int(size or 0) for size in (1, *state[:-1])[-2:]]
    time = nodes.size(shared.x, 1)
    of_x = nodes.op("Reshape", of_x, nodes.shape(-1, time, 4 * filters, *places))
    recurrent = nodes.weight(kernels(weight_hh))
    ones = [1, 1]
    recurrent_pads = pads(places, ones, ones)

    def step(states: list[str], xs: list[str]) -> list[str]:
        h, c = states
        of_h = nodes.op("Conv", h, recurrent, kernel_shape=kernel, pads=recurrent_pads)
        pre = nodes.op("Add", xs[0], of_h)
        i, f, g, o = nodes.split(pre, 4, filters, axis=1)
        i, f, o = (activate(nodes, x, gate) for x in (i, f, o))
        new = nodes.op("Mul", i, activate(nodes, g, candidate))
        c = nodes.op("Add", nodes.op("Mul", f, c), new)
        return [nodes.op("Mul", o, activate(nodes, c, candidate)), c]

    shape = (filters, *places)
    is_planar = len(state) == 2

    def to_first(x: str) -> str:
        x = nodes.unsqueeze(x, 1) if is_planar else x
        return nodes.transpose(x, [0, 3, 1, 2])

    def to_last(x: str) -> str:
        x = nodes.transpose(x, [0, 2, 3, 1])
        return nodes.squeeze(x, 1) if is_planar else x

    def sequence_to_last(y: str) -> str:
        y = nodes.transpose(y, [0, 1, 3, 4, 2])
        return nodes.squeeze(y, 2) if is_planar else y

    shared.scan(of_x, {"h": shape, "c": shape}, step, to_first, to_last, sequence_to_last)


def _same(x: str) -> str:
    return x


class _Shared:
    """What the recurrent kinds share: the time's direction, masks, states before and after.

    Attributes
    ----------
    x : str
        The sequence, (batch, time, features) if it is flat.
    """

    def __init__(self, call: Call, *, is_flat: bool = True) -> None:
        self._call = call
        self._nodes = call.nodes
        self.x = call.input()
        if is_flat and len(call.value().shape) > 2:
            self.x = self._nodes.reshape(self.x, 0, 0, call.value().size)
        self._reverse = call.flag("reverse")
        self._repeats = call.text("padding") == "repeat"
        self._zero_if_empty = call.text("empty_state") == "zero"
        self._mask = call.mask()
        self._lengths = call.mask_as_given("mask").lengths if self._mask is not None else None
        self._labels = ("h", "c") if call.has_output("c") else ("h",)
        self._initial = {label: call.initial(label) for label in self._labels}

    def has_operator(self, activations: Sequence[_Activation]) -> bool:
        """Whether ONNX's operator says the same.

        It has no masks but lengths. What it gives for a row of length 0 is not written anywhere; ONNX Runtime gives
        zeros. ONNX Runtime has it in float32 alone.
        """
        if self._call.is_double or any(name not in _NAMES for name, _, _ in activations):
            return False
        if self._mask is None:
            return True
        starts_at_zero = not any(self._initial.values())
        return self._lengths is not None and not self._repeats and (starts_at_zero or self._zero_if_empty)

    def operator(
        self,
        kind: str,
        hidden: int,
        tensors: Mapping[str, np.ndarray],
        activations: Sequence[_Activation],
        **attributes: Attribute,
    ) -> None:
        """LSTM, GRU or RNN, of one direction. It has the time first."""
        nodes, call = self._nodes, self._call
        lengths = "" if self._lengths is None else nodes.cast(self._lengths, "int32")
        inputs = [nodes.transpose(self.x, [1, 0, 2])]
        inputs += [nodes.weight(tensors[name][np.newaxis], name) if name in tensors else "" for name in "WRB"]
        states = [self._initial[label] for label in self._labels]
        inputs += [lengths, *("" if state is None else nodes.unsqueeze(state, 0) for state in states)]
        if "P" in tensors:
            inputs.append(nodes.weight(tensors["P"][np.newaxis], "P"))
        while not inputs[-1]:
            inputs.pop()
        y, *finals = nodes.add(
            kind,
            inputs,
            1 + len(states),
            hidden_size=hidden,
            direction="reverse" if self._reverse else "forward",
            activations=[_NAMES[name] for name, _, _ in activations],
            **attributes,
        )
        call.give(nodes.transpose(nodes.squeeze(y, 1), [1, 0, 2]))
        for label, final in zip(self._labels, finals):
            final = nodes.squeeze(final, 0)
            call.give(final, label)
            call.final(label, final)

    def scan(
        self,
        of_x: str,
        shapes: Mapping[str, tuple[int, ...]],
        step: _Step,
        before: Callable[[str], str] = _same,
        after: Callable[[str], str] = _same,
        sequence_after: Callable[[str], str] = _same,
    ) -> None:
        """Step by step.

        Parameters
        ----------
        of_x : str
            What the input gives to each step, (batch, time, ...).
        shapes : dict of str to tuple
            Label -> shape of a state within the steps.
        before, after, sequence_after : callable
            From a state as the graph has it to that shape, and back; the same of all outputs.
        """
        nodes, call = self._nodes, self._call
        states = []
        for label, shape in shapes.items():
            given = self._initial[label]
            nothing = nodes.weight(np.zeros((1, *[1] * len(shape))))
            states.append(nodes.expand(nothing, call.batch, *shape) if given is None else before(given))
        sequences = [(of_x, nodes.dtype.name)]
        mask = self._mask
        if mask is not None:
            rank = len(next(iter(shapes.values())))
            sequences.append((nodes.unsqueeze(mask, *range(2, 2 + rank)), "bool"))
            nothing = nodes.weight(np.zeros((1, *[1] * rank)))
            if self._repeats:  # the last output is carried along
                states.append(nodes.expand(nothing, call.batch, *next(iter(shapes.values()))))

        def masked(old: list[str], xs: list[str]) -> tuple[list[str], list[str]]:
            new = step(old[: len(shapes)], xs[:1])
            if len(xs) == 1:
                return new, [new[0]]
            used = xs[1]
            y = nodes.op("Where", used, new[0], old[-1] if self._repeats else nodes.number(0))
            kept = [nodes.op("Where", used, a, b) for a, b in zip(new, old)]
            return [*kept, *([y] if self._repeats else [])], [y]

        output = next(iter(shapes.values()))
        kept_shapes = [*shapes.values(), *[output] * (len(states) - len(shapes)), output]
        finals, (y,) = nodes.scan(
            states, sequences, masked, [("batch", *shape) for shape in kept_shapes], reverse=self._reverse
        )
        call.give(sequence_after(y))
        for label, final in zip(shapes, finals):
            final = after(final)
            if mask is not None and self._zero_if_empty:
                has_any = nodes.cast(nodes.reduce("Max", nodes.cast(mask, "int32"), 1, keepdims=False), "bool")
                rank = len(call.output(label).shape)
                has_any = nodes.unsqueeze(has_any, *range(1, 1 + rank))
                final = nodes.op("Where", has_any, final, nodes.number(0))
            call.give(final, label)
            call.final(label, final)
