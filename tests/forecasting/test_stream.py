"""Forecasts row by row, against forecasts of the whole history."""

import pickle

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, ShapeError

from tests.forecasting.builders import one_shot, recursive, series


@pytest.mark.parametrize("window", [None, 6])
def test_each_row_gives_the_forecast_of_the_history_so_far(rng, window):
    forecaster, columns = recursive(rng, 2, window), series(rng, 15)
    future = series(rng, 4, ["temperature", "wind"])
    stream = forecaster.stream()
    for t in range(15):
        found = stream.step({name: column[t] for name, column in columns.items()})
        so_far = {name: column[: t + 1] for name, column in columns.items()}
        assert stream.steps == t + 1
        if window is not None and t + 1 < window:
            assert found is None
            with pytest.raises(ShapeError, match=f"expected at least 6 rows, found {t + 1}"):
                stream.forecast()
            continue
        np.testing.assert_array_equal(found, forecaster.forecast(so_far))
        np.testing.assert_array_equal(stream.forecast(5, future), forecaster.forecast(so_far, 5, future))
        np.testing.assert_array_equal(stream.forecast(), found)  # looking ahead moves nothing


def test_a_stream_goes_on_from_a_history_in_pieces(rng):
    forecaster, columns = one_shot(rng), series(rng, 20)
    x = np.stack([columns[name] for name in forecaster.features], axis=1)
    stream = forecaster.stream()
    stream.run(x[:12])
    stream.run({name: column[12:19] for name, column in columns.items()})
    np.testing.assert_array_equal(stream.step(x[19]), forecaster.forecast(x))


@pytest.mark.parametrize("window", [None, 6])
def test_a_pickled_stream_goes_on_where_it_was(rng, window):
    stream = one_shot(rng, 3, window).calibrate(series(rng, 60), 10).stream(adapt=0.1)
    stream.run(series(rng, 30))
    other = pickle.loads(pickle.dumps(stream))
    for row in rng.uniform(5, 50, (20, 3)):
        for found, expected in zip(other.step(row, interval=True), stream.step(row, interval=True)):
            np.testing.assert_array_equal(found, expected)
    assert other.steps == 50


def test_a_row_that_is_not_what_it_should_be_is_refused_and_leaves_the_stream_as_it_is(rng):
    forecaster, columns = one_shot(rng, time="day"), series(rng, 5)
    stream = forecaster.stream()
    stream.run({**columns, "day": np.arange(5)})
    before = stream.forecast()
    for row, error, message in [
        ({"load": 1.0, "wind": 2.0}, ArgumentError, "row: the column 'temperature' is missing"),
        ({"load": 1.0, "wind": 2.0, "temperature": 3.0, "rain": 1.0}, ArgumentError, "'rain' is one too many"),
        ({"load": 1.0, "wind": 2.0, "temperature": np.nan}, ArgumentError, "row: row 0: the column 'temperature' is"),
        ({"load": 1.0, "wind": 2.0, "temperature": 3.0, "day": 4}, ArgumentError, "time 4 is not after 4"),
        ({"load": [1.0], "wind": 2.0, "temperature": 3.0}, ShapeError, "row: 'load' expected a number"),
        ([1.0, 2.0], ShapeError, r"row: expected \(3,\), found shape \(2,\)"),
    ]:
        with pytest.raises(error, match=message):
            stream.step(row)
    assert stream.steps == 5
    np.testing.assert_array_equal(stream.forecast(), before)


@pytest.mark.parametrize("kind", ["univariate", "multivariate"])
def test_the_forecasts_of_the_example_are_those_of_its_own_code(example, kind, tmp_path):
    found = example.read_csv(example.SAMPLE)
    forecaster = example.forecaster.make_forecaster(kind)
    scaling = example.Scaling.from_json(forecaster.model.metadata["scaling"])
    inputs = found.select(kind)[:200]
    expected = scaling.forecast(forecaster.model.predict(scaling.scale(inputs)), inputs[:, 0])
    forecaster.save(tmp_path / "pollution.cylstm")
    stream = cylstm.Forecaster.load(tmp_path / "pollution.cylstm").stream()
    np.testing.assert_array_equal([stream.step(row) for row in inputs], expected)
