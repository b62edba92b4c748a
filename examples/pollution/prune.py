"""Take units out of the committed networks, and score what is left: ``python prune.py --csv path``.

The units are ranked on 2010 to 2013, and the forecasts scored on 2014, as in the demo. Without a path the bundled
SYNTHETIC sample is read, on which errors say nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from recipe import FOLDER, TRAIN_YEARS
from series import (
    REAL,
    SAMPLE,
    SCORED,
    TEST_YEAR,
    Scaling,
    Series,
    bootstrap_difference,
    future,
    read_csv,
    rmse,
    targets_in,
)

import cylstm
from cylstm.explain import UnitReport, units

#: which shares of the units go; the kernels compute 16 units at a time, so a quarter makes little faster
FRACTIONS = (0.25, 0.5, 0.75)


def prune_table(series: Series, kind: str) -> str:
    """The units of one network, and its size, speed and errors with fewer of them."""
    model, inputs = _network(series, kind)
    train = inputs[np.isin(series.years(), TRAIN_YEARS)]
    report = units(model, train[None])
    return f"{kind}, {len(train):,} hours\n{report}\n\n{cost_table(series, kind, FRACTIONS, report)}"


def cost_table(series: Series, kind: str, fractions: Sequence[float], report: UnitReport | None = None) -> str:
    """Size, speed and errors on `TEST_YEAR` of one network without shares of its units.

    Parameters
    ----------
    fractions : sequence of float
        Which shares go, ranked on `TRAIN_YEARS`.
    report : UnitReport, optional
        A line of its own has the network without the units that are of no use.
    """
    model, inputs = _network(series, kind)
    train = inputs[np.isin(series.years(), TRAIN_YEARS)][None]
    scaling = Scaling.from_json(model.metadata["scaling"])
    last_known = series.inputs[:, 0]
    truth = np.where(targets_in(series, [TEST_YEAR]), future(series), np.nan)
    smaller = {} if report is None else {"unused": model.prune(report, data=train)}
    for fraction in fractions:
        smaller[f"{fraction:.0%}"] = model.prune(fraction=fraction, data=train)
    lines = [
        f"{'units removed':<14} {'left':>4} {'bytes':>7} {'speed':>5}  {'error, rms':>10}  "
        + "  ".join(f"{f'RMSE {ahead}, 95% interval':<28}" for ahead in SCORED).rstrip()
    ]
    full = scaling.forecast(model.predict(inputs), last_known)
    size = (
        f"{'none':<14} {model.graph.values['lstm.l0'].features:>4} {model._packed.nbytes:>7,} {1.0:>5.2f}  {'':>10}  "
    )
    scores = [f"{rmse(full[:, leads], truth[:, leads]):.2f}" for leads in SCORED.values()]
    lines.append(size + "  ".join(f"{score:<28}" for score in scores).rstrip())
    for name, one in smaller.items():
        told = one.pruning
        assert told is not None
        forecast = scaling.forecast(one.predict(inputs), last_known)
        scores = []
        for leads in SCORED.values():
            low, high = bootstrap_difference(forecast[:, leads], full[:, leads], truth[:, leads])
            scores.append(f"{rmse(forecast[:, leads], truth[:, leads]):.2f} [{low:+.2f}, {high:+.2f}]")
        lines.append(
            f"{name:<14} {len(told['lstm.l0'].remaining):>4} {told.bytes_after:>7,} {told.speed:>5.2f}  "
            f"{told.error_rms:>10.4f}  " + "  ".join(f"{score:<28}" for score in scores).rstrip()
        )
    return "\n".join(lines)


def _network(series: Series, kind: str) -> tuple[cylstm.Model, np.ndarray]:
    """A committed network, and the whole series as it reads it."""
    model = cylstm.load(FOLDER / f"{kind}.cylstm")
    return model, Scaling.from_json(model.metadata["scaling"]).scale(series.select(kind))


def main() -> None:
    """The tables of both networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--csv", type=Path, default=REAL if REAL.exists() else SAMPLE)
    path = parser.parse_args().csv.resolve()
    if path == SAMPLE:
        print("SYNTHETIC sample: errors say nothing about forecasts of real air")
    series = read_csv(path)
    for kind in ("univariate", "multivariate"):
        print(prune_table(series, kind), end="\n\n")


if __name__ == "__main__":
    main()
