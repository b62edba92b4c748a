"""Which numbers of an input a prediction depends on: its gradient, the integrated gradient, and relevance.

One pass back through the network, in float64, over the trace of the engine's own prediction; no other framework is
needed. Networks with layers that have no rule (`cylstm.explain.backward`) are refused by name.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cylstm.engine.mode import in_standard_mode
from cylstm.errors import ArgumentError, UnsupportedError, described
from cylstm.explain.backward.network import Backward, Found, Given
from cylstm.explain.backward.rule import Relevance
from cylstm.explain.coalitions import is_model
from cylstm.explain.groups import Background, baseline_of
from cylstm.inputs import to_layout

if TYPE_CHECKING:
    from cylstm.model import Model

#: rows that are traced at once
_ROWS = 64


class InputGradients:
    """What `gradients`, `integrated_gradients` or `lrp` found, in float64.

    Attributes
    ----------
    method : {"gradients", "integrated_gradients", "lrp"}
    values : ndarray or list of ndarray
        A number for each number of the input, of its shape; a list for several inputs. Of `gradients` the slope of the
        prediction; of the others what each number did to it.
    initial : list of tuple of ndarray
        The same of the initial states, in the form of `Model.state_names`; none of `integrated_gradients`, along whose
        line they stay as they are.
    prediction : ndarray
        (batch,): the explained number, or the sum of several.
    base_value : ndarray or None
        (batch,): of `integrated_gradients`, the prediction for the baseline.

    Without a batch axis where the input came without one.
    """

    def __init__(
        self,
        method: str,
        values: Any,
        initial: list[tuple[np.ndarray, ...]],
        prediction: np.ndarray,
        base_value: np.ndarray | None,
        has_batch: bool,
    ) -> None:
        self.method = method
        self.values = values
        self.initial = initial
        self.prediction = prediction
        self.base_value = base_value
        self.has_batch = has_batch

    @property
    def residual(self) -> np.ndarray | None:
        """(batch,): what of the prediction is nobody's; None for `gradients`, which are no shares.

        Of integrated gradients ``prediction - base_value - sum of values``, by which more steps make it smaller. Of
        relevance ``prediction - sum of values and initial``: what biases and epsilon took.
        """
        if self.method == "gradients":
            return None
        arrays = [*(self.values if isinstance(self.values, list) else [self.values])]
        arrays += [part for parts in self.initial for part in parts] if self.method == "lrp" else []
        rest = self.prediction - (0.0 if self.base_value is None else self.base_value)
        for array in arrays:
            rest = rest - (array.reshape(len(array), -1).sum(axis=1) if self.has_batch else array.sum())
        return np.asarray(rest)

    def __repr__(self) -> str:
        arrays = self.values if isinstance(self.values, list) else [self.values]
        return f"<InputGradients by {self.method}: {', '.join(str(array.shape) for array in arrays)}>"


@in_standard_mode
def gradients(model: Model, x: Any, output: Any = None, **given: Any) -> InputGradients:
    """The gradient of a prediction with respect to the input: how it changes with each number, by a small change.

    Parameters
    ----------
    model : Model
        Of LSTM, GRU and RNN layers in all their variants, Dense, activations, normalisation, merges, Last and layers
        that only move numbers (`cylstm.explain.backward.RULES`).
    x : array_like, list or dict
        As `Model.predict` takes it.
    output : int, slice, tuple or str, optional
        Which number of one row's result is explained: an index as NumPy takes it, such as ``0`` or ``(-1, 0)``; with
        slices the sum of several; of several outputs of a network a name, or a tuple of a name and an index. Left out
        where the result is a single number.
    **given
        ``lengths``, ``mask`` or ``initial_state``, as `Model.predict` takes them.

    Returns
    -------
    InputGradients
        Exact for the weights and the gates of the model: in a model of float64 (``engine="blas", dtype="float64"``) it
        differs from PyTorch's by rounding in float64, otherwise by that in float32. At a kink of an activation the
        slope is that of PyTorch.

    Raises
    ------
    UnsupportedError
        If the output depends on the input through a layer that has no rule, or on whole numbers; names it. Nothing is
        computed before.
    ArgumentError
        If there is no such output, or it is more than one number.
    ShapeError
        As `Model.predict`.
    """
    way = Backward(_checked(model), output)
    read = way.read(x, given)
    return _result(way, "gradients", read, _in_pieces(way, read), None)


@in_standard_mode
def integrated_gradients(
    model: Model, x: Any, output: Any = None, baseline: Any = 0.0, steps: int = 32, **given: Any
) -> InputGradients:
    """The gradient along the straight line from a baseline to the input, times the way (Sundararajan et al., 2017).

    The values sum to the prediction less that of the baseline, but for the `residual`, which more steps make smaller.

    Parameters
    ----------
    model, x, output, **given
        As `gradients` takes them.
    baseline : float, array_like or Background
        A number, one for each feature, a sample, or a sample for each row of `x`; the mean of a `Background`. Of
        several inputs a number, or a list with one of these for each.
    steps : int
        Points of the line, at which the gradient is taken (Gauss-Legendre).

    Returns
    -------
    InputGradients

    Raises
    ------
    ArgumentError, ShapeError, UnsupportedError
        As `gradients`; `ArgumentError` also for a number of steps that is none, `ShapeError` for a baseline of another
        shape.
    """
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or not 1 <= steps <= 4096:
        raise ArgumentError(f"steps: expected a number from 1 to 4096, found {described(steps)}")
    way = Backward(_checked(model), output)
    read = way.read(x, given)
    baselines = _baselines(way, baseline, read)
    batch = len(read.inputs[0])
    places, weights = np.polynomial.legendre.leggauss(int(steps))
    places, weights = 0.5 * (places + 1.0), 0.5 * weights
    ends = Given(baselines, read.has_batch, read.masks, read.states)
    base = _in_pieces(way, ends).prediction
    prediction = _in_pieces(way, read).prediction
    inputs = [np.zeros(array.shape) for array in read.inputs]
    for row in range(batch):
        one = slice(row, row + 1)
        of_row = read.rows(np.full(int(steps), row))
        points = [
            low[one] + places.reshape(-1, *[1] * (array.ndim - 1)) * (array[one] - low[one])
            for low, array in zip(baselines, read.inputs)
        ]
        points = [np.ascontiguousarray(point, array.dtype) for point, array in zip(points, read.inputs)]
        found = _in_pieces(way, of_row._replace(inputs=points))
        for total, low, array, gradient in zip(inputs, baselines, read.inputs, found.inputs):
            total[row] = np.tensordot(weights, gradient, 1) * (array[row].astype(np.float64) - low[row])
    return _result(way, "integrated_gradients", read, Found(prediction, inputs, []), base)


@in_standard_mode
def lrp(
    model: Model, x: Any, output: Any = None, epsilon: float = 1e-3, bias_factor: float = 0.0, **given: Any
) -> InputGradients:
    """Layer-wise relevance propagation: how a prediction is shared out, layer by layer, to the numbers of the input.

    The rules of Arras et al. (arXiv 1706.07206): a linear layer shares its result out by the epsilon rule; of a gate
    times a signal all is the signal's, so that gates have none; activations pass relevance on. What is shared out is
    the prediction itself, or where a softmax gives it the score that goes into it.

    Parameters
    ----------
    model, x, output, **given
        As `gradients` takes them.
    epsilon : float
        Added to the denominators with their sign, so that small sums have no large parts.
    bias_factor : float
        From 0 to 1: which part of the relevance of biases and of epsilon is shared evenly by the inputs of a layer.
        With 1 all relevance arrives at the inputs and the initial states, which is a check of the rules; the paper's
        explanations have 0, and the `residual` is then what biases and epsilon took.

    Returns
    -------
    InputGradients

    Raises
    ------
    ArgumentError, ShapeError, UnsupportedError
        As `gradients`; `UnsupportedError` also for layers that have a gradient and no rule of relevance: products of
        two signals, normalisation with the statistics of the input, functions of other kinds than activations.
    """
    for name, number, most in (("epsilon", epsilon, math.inf), ("bias_factor", bias_factor, 1.0)):
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0.0 <= number <= most:
            limit = "from 0 on" if most == math.inf else f"from 0 to {most:g}"
            raise ArgumentError(f"{name}: expected a number {limit}, found {described(number)}")
    way = Backward(_checked(model), output, Relevance(float(epsilon), float(bias_factor)))
    read = way.read(x, given)
    return _result(way, "lrp", read, _in_pieces(way, read), None)


def _checked(model: Any) -> Model:
    if not is_model(model):
        raise ArgumentError(
            f"model: expected a Model, found {described(model)}; occlusion and shapley take functions too"
        )
    return cast("Model", model)


def _in_pieces(way: Backward, read: Given) -> Found:
    """All rows, so many at once that memory stays bounded."""
    batch = len(read.inputs[0])
    found = [way.run(read.rows(slice(first, first + _ROWS))) for first in range(0, batch, _ROWS)]
    if len(found) == 1:
        return found[0]
    return Found(
        np.concatenate([one.prediction for one in found]),
        [np.concatenate(arrays) for arrays in zip(*(one.inputs for one in found))],
        [[np.concatenate(parts) for parts in zip(*layers)] for layers in zip(*(one.states for one in found))],
    )


def _baselines(way: Backward, baseline: Any, read: Given) -> list[np.ndarray]:
    """The start of the line of each row, of each input."""
    model, count = way.model, len(read.inputs)
    if model._packed.layouts and not isinstance(baseline, (int, float)):
        raise UnsupportedError("baseline: of a network with other orders of axes expected a number")
    each = [baseline] * count
    if count > 1 and not isinstance(baseline, (int, float)):
        if not isinstance(baseline, (list, tuple)) or len(baseline) != count:
            raise ArgumentError(f"baseline: expected a number, or a list of one for each of {count} inputs")
        each = list(baseline)
    found = []
    for one, array in zip(each, read.inputs):
        if isinstance(one, Background) and one.average == "outputs":
            one = Background(one.data, "inputs")
        low = baseline_of(one, array)[:, 0]
        found.append(np.ascontiguousarray(np.broadcast_to(low, array.shape)))
    return found


def _result(way: Backward, method: str, read: Given, found: Found, base: np.ndarray | None) -> InputGradients:
    """As the user has the axes, without a batch axis where the input came without one."""
    packed = way.model._packed
    arrays = [
        to_layout(array, packed.layouts[value.name], len(value.shape)) if value.name in packed.layouts else array
        for value, array in zip(packed.inputs, found.inputs)
    ]
    states, prediction = found.states, found.prediction
    if not read.has_batch:
        arrays = [array[0] for array in arrays]
        states = [[part[0] for part in parts] for parts in states]
        prediction, base = prediction[0], None if base is None else base[0]
    return InputGradients(
        method,
        arrays if len(arrays) > 1 else arrays[0],
        [tuple(parts) for parts in states],
        np.asarray(prediction),
        None if base is None else np.asarray(base),
        read.has_batch,
    )
