"""The engines against each other: packed, BLAS and what ``engine="auto"`` chose, and the BLAS engine in float64.

With ``--backends`` the BLAS engine on the threads of our own pool against the same on OpenMP's instead.

Every row is one layer (or stack) at single steps, sequences of 100 and batches of 32 sequences. The models take turns
in short rounds of one process; each table's ratios are medians over the rounds of times in the same round. See
README.md beside this file.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import _common
import numpy as np
from cells import BATCH, CELLS, TIME, cell_sizes, make_cell
from layers import KINDS, graph_of
from peers.cylstm_ import load

import cylstm
from cylstm.engine._engine import isa_fuses, isa_names
from cylstm.engine.blas import find_blas
from cylstm.engine.choose import chosen_isa
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.graph import Graph

#: sizes at which the other kinds of layers are measured
KIND_CELLS = ((8, 50), (40, 128), (128, 256))
#: where a multiply-add is not one instruction: small cells, since the packed engine takes hundreds of times longer
SLOW_CELLS = ((1, 16, 1), (8, 50, 1), (40, 128, 1))
MODES = ("step", f"sequence of {TIME}", f"{BATCH} sequences of {TIME}")
#: name -> engine, dtype, and whose threads if not the engine's own choice
MODELS = {
    "packed": ("packed", None, None),
    "blas": ("blas", None, None),
    "auto": ("auto", None, None),
    "float64": (None, "float64", None),
}
BACKENDS = {
    "packed": ("packed", None, None),
    "pool": ("blas", None, "pool"),
    "openmp": ("blas", None, "openmp"),
}
#: how much slower than the better engine the choice may be
MARGIN = 1.10
#: rounds in a row without which a time is noise
LEAST_ROUNDS = 5


class Network(NamedTuple):
    """A row's model, before its engine is chosen."""

    label: str
    sizes: str
    graph: Graph


@dataclass
class Row:
    """One network in one mode on one instruction set.

    Attributes
    ----------
    chosen : str or None
        The engine of the model loaded with ``engine="auto"``, if there is one.
    rounds_us : dict of str to list of float
        Key of `MODELS` or `BACKENDS` -> microseconds per call in each round.
    """

    isa: str
    mode: str
    label: str
    sizes: str
    chosen: str | None
    rounds_us: dict[str, list[float]]

    def ratio(self, a: str, b: str) -> float:
        """Median of a/b over the rounds."""
        return _common.median([x / y for x, y in zip(self.rounds_us[a], self.rounds_us[b])])

    @property
    def auto_over_best(self) -> float:
        """The chosen engine's time over the better one's."""
        return max(1.0, self.ratio(self.chosen, "blas" if self.chosen == "packed" else "packed"))


def dense_graph(input_size: int, outputs: int) -> Graph:
    """One Dense layer with relu, at every step."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder()
    x = builder.input("x", (None, input_size))
    weights = {
        "weight": rng.uniform(-0.1, 0.1, (outputs, input_size)).astype(np.float32),
        "bias": rng.uniform(-0.1, 0.1, outputs).astype(np.float32),
    }
    builder.output(builder.add("dense", "dense", {"x": x}, weights, {"activation": "relu"})["y"])
    return builder.build()


def networks_of(cells: Sequence[tuple[int, int, int]], kind_cells: Sequence[tuple[int, int]]) -> list[Network]:
    """LSTMs of all cells, then every other kind of layer."""
    found = [Network("LSTM", ", ".join(map(str, cell)), load(make_cell(cell)).graph) for cell in cells]
    for kind, sizes in itertools.product([kind for kind in KINDS if kind != "LSTM"], kind_cells):
        found.append(Network(kind, ", ".join(map(str, sizes)), graph_of(kind, *sizes)))
    found += [Network("Dense", ", ".join(map(str, sizes)), dense_graph(*sizes)) for sizes in kind_cells]
    return found


def caller(model: cylstm.Model, mode: str, threads: int) -> Callable[[], object]:
    """One call of a model in a mode."""
    shape = model.graph.values[model.inputs[0]].shape[1:]
    rows = BATCH if mode == MODES[2] else 1
    x = np.random.default_rng(1).normal(size=(rows, TIME, *shape)).astype(model.dtype)
    if mode != MODES[0]:
        return lambda: model.predict(x, threads=threads)
    step, inputs = model.stream(threads=threads).step, itertools.cycle(list(x[0]))
    return lambda: step(next(inputs))


def measure(network: Network, mode: str, isa: str, options: argparse.Namespace) -> Row:
    """Time the models in turns."""
    models = {}
    for name, (engine, dtype, threads) in (BACKENDS if options.backends else MODELS).items():
        os.environ |= {"CYLSTM_ISA": isa, "CYLSTM_THREADS": threads or ""}
        models[name] = cylstm.Model(network.graph, engine=engine, dtype=dtype or "float32")
    os.environ.pop("CYLSTM_ISA")
    os.environ.pop("CYLSTM_THREADS")
    calls = {name: caller(model, mode, options.threads) for name, model in models.items()}
    # on one thread the CPU time, which other processes cannot lengthen by taking turns
    clock = time.thread_time if options.threads == 1 else time.perf_counter
    repeats = {}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        repeats[name] = max(1, int(1e-3 * options.round_ms / (time.perf_counter() - start)))
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    names = list(calls)
    for n in range(options.rounds):
        if n >= LEAST_ROUNDS and time.perf_counter() - begin > options.limit_s:
            break
        for name in names[n % len(names) :] + names[: n % len(names)]:
            call, count = calls[name], repeats[name]
            start = clock()
            for _ in range(count):
                call()
            rounds[name].append(1e6 * (clock() - start) / count)
    chosen = models["auto"].engine if "auto" in models else None
    return Row(isa, mode, network.label, network.sizes, chosen, rounds)


def table(rows: Sequence[Row]) -> str:
    """One table: times, ratios and the choice."""
    header = ["layer: input, hidden", "packed", "blas", "blas float64", "blas / packed", "auto", "auto / better"]
    body = [
        [
            f"{row.label}: {row.sizes}",
            *(_common.significant(_common.median(row.rounds_us[name])) for name in ("packed", "blas", "float64")),
            f"{row.ratio('blas', 'packed'):.2f}",
            row.chosen,
            f"{row.auto_over_best:.2f}",
        ]
        for row in rows
    ]
    return _common.markdown_table(header, body)


def backend_table(rows: Sequence[Row]) -> str:
    """One table of the BLAS engine: times on both kinds of threads."""
    header = ["layer: input, hidden", "packed", "blas, pool", "blas, OpenMP", "OpenMP / pool"]
    body = [
        [
            f"{row.label}: {row.sizes}",
            *(_common.significant(_common.median(row.rounds_us[name])) for name in BACKENDS),
            f"{row.ratio('openmp', 'pool'):.2f}",
        ]
        for row in rows
    ]
    return _common.markdown_table(header, body)


def report(rows: Sequence[Row], threads: int, level: int) -> str:
    """Every table and the summary."""
    parts = []
    for isa, mode in dict.fromkeys((row.isa, row.mode) for row in rows):
        what = "emulated multiply-add" if not isa_fuses(isa) else "one instruction per multiply-add"
        parts.append(
            f"{'#' * level} {isa} ({what}), {mode}, threads {threads}: median microseconds\n\n"
            + (table if rows[0].chosen else backend_table)([row for row in rows if (row.isa, row.mode) == (isa, mode)])
        )
    if not rows[0].chosen:
        return "\n\n".join(parts)
    lost = [f"{row.isa}, {row.mode}, {row.label} {row.sizes}" for row in rows if row.auto_over_best > MARGIN]
    worst = max(row.auto_over_best for row in rows)
    parts.append(
        f"Rows in which `auto` took more than {MARGIN:.2f} times the better engine: {'; '.join(lost) or 'none'} "
        f"(worst {worst:.2f}, {len(rows)} rows)."
    )
    return "\n\n".join(parts)


def arguments(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isa", nargs="+", help="default: all of this machine; the best with --backends")
    parser.add_argument("--cells", type=cell_sizes, nargs="+", metavar="I,H[,L]", help="of the LSTM; default: nine")
    parser.add_argument("--kind-cells", type=cell_sizes, nargs="*", metavar="I,H", help="of the other kinds of layers")
    parser.add_argument("--modes", type=int, nargs="+", choices=range(3), default=[0, 1, 2], help=f"of {MODES}")
    parser.add_argument("--threads", type=int, help="default: 1; 2 with --backends")
    parser.add_argument("--backends", action="store_true", help="the BLAS engine on both kinds of threads")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--round-ms", type=float, default=1.0, help="about how long a round of one model takes")
    parser.add_argument("--limit-s", type=float, default=0.6, help="for the rounds of one row")
    parser.add_argument("--json", metavar="FILE", help="also write everything, every round included")
    parser.add_argument("--markdown", metavar="FILE", help="also write the tables into the section of this file")
    parser.add_argument("--section", default="engines")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few seconds; ignore the timings")
    options = parser.parse_args(args)
    options.isa = options.isa or ([chosen_isa()] if options.backends else isa_names()[::-1])
    options.threads = options.threads or (2 if options.backends else 1)
    if options.quick:
        options.cells = options.cells or [(1, 16, 1), (5, 7, 2)]
        options.rounds = LEAST_ROUNDS
    return options


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = arguments(args)
    facts = {
        "machine": _common.machine_facts(),
        "blas": find_blas().origin,
        "threads": options.threads,
    }
    rows = []
    for isa in options.isa:
        slow = not isa_fuses(isa)
        kind_cells = [(5, 7)] if options.quick else KIND_CELLS[:1] if slow else KIND_CELLS
        if options.kind_cells is not None:
            kind_cells = [cell[:2] for cell in options.kind_cells]
        networks = networks_of(options.cells or (SLOW_CELLS if slow else CELLS), kind_cells)
        for mode, network in itertools.product([MODES[m] for m in options.modes], networks):
            if slow and mode == MODES[2]:
                continue
            print(f"{isa}, {mode}, {network.label} {network.sizes} ...", file=sys.stderr)
            rows.append(measure(network, mode, isa, options))
    head = f"{_common.machine_text(facts['machine'])}; CyLSTM would use {chosen_isa()}; BLAS {facts['blas']}."
    print(head + "\n\n" + report(rows, options.threads, 2))
    if options.markdown:
        _common.write_section(options.markdown, options.section, head + "\n\n" + report(rows, options.threads, 2))
    if options.json:
        results = [asdict(row) | ({"auto_over_best": row.auto_over_best} if row.chosen else {}) for row in rows]
        _common.write_json(options.json, facts | {"results": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
