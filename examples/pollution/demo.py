"""Forecast PM2.5 with the committed networks: ``make demo``, or ``make demo CSV=path`` for a file of your own.

Without a path (``--csv`` or the environment variable CSV) the demo uses the real series if
``../shared/data/beijing_pm25.csv`` exists beside the repository, and otherwise the bundled SYNTHETIC sample.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from forecaster import before_test_year, make_forecaster, table_of
from series import (
    FEATURES,
    LAGS,
    LEADS,
    SAMPLE,
    TEST_YEAR,
    Scaling,
    Series,
    find_csv,
    future,
    linear_model,
    persistence,
    read_csv,
    score_table,
    targets_in,
)

import cylstm

HERE = Path(__file__).resolve().parent


def show_forecaster(series: Series, kind: str = "multivariate") -> None:
    """Write a forecaster to a file, read it, follow the last week with it, and print what it forecasts.

    Raises
    ------
    SystemExit
        If row by row and the whole history differ in one bit.
    """
    before, first = before_test_year(series, kind)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pm25.cylstm"
        make_forecaster(kind).calibrate(before, first, coverage=0.9).save(path)
        size = path.stat().st_size
        forecaster = cylstm.Forecaster.load(path)
    table = table_of(series, kind)
    rows = series.select(kind)
    new = min(7 * 24, len(rows) // 2)
    stream = forecaster.stream()
    stream.run({name: column[:-new] for name, column in table.items()})
    nanoseconds = np.empty(new, np.int64)
    for hour, row in enumerate(rows[-new:]):
        start = time.perf_counter_ns()
        stream.step(row)
        nanoseconds[hour] = time.perf_counter_ns() - start
    followed = stream.forecast(interval=True)
    found = forecaster.forecast(table, interval=True)
    equal = all(np.array_equal(a, b) for a, b in zip(followed, found, strict=True))
    p50, p99 = np.percentile(nanoseconds, [50, 99]) / 1000
    print(f"A forecaster is one file of {size / 1000:.0f} kB: the network, its scaling and its intervals of 90%.")
    print(f"After {series.hours[-1]}, with {series.inputs[-1, 0]:.0f} ug/m3, it forecasts")
    for lead in (1, 6, 12, LEADS):
        mean, low, high = (array[lead - 1] for array in found)
        print(
            f"  {lead:2} hour{'s' if lead > 1 else ' '} ahead {mean:6.0f} ug/m3, 90% between {low:.0f} and {high:.0f}"
        )
    print(f"  {p50:.0f} us p50, {p99:.0f} us p99: an hour taken and the next {LEADS} forecast, over {new} hours")
    print(f"  hour by hour and from the whole history: {'the same bits' if equal else 'DIFFERENT BITS'}")
    if not equal:
        raise SystemExit("the ways to forecast disagree")


def numpy_lstm(model: cylstm.Model) -> Callable[[np.ndarray], np.ndarray]:
    """The same network in plain NumPy, one matrix product per layer and step: what one would write without CyLSTM."""
    lstm, dense = (
        {role: model.graph.tensors[name] for role, name in node.weights.items()} for node in model.graph.layers
    )
    weight = np.ascontiguousarray(np.concatenate([lstm["weight_ih"], lstm["weight_hh"]], axis=1))
    bias, out_weight, out_bias = lstm["bias"], dense["weight"], dense["bias"]
    features, hidden = lstm["weight_ih"].shape[1], lstm["weight_hh"].shape[1]
    joined = np.zeros(features + hidden, np.float32)
    c = np.zeros(hidden, np.float32)
    one = np.float32(1.0)

    def step(x: np.ndarray) -> np.ndarray:
        joined[:features] = x
        gates = weight @ joined + bias
        gates[: 2 * hidden] = one / (one + np.exp(-gates[: 2 * hidden]))
        gates[3 * hidden :] = one / (one + np.exp(-gates[3 * hidden :]))
        c[:] = gates[hidden : 2 * hidden] * c + gates[:hidden] * np.tanh(gates[2 * hidden : 3 * hidden])
        joined[features:] = gates[3 * hidden :] * np.tanh(c)
        return out_weight @ joined[features:] + out_bias

    return step


def race(model: cylstm.Model, inputs: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Run the stream and plain NumPy side by side, hour by hour, taking turns at going first.

    Returns
    -------
    outputs : dict of str to ndarray of float32, shape (time, LEADS)
    nanoseconds : dict of str to ndarray of int64, shape (time,)
        Of each call, the clock's own cost included.
    """
    steps = {"stream": model.stream().step, "NumPy": numpy_lstm(model)}
    outputs = {name: np.empty((len(inputs), LEADS), np.float32) for name in steps}
    nanoseconds = {name: np.empty(len(inputs), np.int64) for name in steps}
    clock = time.perf_counter_ns
    order = list(steps)
    for hour, x in enumerate(inputs):
        for name in order:
            step = steps[name]
            start = clock()
            y = step(x)
            nanoseconds[name][hour] = clock() - start
            outputs[name][hour] = y
        order.reverse()
    return outputs, nanoseconds


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two float32 arrays are equal bit for bit."""
    return a.shape == b.shape and a.dtype == b.dtype == np.float32 and np.array_equal(a.view("u4"), b.view("u4"))


def run_network(model: cylstm.Model, inputs: np.ndarray) -> np.ndarray:
    """Run over the whole series three ways, print what was found, return the outputs ``(time, LEADS)``.

    Raises
    ------
    SystemExit
        If the stream and the whole sequence differ in one bit, or NumPy differs by more than rounding.
    """
    whole = model.predict(inputs)
    outputs, nanoseconds = race(model, inputs)
    equal = same_bits(outputs["stream"], whole)
    apart = float(np.abs(outputs["NumPy"] - whole).max())
    for name, spent in nanoseconds.items():
        p50, p99 = np.percentile(spent, [50, 99]) / 1000
        print(f"  {name:<8} {p50:8.2f} us p50 {p99:8.2f} us p99   one hour, over {len(inputs):,} hours")
    print(f"  stream and whole sequence: {'the same bits' if equal else 'DIFFERENT BITS'}")
    print(f"  NumPy and stream: at most {apart:.1e} apart (outputs are about 1)")
    if not equal or apart > 1e-3:
        raise SystemExit("the ways to run one network disagree")
    return whole


def load_networks() -> dict[str, tuple[cylstm.Model, Scaling]]:
    """Every committed network with its scaling; the Keras files only where h5py is installed."""
    networks = {}
    for kind in FEATURES:
        model = cylstm.load(HERE / "weights" / f"{kind}.cylstm")
        networks[f"LSTM PyTorch, {kind}"] = model, Scaling.from_json(model.metadata["scaling"])
    try:
        import h5py  # noqa: F401
    except ImportError:
        print("The networks trained with Keras are left out: .keras files need h5py, pip install 'cylstm[keras]'.")
        return networks
    for kind in FEATURES:
        scaling = Scaling.from_json((HERE / "weights" / f"{kind}.json").read_text(encoding="utf-8"))
        networks[f"LSTM Keras, {kind}"] = cylstm.load(HERE / "weights" / f"{kind}.keras"), scaling
    return networks


def forecast_all(series: Series) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Forecasts by name, each ``(time, LEADS)`` in ug/m3, and for each network its linear model's name."""
    years = sorted({int(year) for year in series.years() if year < TEST_YEAR})
    forecasts = {"persistence": persistence(series)}
    forecasts.update({f"linear, {kind}": linear_model(series, kind, years) for kind in FEATURES})
    linear = {}
    for name, (model, scaling) in load_networks().items():
        kind = name.split(", ")[1]
        print(f"\n{name}: {model.graph.parameters():,} parameters")
        outputs = run_network(model, scaling.scale(series.select(kind)))
        forecasts[name] = scaling.forecast(outputs, series.inputs[:, 0])
        linear[name] = f"linear, {kind}"
    return forecasts, linear


def plot(series: Series, forecasts: dict[str, np.ndarray], is_sample: bool, path: Path) -> None:
    """Draw forecast against truth, 1 and 24 hours ahead, over the three most polluted weeks of `TEST_YEAR`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    truth, title = "measured", "PM2.5 in Beijing"
    if is_sample:
        truth, title = "synthetic truth", "SYNTHETIC sample, nothing in it was measured"
    scored = series.years() == TEST_YEAR
    length = min(21 * 24, int(scored.sum()))
    sums = np.convolve(np.where(scored, np.nan_to_num(series.target), 0.0), np.ones(length), "valid")
    hours = np.arange(length) + int(np.argmax(sums))
    figure, axes = plt.subplots(2, 1, figsize=(12, 7), sharex=True, sharey=True, layout="constrained")
    for axis, lead in zip(axes, (1, LEADS)):
        axis.plot(series.hours[hours], series.target[hours], color="black", linewidth=1.4, label=truth)
        for kind, color in (("linear, multivariate", "tab:orange"), ("LSTM PyTorch, multivariate", "tab:blue")):
            # A forecast is drawn at the hour that it is for, not at the hour that it was made.
            axis.plot(
                series.hours[hours], forecasts[kind][hours - lead, lead - 1], color=color, linewidth=1, label=kind
            )
        axis.set_title(f"forecast {lead} hour{'s' if lead > 1 else ''} ahead", loc="left")
        axis.set_ylabel("PM2.5, ug/m3")
        axis.grid(alpha=0.3)
    axes[0].legend(loc="upper right")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", help="the hourly series; default: the variable CSV, the real series, the sample")
    parser.add_argument("--out", type=Path, default=HERE / "forecast.png", help="where to draw; default: %(default)s")
    arguments = parser.parse_args()
    path = find_csv(arguments.csv)
    is_sample = path.resolve() == SAMPLE
    try:
        series = read_csv(path)
    except (OSError, ValueError) as error:
        raise SystemExit(f"cannot read the series: {error}") from None
    truth = np.where(targets_in(series, [TEST_YEAR]), future(series), np.nan)
    before = int((series.years() < TEST_YEAR).sum())
    if before < LAGS + LEADS or np.isnan(truth).all(axis=0).any():
        raise SystemExit(
            f"{path}: expected at least {LAGS + LEADS} hours before {TEST_YEAR} and measured hours in it, "
            f"found {before} and {int((~np.isnan(truth[:, 0])).sum())}"
        )
    print(f"CyLSTM {cylstm.__version__} on {platform.machine()}, Python {platform.python_version()}")
    print(f"{path.name}: {len(series.hours):,} hours, {series.hours[0]} to {series.hours[-1]}; {TEST_YEAR} is scored")
    if is_sample:
        print("This is the bundled SYNTHETIC sample, in which nothing was measured. It shows that the files load, that")
        print("all ways to run them agree, and how long they take. It cannot show how good the forecasts and intervals")
        print("are: errors on it say nothing about real air. The real series, UCI data set 381: make demo CSV=the.csv")
    print()
    show_forecaster(series)
    print("\nThe networks by themselves, without scaling and checks:")
    forecasts, linear = forecast_all(series)
    print(f"\nRMSE in ug/m3{', SYNTHETIC sample' if is_sample else ''}; intervals by block bootstrap over weeks\n")
    print(score_table(forecasts, linear, truth))
    if importlib.util.find_spec("matplotlib") is None:
        print("\nThe plot is left out: it needs Matplotlib.")
        return
    plot(series, forecasts, is_sample, arguments.out)
    print(f"\nForecast against truth: {arguments.out}")


if __name__ == "__main__":
    main()
