"""Look inside the multivariate network, before the highest peak of the test year and over it: ``python explain.py``.

Prints what the last 48 hours and each series contributed to one forecast, which units are unused, what it costs to go
without half of them, and how often the truth lies in 90% intervals with and without dropout; writes pictures and a page
about the forecast. Needs matplotlib: ``pip install 'cylstm[plot]'``. The series is found as by ``demo.py``.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from intervals import RATES, SAMPLES, check_years, interval_table
from prune import cost_table
from series import FEATURES, HERE, LEADS, SAMPLE, TEST_YEAR, Scaling, Series, find_csv, read_csv

import cylstm
from cylstm.explain import LayerUnits, Memory, memory, occlusion, plot, report, units

KIND = "multivariate"
#: hours that are traced and shown before the forecast, and that contributions are told of
CONTEXT, SHOWN = 7 * 24, 48
#: ages in hours that are told together, and their names
AGES = {
    "the last hour": (0, 1),
    "1 to 5 hours before": (1, 6),
    "6 to 23 hours before": (6, 24),
    "24 to 47 hours before": (24, 48),
}


@dataclass(frozen=True)
class Moment:
    """One forecast: when, of what, and what the network computed.

    Attributes
    ----------
    lead : int
        How many hours after `now` the `peak` came.
    x : ndarray of float32, shape (1, CONTEXT, 8)
        What the network read up to `now`, from `state` on, which the years before had left.
    pm25 : ndarray, (CONTEXT,)
        In ug/m3, up to `now`.
    ahead, came : ndarray, (LEADS,)
        The forecast and what was measured, in ug/m3.
    """

    lead: int
    now: int
    peak: int
    x: np.ndarray
    state: Any
    trace: cylstm.Trace
    pm25: np.ndarray
    ahead: np.ndarray
    came: np.ndarray


def forecast_peak(model: cylstm.Model, scaling: Scaling, series: Series, lead: int) -> Moment:
    """The forecast of the highest peak, so many hours before it."""
    inputs = scaling.scale(series.select(KIND))[np.newaxis]
    peak = find_peak(series, lead)
    now = peak - lead
    begin = now + 1 - CONTEXT
    state = model.predict(inputs[:, :begin], return_state=True)[1] if begin else None
    x = inputs[:, begin : now + 1]
    trace = model.trace(x, initial_state=state)
    pm25 = series.inputs[begin : now + 1, 0]
    ahead = scaling.forecast(trace.outputs[0, -1:], pm25[-1:])[0]
    return Moment(lead, now, peak, x, state, trace, pm25, ahead, series.target[now + 1 : now + 1 + LEADS])


def find_peak(series: Series, lead: int) -> int:
    """The hour of the highest PM2.5 that was measured in `TEST_YEAR` and has enough hours before it."""
    at = (series.years() == TEST_YEAR) & ~np.isnan(series.target)
    at[: CONTEXT + lead] = False
    if not at.any():
        raise SystemExit(f"expected measured hours of {TEST_YEAR} with {CONTEXT + lead} hours before them, found none")
    return int(np.argmax(np.where(at, series.target, -1.0)))


def told_contributions(past: np.ndarray, rest: float, bias: float, change: float) -> str:
    """What the ages of the past contributed to a forecast change, as a table that adds up to it.

    Parameters
    ----------
    past : ndarray
        (time,): contributions of the hours up to now.
    rest : float
        What the state before them contributed.
    """
    lines = [f"  {'':<24} {'ug/m3':>8}"]
    for name, (first, last) in AGES.items():
        lines.append(f"  {name:<24} {past[len(past) - last : len(past) - first].sum():+8.1f}")
    lines.append(f"  {'earlier':<24} {past[: len(past) - SHOWN].sum() + rest:+8.1f}")
    lines.append(f"  {'the bias of the head':<24} {bias:+8.1f}")
    lines.append(f"  {'the change forecast':<24} {change:+8.1f}")
    return "\n".join(lines)


def told_features(effects: dict[str, float]) -> str:
    """How much higher the forecast is than without a series, as a table, the largest difference first."""
    lines = [f"  {'':<24} {'ug/m3':>8}"]
    for name in sorted(effects, key=lambda name: -abs(effects[name])):
        lines.append(f"  {name:<24} {effects[name]:+8.1f}")
    return "\n".join(lines)


def print_forecast(model: cylstm.Model, scaling: Scaling, series: Series, moment: Moment) -> tuple[Memory, np.ndarray]:
    """Print what the forecast rests on.

    Returns
    -------
    past : Memory
    effects : ndarray, (CONTEXT, 8)
        How much higher the forecast is than with one number of the input at its mean, in ug/m3.
    """
    lead, names = moment.lead, FEATURES[KIND]
    print(
        f"The highest PM2.5 of {TEST_YEAR} is {series.target[moment.peak]:.0f} ug/m3, at {series.hours[moment.peak]}."
    )
    print(
        f"{lead} hours before, at {series.hours[moment.now]}, it is {moment.pm25[-1]:.0f}, "
        f"and the forecast {moment.ahead[lead - 1]:.0f}."
    )
    past = memory(moment.trace, model.graph.layers[0].name)
    contributions, initial, residual = (array[0, ..., lead - 1] for array in past.through(head_weight(model, scaling)))
    scale = scaling.output_scale[lead - 1]
    bias = model.graph.layer_tensors(model.graph.layers[-1])["bias"]
    bias_of_lead, change = (float(y[lead - 1] * scale) for y in (bias, moment.trace.outputs[0, -1]))
    print(f"\nWhat contributed to the change that is forecast {lead} hours ahead:\n")
    print(told_contributions(contributions, float(initial + residual), bias_of_lead, change))
    least, middle, most = np.percentile(past.half_life(), [0, 50, 100])
    print(f"\nHalf of what enters a unit is gone after {least:.1f} to {most:.1f} hours, {middle:.1f} in the middle.")

    given: dict[str, Any] = {"output": (-1, lead - 1), "initial_state": moment.state}
    by_name = occlusion(model, moment.x, list(names), 0.0, **given).values[0] * scale
    print(f"\nHow much higher it is than with a series at its mean of 2010 to 2013, all {CONTEXT // 24} days:\n")
    print(told_features(dict(zip(names, by_name.tolist(), strict=True))))
    left_out = occlusion(model, moment.x, (list(names), 1), 0.0, **given)
    return past, left_out.values[0][left_out.owner] * scale


def head_weight(model: cylstm.Model, scaling: Scaling) -> np.ndarray:
    """What the head makes of the LSTM's output, in ug/m3: (LEADS, units)."""
    weight: np.ndarray = model.graph.layer_tensors(model.graph.layers[-1])["weight"]
    return weight * np.array(scaling.output_scale)[:, np.newaxis]


def print_units(model: cylstm.Model, scaling: Scaling, series: Series) -> LayerUnits:
    """Print which units are of no use over `TEST_YEAR`."""
    test = np.flatnonzero(series.years() == TEST_YEAR)
    found = units(model, scaling.scale(series.select(KIND))[np.newaxis, test])
    print(f"\nUnits over {TEST_YEAR}:\n\n{found}")
    layer = found[model.graph.layers[0].name]
    spread = np.sqrt(layer.variance)
    still = np.argsort(spread)[:3]
    print("\nThe units that move least: " + ", ".join(f"{k} (standard deviation {spread[k]:.3f})" for k in still) + ".")
    return layer


def save(axes: object, path: Path) -> None:
    """Write the figure of some Axes."""
    from matplotlib import pyplot

    figure = (axes[0] if isinstance(axes, list) else axes).figure
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    print(f"  {path}")


def draw(
    model: cylstm.Model,
    scaling: Scaling,
    series: Series,
    moment: Moment,
    past: Memory,
    effects: np.ndarray,
    found: LayerUnits,
    out: Path,
) -> None:
    """Write the pictures and the page."""
    layer, weight, names = model.graph.layers[0].name, head_weight(model, scaling), FEATURES[KIND]
    out.mkdir(parents=True, exist_ok=True)
    shown: dict[str, Any] = {"last": SHOWN, "unit": "ug/m3"}
    drawn: dict[str, Any] = {"forecast": moment.ahead, "truth": moment.came}
    context = moment.pm25
    save(
        plot.contributions(past, weight, output=moment.lead - 1, context=context, **shown, **drawn),
        out / "contributions.png",
    )
    save(plot.contributions(past, weight, **shown), out / "all_leads.png")
    save(plot.series(moment.trace, context, unit="ug/m3", **drawn), out / "forget_gate.png")
    title = "the forecast less that with the number at its mean"
    save(plot.occlusion(effects[-SHOWN:], names, first=1 - SHOWN, title=title, unit="ug/m3"), out / "occlusion.png")
    save(plot.gates(moment.trace, layer, "f"), out / "gates.png")
    save(plot.states(moment.trace, layer), out / "cells.png")
    save(plot.saturation(found), out / "saturation.png")
    title = f"PM2.5 in Beijing, {moment.lead} hours before the peak of {series.hours[moment.peak]}"
    report(model, moment.x, out / "report.html", title=title, names=names, initial_state=moment.state)
    print(f"  {out / 'report.html'}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", help="the hourly series; default: the variable CSV, the real series, the sample")
    parser.add_argument("--lead", type=int, default=12, help="how many hours before the peak; default: %(default)s")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="predictions with dropout; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the dropout; default: %(default)s")
    parser.add_argument("--out", type=Path, default=HERE / "inside", help="a folder to write to; default: %(default)s")
    options = parser.parse_args(arguments)
    if not 1 <= options.lead <= LEADS:
        raise SystemExit(f"--lead: expected 1 to {LEADS}, found {options.lead}")
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("the pictures need matplotlib: pip install 'cylstm[plot]'") from None
    matplotlib.use("Agg")
    path = find_csv(options.csv)
    try:
        series = read_csv(path)
        check_years(series)
    except (OSError, ValueError) as error:
        raise SystemExit(f"cannot read the series: {error}") from None
    if path.resolve() == SAMPLE:
        print("This is the bundled SYNTHETIC sample: nothing in it was measured.\n")
    model = cylstm.load(HERE / "weights" / f"{KIND}.cylstm")
    scaling = Scaling.from_json(model.metadata["scaling"])

    moment = forecast_peak(model, scaling, series, options.lead)
    past, effects = print_forecast(model, scaling, series, moment)
    found = print_units(model, scaling, series)
    print(f"\nWithout half of the units (RMSE on {TEST_YEAR}, and how it changes):\n")
    print(cost_table(series, KIND, (0.5,)))
    print("\nWhere the truth lies. The network was trained without dropout: its rate is chosen, not learned.\n")
    print(interval_table(series, KIND, RATES, options.samples, options.seed))
    print("\nPictures and a page:")
    draw(model, scaling, series, moment, past, effects, found, options.out)


if __name__ == "__main__":
    main()
