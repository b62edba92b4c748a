"""How long one LSTM, GRU or RNN takes, beside other engines: single steps, and sequences of 100 steps.

Every engine runs the same random network in this one process, on the same number of threads. First each is checked
against the float64 reference; then they take turns in many short rounds, so that whatever disturbs the machine
disturbs all of them. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import math
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import _bounds
import _common
import numpy as np
from peers import Cell, Peer, find_peers
from peers.cylstm_ import KINDS, load

import cylstm

from tests import reference
from tests.builders import networks

CELLS = (
    (1, 16, 1),
    (8, 32, 1),
    (8, 50, 1),
    (40, 128, 1),
    (64, 128, 2),
    (128, 256, 1),
    (40, 256, 3),
    (256, 512, 1),
    (512, 1024, 1),
)
#: those whose sequences are also measured in batches of `BATCH` rows
BATCH_CELLS = ((8, 50, 1), (40, 128, 1), (64, 128, 2), (128, 256, 1), (256, 512, 1))
BATCH = 32
QUICK_CELLS = ((1, 16, 1), (5, 7, 2))
TIME = 100
#: how often a round is timed again if other processes interrupted it, and how many clean rounds suffice
ATTEMPTS = 5
ENOUGH_ROUNDS = 5
#: how many times the limit more a row may take to come to so many rounds
PATIENCE = 1
#: sequences longer than this, in microseconds, warm the caches themselves
LONG_US = 20_000.0
#: from when on, while the number of calls in an engine's round is sought, interrupted ones are good enough
CALIBRATION_S = 0.3
MODES = ("step", "sequence")


@dataclass
class Result:
    """One row of a table: a cell at one batch, by every engine.

    Attributes
    ----------
    bound_us : float or None
        What the machine allows at best (`_bounds.bound_us`), if it was measured.
    bound_by : str or None
        What sets it, "reading" or "arithmetic".
    errors : dict of str to float
        Engine -> largest difference from the float64 reference.
    refused, unsupported : dict of str to str
        Engine -> why it was not timed.
    rounds_us : dict of str to list of float
        Engine -> microseconds per call in each round.
    interrupted : dict of str to list of bool
        Engine -> whether other processes took the CPU from this one during the round, at every attempt.
    busy_before : dict of str to int
        Engine -> rounds that began while threads of the process were still busy.
    """

    mode: str
    kind: str
    cell: tuple[int, int, int]
    batch: int
    threads: int
    bound_us: float | None = None
    bound_by: str | None = None
    errors: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    unsupported: dict[str, str] = field(default_factory=dict)
    rounds_us: dict[str, list[float]] = field(default_factory=dict)
    interrupted: dict[str, list[bool]] = field(default_factory=dict)
    busy_before: dict[str, int] = field(default_factory=dict)

    def times(self, name: str) -> list[float]:
        """Microseconds of the rounds that nobody interrupted; of all, where those are too few."""
        clean = [us for us, interrupted in zip(self.rounds_us[name], self.interrupted[name]) if not interrupted]
        return clean if len(clean) >= ENOUGH_ROUNDS else self.rounds_us[name]

    def fastest_peer(self, peers: Sequence[type[Peer]]) -> str | None:
        """The float32 engine other than ours with the least median."""
        names = [peer.name for peer in peers if not peer.is_ours and peer.dtype == "float32"]
        timed = [name for name in names if name in self.rounds_us]
        return min(timed, key=lambda name: _common.median(self.times(name))) if timed else None

    def ratio(self, ours: str, other: str | None) -> float | None:
        """Median of (time of `other`) / (time of `ours`) over the rounds, as in `times` where both are clean."""
        if other is None or ours not in self.rounds_us:
            return None
        ratios = [b / a for a, b in zip(self.rounds_us[ours], self.rounds_us[other])]
        clean = [r for r, a, b in zip(ratios, self.interrupted[ours], self.interrupted[other]) if not (a or b)]
        return _common.median(clean if len(clean) >= ENOUGH_ROUNDS else ratios)


def measure(
    mode: str,
    cell: Cell,
    batch: int,
    threads: int,
    peers: Sequence[type[Peer]],
    rounds: int,
    round_us: float,
    limit_s: float,
    machine: _bounds.Machine | None = None,
    steps: int = TIME,
) -> Result:
    """Check every engine, then time those that are right, in turns, until `rounds` or `limit_s` are reached.

    A sequence has `steps` steps. With a `machine`, the row's bound is computed too.
    """
    result = Result(mode, cell.kind, (cell.input_size, cell.hidden_size, cell.layers), batch, threads)
    if machine is not None:
        result.bound_us, result.bound_by = _bounds.bound_us(machine, cell, batch, steps if mode == "sequence" else None)
    rng = np.random.default_rng(1)
    x = rng.uniform(-1.0, 1.0, (batch, steps, cell.input_size)).astype(np.float32)
    expected = expected_output(cell, x)
    timed: list[tuple[Peer, list]] = []
    for peer_type in peers:
        if mode not in peer_type.modes or cell.kind not in peer_type.kinds:
            continue
        try:
            peer = peer_type(cell, batch=batch, time=steps, threads=threads)
        except NotImplementedError as error:
            result.unsupported[peer_type.name] = str(error)
            continue
        with peer.running():
            error, inputs = check(peer, mode, x, expected)
        result.errors[peer.name] = error
        if not error <= peer.tolerance:  # NaN fails too
            result.refused[peer.name] = f"differs from the reference by {error:.2g}, more than {peer.tolerance:g}"
            continue
        timed.append((peer, calls_of(peer, mode, inputs, round_us, time.monotonic() + CALIBRATION_S)))
    for peer, _ in timed:
        result.rounds_us[peer.name], result.interrupted[peer.name] = [], []
        result.busy_before[peer.name] = 0
    end = time.monotonic() + limit_s
    for turn in range(rounds):
        if turn and time.monotonic() > end + (PATIENCE * limit_s if turn < ENOUGH_ROUNDS else 0.0):
            break
        # another one begins each time, so that nobody always follows the same neighbour's start
        for k in range(len(timed)):
            peer, inputs = timed[(turn + k) % len(timed)]
            before = result.rounds_us[peer.name]
            is_long = mode == "sequence" and bool(before) and min(before) > LONG_US
            us, is_interrupted, is_idle = quiet_round(peer, mode, inputs, end, is_long)
            result.rounds_us[peer.name].append(us)
            result.interrupted[peer.name].append(is_interrupted)
            result.busy_before[peer.name] += not is_idle
    return result


def expected_output(cell: Cell, x: np.ndarray) -> np.ndarray:
    """(batch, time, hidden) of the float64 reference, from zero states."""
    return reference.predict(load(cell).graph, x)[0][0]


def check(peer: Peer, mode: str, x: np.ndarray, expected: np.ndarray) -> tuple[float, list]:
    """The largest error over a whole sequence, and the inputs as the engine takes them."""
    if mode == "sequence":
        inputs = [peer.sequence_input(x)]
        y = peer.result(peer.sequence(inputs[0]))
    else:
        inputs = [peer.step_input(np.ascontiguousarray(x[:, t])) for t in range(x.shape[1])]
        peer.reset()
        y = np.stack([peer.result(peer.step(step)) for step in inputs], axis=1)
        peer.reset()
    if y.shape != expected.shape:
        raise ValueError(f"{peer.name}: expected a {mode} of shape {expected.shape}, found {y.shape}")
    return float(np.abs(y - expected).max()), inputs


def calls_of(peer: Peer, mode: str, inputs: list, round_us: float, end: float) -> list:
    """The inputs repeated so often that calls with all of them take about `round_us`."""
    count = 1
    while True:
        repeated = list(itertools.islice(itertools.cycle(inputs), count))
        total = quiet_round(peer, mode, repeated, end)[0] * count
        if total >= round_us / 4 or count >= 1_000_000:
            break
        count *= 2
    count = max(1, round(count * round_us / total))
    return list(itertools.islice(itertools.cycle(inputs), count))


def quiet_round(peer: Peer, mode: str, inputs: list, end: float, is_long: bool = False) -> tuple[float, bool, bool]:
    """Time a round, again if others interrupted it, until `end` of `time.monotonic` at most.

    Returns
    -------
    us : float
        Microseconds per call.
    is_interrupted : bool
        It was, at every attempt.
    is_idle : bool
        No thread of this process was busy when it began.
    """
    for _ in range(ATTEMPTS):
        is_idle = wait_until_idle()
        with peer.running():
            us, is_interrupted = time_round(peer, mode, inputs, is_long)
        if not is_interrupted or time.monotonic() > end:
            break
    return us, is_interrupted, is_idle


def time_round(peer: Peer, mode: str, inputs: list, is_long: bool = False) -> tuple[float, bool]:
    """Microseconds per call, and whether the system took the CPU away meanwhile.

    A tenth of the calls, and at least two steps or one sequence, come first, untimed, to warm the caches; unless one
    sequence is so long that it does not matter.
    """
    repeat, least = (peer.repeat_step, 2) if mode == "step" else (peer.repeat_sequence, 1)
    if not is_long:
        repeat(list(itertools.islice(itertools.cycle(inputs), max(least, len(inputs) // 10))))
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        start = time.perf_counter_ns()
        repeat(inputs)
        elapsed = time.perf_counter_ns() - start
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - switches
    finally:
        if was_enabled:
            gc.enable()
    return elapsed / len(inputs) / 1000.0, switches > 0


def wait_until_idle(limit: float = 1.0) -> bool:
    """Wait until no thread of this process is busy, at most `limit` seconds; whether it came to that.

    Thread pools spin for a while after a call, waiting for the next one: good for their own next call, and a
    disturbance for whoever comes after them. Waiting lets each engine keep its own way without harm to the others.
    """
    end = time.monotonic() + limit
    while time.monotonic() < end:
        cpu, wall = time.process_time(), time.perf_counter()
        time.sleep(0.002)
        if time.process_time() - cpu < 0.2 * (time.perf_counter() - wall):
            return True
    return False


def tables(results: Sequence[Result], peers: Sequence[type[Peer]], level: int = 3, with_errors: bool = True) -> str:
    """Markdown, with headings of `level`: times by kind, mode and batch, then the errors."""
    parts = []
    for key in dict.fromkeys((result.kind, result.mode, result.batch) for result in results):
        rows = [result for result in results if (result.kind, result.mode, result.batch) == key]
        kind, mode, batch = key
        columns = [peer for peer in peers if mode in peer.modes and kind in peer.kinds]
        per = "step" if mode == "step" else f"sequence of {TIME}"
        title = f"{kind.upper()}, microseconds per {per}, batch {batch}, threads {rows[0].threads}: median (minimum)"
        parts.append(f"{'#' * level} {title}\n\n{times_table(rows, columns)}")
        if with_errors:
            parts.append(f"Largest difference from the float64 reference:\n\n{errors_table(rows, columns)}")
    return "\n\n".join(parts)


def times_table(rows: Sequence[Result], columns: Sequence[type[Peer]]) -> str:
    """One row per cell, one column per engine, how many times longer the fastest peer takes than we, and how many times
    longer an engine takes than a variant of it."""
    ours = [peer for peer in columns if peer.ratio_title]
    variants = [peer for peer in columns if peer.beside]
    titles = [*(peer.name for peer in columns), *(peer.ratio_title for peer in ours), "fastest peer"]
    titles[-1:-1] = [f"{peer.beside} / {peer.name.removeprefix(peer.beside).strip()}" for peer in variants]
    has_bounds = any(row.bound_us is not None for row in rows)
    if has_bounds:
        titles += ["bound", "time/bound"]
    body = []
    for row in rows:
        fastest = row.fastest_peer(columns)
        cells = [cell_text(row, peer.name) for peer in columns]
        ratios = [row.ratio(peer.name, fastest) for peer in ours]
        ratios += [row.ratio(peer.name, peer.beside if peer.beside in row.rounds_us else None) for peer in variants]
        texts = ["-" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        bounds = bound_texts(row, ours[-1].name if ours else "") if has_bounds else []
        body.append([", ".join(map(str, row.cell)), *cells, *texts, fastest or "-", *bounds])
    return _common.markdown_table(["input, hidden, layers", *titles], body)


def bound_texts(row: Result, name: str) -> list[str]:
    """The bound, with a mark where arithmetic sets it, and how many times longer the engine takes."""
    if row.bound_us is None:
        return ["-", "-"]
    mark = "*" if row.bound_by == "arithmetic" else ""
    over = f"{_common.median(row.times(name)) / row.bound_us:.2f}" if name in row.rounds_us else "-"
    return [_common.significant(row.bound_us) + mark, over]


def cell_text(row: Result, name: str) -> str:
    if name in row.refused:
        return "refused"
    if name not in row.rounds_us:
        return "-"
    times = row.times(name)
    return f"{_common.significant(_common.median(times))} ({_common.significant(min(times))})"


def errors_table(rows: Sequence[Result], columns: Sequence[type[Peer]]) -> str:
    header = ["input, hidden, layers", *(peer.name for peer in columns)]
    body = [
        [
            ", ".join(map(str, row.cell)),
            *(f"{row.errors[p.name]:.1e}" if p.name in row.errors else "-" for p in columns),
        ]
        for row in rows
    ]
    return _common.markdown_table(header, body)


def summary(results: Sequence[Result], peers: Sequence[type[Peer]]) -> str:
    """Where the fastest peer was faster than we, and the largest error of every engine."""
    slower = []
    for row in results:
        names = [peer.name for peer in peers if peer.ratio_title and peer.name in row.rounds_us]
        ratios = {name: row.ratio(name, row.fastest_peer(peers)) for name in names}
        known = {name: ratio for name, ratio in ratios.items() if ratio is not None}
        best = max(known, key=known.get, default=None)
        if best is not None and known[best] < 1.0:
            slower.append(f"{where(row)} ({best} {known[best]:.2f}, {row.fastest_peer(peers)})")
    worst = {p.name: max((row.errors[p.name] for row in results if p.name in row.errors), default=None) for p in peers}
    errors = ", ".join(f"{name} {error:.1e}" for name, error in worst.items() if error is not None)
    return (
        f"Rows in which a peer was faster: {'; '.join(slower) if slower else 'none'}.\n\n"
        f"Largest differences from the float64 reference: {errors}."
    )


def where(row: Result) -> str:
    return f"{row.kind}, {row.mode}, batch {row.batch}, {', '.join(map(str, row.cell))}"


def notes(results: Sequence[Result], left_out: dict[str, str], rounds: int) -> list[str]:
    """What a reader of the tables must know besides: who is missing, who was refused, what disturbed."""
    lines = [f"left out: {name}: {reason}" for name, reason in left_out.items()]
    lacking: dict[tuple[str, str], list[str]] = {}
    for row in results:
        for refusal in row.unsupported.items():
            lacking.setdefault(refusal, []).append(where(row))
    lines += [f"not run: {name}: {reason} ({'; '.join(rows)})" for (name, reason), rows in lacking.items()]
    for row in results:
        lines += [f"REFUSED: {name} ({where(row)}): {reason}" for name, reason in row.refused.items()]
        done = max(map(len, row.rounds_us.values()), default=rounds)
        if done < rounds:
            lines.append(f"stopped: {where(row)}: after {done} of {rounds} rounds, at the limit of time")
        disturbed = []
        for name, flags in row.interrupted.items():
            many, all_rounds, busy = sum(flags), len(flags), row.busy_before[name]
            if many and all_rounds - many < ENOUGH_ROUNDS:
                disturbed.append(f"{name} {many} of {all_rounds}")
            if busy:
                disturbed.append(f"{name} {busy} begun beside busy threads")
        if disturbed:
            lines.append(f"disturbed: {where(row)}: rounds that others interrupted: {'; '.join(disturbed)}")
        beaten = [name for name in row.rounds_us if row.bound_us and min(row.times(name)) < 0.95 * row.bound_us]
        if beaten:
            lines.append(f"below the bound: {where(row)}: {', '.join(beaten)}: the machine was slower when measured")
    return lines


def report(results: Sequence[Result], peers: Sequence[type[Peer]], facts: dict[str, Any]) -> dict[str, Any]:
    """Everything, as plain data for JSON."""
    rows = []
    for row in results:
        fastest = row.fastest_peer(peers)
        ratios = {peer.name: row.ratio(peer.name, fastest) for peer in peers if peer.is_ours}
        rows.append(
            asdict(row)
            | {
                "errors": {name: error if math.isfinite(error) else None for name, error in row.errors.items()},
                "median_us": {name: _common.median(row.times(name)) for name in row.rounds_us},
                "min_us": {name: min(row.times(name)) for name in row.rounds_us},
                "fastest_peer": fastest,
                "ratio_to_fastest_peer": {name: ratio for name, ratio in ratios.items() if ratio is not None},
            }
        )
    return facts | {"time": TIME, "tolerance": {peer.name: peer.tolerance for peer in peers}, "results": rows}


def make_cell(sizes: tuple[int, int, int], kind: str = "lstm", bidirectional: bool = False) -> Cell:
    """The random network of these sizes, the same in every run."""
    input_size, hidden_size, layers = sizes
    rng = np.random.default_rng([2, *sizes])
    tensors = networks.lstm_state_dict(rng, input_size, hidden_size, layers, bidirectional, prefix="")
    rows = {"lstm": 4, "gru": 3, "rnn": 1}[kind] * hidden_size
    return Cell(*sizes, {name: tensor[:rows] for name, tensor in tensors.items()}, kind, bidirectional)


def plan(options: argparse.Namespace) -> list[tuple[str, str, int, tuple[int, int, int]]]:
    """Kind, mode, batch and sizes of every row."""
    rows = list(itertools.product(options.kinds, options.modes, options.batch or [1], options.cells or CELLS))
    if options.batch is None and "sequence" in options.modes and not options.cells:
        rows += [("lstm", "sequence", BATCH, sizes) for sizes in BATCH_CELLS if "lstm" in options.kinds]
    return rows


def cell_sizes(text: str) -> tuple[int, int, int]:
    """``8,32`` or ``64,128,2``."""
    sizes = tuple(int(part) for part in text.split(","))
    if len(sizes) == 2:
        sizes = (*sizes, 1)
    if len(sizes) != 3 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"expected input,hidden or input,hidden,layers, found {text!r}")
    return sizes


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return number


def add_round_options(parser: argparse.ArgumentParser, limit_s: float, section: str) -> None:
    """How long and how often is measured, and where the result goes."""
    parser.add_argument("--modes", choices=MODES, nargs="+", default=list(MODES), help="default: both")
    parser.add_argument("--rounds", type=positive, help="default: 50")
    parser.add_argument("--round-ms", type=float, help="about how long a round of one engine takes; default: 2")
    parser.add_argument("--limit-s", type=float, help=f"for the rounds of one row; default: {limit_s:g}")
    parser.add_argument("--json", metavar="FILE", help="also write everything, every round included")
    parser.add_argument("--markdown", metavar="FILE", help="also write the tables into the --section of this file")
    parser.add_argument("--section", metavar="NAME", help=f"default: {section}-THREADS")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few seconds; ignore the timings")


def fill_round_options(options: argparse.Namespace, limit_s: float) -> argparse.Namespace:
    """The defaults that depend on ``--quick``."""
    if options.quick:
        options.cells = options.cells or list(QUICK_CELLS)
        options.batch = options.batch or [1, 3]
    options.rounds = options.rounds or (3 if options.quick else 50)
    options.round_ms = options.round_ms or (0.2 if options.quick else 2.0)
    options.limit_s = options.limit_s or (1.0 if options.quick else limit_s)
    return options


def arguments(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--cells", type=cell_sizes, nargs="+", metavar="I,H[,L]", help="default: nine, 1,16 to 512,1024"
    )
    parser.add_argument(
        "--batch",
        type=positive,
        nargs="+",
        help=f"rows that advance together; default: 1, and {BATCH} for the sequences of some LSTM cells",
    )
    parser.add_argument("--kinds", choices=KINDS, nargs="+", default=["lstm"], help="default: lstm")
    parser.add_argument("--threads", type=positive, default=1, help="for every engine alike; default: 1")
    add_round_options(parser, 60.0, "cells")
    return fill_round_options(parser.parse_args(args), 60.0)


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if an engine was refused because its numbers are wrong."""
    options = arguments(args)
    peers, left_out = find_peers()
    peers = [peer for peer in peers if set(peer.kinds) & set(options.kinds)]
    facts: dict[str, Any] = {
        "machine": _common.machine_facts(),
        "instruction_set": cylstm.engine.choose.chosen_isa(),
        "threads": options.threads,
        "versions": {peer.name: peer.version() for peer in peers},
        "left_out": left_out,
    }
    machine = None
    try:
        machine = _bounds.measure_machine(options.threads, **({"repeats": 1} if options.quick else {}))
        facts["speed"] = asdict(machine)
    except _bounds.ProbeError as error:
        facts["left_out"] = left_out = left_out | {"the bounds": str(error)}
    results = []
    for kind, mode, batch, sizes in plan(options):
        print(f"{kind}, {mode}, batch {batch}, {','.join(map(str, sizes))} ...", file=sys.stderr)
        how = (options.rounds, options.round_ms * 1000.0, options.limit_s)
        results.append(measure(mode, make_cell(sizes, kind), batch, options.threads, peers, *how, machine))
    head = [f"{_common.machine_text(facts['machine'])}; CyLSTM uses {facts['instruction_set']}.", ""]
    head += [f"- {name}: {version}" for name, version in facts["versions"].items()]
    lines = notes(results, left_out, options.rounds)
    print("\n".join(head) + "\n\n" + tables(results, peers) + "\n\n" + summary(results, peers))
    print("".join(f"\n{line}" for line in lines))
    if options.markdown:
        parts = [*head, "", tables(results, peers, 2, with_errors=False), "", summary(results, peers), ""]
        parts += [f"- {line}" for line in lines]
        _common.write_section(options.markdown, options.section or f"cells-{options.threads}", "\n".join(parts))
    if options.json:
        _common.write_json(options.json, report(results, peers, facts))
    return 1 if any(row.refused for row in results) else 0


if __name__ == "__main__":
    sys.exit(main())
