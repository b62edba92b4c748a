"""What the pages' code finds: small files and arrays, of random numbers, made without any framework."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cylstm

from tests import DATA, ROOT
from tests.builders import onnx_files
from tests.builders.weight_files import (
    keras_dense,
    keras_dense_weights,
    keras_input,
    keras_layer,
    keras_lstm,
    keras_lstm_weights,
    keras_model,
    linear_tensors,
    lstm_tensors,
    write_keras,
    write_torch,
)
from tests.docs.code_blocks import blocks_of

FEATURES, UNITS = 3, 5


def need(package: str, request: pytest.FixtureRequest) -> None:
    """Skip without `package`; PyTorch and Keras with a seed."""
    if package in ("torch", "keras"):
        request.getfixturevalue(package)
    else:
        pytest.importorskip(package)


def everywhere(folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """What every page may use: networks of 3 features and 2 outputs, and an input of 3 rows of 30 steps."""
    tensors = {**lstm_tensors(rng, "lstm", FEATURES, UNITS), **linear_tensors(rng, "fc", UNITS, 2)}
    write_torch(folder / "weights.pt", tensors)
    config = keras_model(keras_input(None, FEATURES), keras_lstm("lstm", UNITS), keras_dense("fc", 2))
    arrays = keras_lstm_weights(rng, FEATURES, UNITS), keras_dense_weights(rng, UNITS, 2)
    write_keras(folder / "model.keras", config, {"layers/lstm/cell": arrays[0], "layers/dense": arrays[1]})
    with zipfile.ZipFile(folder / "model.keras") as archive:  # the weights alone, and what `to_json` gives
        (folder / "net.weights.h5").write_bytes(archive.read("model.weights.h5"))
        (folder / "net.json").write_bytes(archive.read("config.json"))
    config = keras_model(keras_input(None, FEATURES), keras_lstm("lstm", 64), keras_dense("fc", 2))
    arrays = keras_lstm_weights(rng, FEATURES, 64), keras_dense_weights(rng, 64, 2)
    write_keras(folder / "large.keras", config, {"layers/lstm/cell": arrays[0], "layers/dense": arrays[1]})
    model = cylstm.load(folder / "model.keras")
    x = rng.standard_normal((3, 30, FEATURES)).astype(np.float32)
    model.save(folder / "model.cylstm", check=x)
    np.save(folder / "input.npy", x)
    np.save(folder / "x.npy", x)
    lines = [",".join(map(str, row)) for row in x[0]]
    (folder / "input.csv").write_text("\n".join(["rain,sun,wind", *lines, ""]))
    return {"cylstm": cylstm, "np": np, "model": model, "x": x, "x_t": x[0, 0]}


def readme(folder: Path, rng: np.random.Generator, found: dict[str, Any]) -> dict[str, Any]:
    """The example's networks, and a state dict that is large enough for smaller weights."""
    shutil.copytree(ROOT / "examples" / "pollution" / "weights", folder / "examples" / "pollution" / "weights")
    write_torch(folder / "weights.pt", lstm_tensors(rng, "lstm", FEATURES, 64) | linear_tensors(rng, "fc", 64, 2))
    return {}


def command_line(folder: Path, rng: np.random.Generator, found: dict[str, Any]) -> dict[str, Any]:
    import pyarrow
    from pyarrow import parquet

    x = found["x"][0]
    parquet.write_table(pyarrow.table(dict(zip("abc", x.T))), folder / "series.parquet")
    lines = ["time,wind,dew point,pressure", *(f"{hour},{a},{b},{c}" for hour, (a, b, c) in enumerate(x.tolist()))]
    (folder / "log.csv").write_text("\n".join([*lines, ""]))
    _write_series(folder, rng)
    return {}


def _write_series(folder: Path, rng: np.random.Generator) -> None:
    """A forecaster of 24 hours with intervals for 48, a history of its columns, and the weather after it."""
    import pyarrow
    from pyarrow import parquet

    tensors = {**lstm_tensors(rng, "lstm", 2, 5), **linear_tensors(rng, "fc", 5, 24)}
    model = cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm"), cylstm.Linear("fc")])
    forecaster = cylstm.Forecaster(
        model, features=["load", "temperature"], target="load", horizon=24, feedback={"load": "load"}
    )
    columns = {name: rng.standard_normal(300) for name in ("load", "temperature")}
    forecaster.calibrate(columns, 100, coverage=0.9, steps=48).save(folder / "load.cylstm")
    rows = [f"{a},{b}" for a, b in zip(*columns.values())]
    (folder / "history.csv").write_text("\n".join(["load,temperature", *rows, ""]))
    parquet.write_table(pyarrow.table(columns), folder / "history.parquet")
    parquet.write_table(pyarrow.table({"temperature": rng.standard_normal(24)}), folder / "weather.parquet")


def use(folder: Path, rng: np.random.Generator, found: dict[str, Any]) -> dict[str, Any]:
    state = [tuple(rng.standard_normal((3, 64)).astype(np.float32) for _ in range(2))]
    return {"state": state}


def batches(folder: Path, rng: np.random.Generator, found: dict[str, Any]) -> dict[str, Any]:
    x = rng.standard_normal((64, FEATURES)).astype(np.float32)
    active = rng.random(64) < 0.5
    x[~active] = np.nan
    other = found["model"].stream()
    other.step(found["x_t"])
    return {"x": x, "has_input": active, "another_stream": other}


def quantise(folder: Path, rng: np.random.Generator, found: dict[str, Any]) -> dict[str, Any]:
    return {"y": rng.standard_normal((3, 2)).astype(np.float32)}


def look_inside(folder: Path, rng: np.random.Generator, found: dict[str, Any]) -> dict[str, Any]:
    """Two LSTMs with a dropout between them and a head of two numbers, on two features of 48 steps."""
    config = keras_model(
        keras_input(None, 2),
        keras_lstm("lstm", 12, return_sequences=True),
        keras_layer("Dropout", "dropout", rate=0.1, seed=None, noise_shape=None),
        keras_lstm("lstm_1", 12),
        keras_dense("dense", 2),
    )
    arrays = {
        "layers/lstm/cell": keras_lstm_weights(rng, 2, 12),
        "layers/lstm_1/cell": keras_lstm_weights(rng, 12, 12),
        "layers/dense": keras_dense_weights(rng, 12, 2),
    }
    arrays["layers/lstm/cell"][2][24 + 3] = -1e4  # unit 3 never fires: its candidate would do, but its gate is shut
    write_keras(folder / "model.keras", config, arrays)
    model = cylstm.load(folder / "model.keras")
    model.save(folder / "model.cylstm")
    x, x2, data = (rng.standard_normal((6, 48, 2)).astype(np.float32) for _ in range(3))
    np.savetxt(folder / "input.csv", x[0], delimiter=",")
    tensors = {**lstm_tensors(rng, "lstm", 2, 5), **linear_tensors(rng, "fc", 5, 2)}
    return {
        "model": model,
        "model_of_steps": cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm"), cylstm.Linear("fc")]),
        "x": x,
        "x2": x2,
        "x1": x,
        "n1": np.arange(6) + 40,
        "n2": np.arange(6) + 30,
        "data": data,
        "history": x[:3],
        "batch": 6,
        "x_t": x[:, 0],
        "chunk": x[:, 1:5],
        "weight": rng.standard_normal((2, 12)),
        "effects": rng.standard_normal((48, 2)),
        "names": ["pm2.5", "dew point"],
        "y": rng.standard_normal(6),
        "later": rng.standard_normal(6),
    }


def streaming(folder: Path, rng: np.random.Generator, found: dict[str, Any]) -> dict[str, Any]:
    """Two convolutions without padding and an LSTM of 16 units."""
    convolutions = {
        "first.weight": rng.standard_normal((8, 3, 3)),
        "first.bias": rng.standard_normal(8),
        "second.weight": rng.standard_normal((8, 8, 3)),
        "second.bias": rng.standard_normal(8),
    }
    tensors = {name: array.astype(np.float32) for name, array in convolutions.items()}
    tensors |= lstm_tensors(rng, "lstm", 8, 16)
    layers = [cylstm.Conv1d("first"), cylstm.Conv1d("second"), cylstm.LSTM("lstm")]
    return {"model": cylstm.from_state_dict(tensors, layers), "x": found["x"][0]}


def forecasting(folder: Path, rng: np.random.Generator, found: dict[str, Any]) -> dict[str, Any]:
    """A network of a load, a temperature and a holiday, hours of half a year, and a network of a distribution."""
    import pandas
    from sklearn.preprocessing import StandardScaler

    tensors = {**lstm_tensors(rng, "lstm", 3, 8), **linear_tensors(rng, "fc", 8, 1)}
    write_torch(folder / "model.pt", tensors)
    model = cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm"), cylstm.Linear("fc")])
    hours = pandas.date_range("2024-12-20", "2025-07-08", freq="h")
    n = np.arange(len(hours))
    frame = pandas.DataFrame(
        {
            "load": 30 + 5 * np.sin(2 * np.pi * n / 24) + rng.random(len(n)),
            "temperature": 10 + 8 * np.sin(2 * np.pi * n / 8760) + rng.standard_normal(len(n)),
            "holiday": (n // 24 % 7 >= 5).astype(float),
        },
        index=hours,
    )
    known = frame[["temperature", "holiday"]]
    tensors = {**lstm_tensors(rng, "lstm", 3, 8), **linear_tensors(rng, "fc", 8, 2)}
    return {
        "model": model,
        "fitted_standard_scaler": StandardScaler().fit(frame[["temperature"]]),
        "normal": cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm"), cylstm.Linear("fc"), cylstm.Softplus()]),
        "history": frame[:500],
        "future": known[500:547],
        "rows": frame[500:505].to_dict("records"),
        "frame": frame,
    }


def custom_layers(folder: Path, rng: np.random.Generator, found: dict[str, Any]) -> dict[str, Any]:
    """A network with a layer of its user, whose function the page has further down, and the example that is split."""
    own = {**keras_layer("AttentionWeightedAverage", "average", return_attention=False), "module": None}
    own["registered_name"] = "own>AttentionWeightedAverage"
    config = keras_model(keras_input(None, FEATURES), keras_lstm("lstm", UNITS, return_sequences=True), own)
    arrays = keras_lstm_weights(rng, FEATURES, UNITS), [rng.standard_normal((UNITS, 1)).astype(np.float32)]
    groups = {"layers/lstm/cell": arrays[0], "layers/attention_weighted_average": arrays[1]}
    write_keras(folder / "model.keras", config, groups)
    shutil.copy(ROOT / "examples" / "translation" / "numbers.keras", folder)
    shown: dict[str, Any] = {}
    for block in blocks_of(ROOT / "docs" / "custom-layers.md"):
        if block.text.startswith(("from ", "def attention_weighted_average")):
            exec(block.text, shown)
    return {
        "attention_weighted_average": shown["attention_weighted_average"],
        "words": np.array([[3, 29]]),
        "last": np.array([[11]]),
        "longest": 4,
    }


def files(folder: Path, rng: np.random.Generator, found: dict[str, Any]) -> dict[str, Any]:
    """A voice detector of two tensors and a rate of samples that never changes."""
    data = onnx_files.fields((DATA / "onnx" / "detector.onnx").read_bytes())
    network = onnx_files.fields(data[7][0])
    network[11].append(onnx_files.value("sr", (), "int64"))
    data[7] = [onnx_files.message([(number, one) for number, many in network.items() for one in many])]
    made = onnx_files.message([(number, one) for number, many in data.items() for one in many])
    (folder / "vad.onnx").write_bytes(made)
    with np.load(DATA / "onnx" / "expected.npz") as expected:
        return {"chunks": expected["x"][0]}


def pollution(folder: Path, rng: np.random.Generator, found: dict[str, Any]) -> dict[str, Any]:
    """The example's own folder, its modules importable."""
    import series

    shutil.copytree(ROOT / "examples" / "pollution", folder, dirs_exist_ok=True)
    (folder / "path" / "to").mkdir(parents=True)
    shutil.copy(series.SAMPLE, folder / "path" / "to" / "the.csv")
    read = series.read_csv(series.SAMPLE)
    return {"Scaling": series.Scaling, "inputs_of_this_hour": read.inputs[100], "pm25_now": read.target[100]}


def machine(folder: Path, rng: np.random.Generator, found: dict[str, Any]) -> dict[str, Any]:
    model = cylstm.load(ROOT / "examples" / "machine" / "machine.cylstm")
    x = rng.standard_normal((8, 256, 1)).astype(np.float32)
    given = {"model": model, "stream": model.stream(batch=4), "x": x, "row": 2, "rows": [0, 3]}
    return {**given, "has_message": np.arange(8) % 2 == 0}


def server(folder: Path, rng: np.random.Generator, found: dict[str, Any]) -> dict[str, Any]:
    x = rng.standard_normal((512, FEATURES)).astype(np.float32)
    return {"x": x, "has_sent": rng.random(512) < 0.5, "body": {"x": [0.5, "text", 1.5]}}


def sound_events(folder: Path, rng: np.random.Generator, found: dict[str, Any]) -> dict[str, Any]:
    import frames

    shutil.copy(ROOT / "examples" / "sound_events" / "sound_events.cylstm", folder)
    return {"log_mel": frames.log_mel, "samples": rng.integers(-3000, 3000, 400).astype(np.int16)}


#: page -> what it finds beside what every page does
FIXTURES: dict[str, Callable[[Path, np.random.Generator, dict[str, Any]], dict[str, Any]]] = {
    "README.md": readme,
    "docs/batches.md": batches,
    "docs/command-line.md": command_line,
    "docs/custom-layers.md": custom_layers,
    "docs/files.md": files,
    "docs/forecasting.md": forecasting,
    "docs/look-inside.md": look_inside,
    "docs/quantise.md": quantise,
    "docs/server.md": server,
    "docs/streaming.md": streaming,
    "docs/use.md": use,
    "examples/machine/README.md": machine,
    "examples/pollution/README.md": pollution,
    "examples/sound_events/README.md": sound_events,
}
