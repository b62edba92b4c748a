"""Many streams in one: a stream of many rows beside as many streams of one row, with all or some of them active.

Both get the same x of every user at every turn, in one process, and take turns in short rounds. Their results are
compared first: they must be the same bits. A second table has streams of one row whose layers have windows over time.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import _common
import numpy as np
from cells import make_cell, positive
from peers.cylstm_ import Packed

import cylstm
from cylstm.graph.builder import GraphBuilder

#: input, hidden, layers
CELLS = ((8, 50, 1), (40, 128, 1), (64, 128, 2), (128, 256, 1), (256, 512, 1))
ROWS = (8, 64)
#: how many of 64 rows are active
ACTIVE = (64, 48, 32, 16, 8, 1)
#: layers, and the steps of a call
WINDOWS = (
    ("lstm", None),
    ("conv 3, lstm", None),
    ("lstm", 4),
    ("conv 3 stride 2, lstm", 2),
    ("conv 3, max pool 4, lstm", 4),
)


@dataclass
class Row:
    """Microseconds of one turn of all active users in each round."""

    cell: tuple[int, int, int]
    batch: int
    active: int
    many_us: list[float] = field(default_factory=list)
    separate_us: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The cost of one stream over that of separate ones: the median of the rounds' ratios."""
        return _common.median([many / separate for many, separate in zip(self.many_us, self.separate_us)])


def turn_us(turn: Callable[[], None], round_ms: float) -> float:
    """Microseconds of one turn, of a round of about this length; again, up to 20 times, if the CPU went to others."""
    begin = time.perf_counter()
    turn()
    count = max(1, int(round_ms / 1e3 / (time.perf_counter() - begin)))
    for _ in range(20):
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        begin = time.perf_counter()
        for _ in range(count):
            turn()
        us = 1e6 * (time.perf_counter() - begin) / count
        if resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw == switches:
            break
    return us


def measure(row: Row, rounds: int, round_ms: float, limit_s: float) -> None:
    """Fill a row.

    Raises
    ------
    ArithmeticError
        If the stream of many rows gives other bits than the separate ones.
    """
    rng = np.random.default_rng(1)
    model = Packed(make_cell(row.cell), batch=1, time=1, threads=1).model
    many, separate = model.stream(row.batch), [model.stream() for _ in range(row.batch)]
    x = rng.uniform(-1.0, 1.0, (row.batch, row.cell[0])).astype(np.float32)
    active = np.zeros(row.batch, bool)
    active[rng.permutation(row.batch)[: row.active]] = True
    users = [(separate[n], x[n]) for n in np.flatnonzero(active)]

    def one_call() -> None:
        many.step(x, active=active)

    def many_calls() -> None:
        for stream, x_n in users:
            stream.step(x_n)

    for _ in range(3):
        y, expected = many.step(x, active=active), np.stack([stream.step(x_n) for stream, x_n in users])
        if not np.array_equal(y[active].view(np.uint32), expected.view(np.uint32)) or y[~active].any():
            raise ArithmeticError(f"{row}: the rows differ from streams of their own")
    end = time.monotonic() + limit_s
    for n in range(rounds):
        if n >= 5 and time.monotonic() > end:
            break
        for turn, times in ((one_call, row.many_us), (many_calls, row.separate_us)):
            turn()
            times.append(turn_us(turn, round_ms))


@dataclass
class Windows:
    """A layer over time with an LSTM of 16 units behind it, and how many steps a call takes; None: `step`.

    Microseconds of a call in each round: after the warm-up, and of one that the general way of Python reads, because
    its x is a list.
    """

    layers: str
    chunk: int | None
    us: list[float] = field(default_factory=list)
    general_us: list[float] = field(default_factory=list)


def windows_model(layers: str) -> cylstm.Model:
    """A convolution of 3 steps before the LSTM, or none, and what else `layers` says."""
    rng = np.random.default_rng(1)

    def weight(*shape: int) -> np.ndarray:
        return rng.uniform(-0.3, 0.3, shape).astype(np.float32)

    builder, size = GraphBuilder(), 8
    x = builder.input("x", (None, size))
    if "conv" in layers:
        options = {"stride": 2 if "stride 2" in layers else 1}
        x = builder.add("conv1d", "conv", {"x": x}, {"weight": weight(16, 3, 8), "bias": weight(16)}, options)["y"]
        size = 16
    if "pool 4" in layers:
        x = builder.add("pool1d", "pool", {"x": x}, options={"pool": 4, "stride": 4})["y"]
    weights = {"weight_ih": weight(64, size), "weight_hh": weight(64, 16), "bias": weight(64)}
    builder.output(builder.add("lstm", "lstm", {"x": x}, weights)["y"])
    return cylstm.Model(builder.build())


def measure_windows(row: Windows, rounds: int, round_ms: float) -> None:
    """Fill a row."""
    stream = windows_model(row.layers).stream()
    x = np.linspace(-1.0, 1.0, 8 * (row.chunk or 1), dtype=np.float32).reshape(*([row.chunk] if row.chunk else []), 8)
    given, call = x.tolist(), stream.run if row.chunk else stream.step
    while stream.steps[0] < stream.warm_up:
        call(x)
    for _ in range(rounds):
        row.us.append(turn_us(lambda: call(x), round_ms))
        row.general_us.append(turn_us(lambda: call(given), round_ms))


def windows_table(rows: Sequence[Windows]) -> str:
    body = []
    for row in rows:
        times = [
            f"{_common.significant(_common.median(us))} ({_common.significant(min(us))})"
            for us in (row.us, row.general_us)
        ]
        body.append([row.layers, f"run of {row.chunk}" if row.chunk else "step", *times])
    return _common.markdown_table(["layers", "call", "arrays, us", "lists, us"], body)


def table(rows: Sequence[Row]) -> str:
    def cell(times: Sequence[float]) -> str:
        return f"{_common.significant(_common.median(times))} ({_common.significant(min(times))})"

    body = [
        [
            ", ".join(map(str, row.cell)),
            f"{row.active} of {row.batch}",
            cell(row.many_us),
            cell(row.separate_us),
            f"{row.ratio:.2f}",
        ]
        for row in rows
    ]
    header = ["input, hidden, layers", "active", "one stream, us", "separate streams, us", "one/separate"]
    return _common.markdown_table(header, body)


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if the numbers are wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=positive, help="default: 60")
    parser.add_argument("--limit-s", type=float, default=1.5, help="for all the rounds of one row; default: 1.5")
    parser.add_argument("--json", metavar="FILE", help="also write everything, every round included")
    parser.add_argument("--markdown", metavar="FILE", help="also write the table into the section streams of this file")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few seconds; ignore the timings")
    options = parser.parse_args(args)
    facts = _common.machine_facts()
    if options.quick:
        rows = [Row((5, 7, 1), 6, active) for active in (6, 3)]
    else:
        rows = [Row(cell, batch, batch) for cell in CELLS for batch in ROWS]
        rows += [Row((40, 128, 1), 64, active) for active in ACTIVE[1:]]
    for row in rows:
        try:
            measure(row, options.rounds or (3 if options.quick else 60), 0.2 if options.quick else 1.5, options.limit_s)
        except ArithmeticError as error:
            print(f"refused: {error}")
            return 1
    windows = [Windows(layers, chunk) for layers, chunk in (WINDOWS[1:2] if options.quick else WINDOWS)]
    for window in windows:
        measure_windows(window, options.rounds or (3 if options.quick else 30), 0.2 if options.quick else 1.5)
    text = (
        f"{_common.machine_text(facts)}. One turn of the active users, median (minimum).\n\n{table(rows)}\n\n"
        f"A call of one stream after its warm-up, median (minimum).\n\n{windows_table(windows)}"
    )
    print(text)
    if options.markdown:
        _common.write_section(options.markdown, "streams", text)
    if options.json:
        _common.write_json(
            options.json,
            {"machine": facts, "results": [vars(row) for row in rows], "windows": [vars(row) for row in windows]},
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
