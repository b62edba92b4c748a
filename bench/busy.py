"""How long a call takes on a machine whose cores are all taken by other processes, on one thread and on several.

As many processes as there are cores compute without end. The threads of a call meet at barriers, and wait for one that
has lost its core; so the slowest calls on several threads are compared with those on one. The numbers of threads take
turns, a short while each, so that all of them meet the same machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import _common
import numpy as np
from cells import positive

from tests.builders.networks import lstm_model

PERCENTILES = (50.0, 99.0, 99.9, 100.0)
#: of an LSTM: features and hidden size of a step, and of a prediction with its number of steps
STEPS = ((40, 128), (64, 512))
PREDICTIONS = ((40, 128, 50), (64, 256, 200))

#: a process that computes without end, or until the one that made it is gone
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100_000))\n"


def step(features: int, hidden: int, threads: int) -> Callable[[], object]:
    """One step of a stream."""
    rng = np.random.default_rng(hidden)
    stream = lstm_model(rng, features, hidden).stream(threads=threads)
    x, out = rng.normal(size=features).astype(np.float32), np.empty(3, np.float32)
    return lambda: stream.step(x, out=out)


def prediction(features: int, hidden: int, steps: int, threads: int) -> Callable[[], object]:
    """A prediction of one row."""
    rng = np.random.default_rng(hidden)
    model = lstm_model(rng, features, hidden)
    x, out = rng.normal(size=(1, steps, features)).astype(np.float32), np.empty((1, steps, 3), np.float32)
    return lambda: model.predict(x, out=out, threads=threads)


def take_times(call: Callable[[], object], seconds: float, times: list[float]) -> None:
    """Microseconds of every call for so long."""
    clock = time.perf_counter
    call()  # finds its threads
    before = clock()
    end = before + seconds
    while before < end:
        call()
        now = clock()
        times.append(1e6 * (now - before))
        before = now


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if the 99.9th percentile on several threads is more than 3 times that on one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=positive, default=2, help="beside one; default: 2")
    parser.add_argument("--busy", type=int, help="how many processes compute without end; default: one for each CPU")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each row; default: 8")
    parser.add_argument("--turn", type=float, default=0.5, help="seconds of one number of threads at once")
    parser.add_argument("--only", choices=["step", "predict"], help="default: both")
    parser.add_argument("--json", metavar="FILE", help="also write everything, every call included")
    parser.add_argument("--markdown", metavar="FILE", help="also write the table into the section of this file")
    parser.add_argument("--section", default="busy")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few seconds; ignore the timings")
    options = parser.parse_args(args)
    facts = _common.machine_facts()
    calls: list[tuple[str, Callable[[int], Callable[[], object]]]] = []
    if options.only != "predict":
        calls += [
            (f"step, LSTM {features}, {hidden}", lambda threads, sizes=(features, hidden): step(*sizes, threads))
            for features, hidden in STEPS
        ]
    if options.only != "step":
        calls += [
            (f"predict, LSTM {f}, {h}, {steps} steps", lambda threads, sizes=(f, h, steps): prediction(*sizes, threads))
            for f, h, steps in PREDICTIONS
        ]
    seconds, turn = (0.1, 0.05) if options.quick else (options.seconds, options.turn)
    cpus = facts["cpus_usable"] or 1
    busy = cpus if options.busy is None else options.busy
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
    header = ["call", "threads", "calls", "p50", "p99", "p99.9", "longest", "p99.9 to one thread's"]
    rows, report, worst = [], {}, 0.0
    try:
        time.sleep(0.0 if options.quick else 0.5)
        for name, make in calls:
            numbers = (1, options.threads)
            made = {threads: make(threads) for threads in numbers}
            times: dict[int, list[float]] = {threads: [] for threads in numbers}
            for _ in range(max(1, round(seconds / turn))):
                for threads in numbers:
                    take_times(made[threads], turn, times[threads])
            high = {threads: float(np.percentile(times[threads], 99.9)) for threads in numbers}
            for threads in numbers:
                ratio = high[threads] / high[1]
                worst = max(worst, ratio)
                found = [_common.significant(float(np.percentile(times[threads], p))) for p in PERCENTILES]
                rows.append([name, str(threads), str(len(times[threads])), *found, f"{ratio:.2f}"])
            report[name] = {str(threads): times[threads] for threads in numbers}
    finally:
        for process in processes:
            process.kill()
            process.wait()
    text = (
        f"{_common.machine_text(facts)}. {busy} processes that compute without end; microseconds.\n\n"
        + _common.markdown_table(header, rows)
    )
    print(text)
    if options.markdown:
        _common.write_section(options.markdown, options.section, text)
    if options.json:
        _common.write_json(options.json, {"machine": facts, "busy": busy, "results": report})
    return 0 if options.quick else int(worst > 3.0)


if __name__ == "__main__":
    sys.exit(main())
