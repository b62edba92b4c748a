"""Forecasters and series for the tests, and their loops written by hand."""

import numpy as np

import cylstm

from tests.builders.networks import lstm_model

FEATURES = ["load", "temperature", "wind"]
SCALING = {
    "load": {"kind": "standard", "mean": 40.0, "std": 12.5},
    "temperature": {"kind": "min_max", "low": -20.0, "high": 40.0, "to_low": -1.0, "to_high": 1.0},
    "wind": ["log1p", {"kind": "robust", "median": 1.25, "iqr": 0.75}],
}


def series(rng, time, names=FEATURES):
    """Columns by name, (time,) each, in units."""
    columns = {
        "load": 40 + 12 * np.sin(np.arange(time) / 4) + rng.normal(0, 2, time),
        "temperature": 10 + 8 * np.cos(np.arange(time) / 9) + rng.normal(0, 1, time),
        "wind": np.exp(rng.normal(1, 0.5, time)),
    }
    return {name: columns[name] for name in names}


def scaled(columns):
    """What the network reads of a series: `SCALING` written by hand."""
    load = (columns["load"] - 40.0) / 12.5
    scale = 2.0 / 60.0
    temperature = columns["temperature"] * scale + (-1.0 - -20.0 * scale)
    wind = (np.log1p(columns["wind"]) - 1.25) / 0.75
    return np.stack([load, temperature, wind], axis=1).astype(np.float32)


def one_shot(rng, horizon=4, window=None, **options):
    """A forecaster of `load`, all steps of the horizon at once."""
    model = lstm_model(rng, 3, 5, horizon, last=window is not None)
    return cylstm.Forecaster(
        model, features=FEATURES, target="load", scaling=SCALING, horizon=horizon, window=window, **options
    )


def recursive(rng, horizon=1, window=None, **options):
    """One that goes on from its own forecasts of `load`."""
    return one_shot(rng, horizon, window, feedback={"load": "load"}, **options)
