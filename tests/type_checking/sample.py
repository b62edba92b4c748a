"""A user's program, for type checkers: what the public interface says of itself. ``make lint`` runs pyright over it."""

# pyright: strict

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import cylstm
from cylstm.explain import report, units


def predict(path: Path, x: NDArray[np.float32]) -> cylstm.Model:
    model = cylstm.load(path, engine="packed", dtype="float32")
    assert_type(model, cylstm.Model)
    assert_type(model.inputs, tuple[str, ...])
    cylstm.load(path.read_bytes(), dtype="float32")
    with path.open("rb") as file:
        cylstm.load(file, dtype="float32")
    assert_type(model.can_stream, bool)
    assert_type(model.state_names, list[tuple[str, ...]])
    model.predict(x, threads=2, lengths=[3, 5])
    model.save(path, metadata={"unit": "kW", "mean": [0.5, 2.0]}, packed=True)
    model.export_onnx(path.with_suffix(".onnx"), states=True)
    model.summary()
    report(model, x, path.with_suffix(".html"), row=0, title="A network", lengths=[3, 5])
    smaller = model.prune(fraction=0.5, data=x, multiple_of=16)
    assert_type(smaller, cylstm.Model)
    smaller = model.prune(units(model, x))
    assert smaller.pruning is not None
    assert_type([one.removed for one in smaller.pruning.values()], list[dict[int, str]])
    assert_type(smaller.pruning.speed, float | None)
    return model


def stream(model: cylstm.Model, steps: NDArray[np.float32]) -> None:
    stream = model.stream(batch=2, threads=1, window=None)
    assert_type(stream, cylstm.Stream)
    assert_type(stream.batch, int)
    assert_type(stream.window, int | None)
    out = stream.step(steps[0])
    stream.step(steps[1], out=out, active=np.array([True, False]))
    stream.run(steps)
    state = stream.state
    assert_type(state[0][0].ndim, int)
    stream.state = state
    stream.reset(rows=[0])
    other = stream.copy()
    assert_type(other, cylstm.Stream)
    stream.replace([1], other.copy([0]))
    assert_type(int(stream.steps[0]), int)


def forecast(model: cylstm.Model, frame: dict[str, NDArray[np.float64]], path: Path) -> None:
    forecaster = cylstm.Forecaster(
        model,
        features=["load", "wind"],
        target="load",
        scaling={"load": "log1p", "wind": {"kind": "standard", "mean": 3.0, "std": 2.0}},
        feedback={"load": "load"},
    )
    forecaster = forecaster.calibrate(frame, "2026-01-01", coverage=0.9)
    assert_type(forecaster, cylstm.Forecaster)
    forecaster.save(path)
    assert_type(cylstm.Forecaster.load(path).known_features, tuple[str, ...])
    forecaster.forecast(frame, 24, {"wind": frame["wind"]}, interval=True)
    assert_type(forecaster.stream(adapt=0.01).alpha.ndim, int)
    assert_type(forecaster.evaluate(frame, 100, season=24).scores["forecast"]["rmse"].value, float)


def build(tensors: dict[str, NDArray[np.float32]]) -> cylstm.Model:
    try:
        return cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm"), cylstm.Last(), cylstm.Linear("fc")])
    except (cylstm.ArgumentError, cylstm.ShapeError, cylstm.FormatError, cylstm.UnsupportedError):
        raise
