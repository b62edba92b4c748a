"""LSTM, GRU and simple RNN: back through time.

Gradients are those of the equations (Werbos, 1990). Relevance is that of Arras et al. (arXiv 1706.07206) for the LSTM:
of a product of a gate and a signal all is the signal's, so that gates have none; sums share it by the epsilon rule. A
GRU and a simple RNN are treated alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from cylstm.explain.backward.activations import slope_of, value_of
from cylstm.explain.backward.normalisation import normalised_gradient
from cylstm.explain.backward.rule import Arrays, Call, Relevance, Rule
from cylstm.graph.layers.lstm import lstm_gates
from cylstm.graph.values import Option

#: of the step at a place: from what is known of the states after it to that of the states before it
_Step = Callable[[int, list[np.ndarray]], list[np.ndarray]]


class _Past:
    """A layer's steps in the order in which it takes them.

    Attributes
    ----------
    x : ndarray
        (batch, time, input)
    counts : ndarray of bool
        (batch, time)
    before : list of ndarray
        The states before each step, (batch, time, size).
    after : list of ndarray
        Those after the last step, (batch, size).
    """

    def __init__(self, call: Call, carried: list[np.ndarray], initial: list[np.ndarray]) -> None:
        self._call = call
        self._is_reversed = bool(call.options["reverse"])
        batch, time = call.x.shape[:2]
        self.x = self.turned(call.x.reshape(batch, time, -1))
        mask = call.masks.get("mask")
        self.counts = np.ones((batch, time), bool) if mask is None else self.turned(mask)
        self.before = [np.empty((batch, time, state.shape[1])) for state in initial]
        self.after = [state.copy() for state in initial]
        for t in range(time):
            for before, after, new in zip(self.before, self.after, carried):
                before[:, t] = after
                used = self.counts[:, t]
                after[used] = new[used, t]
        #: rows of which no step counts give this in the place of their initial states
        self.is_empty = np.zeros(batch, bool)
        if call.options["empty_state"] == "zero":
            self.is_empty |= ~self.counts.any(axis=1)
            for after in self.after:
                after[self.is_empty] = 0.0

    def turned(self, array: np.ndarray) -> np.ndarray:
        return array[:, ::-1] if self._is_reversed else array

    def x_as_given(self, array: np.ndarray) -> np.ndarray:
        return self.turned(array).reshape(self._call.x.shape)

    def back(self, out: Arrays, step: _Step) -> Arrays:
        """Through all steps, from the last one to the first: what is known of the initial states, by role."""
        time = self.counts.shape[1]
        of_y = out.get("y")
        of_y = None if of_y is None else self.turned(of_y)
        carry = []
        for role, after in zip(("h", "c"), self.after):
            last = out.get(role)
            carry.append(np.zeros_like(after) if last is None else np.where(self.is_empty[:, np.newaxis], 0.0, last))
        seen = np.cumsum(self.counts, axis=1) - self.counts > 0
        repeats = self._call.options["padding"] == "repeat"
        for t in range(time - 1, -1, -1):
            used = self.counts[:, t, np.newaxis]
            if of_y is not None:
                shows_state = used | seen[:, t, np.newaxis] if repeats else used
                carry[0] = carry[0] + np.where(shows_state, of_y[:, t], 0.0)
            carry = [np.where(used, new, old) for new, old in zip(step(t, carry), carry)]
        return dict(zip(("h0", "c0"), carry))


def _parts(call: Call, names: str) -> dict[str, np.ndarray]:
    """What goes into each gate's activation, 0 where a step does not count, in the order of processing."""
    found = {}
    for name in names:
        array = np.asarray(call.trace[f"{name}_pre"], np.float64)
        if "mask" in call.masks:
            array = np.where(call.masks["mask"][:, :, np.newaxis], array, 0.0)
        found[name] = array[:, ::-1] if call.options["reverse"] else array
    return found


def _counted(call: Call, part: str) -> np.ndarray:
    """A cell or an output, 0 where a step does not count, in the order of processing."""
    array = np.asarray(call.trace[part], np.float64)
    if "mask" in call.masks:
        array = np.where(call.masks["mask"][:, :, np.newaxis], array, 0.0)
    return array[:, ::-1] if call.options["reverse"] else array


def _limited(call: Call, pre: np.ndarray) -> np.ndarray:
    limit = call.number("gate_clip")
    return np.clip(pre, -limit, limit) if limit else pre


def _gate(call: Call, slot: str, pre: np.ndarray) -> np.ndarray:
    return value_of(call.options, slot, _limited(call, pre))


def _gate_slope(call: Call, slot: str, pre: np.ndarray) -> np.ndarray:
    limit = call.number("gate_clip")
    slope = slope_of(call.options, slot, _limited(call, pre))
    return np.where(np.abs(pre) <= limit, slope, 0.0) if limit else slope


class _LstmPast(_Past):
    """The steps of an LSTM: its gates ``i f g o`` and ``pre``, the cell `c` of each step before it is normalised, and
    `shown`, what of it the output reads.
    """

    def __init__(self, call: Call) -> None:
        weights, options = call.weights, call.options
        self.names = lstm_gates(options)
        self.pre = _parts(call, self.names)
        self.c = _counted(call, "c")
        gates = {name: _gate(call, "activation" if name == "g" else "recurrent_activation", self.pre[name])
                 for name in self.names}  # fmt: skip
        if options["coupled"] == "f=1-i":
            gates["f"] = 1.0 - gates["i"]
        elif options["coupled"] == "i=1-f":
            gates["i"] = 1.0 - gates["f"]
        elif not options["forget_gate"]:
            gates["f"] = np.ones_like(gates["i"])
        self.gates = gates
        self.shown = self.c
        if options["layer_norm"]:
            centred = self.c - self.c.mean(axis=-1, keepdims=True)
            scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + call.number("epsilon"))
            self.shown = centred / scale * weights["norm_c_gain"] + weights["norm_c_shift"]
        carried = self.shown if options["layer_norm"] == "carried" else self.c
        super().__init__(call, [_counted(call, "h"), carried], [call.initial["h0"], call.initial["c0"]])


class LstmRule(Rule):
    """All variants: peepholes, coupled gates, no forget gate, projection, clips, layer normalisation."""

    def relevance_refusal(self, options: Mapping[str, Option], inputs: int) -> str | None:
        return "relevance has no rule for a layer-normalised LSTM" if options["layer_norm"] else None

    def states(self, call: Call) -> Arrays:
        return dict(zip(("h", "c"), _LstmPast(call).after))

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        past, weights, options = _LstmPast(call), call.weights, call.options
        hidden, names = past.c.shape[2], past.names
        gates, pre = past.gates, past.pre
        slopes = {name: _gate_slope(call, "activation" if name == "g" else "recurrent_activation", pre[name])
                  for name in names}  # fmt: skip
        activated = value_of(options, "output_activation", past.shown)
        activated_slope = slope_of(options, "output_activation", past.shown)
        norm, epsilon = options["layer_norm"], call.number("epsilon")
        keeps = np.ones_like(past.c)
        if options["cell_clip"]:
            whole = gates["f"] * past.before[1] + gates["i"] * gates["g"]
            keeps = np.where(np.abs(whole) <= call.number("cell_clip"), 1.0, 0.0)
        of_pre = np.zeros((*past.counts.shape, len(names) * hidden))
        of_recurrent = past.before[0] @ weights["weight_hh"].T if norm else None
        peephole = {gate: weights.get(f"peephole_{gate}", 0.0) for gate in "ifo"}

        def step(t: int, carry: list[np.ndarray]) -> list[np.ndarray]:
            of_h, of_c = carry
            of_h = of_h @ weights["weight_hr"] if "weight_hr" in weights else of_h
            of_gates = {"o": of_h * activated[:, t]}
            of_each = {"o": of_gates["o"] * slopes["o"][:, t]}
            of_shown = of_h * gates["o"][:, t] * activated_slope[:, t] + of_each["o"] * peephole["o"]
            if norm == "carried":
                of_shown, of_c = of_shown + of_c, np.zeros_like(of_c)
            if norm:
                of_shown = normalised_gradient(past.c[:, t], of_shown * weights["norm_c_gain"], epsilon)
            of_c = (of_c + of_shown) * keeps[:, t]
            of_gates |= {
                "i": of_c * gates["g"][:, t],
                "f": of_c * past.before[1][:, t],
                "g": of_c * gates["i"][:, t],
            }
            if options["coupled"] == "f=1-i":
                of_gates["i"] = of_gates["i"] - of_gates["f"]
            elif options["coupled"] == "i=1-f":
                of_gates["f"] = of_gates["f"] - of_gates["i"]
            of_each |= {name: of_gates[name] * slopes[name][:, t] for name in names if name != "o"}
            of_before = of_c * gates["f"][:, t]
            for name in set("if") & set(names):
                of_before = of_before + of_each[name] * peephole[name]
            whole = np.concatenate([of_each[name] for name in names], axis=1)
            whole = np.where(past.counts[:, t, np.newaxis], whole, 0.0)
            of_pre[:, t] = whole
            if of_recurrent is not None:
                whole = normalised_gradient(of_recurrent[:, t], whole * weights["norm_hh_gain"], epsilon)
            return [whole @ weights["weight_hh"], of_before]

        initial = past.back(out, step)
        if norm:
            of_pre = normalised_gradient(past.x @ weights["weight_ih"].T, of_pre * weights["norm_ih_gain"], epsilon)
        return {"x": past.x_as_given(of_pre @ weights["weight_ih"]), **initial}

    def relevance(self, call: Call, out: Arrays, how: Relevance) -> Arrays:
        past, weights = _LstmPast(call), call.weights
        gates, hidden = past.gates, past.c.shape[2]
        rows = slice(past.names.index("g") * hidden, (past.names.index("g") + 1) * hidden)
        of_x, of_h = weights["weight_ih"][rows], weights["weight_hh"][rows]
        bias = weights["bias"][rows] if "bias" in weights else 0.0
        kept, entered = gates["f"] * past.before[1], gates["i"] * gates["g"]
        cell, z = kept + entered, past.pre["g"]
        units = of_x.shape[1] + of_h.shape[1]
        shown = gates["o"] * value_of(call.options, "output_activation", past.shown)
        quotients = np.zeros_like(cell)

        def step(t: int, carry: list[np.ndarray]) -> list[np.ndarray]:
            relevance = carry[0]
            if "weight_hr" in weights:
                matrix = weights["weight_hr"]
                projected = shown[:, t] @ matrix.T
                quotient = how.quotient(relevance, projected)
                relevance = how.linear(shown[:, t], matrix, 0.0, projected, quotient, hidden)
            # all that is the output's is the cell's: the output gate has none
            quotient = how.quotient(relevance + carry[1], cell[:, t])
            rest = how.shared(0.0, cell[:, t], quotient, 2 * hidden)
            of_entered = entered[:, t] * quotient + rest
            quotient_g = how.quotient(of_entered, z[:, t])
            quotients[:, t] = np.where(past.counts[:, t, np.newaxis], quotient_g, 0.0)
            before = how.linear(past.before[0][:, t], of_h, bias, z[:, t], quotient_g, units)
            return [before, kept[:, t] * quotient + rest]

        initial = past.back(out, step)
        return {"x": past.x_as_given(how.linear(past.x, of_x, bias, z, quotients, units)), **initial}


class _GruPast(_Past):
    """The steps of a GRU: its gates ``r z n`` and ``pre``, and its weights by gate."""

    def __init__(self, call: Call) -> None:
        self.pre = _parts(call, "rzn")
        self.gates = {name: _gate(call, "activation" if name == "n" else "recurrent_activation", self.pre[name])
                      for name in "rzn"}  # fmt: skip
        self.of_h = dict(zip("rzn", np.split(call.weights["weight_hh"], 3)))
        size = len(self.of_h["n"])
        self.bias_hh = call.weights["bias_hh"][2 * size :] if "bias_hh" in call.weights else np.zeros(size)
        super().__init__(call, [_counted(call, "h")], [call.initial["h0"]])


class GruRule(Rule):
    """With the reset before or after the recurrent product."""

    def states(self, call: Call) -> Arrays:
        return {"h": _GruPast(call).after[0]}

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        past, weights = _GruPast(call), call.weights
        gates, matrices, before = past.gates, past.of_h, past.before[0]
        slopes = {name: _gate_slope(call, "activation" if name == "n" else "recurrent_activation", past.pre[name])
                  for name in "rzn"}  # fmt: skip
        of_pre = np.zeros((*past.counts.shape, len(weights["weight_hh"])))
        recurrent = before @ matrices["n"].T + past.bias_hh

        def step(t: int, carry: list[np.ndarray]) -> list[np.ndarray]:
            of_h = carry[0]
            r, z, n = (gates[name][:, t] for name in "rzn")
            of_z = of_h * (before[:, t] - n) * slopes["z"][:, t]
            of_n = of_h * (1.0 - z) * slopes["n"][:, t]
            if call.options["reset_after"]:
                of_r = of_n * recurrent[:, t]
                through_n = (of_n * r) @ matrices["n"]
            else:
                of_product = of_n @ matrices["n"]
                of_r = of_product * before[:, t]
                through_n = of_product * r
            of_r = of_r * slopes["r"][:, t]
            whole = np.concatenate([of_r, of_z, of_n], axis=1)
            of_pre[:, t] = np.where(past.counts[:, t, np.newaxis], whole, 0.0)
            return [of_h * z + through_n + of_r @ matrices["r"] + of_z @ matrices["z"]]

        initial = past.back(out, step)
        return {"x": past.x_as_given(of_pre @ weights["weight_ih"]), **initial}

    def relevance(self, call: Call, out: Arrays, how: Relevance) -> Arrays:
        past, weights = _GruPast(call), call.weights
        gates, matrix, before = past.gates, past.of_h["n"], past.before[0]
        hidden = len(matrix)
        of_x = weights["weight_ih"][2 * hidden :]
        is_after = bool(call.options["reset_after"])
        bias = weights["bias_ih"][2 * hidden :] if "bias_ih" in weights else np.zeros(hidden)
        bias = bias + gates["r"] * past.bias_hh if is_after else np.broadcast_to(bias, past.pre["n"].shape)
        kept, entered = gates["z"] * before, (1.0 - gates["z"]) * gates["n"]
        state, z = kept + entered, past.pre["n"]
        units = of_x.shape[1] + hidden
        quotients = np.zeros_like(state)

        def step(t: int, carry: list[np.ndarray]) -> list[np.ndarray]:
            quotient = how.quotient(carry[0], state[:, t])
            rest = how.shared(0.0, state[:, t], quotient, 2 * hidden)
            quotient_n = how.quotient(entered[:, t] * quotient + rest, z[:, t])
            quotients[:, t] = np.where(past.counts[:, t, np.newaxis], quotient_n, 0.0)
            r = gates["r"][:, t]
            through_n = (
                before[:, t] * ((quotient_n * r) @ matrix) if is_after else r * before[:, t] * (quotient_n @ matrix)
            )
            through_n = through_n + how.shared(bias[:, t], z[:, t], quotient_n, units)
            return [kept[:, t] * quotient + rest + through_n]

        initial = past.back(out, step)
        return {"x": past.x_as_given(how.linear(past.x, of_x, bias, z, quotients, units)), **initial}


class RnnRule(Rule):
    """``h = activation(W x + R h + b)``."""

    @staticmethod
    def _past(call: Call) -> _Past:
        return _Past(call, [_counted(call, "h")], [call.initial["h0"]])

    def states(self, call: Call) -> Arrays:
        return {"h": self._past(call).after[0]}

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        past, weights = self._past(call), call.weights
        slope = _gate_slope(call, "activation", _parts(call, "h")["h"])
        of_pre = np.zeros_like(slope)

        def step(t: int, carry: list[np.ndarray]) -> list[np.ndarray]:
            of_pre[:, t] = np.where(past.counts[:, t, np.newaxis], carry[0] * slope[:, t], 0.0)
            return [of_pre[:, t] @ weights["weight_hh"]]

        initial = past.back(out, step)
        return {"x": past.x_as_given(of_pre @ weights["weight_ih"]), **initial}

    def relevance(self, call: Call, out: Arrays, how: Relevance) -> Arrays:
        past, weights = self._past(call), call.weights
        z, bias = _parts(call, "h")["h"], weights.get("bias", 0.0)
        of_x, of_h = weights["weight_ih"], weights["weight_hh"]
        units = of_x.shape[1] + of_h.shape[1]
        quotients = np.zeros_like(z)

        def step(t: int, carry: list[np.ndarray]) -> list[np.ndarray]:
            quotient = how.quotient(carry[0], z[:, t])
            quotients[:, t] = np.where(past.counts[:, t, np.newaxis], quotient, 0.0)
            return [how.linear(past.before[0][:, t], of_h, bias, z[:, t], quotient, units)]

        initial = past.back(out, step)
        return {"x": past.x_as_given(how.linear(past.x, of_x, bias, z, quotients, units)), **initial}
