"""Recurrent layers and cells."""

from __future__ import annotations

from typing import Any

import numpy as np

from cylstm.formats.torch.module import class_of
from cylstm.formats.torch.network import Network
from cylstm.formats.torch.tensor import BATCH, Stack, Tensor
from cylstm.graph.activations import activation_options
from cylstm.graph.values import Option, Value

_KINDS = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn"}


def recurrent_weights(net: Network, kind: str, m: Any, suffix: str) -> dict[str, np.ndarray | None]:
    """Role -> array of one layer and direction, the two biases summed where only their sum counts."""
    weights = {role: net.array(getattr(m, role + suffix, None)) for role in ("weight_ih", "weight_hh", "weight_hr")}
    bias_ih, bias_hh = (net.array(getattr(m, role + suffix, None)) for role in ("bias_ih", "bias_hh"))
    if kind == "GRU":
        return weights | {"bias_ih": bias_ih, "bias_hh": bias_hh}
    return weights | {"bias": None if bias_ih is None else bias_ih + bias_hh}


def recurrent_options(net: Network, kind: str, m: Any) -> dict[str, Option]:
    if kind != "RNN":
        return {}
    return activation_options("activation", m.nonlinearity, where=f"layer {net.name!r}")


def learned(net: Network, constant: Any, x: Value) -> Value:
    """A constant of the module, (1, size), as a vector of every row of `x`: 0 times one of its numbers, and a bias."""
    for axis in range(len(x.shape)):
        x = net.add_layer("slice", x, options={"axis": axis, "start": 0, "count": 1}, part="row")
    one = net.add_layer("reshape", x, options={"shape": "1"}, part="row") if len(x.shape) > 1 else x
    options = activation_options("activation", "clip", 0.0, 0.0, where=f"layer {net.name!r}")
    bias = constant.detach().numpy().reshape(-1).astype(net.dtype)
    weights = {"weight": np.zeros((bias.size, 1), net.dtype), "bias": bias}
    return net.add_layer("dense", net.add_layer("activation", one, options=options, part="zero"), weights, part="start")


def initial_states(net: Network, state: Any, count: int, x: Value) -> list[Value | None]:
    """The parts of an (layers * directions, batch, size) state; None for zeros."""
    if isinstance(state, Stack):
        if len(state.parts) != count:
            raise net.refuse(f"expected a state of {count} layers and directions, found {len(state.parts)}")
        return list(state.parts)
    if state is None or _is_zero(state):
        return [None] * count
    if hasattr(state, "dtype") and tuple(state.shape[:2]) == (count, 1) and state.ndim == 3:
        return [learned(net, one, x) for one in state]
    state = net.tensor(state)
    if len(state.axes) != 3 or state.batch != 1 or state.size(0) != count:
        raise net.refuse(f"expected a state of shape ({count}, batch, size), found {state.shape}")
    if state.axes[0] is None:
        return [net.arrange(state, [2])]
    parts: list[Value | None] = []
    for k in range(count):
        options = {"axis": state.axes[0], "start": k, "count": 1}
        part = net.add_layer("slice", state.value, options=options, part=f"state{k}")
        parts.append(net.arrange(Tensor(part, (None, BATCH, state.axes[2])), [2]))
    return parts


def _is_zero(state: Any) -> bool:
    return hasattr(state, "dtype") and not bool(state.any())


def recurrent(net: Network, m: Any, x: Any, state: Any = None) -> tuple[Any, ...]:
    kind = class_of(m).__name__
    x = net.tensor(x)
    time = 1 if m.batch_first else 0
    if len(x.axes) != 3 or x.batch != 1 - time:
        raise net.refuse(f"expected ({'batch, time' if time else 'time, batch'}, features), found {x.shape}")
    value = net.arrange(x, [time, 2])
    directions = 2 if m.bidirectional else 1
    count = m.num_layers * directions
    given = state if kind == "LSTM" and state is not None else (state,)
    if not isinstance(given, (tuple, list)) or (kind == "LSTM" and state is not None and len(given) != 2):
        raise net.refuse("expected a tuple (h_0, c_0) as its state")
    parts = {role: initial_states(net, one, count, value) for role, one in zip(("h0", "c0"), given)}
    hidden, cells = [], []
    for k in range(m.num_layers):
        results = []
        for reverse in range(directions):
            suffix = f"_l{k}_reverse" if reverse else f"_l{k}"
            weights = recurrent_weights(net, kind, m, suffix)
            options = {**recurrent_options(net, kind, m), "reverse": bool(reverse)}
            first = {role: states[k * directions + reverse] for role, states in parts.items()}
            # lengths reach the layers above through the masks of their inputs
            outputs = net.add_layers(
                _KINDS[kind], value, weights, options, part=f"l{k}.reverse" if reverse else f"l{k}", **first
            )
            results.append(outputs["y"])
            hidden.append(outputs["h"])
            cells += [outputs["c"]] if kind == "LSTM" else []
        value = results[0]
        if reverse:
            value = net.add_layer("merge", value, options={"mode": "concat"}, part=f"l{k}.merge", x1=results[1])
    y = Tensor(value, (BATCH, 0, 1) if time else (0, BATCH, 1))
    return y, (Stack(tuple(hidden)), Stack(tuple(cells))) if kind == "LSTM" else Stack(tuple(hidden))


def cell(net: Network, m: Any, x: Any, state: Any = None) -> object:
    """One step of a cell: a sequence of one step."""
    kind = class_of(m).__name__.removesuffix("Cell")
    x = net.tensor(x)
    if len(x.axes) != 2 or x.batch != 0:
        raise net.refuse(f"expected (batch, features), found {x.shape}")
    features = net.arrange(x, [1])
    value = net.add_layer("reshape", features, options={"shape": f"1,{features.features}"}, part="step")
    given = state if kind == "LSTM" and state is not None else (state,)
    first: dict[str, Any] = {}
    for role, one_state in zip(("h0", "c0"), given):
        if one_state is not None and not _is_zero(one_state):
            constant = hasattr(one_state, "dtype") and tuple(one_state.shape) == (1, m.hidden_size)
            first[role] = learned(net, one_state, features) if constant else net.arrange(net.tensor(one_state), [1])
    weights = recurrent_weights(net, kind, m, "")
    outputs = net.add_layers(_KINDS[kind], value, weights, recurrent_options(net, kind, m), **first)
    h = Tensor(outputs["h"], (BATCH, 0))
    return (h, Tensor(outputs["c"], (BATCH, 0))) if kind == "LSTM" else h
