"""A forecaster: a network with the scaling of its features, the loop over the horizon, and its intervals."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.arguments import check_count, check_flag, check_window
from cylstm.engine.mode import in_standard_mode
from cylstm.errors import ArgumentError, CylstmError, FormatError, UnsupportedError, described
from cylstm.forecasting.conformal import Calibration, calibrated, check_coverage, read_calibration
from cylstm.forecasting.description import KEY, read_description, write_description
from cylstm.forecasting.dropout import Dropout, read_dropout, spreads
from cylstm.forecasting.outputs import Reader, is_head, point_of, reader_of
from cylstm.forecasting.scaling import Scaling, as_scaling, is_fitted_scaler, of_fitted_scaler
from cylstm.loading import load
from cylstm.model import Model

if TYPE_CHECKING:
    from types import EllipsisType

    from cylstm.forecasting.backtest import Evaluation
    from cylstm.forecasting.stream import ForecastStream
    from cylstm.forecasting.windows import Scalings

_MOST_NAMES = 4096
_MOST_LETTERS = 200
_MOST_SHIFT = 100_000
_MOST = float(np.finfo(np.float64).max)


class Forecaster:
    """A network that forecasts a series: it takes and gives numbers in their own units. It never changes.

    At step t the network reads the features of step t and gives the target of the steps t + 1 to t + `horizon`. Beyond
    the horizon it goes on from its own forecasts (`feedback`).

    Parameters
    ----------
    model : Model
        With one input (time, features), and for each step of the horizon the numbers that `outputs` names: as its last
        axis, step by step, or as one output of the network for each name.
    features : list of str
        The columns that the network reads, in its order.
    target : str
        The column that it forecasts.
    scaling : dict or fitted scaler, optional
        Of each feature, by name: None (as it is), ``"log1p"``, a dict such as ``{"kind": "standard", "mean": 3.0,
        "std": 2.0}`` (also ``"min_max"`` with ``low`` and ``high``, and ``to_low`` and ``to_high`` unless they are 0
        and 1; ``"robust"`` with ``median`` and ``iqr``), a fitted `StandardScaler`, `MinMaxScaler` or `RobustScaler` of
        scikit-learn, or a list of these, applied in that order. Or one fitted scaler for all features. Left out: all
        features as they are. With a window also local ones, whose numbers are those of the window that a forecast is
        made from: ``"local_standard"`` (``(x - mean) / (sqrt(variance + variance_eps) + eps)``, and ``ddof``),
        ``"local_robust"`` (median, median absolute deviation and ``eps``) and ``"local_min_max"``; ``offset`` is added
        to what comes back in units.
    target_scaling : as one of `scaling`, optional
        Of the network's forecasts of the target; each number may be a list of `horizon`. By default the scaling of the
        feature of that name; a target that is no feature needs it.
    horizon : int
        How many steps one call of the network forecasts.
    outputs : list of str, optional
        What the network gives for each step: the target (the default), other features that it forecasts too, or heads
        of the target's distribution: quantiles ``"q0.1"``, and ``"mu"`` and ``"sigma"`` of a normal distribution, in
        the network's scale. The forecast is that of the target, else ``"mu"``, else ``"q0.5"``.
    feedback : dict of str to str, optional
        Output -> the feature (of shifted ones the column) that it becomes where the network goes on from its own
        forecasts.
    shifted : dict of str to (str, int), optional
        Feature -> the column that it is read from and how many rows later: ``{"holiday ahead": ("holiday", 1), "load a
        day before": ("load", -23)}``. A negative number is earlier. Needs a window.
    carry : bool
        Beyond the horizon the state runs on from that of the window, and local scalers stay as they are; by default
        each further forecast is made from a window that has slid on. Needs a window.
    window : int or None, optional
        Each forecast is made from so many steps, from a zero state; None: the state runs on over the whole history.
        By default as the network was trained, where its file says it.
    change : bool
        The network forecasts how much the target differs from its last known value; `target_scaling` is then that of
        the differences.
    limits : tuple of (float or None, float or None), optional
        What a forecast in units can be at least and at most; it is clipped. What is fed back is not.
    units : dict of str to str, optional
        Of features and the target, kept in the file.
    time : str, optional
        The column of times in tables; they must increase from row to row.
    dropout : dict, optional
        Forecasts with the dropout of training left on: ``{"samples": 100, "seed": 0, "coverage": 0.9, "rates": ...}``,
        of which `rates` are as `Model.predict_mc` takes them, left out if the network's file has them.
    calibration, normalised : object, optional
        Of another forecaster; `calibrate` makes them.

    Raises
    ------
    ArgumentError
        If something is of another kind than expected, or does not fit the network.
    UnsupportedError
        If the network has several inputs, or can only run on windows and none is given.
    """

    __slots__ = (
        "_calibration",
        "_carry",
        "_centers",
        "_change",
        "_columns",
        "_dropout",
        "_features",
        "_feedback",
        "_horizon",
        "_is_windowed",
        "_limits",
        "_model",
        "_most_ahead",
        "_normalised",
        "_outputs",
        "_point",
        "_reader",
        "_scaling",
        "_sources",
        "_target",
        "_target_scaling",
        "_time",
        "_units",
        "_window",
    )

    @in_standard_mode
    def __init__(
        self,
        model: Model,
        *,
        features: Sequence[str],
        target: str,
        scaling: Any = None,
        target_scaling: Any = ...,
        horizon: int = 1,
        outputs: Sequence[str] | None = None,
        feedback: Mapping[str, str] | None = None,
        shifted: Mapping[str, tuple[str, int]] | None = None,
        carry: bool = False,
        window: int | EllipsisType | None = ...,
        change: bool = False,
        limits: tuple[float | None, float | None] = (None, None),
        units: Mapping[str, str] | None = None,
        time: str | None = None,
        dropout: Mapping[str, Any] | None = None,
        calibration: Any = None,
        normalised: Any = None,
    ) -> None:
        if not isinstance(model, Model):
            raise ArgumentError(f"model: expected a cylstm.Model, found {described(model)}; cylstm.load reads one")
        self._model = model
        self._features = _names("features", features)
        self._target = _name("target", target)
        self._horizon = check_count("horizon", horizon)
        self._outputs = _names("outputs", [target] if outputs is None else outputs)
        self._change = check_flag("change", change)
        self._time = None if time is None else _name("time", time)
        self._carry = check_flag("carry", carry)
        self._sources = self._read_shifted(shifted)
        #: of a history that it reads: the features, and those that shifted ones are read from
        self._columns = tuple(dict.fromkeys(column for column, _ in self._sources.values()))
        self._most_ahead = max(0, *(rows for _, rows in self._sources.values()))
        self._check_input()
        self._check_names()
        self._reader: Reader = reader_of(model, self._horizon, self._outputs)
        self._point = point_of(self._outputs, self._target)
        self._scaling = self._read_scaling(scaling)
        self._target_scaling = self._read_target_scaling(target_scaling)
        self._feedback = self._read_feedback(feedback)
        self._window = self._read_window(window)
        #: whether each forecast is scaled anew from a window in units
        self._is_windowed = (
            self._carry
            or any(source != (name, 0) for name, source in self._sources.items())
            or any(scaling.is_local for scaling in (*self._scaling.values(), self._target_scaling))
        )
        self._check_windowed()
        self._centers: dict[tuple[str, ...], tuple[np.ndarray, np.ndarray] | None] = {}
        self._limits = _read_limits(limits)
        self._units = _read_units(units, {*self.columns, self._target})
        self._dropout: Dropout | None = read_dropout(dropout, model)
        self._calibration: Calibration | None = None if calibration is None else read_calibration(calibration)
        self._normalised: Calibration | None = None if normalised is None else read_calibration(normalised)
        if self._normalised is not None and self._dropout is None:
            raise ArgumentError("normalised: expected dropout= too, whose samples it is about")

    def _check_input(self) -> None:
        graph = self._model.graph
        values = [graph.values[name] for name in graph.inputs]
        if len(values) != 1:
            raise UnsupportedError(
                f"a forecaster takes a network with one input, found {', '.join(graph.inputs)}; Model.extract makes one"
            )
        value = values[0]
        if value.kind != "sequence" or len(value.shape) != 2 or value.name in graph.layouts:
            raise UnsupportedError(
                f"input {value.name!r}: a forecaster takes a network that reads (time, features), found {value.kind} "
                f"of shape {value.shape}"
            )
        if value.shape[1] != len(self._features):
            raise ArgumentError(
                f"features: the network reads {value.shape[1]} features, found {len(self._features)}: "
                f"{', '.join(self._features)}"
            )

    def _check_names(self) -> None:
        known = {*self.columns, *self._features, self._target}
        for name in self._outputs:
            if name not in known and not is_head(name):
                raise ArgumentError(
                    f"outputs: {name!r} is neither the target {self._target!r}, a feature, 'mu', 'sigma' nor a "
                    "quantile such as 'q0.9'"
                )
        for name in known:
            if is_head(name):
                raise ArgumentError(f"features: {name!r} is the name of a head of a network; call the column otherwise")
        if self._time in known:
            raise ArgumentError(f"time: {self._time!r} is a feature or the target too")
        if self._change and self._target not in self.columns:
            raise ArgumentError(
                f"change=True: the target {self._target!r} expected to be one of the features, which its last value is "
                "read from"
            )

    def _read_scaling(self, given: Any) -> dict[str, Scaling]:
        if given is None:
            return {name: Scaling() for name in self._features}
        if is_fitted_scaler(given):
            return of_fitted_scaler("scaling", given, self._features)
        if not isinstance(given, Mapping):
            raise ArgumentError(
                f"scaling: expected a dict with an entry for each feature, or a fitted scaler, found {described(given)}"
            )
        for name in given:
            if name not in self._features:
                raise ArgumentError(
                    f"scaling: {described(name)} is no feature; the features are {', '.join(self._features)} (of the "
                    "forecasts: target_scaling)"
                )
        for name in self._features:
            if name not in given:
                raise ArgumentError(f"scaling: the feature {name!r} is missing; None leaves it as it is")
        return {name: as_scaling(f"scaling: {name}", given[name], name=name) for name in self._features}

    def _read_target_scaling(self, given: Any) -> Scaling:
        if given is not ...:
            found = as_scaling("target_scaling", given, self._horizon, self._target)
        elif self._change:
            raise ArgumentError(
                "change=True: expected target_scaling=, the scaling of the differences (None where they are in units)"
            )
        elif self._target not in self._features:
            raise ArgumentError(
                f"target_scaling: expected it, because the target {self._target!r} is no feature (None: in units)"
            )
        else:
            found = self._scaling[self._target]
        if "sigma" in self._outputs and not found.is_linear:
            raise ArgumentError("target_scaling: with log1p 'mu' and 'sigma' are not those of the target in units")
        return found

    def _read_feedback(self, given: Any) -> dict[str, str]:
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            raise ArgumentError(f"feedback: expected a dict of output to feature, found {described(given)}")
        found: dict[str, str] = {}
        for output, feature in given.items():
            output = self._point if output == self._target else output
            if output not in self._outputs or output == "sigma":
                raise ArgumentError(
                    f"feedback: {described(output)} is no output; the outputs are {', '.join(self._outputs)}"
                )
            if feature not in self.columns:
                raise ArgumentError(
                    f"feedback: {described(feature)} is no feature; the features are {', '.join(self.columns)}"
                )
            if feature in found.values():
                raise ArgumentError(f"feedback: two outputs become the feature {feature!r}")
            found[output] = feature
        if self._change and self._point not in found and found:
            raise ArgumentError(f"feedback: with change=True the forecast {self._point!r} must be fed back too")
        return found

    def _read_shifted(self, given: Any) -> dict[str, tuple[str, int]]:
        """Feature -> column and rows, of all features."""
        if given is not None and not isinstance(given, Mapping):
            raise ArgumentError(f"shifted: expected a dict of feature to (column, rows), found {described(given)}")
        found = {name: (name, 0) for name in self._features}
        for name, source in (given or {}).items():
            if name not in found:
                raise ArgumentError(
                    f"shifted: {described(name)} is no feature; the features are {', '.join(self._features)}"
                )
            pair = tuple(source) if isinstance(source, (list, tuple)) else ()
            if len(pair) != 2 or type(pair[1]) is not int or not -_MOST_SHIFT <= pair[1] <= _MOST_SHIFT:
                raise ArgumentError(
                    f"shifted: {name!r} expected a column and a number of rows of at most {_MOST_SHIFT}, found "
                    f"{described(source)}"
                )
            found[name] = (_name(f"shifted: {name}", pair[0]), pair[1])
        return found

    @property
    def _keeps_past(self) -> bool:
        """Whether a stream keeps its last rows in units."""
        return self._is_windowed or (self._dropout is not None and self._window is not None)

    def _check_windowed(self) -> None:
        """What needs a window has one, and nothing is read before it is known."""
        fed = {*self._feedback.values(), self._target}
        for name, (column, rows) in self._sources.items():
            if column in fed and rows > 0:
                raise ArgumentError(f"shifted: {name!r} would read {column!r}, which is forecast, {rows} rows later")
        if self._window is None and self._is_windowed:
            raise ArgumentError("shifted, carry and local scalers need window=, the rows that a forecast is made from")
        if self._target_scaling.is_local and self._target not in self.columns:
            raise ArgumentError(
                f"target_scaling: local numbers of {self._target!r}, which is none of the columns that are read"
            )
        if self._carry and not self._model.can_stream:
            raise UnsupportedError(f"carry: {self._model._why_no_stream()}")

    def _read_window(self, given: Any) -> int | None:
        graph = self._model.graph
        value = graph.values[graph.inputs[0]]
        if given is ...:
            given = graph.window or value.shape[0]
            if given is None and not self._model.can_stream:
                raise UnsupportedError(f"{self._model._why_no_stream()}; give the forecaster window=")
        if given is None:
            if not self._model.can_stream:
                raise UnsupportedError(f"window: {self._model._why_no_stream()}")
            return None
        return check_window([value], given)

    @property
    def model(self) -> Model:
        """The network."""
        return self._model

    @property
    def features(self) -> tuple[str, ...]:
        """The columns that the network reads, in its order."""
        return self._features

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a history that it reads: the features, and those that shifted ones are read from."""
        return self._columns

    @property
    def target(self) -> str:
        """The column that it forecasts."""
        return self._target

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the network gives for each step of the horizon."""
        return self._outputs

    @property
    def horizon(self) -> int:
        """How many steps one call of the network forecasts."""
        return self._horizon

    @property
    def window(self) -> int | None:
        """How many steps each forecast is made from; None: the state runs on."""
        return self._window

    @property
    def feedback(self) -> Mapping[str, str]:
        """Output -> the feature that it becomes."""
        return dict(self._feedback)

    @property
    def time(self) -> str | None:
        """The column of times in tables."""
        return self._time

    @property
    def units(self) -> Mapping[str, str]:
        """Of features and the target, those that are known."""
        return dict(self._units)

    @property
    def known_features(self) -> tuple[str, ...]:
        """The columns that are not fed back: beyond the horizon a forecast needs them in advance, in this order."""
        return tuple(name for name in self.columns if name not in self._feedback.values())

    @in_standard_mode
    def forecast(
        self,
        history: Any,
        steps: int | None = None,
        future: Any = None,
        *,
        outputs: Sequence[str] | None = None,
        interval: bool | str = False,
        coverage: float | None = None,
        samples: int | None = None,
        seed: int = 0,
    ) -> Any:
        """Forecast the steps that follow a history.

        Parameters
        ----------
        history : array_like, dict or pandas.DataFrame
            (time, features), or columns by name. The target may be there too where it is no feature. With a window at
            least so many rows; older ones are not read.
        steps : int, optional
            By default the horizon.
        future : array_like, dict or pandas.DataFrame, optional
            The `known_features` of the steps after the history, which a forecast beyond the horizon reads: for
            ``steps`` above `horizon` at least ``horizon * (ceil(steps / horizon) - 1)`` rows. Of columns that are read
            some rows later as many more, and then of these alone within the horizon.
        outputs : list of str, optional
            Give these outputs instead of the forecast.
        interval : bool or str
            Give the forecast and an interval: True or ``"conformal"`` is that of `calibrate`; ``"dropout"`` lies
            between two quantiles of forecasts with dropout; ``"both"`` is as wide as they are apart, times what
            ``calibrate(interval="both")`` found.
        coverage : float, optional
            Of the interval, if it is not to be that of the calibration, or of `dropout`.
        samples : int, optional
            Give so many sample paths, drawn from ``"mu"`` and ``"sigma"``: beyond the horizon each goes on from its own
            draws. Within it the steps of a path are drawn one by one, as the network says nothing of their dependence.
        seed : int
            0 to 2**64 - 1. Sample n of step k is the same whatever the number of samples and of steps.

        Returns
        -------
        ndarray of float64
            (steps,), in units; with `outputs` a dict of them; with `interval` three of them: forecast, low and high;
            with `samples` (samples, steps).

        Raises
        ------
        ArgumentError
            If a column is missing or one too many, a number is missing, or times are not in order; the message names
            the column and the row. If `steps` goes beyond the horizon and a feature is neither fed back nor known.
        ShapeError
            If there are too few rows, or an interval is asked for of more steps than were calibrated.
        """
        stream = self.stream()
        stream.run(history)
        return stream.forecast(
            steps, future, outputs=outputs, interval=interval, coverage=coverage, samples=samples, seed=seed
        )

    def stream(self, *, adapt: float | None = None) -> ForecastStream:
        """A forecaster that goes on row by row, at the start of a series.

        Parameters
        ----------
        adapt : float, optional
            Intervals follow what comes true, by adaptive conformal inference (Gibbs and Candès, arXiv 2106.00170) with
            this step size, such as 0.01. Each step of the horizon does by itself.

        Returns
        -------
        ForecastStream

        Raises
        ------
        ArgumentError
            If `adapt` is out of its range, or the forecaster is not calibrated.
        """
        from cylstm.forecasting.stream import ForecastStream

        return ForecastStream(self, adapt)

    @in_standard_mode
    def calibrate(
        self,
        frame: Any,
        start: Any,
        *,
        coverage: float = 0.9,
        steps: int | None = None,
        interval: str = "conformal",
        progress: bool = False,
    ) -> Forecaster:
        """A forecaster with intervals, by split conformal prediction: one half-width for each step of the horizon.

        From every row of `start` on, `steps` are forecast from the rows before it. The half-width of a step is the
        ``ceil((n + 1) * coverage)``-th smallest of its n absolute residuals. An interval then holds the truth with that
        probability if the errors of the calibration set and those to come could change places; where they could not,
        `stream` can adapt.

        Parameters
        ----------
        frame : dict or pandas.DataFrame, or array_like
            As a history, with the target. Rows that the network was not trained on.
        start : int or date
            The first row that is forecast, by its number or its time. The rows before it are history.
        coverage : float
        steps : int, optional
            By default the horizon. Beyond it the known features are those of the frame.
        interval : str
            ``"both"`` calibrates intervals with dropout instead: residuals are divided by the standard deviation of the
            forecast's samples, and its intervals are as many of these wide.
        progress : bool
            Show a progress bar, which needs tqdm.

        Returns
        -------
        Forecaster
            The same network with the intervals, which `save` keeps too. This one stays as it is.

        Raises
        ------
        ArgumentError
            As `forecast`; if `coverage` is out of its range.
        ShapeError
            If there are too few rows before `start`, or from it on for the coverage.
        UnsupportedError
            If a progress bar is asked for and tqdm is not installed.
        """
        from cylstm.forecasting.origins import forecast_all, read_frame, sample_all, truths
        from cylstm.forecasting.roll import check_steps

        share, count = check_coverage(coverage), check_steps(self, steps)
        if interval not in ("conformal", "both"):
            raise ArgumentError(
                f"interval: expected 'conformal' or 'both', found {described(interval)}; that of dropout alone is not "
                "calibrated"
            )
        if interval == "both" and self._dropout is None:
            raise ArgumentError("interval='both': expected a forecaster with dropout={'samples': 100, ...}")
        table, first = read_frame(self, frame, start, count)
        found = forecast_all(self, table, first, count, progress)[self._point]
        residuals = np.abs(truths(self, table, first, count)[: len(found)] - found)
        entries: dict[str, Any] = self._entries()
        if interval == "conformal":
            entries["calibration"] = calibrated(residuals, share)
        else:
            for rows, samples in sample_all(self, table, first, count, progress):
                residuals[rows] /= spreads(samples)
            entries["normalised"] = calibrated(residuals, share)
        return Forecaster(self._model, **entries)

    @in_standard_mode
    def evaluate(
        self,
        frame: Any,
        start: Any,
        *,
        steps: int | None = None,
        season: int | None = None,
        interval: str = "conformal",
        adapt: float | None = None,
        block: int | None = None,
        draws: int = 1000,
        seed: int = 0,
        progress: bool = False,
    ) -> Evaluation:
        """How good forecasts are that begin at every row from `start` on, against forecasts that cost nothing.

        These are persistence, where every step is like the last known one, and with a `season` the seasonal naive
        forecast, where it is like the last known one of its place in the season. The mean absolute scaled error (MASE;
        Hyndman and Koehler, 2006) is the mean absolute error divided by that of the seasonal naive forecast one season
        ahead (without a season: of persistence one step ahead) in the rows before `start`.

        Parameters
        ----------
        frame, start, progress
            As `calibrate` takes them; rows that were neither trained nor calibrated on.
        steps : int, optional
            By default the horizon. Beyond it the known features are those of the frame.
        season : int, optional
            How many rows a season has: 24 for hours of a day.
        interval : str
            Which intervals are measured, as `forecast` has them.
        adapt : float, optional
            Measure intervals that adapt, as `stream` has them, from `start` on; some may be infinite.
        block : int, optional
            Of how many neighbouring forecasts a block of the bootstrap is. By default `steps`, `season` or the cube
            root of the number of forecasts, whichever is largest.
        draws, seed : int
            Of the bootstrap.

        Returns
        -------
        Evaluation
            RMSE, MAE and MASE of the forecast and of the others with 95% intervals by the circular block bootstrap, and
            coverage and width of the intervals if as many steps are calibrated; over all steps and by step.

        Raises
        ------
        ArgumentError, ShapeError, UnsupportedError
            As `calibrate`.
        """
        from cylstm.forecasting.backtest import evaluate
        from cylstm.forecasting.roll import check_steps

        count = check_steps(self, steps)
        return evaluate(self, frame, start, count, season, interval, adapt, block, draws, seed, progress)

    @in_standard_mode
    def save(self, path: str | os.PathLike[str], *, packed: bool = False, check: Any = None) -> None:
        """Write the network and all of the forecaster to one ``.cylstm`` file.

        `cylstm.load` reads the network of it, `Forecaster.load` the forecaster.

        Parameters
        ----------
        path, packed, check
            As `Model.save` takes them.

        Raises
        ------
        UnsupportedError, ShapeError
            As `Model.save`.
        """
        metadata = {**self._model.metadata, KEY: write_description(self._entries())}
        self._model.save(path, metadata=metadata, packed=packed, check=check)

    @classmethod
    @in_standard_mode
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        engine: str | None = None,
        dtype: str | None = None,
        weights: str | None = None,
        mmap: bool = False,
    ) -> Forecaster:
        """Read a forecaster from a file that `save` wrote.

        Parameters
        ----------
        path : path-like
        engine, dtype, weights, mmap
            As `cylstm.load` takes them.

        Raises
        ------
        FormatError
            If the file is damaged, or holds no forecaster; the message says which entry is wrong.
        UnsupportedError
            As `cylstm.load`; or if a newer CyLSTM wrote the forecaster.
        """
        model = load(path, engine=engine, dtype=dtype, weights=weights, mmap=mmap)
        entries = read_description(path, model.metadata)
        try:
            return cls(model, **entries)
        except CylstmError as error:
            raise FormatError(f"{path}: {KEY}: {error}") from error

    def _entries(self) -> dict[str, object]:
        """All arguments of a forecaster but its model, for JSON."""
        return {
            "calibration": None if self._calibration is None else self._calibration.to_dict(),
            "carry": self._carry,
            "change": self._change,
            "dropout": None if self._dropout is None else self._dropout.to_dict(),
            "features": list(self._features),
            "feedback": dict(self._feedback),
            "horizon": self._horizon,
            "limits": list(self._limits),
            "normalised": None if self._normalised is None else self._normalised.to_dict(),
            "outputs": list(self._outputs),
            "scaling": {name: scaling.to_list() for name, scaling in self._scaling.items()},
            "shifted": {name: list(one) for name, one in self._sources.items() if one != (name, 0)},
            "target": self._target,
            "target_scaling": self._target_scaling.to_list(),
            "time": self._time,
            "units": dict(self._units),
            "window": self._window,
        }

    def _scaled(self, what: str, units: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """(..., names) in units as the network reads them. Raises `ArgumentError` about a number it cannot read."""
        centers = self._centers_of(tuple(names))
        with np.errstate(all="ignore"):
            if centers is not None:
                scaled: np.ndarray = ((units - centers[0]) / centers[1]).astype(self._model.dtype)
            else:
                columns = [self._scaling[name].scaled(units[..., i]) for i, name in enumerate(names)]
                scaled = np.stack(columns, axis=-1).astype(self._model.dtype)
        is_finite = np.isfinite(scaled)
        if not is_finite.all():
            found = np.argwhere(~is_finite)[0]
            name = names[int(found[-1])]
            place = f"row {found[-2]}: " if len(found) > 1 else ""
            raise ArgumentError(f"{what}: {place}{name!r} of {units[tuple(found)]} cannot be scaled")
        return scaled

    def _centers_of(self, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray] | None:
        """What is subtracted from these columns and what they are divided by, if that is all: for all at once."""
        if names not in self._centers:
            pairs = [self._scaling[name].center for name in names]
            found = [pair for pair in pairs if pair is not None]
            self._centers[names] = None
            if len(found) == len(pairs):
                centers, scales = np.array(found, np.float64).reshape(-1, 2).T
                self._centers[names] = centers, scales
        return self._centers[names]

    def _in_units(self, name: str, raw: np.ndarray, last: np.ndarray, scalings: Scalings | None = None) -> np.ndarray:
        """One output (batch, steps) of one call of the network in units, float64; not clipped.

        `last` is the last known target (batch,), `scalings` are those of the windows.
        """
        features, target = (self._scaling, self._target_scaling) if scalings is None else scalings
        y = raw.astype(np.float64)
        if name != self._target and not is_head(name):
            return features[name].in_units(y)
        if name == "sigma":
            return target.spread_in_units(y)
        y = target.in_units(y)
        return last[:, None] + y if self._change else y

    def _clipped(self, name: str, y: np.ndarray) -> np.ndarray:
        if self._limits == (None, None) or name == "sigma" or (name != self._target and not is_head(name)):
            return y
        return np.asarray(np.clip(y, *self._limits))

    def _fed_back(self, output: str, raw: np.ndarray, units: np.ndarray) -> np.ndarray:
        """An output (batch, steps) as the feature that it becomes: its own numbers if the scaling is the same."""
        feature = self._feedback[output]
        is_target = output == self._point or is_head(output)
        scaling = self._target_scaling if is_target else self._scaling[output]
        if scaling == self._scaling[feature] and not (is_target and self._change):
            return raw
        return self._scaled("feedback", units[..., None], [feature])[..., 0]

    def __repr__(self) -> str:
        window = "" if self._window is None else f", window={self._window}"
        calibrated = "" if self._calibration is None else ", calibrated"
        return (
            f"<cylstm.Forecaster of {self._target!r} from {', '.join(self._features[:8])}, "
            f"horizon={self._horizon}{window}{calibrated}, {self._model!r}>"
        )


def _name(what: str, given: object) -> str:
    if not isinstance(given, str) or not given.isprintable() or not 0 < len(given) <= _MOST_LETTERS:
        raise ArgumentError(
            f"{what}: expected a name of 1 to {_MOST_LETTERS} printable letters, found {described(given)}"
        )
    return given


def _names(what: str, given: object) -> tuple[str, ...]:
    if not isinstance(given, (list, tuple)) or not 0 < len(given) <= _MOST_NAMES:
        raise ArgumentError(f"{what}: expected a list of 1 to {_MOST_NAMES} names, found {described(given)}")
    names = tuple(_name(what, one) for one in given)
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ArgumentError(f"{what}: {name!r} is there twice")
    return names


def _read_limits(given: object) -> tuple[float | None, float | None]:
    limits = list(given) if isinstance(given, (list, tuple)) else []
    if len(limits) != 2 or not all(
        one is None or (isinstance(one, (int, float)) and not isinstance(one, bool) and -_MOST <= one <= _MOST)
        for one in limits
    ):
        raise ArgumentError(f"limits: expected two numbers, None for no limit, found {described(given)}")
    low, high = (None if one is None else float(one) for one in limits)
    if low is not None and high is not None and not low < high:
        raise ArgumentError(f"limits: expected the lower one first, found {described(given)}")
    return low, high


def _read_units(given: object, known: set[str]) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ArgumentError(f"units: expected a dict of column to unit, found {described(given)}")
    for name in given:
        if name not in known:
            raise ArgumentError(f"units: {described(name)} is neither a feature nor the target")
    return {name: _name(f"units: {name}", unit) for name, unit in given.items()}
