"""Scores, against their formulas written by hand."""

import sys

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, ShapeError, UnsupportedError

from tests.forecasting.builders import one_shot, recursive, series


def rows(columns, begin, end):
    return {name: column[begin:end] for name, column in columns.items()}


def by_hand(forecaster, columns, start, steps):
    """Forecasts and truths (forecasts, steps), one forecast after the other."""
    known = forecaster.known_features if steps > forecaster.horizon else ()
    found, truth = [], []
    for t in range(start, len(columns["load"]) - steps + 1):
        future = {name: columns[name][t : t + steps] for name in known} or None
        found.append(forecaster.forecast(rows(columns, 0, t), steps, future))
        truth.append(columns["load"][t : t + steps])
    return np.array(found), np.array(truth)


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize(("horizon", "steps"), [(3, 3), (2, 5)])
def test_the_scores_are_those_of_forecasts_made_one_by_one(rng, window, horizon, steps):
    columns, start, season = series(rng, 70), 20, 4
    forecaster = recursive(rng, horizon, window)
    result = forecaster.evaluate(columns, start, steps=steps, season=season)
    found, truth = by_hand(forecaster, columns, start, steps)
    y = columns["load"]
    naive = np.array([[y[t - 1]] * steps for t in range(start, 71 - steps)])
    seasonal = np.array(
        [[y[t + k - season * (k // season + 1)] for k in range(steps)] for t in range(start, 71 - steps)]
    )
    scale = np.mean([abs(y[i] - y[i - season]) for i in range(season, start)])
    assert (result.forecasts, result.steps) == truth.shape
    for method, forecasts in [("forecast", found), ("persistence", naive), ("seasonal", seasonal)]:
        error = forecasts - truth
        scores, by_step = result.scores[method], result.by_step[method]
        np.testing.assert_allclose(scores["rmse"].value, np.sqrt(np.mean(error**2)), rtol=1e-12)
        np.testing.assert_allclose(scores["mae"].value, np.mean(np.abs(error)), rtol=1e-12)
        np.testing.assert_allclose(scores["mase"].value, np.mean(np.abs(error)) / scale, rtol=1e-12)
        np.testing.assert_allclose(
            by_step["rmse"], [np.sqrt(np.mean(error[:, k] ** 2)) for k in range(steps)], rtol=1e-12
        )
        np.testing.assert_allclose(by_step["mase"], np.abs(error).mean(axis=0) / scale, rtol=1e-12)
        assert all(score.low < score.value < score.high for score in scores.values())
        assert "coverage" not in scores
    difference = result.differences["persistence"]
    expected = result.scores["forecast"]["rmse"].value - result.scores["persistence"]["rmse"].value
    np.testing.assert_allclose(difference.value, expected)
    assert set(result.differences) == {"persistence", "seasonal"}
    assert str(result).startswith(f"{len(truth)} forecasts of {steps} steps") and "seasonal" in str(result)


def test_coverage_and_width_are_those_of_the_intervals_of_a_stream(rng):
    columns, test = series(rng, 80), series(rng, 70)
    test["load"] = test["load"] * 1.2
    forecaster = one_shot(rng, 3).calibrate(columns, 10)
    for adapt in (None, 0.2):
        result = forecaster.evaluate(test, 20, adapt=adapt)
        inside, widths = [], []
        stream = forecaster.stream() if adapt is None else forecaster.stream(adapt=adapt)
        if adapt is not None:
            stream._adaptive = None  # the backtest adapts from its start on
        stream.run(rows(test, 0, 19))
        if adapt is not None:
            stream._adaptive = forecaster.stream(adapt=adapt)._adaptive
        for t in range(20, 68):
            _, low, high = stream.step({name: column[t - 1] for name, column in test.items()}, interval=True)
            truth = test["load"][t : t + 3]
            inside.append((low <= truth) & (truth <= high))
            widths.append(high - low)
        np.testing.assert_allclose(result.by_step["forecast"]["coverage"], np.mean(inside, axis=0))
        finite = np.ma.masked_invalid(widths)
        np.testing.assert_allclose(result.by_step["forecast"]["width"], finite.mean(axis=0))
        np.testing.assert_allclose(result.scores["forecast"]["width"].value, finite.mean())
        if adapt is not None:
            infinite = np.isinf(widths).mean(axis=0)
            np.testing.assert_allclose(result.by_step["forecast"]["infinite"], infinite, atol=1e-15)
            assert infinite.max() > 0
        np.testing.assert_allclose(result.scores["forecast"]["coverage"].value, np.mean(inside))
    assert "coverage" not in recursive(rng, 1).calibrate(columns, 10).evaluate(test, 20, steps=2).scores["forecast"]


def test_intervals_of_scores_are_a_circular_block_bootstrap(rng):
    columns, start = series(rng, 120), 30
    forecaster = one_shot(rng, 2)
    result = forecaster.evaluate(columns, start, block=7, draws=300, seed=5)
    found, truth = by_hand(forecaster, columns, start, 2)
    count = len(truth)
    generator = np.random.default_rng(5)
    starts = generator.integers(0, count, (300, -(-count // 7), 1))
    values = []
    for draw in starts[:, :, 0]:
        drawn = [(first + i) % count for first in draw for i in range(7)][:count]
        values.append(np.sqrt(np.mean((found - truth)[drawn] ** 2)))
    score = result.scores["forecast"]["rmse"]
    np.testing.assert_allclose([score.low, score.high], np.quantile(values, [0.025, 0.975]), rtol=1e-12)
    assert result.block == 7
    again = forecaster.evaluate(columns, start, block=7, draws=300, seed=5)
    assert again.scores == result.scores
    assert forecaster.evaluate(columns, start, block=7, draws=300, seed=6).scores != result.scores


def test_neighbouring_forecasts_make_intervals_wider_than_single_ones(rng):
    time = np.arange(600)
    columns = {**series(rng, 600), "load": 40 + 20 * np.sin(time / 40)}
    forecaster = one_shot(rng, 2)
    single, blocks = (forecaster.evaluate(columns, 30, block=block).scores["forecast"]["rmse"] for block in (1, 60))
    assert blocks.high - blocks.low > 1.5 * (single.high - single.low)


def test_the_example_is_better_than_persistence_on_its_sample(example):
    found = example.read_csv(example.SAMPLE)
    forecaster = example.forecaster.make_forecaster("multivariate")
    frame = dict(zip(forecaster.features, found.inputs.T))
    result = forecaster.evaluate(frame, 2000, season=24)
    truth = np.lib.stride_tricks.sliding_window_view(found.inputs[2000:, 0], 24)
    scaling = example.Scaling.from_json(forecaster.model.metadata["scaling"])
    own = scaling.forecast(forecaster.model.predict(scaling.scale(found.inputs)), found.inputs[:, 0])
    own = own[1999 : 1999 + len(truth)]
    np.testing.assert_allclose(result.scores["forecast"]["rmse"].value, example.rmse(own, truth), rtol=1e-12)
    naive = example.persistence(found)[1999 : 1999 + len(truth)]
    np.testing.assert_allclose(result.scores["persistence"]["rmse"].value, example.rmse(naive, truth), rtol=1e-12)
    assert result.differences["persistence"].value < 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"season": 0}, ArgumentError, "season: expected a whole number"),
        ({"season": 20}, ShapeError, "a season of 20 needs more than 20 rows before it, found 20"),
        ({"draws": 0}, ArgumentError, "draws: expected"),
        ({"block": 0}, ArgumentError, "block: expected"),
        ({"seed": -1}, ArgumentError, "seed: expected"),
        ({"adapt": 0.1}, ArgumentError, "adapt: expected a forecaster that is calibrated"),
        ({"steps": 9}, ArgumentError, "the network forecasts 3, found 9"),
    ],
)
def test_a_backtest_that_cannot_be_is_refused(rng, arguments, error, message):
    with pytest.raises(error, match=message):
        one_shot(rng, 3).evaluate(series(rng, 40), 20, **arguments)


def test_a_series_that_repeats_itself_has_no_scale(rng):
    columns = {**series(rng, 40), "load": np.ones(40)}
    with pytest.raises(ArgumentError, match="frame: 'load' repeats itself"):
        one_shot(rng, 3).evaluate(columns, 20)


def test_a_start_may_be_a_date_and_the_progress_is_shown(rng, capsys, monkeypatch):
    pandas, _ = pytest.importorskip("pandas"), pytest.importorskip("tqdm")
    columns = series(rng, 40)
    forecaster = one_shot(rng, 3)
    frame = pandas.DataFrame(columns, index=pandas.date_range("2026-01-01", periods=40, freq="D"))
    expected = forecaster.evaluate(columns, 20)
    for start in ("2026-01-21", np.datetime64("2026-01-21"), pandas.Timestamp("2026-01-20 12:00")):
        assert forecaster.evaluate(frame, start, progress=True).scores == expected.scores
    assert "18.0/18.0" in capsys.readouterr().err
    dates = {**columns, "day": frame.index.to_numpy()}
    timed = one_shot(np.random.default_rng(20261120), 3, time="day")
    assert timed.evaluate(dates, "2026-01-21").forecasts == expected.forecasts
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(UnsupportedError, match="progress=True needs tqdm"):
        forecaster.evaluate(frame, 20, progress=True)
    assert cylstm.Forecaster is type(forecaster)
