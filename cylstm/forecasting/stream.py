"""Forecasts that go on row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.arguments import check_flag
from cylstm.errors import ArgumentError, ShapeError, described
from cylstm.forecasting.conformal import Adaptive, Calibration, check_rate
from cylstm.forecasting.outputs import MU, SIGMA
from cylstm.forecasting.roll import (
    check_outputs,
    check_samples,
    check_seed,
    check_sigma,
    check_steps,
    roll,
    rows_needed,
)
from cylstm.forecasting.tables import Table, read_table

if TYPE_CHECKING:
    from cylstm.forecasting.forecaster import Forecaster


class ForecastStream:
    """One series that a forecaster follows: rows come in, forecasts come out. Made by `Forecaster.stream`.

    One thread at a time may use it; give each thread its own.
    """

    __slots__ = ("_adaptive", "_forecaster", "_last", "_raw", "_stream", "_taken", "_time")

    def __init__(self, forecaster: Forecaster, adapt: float | None = None) -> None:
        self._forecaster = forecaster
        self._adaptive: Adaptive | None = None
        if adapt is not None:
            calibration = _calibration_of(forecaster)
            steps = min(calibration.steps, forecaster.horizon)
            self._adaptive = Adaptive(calibration, steps, check_rate(adapt))
        self._stream = forecaster.model.stream(window=forecaster.window)
        self._raw: np.ndarray | None = None
        self._last = np.full(1, np.nan)
        self._taken = 0
        self._time: Any = None

    @property
    def forecaster(self) -> Forecaster:
        """Whose stream it is."""
        return self._forecaster

    @property
    def steps(self) -> int:
        """How many rows it has taken."""
        return self._taken

    def run(self, rows: Any) -> None:
        """Take rows without a forecast: a history to warm up on, or what came in meanwhile.

        Parameters
        ----------
        rows : array_like, dict or pandas.DataFrame
            As `Forecaster.forecast` takes a history.

        Raises
        ------
        ArgumentError, ShapeError
            As `Forecaster.forecast` about its history; also if the times are not after those of earlier rows.
        """
        forecaster = self._forecaster
        self._take(read_table("history", rows, forecaster.features, (forecaster.target,), forecaster._time))

    @property
    def alpha(self) -> np.ndarray:
        """The probability with which the interval of each step is to miss, as it is now; of a stream with `adapt`.

        Raises
        ------
        ArgumentError
            If it was made without.
        """
        if self._adaptive is None:
            raise ArgumentError("alpha: the intervals of this stream stay as they are; see Forecaster.stream(adapt=)")
        return self._adaptive.alpha.copy()

    def _take(self, table: Table) -> None:
        forecaster = self._forecaster
        units = table.array(forecaster.features)
        scaled = forecaster._scaled("history", units, forecaster.features)
        self._check_time(table, "history")
        if self._adaptive is None:
            self._advance(units, scaled)
        else:
            truth = table.columns.get(forecaster.target)
            for row in range(table.rows):
                if truth is not None:
                    self._adaptive.compare(float(truth[row]))
                self._advance(units[row : row + 1], scaled[row : row + 1])
                self._adaptive.give(None if self._raw is None else self._interval(len(self._adaptive.alpha))[1:])
        if table.times is not None:
            self._time = table.times[-1]

    def _advance(self, units: np.ndarray, scaled: np.ndarray) -> None:
        forecaster = self._forecaster
        found = forecaster._reader.read(self._stream.run(scaled[None]))
        self._taken += len(units)
        is_whole = forecaster.window is None or self._taken >= forecaster.window
        self._raw = found if is_whole else None
        if forecaster.target in forecaster.features:
            self._last = units[-1:, forecaster.features.index(forecaster.target)]

    def _interval(self, steps: int, future: Any = None) -> np.ndarray:
        """Forecast, low and high, (3, steps). Raises `ShapeError` beyond what was calibrated."""
        forecaster = self._forecaster
        calibration = _calibration_of(forecaster)
        if steps > calibration.steps:
            raise ShapeError(
                f"interval: {calibration.steps} steps were calibrated, found {steps}; see calibrate(steps=)"
            )
        alpha = np.full(steps, 1.0 - calibration.coverage)
        if self._adaptive is not None:
            followed = len(self._adaptive.alpha)
            if steps > followed:
                raise ShapeError(
                    f"interval: a stream with adapt= follows {followed} steps, those of the horizon, found {steps}; "
                    "make the stream without it"
                )
            alpha = self._adaptive.alpha[:steps]
        half = calibration.half_widths(alpha)
        mean = self.forecast(steps, future)
        ends = [forecaster._clipped(forecaster.target, end) for end in (mean - half, mean + half)]
        return np.stack([mean, *ends])

    def _check_time(self, table: Table, what: str) -> None:
        if table.times is None or self._time is None:
            return
        if np.asarray(self._time).dtype.kind != table.times.dtype.kind:
            raise ArgumentError(f"{what}: expected times as those of the rows before it, found {table.times[0]!r}")
        if not table.times[0] > self._time:
            raise ArgumentError(f"{what}: row 0: the time {table.times[0]} is not after {self._time}, the last one")

    def forecast(
        self,
        steps: int | None = None,
        future: Any = None,
        *,
        outputs: Sequence[str] | None = None,
        interval: bool = False,
        samples: int | None = None,
        seed: int = 0,
    ) -> Any:
        """Forecast the steps that follow the last row. The stream stays where it is.

        Parameters
        ----------
        steps, future, outputs, interval, samples, seed
            As `Forecaster.forecast` takes them.

        Returns
        -------
        ndarray of float64
            As `Forecaster.forecast`.

        Raises
        ------
        ArgumentError
            As `Forecaster.forecast`.
        ShapeError
            If there are too few rows yet, or an interval is asked for of more steps than were calibrated; of a stream
            with `adapt` of more than the horizon.
        """
        forecaster = self._forecaster
        count = check_steps(forecaster, steps)
        if check_flag("interval", interval):
            if outputs is not None or samples is not None:
                given = "outputs" if samples is None else "samples"
                raise ArgumentError(f"{given}: an interval is that of the forecast; give one of the two")
            return tuple(self._interval(count, future))
        if samples is not None:
            if outputs is not None:
                raise ArgumentError("samples: they are those of the target; give one of samples and outputs")
            return self._paths(count, future, check_samples(forecaster, samples), check_seed(seed))
        names = check_outputs(forecaster, outputs, count)
        known = self._read_future(future, count)
        raw = self._raw_now()
        ahead = self._stream.copy() if count > forecaster.horizon else self._stream
        rolled = roll(forecaster, ahead, raw, self._last, count, known)
        if SIGMA in names:
            check_sigma(rolled[SIGMA])
        found = {name: forecaster._clipped(name, rolled[name][0]) for name in names}
        return found[names[0]] if outputs is None else found

    def _paths(self, steps: int, future: Any, samples: int, seed: int) -> np.ndarray:
        """Sample paths (samples, steps), each a row of one stream."""
        forecaster = self._forecaster
        known = self._read_future(future, steps)
        raw = np.repeat(self._raw_now(), samples, axis=0)
        ahead = self._stream.copy([0] * samples) if steps > forecaster.horizon else self._stream
        rolled = roll(forecaster, ahead, raw, np.repeat(self._last, samples), steps, known, seed)
        return forecaster._clipped(forecaster.target, rolled[MU])

    def step(self, row: Any, *, interval: bool = False) -> Any:
        """Take one new row and forecast.

        Parameters
        ----------
        row : array_like, dict or pandas.Series
            (features,), or numbers by name.
        interval : bool
            Give forecast, low and high.

        Returns
        -------
        ndarray of float64 or None
            (horizon,), in units, or three of them; None until there are enough rows.

        Raises
        ------
        ArgumentError, ShapeError
            As `run`.
        """
        if check_flag("interval", interval):
            _calibration_of(self._forecaster)
        self._take(self._read_row(row))
        return None if self._raw is None else self.forecast(interval=interval)

    def _read_row(self, row: Any) -> Table:
        forecaster = self._forecaster
        if hasattr(row, "index") and hasattr(row, "to_dict"):  # a Series of pandas
            row = row.to_dict()
        if isinstance(row, dict):
            for name, number in row.items():
                if np.ndim(number) != 0:
                    raise ShapeError(f"row: {name!r} expected a number, found {described(number)}")
            rows: Any = {name: [number] for name, number in row.items()}
        else:
            array = np.asarray(row)
            if array.shape != (len(forecaster.features),):
                raise ShapeError(f"row: expected ({len(forecaster.features)},), found shape {array.shape}")
            rows = array[None]
        return read_table("row", rows, forecaster.features, (forecaster.target,), forecaster._time)

    def _raw_now(self) -> np.ndarray:
        """What the network gave last. Raises `ShapeError`."""
        if self._raw is None:
            window = self._forecaster.window
            needed = self._stream.warm_up + 1 if window is None else window
            raise ShapeError(f"history: expected at least {max(needed, 1)} rows, found {self._taken}")
        return self._raw

    def _read_future(self, future: Any, steps: int) -> np.ndarray:
        """The known features of the rows that the network reads beyond the history, scaled, (1, rows, features)."""
        forecaster = self._forecaster
        needed, names = rows_needed(forecaster, steps), forecaster.known_features
        if future is None:
            if needed and names:
                raise ArgumentError(
                    f"future: a forecast of {steps} steps needs {needed} rows of the features that are not fed back: "
                    f"{', '.join(names)}"
                )
            return np.empty((1, needed, 0), forecaster.model.dtype)
        if not names:
            raise ArgumentError("future: all features are fed back, so there are none to be known in advance")
        table = read_table("future", future, names, time=forecaster._time, rows=needed)
        self._check_time(table, "future")
        return forecaster._scaled("future", table.array(names), names)[None]


def _calibration_of(forecaster: Forecaster) -> Calibration:
    """Raises `ArgumentError` if there is none."""
    if forecaster._calibration is None:
        raise ArgumentError(
            "interval: the forecaster is not calibrated; go on with the one that Forecaster.calibrate returns"
        )
    return forecaster._calibration
