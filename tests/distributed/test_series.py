"""Forecasts of many series in one table, without an engine."""

import pickle

import numpy as np
import pytest

import cylstm
from cylstm.distributed.series import SeriesRequest
from cylstm.distributed.source import network_of, source_of
from cylstm.errors import ArgumentError

from tests.distributed.builders import many_series
from tests.forecasting.builders import one_shot, recursive


@pytest.fixture
def table(rng):
    pytest.importorskip("pandas")
    return many_series(rng)


def check(found, histories, forecaster, steps=None):
    expected = {key: forecaster.forecast(history, steps) for key, history in histories.items()}
    assert list(found.columns) == ["shop", "step", "load"]
    assert list(found["shop"]) == [key for key in sorted(expected) for _ in expected[key]]
    assert list(found["step"]) == [k + 1 for key in sorted(expected) for k in range(len(expected[key]))]
    assert found["load"].to_numpy().tobytes() == np.concatenate([expected[key] for key in sorted(expected)]).tobytes()


def test_each_series_is_forecast_by_itself_whatever_the_order_of_its_rows(rng, table):
    frame, histories = table
    forecaster = one_shot(rng)
    asked = SeriesRequest("shop", "hour").checked(forecaster, list(frame.columns))
    check(asked.forecast(forecaster, frame), histories, forecaster)
    check(asked.forecast(forecaster, frame.sample(frac=1, random_state=3)), histories, forecaster)


def test_a_forecaster_says_its_column_of_times_and_travels_as_a_file_or_itself(rng, table, tmp_path):
    frame, histories = table
    forecaster = one_shot(rng, time="hour")
    forecaster.save(tmp_path / "load.cylstm", packed=True)
    for given in (str(tmp_path / "load.cylstm"), forecaster):
        source, _ = source_of(given, cylstm.Forecaster)
        found = network_of(pickle.loads(pickle.dumps(source)))
        asked = SeriesRequest("shop").checked(found, list(frame.columns))
        check(asked.forecast(found, frame), histories, forecaster)
    doubled = frame.assign(hour=1)
    with pytest.raises(ArgumentError, match=r"^the series shop=a: history: row 1: the time 1 is that of"):
        asked.forecast(found, doubled)


def test_a_table_without_rows_gives_columns_of_the_same_types(rng, table):
    frame, _ = table
    forecaster = one_shot(rng)
    asked = SeriesRequest("shop", "hour").checked(forecaster, list(frame.columns))
    empty = asked.forecast(forecaster, frame.iloc[:0])
    assert len(empty) == 0 and list(empty.dtypes) == list(asked.forecast(forecaster, frame).dtypes)


def test_bad_arguments_and_bad_series_are_refused(rng, table):
    frame, _ = table
    found = list(frame.columns)
    forecaster = one_shot(rng)
    for asked, message in (
        (SeriesRequest("shop"), "order: expected the column that says the order of the rows"),
        (SeriesRequest("town", "hour"), "the column 'town' is missing; found shop, hour, load"),
        (SeriesRequest("shop", "day"), "the column 'day' is missing"),
        (SeriesRequest("load", "hour"), "by: expected a column that is no feature"),
        (SeriesRequest("shop", "hour", 9), "steps: the network forecasts 4, found 9"),
    ):
        with pytest.raises(ArgumentError, match=message):
            asked.checked(forecaster, found)
    asked = SeriesRequest("shop", "hour").checked(forecaster, found)
    frame.loc[(frame["shop"] == "b") & (frame["hour"] == 2), "wind"] = np.nan
    with pytest.raises(ArgumentError, match="^the series shop=b: history: row 2: the column 'wind' is nan"):
        asked.forecast(forecaster, frame)
    both = recursive(rng)
    with pytest.raises(ArgumentError, match="^the series shop=a: "):
        SeriesRequest("shop", "hour", 5).checked(both, found).forecast(both, many_series(rng)[0])
