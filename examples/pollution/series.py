"""The hourly series behind the example: reading, scaling, windows, yardsticks and the bootstrap.

Only NumPy and the standard library. Everything that is fitted (scaling, linear model) is fitted on hours
before `TEST_YEAR`; everything that is scored has its target hour inside it.
"""

from __future__ import annotations

import csv
import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

COLUMNS = ("No", "year", "month", "day", "hour", "pm2.5", "DEWP", "TEMP", "PRES", "cbwd", "Iws", "Is", "Ir")
FEATURES = {
    "univariate": ("pm2.5",),
    "multivariate": ("pm2.5", "DEWP", "TEMP", "PRES", "cbwd", "Iws", "Is", "Ir"),
}
#: Wind direction as one number, from the cleanest to the dirtiest wind of 2010 to 2013 (cv: calm or variable).
WIND = {"NW": 0.0, "NE": 1.0, "SE": 2.0, "cv": 3.0}
#: How each feature is transformed before it is standardised; the rest are used as they are.
BEND = {"Iws": "log1p", "Is": "log1p", "Ir": "log1p"}
LEADS = 24
LAGS = 24
TEST_YEAR = 2014
HERE = Path(__file__).resolve().parent
REAL = HERE.parents[2] / "shared" / "data" / "beijing_pm25.csv"
SAMPLE = HERE / "sample_synthetic.csv"


class DataError(ValueError):
    """The csv is not the hourly series that was expected; the message names file, line and column."""


@dataclass(frozen=True)
class Series:
    """An hourly series without gaps in time.

    Attributes
    ----------
    hours : ndarray of datetime64[h], shape (time,)
    target : ndarray of float64, shape (time,)
        PM2.5 in ug/m3; NaN where it was not measured.
    inputs : ndarray of float64, shape (time, 8)
        The multivariate features in the file's units, each filled forward, wind direction by `WIND`.
    """

    hours: np.ndarray
    target: np.ndarray
    inputs: np.ndarray

    def select(self, kind: str) -> np.ndarray:
        """The columns of ``inputs`` that a univariate or a multivariate network reads, ``(time, features)``."""
        names = FEATURES["multivariate"]
        return self.inputs[:, [names.index(name) for name in FEATURES[kind]]]

    def years(self) -> np.ndarray:
        """The calendar year of every hour, int64 ``(time,)``."""
        return self.hours.astype("datetime64[Y]").astype(np.int64) + 1970


def find_csv(given: str | None) -> Path:
    """The file that is given, or named by the variable CSV; else the real series if it is there; else the sample."""
    return Path(given or os.environ.get("CSV") or (REAL if REAL.exists() else SAMPLE))


def read_csv(path: str | Path) -> Series:
    """Read the Beijing PM2.5 csv (UCI data set 381), or a file of the same columns.

    Lines that begin with ``#`` are skipped. Missing values (``NA`` or nothing) are filled forward in the
    inputs and stay missing in the target; leading hours with an input that was never known are dropped.

    Raises
    ------
    DataError
        If the header differs, a cell is not a number, a wind direction is unknown, or hours are missing,
        doubled or out of order; the message names the file, the line and the column.
    """
    hours, rows = [], []
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines = ((number, line) for number, line in enumerate(file, 1) if line.strip() and not line.startswith("#"))
        number, line = next(lines, (1, ""))
        header = tuple(cell.strip() for cell in next(csv.reader([line]), []))
        if header != COLUMNS:
            raise DataError(f"{path}, line {number}: expected the header {','.join(COLUMNS)}, found {line.strip()!r}")
        for number, line in lines:
            cells = [cell.strip() for cell in next(csv.reader([line]))]
            if len(cells) != len(COLUMNS):
                raise DataError(f"{path}, line {number}: expected {len(COLUMNS)} cells, found {len(cells)}")
            row = dict(zip(COLUMNS, cells, strict=True))
            hour = _hour(path, number, row)
            expected = hours[-1] + timedelta(hours=1) if hours else hour
            if hour != expected:
                raise DataError(f"{path}, line {number}, columns year to hour: expected {expected}, found {hour}")
            hours.append(hour)
            rows.append([_number(path, number, row, column) for column in FEATURES["multivariate"]])
    if not rows:
        raise DataError(f"{path}: expected at least one hour after the header, found none")
    measured = np.array(rows, np.float64)
    first, inputs = fill_forward(measured)
    if first == len(rows):
        raise DataError(f"{path}: a column has no value at all")
    stamps = np.array(hours, "datetime64[h]")
    return Series(stamps[first:], measured[first:, 0].copy(), inputs[first:])


def _hour(path, number: int, row: dict[str, str]) -> datetime:
    parts = []
    for column in ("year", "month", "day", "hour"):
        try:
            parts.append(int(row[column]))
        except ValueError:
            raise DataError(
                f"{path}, line {number}, column {column}: expected an integer, found {row[column]!r}"
            ) from None
    try:
        return datetime(*parts)
    except ValueError as error:
        raise DataError(f"{path}, line {number}, columns year to hour: {error}") from None


def _number(path, number: int, row: dict[str, str], column: str) -> float:
    cell = row[column]
    if cell in ("", "NA"):
        return np.nan
    if column == "cbwd":
        if cell not in WIND:
            raise DataError(f"{path}, line {number}, column cbwd: expected one of {', '.join(WIND)}, found {cell!r}")
        return WIND[cell]
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise DataError(f"{path}, line {number}, column {column}: expected a number or NA, found {cell!r}")
    if column in ("pm2.5", *BEND) and value < 0:
        raise DataError(f"{path}, line {number}, column {column}: expected a number of at least 0, found {cell!r}")
    return value


def fill_forward(values: np.ndarray) -> tuple[int, np.ndarray]:
    """Replace each NaN by the last value above it in its column.

    Returns
    -------
    first : int
        The first row without NaN; the number of rows if there is none.
    filled : ndarray of float64, the shape of ``values``
    """
    known = ~np.isnan(values)
    source = np.maximum.accumulate(np.where(known, np.arange(len(values))[:, None], -1), axis=0)
    filled = np.where(source >= 0, np.take_along_axis(values, np.maximum(source, 0), axis=0), np.nan)
    whole = ~np.isnan(filled).any(axis=1)
    return (int(np.argmax(whole)) if whole.any() else len(values)), filled


def changes(series: Series) -> np.ndarray:
    """What the networks learn: the change from the last known value to each of the next `LEADS` hours.

    Returns
    -------
    ndarray of float64, shape (time, LEADS)
        ``[t, k-1] = target[t + k] - last_known[t]`` in ug/m3; NaN where the target is missing or beyond the end.
    """
    return future(series) - series.inputs[:, :1]


def future(series: Series) -> np.ndarray:
    """``[t, k-1] = target[t + k]`` in ug/m3, float64 ``(time, LEADS)``; NaN where missing or beyond the end."""
    padded = np.concatenate([series.target, np.full(LEADS, np.nan)])
    return np.lib.stride_tricks.sliding_window_view(padded[1:], LEADS)[: len(series.target)].copy()


def targets_in(series: Series, years) -> np.ndarray:
    """True at ``[t, k-1]`` if the target hour ``t + k`` is in one of ``years``, bool ``(time, LEADS)``."""
    inside = np.isin(series.years(), list(years))
    padded = np.concatenate([inside, np.zeros(LEADS, bool)])
    return np.lib.stride_tricks.sliding_window_view(padded[1:], LEADS)[: len(inside)].copy()


@dataclass(frozen=True)
class Scaling:
    """How a network's numbers relate to the file's: fitted on training hours, stored beside the weights.

    An input is ``(bend(value) - mean) / std``; a forecast of lead k is ``last known + output_scale[k-1] * y``.
    """

    features: tuple[str, ...]
    bend: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    output_scale: tuple[float, ...]

    @classmethod
    def fit(cls, series: Series, kind: str, years) -> Scaling:
        """Fit on the hours of ``years`` alone."""
        train = np.isin(series.years(), list(years))
        features = FEATURES[kind]
        bend = tuple(BEND.get(name, "none") for name in features)
        bent = _bend(series.select(kind)[train], bend)
        wanted = np.where(targets_in(series, years) & train[:, None], changes(series), np.nan)
        scale = np.sqrt(np.nanmean(wanted**2, axis=0))
        return cls(features, bend, tuple(bent.mean(0).tolist()), tuple(bent.std(0).tolist()), tuple(scale.tolist()))

    def scale(self, inputs: np.ndarray) -> np.ndarray:
        """Inputs in the file's units ``(time, features)`` to the network's, float32, C-contiguous."""
        return ((_bend(inputs, self.bend) - self.mean) / self.std).astype(np.float32, order="C")

    def forecast(self, outputs: np.ndarray, last_known: np.ndarray) -> np.ndarray:
        """Outputs ``(time, LEADS)`` and PM2.5 now ``(time,)`` to PM2.5 ahead in ug/m3, at least 0, float64."""
        return np.maximum(last_known[:, None] + np.asarray(outputs, np.float64) * self.output_scale, 0.0)

    def to_json(self) -> str:
        """One JSON object; what `from_json` reads."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Scaling:
        """The inverse of `to_json`."""
        fields = json.loads(text)
        return cls(**{name: tuple(values) for name, values in fields.items()})


def _bend(inputs: np.ndarray, bend: tuple[str, ...]) -> np.ndarray:
    bent = np.array(inputs, np.float64)
    for column, how in enumerate(bend):
        if how == "log1p":
            bent[:, column] = np.log1p(bent[:, column])
    return bent


def persistence(series: Series) -> np.ndarray:
    """The yardstick: every hour ahead will be like the last known value, float64 ``(time, LEADS)``."""
    return np.repeat(series.inputs[:, :1], LEADS, axis=1)


def linear_model(series: Series, kind: str, years) -> np.ndarray:
    """Ordinary least squares on the last `LAGS` hours of the network's inputs, one regression per lead.

    Fitted on the known targets in ``years``. Returns forecasts in ug/m3, float64 ``(time, LEADS)``, NaN before
    hour ``LAGS - 1``.
    """
    inputs = series.select(kind)
    train = np.isin(series.years(), list(years))
    std = inputs[train].std(0)
    inputs = (inputs - inputs[train].mean(0)) / np.where(std > 0, std, 1.0)
    lagged = np.lib.stride_tricks.sliding_window_view(inputs, LAGS, axis=0).reshape(len(inputs) - LAGS + 1, -1)
    design = np.concatenate([np.ones((len(lagged), 1)), lagged], axis=1)
    wanted = np.where(targets_in(series, years), changes(series), np.nan)[LAGS - 1 :]
    coefficients = np.empty((design.shape[1], LEADS))
    for lead in range(LEADS):
        known = ~np.isnan(wanted[:, lead])
        rows = design[known]
        # The normal equations, by a pseudo-inverse: a column may be constant (a sample without snow).
        coefficients[:, lead] = np.linalg.lstsq(rows.T @ rows, rows.T @ wanted[known, lead], rcond=1e-12)[0]
    forecast = np.full((len(inputs), LEADS), np.nan)
    forecast[LAGS - 1 :] = np.maximum(series.inputs[LAGS - 1 :, :1] + design @ coefficients, 0.0)
    return forecast


def rmse(forecast: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square error in ug/m3 over the entries of ``truth`` that are not NaN."""
    return float(np.sqrt(np.nanmean((forecast - truth) ** 2)))


def bootstrap_difference(
    forecast: np.ndarray, other: np.ndarray, truth: np.ndarray, block: int = 168, draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """95% interval of ``rmse(forecast) - rmse(other)`` by the circular block bootstrap.

    Whole weeks of consecutive hours are drawn with replacement, both forecasts' errors together, because
    errors of neighbouring hours are alike (Politis & Romano, 1992).

    Parameters
    ----------
    forecast, other, truth : array_like, shape (time,) or (time, leads)
        In time order; NaN in ``truth`` is left out, and hours before its first and after its last value do not
        count as hours to draw.
    """
    width = truth[0].size
    errors = [np.nan_to_num((f - truth) ** 2).reshape(-1, width).sum(1) for f in (forecast, other)]
    count = (~np.isnan(truth)).reshape(-1, width).sum(1)
    total = _drawn_sums(np.stack([*errors, count], axis=1), block, draws, seed)
    difference = np.sqrt(total[:, 0] / total[:, 2]) - np.sqrt(total[:, 1] / total[:, 2])
    low, high = np.quantile(difference, [0.025, 0.975])
    return float(low), float(high)


def bootstrap_mean(values: np.ndarray, block: int = 168, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """95% interval of the mean of values (time,) that are not NaN, by the bootstrap of `bootstrap_difference`."""
    total = _drawn_sums(np.stack([np.nan_to_num(values), ~np.isnan(values)], axis=1), block, draws, seed)
    low, high = np.quantile(total[:, 0] / total[:, 1], [0.025, 0.975])
    return float(low), float(high)


def _drawn_sums(columns: np.ndarray, block: int, draws: int, seed: int) -> np.ndarray:
    """Sums of columns (time, n), the last of which counts, over blocks of hours drawn with replacement: (draws, n)."""
    scored = np.flatnonzero(columns[:, -1])
    columns = columns[scored[0] : scored[-1] + 1].astype(np.float64)
    hours = len(columns)
    block = min(block, hours)
    sums = np.cumsum(np.concatenate([np.zeros((1, columns.shape[1])), columns, columns[:block]]), axis=0)
    starts = np.random.default_rng(seed).integers(0, hours, (draws, -(-hours // block)))
    found: np.ndarray = (sums[starts + block] - sums[starts]).sum(axis=1)
    return found


#: What the tables score: a name and the leads it pools.
SCORED = {"1 hour": slice(0, 1), "24 hours": slice(LEADS - 1, LEADS), "1 to 24": slice(0, LEADS)}


def score_table(forecasts: dict[str, np.ndarray], linear: dict[str, str], truth: np.ndarray) -> str:
    """RMSE of every forecast beside persistence and the linear model on the same inputs, as plain text.

    Parameters
    ----------
    forecasts : dict of str to ndarray, each (time, LEADS)
        ``"persistence"`` among them.
    linear : dict of str to str
        For a network's forecast the name of its linear model's.
    truth : ndarray, shape (time, LEADS)
        NaN where nothing is to be scored.
    """
    lines = [
        f"{'ahead':<9} {'forecast':<26} {'RMSE':>6}  {'against persistence, 95% interval':<35} against the linear model"
    ]
    for ahead, leads in SCORED.items():
        for name, forecast in forecasts.items():
            line = f"{ahead:<9} {name:<26} {rmse(forecast[:, leads], truth[:, leads]):6.2f}  "
            if name != "persistence":
                line += f"{_against(forecast, forecasts['persistence'], truth, leads):<35} "
            if name in linear:
                line += _against(forecast, forecasts[linear[name]], truth, leads)
            lines.append(line.rstrip())
    return "\n".join(lines)


def _against(forecast: np.ndarray, other: np.ndarray, truth: np.ndarray, leads: slice) -> str:
    ours, theirs = rmse(forecast[:, leads], truth[:, leads]), rmse(other[:, leads], truth[:, leads])
    low, high = bootstrap_difference(forecast[:, leads], other[:, leads], truth[:, leads])
    return f"{100 * (ours / theirs - 1):+5.1f}%  {ours - theirs:+6.2f} [{low:+.2f}, {high:+.2f}]"
