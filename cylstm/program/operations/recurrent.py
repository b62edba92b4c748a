"""Recurrent layers and cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cylstm.errors import ShapeError
from cylstm.graph.activations import activation_options
from cylstm.graph.values import Option, Value
from cylstm.program.network import Network, describe
from cylstm.program.operations.parts import select
from cylstm.program.tensor import BATCH, Stack, Tensor, is_constant, shape_of


@dataclass(frozen=True)
class Direction:
    """One layer and direction of a recurrent network.

    Attributes
    ----------
    weights : dict
        Role -> array, in the canonical layout.
    is_reverse : bool
    options : dict
        Those of this direction alone.
    """

    weights: Mapping[str, np.ndarray | None]
    is_reverse: bool = False
    options: Mapping[str, Option] = field(default_factory=dict)


def recurrent(
    net: Network,
    kind: str,
    x: Any,
    states: Sequence[Any],
    layers: Sequence[Sequence[Direction]],
    *,
    batch_first: bool,
    options: Mapping[str, Option] | None = None,
    mask: Value | None = None,
    dropout: float = 0.0,
) -> tuple[Any, ...]:
    """A stack of layers: y, and the last states, each (layers * directions, batch, size).

    Parameters
    ----------
    kind : {"lstm", "gru", "rnn"}
    x : Tensor
        (batch, time, features) or (time, batch, features).
    states : sequence
        (h,) or (h, c), each (layers * directions, batch, size); None for zeros.
    layers : sequence of sequence of Direction
    mask : Value, optional
        Which steps are valid.
    dropout : float
        The rate at which the result of every layer but the last is dropped in training.
    """
    x = net.constant(x) if is_constant(x) else net.tensor(x)
    time = 1 if batch_first else 0
    expected = f"({'batch, time' if batch_first else 'time, batch'}, features)"
    is_single = x.ndim == 2
    if is_single:
        raise net.refuse(f"expected {expected}, found {x.shape}; give the batch an axis")
    if x.ndim != 3 or x.axes[1 - time] != BATCH:
        raise net.refuse(f"expected {expected}, found {x.shape}")
    value = net.arrange(net.solid(net.solid(x, time), 2), [time, 2])
    if mask is None:
        net.refuse_unpacked(value, "a recurrent layer", "it packed, with the lengths")
        mask = net.own_mask(value)
    directions = len(layers[0])
    count = len(layers) * directions
    roles = ("h0", "c0")
    parts = {role: initial_states(net, one, count) for role, one in zip(roles, states)}
    hidden, cells = [], []
    for k, layer in enumerate(layers):
        results = []
        for number, direction in enumerate(layer):
            first = {role: found[k * directions + number] for role, found in parts.items()}
            name = f"l{k}.reverse" if direction.is_reverse else f"l{k}"
            given: dict[str, Any] = {**first} if mask is None else {**first, "mask": mask}
            settings = {**(options or {}), **direction.options, "reverse": direction.is_reverse}
            outputs = net.add_layers(kind, value, direction.weights, settings, part=name, **given)
            results.append(outputs["y"])
            hidden.append(Tensor(outputs["h"], (BATCH, 0)))
            cells += [Tensor(outputs["c"], (BATCH, 0))] if kind == "lstm" else []
        value = results[0]
        if len(results) > 1:
            joined: dict[str, Option] = {"mode": "concat"}
            value = net.add_layer("merge", value, options=joined, part=f"l{k}.merge", x1=results[1])
        if dropout and k < len(layers) - 1:
            value = net.add_layer("dropout", value, options={"rate": float(dropout)}, part=f"l{k}.dropout")
    y = Tensor(value, (BATCH, 0, 1) if batch_first else (0, BATCH, 1))
    return (y, Stack(tuple(hidden)), Stack(tuple(cells))) if kind == "lstm" else (y, Stack(tuple(hidden)))


def initial_states(net: Network, state: Any, count: int) -> list[Value | None]:
    """The parts of a (layers * directions, batch, size) state; None for zeros."""
    if state is None or _is_zero(state):
        return [None] * count
    shape = shape_of(state)
    if len(shape) != 3 or shape[0] != count:
        raise ShapeError(f"{net.place_name}: expected a state of shape ({count}, batch, size), found {shape}")
    return [state_vector(net, select(net, state, 0, k), part=f"state{k}") for k in range(count)]


def _is_zero(state: Any) -> bool:
    return is_constant(state) and not np.any(getattr(state, "array", state))


def state_vector(net: Network, state: Any, part: str = "state") -> Value | None:
    """A state (batch, size) as the vector that a layer starts with; None for zeros."""
    if state is None or _is_zero(state):
        return None
    tensor = net.constant(state, part=part) if is_constant(state) else net.tensor(state)
    if tensor.ndim != 2:
        raise ShapeError(f"{net.place_name}: expected a state (batch, size), found {describe(state)}")
    return net.arrange(net.solid(tensor, 1), [1])


def cell(
    net: Network,
    kind: str,
    x: Any,
    states: Sequence[Any],
    weights: Mapping[str, np.ndarray | None],
    options: Mapping[str, Option] | None = None,
) -> tuple[Tensor, ...]:
    """One step of a cell, a sequence of one step: its new states."""
    x = net.constant(x) if is_constant(x) else net.tensor(x)
    if x.ndim != 2 or x.axes[0] != BATCH:
        raise net.refuse(f"expected (batch, features), found {x.shape}")
    features = net.arrange(net.solid(x, 1), [1])
    value = net.reshaped(features, [1, features.features], part="step")
    first: dict[str, Any] = {role: state_vector(net, one) for role, one in zip(("h0", "c0"), states)}
    outputs = net.add_layers(kind, value, weights, options, **first)
    h = Tensor(outputs["h"], (BATCH, 0))
    return (h, Tensor(outputs["c"], (BATCH, 0))) if kind == "lstm" else (h,)


def rnn_activation(net: Network, name: str) -> dict[str, Option]:
    """The options of an RNN with this activation."""
    return activation_options("activation", name, where=f"layer {net.name!r}")
