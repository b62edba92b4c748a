"""90% intervals of the committed networks' forecasts, and how often the truth lies in them: ``python intervals.py``.

The networks were trained without dropout, so dropout that is on while they predict is no part of what they learned, and
how far its samples lie apart (their spread) follows the rate that one chooses. So the spread alone is no interval:
here it is made one with the errors of 2013, and what comes of it is counted on 2014, beside intervals without any
dropout. The networks were trained on 2013 too, so this year's errors may be a little too small.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from series import (
    FEATURES,
    HERE,
    LAGS,
    SAMPLE,
    TEST_YEAR,
    Scaling,
    Series,
    bootstrap_mean,
    find_csv,
    future,
    read_csv,
    targets_in,
)

import cylstm

#: what the intervals are fitted on
VALIDATION_YEAR = 2013
#: of which the intervals should hold the truth
SHARE = 0.9
HORIZONS = (1, 6, 24)
#: of the state that the recurrent product of the LSTM reads, one mask for a whole sample (Gal and Ghahramani, 2016)
RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
SAMPLES = 100
#: hours before the first forecast in which the state comes in
WARM_UP = 7 * 24
#: groups of forecasts, from the lowest to the highest, that have residual quantiles of their own
LEVELS = 5

#: lower and upper ends, (time,) each, in ug/m3
Interval = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Ahead:
    """All forecasts of one horizon.

    Attributes
    ----------
    hours : int
        How far ahead.
    forecast : ndarray, (time,)
        Of the network without dropout.
    spreads : dict of float to ndarray
        Rate -> the standard deviation of the samples with dropout, (time,).
    fitted, counted : ndarray, (time,)
        The truth of `VALIDATION_YEAR` and of `TEST_YEAR`; NaN elsewhere, and where it was not measured.
    """

    hours: int
    forecast: np.ndarray
    spreads: dict[float, np.ndarray]
    fitted: np.ndarray
    counted: np.ndarray

    @property
    def residuals(self) -> np.ndarray:
        """The errors that the intervals are fitted on, NaN elsewhere."""
        return self.fitted - self.forecast


@dataclass(frozen=True)
class Count:
    """What an interval is worth in one year.

    Attributes
    ----------
    covered : ndarray, (time,)
        1 where the truth lies in it, 0 where it does not, NaN where it is not known.
    coverage, of_highest : float
        The share that lies in it, of all hours and of those with the highest tenth of the forecasts.
    width : float
        In the mean.
    score : float
        The mean interval score (Gneiting and Raftery, 2007; less is better): the width, and 2 / (1 - `SHARE`) times how
        far the truth lies outside.
    """

    covered: np.ndarray
    coverage: float
    of_highest: float
    width: float
    score: float


def counted(interval: Interval, forecast: np.ndarray, truth: np.ndarray) -> Count:
    """Count how often the truth lies in an interval, where it is known."""
    known = ~np.isnan(truth)
    if not known.any():
        raise ValueError("expected measured hours to count, found none")
    low, high = interval
    covered = np.where(known, (low <= truth) & (truth <= high), np.nan)
    is_high = known & (forecast >= np.quantile(forecast[known], 0.9))
    outside = np.maximum(low - truth, 0.0) + np.maximum(truth - high, 0.0)
    width = float((high - low)[known].mean())
    return Count(
        covered,
        float(covered[known].mean()),
        float(covered[is_high].mean()),
        width,
        width + float(outside[known].mean()) * 2 / (1 - SHARE),
    )


def _at_least_0(low: np.ndarray, high: np.ndarray) -> Interval:
    """PM2.5 is no less."""
    return np.maximum(low, 0.0), np.maximum(high, 0.0)


def _ends(residuals: np.ndarray) -> np.ndarray:
    """The two quantiles between which `SHARE` of the residuals lies that are not NaN."""
    found: np.ndarray = np.nanquantile(residuals, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return found


def residual_quantiles(ahead: Ahead) -> Interval:
    """As wide at every hour: forecast + q, with the quantiles q of the residuals."""
    low, high = _ends(ahead.residuals)
    return _at_least_0(ahead.forecast + low, ahead.forecast + high)


def quantiles_by_level(ahead: Ahead) -> Interval:
    """The same with quantiles for each fifth of the forecasts, from the lowest to the highest."""
    residuals = ahead.residuals
    inner = np.arange(1, LEVELS) / LEVELS
    level = np.digitize(ahead.forecast, np.quantile(ahead.forecast[~np.isnan(residuals)], inner))
    low, high = np.array([_ends(residuals[level == one]) for one in range(LEVELS)])[level].T
    return _at_least_0(ahead.forecast + low, ahead.forecast + high)


def spread_and_variance(ahead: Ahead, rate: float) -> Interval:
    """Normal, with the variance of the samples and that of the residuals: forecast -+ 1.645 sqrt(s**2 + v).

    A rate of 0 leaves the samples out.
    """
    spread = ahead.spreads[rate] if rate else np.zeros(len(ahead.forecast))
    half = NormalDist().inv_cdf((1 + SHARE) / 2) * np.sqrt(spread**2 + np.nanmean(ahead.residuals**2))
    return _at_least_0(ahead.forecast - half, ahead.forecast + half)


def scaled_spread(ahead: Ahead, rate: float) -> Interval:
    """The samples say where it is wide, and the residuals how wide: forecast + q s, with the quantiles q of r / s."""
    spread = ahead.spreads[rate]
    low, high = _ends(np.divide(ahead.residuals, spread, out=np.full(len(spread), np.nan), where=spread > 0))
    return _at_least_0(ahead.forecast + low * spread, ahead.forecast + high * spread)


def check_years(series: Series) -> None:
    """Raise `ValueError` if nothing was measured in one of the two years."""
    for year in (VALIDATION_YEAR, TEST_YEAR):
        if np.isnan(series.target[series.years() == year]).all():
            raise ValueError(f"expected measured hours of {year}, found none")


def forecast_with_spreads(
    series: Series, kind: str, rates: tuple[float, ...] = RATES, samples: int = SAMPLES, seed: int = 0
) -> list[Ahead]:
    """Forecast both years, without dropout and many times with it.

    Raises
    ------
    ValueError
        If the series lacks one of the years.
    """
    model = cylstm.load(HERE / "weights" / f"{kind}.cylstm")
    scaling = Scaling.from_json(model.metadata["scaling"])
    check_years(series)
    first = max(int(np.argmax(series.years() == VALIDATION_YEAR)) - WARM_UP, 0)
    x = scaling.scale(series.select(kind))[first:]
    forecast = scaling.forecast(model.predict(x), series.inputs[first:, 0])
    scale = np.array(scaling.output_scale)
    spreads = {}
    for rate in rates:
        drawn = {"lstm.l0": {"recurrent_dropout": rate, "masks": "sequence"}}
        found = model.predict_mc(x, samples, seed=seed, rates=drawn, keep_samples=False)
        spreads[rate] = found.std * scale
    truths = []
    for year in (VALIDATION_YEAR, TEST_YEAR):
        truth = np.where(targets_in(series, [year]), future(series), np.nan)[first:]
        # the state comes in: without a past there is nothing to drop
        truth[:LAGS] = np.nan
        truths.append(truth)
    return [
        Ahead(
            hours,
            forecast[:, hours - 1],
            {rate: spread[:, hours - 1] for rate, spread in spreads.items()},
            *(truth[:, hours - 1] for truth in truths),
        )
        for hours in HORIZONS
    ]


def nearest_rate(found: list[Ahead]) -> tuple[float, dict[float, list[float]]]:
    """The rate with which `spread_and_variance` covers `SHARE` of `VALIDATION_YEAR` best, in the mean of the horizons.

    Returns
    -------
    rate : float
    coverages : dict
        Rate -> the coverage of each horizon; also of 0, which is without dropout.
    """
    coverages = {
        rate: [counted(spread_and_variance(one, rate), one.forecast, one.fitted).coverage for one in found]
        for rate in (0.0, *found[0].spreads)
    }
    return min(found[0].spreads, key=lambda rate: np.mean(np.abs(np.array(coverages[rate]) - SHARE))), coverages


def best_rate(found: list[Ahead]) -> float:
    """The rate with which `scaled_spread` has the lowest score on `VALIDATION_YEAR`, in the mean of the horizons,
    each against `residual_quantiles`. All cover `SHARE` of that year.
    """

    def relative(rate: float) -> float:
        return float(
            np.mean(
                [
                    counted(scaled_spread(one, rate), one.forecast, one.fitted).score
                    / counted(residual_quantiles(one), one.forecast, one.fitted).score
                    for one in found
                ]
            )
        )

    return min(found[0].spreads, key=relative)


def interval_table(
    series: Series, kind: str, rates: tuple[float, ...] = RATES, samples: int = SAMPLES, seed: int = 0
) -> str:
    """What each kind of interval covers of `TEST_YEAR`, as plain text.

    Parameters
    ----------
    rates : tuple of float
        Rates of dropout among which the validation year chooses.
    samples, seed : int
        As `Model.predict_mc` takes them.
    """
    found = forecast_with_spreads(series, kind, rates, samples, seed)
    nearest, coverages = nearest_rate(found)
    best = best_rate(found)
    heads = "  ".join(f"{f'{one.hours} h':>5}" for one in found)
    lines = [
        f"Monte Carlo + residual variance, by rate: what the 90% interval covers of {VALIDATION_YEAR}",
        "",
        f"{'rate':<5}  {heads}",
    ]
    for rate, covered in coverages.items():
        note = "  without dropout" if not rate else "  the nearest to 90%" if rate == nearest else ""
        lines.append(f"{rate:<5g}  " + "  ".join(f"{share:5.1%}" for share in covered) + note)
    lines += [
        "",
        f"{'ahead':<8}  {f'90% interval, fitted on {VALIDATION_YEAR}':<42}  {f'covered in {TEST_YEAR}':<20}  "
        f"{'highest tenth':>13}  {'width':>5}  {'score':>5}",
    ]
    for one in found:
        for name, interval in {
            "residual quantiles": residual_quantiles(one),
            f"Monte Carlo + residual variance, rate {nearest:g}": spread_and_variance(one, nearest),
            f"Monte Carlo, scaled, rate {best:g}": scaled_spread(one, best),
            "residual quantiles by level of forecast": quantiles_by_level(one),
        }.items():
            count = counted(interval, one.forecast, one.counted)
            low, high = bootstrap_mean(count.covered)
            hours = f"{one.hours} hour{'s' if one.hours > 1 else ''}"
            covered_ = f"{count.coverage:.1%} [{low:.1%}, {high:.1%}]"
            lines.append(
                f"{hours:<8}  {name:<42}  {covered_:<20}  {count.of_highest:>13.0%}  {count.width:>5.0f}  "
                f"{count.score:>5.0f}"
            )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The tables of both networks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", help="the hourly series; default: the variable CSV, the real series, the sample")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="predictions with dropout; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the dropout; default: %(default)s")
    options = parser.parse_args(arguments)
    path = find_csv(options.csv)
    if path.resolve() == SAMPLE:
        print("This is the bundled SYNTHETIC sample: nothing in it was measured.\n")
    try:
        series = read_csv(path)
        for kind in FEATURES:
            print(f"{kind}\n\n{interval_table(series, kind, RATES, options.samples, options.seed)}\n")
    except (OSError, ValueError) as error:
        raise SystemExit(f"cannot make intervals: {error}") from None


if __name__ == "__main__":
    main()
