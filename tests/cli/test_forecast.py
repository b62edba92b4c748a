"""``forecast``: as `Forecaster.forecast`, with errors that say where in which file."""

import numpy as np
import pytest

import cylstm
from cylstm.cli import main

from tests.builders.networks import lstm_model
from tests.cli.program import ran
from tests.forecasting.builders import SCALING, series

TIME, STEPS = 40, 6


@pytest.fixture
def forecaster(rng, tmp_path):
    """A calibrated one with a column that is known in advance, and its file."""
    model = lstm_model(rng, 2, 5, 2)
    made = cylstm.Forecaster(
        model,
        features=["load", "temperature"],
        target="load",
        scaling={name: SCALING[name] for name in ("load", "temperature")},
        horizon=2,
        feedback={"load": "load"},
        time="hour",
    )
    made = made.calibrate(series(rng, 60, ["load", "temperature"]), 9, steps=STEPS, coverage=0.8)
    made.save(tmp_path / "load.cylstm")
    return made, str(tmp_path / "load.cylstm")


@pytest.fixture
def files(rng, tmp_path):
    """Columns of a history and of what follows, and their files."""
    hours = np.arange("2025-01-01", "2025-01-03", dtype="datetime64[h]")
    columns = {**series(rng, TIME + STEPS, ["load", "temperature"]), "hour": hours[: TIME + STEPS]}
    history = {name: column[:TIME] for name, column in columns.items()}
    future = {name: columns[name][TIME:] for name in ("temperature", "hour")}
    paths = []
    for name, part in (("history", history), ("future", future)):
        order = list(part)[::-1]
        rows = [",".join(order), *(",".join(map(str, row)) for row in zip(*(part[one].tolist() for one in order)))]
        path = tmp_path / f"{name}.csv"
        path.write_text("\n".join(rows).replace(" ", "T") + "\n")
        paths.append(path)
    return history, future, paths


def call(forecaster, files, *options):
    return ["forecast", forecaster[1], str(files[2][0]), "--future", str(files[2][1]), *options]


def read(text):
    head, *lines = text.splitlines()
    return dict(zip(head.split(","), zip(*(line.split(",") for line in lines))))


def test_the_numbers_are_those_of_python_in_text_and_in_files(forecaster, files, tmp_path, capsys):
    history, future, _ = files
    mean, low, high = forecaster[0].forecast(history, STEPS, future, interval=True, coverage=0.7)
    arguments = call(forecaster, files, "--steps", str(STEPS), "--coverage", "0.7")
    assert main(arguments) == 0
    text = capsys.readouterr().out
    found = read(text)
    assert list(found) == ["step", "hour", "load", "low", "high"] and found["step"] == tuple("123456")
    for name, array in (("load", mean), ("low", low), ("high", high)):
        np.testing.assert_array_equal(np.array(found[name], float), array)
    assert found["hour"][0] == "2025-01-02T16:00:00" and found["hour"][-1] == "2025-01-02T21:00:00"
    assert main([*arguments, "-o", str(tmp_path / "out.csv")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out.csv'}\n" and (tmp_path / "out.csv").read_text() == text
    status, out, err = ran("forecast", *arguments[1:])
    assert (status, out, err) == (0, text, "")


def test_without_steps_it_is_the_horizon_and_needs_no_future(forecaster, files, capsys):
    history, _, (path, _) = files
    assert main(["forecast", forecaster[1], str(path)]) == 0
    found = np.array(read(capsys.readouterr().out)["load"], float)
    np.testing.assert_array_equal(found, forecaster[0].forecast(history))


def test_arrays_are_read_by_their_order_or_by_name(forecaster, files, tmp_path, capsys):
    history, future, _ = files
    expected = forecaster[0].forecast(history, STEPS, future)
    np.save(tmp_path / "a.npy", np.stack([history["load"], history["temperature"]], axis=1))
    np.savez(tmp_path / "a.npz", temperature=future["temperature"])
    call = ["forecast", forecaster[1], str(tmp_path / "a.npy"), "--future", str(tmp_path / "a.npz"), "--steps", "6"]
    assert main(call) == 0
    found = read(capsys.readouterr().out)
    assert list(found) == ["step", "load"]
    np.testing.assert_array_equal(np.array(found["load"], float), expected)


def test_parquet_files_are_read_and_written(forecaster, files, tmp_path, capsys):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    history, future, _ = files
    for name, part in (("h", history), ("f", future)):
        columns = {one: column.astype("datetime64[us]") if one == "hour" else column for one, column in part.items()}
        parquet.write_table(pyarrow.table(columns), tmp_path / f"{name}.parquet")
    target = tmp_path / "out.parquet"
    arguments = ["forecast", forecaster[1], str(tmp_path / "h.parquet"), "--future", str(tmp_path / "f.parquet")]
    assert main([*arguments, "--steps", "6", "-o", str(target)]) == 0
    capsys.readouterr()
    found = parquet.read_table(target)
    assert found.column_names == ["step", "hour", "load"]
    np.testing.assert_array_equal(found["load"].to_numpy(), forecaster[0].forecast(history, STEPS, future))
    assert str(found["hour"][0].as_py()) == "2025-01-02 16:00:00"
    broken = pyarrow.table({"load": ["a"], "temperature": [1.0]})
    parquet.write_table(broken, tmp_path / "h.parquet")
    assert main(["forecast", forecaster[1], str(tmp_path / "h.parquet")]) == 2
    assert "column 1 (load): expected numbers" in capsys.readouterr().err


def edited(path, line, old, new):
    """The file with a piece of one of its lines, from 1, replaced."""
    lines = path.read_text().splitlines()
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new, 1)
    path.write_text("\n".join(line for line in lines if line) + "\n")


@pytest.mark.parametrize(
    ("line", "old", "new", "message"),
    [
        (1, "temperature", "warmth", "history.csv, line 1: the column 'temperature' is missing; found hour, warmth"),
        (1, "hour", "moment", "history.csv, line 1, column 1: 'moment' is one too many"),
        (1, "hour", "load", "history.csv, line 1, column 3: 'load' is there twice"),
        (5, "2025-01-01T03:00:00", "2025-01-01T02:00:00", "line 5: the time 2025-01-01T02:00:00.000000 is that of the"),
        (5, "2025-01-01T03:00:00", "2024-12-01T03:00:00", "line 5: the time 2024-12-01T03:00:00.000000 is before"),
        (5, "2025-01-01T03:00:00", "soon", "line 5, column 1 (hour): expected a date such as 2025-01-31T08:00, found"),
        (5, "2025-01-01T03:00:00", "2025-01-01T03:00:00Z", "line 5, column 1 (hour): some times have a time zone"),
        (41, "2025-01-02T15:00:00", "2025-01-02T18:00:00", "line 41: a gap: 2025-01-02T18:00:00.000000 is 4:00:00"),
        (7, ",", ",nan", "line 7, column 2 (temperature): expected a number, found 'nan"),
        (7, ",", ",,", "line 7: expected 3 columns, found 4"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_history_is_told_with_line_and_column(forecaster, files, line, old, new, message, capsys):
    edited(files[2][0], line, old, new)
    assert main(call(forecaster, files, "--steps", "6")) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("cylstm: ") and message in err


def test_times_with_a_time_zone_are_those_of_utc(forecaster, files, capsys):
    path = files[2][0]
    lines = path.read_text().splitlines()
    # the clock of the second half is an hour ahead
    lines[1:21] = [line.replace(":00:00,", ":00:00+01:00,") for line in lines[1:21]]
    lines[21:] = [
        f"2025-01-{1 + (hour + 1) // 24:02}T{(hour + 1) % 24:02}:00:00+02:00,{line.split(',', 1)[1]}"
        for hour, line in enumerate(lines[21:], 20)
    ]
    path.write_text("\n".join(lines) + "\n")
    assert main(["forecast", forecaster[1], str(path)]) == 0
    assert read(capsys.readouterr().out)["hour"] == ("2025-01-02T15:00:00", "2025-01-02T16:00:00")


def test_a_gap_may_be_allowed_and_one_before_the_future_is_one_too(forecaster, files, capsys):
    edited(files[2][1], 2, "2025-01-02T16:00:00", "2025-01-02T16:30:00")
    assert main(call(forecaster, files, "--steps", "6")) == 0
    edited(files[2][1], 2, "2025-01-02T16:30:00", "2025-01-02T16:45:00")
    assert main(call(forecaster, files, "--steps", "6")) == 2
    assert "future.csv, line 2: a gap: 2025-01-02T16:45:00.000000 is 1:45:00 after" in capsys.readouterr().err
    assert main(call(forecaster, files, "--steps", "6", "--allow-gaps")) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "--steps: expected a number of at least 1, found 0"),
        (["--steps", "7"], "future: expected at least"),
        (["--steps", "6", "--coverage", "1.5"], "coverage: expected a number between 0 and 1"),
        (["--steps", "6", "--coverage", "0.9999"], "coverage: 0.9999 needs more than the"),
        (["--interval", "dropout"], "expected a forecaster with dropout="),
        (["-o", "out.txt"], "out.txt: forecasts are written to .csv and .parquet files"),
        (["-o", "nowhere/out.csv"], "nowhere/out.csv: there is no such folder"),
    ],
)
def test_options_that_do_not_fit_are_told_in_one_line(forecaster, files, options, message, capsys):
    if options[:2] == ["--steps", "7"]:
        edited(files[2][1], 7, files[2][1].read_text().splitlines()[6], "")
        edited(files[2][1], 6, files[2][1].read_text().splitlines()[5], "")
    assert main(call(forecaster, files, *options)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err


def test_other_files_are_refused_and_no_input_is_overwritten(forecaster, files, tmp_path, capsys):
    model = tmp_path / "model.cylstm"
    forecaster[0].model.save(model)
    history = str(files[2][0])
    for arguments, message in (
        ([str(model), history], "the file holds a network and no forecaster"),
        ([forecaster[1], str(tmp_path / "none.csv")], "No such file"),
        ([forecaster[1], str(tmp_path / "x.txt")], "series are read from .csv, .parquet, .npy and .npz files"),
        ([forecaster[1], history, "-o", history], "expected another file than"),
    ):
        assert main(["forecast", *arguments]) == 2
        assert message in capsys.readouterr().err
    low = cylstm.Forecaster(forecaster[0].model, features=["low", "x"], target="low", horizon=2)
    low.save(tmp_path / "low.cylstm")
    assert main(["forecast", str(tmp_path / "low.cylstm"), history]) == 2
    assert "'low' is the name of a column of the result too" in capsys.readouterr().err
    empty = tmp_path / "empty.csv"
    for text, message in (("", "expected a first line with the names"), ("load,temperature\n", "at least one line of")):
        empty.write_text(text)
        assert main(["forecast", forecaster[1], str(empty)]) == 2
        assert message in capsys.readouterr().err
