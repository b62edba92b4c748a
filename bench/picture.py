"""The picture of README.md: one LSTM step in CyLSTM and in the other engines, from the table that results/ keeps."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import _common
import summary

PICTURE = summary.RESULTS / "step.svg"
WIDTH, HEIGHT = 720, 340
LEFT, RIGHT, TOP, BOTTOM = 190, 660, 44, 290
GAP = 15  # between labels


def times_of(rows: Sequence[Mapping[str, str]]) -> dict[str, list[float]]:
    """Engine -> microseconds of a step, by size; the fastest form of an engine counts."""
    shown = [row for row in rows if row["input, hidden, layers"] in summary.SMALL]
    found: dict[str, list[float]] = {"CyLSTM": [summary.median(row["cylstm"]) for row in shown]}
    for engine in dict.fromkeys(summary.ENGINES.values()):
        columns = [name for name, of in summary.ENGINES.items() if of == engine]
        found[engine] = [
            min(summary.median(row[name]) for name in columns if row.get(name, "-") != "-") for row in shown
        ]
    return found


def apart(places: Mapping[str, float]) -> dict[str, float]:
    """The heights of labels, none of which lies on another."""
    found: dict[str, float] = {}
    for name in sorted(places, key=places.__getitem__):
        found[name] = max(places[name], max(found.values(), default=-math.inf) + GAP)
    return found


def picture(times: Mapping[str, Sequence[float]], sizes: Sequence[str], facts: str) -> str:
    """The SVG, with a logarithmic axis of time."""
    low = math.floor(math.log10(min(map(min, times.values()))))
    high = math.log10(max(map(max, times.values()))) + 0.1

    def y(value: float) -> float:
        return round(BOTTOM - (math.log10(value) - low) / (high - low) * (BOTTOM - TOP), 1)

    def x(n: int) -> float:
        return round(LEFT + n * (RIGHT - LEFT) / (len(sizes) - 1), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12">',
        "<title>The time of one LSTM step, in microseconds, by size and engine</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#ffffff"/>',
        '<text x="16" y="24" font-size="14" font-weight="600" fill="#1b1f24">One LSTM step at batch 1, one thread: '
        "microseconds</text>",
    ]
    for power in range(low, math.floor(high) + 1):
        at = y(10.0**power)
        parts.append(f'<path d="M{LEFT} {at}H{RIGHT + 16}" stroke="#d8dee4"/>')
        parts.append(f'<text x="{RIGHT + 20}" y="{at + 4:.1f}" fill="#57606a">{10.0**power:g}</text>')
    labels = apart({name: y(values[0]) for name, values in times.items()})
    for name, values in reversed(times.items()):
        ours = name == "CyLSTM"
        colour, width = ("#0550ae", 3) if ours else ("#8c959f", 1.5)
        line = " ".join(f"{x(n)},{y(value)}" for n, value in enumerate(values))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
        parts += [
            f'<circle cx="{x(n)}" cy="{y(v)}" r="{4 if ours else 2.5}" fill="{colour}"/>' for n, v in enumerate(values)
        ]
        text = "#0550ae" if ours else "#424a53"
        weight = ' font-weight="600"' if ours else ""
        label = f"{name}  {_common.significant(values[0])}"
        parts.append(f'<path d="M{LEFT - 6} {y(values[0])}L{LEFT - 18} {labels[name]:.1f}" stroke="{colour}"/>')
        parts.append(
            f'<text x="{LEFT - 22}" y="{labels[name] + 4:.1f}" text-anchor="end" fill="{text}"{weight}>{label}</text>'
        )
    ours_at = times["CyLSTM"]
    parts += [
        f'<text x="{x(n)}" y="{y(value) + 18:.1f}" text-anchor="middle" font-weight="600" fill="#0550ae">'
        f"{_common.significant(value)}</text>"
        for n, value in enumerate(ours_at)
        if n
    ]
    for n, size in enumerate(sizes):
        parts.append(f'<text x="{x(n)}" y="{BOTTOM + 20}" text-anchor="middle" fill="#1b1f24">{size}</text>')
    parts.append(f'<text x="16" y="{BOTTOM + 20}" fill="#57606a">inputs, hidden size</text>')
    parts.append(f'<text x="16" y="{HEIGHT - 10}" font-size="11" fill="#57606a">{facts}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main(args: Sequence[str] | None = None) -> int:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=PICTURE, help="default: bench/results/step.svg")
    options = parser.parse_args(args)
    path = summary.RESULTS / "cells-1.md"
    rows = summary.read_tables(path)["LSTM, microseconds per step, batch 1"]
    sizes = [size.removesuffix(", 1") for size in summary.SMALL]
    options.output.write_text(picture(times_of(rows), sizes, summary.facts(path)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
