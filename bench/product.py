"""The matrix product alone: how near the kernel of batches comes to the core's peak of multiply-adds.

A C program calls the product of an LSTM's gates, [x, h] of a batch against all their weights, and the loop that
measures the peak, in turns, on one thread.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import _common
from _programs import BuildError, build_program, run
from cells import BATCH, BATCH_CELLS, positive

import cylstm


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=positive, default=60, help="of 5 ms for each size; default: 60")
    parser.add_argument("--markdown", metavar="FILE", help="also write the table into the section product of this file")
    parser.add_argument("--json", metavar="FILE", help="also write the figures")
    parser.add_argument("--quick", action="store_true", help="a smoke test; its figures mean nothing")
    options = parser.parse_args(args)
    facts = _common.machine_facts()
    sizes = [cell[:2] for cell in BATCH_CELLS]
    try:
        with tempfile.TemporaryDirectory() as folder:
            # the peak is that of this machine's widest instructions
            flags = ("-O3", "-march=native", "-ffp-contract=fast")
            program = build_program(Path(folder), "_product.c", "_probe.c", flags=flags)
            numbers = [3 if options.quick else options.rounds, BATCH, *(n for size in sizes for n in size)]
            lines = run([program, *map(str, numbers)]).splitlines()
    except BuildError as error:
        print(f"left out: {error}")
        return 1
    rates = [tuple(map(float, line.split())) for line in lines]
    best, median = rates.pop()
    body = [
        [
            f"{i}, {h}",
            f"{rate[0] / 1e9:.1f}",
            f"{rate[0] / best:.1%}",
            f"{rate[1] / 1e9:.1f}",
            f"{rate[1] / median:.1%}",
        ]
        for (i, h), rate in zip(sizes, rates)
    ]
    header = ["input, hidden", "best, G/s", "of the peak", "median, G/s", "of the peak"]
    parts = [
        f"{_common.machine_text(facts)}; CyLSTM uses {cylstm._engine.chosen_isa()}. Multiply-adds per second of one "
        f"thread at batch {BATCH}; the peak: {best / 1e9:.1f} G/s at best, {median / 1e9:.1f} in the median.",
        "",
        _common.markdown_table(header, body),
    ]
    print("\n".join(parts))
    if options.markdown:
        _common.write_section(options.markdown, "product", "\n".join(parts))
    if options.json:
        _common.write_json(options.json, {"machine": facts, "sizes": sizes, "rates": rates, "peak": [best, median]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
