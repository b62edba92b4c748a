"""How the time grows with hidden size, length, batch and threads: plots, with the machine's bound drawn in."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _bounds
import _common
from cells import Result, make_cell, measure, positive
from peers import Peer, find_peers
from peers.cylstm_ import Packed, PackedOut

#: what is compared, by the names of `Peer` classes, where installed
PEERS = ("torch", "torch cell", "onnxruntime", "litert", "litert fused")
FIXED = (8, 50, 1)
HIDDEN = (16, 32, 50, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
#: not 1: the adapters tell a sequence's result from a step's by its length
LENGTHS = (2, 5, 10, 20, 50, 100, 200, 500, 1000)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
THREAD_CELLS = ((8, 50, 1), (40, 128, 1), (128, 256, 1), (256, 512, 1))


def plots(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What each picture shows: its file's name -> title, axis, and (x, Result) in lines by label."""
    found = [peer for peer in find_peers()[0] if peer.name in PEERS]
    machine = _bounds.measure_machine(1, repeats=1 if options.quick else 25)
    rounds = (3, 200.0, 0.1) if options.quick else (options.rounds, 1000.0, options.limit_s)
    few = (lambda values: values[:2]) if options.quick else (lambda values: values)

    def row(
        mode: str, sizes: tuple[int, int, int], batch: int, peers: Sequence[type[Peer]], steps: int = 100
    ) -> Result:
        print(f"{mode}, batch {batch}, {sizes}, {steps} steps ...", file=sys.stderr)
        return measure(mode, make_cell(sizes), batch, 1, peers, *rounds, machine, steps)

    steps = [PackedOut, *found]
    sequences = [Packed, *(peer for peer in found if "sequence" in peer.modes)]
    fixed = ", ".join(map(str, FIXED[:2]))
    sizes = few([(hidden // 2, hidden, 1) for hidden in HIDDEN])
    shown = {
        "hidden": ("one step, input = hidden / 2, batch 1, 1 thread", "hidden size"),
        "length": (f"a sequence, LSTM ({fixed}), batch 1, 1 thread", "steps"),
        "batch": (f"a sequence of 100, LSTM ({fixed}), 1 thread", "batch"),
        "threads": ("cylstm: a sequence of 100, batch 1", "threads"),
    }
    rows = {
        "hidden": [(cell[1], row("step", cell, 1, steps)) for cell in sizes],
        "length": [(length, row("sequence", FIXED, 1, sequences, length)) for length in few(LENGTHS)],
        "batch": [(batch, row("sequence", FIXED, batch, sequences)) for batch in few(BATCHES)],
    }
    result = {name: {"title": shown[name][0], "x": shown[name][1], "lines": lines_of(rows[name])} for name in rows}
    result["threads"] = {"title": shown["threads"][0], "x": "threads", "lines": {}}
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    counts = sorted({1, usable} | {2**k for k in range(10) if 2**k <= usable})
    machines = {n: _bounds.measure_machine(n, repeats=1 if options.quick else 25) for n in counts}
    for cell in few(THREAD_CELLS):
        label = ", ".join(map(str, cell[:2]))
        measured = [
            (n, measure("sequence", make_cell(cell), 1, n, [Packed], *rounds, machine))
            for n, machine in machines.items()
        ]
        lines = lines_of(measured)
        result["threads"]["lines"] |= {f"{label}": lines["cylstm"], f"bound {label}": lines["bound"]}
    return result


def lines_of(rows: Sequence[tuple[int, Result]]) -> dict[str, list[tuple[int, float]]]:
    """Label -> (x, microseconds), the bound among them."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for x, row in rows:
        for name in row.rounds_us:
            lines.setdefault(name, []).append((x, _common.median(row.times(name))))
        lines.setdefault("bound", []).append((x, row.bound_us))
    return lines


def draw(path: Path, plot: dict[str, Any]) -> None:
    """One picture, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    figure, axes = pyplot.subplots(figsize=(7, 4.2), dpi=100)
    colours: dict[str, str] = {}
    for label, points in plot["lines"].items():
        x, y = zip(*points)
        if label.startswith("bound"):
            of = colours.get(label.removeprefix("bound "), "black")
            axes.plot(x, y, "--", color=of, linewidth=1.2, label=label)
        else:
            (line,) = axes.plot(
                x, y, "o-", markersize=3.5, linewidth=2.2 if label.startswith("cylstm") else 1.2, label=label
            )
            colours[label] = line.get_color()
    axes.set(xscale="log", yscale="log", xlabel=plot["x"], ylabel="microseconds", title=plot["title"])
    ticks = sorted({x for points in plot["lines"].values() for x, _ in points})
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(which="major", alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})
    pyplot.close(figure)


def main(args: Sequence[str] | None = None) -> int:
    """Measure and draw; 1 if something that it needs is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default="build/bench", help="of the pictures; default: build/bench")
    parser.add_argument("--rounds", type=positive, default=20, help="default: 20")
    parser.add_argument("--limit-s", type=float, default=0.8, help="for all the rounds of one point; default: 0.8")
    parser.add_argument("--json", metavar="FILE", help="also write the points")
    parser.add_argument("--markdown", metavar="FILE", help="also write the pictures' links into the section scaling")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few seconds; ignore the timings")
    options = parser.parse_args(args)
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        print(f"left out: {error}")
        return 1
    facts = _common.machine_facts()
    try:
        found = plots(options)
    except _bounds.ProbeError as error:
        print(f"left out: {error}")
        return 1
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    links = []
    for name, plot in found.items():
        path = folder / f"scaling-{name}.png"
        draw(path, plot)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
        where = os.path.relpath(path, Path(options.markdown).parent) if options.markdown else path.name
        links.append(f"![{plot['title']}]({Path(where).as_posix()})")
    if options.markdown:
        text = f"{_common.machine_text(facts)}. Dashed: the bound.\n\n" + "\n\n".join(links)
        _common.write_section(options.markdown, "scaling", text)
    if options.json:
        _common.write_json(options.json, {"machine": facts, "plots": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
