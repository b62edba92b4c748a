"""Intervals of forecasts with dropout left on, against predictions with the same masks made by hand."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, FormatError, ShapeError

from tests.builders.networks import lstm_model
from tests.forecasting.builders import FEATURES, SCALING, scaled, series

SAMPLES = 7
RATES = {"lstm.l0": {"recurrent_dropout": 0.3, "masks": "sequence"}}
#: one that draws anew at each step
STEPWISE = {"lstm.l0": {"output_dropout": 0.3}}


def noisy(rng, horizon=2, window=None, rates=RATES, **options):
    model = lstm_model(rng, 3, 5, horizon)
    name = next(layer.name for layer in model.graph.layers if layer.kind == "lstm")
    return cylstm.Forecaster(
        model,
        features=FEATURES,
        target="load",
        scaling=SCALING,
        horizon=horizon,
        window=window,
        feedback={"load": "load"},
        dropout={"samples": SAMPLES, "seed": 4, "coverage": 0.8, "rates": {name: next(iter(rates.values()))}},
        **options,
    )


def rows(columns, begin, end):
    return {name: column[begin:end] for name, column in columns.items()}


def known(columns, begin, end):
    return {name: columns[name][begin:end] for name in ("temperature", "wind")}


def samples_by_hand(forecaster, columns, now, steps):
    """(samples, steps): each sample is a network with masks of its own, of `predict_mc`, for all of the series."""
    found, window = [], forecaster.window
    for sample in range(SAMPLES):
        x, y = list(scaled(rows(columns, 0, now))), []
        while len(y) < steps:
            x_now = np.array(x[-(window or len(x)) :], np.float32)
            drawn = forecaster.model.predict_mc(x_now, SAMPLES, seed=4, rates=forecaster._dropout.rates)
            raw = drawn.samples[sample][-1]
            y += list(raw.astype(np.float64) * 12.5 + 40.0)
            row = scaled(rows(columns, now, now + len(y)))[-len(raw) :]
            row[:, 0] = raw
            x += list(row)
        found.append(y[:steps])
    return np.array(found)


@pytest.mark.parametrize("window", [None, 6])
def test_each_sample_keeps_its_masks_for_the_history_and_beyond_the_horizon(rng, window):
    forecaster, columns = noisy(rng, window=window), series(rng, 30)
    samples = samples_by_hand(forecaster, columns, 20, 6)
    mean, low, high = forecaster.forecast(rows(columns, 0, 20), 6, known(columns, 20, 26), interval="dropout")
    np.testing.assert_array_equal(mean, forecaster.forecast(rows(columns, 0, 20), 6, known(columns, 20, 26)))
    expected = np.quantile(samples, [0.1, 0.9], axis=0)
    np.testing.assert_allclose([low, high], expected, rtol=2e-6)
    assert (low < high).all()


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("rates", [RATES, STEPWISE], ids=["state", "step"])
def test_a_stream_and_a_whole_history_draw_the_same(rng, window, rates):
    forecaster, columns = noisy(rng, window=window, rates=rates), series(rng, 30)
    expected = forecaster.forecast(rows(columns, 0, 20), 5, known(columns, 20, 25), interval="dropout")
    stream = forecaster.stream()
    for begin, end in [(0, 7), (7, 8), (8, 20)]:
        stream.run(rows(columns, begin, end))
    for _ in range(2):  # a forecast leaves the stream where it is
        for found, array in zip(stream.forecast(5, known(columns, 20, 25), interval="dropout"), expected, strict=True):
            np.testing.assert_array_equal(found, array)


def test_a_dropout_at_each_step_draws_anew_at_each(rng):
    forecaster = noisy(rng, rates=STEPWISE)
    from cylstm.forecasting.dropout import NoisyNetwork

    inputs = NoisyNetwork(forecaster.model, forecaster._dropout).inputs(np.zeros((SAMPLES, 9, 3), np.float32), 0, 1)
    (masks,) = [array for name, array in inputs.items() if array.shape[1:2] == (9,) and array.shape[2] == 5]
    assert len({masks[:, step].tobytes() for step in range(9)}) == 9
    assert set(np.unique(masks)) == {np.float32(0), np.float32(1 / 0.7)}


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("steps", [2, 5])
def test_both_divides_residuals_by_the_spread_of_the_samples(rng, window, steps):
    forecaster, columns = noisy(rng, window=window), series(rng, 60)
    scores = []
    for t in range(10, 60 - steps + 1):
        ahead = known(columns, t, t + steps) if steps > 2 else None
        stream = forecaster.stream()
        stream.run(rows(columns, 0, t))
        spread = stream._noisy_samples(steps, ahead).std(axis=0, ddof=1)
        mean = forecaster.forecast(rows(columns, 0, t), steps, ahead)
        scores.append(np.abs(columns["load"][t : t + steps] - mean) / spread)
    rank = int(np.ceil((len(scores) + 1) * 0.8 - 1e-9))
    factor = np.sort(scores, axis=0)[rank - 1]
    calibrated = forecaster.calibrate(columns, 10, steps=steps, coverage=0.8, interval="both")
    ahead = known(columns, 30, 30 + steps) if steps > 2 else None
    history = rows(columns, 0, 30)
    mean, low, high = calibrated.forecast(history, steps, ahead, interval="both")
    stream = forecaster.stream()
    stream.run(history)
    half = factor * stream._noisy_samples(steps, ahead).std(axis=0, ddof=1)
    np.testing.assert_allclose(low, mean - half, rtol=1e-9)
    np.testing.assert_allclose(high, mean + half, rtol=1e-9)
    # its own residuals lie inside as often as it says
    result = calibrated.evaluate(columns, 10, steps=steps, interval="both", draws=10)
    inside = (np.array(scores) <= factor).mean()
    assert result.scores["forecast"]["coverage"].value == pytest.approx(inside)
    dropout = calibrated.evaluate(columns, 10, steps=steps, interval="dropout", draws=10)
    assert dropout.scores["forecast"]["width"].value != result.scores["forecast"]["width"].value


def test_limits_clip_the_ends_and_not_the_samples_whose_spread_counts(rng):
    columns = series(rng, 60)
    rng_state = rng.bit_generator.state
    free = noisy(rng).calibrate(columns, 10, interval="both")
    rng.bit_generator.state = rng_state
    bound = noisy(rng, limits=(0.0, 1e-3)).calibrate(columns, 10, interval="both")
    history = rows(columns, 0, 30)
    for kind in ("dropout", "both"):
        _, low, high = bound.forecast(history, interval=kind)
        assert (low >= 0).all() and (high <= 1e-3).all()
    # the residuals are those of clipped forecasts, the spreads those of the samples
    assert not np.array_equal(free._normalised.residuals, bound._normalised.residuals)


def test_another_coverage_than_that_of_the_calibration_may_be_asked_for(rng):
    columns = series(rng, 60)
    forecaster = noisy(rng).calibrate(columns, 10, interval="both").calibrate(columns, 10)
    history = rows(columns, 0, 30)
    for kind, stored in (("conformal", 0.9), ("dropout", 0.8), ("both", 0.9)):
        _, low, high = forecaster.forecast(history, interval=kind)
        np.testing.assert_array_equal(forecaster.forecast(history, interval=kind, coverage=stored)[1:], [low, high])
        narrow = forecaster.forecast(history, interval=kind, coverage=0.5)
        assert (narrow[1] > low).all() and (narrow[2] < high).all()
    with pytest.raises(ShapeError, match="coverage: 0.999 needs more than the 49 forecasts"):
        forecaster.forecast(history, interval=True, coverage=0.999)
    with pytest.raises(ArgumentError, match="coverage: it is that of an interval="):
        forecaster.forecast(history, coverage=0.9)
    with pytest.raises(ArgumentError, match="coverage: expected a number between 0 and 1"):
        forecaster.forecast(history, interval=True, coverage=90)


def test_the_file_keeps_both(rng, tmp_path):
    columns = series(rng, 60)
    forecaster = noisy(rng).calibrate(columns, 10, interval="both").calibrate(columns, 10)
    forecaster.save(tmp_path / "noisy.cylstm")
    again = cylstm.Forecaster.load(tmp_path / "noisy.cylstm")
    for kind in (True, "conformal", "dropout", "both"):
        expected = forecaster.forecast(rows(columns, 0, 30), interval=kind)
        np.testing.assert_array_equal(again.forecast(rows(columns, 0, 30), interval=kind), expected)
    text = cylstm.load(tmp_path / "noisy.cylstm").metadata["cylstm.forecaster"]
    for old, new, message in [
        ('"samples":7', '"samples":1', "samples expected 2 to"),
        ('"seed":4', '"seed":-4', "seed: expected a whole number"),
        ('"recurrent_dropout":0.3', '"recurrent_dropout":1.3', r"expected a rate in \[0, 1\)"),
    ]:
        assert old in text
        forecaster.model.save(tmp_path / "wrong.cylstm", metadata={"cylstm.forecaster": text.replace(old, new)})
        with pytest.raises(FormatError, match=message):
            cylstm.Forecaster.load(tmp_path / "wrong.cylstm")


def test_what_dropout_cannot_do_is_refused(rng):
    columns, forecaster = series(rng, 60), noisy(rng)
    history = rows(columns, 0, 20)
    for kind, message in [
        ("both", "not calibrated for it"),
        ("conformal", "not calibrated; go on"),
        ("normal", "interval: expected True, False or one of conformal, dropout, both"),
        (1, "interval: expected"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            forecaster.forecast(history, interval=kind)
    plain = cylstm.Forecaster(forecaster.model, features=FEATURES, target="load", scaling=SCALING, horizon=2)
    with pytest.raises(ArgumentError, match="expected a forecaster with dropout="):
        plain.forecast(history, interval="dropout")
    with pytest.raises(ArgumentError, match="that of dropout alone is not calibrated"):
        forecaster.calibrate(columns, 10, interval="dropout")
    with pytest.raises(ShapeError, match="2 steps were calibrated, found 4"):
        forecaster.calibrate(columns, 10, interval="both").forecast(history, 4, known(columns, 20, 24), interval="both")
    same = noisy(rng, rates={"lstm.l0": {"recurrent_dropout": 1e-9}})
    with pytest.raises(ArgumentError, match="the samples with dropout are all the same"):
        same.calibrate(columns, 10, interval="both")
    options = {"features": FEATURES, "target": "load", "horizon": 2}
    for dropout, message in [
        ({}, "no dropout with a rate above 0"),
        ({"rate": 0.1}, "dropout: expected a dict with samples, seed, coverage, rates"),
        ({"rates": {"nowhere": 0.1}}, "there is no such layer"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            cylstm.Forecaster(forecaster.model, dropout=dropout, **options)
