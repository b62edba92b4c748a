"""The slowest of a million steps, and whether zeros without end are as fast as noise.

After a signal ends, the states of a network decay towards numbers so small that many CPUs compute with them a hundred
times slower. So an hour of steps of zeros, after some noise, is compared with an hour of noise.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import _common
import numpy as np
from cells import positive

from tests.builders.networks import lstm_model

PERCENTILES = (50.0, 99.0, 99.9, 99.99, 100.0)
#: features and hidden size of an LSTM
SIZES = ((5, 32), (40, 128))
#: steps a second of the hour
RATE = 100


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if zeros take more than 1.1 times as long as noise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=positive, default=1_000_000, help="default: 1000000")
    parser.add_argument("--hours", type=float, default=1.0, help="of zeros, and of noise; default: 1")
    parser.add_argument("--json", metavar="FILE", help="also write everything")
    parser.add_argument("--markdown", metavar="FILE", help="also write the tables into the section of this file")
    parser.add_argument("--section", default="long-runs")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few seconds; ignore the timings")
    options = parser.parse_args(args)
    facts = _common.machine_facts()
    count, hours = (20_000, 0.01) if options.quick else (options.steps, options.hours)
    rng, rows, decays, report, worst = np.random.default_rng(1), [], [], {}, 0.0
    for features, hidden in SIZES:
        model = lstm_model(rng, features, hidden)
        x = rng.standard_normal((1024, features), dtype=np.float32)
        stream, out, clock = model.stream(), np.empty(3, np.float32), time.perf_counter_ns
        for t in range(5000):
            stream.step(x[t % 1024], out=out)
        taken = np.empty(count, np.int64)
        rows_of_x = list(x)
        before = clock()
        for t in range(count):
            stream.step(rows_of_x[t % 1024], out=out)
            now = clock()
            taken[t] = now - before
            before = now
        found = [float(np.percentile(taken, percentile)) / 1e3 for percentile in PERCENTILES]
        name = f"LSTM {features}, {hidden}"
        rows.append([name, str(count), *map(_common.significant, found)])
        # in turns, a minute of each, so that both meet the same machine
        noise = rng.standard_normal((1, 60 * RATE, features), dtype=np.float32)
        zeros, result = np.zeros_like(noise), np.empty((1, 60 * RATE, 3), np.float32)
        streams = {"noise": model.stream(), "zeros": model.stream()}
        minutes: dict[str, list[float]] = {kind: [] for kind in streams}
        streams["zeros"].run(noise)
        for _ in range(max(2, round(60 * hours))):
            for kind, chunk in (("noise", noise), ("zeros", zeros)):
                start = time.perf_counter()
                streams[kind].run(chunk, out=result)
                minutes[kind].append(1e3 * (time.perf_counter() - start))
        medians = {kind: _common.median(times) for kind, times in minutes.items()}
        ratio = medians["zeros"] / medians["noise"]
        worst = max(worst, ratio)
        numbers = [medians["noise"], medians["zeros"], max(minutes["noise"]), max(minutes["zeros"])]
        decays.append([name, *map(_common.significant, numbers), f"{ratio:.3f}"])
        report[name] = {"steps_us": dict(zip(map(str, PERCENTILES), found)), "minutes_ms": minutes}
    header = ["step, microseconds", "steps", "p50", "p99", "p99.9", "p99.99", "longest"]
    second = [f"a minute of {60 * RATE} steps, ms", "noise", "zeros", "noise, longest", "zeros, longest", "ratio"]
    text = (
        f"{_common.machine_text(facts)}. One thread, with `out=`; each step includes reading the clock.\n\n"
        + _common.markdown_table(header, rows)
        + f"\n\nMedians of {max(2, round(60 * hours))} minutes each.\n\n"
        + _common.markdown_table(second, decays)
    )
    print(text)
    if options.markdown:
        _common.write_section(options.markdown, options.section, text)
    if options.json:
        _common.write_json(options.json, {"machine": facts, "results": report})
    return 0 if options.quick else int(worst > 1.1)


if __name__ == "__main__":
    sys.exit(main())
