"""Intervals by split conformal prediction, and their rolling update."""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from cylstm.errors import ArgumentError, ShapeError, described

_MOST_STEPS = 1000
#: how many residuals of a step are kept at most
_MOST_RANKS = 201
_FIELDS = ("coverage", "forecasts", "ranks", "residuals")


class Calibration(NamedTuple):
    """Absolute residuals of forecasts of a calibration set, step by step of the horizon.

    Attributes
    ----------
    coverage : float
        Of the intervals.
    forecasts : int
        How many there were.
    ranks : ndarray of int64
        Which of the sorted residuals are kept, from 1.
    residuals : ndarray of float64
        (steps, ranks), in units.
    """

    coverage: float
    forecasts: int
    ranks: np.ndarray
    residuals: np.ndarray

    @property
    def steps(self) -> int:
        """How many steps of a forecast have intervals."""
        return len(self.residuals)

    def alpha(self, steps: int, coverage: float | None = None) -> np.ndarray:
        """With which probability each step may miss, of the coverage or of another one. Raises `ShapeError`."""
        share = self.coverage if coverage is None else check_coverage(coverage)
        if _rank(self.forecasts, share) > self.forecasts:
            raise ShapeError(
                f"coverage: {share} needs more than the {self.forecasts} forecasts that were calibrated on"
            )
        return np.full(steps, 1.0 - share)

    def half_widths(self, alpha: np.ndarray) -> np.ndarray:
        """Of intervals that miss with these probabilities, one for each of the first steps; infinite below 1 / (n + 1).

        The ``ceil((n + 1) * (1 - alpha))``-th smallest of n residuals, or the next larger one that is kept.
        """
        found = np.empty(len(alpha))
        for step, miss in enumerate(alpha):
            rank = _rank(self.forecasts, 1.0 - float(miss))
            if rank > self.forecasts:
                found[step] = np.inf
            else:
                found[step] = 0.0 if rank < 1 else self.residuals[step, np.searchsorted(self.ranks, rank)]
        return found

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "coverage": self.coverage,
            "forecasts": self.forecasts,
            "ranks": self.ranks.tolist(),
            "residuals": self.residuals.tolist(),
        }


def _rank(count: int, coverage: float) -> int:
    # 0.9 * 10 is 9.000000000000002 with some numbers: a rank is not one more for that
    return math.ceil((count + 1) * coverage - 1e-9)


def check_coverage(coverage: object) -> float:
    """A coverage between 0 and 1. Raises `ArgumentError`."""
    if isinstance(coverage, bool) or not isinstance(coverage, (int, float, np.floating)) or not 0 < coverage < 1:
        raise ArgumentError(f"coverage: expected a number between 0 and 1, found {described(coverage)}")
    return float(coverage)


def check_rate(adapt: object) -> float:
    """The step size of the rolling update. Raises `ArgumentError`."""
    if isinstance(adapt, bool) or not isinstance(adapt, (int, float, np.floating)) or not 0 < adapt <= 1:
        raise ArgumentError(f"adapt: expected a number above 0 and at most 1, found {described(adapt)}")
    return float(adapt)


def calibrated(residuals: np.ndarray, coverage: float) -> Calibration:
    """Of absolute residuals (forecasts, steps).

    Raises
    ------
    ShapeError
        If they are too few for the coverage, or of too many steps.
    """
    count, steps = residuals.shape
    rank = _rank(count, coverage)
    if rank > count:
        needed = count
        while _rank(needed, coverage) > needed:
            needed += 1
        raise ShapeError(
            f"frame: a coverage of {coverage} needs at least {needed} forecasts from start on, found {count}"
        )
    if steps > _MOST_STEPS:
        raise ShapeError(f"steps: expected at most {_MOST_STEPS}, found {steps}")
    grid = np.ceil(np.arange(1, _MOST_RANKS) * count / (_MOST_RANKS - 1)).astype(np.int64)
    ranks = np.unique(np.append(np.arange(1, count + 1) if count < _MOST_RANKS else grid, rank))
    return Calibration(coverage, count, ranks, np.sort(residuals, axis=0)[ranks - 1].T.copy())


def read_calibration(given: Any) -> Calibration:
    """What `Calibration.to_dict` gave. Raises `ArgumentError` about anything else."""
    if isinstance(given, Calibration):
        return given
    if not isinstance(given, dict) or set(given) != set(_FIELDS):
        raise ArgumentError(f"calibration: expected {', '.join(_FIELDS)}, found {described(given)}")
    coverage, count = check_coverage(given["coverage"]), given["forecasts"]
    if type(count) is not int or not 1 <= count < 1 << 31:
        raise ArgumentError(f"calibration: forecasts expected a whole number of at least 1, found {described(count)}")
    ranks, rows = given["ranks"], given["residuals"]
    is_list = isinstance(ranks, list) and 0 < len(ranks) <= _MOST_RANKS + 1
    if not is_list or not all(type(rank) is int and 1 <= rank <= count for rank in ranks):
        raise ArgumentError(f"calibration: ranks expected numbers of 1 to {count}, found {described(ranks)}")
    if any(a >= b for a, b in pairwise(ranks)) or ranks[-1] != count or _rank(count, coverage) > count:
        raise ArgumentError(f"calibration: ranks expected to grow up to {count}, the number of forecasts")
    if not isinstance(rows, list) or not 0 < len(rows) <= _MOST_STEPS:
        raise ArgumentError(f"calibration: residuals expected 1 to {_MOST_STEPS} lists, found {described(rows)}")
    for row in rows:
        if (
            not isinstance(row, list)
            or len(row) != len(ranks)
            or not all(type(one) in (int, float) and 0 <= one < math.inf for one in row)
            or any(a > b for a, b in pairwise(row))
        ):
            raise ArgumentError(
                f"calibration: residuals expected lists of {len(ranks)} numbers of at least 0 that grow, found "
                f"{described(row)}"
            )
    return Calibration(coverage, count, np.array(ranks, np.int64), np.array(rows, np.float64))


class Adaptive:
    """Miss probabilities that follow what came true: adaptive conformal inference.

    Gibbs and Candès, "Adaptive conformal inference under distribution shift", arXiv 2106.00170: after each truth
    ``alpha += rate * (target - missed)``, here for each step of the horizon by itself.
    """

    __slots__ = ("_given", "_rate", "_target", "alpha")

    def __init__(self, calibration: Calibration, steps: int, rate: float) -> None:
        self._rate, self._target = rate, 1.0 - calibration.coverage
        self.alpha = np.full(steps, self._target)
        #: intervals (2, steps) that were given at the last rows, the latest first; None where there was none
        self._given: deque[np.ndarray | None] = deque(maxlen=steps)

    def compare(self, truth: float) -> None:
        """The next row's target is known: the intervals given for it were right or not."""
        for step, given in enumerate(self._given):
            if given is not None:
                low, high = given[:, step]
                missed = not low <= truth <= high
                self.alpha[step] += self._rate * (self._target - missed)

    def give(self, interval: np.ndarray | None) -> None:
        """What is said of the rows after this one, (2, steps)."""
        self._given.appendleft(interval)
