"""Windows that move along: a step of ``stream(window=n)`` beside a prediction of the last n steps.

Both get the same steps in one process and take turns in short rounds. Their results are compared first: they must be
the same bits.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import _common
import numpy as np
from cells import make_cell, positive
from peers.cylstm_ import Packed
from streams import turn_us

#: input, hidden, layers
CELLS = ((1, 32, 1), (3, 32, 1), (4, 32, 1), (8, 64, 1), (40, 64, 1), (64, 128, 1), (64, 64, 2), (256, 256, 1))
BATCHES = (1, 16)
WINDOW = 24


@dataclass
class Row:
    """Microseconds of one step in each round."""

    cell: tuple[int, int, int]
    batch: int
    window: int
    step_us: list[float] = field(default_factory=list)
    predict_us: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The cost of a prediction over that of a step: the median of the rounds' ratios."""
        return _common.median([predict / step for predict, step in zip(self.predict_us, self.step_us)])


def measure(row: Row, rounds: int, round_ms: float, limit_s: float) -> None:
    """Fill a row.

    Raises
    ------
    ArithmeticError
        If a step gives other bits than the prediction of its window.
    """
    rng = np.random.default_rng(1)
    model = Packed(make_cell(row.cell), batch=1, time=1, threads=1).model
    stream = model.stream(row.batch, window=row.window)
    x = rng.uniform(-1.0, 1.0, (row.batch, 2 * row.window, row.cell[0])).astype(np.float32)
    steps = [np.ascontiguousarray(x[:, t]) for t in range(2 * row.window)]
    for t in range(2 * row.window):
        y = stream.step(steps[t])
        if t >= row.window:
            expected = model.predict(x[:, t - row.window + 1 : t + 1], threads=1)
            if not np.array_equal(y.view(np.uint32), expected.view(np.uint32)):
                raise ArithmeticError(f"{row}: step {t} differs from the prediction of its window")
    last, newest = np.ascontiguousarray(x[:, row.window :]), steps[-1]

    def one_step() -> None:
        stream.step(newest)

    def one_prediction() -> None:
        model.predict(last, threads=1)

    end = time.monotonic() + limit_s
    for n in range(rounds):
        if n >= 5 and time.monotonic() > end:
            break
        for turn, times in ((one_step, row.step_us), (one_prediction, row.predict_us)):
            turn()
            times.append(turn_us(turn, round_ms))


def table(rows: Sequence[Row]) -> str:
    def cell(times: Sequence[float]) -> str:
        return f"{_common.significant(_common.median(times))} ({_common.significant(min(times))})"

    body = [
        [
            ", ".join(map(str, row.cell)),
            str(row.batch),
            str(row.window),
            cell(row.step_us),
            cell(row.predict_us),
            f"{row.ratio:.2f}",
        ]
        for row in rows
    ]
    header = ["input, hidden, layers", "batch", "window", "step, us", "predict, us", "predict/step"]
    return _common.markdown_table(header, body)


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if the numbers are wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=positive, help="default: 60")
    parser.add_argument("--limit-s", type=float, default=1.5, help="for all the rounds of one row; default: 1.5")
    parser.add_argument("--json", metavar="FILE", help="also write everything, every round included")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few seconds; ignore the timings")
    options = parser.parse_args(args)
    facts = _common.machine_facts()
    if options.quick:
        rows = [Row((5, 7, 1), batch, 6) for batch in (1, 3)]
    else:
        rows = [Row(cell, batch, WINDOW) for cell in CELLS for batch in BATCHES]
    for row in rows:
        try:
            measure(row, options.rounds or (3 if options.quick else 60), 0.2 if options.quick else 1.5, options.limit_s)
        except ArithmeticError as error:
            print(f"refused: {error}")
            return 1
    print(f"{_common.machine_text(facts)}. One step, median (minimum).\n\n{table(rows)}")
    if options.json:
        _common.write_json(options.json, {"machine": facts, "results": [vars(row) for row in rows]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
