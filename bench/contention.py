"""How long a call takes where several Python threads predict at once, each on several threads of its own.

The callers share one model. What a call waits for shows in its slowest calls: the median and the 99th, 99.9th
percentile and maximum of all, beside those of one caller alone and of callers on one thread each. In the last row the
callers hand their calls to a pool of as many threads as there are cores, and wait for them.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import _common
import numpy as np
from cells import cell_sizes, make_cell, positive
from peers.cylstm_ import load

import cylstm

PERCENTILES = (50.0, 99.0, 99.9, 100.0)


@dataclass
class Row:
    """Some callers at once.

    Attributes
    ----------
    steps : tuple of int
        Of the sequence that each caller predicts again and again.
    threads : int or None
        Of each call; None: the default, which the package chooses.
    pool : int
        How many threads call for all callers; 0: each caller calls by itself.
    times_us : list of float
        Of all calls of the callers with the fewest steps.
    """

    steps: tuple[int, ...]
    threads: int | None
    pool: int
    times_us: list[float]

    @property
    def threads_text(self) -> str:
        """Of each call, and of the pool."""
        text = "default" if self.threads is None else str(self.threads)
        return f"{text}, in a pool of {self.pool}" if self.pool else text

    def __str__(self) -> str:
        counts = {steps: self.steps.count(steps) for steps in sorted(set(self.steps))}
        return " and ".join(f"{count} of {steps} steps" for steps, count in counts.items())


def measure(model: cylstm.Model, row: Row, seconds: float) -> None:
    """Run the callers for so long, and keep the times of those whose calls are shortest."""
    features = model.graph.values[model.inputs[0]].shape[-1]
    start = threading.Barrier(len(row.steps))
    found: list[list[float]] = [[] for _ in row.steps]

    pool = ThreadPoolExecutor(row.pool) if row.pool else None

    def call(x: np.ndarray) -> object:
        if pool is None:
            return model.predict(x, threads=row.threads)
        return pool.submit(model.predict, x, threads=row.threads).result()

    def predict(index: int) -> None:
        x = np.random.default_rng(index).normal(size=(1, row.steps[index], features)).astype(np.float32)
        call(x)
        start.wait()
        end = time.perf_counter() + seconds
        before = time.perf_counter()
        while before < end:
            call(x)
            now = time.perf_counter()
            found[index].append(1e6 * (now - before))
            before = now

    callers = [threading.Thread(target=predict, args=(index,)) for index in range(len(row.steps))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    if pool is not None:
        pool.shutdown()
    row.times_us = [us for steps, times in zip(row.steps, found) if steps == min(row.steps) for us in times]


def table(rows: Sequence[Row]) -> str:
    header = ["callers", "threads of a call", "calls", "p50", "p99", "p99.9", "longest"]
    body = [
        [
            str(row),
            ("default" if row.threads is None else str(row.threads))
            + (f", in a pool of {row.pool}" if row.pool else ""),
            str(len(row.times_us)),
            *(_common.significant(np.percentile(row.times_us, percentile)) for percentile in PERCENTILES),
        ]
        for row in rows
    ]
    return _common.markdown_table(header, body)


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", type=cell_sizes, default=(40, 128, 1), metavar="I,H[,L]", help="default: 40,128")
    parser.add_argument("--callers", type=positive, default=4)
    parser.add_argument("--many-callers", type=positive, default=32, help="far more than there are cores; default: 32")
    parser.add_argument("--threads", type=positive, default=2, help="of each call; default: 2")
    parser.add_argument("--steps", type=positive, default=50, help="of a sequence; default: 50")
    parser.add_argument("--long-steps", type=positive, default=5000, help="of one caller beside the others")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each row; default: 10")
    parser.add_argument("--json", metavar="FILE", help="also write everything, every call included")
    parser.add_argument("--markdown", metavar="FILE", help="also write the table into the section of this file")
    parser.add_argument("--section", default="contention")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few seconds; ignore the timings")
    options = parser.parse_args(args)
    facts = _common.machine_facts()
    model = load(make_cell(options.cell))
    short, long = options.steps, options.long_steps
    callers = [
        ((short,), options.threads),
        ((short,) * options.callers, options.threads),
        ((short,) * options.callers, 1),
        ((short,) * (options.callers - 1) + (long,), options.threads),
        ((short,), None),
        ((short,) * options.many_callers, 1),
        ((short,) * options.many_callers, None),
    ]
    rows = [Row(steps, threads, 0, []) for steps, threads in callers]
    rows.append(Row((short,) * options.many_callers, 1, facts["cpus_usable"], []))
    for row in rows:
        measure(model, row, 0.2 if options.quick else options.seconds)
    sizes = ", ".join(map(str, options.cell))
    text = (
        f"{_common.machine_text(facts)}. LSTM {sizes}, batch 1, microseconds of the calls with the fewest steps.\n\n"
        + table(rows)
    )
    print(text)
    if options.markdown:
        _common.write_section(options.markdown, options.section, text)
    if options.json:
        _common.write_json(options.json, {"machine": facts, "results": [vars(row) for row in rows]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
