"""What weights of fewer bytes give: CyLSTM's types over its float32, and beside other engines' int8 and bfloat16.

Measured as in `cells`, with all engines in one process. In CyLSTM all matrices have the type of the column. Beside each
goal stands what was found, reached or not.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Sequence
from typing import Any

import _common
import cells
from cells import Result
from peers import Peer, find_peers

import cylstm

CELLS = ((8, 50, 1), (40, 128, 1), (64, 128, 2), (128, 256, 1), (256, 512, 1), (512, 1024, 1))
#: of the other kinds, steps at batch 1
KIND_CELLS = ((40, 128, 1), (128, 256, 1))
QUICK_CELLS = ((8, 50, 1),)
BASE = "cylstm float32"
HALVES, HALF = ("cylstm float16", "cylstm bfloat16"), "better half"
WIDE, NARROW = "cylstm int8a16", "cylstm int8a8"
INT8 = (WIDE, NARROW)
#: (instruction set, threads, batch) of an LSTM's step -> column -> how many times as fast as float32, by `CELLS`
GOALS: dict[tuple[str, int, int], dict[str, tuple[float, ...]]] = {
    ("avx512_vnni", 1, 1): {
        HALF: (1.2, 1.5, 1.4, 2.0, 1.8, 2.1),
        WIDE: (1.1, 2.3, 2.3, 3.5, 3.8, 4.1),
        NARROW: (1.3, 2.8, 2.8, 4.2, 4.2, 4.3),
    },
    ("avx512_vnni", 2, 1): {WIDE: (1.0, 2.0, 2.0, 2.4, 4.0, 3.6)},
    ("avx512_vnni", 1, 32): {WIDE: (1.1, 1.5, 1.6, 1.7, 1.8, 2.0)},
    ("avx2", 1, 1): {WIDE: (1.0, 1.35, 1.4, 1.8, 2.0, 2.6)},
}
#: how many times as fast as the fastest int8 of a peer that is no more exact: steps at batch 1 by `CELLS`, sequences
PEER_GOALS = (None, 3.0, 3.0, 1.7, 1.4, 1.25)
PEER_SEQUENCE_GOAL = 1.5


def goal(row: Result, isa: str, column: str) -> float | None:
    """The ratio to float32 that a column should reach, if one is set."""
    if row.kind != "lstm" or row.mode != "step" or row.cell not in CELLS:
        return None
    by_cell = GOALS.get((isa, row.threads, row.batch), {}).get(column)
    return by_cell[CELLS.index(row.cell)] if by_cell else None


def peer_goal(row: Result) -> float | None:
    """The ratio to the fastest int8 of a peer that ours should reach, if one is set."""
    if row.kind != "lstm" or row.batch != 1 or row.cell not in CELLS:
        return None
    return PEER_SEQUENCE_GOAL if row.mode == "sequence" else PEER_GOALS[CELLS.index(row.cell)]


def ratios(row: Result) -> dict[str, float]:
    """Column -> how many times as fast as float32; of the two halves also the better one."""
    found = {name: row.ratio(name, BASE) for name in (*HALVES, *INT8)}
    known = {name: ratio for name, ratio in found.items() if ratio is not None}
    halves = [known[name] for name in HALVES if name in known]
    return known | ({HALF: max(halves)} if halves else {})


def ours_beside(row: Result, peer: str) -> tuple[str, float] | None:
    """Our fastest type of an error no larger than the peer's, and how many times longer the peer takes."""
    if peer not in row.rounds_us:
        return None
    found = {name: row.ratio(name, peer) for name in (*HALVES, *INT8) if row.errors[name] <= row.errors[peer]}
    known = {name: ratio for name, ratio in found.items() if ratio is not None}
    return max(known.items(), key=lambda item: item[1]) if known else None


def fastest_int8(row: Result, peers: Sequence[type[Peer]]) -> str | None:
    """The other engine of int8 weights with the least median."""
    names = [peer.name for peer in peers if not peer.is_ours and peer.dtype == "int8" and peer.name in row.rounds_us]
    return min(names, key=lambda name: _common.median(row.times(name)), default=None)


def with_goal(ratio: float | None, wanted: float | None) -> str:
    """``2.41 (2.3)``; a goal that is not reached with ``!`` behind it."""
    if ratio is None:
        return "-"
    mark = "" if wanted is None else f" ({wanted:g})" if ratio >= wanted else f" ({wanted:g}!)"
    return f"{ratio:.2f}{mark}"


def types_table(rows: Sequence[Result], isa: str) -> str:
    """CyLSTM's types: float32's time, the ratios to it with the goals, and the errors."""
    columns = (*HALVES, HALF, *INT8)
    header = ["input, hidden, layers", "float32, us", *(name.removeprefix("cylstm ") for name in columns)]
    header += [f"error {name.removeprefix('cylstm ')}" for name in (*HALVES, *INT8)]
    body = []
    for row in rows:
        found = ratios(row)
        texts = [with_goal(found.get(name), goal(row, isa, name)) for name in columns]
        errors = [f"{row.errors[name]:.1e}" if name in row.errors else "-" for name in (*HALVES, *INT8)]
        body.append([", ".join(map(str, row.cell)), cells.cell_text(row, BASE), *texts, *errors])
    return _common.markdown_table(header, body)


def peers_table(rows: Sequence[Result], peers: Sequence[type[Peer]]) -> str:
    """The other engines: their time and error, and the ratio to our fastest type that is at least as exact."""
    others = [peer.name for peer in peers if not peer.is_ours]
    body = []
    for row in rows:
        texts = []
        for name in others:
            if name not in row.rounds_us:
                texts.append(cells.cell_text(row, name))
                continue
            beside = ours_beside(row, name)
            ratio = f"{beside[1]:.2f} {beside[0].removeprefix('cylstm ')}" if beside else "ours less exact"
            time_us = _common.significant(_common.median(row.times(name)))
            texts.append(f"{time_us}, {row.errors[name]:.1e}: {ratio}")
        fastest = fastest_int8(row, peers)
        beside = ours_beside(row, fastest) if fastest else None
        texts += [fastest or "-", with_goal(beside[1] if beside else None, peer_goal(row))]
        body.append([", ".join(map(str, row.cell)), *texts])
    return _common.markdown_table(["input, hidden, layers", *others, "fastest int8", "ratio to it"], body)


def tables(results: Sequence[Result], peers: Sequence[type[Peer]], isa: str, level: int = 3) -> str:
    """Markdown: by kind, mode and batch, a table of CyLSTM's types and one of the other engines."""
    parts = []
    for key in dict.fromkeys((row.kind, row.mode, row.batch) for row in results):
        rows = [row for row in results if (row.kind, row.mode, row.batch) == key]
        kind, mode, batch = key
        per = "step" if mode == "step" else f"sequence of {cells.TIME}"
        columns = [peer for peer in peers if mode in peer.modes and kind in peer.kinds]
        parts.append(f"{'#' * level} {kind.upper()}, {per}, batch {batch}, threads {rows[0].threads}")
        parts.append(types_table(rows, isa))
        if any(not peer.is_ours for peer in columns):
            parts.append(peers_table(rows, columns))
    return "\n\n".join(parts)


EXPLANATION = (
    "The first table of each part: CyLSTM's time with float32, how many times as fast its other types are, in brackets "
    "the goal (with ! if it was not reached), and the largest difference from the float64 reference. The second: other "
    "engines' microseconds and error, and how many times longer they take than our fastest type of fewer bytes whose "
    "error is no larger."
)


def summary(results: Sequence[Result], peers: Sequence[type[Peer]], isa: str) -> str:
    """Which goals were not reached."""
    missed, count = [], 0
    for row in results:
        found = ratios(row)
        checked = [(name, found.get(name), goal(row, isa, name)) for name in (HALF, *INT8)]
        fastest = fastest_int8(row, peers)
        beside = ours_beside(row, fastest) if fastest else None
        if fastest:
            checked.append((f"to {fastest}", beside[1] if beside else None, peer_goal(row)))
        for name, ratio, wanted in checked:
            if wanted is not None:
                count += 1
                if ratio is None or ratio < wanted:
                    value = "none" if ratio is None else f"{ratio:.2f}"
                    missed.append(f"{cells.where(row)}: {name} {value}, not {wanted:g}")
    return f"Goals: {count - len(missed)} of {count} reached. " + (f"Not: {'; '.join(missed)}." if missed else "")


def plan(options: argparse.Namespace) -> list[tuple[str, str, int, tuple[int, int, int]]]:
    """Kind, mode, batch and sizes of every row."""
    sizes = options.cells or CELLS
    rows: list[tuple[str, str, int, tuple[int, int, int]]] = []
    for mode in options.modes:
        for batch in options.batch or ([1, cells.BATCH] if mode == "step" else [1]):
            rows += [("lstm", mode, batch, cell) for cell in sizes]
    others = [kind for kind in cells.KINDS if kind != "lstm"] if "step" in options.modes else []
    return rows + [(kind, "step", 1, cell) for kind, cell in itertools.product(others, options.cells or KIND_CELLS)]


def arguments(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=cells.cell_sizes, nargs="+", metavar="I,H[,L]", help="default: six")
    parser.add_argument("--batch", type=cells.positive, nargs="+", help="default: 1, and for steps also 32")
    parser.add_argument("--threads", type=cells.positive, default=1, help="for every engine alike; default: 1")
    parser.add_argument("--isa", metavar="NAME", help="CyLSTM's instruction set; default: the best of this machine")
    parser.add_argument("--ours", action="store_true", help="without other engines")
    cells.add_round_options(parser, 4.0, "quantised")
    options = parser.parse_args(args)
    if options.quick:
        options.cells = options.cells or list(QUICK_CELLS)
    return cells.fill_round_options(options, 4.0)


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if an engine was refused because its numbers are wrong."""
    options = arguments(args)
    peers, left_out = find_peers("QUANTISED")
    if options.ours:
        peers, left_out = [peer for peer in peers if peer.is_ours], {}
    if options.isa:
        if options.isa not in cylstm.engine._engine.isa_names():
            print(f"nothing measured: this machine has no {options.isa}", file=sys.stderr)
            return 1
        os.environ["CYLSTM_ISA"] = options.isa
    isa = cylstm.engine.choose.chosen_isa()
    facts: dict[str, Any] = {
        "machine": _common.machine_facts(),
        "instruction_set": isa,
        "threads": options.threads,
        "versions": {peer.name: peer.version() for peer in peers},
        "left_out": left_out,
    }
    results = []
    for kind, mode, batch, sizes in plan(options):
        print(f"{kind}, {mode}, batch {batch}, {','.join(map(str, sizes))} ...", file=sys.stderr)
        how = (options.rounds, options.round_ms * 1000.0, options.limit_s)
        results.append(cells.measure(mode, cells.make_cell(sizes, kind), batch, options.threads, peers, *how))
    head = [f"{_common.machine_text(facts['machine'])}; CyLSTM uses {isa}.", ""]
    head += [f"- {name}: {version}" for name, version in facts["versions"].items()]
    head += ["", EXPLANATION]
    lines = cells.notes(results, left_out, options.rounds)
    end = summary(results, peers, isa)
    print("\n".join(head) + "\n\n" + tables(results, peers, isa) + "\n\n" + end)
    print("".join(f"\n{line}" for line in lines))
    if options.markdown:
        parts = [*head, "", tables(results, peers, isa, 2), "", end, "", *(f"- {line}" for line in lines)]
        _common.write_section(options.markdown, options.section or f"quantised-{options.threads}", "\n".join(parts))
    if options.json:
        _common.write_json(options.json, cells.report(results, peers, facts))
    return 1 if any(row.refused for row in results) else 0


if __name__ == "__main__":
    sys.exit(main())
