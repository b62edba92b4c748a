"""Forecasts with the dropout of training left on, many times, and the intervals that they give.

A sample is one draw of the network, as Gal and Ghahramani (2016) have it: its masks of states and of inputs without a
time stay the same for the history and for all that the network goes on from, at every forecast. A dropout that draws
anew at each step does so by the number of the step, of the window or else of the series.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cylstm.arguments import check_count
from cylstm.errors import ArgumentError, ShapeError, UnsupportedError, described
from cylstm.forecasting.conformal import Calibration, check_coverage
from cylstm.forecasting.roll import check_seed, roll
from cylstm.forecasting.windows import roll_windows
from cylstm.model import Model
from cylstm.monte_carlo.draws import Draw, drawn_inputs
from cylstm.monte_carlo.plan import FixedTimeNeeded, Plan
from cylstm.monte_carlo.rates import rates_of

if TYPE_CHECKING:
    from cylstm.forecasting.forecaster import Forecaster
    from cylstm.stream import Stream

INTERVALS = ("conformal", "dropout", "both")
_FIELDS = ("samples", "seed", "coverage", "rates")
_MOST_SAMPLES = 10_000
#: about how many rows a batch of samples has at most
_ROWS = 4096


class Dropout(NamedTuple):
    """How forecasts with dropout are made.

    Attributes
    ----------
    samples, seed : int
    coverage : float
        Of the interval between two quantiles of the samples.
    rates : dict or None
        As `Model.predict_mc` takes them; None: as the file of the network has them.
    """

    samples: int
    seed: int
    coverage: float
    rates: dict[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(zip(_FIELDS, self))


def read_dropout(given: Any, model: Model) -> Dropout | None:
    """What a user gives. Raises `ArgumentError`, and `UnsupportedError` if the network has no such dropout."""
    if given is None:
        return None
    if not isinstance(given, Mapping) or not set(given) <= set(_FIELDS):
        raise ArgumentError(f"dropout: expected a dict with {', '.join(_FIELDS)}, found {described(given)}")
    samples = check_count("dropout: samples", given.get("samples", 100))
    if not 2 <= samples <= _MOST_SAMPLES:
        raise ArgumentError(f"dropout: samples expected 2 to {_MOST_SAMPLES}, found {samples}")
    rates = given.get("rates")
    rates_of(model.graph, rates)
    plain = (
        None if rates is None else {name: dict(one) if isinstance(one, Mapping) else one for name, one in rates.items()}
    )
    return Dropout(samples, check_seed(given.get("seed", 0)), check_coverage(given.get("coverage", 0.9)), plain)


def check_interval(forecaster: Forecaster, interval: object) -> str | None:
    """Which interval is asked for, or None. Raises `ArgumentError` if the forecaster does not have it."""
    if interval is False:
        return None
    kind = "conformal" if interval is True else interval
    if not isinstance(kind, str) or kind not in INTERVALS:
        raise ArgumentError(f"interval: expected True, False or one of {', '.join(INTERVALS)}, found {described(kind)}")
    if kind == "conformal" and forecaster._calibration is None:
        raise ArgumentError(
            "interval: the forecaster is not calibrated; go on with the one that Forecaster.calibrate returns"
        )
    if kind != "conformal" and forecaster._dropout is None:
        raise ArgumentError(f"interval={kind!r}: expected a forecaster with dropout={{'samples': 100, ...}}")
    if kind == "both" and forecaster._normalised is None:
        raise ArgumentError(
            "interval='both': the forecaster is not calibrated for it; calibrate(interval='both') returns one that is"
        )
    return kind


class NoisyNetwork:
    """A network of which each sample keeps its masks: rows of a batch are all of sample 0, then all of sample 1, ..."""

    def __init__(self, model: Model, dropout: Dropout) -> None:
        self._rates = rates_of(model.graph, dropout.rates)
        key = ("forecasts", repr(sorted(self._rates.items())))
        known = model._plans.get(key)  # another thread may clear them
        if known is None:
            try:
                plan = Plan(model, self._rates, None)
            except FixedTimeNeeded:
                raise UnsupportedError(
                    "dropout: the network drops at steps that are not those of its input, which a forecaster does not "
                    "support; Model.predict_mc does"
                ) from None
            known = Model(plan.graph, engine=model.engine, dtype=str(model.dtype)), plan.draws
            model._plans[key] = known
        self._model: Model = known[0]
        self._draws: list[Draw] = known[1]
        self._dropout, self._name = dropout, model.graph.inputs[0]
        #: the masks without a time, (samples, ...), and those of the first steps
        self._standing = {
            name: array for draw in self._draws if draw.time_of is None for name, array in self._drawn(draw, 0).items()
        }
        self._steps: dict[int, dict[str, np.ndarray]] = {}

    def _drawn(self, draw: Draw, step: int) -> dict[str, np.ndarray]:
        """What all samples draw, (samples, ...), at one step if it has a time."""
        rate = float(self._rates[draw.layer][draw.rate])
        # a step draws as a sample of its own
        samples = range(step << 32, (step << 32) + self._dropout.samples)
        times = {} if draw.time_of is None else {draw.time_of: 1}
        return drawn_inputs(draw, rate, times, self._dropout.seed, samples, 1, self._model.dtype)

    def _at_step(self, step: int) -> dict[str, np.ndarray]:
        """The masks of one step, (samples, 1, ...)."""
        if step in self._steps:
            return self._steps[step]
        found: dict[str, np.ndarray] = {}
        for draw in self._draws:
            if draw.time_of is not None:
                found |= self._drawn(draw, step)
        if len(self._steps) < 512:  # those of windows are drawn once
            self._steps[step] = found
        return found

    def inputs(self, x: np.ndarray, first: int, origins: int) -> dict[str, np.ndarray]:
        """The inputs of steps from `first` on: `x` (samples * origins, time, features) and the masks."""
        found = {self._name: x}
        for name, array in self._standing.items():
            found[name] = np.repeat(array, origins, axis=0)
        steps = [self._at_step(first + i) for i in range(x.shape[1])]
        for name in steps[0] if steps else ():
            found[name] = np.repeat(np.concatenate([step[name] for step in steps], axis=1), origins, axis=0)
        return found

    def predict(self, x: np.ndarray, /) -> Any:
        """As `Model.predict`, of whole windows."""
        return self._model.predict(self.inputs(x, 0, len(x) // self._dropout.samples))

    def stream(self, batch: int = 1, /) -> NoisyStream:
        """As `Model.stream`."""
        return NoisyStream(self, self._model.stream(batch), 0)


class NoisyStream:
    """A stream of a noisy network, which counts its steps."""

    def __init__(self, network: NoisyNetwork, stream: Stream, step: int) -> None:
        self._network, self._stream, self._step = network, stream, step

    def run(self, x: np.ndarray) -> Any:
        """As `Stream.run`."""
        origins = len(x) // self._network._dropout.samples
        found = self._stream.run(self._network.inputs(x, self._step, origins))
        self._step += x.shape[1]
        return found

    def copy(self) -> NoisyStream:
        """As `Stream.copy`."""
        return NoisyStream(self._network, self._stream.copy(), self._step)


class NoisyWalk:
    """All samples of one series, without a window: their states run on from row to row."""

    def __init__(self, forecaster: Forecaster) -> None:
        assert forecaster._dropout is not None
        self._forecaster, self._samples = forecaster, forecaster._dropout.samples
        self._stream = NoisyNetwork(forecaster.model, forecaster._dropout).stream(self._samples)
        self._raw: np.ndarray | None = None

    def run(self, scaled: np.ndarray) -> None:
        """Take rows (time, features)."""
        for first in range(0, len(scaled), 256):  # a batch of samples of a long history is large
            rows = scaled[first : first + 256]
            self._raw = self._forecaster._reader.read(
                self._stream.run(np.ascontiguousarray(np.broadcast_to(rows, (self._samples, *rows.shape))))
            )

    def forecast(self, last: np.ndarray, steps: int, known: np.ndarray) -> np.ndarray:
        """The forecast of each sample, (samples, steps), in units and not clipped."""
        forecaster = self._forecaster
        if self._raw is None:
            raise ShapeError("history: the network with dropout is still warming up; give it more rows")
        ahead = self._stream.copy() if steps > forecaster.horizon else self._stream
        found = roll(forecaster, ahead, self._raw, np.repeat(last, self._samples), steps, known)
        return found[forecaster._point]


def noisy_forecasts(
    forecaster: Forecaster, past: Mapping[str, np.ndarray], known: Mapping[str, np.ndarray], steps: int
) -> np.ndarray:
    """The forecast of each sample from windows, (samples, origins, steps), not clipped; see `roll_windows`."""
    assert forecaster._dropout is not None
    samples = forecaster._dropout.samples
    network = NoisyNetwork(forecaster.model, forecaster._dropout)
    origins = len(next(iter(past.values())))
    at_once, parts = max(1, _ROWS // samples), []
    for first in range(0, origins, at_once):
        chosen = slice(first, first + at_once)
        found = roll_windows(
            forecaster,
            network,
            {name: np.tile(column[chosen], (samples, 1)) for name, column in past.items()},
            {
                name: column if len(column) == 1 else np.tile(column[chosen], (samples, 1))
                for name, column in known.items()
            },
            steps,
        )[forecaster._point]
        parts.append(found.reshape(samples, -1, steps))
    return np.concatenate(parts, axis=1)


def spreads(samples: np.ndarray) -> np.ndarray:
    """The standard deviation of samples (samples, forecasts, steps). Raises `ArgumentError` if one is 0."""
    found = samples.std(axis=0, ddof=1)
    if not (found > 0).all():
        row, step = np.argwhere(~(found > 0))[0]
        raise ArgumentError(
            f"interval='both': the samples with dropout are all the same (forecast {row}, step {step + 1}), so their "
            "spread divides no residuals; give larger rates or more samples"
        )
    return np.asarray(found)


def noisy_interval(
    forecaster: Forecaster, kind: str, mean: np.ndarray, samples: np.ndarray, coverage: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Low and high (forecasts, steps) of forecasts and of their samples (samples, forecasts, steps).

    Raises
    ------
    ShapeError
        If fewer steps were calibrated.
    """
    assert forecaster._dropout is not None
    if kind == "dropout":
        share = forecaster._dropout.coverage if coverage is None else check_coverage(coverage)
        level = (1.0 - share) / 2
        low, high = np.quantile(samples, [level, 1.0 - level], axis=0)
        return forecaster._clipped(forecaster.target, low), forecaster._clipped(forecaster.target, high)
    calibration: Calibration | None = forecaster._normalised
    assert calibration is not None
    steps = mean.shape[1]
    if steps > calibration.steps:
        raise ShapeError(f"interval: {calibration.steps} steps were calibrated, found {steps}; see calibrate(steps=)")
    half = calibration.half_widths(calibration.alpha(steps, coverage)) * spreads(samples)
    return (
        forecaster._clipped(forecaster.target, mean - half),
        forecaster._clipped(forecaster.target, mean + half),
    )
