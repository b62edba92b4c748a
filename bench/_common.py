"""What the benchmarks share: where things are, statistics of rounds, and the facts of the machine.

Importing it makes ``cylstm`` importable where that is built in place but not installed, and the package ``tests``;
so it is imported first. It does not import NumPy: `cold_start` must stay small.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


#: whether the CyLSTM measured is the one of this checkout, because none is installed
IS_IN_PLACE = importlib.util.find_spec("cylstm") is None
sys.path.append(str(ROOT))


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two middle ones."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def cpu_model() -> str:
    """The CPU as its maker calls it; on a board without such a name, the board's."""
    for path, key in (("/proc/cpuinfo", "model name"), ("/proc/cpuinfo", "Model"), ("/proc/device-tree/model", "")):
        try:
            text = Path(path).read_text(errors="replace")
        except OSError:
            continue
        if not key:
            return text.strip("\0\n ")
        for line in text.splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return platform.processor() or platform.machine()


def machine_facts() -> dict[str, Any]:
    """Date, CPU, system and load; nothing that names the machine or its user."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": cpu_model(),
        "cpus_usable": usable,
        "load_average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right, aligned as text too."""
    widths = [max(3, *(len(row[i]) for row in [header, *rows])) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths)))
        return "| " + " | ".join([first, *rest]) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([line(header), rule, *(line(row) for row in rows)])


def significant(value: float) -> str:
    """Three significant digits without an exponent: 0.0613, 12.4, 6230."""
    digits = next((n for n, limit in ((4, 0.1), (3, 1), (2, 10), (1, 100)) if abs(value) < limit), 0)
    return f"{value:.{digits}f}"


def write_section(path: str, name: str, text: str) -> None:
    """Replace what stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` in a Markdown file.

    Raises
    ------
    ValueError
        If the file has no such section.
    """
    file = Path(path)
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before, mark, rest = file.read_text(encoding="utf-8").partition(begin)
    _, other_mark, after = rest.partition(end)
    if not mark or not other_mark:
        raise ValueError(f"{path}: expected a section between {begin!r} and {end!r}, found none")
    file.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}", encoding="utf-8")


def machine_text(facts: dict[str, Any]) -> str:
    """One line of `machine_facts`."""
    return (
        f"{facts['date']}, {facts['cpu']}, {facts['cpus_usable']} CPUs usable, {facts['system']}, "
        f"Python {facts['python']}; load average {facts['load_average']} at the start"
    )


def write_json(path: str, report: dict[str, Any]) -> None:
    """Write a report that other programs can read."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
