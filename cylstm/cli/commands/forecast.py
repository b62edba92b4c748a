"""``forecast``: the steps after a history, with a forecaster's file."""

from __future__ import annotations

import argparse
import io
import os
from typing import TYPE_CHECKING, Any

from cylstm.cli.command import Command
from cylstm.errors import ArgumentError, FormatError

if TYPE_CHECKING:
    import numpy as np

    from cylstm.forecasting import Forecaster


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="model", help="a .cylstm file that Forecaster.save wrote")
    parser.add_argument("history", help="a .csv or .parquet with the columns by name, or a .npy, or .npz by name")
    parser.add_argument("--steps", type=int, metavar="N", help="how many; default: those of the network's horizon")
    parser.add_argument("--future", metavar="FILE", help="the columns that are known in advance, after the history")
    parser.add_argument(
        "--coverage", type=float, metavar="SHARE", help="give an interval that is to hold so many of the truths"
    )
    parser.add_argument(
        "--interval",
        choices=("conformal", "dropout", "both"),
        help="which interval; default with --coverage: conformal, that of Forecaster.calibrate",
    )
    parser.add_argument("--allow-gaps", action="store_true", help="forecast although rows are missing")
    parser.add_argument("-o", "--output", help="the .csv or .parquet file to write; default: text to standard output")


def _forecast(options: argparse.Namespace) -> None:
    from cylstm.cli.tables.series import check_gaps, median_step, read_series
    from cylstm.forecasting import Forecaster

    if options.steps is not None and options.steps < 1:
        raise ArgumentError(f"--steps: expected a number of at least 1, found {options.steps}")
    _check_output(options)
    forecaster = Forecaster.load(options.source)
    for name in (forecaster.target, forecaster.time):
        if name in ("step", "low", "high"):
            raise ArgumentError(f"{options.source}: {name!r} is the name of a column of the result too")
    time = forecaster.time
    also = [] if forecaster.target in forecaster.columns else [forecaster.target]
    history = read_series(options.history, forecaster.columns, also, time)
    step = None if history.times is None else median_step(history.times)
    future = None
    if options.future is not None:
        future = read_series(options.future, [], forecaster.known_features, time)
    if not options.allow_gaps:
        check_gaps(options.history, history, step)
        if future is not None and history.times is not None:
            check_gaps(options.future, future, step, history.times[-1])
    kind = options.interval or ("conformal" if options.coverage is not None else False)
    found = forecaster.forecast(
        history.columns,
        options.steps,
        None if future is None else future.columns,
        interval=kind,
        coverage=options.coverage,
    )
    arrays = dict(zip((forecaster.target, "low", "high"), found)) if kind else {forecaster.target: found}
    _write(options.output, forecaster, _times_after(history.times, len(arrays[forecaster.target])), arrays)


def _check_output(options: argparse.Namespace) -> None:
    if options.output is None:
        return
    if os.path.splitext(options.output)[1].lower() not in (".csv", ".parquet"):
        raise FormatError(f"{options.output}: forecasts are written to .csv and .parquet files")
    if not os.path.isdir(os.path.dirname(os.path.abspath(options.output))):
        raise FormatError(f"{options.output}: there is no such folder")
    for given in filter(None, (options.source, options.history, options.future)):
        there = os.path.exists(options.output) and os.path.exists(given)
        if there and os.path.samefile(given, options.output):
            raise ArgumentError(f"{options.output}: expected another file than {given}")


def _times_after(times: np.ndarray | None, steps: int) -> np.ndarray | None:
    """The times of the steps after these if they are equally far apart."""
    import numpy as np

    if times is None or len(times) < 2 or (np.diff(times) != times[1] - times[0]).any():
        return None
    found: np.ndarray = times[-1] + (times[1] - times[0]) * np.arange(1, steps + 1)
    return found


def _write(path: str | None, forecaster: Forecaster, times: np.ndarray | None, arrays: dict[str, Any]) -> None:
    import csv

    from cylstm.formats.whole_file import whole_file

    columns: dict[str, list[Any]] = {"step": list(range(1, len(arrays[forecaster.target]) + 1))}
    if times is not None:
        columns[forecaster.time or "time"] = times.tolist()
    columns |= {name: array.tolist() for name, array in arrays.items()}
    if path is not None and path.lower().endswith(".parquet"):
        from cylstm.cli.tables.parquet_table import pyarrow_of

        pyarrow, parquet = pyarrow_of(path)
        with whole_file(path) as file:
            parquet.write_table(pyarrow.table(columns), file)
    else:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        for row in zip(*columns.values()):
            writer.writerow([cell.isoformat() if hasattr(cell, "isoformat") else cell for cell in row])
        if path is None:
            print(text.getvalue(), end="")
            return
        with whole_file(path) as file:
            file.write(text.getvalue().encode("utf-8"))
    print(path)


COMMAND = Command(
    name="forecast",
    help="forecast the steps after a history, with a file of Forecaster.save",
    example="forecast load.cylstm history.csv --steps 24",
    add_arguments=_add_arguments,
    run=_forecast,
)
