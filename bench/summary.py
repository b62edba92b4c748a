"""The tables of docs/performance.md, taken from the results that this folder keeps: some sizes, the best engines."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import _common

RESULTS = Path(__file__).parent / "results"
PAGE = _common.ROOT / "docs" / "performance.md"
SMALL = ("1, 16, 1", "8, 32, 1", "8, 50, 1", "40, 128, 1", "128, 256, 1")
#: title in the file of results -> the page's title, and the sizes that are shown
TABLES = {
    "LSTM, microseconds per step, batch 1": ("One step, in brackets with `out=`", SMALL),
    "LSTM, microseconds per sequence of 100, batch 1": ("A sequence of 100 steps", SMALL),
    "LSTM, microseconds per sequence of 100, batch 32": (
        "32 sequences of 100 steps in one call",
        ("8, 50, 1", "40, 128, 1", "64, 128, 2", "128, 256, 1", "256, 512, 1"),
    ),
}
#: column -> the engine that it is a form of; the faster form of an engine counts
ENGINES = {
    "torch": "PyTorch",
    "torch cell": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "litert": "LiteRT",
    "litert fused": "LiteRT",
    "litert steps": "LiteRT",
    "ncnn": "ncnn",
    "jax": "JAX",
    "keras": "Keras",
}
#: rows of the table of fresh processes -> name here
START_UP = {
    "cylstm": "CyLSTM",
    "ai-edge-litert": "LiteRT",
    "onnxruntime": "ONNX Runtime",
    "ncnn": "ncnn",
    "openvino": "OpenVINO",
    "torch": "PyTorch",
}


def read_tables(path: Path) -> dict[str, list[dict[str, str]]]:
    """Title -> rows, each column -> text, of a Markdown file; the title is the heading's up to the threads."""
    tables: dict[str, list[dict[str, str]]] = {}
    title, header = "", []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            title = re.sub(r", threads.*", "", line.lstrip("# "))
        if not line.startswith("|"):
            header = []
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not header:
            header = cells
            title = title if title not in tables else cells[0]
            tables[title] = []
        elif not set(line) <= set("|-: "):
            tables[title].append(dict(zip(header, cells)))
    return tables


def comparison(rows: Sequence[dict[str, str]], sizes: Sequence[str]) -> str:
    """CyLSTM beside the two fastest engines of each row."""
    body = []
    for row in rows:
        if row["input, hidden, layers"] not in sizes:
            continue
        best: dict[str, float] = {}
        for column, engine in ENGINES.items():
            if row.get(column, "-") != "-":
                best[engine] = min(median(row[column]), best.get(engine, float("inf")))
        ours = median(row["cylstm"])
        text = _common.significant(ours)
        if "cylstm out=" in row:
            text += f" ({_common.significant(median(row['cylstm out=']))})"
        cells = [row["input, hidden, layers"].removesuffix(", 1"), text]
        for engine in sorted(best, key=best.__getitem__)[:2]:
            cells.append(f"{engine} {_common.significant(best[engine])} ({best[engine] / ours:.1f}x)")
        body.append(cells)
    return _common.markdown_table(["input, hidden", "CyLSTM, us", "fastest other, us", "next, us"], body)


def median(cell: str) -> float:
    """The first number of a cell: ``median (minimum)``."""
    return float(cell.split()[0])


def facts(path: Path) -> str:
    """The line of a file of results that says when and on which machine."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(re.sub(r"[;.] (load|CyLSTM|\d+ fresh).*|; load.*", "", line) for line in lines if "CPUs usable" in line)


def main(args: Sequence[str] | None = None) -> int:
    """Write the page's sections ``summary`` and ``start-up``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", default=str(PAGE), help="default: docs/performance.md")
    options = parser.parse_args(args)
    cells = read_tables(RESULTS / "cells-1.md")
    parts = [f"{facts(RESULTS / 'cells-1.md')}; one thread."]
    for title, (shown, sizes) in TABLES.items():
        parts += [f"**{shown}**", comparison(cells[title], sizes)]
    _common.write_section(options.page, "summary", "\n\n".join(parts))
    fresh = read_tables(RESULTS / "cold-start.md")["A fresh process"]
    rows = {row["beyond NumPy"]: row for row in fresh}
    body = [
        [name, *(_common.significant(median(rows[key][what])) for what in ("ms", "peak memory, MB"))]
        for key, name in START_UP.items()
        if key in rows
    ]
    table = _common.markdown_table(["beyond NumPy", "ms", "MB"], body)
    _common.write_section(options.page, "start-up", f"{facts(RESULTS / 'cold-start.md')}.\n\n{table}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
