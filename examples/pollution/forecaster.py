"""The committed networks as forecasters, with intervals and a backtest: ``python forecaster.py --save pm25.cylstm``.

The intervals are calibrated on the year before `TEST_YEAR` and scored in it. The networks were trained on the years
before too, so the calibration set is not new to them: their intervals are a little too narrow for that. Needs NumPy
alone. The series is found as by ``demo.py``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from series import FEATURES, HERE, LEADS, SAMPLE, TEST_YEAR, Scaling, Series, find_csv, read_csv

import cylstm

#: hours of history before the first forecast
CONTEXT = 10 * 24


def make_forecaster(kind: str, dropout: float = 0.0) -> cylstm.Forecaster:
    """A committed network with the scaling that its file keeps as text: it forecasts scaled changes of PM2.5.

    With `dropout` it forecasts with this share of the LSTM's state dropped too, one mask for a whole sample.
    """
    model = cylstm.load(HERE / "weights" / f"{kind}.cylstm")
    scaling = Scaling.from_json(model.metadata["scaling"])
    scalers = {
        name: [*(["log1p"] if bend == "log1p" else []), {"kind": "standard", "mean": mean, "std": std}]
        for name, bend, mean, std in zip(scaling.features, scaling.bend, scaling.mean, scaling.std, strict=True)
    }
    return cylstm.Forecaster(
        model,
        features=scaling.features,
        target="pm2.5",
        scaling=scalers,
        target_scaling={"kind": "standard", "mean": 0.0, "std": list(scaling.output_scale)},
        change=True,
        limits=(0.0, None),
        horizon=LEADS,
        units={"pm2.5": "ug/m3"},
        time="hour",
        dropout=None if not dropout else {"rates": {"lstm.l0": {"recurrent_dropout": dropout, "masks": "sequence"}}},
    )


def table_of(series: Series, kind: str) -> dict[str, np.ndarray]:
    """The columns that a network reads, by name, and the hours."""
    return dict(zip(FEATURES[kind], series.select(kind).T, strict=True)) | {"hour": series.hours}


def before_test_year(series: Series, kind: str) -> tuple[dict[str, np.ndarray], int]:
    """The table up to `TEST_YEAR`, and the row of the year before from which on intervals are calibrated.

    Raises
    ------
    SystemExit
        If the series has not enough of both years.
    """
    years = series.years()
    rows = np.flatnonzero((years == TEST_YEAR - 1) & (np.arange(len(years)) >= CONTEXT))
    if not len(rows) or years[-1] < TEST_YEAR:
        raise SystemExit(f"expected {CONTEXT} hours before {TEST_YEAR}, hours of {TEST_YEAR - 1} after them, and of it")
    return {name: column[: rows[-1] + 1] for name, column in table_of(series, kind).items()}, int(rows[0])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", help="the hourly series; default: the variable CSV, the real series, the sample")
    parser.add_argument("--kind", choices=FEATURES, default="multivariate", help="default: %(default)s")
    parser.add_argument(
        "--dropout", type=float, default=0.0, metavar="RATE", help="measure intervals with dropout too, in a minute"
    )
    parser.add_argument("--save", type=Path, help="write the calibrated forecaster to this .cylstm file")
    given = parser.parse_args(arguments)
    path = find_csv(given.csv)
    series = read_csv(path)
    if path.resolve() == SAMPLE:
        print("This is the bundled SYNTHETIC sample: its errors say nothing about forecasts of real air.")
    table = table_of(series, given.kind)
    before, first = before_test_year(series, given.kind)
    forecaster = make_forecaster(given.kind, given.dropout).calibrate(before, first, coverage=0.9)
    print(f"Intervals of 90%, calibrated on {TEST_YEAR - 1}:")
    print(forecaster.evaluate(table, f"{TEST_YEAR}-01-01", season=24, block=168))
    print("\nIntervals that adapt:")
    print(forecaster.evaluate(table, f"{TEST_YEAR}-01-01", season=24, block=168, adapt=0.01))
    if given.dropout:
        forecaster = forecaster.calibrate(before, first, coverage=0.9, interval="both")
        for kind, title in {
            "dropout": "Intervals between quantiles of 100 forecasts with dropout",
            "both": f"Intervals as wide as these are apart, calibrated on {TEST_YEAR - 1}",
        }.items():
            print(f"\n{title}, rate {given.dropout:g}:")
            print(forecaster.evaluate(table, f"{TEST_YEAR}-01-01", season=24, block=168, interval=kind))
    if given.save:
        forecaster.save(given.save)
        print(f"\nWritten: {given.save}")


if __name__ == "__main__":
    main()
