"""Intervals, against split and adaptive conformal prediction written by hand."""

import math
from fractions import Fraction

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, FormatError, ShapeError
from cylstm.forecasting.conformal import calibrated
from cylstm.forecasting.description import KEY, write_description

from tests.forecasting.builders import one_shot, recursive, series


def rows(columns, begin, end):
    return {name: column[begin:end] for name, column in columns.items()}


def residuals_by_hand(forecaster, columns, start, steps):
    """(forecasts, steps): each forecast alone, from its own history."""
    known = forecaster.known_features if steps > forecaster.horizon else ()
    time, found = len(columns["load"]), []
    for t in range(start, time - steps + 1):
        future = {name: columns[name][t : t + steps] for name in known} or None
        y = forecaster.forecast(rows(columns, 0, t), steps, future)
        found.append(np.abs(columns["load"][t : t + steps] - y))
    return np.array(found)


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize(("horizon", "steps", "time"), [(3, 3, 60), (3, 2, 60), (2, 5, 60), (1, 4, 320)])
def test_half_widths_are_quantiles_of_the_absolute_residuals_of_each_step(rng, window, horizon, steps, time):
    forecaster, columns = recursive(rng, horizon, window), series(rng, time)
    with_intervals = forecaster.calibrate(columns, 8, coverage=0.8, steps=steps)
    residuals = residuals_by_hand(forecaster, columns, 8, steps)
    half = np.sort(residuals, axis=0)[math.ceil((len(residuals) + 1) * 0.8) - 1]
    history, future = rows(columns, 0, 30), series(rng, 5, ["temperature", "wind"])
    expected = forecaster.forecast(history, steps, future)
    mean, low, high = with_intervals.forecast(history, steps, future, interval=True)
    np.testing.assert_array_equal(mean, expected)
    np.testing.assert_array_equal(low, expected - half)
    np.testing.assert_array_equal(high, expected + half)
    with pytest.raises(ArgumentError, match="not calibrated; go on with the one"):
        forecaster.forecast(history, steps, future, interval=True)


def test_the_rank_of_a_residual_is_that_of_exact_arithmetic():
    for count in range(9, 300):
        residuals = np.arange(1.0, count + 1)[:, None]
        for percent in (50, 55, 70, 80, 90):
            rank = math.ceil(Fraction(percent, 100) * (count + 1))
            found = calibrated(residuals, percent / 100)
            assert found.half_widths(np.array([1 - percent / 100]))[0] == rank, (count, percent)
            assert len(found.ranks) <= 201 and found.ranks[-1] == count


def test_between_the_ranks_that_are_kept_the_next_larger_residual_counts(rng):
    residuals = np.sort(rng.exponential(size=(5000, 2)), axis=0)
    found = calibrated(rng.permuted(residuals, axis=0), 0.9)
    for alpha in rng.uniform(0.0003, 1, 50):
        rank = math.ceil(5001 * (1 - alpha))
        half = found.half_widths(np.array([alpha, alpha]))
        assert (half >= residuals[rank - 1]).all()
        assert (half <= residuals[min(rank + 24, 4999)]).all()
    assert np.isinf(found.half_widths(np.array([0.0001, -0.2]))).all()
    np.testing.assert_array_equal(found.half_widths(np.array([0.1])), residuals[4500, 0])


def test_the_file_keeps_the_intervals(rng, tmp_path):
    columns = series(rng, 400)
    forecaster = one_shot(rng, 3, limits=(20.0, 45.0)).calibrate(columns, 10)
    forecaster.save(tmp_path / "calibrated.cylstm")
    again = cylstm.Forecaster.load(tmp_path / "calibrated.cylstm")
    assert "calibrated" in repr(again)
    history = rows(columns, 0, 50)
    for found, expected in zip(again.forecast(history, interval=True), forecaster.forecast(history, interval=True)):
        np.testing.assert_array_equal(found, expected)
        assert ((found >= 20) & (found <= 45)).all()
    again.save(tmp_path / "again.cylstm")
    assert (tmp_path / "again.cylstm").read_bytes() == (tmp_path / "calibrated.cylstm").read_bytes()


def test_a_step_that_was_not_calibrated_has_no_interval(rng):
    columns = series(rng, 60)
    forecaster = recursive(rng, 2).calibrate(columns, 5, steps=3)
    future = series(rng, 9, ["temperature", "wind"])
    with pytest.raises(ShapeError, match="interval: 3 steps were calibrated, found 4"):
        forecaster.forecast(columns, 4, future, interval=True)
    stream = forecaster.stream(adapt=0.1)
    stream.run(columns)
    assert len(stream.alpha) == 2
    with pytest.raises(ShapeError, match="follows 2 steps, those of the horizon, found 3"):
        stream.forecast(3, future, interval=True)
    with pytest.raises(ArgumentError, match="an interval is that of the forecast"):
        stream.forecast(2, interval=True, outputs=["load"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"start": 0}, ArgumentError, "start: expected a row of frame after its first"),
        ({"start": 40}, ArgumentError, "start: expected a row of frame"),
        ({"start": 5}, ShapeError, "start: expected at least 6 rows before it, found 5"),
        ({"start": 38}, ShapeError, "start: expected at least 3 rows from it on, found 2"),
        ({"start": 20, "coverage": 0.99}, ShapeError, "0.99 needs at least 99 forecasts from start on, found 18"),
        ({"start": 20, "coverage": 1}, ArgumentError, "coverage: expected a number between 0 and 1"),
        ({"start": 20, "steps": 4}, ArgumentError, "the network forecasts 3, found 4"),
        ({"start": "2026-01-01"}, ArgumentError, "frame has no dates"),
        ({"start": 20, "progress": 1}, ArgumentError, "progress: expected True or False"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused(rng, arguments, error, message):
    with pytest.raises(error, match=message):
        one_shot(rng, 3, 6).calibrate(series(rng, 40), **arguments)


def test_a_target_that_is_no_feature_stands_in_the_frame(rng):
    columns = {name: series(rng, 40)[name] for name in ("load", "temperature", "wind")}
    forecaster = cylstm.Forecaster(
        one_shot(rng, 2).model, features=["load", "temperature", "wind"], target="price", horizon=2, target_scaling=None
    )
    frame = {**columns, "price": rng.normal(size=40)}
    with_intervals = forecaster.calibrate(frame, 10)
    residuals = [np.abs(frame["price"][t : t + 2] - forecaster.forecast(rows(columns, 0, t))) for t in range(10, 39)]
    mean, _, high = with_intervals.forecast(columns, interval=True)
    half = np.sort(residuals, axis=0)[math.ceil(30 * 0.9 - 1e-9) - 1]
    np.testing.assert_array_equal(high, mean + half)
    with pytest.raises(ArgumentError, match="frame: the column 'price' is missing"):
        forecaster.calibrate(columns, 10)


@pytest.mark.parametrize("window", [None, 6])
def test_adaptive_intervals_are_those_of_gibbs_and_candes(rng, window):
    columns = series(rng, 90)
    forecaster = one_shot(rng, 3, window).calibrate(columns, 10, coverage=0.8)
    residuals = np.sort(residuals_by_hand(forecaster, columns, 10, 3), axis=0)
    n, rate = len(residuals), 0.15
    test = series(rng, 60)
    test["load"] = test["load"] * 1.5  # the errors are larger than those of the calibration
    stream = forecaster.stream(adapt=rate)
    alpha, given, lowest = np.full(3, 1 - 0.8), [], 1.0
    infinite = 0
    for t in range(60):
        for k in range(3):
            if len(given) > k and given[-1 - k] is not None:
                low, high = given[-1 - k][k]
                alpha[k] += rate * (0.2 - float(not low <= test["load"][t] <= high))
        found = stream.step({name: column[t] for name, column in test.items()}, interval=True)
        if window is not None and t + 1 < window:
            assert found is None
            given.append(None)
            continue
        mean, low, high = found
        half = np.empty(3)
        for k in range(3):
            rank = math.ceil((n + 1) * (1 - alpha[k]) - 1e-9)
            half[k] = np.inf if rank > n else residuals[rank - 1, k] if rank > 0 else 0.0
        np.testing.assert_allclose(stream.alpha, alpha, rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(mean, forecaster.forecast(rows(test, 0, t + 1)))
        np.testing.assert_array_equal(low, mean - half)
        np.testing.assert_array_equal(high, mean + half)
        given.append(np.stack([low, high], axis=1))
        lowest = min(lowest, alpha.min())
        infinite += int(np.isinf(half).sum())
    assert lowest < 0.05 and infinite > 0


def test_adapting_in_a_run_is_adapting_row_by_row(rng):
    columns = series(rng, 80)
    forecaster = one_shot(rng, 3).calibrate(columns, 10)
    whole, single = forecaster.stream(adapt=0.1), forecaster.stream(adapt=0.1)
    test = series(rng, 30)
    whole.run(test)
    for t in range(30):
        single.step({name: column[t] for name, column in test.items()})
    np.testing.assert_array_equal(whole.alpha, single.alpha)
    assert (whole.alpha != 1 - 0.9).any()
    for found, expected in zip(whole.forecast(interval=True), single.forecast(interval=True)):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ArgumentError, match="alpha: the intervals of this stream stay"):
        _ = forecaster.stream().alpha
    for wrong in (0, 2, "fast", True):
        with pytest.raises(ArgumentError, match="adapt: expected a number above 0"):
            forecaster.stream(adapt=wrong)


def test_intervals_of_the_example_cover_what_they_promise(example):
    found = example.read_csv(example.SAMPLE)
    forecaster = example.forecaster.make_forecaster("univariate")
    frame = {"pm2.5": found.inputs[:, 0]}
    with_intervals = forecaster.calibrate(rows(frame, 0, 1500), 100)
    stream = with_intervals.stream(adapt=0.02)
    stream.run(rows(frame, 0, 1500))
    inside = []
    for t in range(1500, 2900):
        _, low, high = stream.forecast(interval=True)
        truth = frame["pm2.5"][t : t + 24]
        inside.append((low <= truth) & (truth <= high))
        stream.step([truth[0]])
    assert np.abs(np.mean(inside, axis=0) - 0.9).max() < 0.03


GOOD = {"coverage": 0.5, "forecasts": 4, "ranks": [1, 3, 4], "residuals": [[0.0, 1, 2.5]]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "calibration: expected coverage, forecasts, ranks, residuals"),
        ({"coverage": "0.9"}, "coverage: expected a number"),
        ({"coverage": 0.9}, "ranks expected to grow up to 4"),
        ({"forecasts": 4.0}, "forecasts expected a whole number"),
        ({"forecasts": 5}, "ranks expected to grow up to 5"),
        ({"ranks": [1, 1, 4]}, "ranks expected to grow"),
        ({"ranks": [1, 2, 5]}, "ranks expected numbers of 1 to 4"),
        ({"ranks": [1] * 1000}, "ranks expected numbers"),
        ({"ranks": []}, "ranks expected numbers"),
        ({"residuals": []}, "residuals expected 1 to 1000 lists"),
        ({"residuals": [[0, 1]]}, "residuals expected lists of 3 numbers"),
        ({"residuals": [[0, 1, -1]]}, "residuals expected lists of 3 numbers"),
        ({"residuals": [[2, 1, 3]]}, "residuals expected lists of 3 numbers of at least 0 that grow"),
        ({"residuals": [[0, True, 3]]}, "residuals expected lists of 3 numbers"),
    ],
)
def test_a_calibration_in_a_file_that_does_not_fit_is_refused(rng, tmp_path, change, message):
    forecaster = one_shot(rng)
    path = tmp_path / "wrong.cylstm"
    for calibration, is_good in ((GOOD, True), (GOOD | change, False)):
        text = write_description(forecaster._entries() | {"calibration": calibration})
        forecaster.model.save(path, metadata={KEY: text})
        if is_good:
            _, low, high = cylstm.Forecaster.load(path).forecast(series(rng, 9), 1, interval=True)
            np.testing.assert_allclose(high - low, 2.0)
        else:
            with pytest.raises(FormatError, match=message):
                cylstm.Forecaster.load(path)
