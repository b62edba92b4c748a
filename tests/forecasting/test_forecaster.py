"""Forecasts of one shot and of recursion, against loops over `Model.predict` written by hand."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, ShapeError, UnsupportedError

from tests.builders.networks import linear_state_dict, lstm_model, lstm_state_dict
from tests.forecasting.builders import FEATURES, SCALING, one_shot, recursive, scaled, series


def in_units(y):
    return np.asarray(y, np.float64) * 12.5 + 40.0


@pytest.mark.parametrize("window", [None, 7])
def test_one_shot_is_the_last_output_in_units(rng, window):
    forecaster, columns = one_shot(rng, 4, window), series(rng, 30)
    x = scaled(columns)
    y = forecaster.model.predict(x)[-1] if window is None else forecaster.model.predict(x[-7:])
    np.testing.assert_array_equal(forecaster.forecast(columns), in_units(y))
    np.testing.assert_array_equal(forecaster.forecast(columns, 2), in_units(y)[:2])


@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize("horizon", [1, 3])
def test_recursion_is_a_loop_over_predict(rng, window, horizon):
    forecaster = recursive(rng, horizon, window)
    columns, ahead = series(rng, 25), series(rng, 12)
    x, known = scaled(columns), scaled(ahead)
    expected = []
    while len(expected) < 8:
        y = forecaster.model.predict(x if window is None else x[-window:])
        y = y[-1] if window is None else y
        expected.extend(y)
        rows = known[:horizon].copy()
        known = known[horizon:]
        rows[:, 0] = y
        x = np.concatenate([x, rows])
    future = {name: ahead[name] for name in ("temperature", "wind")}
    np.testing.assert_array_equal(forecaster.forecast(columns, 8, future), in_units(expected[:8]))


def test_a_network_of_every_feature_feeds_all_of_them_back(rng):
    forecaster = cylstm.Forecaster(
        lstm_model(rng, 3, 5, 3),
        features=FEATURES,
        target="load",
        outputs=["wind", "load", "temperature"],
        scaling=SCALING,
        feedback={name: name for name in FEATURES},
    )
    columns = series(rng, 20)
    x, expected = scaled(columns), []
    for _ in range(5):
        wind, load, temperature = forecaster.model.predict(x)[-1]
        expected.append([load, wind])
        x = np.concatenate([x, [[load, temperature, wind]]])
    found = forecaster.forecast(columns, 5, outputs=["load", "wind"])
    np.testing.assert_array_equal(found["load"], in_units(np.array(expected)[:, 0]))
    wind = np.expm1(np.array(expected, np.float64)[:, 1] * 0.75 + 1.25)
    np.testing.assert_allclose(found["wind"], wind, rtol=1e-15)
    assert forecaster.known_features == ()
    with pytest.raises(ArgumentError, match="all features are fed back"):
        forecaster.forecast(columns, 5, {"load": [1.0] * 4})


def test_a_forecast_with_another_scaling_is_fed_back_through_its_units(rng):
    forecaster = recursive(rng, 1, target_scaling={"kind": "standard", "mean": 10.0, "std": 3.0})
    columns, ahead = series(rng, 15), series(rng, 3)
    x, known, expected = scaled(columns), scaled(ahead), []
    for step in range(3):
        load = float(forecaster.model.predict(x)[-1, 0]) * 3.0 + 10.0
        expected.append(load)
        x = np.concatenate([x, [[np.float32((load - 40.0) / 12.5), *known[step, 1:]]]]).astype(np.float32)
    future = np.stack([ahead["temperature"], ahead["wind"]], axis=1)
    np.testing.assert_array_equal(forecaster.forecast(columns, 3, future), expected)


def test_a_forecast_of_the_same_scaling_is_fed_back_as_the_network_gave_it(rng):
    far = {"kind": "standard", "mean": 1e9, "std": 1e-6}  # whose units do not hold all digits of the network's number
    model = lstm_model(rng, 2, 5, 2)
    forecaster = cylstm.Forecaster(
        model,
        features=["load", "wind"],
        target="load",
        outputs=["load", "wind"],
        scaling={"load": far, "wind": None},
        feedback={"load": "load", "wind": "wind"},
    )
    x, expected = np.array([[0, 0.5]] * 9, np.float32), []
    units = np.array([[1e9, 0.5]] * 9)
    for _ in range(5):
        y = model.predict(x)[-1:]
        expected.append(y[0, 1])
        x = np.concatenate([x, y])
    np.testing.assert_array_equal(forecaster.forecast(units, 5, outputs=["wind"])["wind"], expected)


def test_a_network_that_warms_up_says_how_many_rows_it_needs(rng):
    tensors = {"conv.weight": rng.normal(size=(4, 3, 3)), "conv.bias": rng.normal(size=4)}
    tensors |= lstm_state_dict(rng, 4, 5) | linear_state_dict(rng, 5, 2)
    tensors = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    layers = [cylstm.Conv1d("conv"), cylstm.LSTM("lstm"), cylstm.Linear("fc")]
    model = cylstm.from_state_dict(tensors, layers)
    forecaster = cylstm.Forecaster(model, features=FEATURES, target="load", scaling=SCALING, horizon=2)
    columns = series(rng, 40)
    with pytest.raises(ShapeError, match="history: expected at least 3 rows, found 2"):
        forecaster.forecast({name: column[:2] for name, column in columns.items()})
    stream = forecaster.stream()
    found = [stream.step({name: column[t] for name, column in columns.items()}) for t in range(40)]
    assert found[:2] == [None, None]
    np.testing.assert_array_equal(found[2:], in_units(model.predict(scaled(columns))))
    with pytest.raises(ShapeError, match="start: expected at least 3 rows before it, found 2"):
        forecaster.calibrate(columns, 2)
    residuals = [np.abs(columns["load"][t : t + 2] - found[t - 1]) for t in range(3, 39)]
    mean, _, high = forecaster.calibrate(columns, 3, coverage=0.5).forecast(columns, interval=True)
    np.testing.assert_array_equal(high, mean + np.sort(residuals, axis=0)[18])


def test_changes_are_added_to_the_last_known_value_and_clipped_at_the_limits(rng):
    stds = [5.0, 8.0, 11.0]
    forecaster = recursive(
        rng,
        3,
        change=True,
        target_scaling={"kind": "standard", "mean": 0.0, "std": stds},
        limits=(None, 52.0),
    )
    columns, ahead = series(rng, 15), series(rng, 6)
    x, known = scaled(columns), scaled(ahead)
    first = columns["load"][-1] + forecaster.model.predict(x)[-1].astype(np.float64) * stds
    rows = known[:3].copy()
    rows[:, 0] = (first - 40.0) / 12.5
    x = np.concatenate([x, rows])
    second = first[-1] + forecaster.model.predict(x)[-1].astype(np.float64) * stds
    future = {name: ahead[name] for name in ("temperature", "wind")}
    both = np.concatenate([first, second])
    np.testing.assert_array_equal(forecaster.forecast(columns, 6, future), np.minimum(both, 52.0))
    low = np.sort(both)[2]
    lower = recursive(
        np.random.default_rng(20261120),
        3,
        change=True,
        target_scaling={"kind": "standard", "mean": 0.0, "std": stds},
        limits=(low, None),
    )
    np.testing.assert_array_equal(lower.forecast(columns, 6, future), np.maximum(both, low))


def test_a_network_with_one_output_for_each_name_is_read(rng):
    tensors = lstm_state_dict(rng, 2, 5) | linear_state_dict(rng, 5, 3, "a.") | linear_state_dict(rng, 5, 3, "b.")
    layers = [cylstm.LSTM("lstm"), cylstm.Heads([cylstm.Linear("a")], [cylstm.Linear("b")])]
    model = cylstm.from_state_dict(tensors, layers)
    forecaster = cylstm.Forecaster(model, features=["load", "wind"], target="wind", outputs=["load", "wind"], horizon=3)
    x = rng.normal(size=(9, 2))
    load, wind = model.predict(x.astype(np.float32))
    found = forecaster.forecast(x, outputs=["load", "wind"])
    np.testing.assert_array_equal(found["load"], load[-1])
    np.testing.assert_array_equal(found["wind"], wind[-1])
    np.testing.assert_array_equal(forecaster.forecast(x), wind[-1])


def test_a_dataframe_gives_the_same_as_a_dict_and_an_array(rng):
    pandas = pytest.importorskip("pandas")
    forecaster, columns = one_shot(rng), series(rng, 12)
    expected = forecaster.forecast(columns)
    frame = pandas.DataFrame(columns)[["wind", "load", "temperature"]]
    frame.index = pandas.date_range("2026-01-01", periods=12, freq="h", tz="Europe/Berlin")
    np.testing.assert_array_equal(forecaster.forecast(frame), expected)
    np.testing.assert_array_equal(forecaster.forecast(np.stack(list(columns.values()), axis=1)), expected)
    frame = frame.convert_dtypes()
    np.testing.assert_array_equal(forecaster.forecast(frame), expected)
    frame.iloc[4, 0] = pandas.NA
    with pytest.raises(ArgumentError, match="history: row 4: the column 'wind' is nan"):
        forecaster.forecast(frame)
    frame = pandas.DataFrame(columns, index=pandas.date_range("2026-01-01", periods=12, freq="h"))
    with pytest.raises(ArgumentError, match=r"history: row 7: the time 2026-01-01T06.* is before 2026-01-01T07"):
        forecaster.forecast(frame.iloc[[0, 1, 2, 3, 4, 5, 7, 6, 8, 9]])
    with pytest.raises(ArgumentError, match=r"history: row 3: the time 2026-01-01T02.* is that of the row before"):
        forecaster.forecast(frame.iloc[[0, 1, 2, 2, 3]])
    with pytest.raises(ArgumentError, match="the column 'wind' is there twice"):
        forecaster.forecast(pandas.concat([frame, frame[["wind"]]], axis=1))
    with pytest.raises(ArgumentError, match=r"future: row 0: the time .* is not after"):
        recursive(rng).forecast(frame, 3, frame[["wind", "temperature"]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {k: v for k, v in c.items() if k != "wind"}, "history: the column 'wind' is missing"),
        (lambda c: {**c, "rain": c["wind"]}, "history: the column 'rain' is one too many"),
        (lambda c: {**c, "wind": [*c["wind"][:5], np.nan, *c["wind"][6:]]}, "history: row 5: the column 'wind' is nan"),
        (lambda c: {**c, "wind": [*c["wind"][:3], -2.0, *c["wind"][4:]]}, "history: row 3: 'wind' of -2.0 cannot be"),
        (lambda c: {**c, "wind": ["a"] * 10}, "history: the column 'wind' expected numbers"),
        (lambda c: {**c, "wind": c["wind"][:-1]}, "history: expected columns of one length"),
        (lambda c: {**c, "day": [1, 2, 3, 4, 4, 6, 7, 8, 9, 10]}, "history: row 4: the time 4 is that of the row"),
        (lambda c: {**c, "day": [1, 2, 3, 4, 3, 6, 7, 8, 9, 10]}, "history: row 4: the time 3 is before 4; sort"),
        (lambda c: {**c, "day": np.array(["NaT"] * 10, "M8[s]")}, "history: row 0: the time is missing"),
        (lambda c: np.zeros((10, 2)), r"history: expected \(time, 3\), the columns load, temperature, wind, found"),
        (lambda c: np.full((10, 3), np.inf), "history: row 0, column 0: found inf"),
        (lambda c: "history", "history: expected numbers"),
        (lambda c: {name: [] for name in c}, "history: expected at least 1 row"),
    ],
)
def test_a_history_that_is_not_what_it_should_be_is_refused_by_name_and_row(rng, change, message):
    forecaster = one_shot(rng, time="day")
    with pytest.raises(
        ArgumentError
        if "expected at least" not in message and "time, 3" not in message and "one length" not in message
        else ShapeError,
        match=message,
    ):
        forecaster.forecast(change(series(rng, 10)))


def test_what_a_forecast_lacks_is_said(rng):
    columns = series(rng, 10)
    with pytest.raises(ArgumentError, match="the network forecasts 4, found 5; to go on"):
        one_shot(rng).forecast(columns, 5)
    forecaster = recursive(rng, 3)
    with pytest.raises(ArgumentError, match="8 steps needs 6 rows of the features that are not fed back: temperature"):
        forecaster.forecast(columns, 8)
    with pytest.raises(ShapeError, match="future: expected at least 6 rows, found 5"):
        forecaster.forecast(columns, 8, series(rng, 5, ["temperature", "wind"]))
    with pytest.raises(ArgumentError, match="future: the column 'wind' is missing"):
        forecaster.forecast(columns, 8, series(rng, 6, ["temperature"]))
    with pytest.raises(ArgumentError, match="future: the column 'load' is one too many"):
        forecaster.forecast(columns, 8, series(rng, 6))
    with pytest.raises(ShapeError, match="history: expected at least 7 rows, found 6"):
        one_shot(rng, window=7).forecast(series(rng, 6))
    with pytest.raises(ArgumentError, match="outputs: no 'mu'; the network gives load"):
        forecaster.forecast(columns, outputs=["mu"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": ["load", "wind"]}, "the network reads 3 features, found 2"),
        ({"features": ["load", "load", "wind"]}, "features: 'load' is there twice"),
        ({"features": "load"}, "features: expected a list"),
        ({"target": 3}, "target: expected a name"),
        ({"target": "price"}, "target_scaling: expected it"),
        ({"horizon": 3}, r"horizon: output 'fc' of the network has shape \('time', 4\), expected 3 numbers"),
        ({"outputs": ["load", "price"]}, "outputs: 'price' is neither"),
        ({"outputs": ["wind"]}, "outputs: expected the target 'load', 'mu' or 'q0.5' among wind"),
        ({"scaling": {"load": None}}, "scaling: the feature 'temperature' is missing"),
        ({"scaling": {**SCALING, "rain": None}}, "scaling: 'rain' is no feature"),
        ({"scaling": {**SCALING, "load": "log"}}, "scaling: load: expected None, 'log1p'"),
        ({"scaling": {**SCALING, "load": {"kind": "max"}}}, "scaling: load: kind expected one of"),
        ({"scaling": {**SCALING, "load": {"kind": "standard", "mean": 1}}}, "load: standard has mean, std; std is mis"),
        ({"scaling": {**SCALING, "load": {"kind": "standard", "mean": 1, "std": 0}}}, "std expected above 0"),
        ({"scaling": {**SCALING, "load": {"kind": "standard", "mean": np.nan, "std": 1}}}, "mean expected a finite"),
        ({"scaling": {**SCALING, "load": {"kind": "log1p", "base": 2}}}, "log1p has no numbers; found 'base' too"),
        ({"scaling": {**SCALING, "load": {"kind": "min_max", "low": 2, "high": 1}}}, "expected low below high"),
        (
            {"scaling": {**SCALING, "load": {"kind": "min_max", "low": -1e308, "high": 1e308}}},
            "too close or too far apart",
        ),
        ({"scaling": {**SCALING, "load": {"kind": "min_max", "low": 0, "high": 5e-324}}}, "too close or too far apart"),
        ({"feedback": {"price": "load"}}, "feedback: 'price' is no output"),
        ({"feedback": {"load": "price"}}, "feedback: 'price' is no feature"),
        ({"change": True}, "change=True: expected target_scaling="),
        ({"limits": (3, 1)}, "limits: expected the lower one first"),
        ({"units": {"price": "EUR"}}, "units: 'price' is neither"),
        ({"time": "load"}, "time: 'load' is a feature"),
        ({"window": 0}, "window: expected"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_name(rng, arguments, message):
    given = {"features": FEATURES, "target": "load", "scaling": SCALING, "horizon": 4} | arguments
    with pytest.raises(ArgumentError, match=message):
        cylstm.Forecaster(lstm_model(rng, 3, 5, 4), **given)


def test_a_network_that_cannot_stream_asks_for_a_window(rng):
    model = lstm_model(rng, 3, 5, 2, last=True, bidirectional=True)
    with pytest.raises(UnsupportedError, match="give the forecaster window="):
        cylstm.Forecaster(model, features=FEATURES, target="load", horizon=2)
    forecaster = cylstm.Forecaster(model, features=FEATURES, target="load", horizon=2, window=6)
    x = rng.normal(size=(8, 3))
    np.testing.assert_array_equal(forecaster.forecast(x), model.predict(x[-6:].astype(np.float32)))
