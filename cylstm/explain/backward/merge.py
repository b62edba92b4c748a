"""Several values into one: side by side, or element by element."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cylstm.explain.backward.rule import Arrays, Call, Relevance, Rule
from cylstm.graph.values import Option

_SUMS = ("sum", "ave", "sub")
#: which are flat on either side of where they change; a gradient through them is 0, as in PyTorch
_COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "and", "or", "xor")


class MergeRule(Rule):
    """Concatenation, sums, products, quotients, extremes and comparisons."""

    def refusal(self, options: Mapping[str, Option], inputs: int) -> str | None:
        known = ("concat", *_SUMS, "mul", "div", "max", "min", *_COMPARISONS)
        return None if options["mode"] in known else f"mode {options['mode']!r} has no gradient here"

    def relevance_refusal(self, options: Mapping[str, Option], inputs: int) -> str | None:
        if options["mode"] in ("concat", *_SUMS):
            return None
        return f"relevance has no rule for mode {options['mode']!r}: it does not say which input is the signal"

    @staticmethod
    def _values(call: Call) -> dict[str, np.ndarray]:
        """Role -> value, in order, with axes of size 1 after the batch so that all have one rank."""
        roles = ["x", *(f"x{k}" for k in range(1, len(call.inputs)))]
        rank = max(call.inputs[role].ndim for role in roles)
        return {
            role: call.inputs[role].reshape(
                len(call.y), *[1] * (rank - call.inputs[role].ndim), *call.inputs[role].shape[1:]
            )
            for role in roles
        }

    @staticmethod
    def _like(array: np.ndarray, value: np.ndarray, given: np.ndarray) -> np.ndarray:
        """Summed over the axes along which the value was repeated, of the shape in which it was given."""
        repeated = tuple(k for k in range(1, array.ndim) if value.shape[k] == 1 and array.shape[k] != 1)
        return np.asarray(array.sum(axis=repeated, keepdims=True)).reshape(given.shape)

    def _parts(self, call: Call, out: np.ndarray) -> Arrays:
        """Of a concatenation."""
        axis = call.count("axis")
        roles = ["x", *(f"x{k}" for k in range(1, len(call.inputs)))]
        ends = np.cumsum([call.inputs[role].shape[axis] for role in roles])[:-1]
        return dict(zip(roles, np.split(out, ends.tolist(), axis=axis)))

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        mode, of_y = call.options["mode"], out["y"]
        if mode == "concat":
            return self._parts(call, of_y)
        if mode in _COMPARISONS:
            return {role: np.zeros_like(value) for role, value in call.inputs.items()}
        values = self._values(call)
        arrays = list(values.values())
        slopes = _slopes(str(mode), arrays, of_y.shape)
        return {
            role: self._like(np.broadcast_to(of_y * slope, of_y.shape), value, call.inputs[role])
            for (role, value), slope in zip(values.items(), slopes)
        }

    def relevance(self, call: Call, out: Arrays, how: Relevance) -> Arrays:
        """Each input of a sum has its part of it."""
        mode, of_y = call.options["mode"], out["y"]
        if mode == "concat":
            return self._parts(call, of_y)
        values = self._values(call)
        slopes = _slopes(str(mode), list(values.values()), of_y.shape)
        terms = [np.broadcast_to(slope * value, of_y.shape) for slope, value in zip(slopes, values.values())]
        z = np.sum(terms, axis=0)
        quotient = how.quotient(of_y, z)
        rest = how.bias_factor * how.signed(z) * quotient / len(terms)
        return {
            role: self._like(term * quotient + rest, values[role], call.inputs[role])
            for role, term in zip(values, terms)
        }


def _slopes(mode: str, values: list[np.ndarray], shape: tuple[int, ...]) -> list[np.ndarray]:
    """The slope of the result along each value."""
    ones = np.ones(shape)
    if mode in ("sum", "ave"):
        return [ones / (len(values) if mode == "ave" else 1.0)] * len(values)
    if mode == "sub":
        return [ones, *[-ones] * (len(values) - 1)]
    if mode == "mul":
        return [
            np.asarray(np.prod(np.stack(np.broadcast_arrays(ones, *values[:k], *values[k + 1 :])), axis=0))
            for k in range(len(values))
        ]
    if mode == "div":
        # x / x1 / x2 ...
        with np.errstate(divide="ignore", invalid="ignore"):
            divisor = np.prod(np.stack(np.broadcast_arrays(ones, *values[1:])), axis=0)
            quotient = values[0] / divisor
            return [1.0 / divisor, *(-quotient / value for value in values[1:])]
    # of equal extremes PyTorch and others share evenly
    every = np.stack(np.broadcast_arrays(ones * values[0], *values[1:]))
    best = every.max(axis=0) if mode == "max" else every.min(axis=0)
    is_best = every == best
    return list(is_best / is_best.sum(axis=0))
