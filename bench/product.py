"""The matrix product alone: how close its kernels get to the core's peak of multiply-adds, and to its reading rate.

A C program calls the product of an LSTM's gates, [x, h] against all their weights, and the loops that measure the peak
and the reading rate, in turns, on one thread: for a batch, and for one row beside the whole step.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import _common
from _programs import BuildError, build_program, run
from cells import BATCH, BATCH_CELLS, CELLS, make_cell, measure, positive
from peers.cylstm_ import PackedOut

import cylstm

Sizes = Sequence[tuple[int, int]]


def products(program: Path, rounds: int, rows: int, sizes: Sizes) -> tuple[list[list[float]], list[float]]:
    """For each size multiply-adds per second, best and median, bytes and bytes per second; and the peak's first two."""
    numbers = [rounds, rows, *(n for size in sizes for n in size)]
    *lines, peak = ([float(n) for n in line.split()] for line in run([program, *map(str, numbers)]).splitlines())
    return lines, peak


def batch_table(program: Path, rounds: int, sizes: Sizes) -> str:
    lines, (best, median) = products(program, rounds, BATCH, sizes)
    header = ["input, hidden", "best, G/s", "of the peak", "median, G/s", "of the median peak"]
    body = [
        [f"{i}, {h}", f"{most / 1e9:.1f}", f"{most / best:.1%}", f"{middle / 1e9:.1f}", f"{middle / median:.1%}"]
        for (i, h), (most, middle, _, _) in zip(sizes, lines)
    ]
    return _common.markdown_table(header, body)


def step_table(program: Path, rounds: int, sizes: Sizes) -> str:
    """Where a step's time goes: reading at the machine's rate, what the product takes beyond it, and the rest."""
    lines, _ = products(program, rounds, 1, sizes)
    header = ["input, hidden", "step, us", "product alone, us", "reading alone, us", "step/reading", "product/reading"]
    body = []
    for (i, h), (most, _, size, reading) in zip(sizes, lines):
        row = measure("step", make_cell((i, h, 1)), 1, 1, [PackedOut], rounds, 1000.0, 1.0, None)
        step = min(row.times(next(iter(row.rounds_us))))
        product, bound = 1e6 * 4 * h * (i + h) / most, 1e6 * size / reading
        times = [_common.significant(us) for us in (step, product, bound)]
        body.append([f"{i}, {h}", *times, f"{step / bound:.2f}", f"{product / bound:.2f}"])
    return _common.markdown_table(header, body)


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=positive, default=40, help="of 5 ms for each size; default: 40")
    parser.add_argument("--markdown", metavar="FILE", help="also write the tables into its section product")
    parser.add_argument("--json", metavar="FILE", help="also write the tables, as text")
    parser.add_argument("--quick", action="store_true", help="a smoke test; ignore the timings")
    options = parser.parse_args(args)
    facts = _common.machine_facts()
    rounds = 3 if options.quick else options.rounds
    try:
        with tempfile.TemporaryDirectory() as folder:
            # the peak is that of this machine's widest instructions
            flags = ("-O3", "-march=native", "-ffp-contract=fast")
            program = build_program(Path(folder), "_product.c", "_probe.c", flags=flags)
            batch = batch_table(program, rounds, [cell[:2] for cell in BATCH_CELLS])
            step = step_table(program, rounds, [cell[:2] for cell in CELLS if cell[2] == 1])
    except BuildError as error:
        print(f"left out: {error}")
        return 1
    parts = [
        f"{_common.machine_text(facts)}; CyLSTM uses {cylstm.engine.choose.chosen_isa()}, one thread.",
        "",
        f"Multiply-adds per second at batch {BATCH}:",
        "",
        batch,
        "",
        "One row, minima: a whole step from Python, its product called from C, and only reading as many bytes:",
        "",
        step,
    ]
    print("\n".join(parts))
    if options.markdown:
        _common.write_section(options.markdown, "product", "\n".join(parts))
    if options.json:
        _common.write_json(options.json, {"machine": facts, "batch": batch, "step": step})
    return 0


if __name__ == "__main__":
    sys.exit(main())
