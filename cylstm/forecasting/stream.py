"""Forecasts that go on row by row."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.engine.mode import in_standard_mode
from cylstm.errors import ArgumentError, ShapeError, described
from cylstm.forecasting.conformal import Adaptive, Calibration, check_rate
from cylstm.forecasting.dropout import NoisyWalk, check_interval, noisy_forecasts, noisy_interval
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
from cylstm.forecasting.windows import known_rows, roll_windows, rows_behind

if TYPE_CHECKING:
    from cylstm.forecasting.forecaster import Forecaster


class ForecastStream:
    """One series that a forecaster follows: rows come in, forecasts come out. Made by `Forecaster.stream`.

    One thread at a time may use it; give each thread its own.
    """

    __slots__ = ("_adaptive", "_forecaster", "_last", "_noisy", "_past", "_raw", "_stream", "_taken", "_time")

    @in_standard_mode
    def __init__(self, forecaster: Forecaster, adapt: float | None = None) -> None:
        self._forecaster = forecaster
        self._adaptive: Adaptive | None = None
        if adapt is not None:
            calibration = _calibration_of(forecaster)
            steps = min(calibration.steps, forecaster.horizon)
            self._adaptive = Adaptive(calibration, steps, check_rate(adapt))
        #: of a forecaster that is scaled anew at each window: its last rows in units, by column
        self._past = {name: np.empty(0) for name in forecaster.columns} if forecaster._keeps_past else None
        self._noisy = NoisyWalk(forecaster) if forecaster._dropout is not None and forecaster.window is None else None
        if adapt is not None and forecaster._most_ahead:
            raise ArgumentError("adapt: not with columns that are read some rows later, which each forecast is given")
        self._stream = None if forecaster._is_windowed else forecaster.model.stream(window=forecaster.window)
        self._raw: np.ndarray | None = None
        self._last = np.full(1, np.nan)
        self._taken = 0
        self._time: Any = None

    def __copy__(self) -> ForecastStream:
        return deepcopy(self, {id(self._forecaster): self._forecaster})

    @property
    def forecaster(self) -> Forecaster:
        """Whose stream it is."""
        return self._forecaster

    @property
    def steps(self) -> int:
        """How many rows it has taken."""
        return self._taken

    @in_standard_mode
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
        self._take(read_table("history", rows, forecaster.columns, (forecaster.target,), forecaster._time))

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
        units = table.array(forecaster.columns)
        scaled = units
        if not forecaster._is_windowed:
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
                self._adaptive.give(self._interval(len(self._adaptive.alpha))[1:] if self._is_ready else None)
        if table.times is not None:
            self._time = table.times[-1]

    def _advance(self, units: np.ndarray, scaled: np.ndarray) -> None:
        forecaster = self._forecaster
        self._taken += len(units)
        if self._past is not None:
            assert forecaster.window is not None
            most = rows_behind(forecaster) + forecaster.window
            for i, name in enumerate(forecaster.columns):
                self._past[name] = np.concatenate([self._past[name], units[-most:, i]])[-most:]
        if self._noisy is not None:
            self._noisy.run(scaled)
        if self._stream is not None:
            found = forecaster._reader.read(self._stream.run(scaled[None]))
            is_whole = forecaster.window is None or self._taken >= forecaster.window
            self._raw = found if is_whole else None
            if forecaster.target in forecaster.features:
                self._last = units[-1:, forecaster.features.index(forecaster.target)]

    @property
    def _rows_needed(self) -> int:
        """How many rows it must have taken to forecast."""
        window = self._forecaster.window
        if window is not None:
            return window + rows_behind(self._forecaster)
        assert self._stream is not None
        return max(int(self._stream.warm_up) + 1, 1)

    @property
    def _is_ready(self) -> bool:
        return self._taken >= self._rows_needed if self._stream is None else self._raw is not None

    def _check_ready(self) -> None:
        """Raises `ShapeError` if there are too few rows yet."""
        if not self._is_ready:
            raise ShapeError(f"history: expected at least {_rows(self._rows_needed)}, found {self._taken}")

    def _interval(
        self, steps: int, future: Any = None, kind: str = "conformal", coverage: float | None = None
    ) -> np.ndarray:
        """Forecast, low and high, (3, steps). Raises `ShapeError` beyond what was calibrated."""
        forecaster = self._forecaster
        if kind != "conformal":
            mean, samples = self.forecast(steps, future), self._noisy_samples(steps, future)
            ends = [end[0] for end in noisy_interval(forecaster, kind, mean[None], samples[:, None], coverage)]
            return np.stack([mean, *ends])
        calibration = _calibration_of(forecaster)
        if steps > calibration.steps:
            raise ShapeError(
                f"interval: {calibration.steps} steps were calibrated, found {steps}; see calibrate(steps=)"
            )
        alpha = calibration.alpha(steps, coverage)
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

    @in_standard_mode
    def forecast(
        self,
        steps: int | None = None,
        future: Any = None,
        *,
        outputs: Sequence[str] | None = None,
        interval: bool | str = False,
        coverage: float | None = None,
        samples: int | None = None,
        seed: int = 0,
    ) -> Any:
        """Forecast the steps that follow the last row. The stream stays where it is.

        Parameters
        ----------
        steps, future, outputs, interval, coverage, samples, seed
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
        if interval is not False and (outputs is not None or samples is not None):
            given = "outputs" if samples is None else "samples"
            raise ArgumentError(f"{given}: an interval is that of the forecast; give one of the two")
        kind = check_interval(forecaster, interval)
        if coverage is not None and (kind is None or self._adaptive is not None):
            raise ArgumentError("coverage: it is that of an interval=, of a stream without adapt=")
        if kind is not None:
            if kind != "conformal" and self._adaptive is not None:
                raise ArgumentError("interval: a stream with adapt= follows conformal intervals alone")
            return tuple(self._interval(count, future, kind, coverage))
        if samples is not None:
            if outputs is not None:
                raise ArgumentError("samples: they are those of the target; give one of samples and outputs")
            return self._paths(count, future, check_samples(forecaster, samples), check_seed(seed))
        names = check_outputs(forecaster, outputs, count)
        rolled = self._rolled(count, future, 1, None)
        if SIGMA in names:
            check_sigma(rolled[SIGMA])
        found = {name: forecaster._clipped(name, rolled[name][0]) for name in names}
        return found[names[0]] if outputs is None else found

    def _paths(self, steps: int, future: Any, samples: int, seed: int) -> np.ndarray:
        """Sample paths (samples, steps), each a row of one stream."""
        forecaster = self._forecaster
        return forecaster._clipped(forecaster.target, self._rolled(steps, future, samples, seed)[MU])

    def _rolled(self, steps: int, future: Any, paths: int, seed: int | None) -> dict[str, np.ndarray]:
        """All outputs of so many paths, (paths, steps)."""
        forecaster = self._forecaster
        known = self._read_future(future, steps)
        self._check_ready()
        if self._stream is None:
            return roll_windows(forecaster, forecaster.model, self._past_of(paths), known, steps, seed)
        assert self._raw is not None
        raw = np.repeat(self._raw, paths, axis=0)
        ahead = self._stream.copy([0] * paths) if steps > forecaster.horizon else self._stream
        return roll(
            forecaster, ahead, raw, np.repeat(self._last, paths), steps, self._scaled_future(known, steps), seed
        )

    def _past_of(self, paths: int) -> dict[str, np.ndarray]:
        assert self._past is not None
        return {name: np.tile(column, (paths, 1)) for name, column in self._past.items()}

    def _noisy_samples(self, steps: int, future: Any) -> np.ndarray:
        """The forecast with dropout left on, (samples, steps); a sample keeps its masks."""
        forecaster = self._forecaster
        known = self._read_future(future, steps)
        self._check_ready()
        if self._noisy is not None:
            return self._noisy.forecast(self._last, steps, self._scaled_future(known, steps))
        return noisy_forecasts(forecaster, self._past_of(1), known, steps)[:, 0]

    @in_standard_mode
    def step(self, row: Any, *, interval: bool | str = False) -> Any:
        """Take one new row and forecast.

        Parameters
        ----------
        row : array_like, dict or pandas.Series
            (features,), or numbers by name.
        interval : bool or str
            Give forecast, low and high, as `Forecaster.forecast` does.

        Returns
        -------
        ndarray of float64 or None
            (horizon,), in units, or three of them; None until there are enough rows.

        Raises
        ------
        ArgumentError, ShapeError
            As `run`.
        """
        check_interval(self._forecaster, interval)
        if known_rows(self._forecaster, self._forecaster.horizon):
            raise ArgumentError(
                "step: this forecaster reads columns of later rows; take the row with run, and give forecast the future"
            )
        self._take(self._read_row(row))
        return self.forecast(interval=interval) if self._is_ready else None

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
            if array.shape != (len(forecaster.columns),):
                raise ShapeError(f"row: expected ({len(forecaster.columns)},), found shape {array.shape}")
            rows = array[None]
        return read_table("row", rows, forecaster.columns, (forecaster.target,), forecaster._time)

    def _read_future(self, future: Any, steps: int) -> dict[str, np.ndarray]:
        """The columns that a forecast reads beyond the history, in units, (1, rows)."""
        forecaster = self._forecaster
        rows = known_rows(forecaster, steps)
        if future is None:
            if rows:
                raise ArgumentError(
                    f"future: a forecast of {steps} steps needs {_rows(max(rows.values()))} of the features that are "
                    f"not fed back: {', '.join(rows)}"
                )
            return {}
        names = forecaster.known_features
        if not names:
            raise ArgumentError("future: all features are fed back, so there are none to be known in advance")
        if rows and set(rows) != set(names):  # those that are not read beyond the history may be left out
            others = [name for name in names if name not in rows]
            names = tuple(name for name in names if name in rows)
            table = read_table("future", future, names, others, forecaster._time, max(rows.values()))
        else:
            table = read_table("future", future, names, time=forecaster._time, rows=max([0, *rows.values()]))
        self._check_time(table, "future")
        return {name: table.columns[name][None] for name in names}

    def _scaled_future(self, known: dict[str, np.ndarray], steps: int) -> np.ndarray:
        """The known features as the network reads them, (1, rows, features)."""
        forecaster = self._forecaster
        if not known:
            return np.empty((1, rows_needed(forecaster, steps), 0), forecaster.model.dtype)
        names = forecaster.known_features
        return forecaster._scaled("future", np.stack([known[name][0] for name in names], axis=1), names)[None]


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _calibration_of(forecaster: Forecaster) -> Calibration:
    """Raises `ArgumentError` if there is none."""
    if forecaster._calibration is None:
        raise ArgumentError(
            "interval: the forecaster is not calibrated; go on with the one that Forecaster.calibrate returns"
        )
    return forecaster._calibration
