"""Shapley values of parts of an input: features, blocks of time, or features in blocks of time.

A group's Shapley value is what it adds to the prediction, averaged over all orders in which the groups can come
(Shapley, 1953; Strumbelj and Kononenko, 2014). Sequences are divided, and their distant past is pruned, as in TimeSHAP
(Bento et al., arXiv 2012.00073).
"""

from __future__ import annotations

from collections.abc import Callable
from math import factorial
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.engine.mode import in_standard_mode
from cylstm.errors import ArgumentError, described
from cylstm.explain.coalitions import Explained
from cylstm.explain.groups import Groups

if TYPE_CHECKING:
    from cylstm.explain.attribution import Attribution
    from cylstm.model import Model

#: groups up to which all coalitions are computed
_EXACT = 12
#: pairs of orders, where more groups are and none are given
_PAIRS = 64
#: numbers of all coalitions of a piece of the pairs
_MOST_NUMBERS = 1 << 23


@in_standard_mode
def shapley(
    model: Model | Callable[[np.ndarray], Any],
    x: Any,
    groups: Any = "features",
    baseline: Any = 0.0,
    samples: int | None = None,
    seed: int = 0,
    *,
    prune: float | None = None,
    output: Any = None,
    rows: int | None = None,
    share: bool = True,
    **given: Any,
) -> Attribution:
    """Shapley values of groups of the input: what each adds to the prediction, averaged over all orders of the groups.

    They sum to the prediction less that of the baseline. With up to 12 groups they are exact, by the predictions of all
    ``2**groups`` coalitions. With more, or if `samples` is given, they are means over pairs of random orders, each an
    order and its reverse (Mitchell et al., arXiv 2104.12199), and `Attribution.error` is the standard error of these
    means, from the differences between the pairs.

    Parameters
    ----------
    model, x, groups, baseline, output, rows, share, **given
        As `occlusion` takes them.
    samples : int, optional
        Pairs of orders, the same for all rows of `x`; by default all coalitions up to 12 groups, else 64 pairs. A pair
        takes ``2 * (groups - 1)`` predictions. Of one pair the error is unknown (NaN).
    seed : int
        Of the orders.
    prune : float, optional
        The most that the distant past may matter: the first steps become one group, as many as together have a Shapley
        value of at most `prune` in every output of every row, against all that follow. They are found from the end on,
        over the steps at which groups begin or end (all steps, where none does), so that only the recent past is
        divided.

    Returns
    -------
    Attribution

    Raises
    ------
    ArgumentError
        As `occlusion`; for a number of samples below 1, a seed that is no whole number, or a tolerance below 0 or of an
        input without time.
    ShapeError, UnsupportedError
        As `occlusion`.
    """
    if samples is not None and (
        isinstance(samples, bool) or not isinstance(samples, (int, np.integer)) or not 1 <= samples < 1 << 31
    ):
        raise ArgumentError(f"samples: expected a number of pairs of orders from 1 on, found {described(samples)}")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ArgumentError(f"seed: expected a whole number from 0 on, found {described(seed)}")
    explained = Explained(model, x, output, rows=rows, share=share, given=given)
    divided, instead = explained.divided(groups, baseline)
    pruned = 0
    if prune is not None:
        pruned = _pruned_steps(explained, divided, instead, prune)
        divided = divided.with_past(pruned) if pruned else divided
    if samples is None and len(divided) <= _EXACT:
        values, error, ends = _exact(explained, divided, instead)
    else:
        pairs = _PAIRS if samples is None else int(samples)
        values, error, ends = _sampled(explained, divided, instead, pairs, int(seed))
    return explained.result("shapley", divided, values, error, ends, pruned)


def _exact(explained: Explained, groups: Groups, baseline: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values and errors (batch, groups, outputs), and the predictions without and with all (batch, 2, outputs).

    ``value[i] = sum over S without i of |S|! (n - |S| - 1)! / n! * (v(S and i) - v(S))``
    """
    count = len(groups)
    numbers = np.arange(1 << count)
    present = (numbers[:, np.newaxis] >> np.arange(count) & 1).astype(bool)
    found = explained.of(groups, baseline, present)
    sizes = present.sum(axis=1)
    weights = np.array([factorial(k) * factorial(count - k - 1) / factorial(count) for k in range(count)])
    values = np.empty((len(found), count, found.shape[2]))
    for i in range(count):
        without = numbers[~present[:, i]]
        gains = found[:, without | 1 << i] - found[:, without]
        values[:, i] = np.einsum("s,bso->bo", weights[sizes[without]], gains)
    return values, np.zeros_like(values), found[:, [0, -1]]


def _sampled(
    explained: Explained, groups: Groups, baseline: np.ndarray, pairs: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `_exact`, means over pairs of orders and their standard errors."""
    count = len(groups)
    rng = np.random.default_rng(seed)
    whole = np.array([[False], [True]]) & np.ones((1, count), bool)
    ends = explained.of(groups, baseline, whole)
    batch, _, outputs = ends.shape
    mean, squares = np.zeros((batch, count, outputs)), np.zeros((batch, count, outputs))
    piece = max(1, _MOST_NUMBERS // (2 * count * batch * outputs))
    done = 0
    while done < pairs:
        orders = np.array([rng.permutation(count) for _ in range(min(piece, pairs - done))])
        # row k of a walk has the first k + 1 groups of an order
        walks = np.empty((len(orders), 2, count, count), bool)
        for way, order in enumerate((orders, orders[:, ::-1])):
            walks[:, way] = np.argsort(order, axis=1)[:, np.newaxis] <= np.arange(count)[:, np.newaxis]
        inner = walks[:, :, :-1].reshape(-1, count)
        found = np.empty((batch, len(orders), 2, count + 1, outputs))
        found[:, :, :, 0] = ends[:, np.newaxis, np.newaxis, 0]
        found[:, :, :, -1] = ends[:, np.newaxis, np.newaxis, 1]
        if len(inner):
            present, places = np.unique(inner, axis=0, return_inverse=True)
            known = explained.of(groups, baseline, present)[:, places.reshape(-1)]
            found[:, :, :, 1:-1] = known.reshape(batch, len(orders), 2, count - 1, outputs)
        gains = np.diff(found, axis=3)
        for k, order in enumerate(orders):
            one = np.empty((batch, count, outputs))
            one[:, order] = 0.5 * gains[:, k, 0]
            one[:, order[::-1]] += 0.5 * gains[:, k, 1]
            # the mean and the sum of squares so far (Welford, 1962)
            done += 1
            shift = one - mean
            mean += shift / done
            squares += shift * (one - mean)
    if pairs == 1:
        return mean, np.full_like(mean, np.nan), ends
    return mean, np.sqrt(squares / (pairs - 1) / pairs), ends


def _pruned_steps(explained: Explained, groups: Groups, baseline: np.ndarray, tolerance: Any) -> int:
    """The most first steps whose joint Shapley value, of two groups, is within the tolerance for all rows and outputs.

    TimeSHAP's algorithm 1: the recent past grows from the end until the rest matters no more.
    """
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not tolerance >= 0.0:
        raise ArgumentError(f"prune: expected a number from 0 on, found {described(tolerance)}")
    if not explained.has_time:
        raise ArgumentError("prune: the input has no time")
    bounds = groups.segments()
    if len(bounds) == 1:
        bounds = [(k, k + 1) for k in range(len(groups.owner))]
    bounds = [bound for bound in bounds if (groups.owner[slice(*bound)] >= 0).any()]
    owner = np.full(groups.owner.shape, -1)
    for k, (start, stop) in enumerate(bounds):
        owner[start:stop] = np.where(groups.owner[start:stop] >= 0, k, -1)
    blocks = Groups(["" for _ in bounds], owner)
    last, count, size = len(bounds) - 1, len(bounds), 4
    while last > 0:
        # the past is the blocks before each of these
        cuts = np.arange(last, max(last - size, 0), -1)
        is_past = np.arange(count) < cuts[:, np.newaxis]
        ends = np.array([[False], [True]]) & np.ones((1, count), bool)
        found = explained.of(blocks, baseline, np.concatenate([ends, is_past, ~is_past]))
        nothing, everything = found[:, :1], found[:, 1:2]
        past, recent = found[:, 2 : 2 + len(cuts)], found[:, 2 + len(cuts) :]
        matters = np.abs(0.5 * (past - nothing + everything - recent)).max(axis=(0, 2))
        if (matters <= tolerance).any():
            return bounds[int(cuts[np.argmax(matters <= tolerance)])][0]
        last, size = last - len(cuts), 2 * size
    return 0
