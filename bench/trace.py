"""What a trace costs: all of it, and the hidden states alone, into reused memory and into fresh, over the prediction.

One model predicts and is traced in one process, in short rounds that take turns, on one thread, whose CPU time is
measured. The outputs are compared first: they must be the same bits. A stream's step and its trace are compared too.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import _common
import numpy as np
from cells import make_cell, positive
from peers.cylstm_ import Packed

#: input, hidden, layers
CELLS = ((1, 16, 1), (8, 50, 1), (40, 128, 1), (64, 128, 2), (128, 256, 1))
BATCHES = (1, 32)
STEPS = 100
#: what is traced, beside the prediction
WAYS = ("all, reused", "h, reused", "all, fresh")


@dataclass
class Row:
    """Microseconds of one call in each round."""

    cell: tuple[int, int, int]
    batch: int
    times_us: dict[str, list[float]] = field(default_factory=dict)
    bytes_of_step: int = 0

    def ratio(self, way: str, over: str) -> float:
        """The median of the rounds' ratios."""
        return _common.median([a / b for a, b in zip(self.times_us[way], self.times_us[over])])


def round_us(call: Callable[[], object], count: int) -> float:
    """Microseconds of CPU time of one call, of a round of so many."""
    begin = time.thread_time()
    for _ in range(count):
        call()
    return 1e6 * (time.thread_time() - begin) / count


def calls_of(row: Row) -> dict[str, Callable[[], object]]:
    """What is measured, by its name.

    Raises
    ------
    ArithmeticError
        If a trace has other outputs than the prediction or the step.
    """
    model = Packed(make_cell(row.cell), batch=1, time=1, threads=1).model
    x = np.random.default_rng(1).uniform(-1.0, 1.0, (row.batch, STEPS, row.cell[0])).astype(np.float32)
    y = model.predict(x, threads=1)
    whole, hidden = model.trace(x, threads=1), model.trace(x, what="h", threads=1)
    stream, traced = model.stream(row.batch), model.stream(row.batch)
    first = np.ascontiguousarray(x[:, 0])
    out, of_step = stream.step(first), traced.trace(first)
    for found, wanted in ((whole.outputs, y), (hidden.outputs, y), (of_step.outputs, out)):
        if not np.array_equal(found.view(np.uint32), wanted.view(np.uint32)):
            raise ArithmeticError(f"{row.cell}, batch {row.batch}: the trace has other outputs")
    row.bytes_of_step = sum(one[part].nbytes for one in whole.values() for part in one.parts) // (row.batch * STEPS)
    return {
        "predict": lambda: model.predict(x, threads=1, out=y),
        "all, reused": lambda: model.trace(x, threads=1, out=whole),
        "h, reused": lambda: model.trace(x, what="h", threads=1, out=hidden),
        "all, fresh": lambda: model.trace(x, threads=1),
        "step": lambda: stream.step(first, out=out),
        "step, all": lambda: traced.trace(first, out=of_step),
    }


def measure(row: Row, rounds: int, round_ms: float, limit_s: float) -> None:
    """Fill a row."""
    calls = calls_of(row)
    counts = {}
    for name, call in calls.items():
        call()
        counts[name] = max(1, int(1e3 * round_ms / max(round_us(call, 3), 0.1)))
        row.times_us[name] = []
    end = time.monotonic() + limit_s
    for n in range(rounds):
        if n >= 5 and time.monotonic() > end:
            break
        for name, call in calls.items():
            row.times_us[name].append(round_us(call, counts[name]))


def table(rows: Sequence[Row]) -> str:
    body = []
    for row in rows:
        ratios = [f"{row.ratio(way, 'predict'):.2f}" for way in WAYS]
        times = [_common.significant(_common.median(row.times_us[name])) for name in ("predict", "step")]
        body.append(
            [
                f"{', '.join(map(str, row.cell))}; {row.batch}",
                times[0],
                *ratios,
                times[1],
                f"{row.ratio('step, all', 'step'):.1f}",
                f"{row.bytes_of_step:,}",
            ]
        )
    header = ["input, hidden, layers; batch", "predict, us", *WAYS, "step, us", "step traced", "bytes of a step"]
    return _common.markdown_table(header, body)


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if the numbers are wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=positive, help="default: 40")
    parser.add_argument("--limit-s", type=float, default=4.0, help="for all the rounds of one row; default: 4")
    parser.add_argument("--json", metavar="FILE", help="also write everything, every round included")
    parser.add_argument("--markdown", metavar="FILE", help="also write the table into the section trace of this file")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few seconds; ignore the timings")
    options = parser.parse_args(args)
    facts = _common.machine_facts()
    rows = [Row((5, 7, 1), 3)] if options.quick else [Row(cell, batch) for cell in CELLS for batch in BATCHES]
    for row in rows:
        try:
            measure(row, options.rounds or (3 if options.quick else 40), 0.2 if options.quick else 4.0, options.limit_s)
        except ArithmeticError as error:
            print(f"refused: {error}")
            return 1
    text = (
        f"{_common.machine_text(facts)}. {STEPS} steps, one thread, medians: the prediction, and traces as multiples "
        f"of it; a step of a stream, and its trace of all as a multiple of that.\n\n{table(rows)}"
    )
    print(text)
    if options.markdown:
        _common.write_section(options.markdown, "trace", text)
    if options.json:
        _common.write_json(options.json, {"machine": facts, "results": [vars(row) for row in rows]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
