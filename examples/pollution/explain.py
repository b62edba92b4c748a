"""What the multivariate network looks at before the highest peak of the test year: ``python explain.py``.

Writes pictures and a page about one forecast, and prints what its last 48 hours contributed to it. Needs matplotlib:
``pip install 'cylstm[plot]'``. The series is found as by ``demo.py``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from series import FEATURES, HERE, LEADS, SAMPLE, TEST_YEAR, Scaling, Series, find_csv, read_csv

import cylstm
from cylstm.explain import memory, occlusion, plot, report, units

#: hours that are traced and shown before the forecast, and that contributions are told of
CONTEXT, SHOWN = 7 * 24, 48
#: ages in hours that are told together, and their names
AGES = {
    "the last hour": (0, 1),
    "1 to 5 hours before": (1, 6),
    "6 to 23 hours before": (6, 24),
    "24 to 47 hours before": (24, 48),
}


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


def save(axes: object, path: Path) -> None:
    """Write the figure of some Axes."""
    from matplotlib import pyplot

    figure = (axes[0] if isinstance(axes, list) else axes).figure
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    print(f"  {path}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", help="the hourly series; default: the variable CSV, the real series, the sample")
    parser.add_argument("--lead", type=int, default=12, help="how many hours before the peak; default: %(default)s")
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
    except (OSError, ValueError) as error:
        raise SystemExit(f"cannot read the series: {error}") from None
    if path.resolve() == SAMPLE:
        print("This is the bundled SYNTHETIC sample: nothing in it was measured.\n")
    names = FEATURES["multivariate"]
    model = cylstm.load(HERE / "weights" / "multivariate.cylstm")
    scaling = Scaling.from_json(model.metadata["scaling"])
    inputs = scaling.scale(series.select("multivariate"))[np.newaxis]

    # the forecast: the network has run over the years before, so its state is not zero
    lead, peak = options.lead, find_peak(series, options.lead)
    now = peak - lead
    begin = now + 1 - CONTEXT
    state = model.predict(inputs[:, :begin], return_state=True)[1] if begin else None
    x = inputs[:, begin : now + 1]
    trace = model.trace(x, initial_state=state)
    pm25 = series.inputs[begin : now + 1, 0]
    ahead = scaling.forecast(trace.outputs[0, -1:], pm25[-1:])[0]
    came = series.target[now + 1 : now + 1 + LEADS]
    print(f"The highest PM2.5 of {TEST_YEAR} is {series.target[peak]:.0f} ug/m3, at {series.hours[peak]}.")
    print(f"{lead} hours before, at {series.hours[now]}, it is {pm25[-1]:.0f}, and the forecast {ahead[lead - 1]:.0f}.")

    # contributions to the change that is forecast, in ug/m3
    layer, head = model.graph.layers[0].name, model.graph.layer_tensors(model.graph.layers[-1])
    scale = np.array(scaling.output_scale)
    past = memory(trace, layer)
    weight = head["weight"] * scale[:, np.newaxis]
    contributions, initial, residual = (array[0, ..., lead - 1] for array in past.through(weight))
    bias, change = (float(y[lead - 1] * scale[lead - 1]) for y in (head["bias"], trace.outputs[0, -1]))
    print(f"\nWhat contributed to the change that is forecast {lead} hours ahead:\n")
    print(told_contributions(contributions, float(initial + residual), bias, change))
    least, middle, most = np.percentile(past.half_life(), [0, 50, 100])
    print(f"\nHalf of what enters a unit is gone after {least:.1f} to {most:.1f} hours, {middle:.1f} in the middle.")

    # how the forecast changes where an hour of a feature is as on average
    left_out = occlusion(model, x, (list(names), 1), 0.0, output=(-1, lead - 1), initial_state=state)
    effects = left_out.values[0][left_out.owner] * scale[lead - 1]

    # units over the whole test year
    test = np.flatnonzero(series.years() == TEST_YEAR)
    found = units(model, inputs[:, test])
    print(f"\nUnits over {TEST_YEAR}:\n\n{found}")
    spread = np.sqrt(found[layer].variance)
    still = np.argsort(spread)[:3]
    print("\nThe units that move least: " + ", ".join(f"{k} (standard deviation {spread[k]:.3f})" for k in still) + ".")

    print("\nPictures and a page:")
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    drawn = {"context": pm25, "forecast": ahead, "truth": came}
    save(
        plot.contributions(past, weight, output=lead - 1, last=SHOWN, unit="ug/m3", **drawn), out / "contributions.png"
    )
    save(plot.contributions(past, weight, last=SHOWN, unit="ug/m3"), out / "all_leads.png")
    save(plot.series(trace, pm25, forecast=ahead, truth=came, unit="ug/m3"), out / "forget_gate.png")
    save(plot.occlusion(effects[-SHOWN:], names, first=1 - SHOWN, unit="ug/m3"), out / "occlusion.png")
    save(plot.gates(trace, layer, "f"), out / "gates.png")
    save(plot.states(trace, layer), out / "cells.png")
    save(plot.saturation(found[layer]), out / "saturation.png")
    title = f"PM2.5 in Beijing, {lead} hours before the peak of {series.hours[peak]}"
    report(model, x, out / "report.html", title=title, names=names, initial_state=state)
    print(f"  {out / 'report.html'}")


if __name__ == "__main__":
    main()
