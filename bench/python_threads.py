"""How small steps scale with Python threads that share a model, each with a stream of its own.

A short step keeps the GIL, so with one the threads take turns; a Python without GIL (`make test-free-threaded` builds
one) runs them at once. Rounds of all numbers of threads take turns; the fastest round of each counts. Give several
interpreters, with CyLSTM built for each, to have them side by side:

    python bench/python_threads.py --python python3.13 python3.13t
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import sysconfig
import threading
import time
from typing import Any

import _common
import numpy as np
from cells import cell_sizes, make_cell, positive
from peers.cylstm_ import load

import cylstm

COUNTS = (1, 2, 4)


def steps_per_second(model: cylstm.Model, count: int, seconds: float) -> float:
    """Of all threads together."""
    features = model.graph.values[model.inputs[0]].shape[-1]
    start, is_over = threading.Barrier(count + 1), threading.Event()
    taken = [0] * count

    def run(index: int) -> None:
        stream = model.stream()
        xs = [np.full(features, 0.01 * n, np.float32) for n in range(100)]
        out = stream.step(xs[0])
        step = stream.step
        start.wait()
        while not is_over.is_set():
            for x in xs:
                step(x, out=out)
            taken[index] += len(xs)

    workers = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for worker in workers:
        worker.start()
    start.wait()
    before = time.perf_counter()
    time.sleep(seconds)
    is_over.set()
    for worker in workers:
        worker.join()
    return sum(taken) / (time.perf_counter() - before)


def measure(cells: list[tuple[int, ...]], rounds: int, seconds: float) -> dict[str, Any]:
    """Steps per second of each cell and number of threads, in this interpreter."""
    models = [load(make_cell(cell)) for cell in cells]
    fastest = [[0.0] * len(COUNTS) for _ in cells]
    for _ in range(rounds):
        for i, model in enumerate(models):
            for k, count in enumerate(COUNTS):
                fastest[i][k] = max(fastest[i][k], steps_per_second(model, count, seconds))
    without = bool(sysconfig.get_config_var("Py_GIL_DISABLED")) and not sys._is_gil_enabled()  # type: ignore[attr-defined]
    return {"facts": _common.machine_facts(), "has_gil": not without, "fastest": fastest}


def table(found: list[dict[str, Any]], cells: list[tuple[int, ...]]) -> str:
    header = ["input, hidden", "Python", *(f"{count} thread{'s'[: count > 1]}" for count in COUNTS), "2 over 1"]
    body = []
    for i, cell in enumerate(cells):
        for one in found:
            python = f"{one['facts']['python']}{' with GIL' if one['has_gil'] else ' without GIL'}"
            steps = one["fastest"][i]
            millions = [f"{step / 1e6:.3f} M/s" for step in steps]
            body.append([", ".join(map(str, cell[:2])), python, *millions, f"{steps[1] / steps[0]:.2f}"])
    return _common.markdown_table(header, body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", type=cell_sizes, default=[(4, 16, 1), (8, 32, 1), (16, 64, 1)])
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="of a round")
    parser.add_argument("--python", nargs="+", default=[sys.executable], help="interpreters")
    parser.add_argument("--as-json", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_json:
        print(json.dumps(measure(options.cells, options.rounds, options.seconds)))
        return
    found = []
    for python in options.python:
        command = [python, __file__, "--as-json", "--rounds", str(options.rounds), "--seconds", str(options.seconds)]
        command += ["--cells", *(",".join(map(str, cell)) for cell in options.cells)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    print(_common.machine_text(found[0]["facts"]) + "\n\n" + table(found, options.cells))


if __name__ == "__main__":
    main()
