"""Forecasters in `.cylstm` files, and hostile ones."""

import json

import numpy as np
import pytest

import cylstm
from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.forecasting.conformal import calibrated
from cylstm.forecasting.description import KEY, write_description

from tests.builders.networks import lstm_model, same
from tests.forecasting.builders import recursive, series


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("window", [None, 6])
def test_a_saved_forecaster_forecasts_the_same_bits(rng, tmp_path, packed, window):
    forecaster = recursive(
        rng,
        2,
        window,
        limits=(30.0, None),
        units={"load": "MW", "wind": "m/s"},
        target_scaling={"kind": "standard", "mean": [40.0, 41.0], "std": [12.0, 13.0]},
        time="day",
    )
    path = tmp_path / "forecaster.cylstm"
    forecaster.save(path, packed=packed)
    again = cylstm.Forecaster.load(path, mmap=packed)
    columns, future = series(rng, 20), series(rng, 6, ["temperature", "wind"])
    np.testing.assert_array_equal(again.forecast(columns, 7, future), forecaster.forecast(columns, 7, future))
    assert again._entries() == forecaster._entries()
    assert again.units == {"load": "MW", "wind": "m/s"} and again.window == window and repr(again) == repr(forecaster)
    again.save(tmp_path / "again.cylstm", packed=packed)
    assert (tmp_path / "again.cylstm").read_bytes() == path.read_bytes()


def test_the_file_of_a_forecaster_is_one_of_its_network_too(rng, tmp_path):
    forecaster = recursive(rng)
    forecaster.save(tmp_path / "forecaster.cylstm")
    model = cylstm.load(tmp_path / "forecaster.cylstm")
    x = rng.normal(size=(3, 8, 3)).astype(np.float32)
    assert type(model) is cylstm.Model
    assert same(model.predict(x), forecaster.model.predict(x))
    model.save(tmp_path / "plain.cylstm", metadata={})
    with pytest.raises(FormatError, match="holds a network and no forecaster"):
        cylstm.Forecaster.load(tmp_path / "plain.cylstm")


def wrong(entries, path, value):
    """A copy with one thing changed; `path` is keys, with dots between them."""
    found = json.loads(json.dumps(entries))
    *keys, last = path.split(".")
    at = found
    for key in keys:
        at = at[key]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return found


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("version", ..., "version expected a number of at least 1, found None"),
        ("version", "1", "version expected a number of at least 1, found '1'"),
        ("version", True, "version expected"),
        ("target", ..., "the entry 'target' is missing"),
        ("colour", 3, "unknown entry 'colour'"),
        ("features", {"load": 1}, "features expected list, found"),
        ("features", ["load", 3, "wind"], "features: expected a name"),
        ("features", ["load"] * 5000, "features: expected a list of 1 to 4096 names"),
        ("features", ["load", "x" * 1000, "wind"], "features: expected a name of 1 to 200"),
        ("features", ["load", "a\nb", "wind"], "features: expected a name"),
        ("horizon", 1.0, "horizon expected int"),
        ("horizon", True, "horizon expected int"),
        ("horizon", 10**18, "horizon: expected a whole number"),
        ("horizon", 2**30, "horizon: output 'fc' of the network has shape"),
        ("window", -1, "window: expected"),
        ("change", 1, "change expected bool"),
        ("scaling.load", 5, "scaling: load: expected None"),
        ("scaling.load", [["log1p"]], "scaling: load: expected None"),
        ("scaling.load", ["log1p"] * 9, "scaling: load: expected at most 8"),
        ("scaling.load", [{"kind": ["standard"]}], "scaling: load: kind expected"),
        ("scaling.load", [{"kind": "standard", "mean": [1, 2], "std": 1}], "scaling: load: mean expected a number"),
        ("scaling.load", [{"kind": "standard", "mean": 1, "std": 1e999}], "out of range|Infinity"),
        ("scaling.load", [{"kind": "standard", "mean": 1, "std": 1, "eval": "x"}], "found 'eval' too"),
        ("scaling.rain", [], "scaling: 'rain' is no feature"),
        ("scaling.wind", ..., "scaling: the feature 'wind' is missing"),
        ("feedback.load", ["load"], "feedback: .* is no feature"),
        ("feedback.rain", "load", "feedback: 'rain' is no output"),
        ("limits", [1, 2, 3], "limits: expected two numbers"),
        ("limits", ["0", None], "limits: expected two numbers"),
        ("units", {"load": 3}, "units: load: expected a name"),
        ("calibration", {}, "calibration"),
    ],
)
def test_a_description_that_does_not_fit_is_refused_by_its_entry(rng, tmp_path, path, value, message):
    forecaster = recursive(rng)
    good = json.loads(write_description(forecaster._entries()))
    file = tmp_path / "wrong.cylstm"
    forecaster.model.save(file, metadata={KEY: json.dumps(wrong(good, path, value))})
    with pytest.raises(FormatError, match=message) as found:
        cylstm.Forecaster.load(file)
    assert str(file) in str(found.value) and KEY in str(found.value)
    assert type(cylstm.load(file)) is cylstm.Model


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "[" * 1000, '{"version": 1, "version": 1}', '"' + "x" * (9 << 20) + '"']
)
def test_text_that_is_no_description_is_refused(rng, tmp_path, text):
    lstm_model(rng, 3, 5).save(tmp_path / "wrong.cylstm", metadata={KEY: text})
    with pytest.raises(FormatError, match=KEY):
        cylstm.Forecaster.load(tmp_path / "wrong.cylstm")


def test_a_description_that_is_too_large_is_refused(rng, tmp_path):
    lstm_model(rng, 3, 5).save(tmp_path / "large.cylstm", metadata={KEY: " " * (9 << 20) + "{}"})
    with pytest.raises(FormatError, match="expected at most 8,388,608 characters"):
        cylstm.Forecaster.load(tmp_path / "large.cylstm")


def test_the_largest_calibration_can_be_read_again(rng, tmp_path):
    forecaster = recursive(rng)
    entries = forecaster._entries() | {"calibration": calibrated(rng.exponential(size=(5000, 1000)), 0.9)}
    large = cylstm.Forecaster(forecaster.model, **entries)
    large.save(tmp_path / "large.cylstm")
    assert cylstm.Forecaster.load(tmp_path / "large.cylstm")._entries() == large._entries()


def test_a_newer_version_is_refused(rng, tmp_path):
    lstm_model(rng, 3, 5).save(tmp_path / "newer.cylstm", metadata={KEY: '{"version": 3}'})
    with pytest.raises(UnsupportedError, match="written by a newer CyLSTM: version 3"):
        cylstm.Forecaster.load(tmp_path / "newer.cylstm")


def test_random_changes_of_a_description_raise_errors_of_ours_or_load(rng, tmp_path):
    forecaster = recursive(rng, units={"load": "MW"})
    text = json.dumps(json.loads(write_description(forecaster._entries())))
    refused = 0
    for _ in range(150):
        at = int(rng.integers(len(text)))
        piece = str(rng.choice(['"', "[", "]", "{", "}", "null", "1e400", "-1", "0", ",", '"load"', "true"]))
        changed = text[:at] + piece + text[at + int(rng.integers(3)) :]
        forecaster.model.save(tmp_path / "changed.cylstm", metadata={KEY: changed})
        try:
            cylstm.Forecaster.load(tmp_path / "changed.cylstm")
        except CylstmError:
            refused += 1
    assert refused > 100


def test_the_program_of_the_example_writes_a_forecaster_with_intervals(example, tmp_path, capsys):
    path = tmp_path / "pm25.cylstm"
    example.forecaster.main(["--csv", str(example.SAMPLE), "--save", str(path)])
    text = capsys.readouterr().out
    assert text.startswith("This is the bundled SYNTHETIC sample") and text.count("coverage") == 2
    forecaster = cylstm.Forecaster.load(path)
    found = example.read_csv(example.SAMPLE)
    table = dict(zip(example.FEATURES["multivariate"], found.inputs.T)) | {"hour": found.hours}
    mean, low, high = forecaster.forecast(table, interval=True)
    assert forecaster.units == {"pm2.5": "ug/m3"} and (low < mean).all() and (mean < high).all()
