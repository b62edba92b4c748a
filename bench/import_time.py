"""What importing costs beyond NumPy, and a first prediction in a fresh process, with its peak memory.

Each number is the median over many fresh processes. Those that import NumPy alone and those that import CyLSTM too
alternate, and are compared in pairs. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _common

#: what every child begins and ends with: `marks` is a list of (what was done, seconds, CPU seconds, peak memory)
PROLOGUE = """
import json, resource, sys, time
marks = []
def begin():
    return time.process_time(), time.perf_counter()
def mark(what, start):
    wall, cpu = time.perf_counter() - start[1], time.process_time() - start[0]
    marks.append((what, wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""
EPILOGUE = "print(json.dumps(marks))\n"
IMPORT_NUMPY = "start = begin(); import numpy; mark('import numpy', start)\n"
IMPORT_CYLSTM = "start = begin(); import cylstm; mark('import cylstm', start)\n"
PREDICT = """
path, steps = sys.argv[1], int(sys.argv[2])
start = begin(); model = cylstm.load(path); mark('load', start)
values = [model.graph.values[name] for name in model.inputs]
shapes = [(1, steps, value.features) if value.kind == 'sequence' else (1, value.features) for value in values]
inputs = [numpy.full(shape, 0.5, model.dtype) for shape in shapes]
x = inputs if len(inputs) > 1 else inputs[0]
start = begin(); model.predict(x); mark('first prediction', start)
start = begin(); model.predict(x); mark('second prediction', start)
"""
MAKE_MODEL = """
import sys
sys.path.append(sys.argv[2])
import networks, numpy
networks.lstm_model(numpy.random.default_rng(3), 8, 32, last=True).save(sys.argv[1])
"""

KINDS = {
    "numpy": PROLOGUE + IMPORT_NUMPY + EPILOGUE,
    "cylstm": PROLOGUE + IMPORT_NUMPY + IMPORT_CYLSTM + EPILOGUE,
    "predict": PROLOGUE + IMPORT_NUMPY + IMPORT_CYLSTM + PREDICT + EPILOGUE,
}


def run(code: str, cache: Path, *args: str) -> tuple[float, str]:
    """Run `code` in a fresh interpreter: seconds from start to end, and what it printed.

    Compiled modules are kept in `cache`: without any, importing would mostly be compiling.
    """
    paths = [os.environ.get("PYTHONPATH", ""), str(_common.ROOT) if _common.IS_IN_PLACE else ""]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONPYCACHEPREFIX": str(cache),
        "PYTHONDONTWRITEBYTECODE": "",
    }
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *args], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return time.perf_counter() - start, done.stdout


def measure(path: str, steps: int, count: int, cache: Path) -> dict[str, list[dict[str, float]]]:
    """`count` processes of each kind in turns: milliseconds of each stage and of the whole, peak memory in MB."""
    # The kernel counts the memory of the process that starts another as the child's peak too, until exec; this one
    # imports neither NumPy nor CyLSTM and so stays below every child.
    unit = 1.0 if sys.platform == "darwin" else 1024.0  # of ru_maxrss, in bytes
    samples: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for turn in range(-1, count):  # the first turn compiles the modules and fills the disk's cache
        for kind, code in KINDS.items():
            seconds, text = run(code, cache, path, str(steps))
            stages = json.loads(text)
            if turn >= 0:
                sample = {what: wall * 1e3 for what, wall, _, _ in stages}
                sample |= {f"{what}, CPU": cpu * 1e3 for what, _, cpu, _ in stages}
                samples[kind].append(sample | {"whole": seconds * 1e3, "peak": stages[-1][3] * unit / 1e6})
    return samples


def rows(samples: dict[str, list[dict[str, float]]]) -> list[tuple[str, str, list[float]]]:
    """What the table shows: label, unit, one value per turn."""

    def values(kind: str, what: str) -> list[float]:
        return [sample[what] for sample in samples[kind]]

    def extra(what: str) -> list[float]:
        return [b - a for a, b in zip(values("numpy", what), values("cylstm", what))]

    return [
        ("import numpy", "ms", values("numpy", "import numpy")),
        ("import cylstm after numpy", "ms", values("cylstm", "import cylstm")),
        ("the same, CPU time", "ms", values("cylstm", "import cylstm, CPU")),
        ("the same, from the difference of whole processes", "ms", extra("whole")),
        ("peak memory with numpy", "MB", values("numpy", "peak")),
        ("more peak memory with cylstm", "MB", extra("peak")),
        ("load the model", "ms", values("predict", "load")),
        ("first prediction", "ms", values("predict", "first prediction")),
        ("second prediction", "ms", values("predict", "second prediction")),
        ("whole process: start, import, load, predict, end", "ms", values("predict", "whole")),
        ("its peak memory", "MB", values("predict", "peak")),
    ]


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", metavar="FILE", help="a .cylstm file; default: LSTM (8 to 32), Linear, random")
    parser.add_argument("--steps", type=int, default=100, help="of the sequence to predict; default: 100")
    parser.add_argument("--count", type=int, help="processes of each kind; default: 31")
    parser.add_argument("--json", metavar="FILE", help="also write everything, every process included")
    parser.add_argument("--markdown", metavar="FILE", help="also write the table into the section import of this file")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few seconds; its times mean nothing")
    options = parser.parse_args(args)
    count = options.count or (2 if options.quick else 31)
    facts = _common.machine_facts()
    with tempfile.TemporaryDirectory() as folder:
        path, cache = options.model, Path(folder, "cache")
        if path is None:
            path = str(Path(folder, "model.cylstm"))
            run(MAKE_MODEL, cache, path, str(_common.ROOT / "tests"))
        samples = measure(path, options.steps, count, cache)
    body = [
        [what, unit, *map(_common.significant, (_common.median(values), min(values)))]
        for what, unit, values in rows(samples)
    ]
    text = f"{_common.machine_text(facts)}; {count} fresh processes of each kind.\n\n"
    text += _common.markdown_table(["what", "unit", "median", "minimum"], body)
    print(text)
    if options.markdown:
        _common.write_section(options.markdown, "import", text)
    if options.json:
        report: dict[str, Any] = {"machine": facts, "steps": options.steps, "samples": samples}
        _common.write_json(options.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
