"""Forecasts from windows in units, against loops by hand: shifted columns, local scalers, a state carried on."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, FormatError, ShapeError, UnsupportedError

from tests.builders.networks import lstm_model
from tests.forecasting.builders import SCALING, one_shot, recursive, series

WINDOW = 5


def rows(columns, begin, end):
    return {name: column[begin:end] for name, column in columns.items()}


def shifted_forecaster(rng, horizon=1, **options):
    """Reads the load, the load 4 rows before the next one, and the temperature of the next row."""
    model = lstm_model(rng, 3, 5, horizon)
    return cylstm.Forecaster(
        model,
        features=["load", "load before", "warmer"],
        target="load",
        scaling={"load": SCALING["load"], "load before": SCALING["load"], "warmer": SCALING["temperature"]},
        shifted={"load before": ("load", -3), "warmer": ("temperature", 1)},
        feedback={"load": "load"},
        horizon=horizon,
        window=WINDOW,
        **options,
    )


def by_hand(forecaster, load, temperature, now, steps, carry):
    """One step at a time, on a series in units that grows by its own forecasts."""
    load, found, state = list(load[:now]), [], None

    def row(t):
        return [(load[t] - 40.0) / 12.5, (load[t - 3] - 40.0) / 12.5, (temperature[t + 1] + 20.0) * 2 / 60.0 - 1.0]

    for k in range(steps):
        at = now + k
        times = range(at - WINDOW, at) if k == 0 or not carry else [at - 1]
        x = np.array([row(t) for t in times], np.float32)[None]
        y, new = forecaster.model.predict(x, initial_state=state, return_state=True)
        state = new if carry else None
        found.append(float(y[0, -1, 0]) * 12.5 + 40.0)
        load.append(found[-1])
    return np.array(found)


@pytest.mark.parametrize("carry", [False, True])
def test_shifted_columns_are_read_at_other_rows_and_a_state_is_carried_on(rng, carry):
    forecaster, columns = shifted_forecaster(rng, carry=carry), series(rng, 40, ["load", "temperature"])
    assert forecaster.columns == ("load", "temperature") and forecaster.known_features == ("temperature",)
    expected = by_hand(forecaster, columns["load"], columns["temperature"], 20, 7, carry)
    future = {"temperature": columns["temperature"][20:27]}
    found = forecaster.forecast(rows(columns, 0, 20), 7, future)
    np.testing.assert_allclose(found, expected, rtol=2e-6)
    # older rows are not read
    np.testing.assert_array_equal(forecaster.forecast(rows(columns, 12, 20), 7, future), found)
    stream = forecaster.stream()
    stream.run(rows(columns, 3, 11))
    stream.run(rows(columns, 11, 20))
    np.testing.assert_array_equal(stream.forecast(7, future), found)


def test_the_two_ways_beyond_the_horizon_differ(rng):
    columns = series(rng, 30, ["load", "temperature"])
    history, future = rows(columns, 0, 20), {"temperature": columns["temperature"][20:]}
    seed = rng.bit_generator.state
    slides = shifted_forecaster(rng).forecast(history, 4, future)
    rng.bit_generator.state = seed
    carries = shifted_forecaster(rng, carry=True).forecast(history, 4, future)
    assert slides[0] == carries[0] and (slides[1:] != carries[1:]).all()


@pytest.mark.parametrize(
    ("kind", "center", "scale"),
    [
        ({"kind": "local_standard", "eps": 0.25}, np.mean, lambda x: np.std(x) + 0.25),
        ({"kind": "local_standard", "variance_eps": 2.0}, np.mean, lambda x: np.sqrt(np.var(x) + 2.0)),
        ({"kind": "local_standard", "ddof": 1.0}, np.mean, lambda x: np.std(x, ddof=1)),
        (
            {"kind": "local_robust", "eps": 0.5},
            lambda x: np.sort(x)[2],
            lambda x: np.sort(np.abs(x - np.sort(x)[2]))[2] + 0.5,
        ),
        ({"kind": "local_min_max", "eps": 1.0}, np.min, lambda x: np.ptp(x) + 1.0),
        (
            {"kind": "local_min_max", "eps": 1.0, "to_low": -1.0, "to_high": 1.0},
            lambda x: np.min(x) + (np.ptp(x) + 1.0) / 2,
            lambda x: (np.ptp(x) + 1.0) / 2,
        ),
    ],
)
def test_local_scalers_have_the_numbers_of_the_window_and_slide_with_it(rng, kind, center, scale):
    model = lstm_model(rng, 1, 4, 2)
    forecaster = cylstm.Forecaster(
        model, features=["load"], target="load", scaling={"load": kind}, horizon=2, feedback={"load": "load"},
        window=WINDOW,
    )  # fmt: skip
    load, found = list(series(rng, 12, ["load"])["load"]), []
    history = np.array(load)
    for _ in range(2):
        window = np.array(load[-WINDOW:])
        x = ((window - center(window)) / scale(window)).astype(np.float32)
        y = model.predict(x[None, :, None])[0, -1] * float(scale(window)) + float(center(window))
        found += list(y)
        load += list(y)
    np.testing.assert_allclose(forecaster.forecast({"load": history}, 4), found, rtol=2e-6)


def test_a_window_without_any_change_is_not_divided_by_0(rng):
    for kind in ("local_standard", "local_robust", "local_min_max"):
        forecaster = cylstm.Forecaster(
            lstm_model(rng, 1, 4, 1), features=["load"], target="load", scaling={"load": {"kind": kind}}, window=WINDOW
        )
        assert np.isfinite(forecaster.forecast({"load": np.full(WINDOW, 7.0)})).all()


def test_a_median_deviation_of_0_is_taken_from_the_standard_deviation(rng):
    model, window = lstm_model(rng, 1, 4, 1), np.array([7.0, 7.0, 9.5, 7.0, 7.0])
    forecaster = cylstm.Forecaster(
        model, features=["load"], target="load", scaling={"load": {"kind": "local_robust"}}, window=WINDOW
    )
    scale = window.std() * 0.6744897501960817
    y = model.predict(((window - 7.0) / scale).astype(np.float32)[None, :, None])[0, -1]
    np.testing.assert_allclose(forecaster.forecast({"load": window}), y * scale + 7.0, rtol=2e-6)


def test_an_offset_is_added_to_what_comes_back_alone(rng):
    options = {"features": ["load"], "target": "load", "window": WINDOW}
    model, history = lstm_model(rng, 1, 4, 1), series(rng, 9, ["load"])
    plain, moved = (
        cylstm.Forecaster(model, scaling={"load": {"kind": "local_standard", "offset": offset}}, **options)
        for offset in (0.0, 2.5)
    )
    np.testing.assert_allclose(moved.forecast(history), plain.forecast(history) + 2.5, rtol=1e-12)


def test_backtests_and_calibration_are_those_of_the_forecasts_one_by_one(rng):
    forecaster, columns = shifted_forecaster(rng, 2, carry=True), series(rng, 45, ["load", "temperature"])
    residuals = []
    for t in range(12, 45 - 4 + 1):
        y = forecaster.forecast(rows(columns, 0, t), 4, {"temperature": columns["temperature"][t : t + 4]})
        residuals.append(np.abs(columns["load"][t : t + 4] - y))
    residuals = np.array(residuals)
    result = forecaster.evaluate(columns, 12, steps=4)
    assert result.forecasts == len(residuals)
    np.testing.assert_allclose(result.by_step["forecast"]["mae"], residuals.mean(axis=0), rtol=1e-9)
    calibrated = forecaster.calibrate(columns, 12, steps=4, coverage=0.8)
    mean, low, _ = calibrated.forecast(rows(columns, 0, 20), 4, rows({"temperature": columns["temperature"]}, 20, 24),
                                       interval=True)  # fmt: skip
    rank = int(np.ceil((len(residuals) + 1) * 0.8 - 1e-9))
    np.testing.assert_allclose(mean - low, np.sort(residuals, axis=0)[rank - 1], rtol=1e-9)


def test_the_file_keeps_it_and_an_older_description_is_written_where_it_says_all(rng, tmp_path):
    forecaster, columns = shifted_forecaster(rng, carry=True), series(rng, 30, ["load", "temperature"])
    forecaster.save(tmp_path / "new.cylstm")
    again = cylstm.Forecaster.load(tmp_path / "new.cylstm")
    history, future = rows(columns, 0, 20), {"temperature": columns["temperature"][20:]}
    np.testing.assert_array_equal(again.forecast(history, 6, future), forecaster.forecast(history, 6, future))
    assert '"version":2' in cylstm.load(tmp_path / "new.cylstm").metadata["cylstm.forecaster"]
    one_shot(rng).save(tmp_path / "old.cylstm")
    text = cylstm.load(tmp_path / "old.cylstm").metadata["cylstm.forecaster"]
    assert '"version":1' in text and "carry" not in text and "shifted" not in text
    text = cylstm.load(tmp_path / "new.cylstm").metadata["cylstm.forecaster"]
    for old, new, message in [
        ('["load",-3]', '["load","3"]', "shifted: 'load before' expected a column and a number of rows"),
        ('"carry":true', '"carry":1', "carry expected bool"),
        ('"version":2', '"version":1', "unknown entry 'carry'"),
    ]:
        assert old in text
        forecaster.model.save(tmp_path / "wrong.cylstm", metadata={"cylstm.forecaster": text.replace(old, new)})
        with pytest.raises(FormatError, match=message):
            cylstm.Forecaster.load(tmp_path / "wrong.cylstm")


def test_what_does_not_fit_is_refused(rng):
    columns = series(rng, 30, ["load", "temperature"])
    history = rows(columns, 0, 20)
    forecaster = shifted_forecaster(rng)
    with pytest.raises(ArgumentError, match="future: a forecast of 3 steps needs 3 rows .*: temperature"):
        forecaster.forecast(history, 3)
    with pytest.raises(ShapeError, match="future: expected at least 3 rows, found 2"):
        forecaster.forecast(history, 3, {"temperature": columns["temperature"][20:22]})
    with pytest.raises(ShapeError, match="history: expected at least 8 rows, found 7"):
        forecaster.forecast(rows(columns, 0, 7), 1, {"temperature": columns["temperature"][20:21]})
    with pytest.raises(ArgumentError, match="step: this forecaster reads columns of later rows"):
        forecaster.stream().step({"load": 3.0, "temperature": 4.0})
    model = lstm_model(rng, 1, 4, 1)
    plain = {"features": ["load"], "target": "load"}
    for options, error, message in [
        ({"carry": True}, ArgumentError, "need window="),
        ({"scaling": {"load": {"kind": "local_standard"}}}, ArgumentError, "need window="),
        ({"shifted": {"load": ("load", -2)}}, ArgumentError, "need window="),
        ({"shifted": {"load": ("load", 2)}, "window": 3}, ArgumentError, "would read 'load', which is forecast"),
        ({"shifted": {"rain": ("load", 2)}}, ArgumentError, "shifted: 'rain' is no feature"),
        ({"shifted": {"load": "load"}}, ArgumentError, "expected a column and a number of rows"),
        ({"shifted": [1]}, ArgumentError, "shifted: expected a dict"),
        (
            {"scaling": {"load": {"kind": "local_standard", "ddof": 2}}, "window": 3},
            ArgumentError,
            "ddof expected 0 or 1",
        ),
        (
            {"scaling": {"load": {"kind": "local_robust", "eps": -1}}, "window": 3},
            ArgumentError,
            "eps of a local_robust",
        ),
        (
            {"scaling": {"load": {"kind": "local_min_max", "to_low": 1, "to_high": 1}}, "window": 3},
            ArgumentError,
            "expected to_low below to_high",
        ),
    ]:
        with pytest.raises(error, match=message):
            cylstm.Forecaster(model, **{**plain, **options})
    backwards = recursive(rng, window=4)
    with pytest.raises(ArgumentError, match="adapt: not with columns that are read some rows later"):
        shifted_forecaster(rng, calibration=backwards.calibrate(series(rng, 40), 9)._calibration).stream(adapt=0.1)
    last = lstm_model(rng, 1, 4, 1, last=True)
    if not last.can_stream:
        with pytest.raises(UnsupportedError, match="carry"):
            cylstm.Forecaster(last, window=4, carry=True, **plain)
