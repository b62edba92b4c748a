"""LSTM, GRU and RNN, and ONNX Runtime's quantised LSTM.

Where the specification is silent, ONNX Runtime decides: past the end of a row Y is 0, the last states of a row of
length 0 are 0, ``clip`` limits the numbers that go into the gates and no others, and ``input_forget`` makes f = 1 - i.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cylstm.formats.onnx.call import Call
from cylstm.formats.onnx.operators.quantised import dequantised
from cylstm.graph.activations import activation_options
from cylstm.graph.values import Option, Value
from cylstm.program.network import Network
from cylstm.program.operations import elementwise, shape
from cylstm.program.operations.frames import has_frames, on_frames
from cylstm.program.operations.recurrent import Direction, recurrent
from cylstm.program.tensor import Dim, Stack, Tensor, is_constant, shape_of


class _Kind(NamedTuple):
    """What tells the three operators apart.

    `order` are the places of ONNX's gates in our order (of i o f c for i f g o, of z r h for r z n), `slots` the
    activations in ONNX's order and `functions` their defaults.
    """

    name: str
    order: tuple[int, ...]
    slots: tuple[str, ...]
    functions: tuple[str, ...]


_LSTM = _Kind(
    "lstm", (0, 2, 3, 1), ("recurrent_activation", "activation", "output_activation"), ("sigmoid", "tanh", "tanh")
)
_GRU = _Kind("gru", (1, 0, 2), ("recurrent_activation", "activation"), ("sigmoid", "tanh"))
_RNN = _Kind("rnn", (0,), ("activation",), ("tanh",))

#: ONNX's name in small letters -> ours, defaults of alpha and of beta; None where it takes none
_ACTIVATIONS: Mapping[str, tuple[str, float | None, float | None]] = {
    "relu": ("relu", None, None),
    "tanh": ("tanh", None, None),
    "sigmoid": ("sigmoid", None, None),
    "leakyrelu": ("leaky_relu", 0.01, None),
    "hardsigmoid": ("hard_sigmoid", 0.2, 0.5),
    "elu": ("elu", 1.0, None),
    "softsign": ("softsign", None, None),
    "softplus": ("softplus", None, None),
}


def _numbers(found: Any) -> list[float]:
    return [] if found is None else [float(number) for number in np.atleast_1d(found)]


def activations(call: Call, kind: _Kind, count: int) -> list[dict[str, Option]]:
    """The options of the activations of each direction.

    A number of ``activation_alpha`` or ``activation_beta`` belongs to the next activation that takes one.
    """
    names = [str(name) for name in call.attribute("activations", ()) or ()]
    names = names or list(kind.functions) * count
    if len(names) != len(kind.slots) * count:
        raise call.refuse(f"expected {len(kind.slots) * count} activations, found {len(names)}: {', '.join(names)}")
    alphas = _numbers(call.attribute("activation_alpha", None))
    betas = _numbers(call.attribute("activation_beta", None))
    found: list[dict[str, Option]] = []
    for k in range(count):
        options: dict[str, Option] = {}
        for slot, name in zip(kind.slots, names[k * len(kind.slots) :]):
            if name.lower() not in _ACTIVATIONS:
                known = "Relu, Tanh, Sigmoid, LeakyRelu, HardSigmoid, Elu, Softsign, Softplus"
                raise call.refuse(f"the activation {name!r} is not supported; {known} are")
            ours, alpha, beta = _ACTIVATIONS[name.lower()]
            if alpha is not None and alphas:
                alpha = alphas.pop(0)
            if beta is not None and betas:
                beta = betas.pop(0)
            options |= activation_options(slot, ours, alpha, beta, where=call.net.place_name)
        found.append(options)
    if alphas or betas:
        raise call.refuse(
            "activation_alpha or activation_beta has more numbers than there are activations that take one, so that "
            "it does not say which number is whose; give one for each that takes one, in their order"
        )
    return found


def step_mask(call: Call, x: Tensor, lengths: Any) -> Value | None:
    """Which steps of x, (time, batch, features), count for ``sequence_lens``; None for all."""
    net, time = call.net, x.size(0)
    if lengths is None:
        return None
    if is_constant(lengths):
        numbers = list(np.asarray(getattr(lengths, "array", lengths)).reshape(-1))
        if all(one == time for one in numbers):
            return None
        if not isinstance(time, int):
            raise net.needs_time("sequence_lens that is a number")
        if len(set(numbers)) > 1 or any(isinstance(one, Dim) for one in numbers):
            raise call.refuse(
                "sequence_lens of constants, the same for every batch, is not supported; give it as an input"
            )
        if not 0 <= numbers[0] <= time:
            raise call.refuse(f"sequence_lens expected numbers up to {time}, found {numbers[0]}")
        lengths = np.asarray([numbers[0]])
    else:
        lengths = net.tensor(lengths)
        known = net.lengths.get(lengths.value.name)
        if known is not None and known.axis == x.value.axis:
            return known
    # a step is valid if its number is less than the length of its row
    steps = np.arange(time) if isinstance(time, int) else net.positions(time.axis)  # type: ignore[arg-type]
    valid = elementwise.binary(net, "less", steps, shape.unsqueeze(net, lengths, -1))
    valid = net.constant(valid) if is_constant(valid) else valid
    value = net.arrange(valid, [1])
    if isinstance(time, int):
        value = net.as_steps(net.reshaped(value, [time, 1]), net.arrange(x, [0, 2]))
        if value.shape != (time, 1):
            value = net.add_layer("slice", value, options={"axis": 1, "start": 0, "count": 1}, part="valid")
    return net.add_layers("number_mask", value, part="mask")["mask"]


def layer(
    call: Call,
    kind: _Kind,
    weights: Sequence[Mapping[str, np.ndarray | None]],
    lengths: Any,
    states: Sequence[Any],
    options: Mapping[str, Option],
) -> tuple[Any, ...]:
    """Y, Y_h (and Y_c) of an operator whose weights, one dict for each direction, are in our layout."""
    net = call.net
    direction = str(call.attribute("direction", "forward"))
    directions = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}.get(direction)
    if directions is None:
        raise call.refuse(f"direction expected forward, reverse or bidirectional, found {direction!r}")
    if len(directions) != len(weights):
        raise call.refuse(f"direction {direction!r} expected weights of {len(directions)}, found {len(weights)}")
    batch_first = bool(call.attribute("layout", 0))
    slots = activations(call, kind, len(directions))
    layers = [
        [Direction(one, is_reverse, chosen) for one, is_reverse, chosen in zip(weights, directions, slots)]
    ]  # fmt: skip
    x = call.input(0)
    x = net.constant(x) if is_constant(x) else net.tensor(x)
    if x.ndim != 3:
        raise call.refuse(f"X expected three axes, found {x.shape}")
    x = shape.permute(net, x, (1, 0, 2)) if batch_first else x
    states = [_first(net, state, 1, 0) if batch_first else state for state in states]
    hidden = len(weights[0]["weight_hh"][0])  # type: ignore[index]
    states = [of_any_batch(call, _checked_state(call, state, len(directions), hidden)) for state in states]
    settings = dict(options)
    if lengths is not None:
        settings["empty_state"] = "zero"

    def on_rows(x: Tensor) -> Any:
        x = shape.permute(net, x, (1, 0, 2))
        mask = step_mask(call, x, lengths)
        y, *last = recurrent(net, kind.name, x, states, layers, batch_first=False, options=settings, mask=mask)
        return shape.permute(net, y, (1, 0, 2)), *last

    rows = shape.permute(net, x, (1, 0, 2))
    if has_frames(rows) and (lengths is not None or any(isinstance(one, (Tensor, Stack)) for one in states)):
        raise call.refuse("computed first states or lengths of a layer on single steps as rows are not supported")
    y, *last = on_frames(net, on_rows, (rows,))
    size = shape_of(y)[2] // len(directions)
    y = shape.unflatten(net, y, 2, (len(directions), size))  # (batch, time, directions, size)
    y = y if batch_first else shape.permute(net, y, (1, 2, 0, 3))
    return (y, *(_of_directions(net, one, batch_first) for one in last))


def _first(net: Network, state: Any, a: int, b: int) -> Any:
    """A state with two axes swapped; None is None."""
    return None if state is None else shape.transpose(net, state, a, b)


def _checked_state(call: Call, state: Any, directions: int, hidden: int) -> Any:
    """A first state, whose sizes have to be right also where it is zeros, of which nothing is kept."""
    sizes = (directions, hidden) if state is None else shape_of(state)[::2]
    if sizes != (directions, hidden):
        raise call.refuse(f"a first state expected shape ({directions}, batch, {hidden}), found {shape_of(state)}")
    return state


def of_any_batch(call: Call, state: Any) -> Any:
    """A constant state (directions, batch, size) of rows that are alike, as that of any number of rows."""
    if not isinstance(state, np.ndarray) or state.ndim != 3 or state.shape[1] == 1:
        return state
    if not np.array_equal(state, np.broadcast_to(state[:, :1], state.shape)):
        raise call.refuse("a constant first state that is another one in each row of a batch is not supported")
    return state[:, :1]


def _of_directions(net: Network, state: Any, batch_first: bool) -> Any:
    """The last states (directions, batch, size), or with the batch first."""
    if isinstance(state, Stack) and len(state.parts) == 1:
        state = shape.unsqueeze(net, state.parts[0], 0)
    return _first(net, state, 0, 1) if batch_first else state


def _blocks(array: np.ndarray | None, order: Sequence[int]) -> np.ndarray | None:
    """Blocks of rows, one a gate, in another order."""
    if array is None:
        return None
    parts = np.split(array, len(order))
    return np.concatenate([parts[k] for k in order])


class _Weights(NamedTuple):
    """W (directions, gates * hidden, input), R (directions, gates * hidden, hidden), B (directions, twice the rows)."""

    w: np.ndarray
    r: np.ndarray
    b: np.ndarray | None


def _checked(call: Call, kind: _Kind, w: Any, r: Any, b: Any) -> _Weights:
    net = call.net
    w, r, b = net.array(w, "W, a weight"), net.array(r, "R, a weight"), net.array(b, "B, a bias")
    gates = len(kind.order)
    fits = w is not None and r is not None and w.ndim == r.ndim == 3
    fits = fits and r.shape == (len(w), w.shape[1], w.shape[1] // gates) and w.shape[1] % gates == 0
    if not fits or (b is not None and b.shape != (len(w), 2 * w.shape[1])):
        found = ", ".join("none" if one is None else str(one.shape) for one in (w, r, b))
        raise call.refuse(
            f"expected W (directions, {gates} * hidden, input), R (directions, {gates} * hidden, hidden) and B "
            f"(directions, {2 * gates} * hidden), found {found}"
        )
    hidden = call.attribute("hidden_size", None)
    if hidden is not None and int(hidden) != r.shape[2]:
        raise call.refuse(f"hidden_size expected {r.shape[2]}, which R has, found {hidden}")
    return _Weights(w, r, b)


def _gate_clip(call: Call) -> float:
    clip = float(call.attribute("clip", None) or 0.0)
    if clip < 0:
        raise call.refuse(f"clip expected a number of at least 0, found {clip}")
    return clip


def _both(biases: np.ndarray | None) -> np.ndarray | None:
    """The sum of Wb and Rb of one direction."""
    if biases is None:
        return None
    first, second = np.split(biases.astype(np.float64), 2)
    return (first + second).astype(biases.dtype)


def lstm(call: Call) -> tuple[Any, ...]:
    return _lstm(call, call.input(1), call.input(2))


def _lstm(call: Call, w: Any, r: Any) -> tuple[Any, ...]:
    found = _checked(call, _LSTM, w, r, call.input(3))
    hidden = found.r.shape[2]
    peepholes = call.net.array(call.input(7), "P, a weight")
    if peepholes is not None and peepholes.shape != (len(found.w), 3 * hidden):
        raise call.refuse(f"P expected shape {(len(found.w), 3 * hidden)}, found {peepholes.shape}")
    coupled = bool(call.attribute("input_forget", 0))
    order = [k for k in _LSTM.order if not (coupled and k == 2)]
    weights: list[dict[str, np.ndarray | None]] = []
    for k in range(len(found.w)):
        bias = _both(None if found.b is None else found.b[k])
        # of i o f c, that of f counts for nothing where f = 1 - i
        parts = {"weight_ih": found.w[k], "weight_hh": found.r[k], "bias": bias}
        one = {
            role: None if part is None else np.concatenate([np.split(part, 4)[gate] for gate in order])
            for role, part in parts.items()
        }
        if peepholes is not None:
            one |= dict(zip(("peephole_i", "peephole_o", "peephole_f"), np.split(peepholes[k], 3)))
        if coupled:
            one.pop("peephole_f", None)
        weights.append(one)
    options: dict[str, Option] = {"gate_clip": _gate_clip(call), "coupled": "f=1-i" if coupled else ""}
    return layer(call, _LSTM, weights, call.input(4), (call.input(5), call.input(6)), options)


def gru(call: Call) -> tuple[Any, ...]:
    found = _checked(call, _GRU, call.input(1), call.input(2), call.input(3))
    reset_after = bool(call.attribute("linear_before_reset", 0))
    weights = []
    for k in range(len(found.w)):
        one = {"weight_ih": _blocks(found.w[k], _GRU.order), "weight_hh": _blocks(found.r[k], _GRU.order)}
        if found.b is not None and reset_after:
            first, second = np.split(found.b[k], 2)
            one |= {"bias_ih": _blocks(first, _GRU.order), "bias_hh": _blocks(second, _GRU.order)}
        elif found.b is not None:
            one["bias_ih"] = _blocks(_both(found.b[k]), _GRU.order)
        weights.append(one)
    options: dict[str, Option] = {"gate_clip": _gate_clip(call), "reset_after": reset_after}
    return layer(call, _GRU, weights, call.input(4), (call.input(5),), options)


def rnn(call: Call) -> tuple[Any, ...]:
    found = _checked(call, _RNN, call.input(1), call.input(2), call.input(3))
    weights: list[dict[str, np.ndarray | None]] = [
        {"weight_ih": found.w[k], "weight_hh": found.r[k], "bias": _both(None if found.b is None else found.b[k])}
        for k in range(len(found.w))
    ]
    return layer(call, _RNN, weights, call.input(4), (call.input(5),), {"gate_clip": _gate_clip(call)})


def dynamic_quantize_lstm(call: Call) -> tuple[Any, ...]:
    """Of whole numbers W (directions, input, 4 * hidden) and R, as the LSTM of the weights that they stand for."""
    matrices = []
    for k, at in ((1, 8), (2, 10)):
        weight, factor, zero = call.input(k), call.input(at), call.input(at + 1)
        if not all(is_constant(one) or one is None for one in (weight, factor, zero)):
            raise call.refuse("weights or scales that the network computes are not supported")
        scale, shift = (None if one is None else _of_gates(np.asarray(one)) for one in (factor, zero))
        matrices.append(dequantised(np.asarray(weight), scale, shift).transpose(0, 2, 1))
    return _lstm(call, *matrices)


def _of_gates(array: np.ndarray) -> np.ndarray:
    """One number for each direction, or for each direction and column, beside (directions, rows, columns)."""
    return array.reshape(len(array), 1, -1) if array.ndim else array


OPERATORS: Mapping[str, Callable[[Call], Any]] = {
    "LSTM": lstm,
    "GRU": gru,
    "RNN": rnn,
    "com.microsoft.DynamicQuantizeLSTM": dynamic_quantize_lstm,
}
