"""What a second thread gives (or as many as asked for): CyLSTM with one thread beside itself with several.

Bidirectional layers, stacks and batches offer work that does not wait for other work; a single layer at batch 1 only
its own blocks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict

import _common
from cells import Result, cell_text, make_cell, measure, positive
from peers import Cell
from peers.cylstm_ import Packed

#: kind, sizes, whether bidirectional, batch
ROWS = (
    ("lstm", (8, 50, 1), False, 1),
    ("lstm", (40, 128, 1), False, 1),
    ("lstm", (128, 256, 1), False, 1),
    ("lstm", (256, 512, 1), False, 1),
    ("lstm", (8, 50, 2), False, 1),
    ("lstm", (8, 32, 4), False, 1),
    ("lstm", (64, 128, 2), False, 1),
    ("lstm", (40, 256, 3), False, 1),
    ("lstm", (8, 50, 1), True, 1),
    ("lstm", (40, 128, 1), True, 1),
    ("lstm", (128, 256, 1), True, 1),
    ("lstm", (64, 128, 2), True, 1),
    ("gru", (128, 256, 1), False, 1),
    ("gru", (40, 128, 1), True, 1),
    ("lstm", (8, 50, 1), False, 32),
    ("lstm", (128, 256, 1), False, 32),
)
QUICK_ROWS = (("lstm", (5, 7, 2), False, 1), ("gru", (5, 7, 1), True, 1))


def with_threads(threads: int) -> type[Packed]:
    """CyLSTM with this number of threads, whatever the row's is."""

    class Threads(Packed):
        name = f"{threads} thread{'s' if threads > 1 else ''}"
        ratio_title = None

        def __init__(self, cell: Cell, **options: int) -> None:
            super().__init__(cell, **options | {"threads": threads})

    return Threads


def table(results: Sequence[Result], titles: Sequence[str], names: Sequence[str]) -> str:
    body = [
        [title, *(cell_text(row, name) for name in names), f"{row.ratio(names[1], names[0]):.2f}"]
        for title, row in zip(titles, results)
    ]
    return _common.markdown_table(["sequence of 100: input, hidden, layers", *names, "times faster"], body)


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if the numbers are wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=positive, default=2, help="beside one; default: 2")
    parser.add_argument("--rounds", type=positive, help="default: 40")
    parser.add_argument("--limit-s", type=float, help="for all the rounds of one row; default: 1.5")
    parser.add_argument("--json", metavar="FILE", help="also write everything, every round included")
    parser.add_argument(
        "--markdown", metavar="FILE", help="also write the table into the section parallel of this file"
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few seconds; ignore the timings")
    options = parser.parse_args(args)
    facts = _common.machine_facts()
    peers = [with_threads(1), with_threads(options.threads)]
    how = (options.rounds or (3 if options.quick else 40), 200.0 if options.quick else 4000.0, options.limit_s or 1.5)
    results, titles = [], []
    for kind, sizes, bidirectional, batch in QUICK_ROWS if options.quick else ROWS:
        cell = make_cell(sizes, kind, bidirectional)
        results.append(measure("sequence", cell, batch, options.threads, peers, *how))
        words = ["bidirectional"] * bidirectional + [kind.upper(), ", ".join(map(str, sizes))]
        titles.append(" ".join(words) + (f"; batch {batch}" if batch > 1 else ""))
    text = f"{_common.machine_text(facts)}. Microseconds, median (minimum).\n\n"
    text += table(results, titles, [peer.name for peer in peers])
    print(text)
    if options.markdown:
        _common.write_section(options.markdown, "parallel", text)
    if options.json:
        report = [asdict(row) | {"title": title} for title, row in zip(titles, results)]
        _common.write_json(options.json, {"machine": facts, "results": report})
    return 1 if any(row.refused for row in results) else 0


if __name__ == "__main__":
    sys.exit(main())
