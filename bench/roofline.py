"""How near CyLSTM comes to what the machine allows: reading rates, multiply-adds, and each row's bound.

The rates are measured here, in the same run, by a small C program; `_bounds.py` says how a row's bound follows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict

import _bounds
import _common
from cells import BATCH, BATCH_CELLS, CELLS, QUICK_CELLS, Result, cell_text, make_cell, measure, positive
from peers.cylstm_ import Packed, PackedOut

import cylstm


def rows(machine: _bounds.Machine, rounds: int, round_us: float, limit_s: float, quick: bool) -> list[Result]:
    """Steps and sequences of every cell, and batches of some."""
    cells = QUICK_CELLS if quick else CELLS
    plan = [("step", 1, sizes) for sizes in cells] + [("sequence", 1, sizes) for sizes in cells]
    plan += [] if quick else [("sequence", BATCH, sizes) for sizes in BATCH_CELLS]
    how = (rounds, round_us, limit_s, machine)
    return [
        measure(mode, make_cell(sizes), batch, machine.threads, [PackedOut if mode == "step" else Packed], *how)
        for mode, batch, sizes in plan
    ]


def table(results: Sequence[Result]) -> str:
    body = []
    for row in results:
        name = next(iter(row.rounds_us))
        megabytes = _bounds.packed_bytes(make_cell(row.cell)) / 1e6
        over = [_common.median(row.times(name)) / row.bound_us, min(row.times(name)) / row.bound_us]
        what = f"{row.mode}, batch {row.batch}, {', '.join(map(str, row.cell))}"
        facts = [f"{megabytes:.3f}", cell_text(row, name), _common.significant(row.bound_us), row.bound_by]
        body.append([what, str(row.threads), *facts, *(f"{ratio:.2f}" for ratio in over)])
    header = [
        "row",
        "threads",
        "packed, MB",
        "us: median (minimum)",
        "bound, us",
        "set by",
        "time/bound",
        "minimum/bound",
    ]
    return _common.markdown_table(header, body)


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=positive, nargs="+", default=[1], help="one part for each; default: 1")
    parser.add_argument("--rounds", type=positive, help="default: 30")
    parser.add_argument("--limit-s", type=float, help="for all the rounds of one row; default: 1")
    parser.add_argument("--json", metavar="FILE", help="also write everything, every round included")
    parser.add_argument(
        "--markdown", metavar="FILE", help="also write the tables into the section roofline of this file"
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few seconds; ignore the timings")
    options = parser.parse_args(args)
    facts = _common.machine_facts()
    how = (options.rounds or (3 if options.quick else 30), 200.0 if options.quick else 2000.0, options.limit_s or 1.0)
    try:
        machines = [_bounds.measure_machine(n, repeats=1 if options.quick else 25) for n in options.threads]
    except _bounds.ProbeError as error:
        print(f"left out: {error}")
        return 1
    results = [row for machine in machines for row in rows(machine, *how, options.quick)]
    peaks = ", ".join(f"{m.multiply_adds / 1e9:.0f} with {m.threads}" for m in machines)
    parts = [
        f"{_common.machine_text(facts)}; CyLSTM uses {cylstm.engine.choose.chosen_isa()}.",
        "",
        f"Billions of float32 multiply-adds per second, by threads: {peaks}. All threads together read, "
        f"with {machines[0].vector_bytes * 8}-bit instructions:",
        "",
        _common.markdown_table(*_bounds.machine_table(machines)),
        "",
        table(results),
    ]
    print("\n".join(parts))
    if options.markdown:
        _common.write_section(options.markdown, "roofline", "\n".join(parts))
    if options.json:
        report = {"machine": facts, "speed": [asdict(m) for m in machines], "results": [asdict(r) for r in results]}
        _common.write_json(options.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
