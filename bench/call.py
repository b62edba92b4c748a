"""What calling CyLSTM costs: a step by its kernels alone, through the C interface and from Python; and allocations.

A C program on the library of ``csrc/`` and this process take turns in short rounds. Allocations are counted at the C
library, Python's own included.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import _common
import numpy as np
from _programs import HERE, BuildError, build_library, build_program, run
from cells import CELLS, make_cell, positive, time_round
from peers.cylstm_ import Packed, PackedOut

KINDS = ("lstm", "gru", "rnn")
#: units of the dense layer behind the recurrent one, 0 for none
DENSE = (0, 1)
SEQUENCE = 100
#: the larger ones spend nothing to speak of on calls
SIZES = tuple(cell for cell in CELLS if cell[2] == 1 and cell[1] <= 128)
#: prints allocations per call of step(x) and step(x, out=y); Python's own small objects come from the C library too
COUNT = """
import ctypes, sys
sys.path[:0] = sys.argv[1:3]
import cells, numpy as np
from peers.cylstm_ import Packed, PackedOut
allocations = ctypes.CDLL(sys.argv[3]).bench_allocations
allocations.restype = ctypes.c_long
cell = cells.make_cell((int(sys.argv[4]), int(sys.argv[5]), 1))
for peer_type in (Packed, PackedOut):
    peer = peer_type(cell, batch=1, time=1, threads=1)
    xs = [np.full(cell.input_size, 0.01 * n, np.float32) for n in range(1000)]
    peer.repeat_step(xs)
    before = allocations()
    peer.repeat_step(xs)
    print((allocations() - before) / len(xs))
"""


@dataclass
class KernelsRow:
    """Nanoseconds of one step in each round, by the kernels alone and through the C interface."""

    kind: str
    cell: tuple[int, int, int]
    dense: int
    steps: int
    kernels_ns: list[float] = field(default_factory=list)
    c_ns: list[float] = field(default_factory=list)

    def ratio(self) -> float:
        return _common.median([c / kernels for c, kernels in zip(self.c_ns, self.kernels_ns)])


def measure_kernels(row: KernelsRow, program: Path, rounds: int, round_ms: float) -> None:
    """Fill a row: the two take turns in one process, each first in half of the rounds."""
    command = [program, row.kind, *row.cell[:2], row.dense, row.steps]
    with subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def time_of(what: str, count: int) -> float:
            print(what, count, file=process.stdin, flush=True)
            return float(process.stdout.readline().split()[0])

        count = max(2, int(round_ms * 1e6 / (time_of("kernels", 100) * row.steps)))
        for turn in range(rounds):
            for what in ("kernels", "interface") if turn % 2 else ("interface", "kernels"):
                (row.kernels_ns if what == "kernels" else row.c_ns).append(time_of(what, count))
        process.stdin.close()


def kernels_table(rows: Sequence[KernelsRow]) -> str:
    header = ["kind", "input, hidden", "dense behind", "steps in a call", "kernels, ns", "C, ns", "ratio"]
    body = []
    for row in rows:
        times = [f"{_common.median(ns):.0f} ({min(ns):.0f})" for ns in (row.kernels_ns, row.c_ns)]
        sizes = ", ".join(map(str, row.cell[:2]))
        body.append([row.kind, sizes, str(row.dense or "-"), str(row.steps), *times, f"{row.ratio():.2f}"])
    return _common.markdown_table(header, body)


@dataclass
class Row:
    """Nanoseconds of one step in each round, and its allocations."""

    cell: tuple[int, int, int]
    c_ns: list[float] = field(default_factory=list)
    out_ns: list[float] = field(default_factory=list)
    fresh_ns: list[float] = field(default_factory=list)
    predict_ns: list[float] = field(default_factory=list)
    allocations: dict[str, float] = field(default_factory=dict)


def measure(row: Row, program: Path, library: Path, rounds: int, round_ms: float, limit_s: float) -> None:
    """Fill a row."""
    input_size, hidden = row.cell[:2]
    cell = make_cell(row.cell)
    rng = np.random.default_rng(1)
    xs = [rng.uniform(-1.0, 1.0, input_size).astype(np.float32) for _ in range(100)]
    fresh, out = (peer(cell, batch=1, time=1, threads=1) for peer in (Packed, PackedOut))
    command = [str(program), "lstm", str(input_size), str(hidden), "0", "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def from_c(count: int) -> tuple[float, float]:
            print("interface", count, file=process.stdin, flush=True)
            ns, allocations = map(float, process.stdout.readline().split())
            return ns, allocations

        count = max(100, int(round_ms * 1e6 / from_c(1000)[0]) // 100 * 100)
        inputs = xs * (count // 100)
        sequences = [x[np.newaxis, np.newaxis] for x in inputs]
        end = time.monotonic() + limit_s
        for turn in range(rounds):
            if turn and time.monotonic() > end:
                break
            ns, row.allocations["C"] = from_c(count)
            row.c_ns.append(ns)
            row.out_ns.append(1e3 * time_round(out, "step", inputs)[0])
            row.fresh_ns.append(1e3 * time_round(fresh, "step", inputs)[0])
            row.predict_ns.append(1e3 * time_round(fresh, "sequence", sequences)[0])
        process.stdin.close()
    environment = os.environ | {"PYTHONMALLOC": "malloc", "LD_PRELOAD": str(library)}
    paths = [str(HERE), str(_common.ROOT)] if _common.IS_IN_PLACE else [str(HERE), str(HERE)]
    counted = run([sys.executable, "-c", COUNT, *paths, library, str(input_size), str(hidden)], env=environment)
    row.allocations["step(x)"], row.allocations["step(x, out=y)"] = map(float, counted.split())


def table(rows: Sequence[Row]) -> str:
    body = []
    for row in rows:
        c, out, fresh = (_common.median(ns) for ns in (row.c_ns, row.out_ns, row.fresh_ns))
        times = [
            f"{ns:.0f} ({min(all_ns):.0f})" for ns, all_ns in ((c, row.c_ns), (out, row.out_ns), (fresh, row.fresh_ns))
        ]
        counts = [f"{row.allocations[name]:.2f}" for name in ("C", "step(x, out=y)", "step(x)")]
        predict = f"{_common.median(row.predict_ns):.0f} ({min(row.predict_ns):.0f})"
        body.append([", ".join(map(str, row.cell)), *times, f"{out - c:.0f}", f"{fresh - c:.0f}", *counts, predict])
    header = [
        "input, hidden, layers",
        "C, ns",
        "step(x, out=y), ns",
        "step(x), ns",
        "call with out=, ns",
        "call, ns",
        "allocations in C",
        "with out=",
        "without",
        "predict(x) of one step, ns",
    ]
    return _common.markdown_table(header, body)


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if the C program cannot be built here."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=positive, help="default: 100")
    parser.add_argument("--json", metavar="FILE", help="also write everything, every round included")
    parser.add_argument("--markdown", metavar="FILE", help="also write the table into the section call of this file")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few seconds; ignore the timings")
    options = parser.parse_args(args)
    facts = _common.machine_facts()
    sizes = SIZES[:1] if options.quick else SIZES
    rows = [Row(cell) for cell in sizes]
    alone = [KernelsRow(*row) for row in itertools.product(KINDS, sizes, DENSE, (1, SEQUENCE))]
    how = (options.rounds or (3 if options.quick else 100), 0.2 if options.quick else 2.0, 5.0)
    with tempfile.TemporaryDirectory() as folder:
        try:
            program = build_program(Path(folder), "_call.c", "_count.c")
            library = build_library(Path(folder), "_count.c")
            for row in alone:
                measure_kernels(row, program, *how[:2])
            for row in rows:
                measure(row, program, library, *how)
        except BuildError as error:
            print(f"left out: {error}")
            return 1
    text = f"{_common.machine_text(facts)}.\n\n{kernels_table(alone)}\n\n{table(rows)}"
    print(text)
    if options.markdown:
        _common.write_section(options.markdown, "call", text)
    if options.json:
        _common.write_json(
            options.json,
            {"machine": facts, "kernels": [vars(row) for row in alone], "results": [vars(row) for row in rows]},
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
