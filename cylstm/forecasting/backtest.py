"""Backtests: how good forecasts were, against what costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cylstm.arguments import check_count
from cylstm.errors import ArgumentError, ShapeError
from cylstm.forecasting.conformal import Adaptive, check_rate
from cylstm.forecasting.dropout import INTERVALS, check_interval, noisy_interval
from cylstm.forecasting.origins import forecast_all, read_frame, sample_all, truths
from cylstm.forecasting.roll import check_seed

if TYPE_CHECKING:
    from cylstm.forecasting.forecaster import Forecaster

#: of all intervals of scores
_LEVEL = 0.95
#: about how many numbers a bootstrap gathers at once
_GATHERED = 1 << 22


class Score(NamedTuple):
    """A score and its 95% interval by the block bootstrap."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


class Evaluation(NamedTuple):
    """What `Forecaster.evaluate` found.

    Attributes
    ----------
    forecasts, steps : int
        How many forecasts, each of how many steps.
    scores : dict of str to dict of str to Score
        Method ("forecast", "persistence", and with a season "seasonal") -> "rmse", "mae" and "mase", over all steps; of
        the forecast also "coverage" and "width" if it has intervals of so many steps. Of intervals that adapt the
        width is that of the finite ones, and "infinite" the share of the others.
    by_step : dict of str to dict of str to ndarray
        The same for each step, (steps,).
    differences : dict of str to Score
        The other methods -> how much larger the RMSE of the forecast is; below 0 it is better.
    block : int
        Of how many neighbouring forecasts a block of the bootstrap is.
    """

    forecasts: int
    steps: int
    scores: Mapping[str, Mapping[str, Score]]
    by_step: Mapping[str, Mapping[str, np.ndarray]]
    differences: Mapping[str, Score]
    block: int

    def __str__(self) -> str:
        lines = [f"{self.forecasts:,} forecasts of {self.steps} steps; 95% intervals by blocks of {self.block}"]
        for method, scores in self.scores.items():
            lines.append(f"{method:<12} " + "   ".join(f"{name} {score}" for name, score in scores.items()))
        for method, score in self.differences.items():
            lines.append(f"RMSE less that of {method}: {score}")
        return "\n".join(lines)


def persistence(y: np.ndarray, first: int, count: int, steps: int) -> np.ndarray:
    """(count, steps): every step is like the last known one."""
    return np.repeat(y[first - 1 : first - 1 + count, None], steps, axis=1)


def seasonal_naive(y: np.ndarray, first: int, count: int, steps: int, season: int) -> np.ndarray:
    """(count, steps): every step is like the last known one of its place in the season."""
    ahead = np.arange(1, steps + 1)
    back = ahead - season * (-(-ahead // season))
    return np.asarray(y[first - 1 + np.arange(count)[:, None] + back])


def evaluate(
    forecaster: Forecaster,
    frame: Any,
    start: Any,
    steps: int,
    season: int | None,
    interval: object,
    adapt: float | None,
    block: int | None,
    draws: int,
    seed: int,
    progress: bool,
) -> Evaluation:
    """`Forecaster.evaluate`, whose arguments these are."""
    kind = _kind_of(forecaster, interval, adapt)
    table, first = read_frame(forecaster, frame, start, steps)
    y = table.columns[forecaster.target]
    period = 1 if season is None else check_count("season", season)
    if first <= period:
        raise ShapeError(f"start: a season of {period} needs more than {period} rows before it, found {first}")
    draws = check_count("draws", draws)
    seed = check_seed(seed)
    rate = None if adapt is None else check_rate(adapt)
    size = None if block is None else check_count("block", block)
    scale = float(np.abs(y[period:first] - y[: first - period]).mean())
    if scale == 0:
        raise ArgumentError(
            f"frame: {forecaster.target!r} repeats itself in the rows before start, so the MASE has no scale"
        )
    methods = {"forecast": forecast_all(forecaster, table, first, steps, progress)[forecaster._point]}
    count = len(methods["forecast"])
    truth = truths(forecaster, table, first, steps)[:count]
    methods["persistence"] = persistence(y, first, count, steps)
    if season is not None:
        methods["seasonal"] = seasonal_naive(y, first, count, steps, period)
    errors = {method: found - truth for method, found in methods.items()}
    ends = _intervals(forecaster, methods["forecast"], y, first, rate)
    if kind != "conformal":
        parts = [
            noisy_interval(forecaster, kind, methods["forecast"][rows], samples)
            for rows, samples in sample_all(forecaster, table, first, steps, progress)
        ]
        ends = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    size = min(count, max(steps, period, round(count ** (1 / 3))) if size is None else size)

    columns: list[np.ndarray] = []  # per forecast, the means over its steps that all scores are made of
    for error in errors.values():
        columns += [(error**2).mean(axis=1), np.abs(error).mean(axis=1)]
    by_step: dict[str, dict[str, np.ndarray]] = {
        method: {
            "rmse": np.sqrt((error**2).mean(axis=0)),
            "mae": np.abs(error).mean(axis=0),
            "mase": np.abs(error).mean(axis=0) / scale,
        }
        for method, error in errors.items()
    }
    if ends is not None:
        low, high = ends
        inside, is_finite = (low <= truth) & (truth <= high), np.isfinite(low) & np.isfinite(high)
        width = np.subtract(high, low, out=np.zeros_like(high), where=is_finite)
        columns += [inside.mean(axis=1), width.mean(axis=1), is_finite.mean(axis=1)]
        with np.errstate(invalid="ignore"):  # of steps that only have infinite ones
            of_step = width.mean(axis=0) / is_finite.mean(axis=0)
        by_step["forecast"] |= {"coverage": inside.mean(axis=0), "width": of_step}
        if rate is not None:
            by_step["forecast"]["infinite"] = 1.0 - is_finite.mean(axis=0)

    per_forecast = np.stack(columns, axis=1)
    means = np.concatenate([per_forecast.mean(axis=0)[None], _bootstrap(per_forecast, size, draws, seed)])
    scores: dict[str, dict[str, Score]] = {}
    for i, method in enumerate(methods):
        squared, absolute = means[:, 2 * i], means[:, 2 * i + 1]
        scores[method] = {
            "rmse": _score(np.sqrt(squared)),
            "mae": _score(absolute),
            "mase": _score(absolute / scale),
        }
    if ends is not None:
        covered, total, share = means[:, -3], means[:, -2], means[:, -1]
        with np.errstate(invalid="ignore"):
            scores["forecast"] |= {"coverage": _score(covered), "width": _score(total / share)}
        if rate is not None:
            scores["forecast"]["infinite"] = _score(1.0 - share)
    root = np.sqrt(means[:, : 2 * len(methods) : 2])
    differences = {method: _score(root[:, 0] - root[:, i]) for i, method in enumerate(methods) if i}
    return Evaluation(count, steps, scores, by_step, differences, size)


def _kind_of(forecaster: Forecaster, interval: object, adapt: float | None) -> str:
    """Which intervals are measured; conformal ones only if there are any. Raises `ArgumentError`."""
    if interval == "conformal":
        return "conformal"
    kind = check_interval(forecaster, interval)
    if kind is None or adapt is not None:
        raise ArgumentError(
            f"interval: expected one of {', '.join(INTERVALS)}, and with adapt= only the first, found {interval!r}"
        )
    return kind


def _intervals(
    forecaster: Forecaster, found: np.ndarray, y: np.ndarray, first: int, rate: float | None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Low and high of all forecasts (forecasts, steps), if it is calibrated for so many."""
    calibration, steps = forecaster._calibration, found.shape[1]
    if rate is not None and (calibration is None or steps > min(calibration.steps, forecaster.horizon)):
        raise ArgumentError("adapt: expected a forecaster that is calibrated for all steps, and those in its horizon")
    if calibration is None or steps > calibration.steps:
        return None
    half = np.tile(calibration.half_widths(np.full(steps, 1.0 - calibration.coverage)), (len(found), 1))
    low, high = (forecaster._clipped(forecaster.target, end) for end in (found - half, found + half))
    if rate is not None:
        adaptive = Adaptive(calibration, steps, rate)
        low, high = low.copy(), high.copy()
        for i, mean in enumerate(found):
            adaptive.compare(float(y[first - 1 + i]))
            half = calibration.half_widths(adaptive.alpha)
            low[i], high[i] = (forecaster._clipped(forecaster.target, end) for end in (mean - half, mean + half))
            adaptive.give(np.stack([low[i], high[i]]))
    return low, high


def _bootstrap(per_forecast: np.ndarray, block: int, draws: int, seed: int) -> np.ndarray:
    """(draws, columns): means of columns (forecasts, columns) over blocks drawn with replacement.

    The circular block bootstrap of Politis and Romano (1992): neighbouring forecasts have like errors, so whole blocks
    of them are drawn; the last block is cut so that each draw has as many as there are.
    """
    count = len(per_forecast)
    rng = np.random.default_rng(seed)
    blocks = -(-count // block)
    found = np.empty((draws, per_forecast.shape[1]))
    at_once = max(1, _GATHERED // (count * per_forecast.shape[1]))
    for begin in range(0, draws, at_once):
        number = min(at_once, draws - begin)
        starts = rng.integers(0, count, (number, blocks, 1))
        rows = ((starts + np.arange(block)) % count).reshape(number, -1)[:, :count]
        found[begin : begin + number] = per_forecast[rows].mean(axis=1)
    return found


def _score(values: np.ndarray) -> Score:
    """The first is that of the data, the others are of the draws."""
    low, high = np.quantile(values[1:], [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Score(float(values[0]), float(low), float(high))
