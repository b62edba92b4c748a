"""What Dask, Ray and Spark make of two workers on this machine: rows per second beside one process of CyLSTM.

Every engine has the rows in its own memory, in the same blocks, and keeps the predictions there. It also hands the same
blocks to a function that predicts nothing: that is the engine's own cost. All engines live at the same time and take
turns. The predictions are compared first: they must be the bits of one process.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import _common
import numpy as np
from cells import make_cell, positive

import cylstm

WORKERS = 2
STEPS = 24
#: input, hidden, layers; rows
CELLS = (((8, 50, 1), 48_000), ((64, 128, 2), 9_600))
QUICK_CELLS = (((8, 16, 1), 160),)
BLOCKS = 16


class Dask:
    """Arrays in blocks, in two processes."""

    name = "Dask"

    def __init__(self, folder: Path) -> None:
        import dask.array
        import distributed

        self._da, self._wait = dask.array, distributed.wait
        self._cluster = distributed.LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        )
        self._client = distributed.Client(self._cluster)

    def prepare(self, path: str, x: np.ndarray) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]:
        from cylstm.distributed.dask import predict_array

        rows = self._da.from_array(x, chunks=(len(x) // BLOCKS, -1, -1)).persist()
        self._wait(rows)
        found = predict_array(path, rows)

        def nothing() -> None:
            lazy = self._da.map_blocks(
                _nothing, rows, drop_axis=[1, 2], new_axis=[1], chunks=found.chunks, dtype=np.float32
            )
            self._wait(self._client.persist(lazy))

        return lambda: self._wait(self._client.persist(found)), nothing, found.compute

    def close(self) -> None:
        self._client.close()
        self._cluster.close()


def _nothing(block: np.ndarray) -> np.ndarray:
    return np.zeros((len(block), 1), np.float32)


class Ray:
    """Tensors in batches, in two actors; a third CPU is for what Ray does beside them."""

    name = "Ray"

    def __init__(self, folder: Path) -> None:
        import ray

        self._ray = ray
        ray.init(num_cpus=WORKERS + 1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)

    def prepare(self, path: str, x: np.ndarray) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]:
        from cylstm.distributed.ray import predict_table

        size = len(x) // BLOCKS
        rows = self._ray.data.from_numpy([x[first : first + size] for first in range(0, len(x), size)])
        found = predict_table(path, rows, columns="data", batch_size=size, workers=WORKERS)
        actors = self._ray.data.ActorPoolStrategy(size=WORKERS)
        nothing = rows.map_batches(RayNothing, batch_size=size, batch_format="pyarrow", compute=actors)

        def predictions() -> np.ndarray:
            batches = found.iter_batches(batch_format="numpy", batch_size=None)
            return np.concatenate([np.stack([*batch.values()], 1) for batch in batches])

        return found.materialize, nothing.materialize, predictions

    def close(self) -> None:
        self._ray.shutdown()


class RayNothing:
    """An actor that reads its rows as arrays, and gives zeros."""

    def __call__(self, table: Any) -> dict[str, np.ndarray]:
        from cylstm.distributed.arrow_columns import array_of_cells

        return {"y": np.zeros(len(array_of_cells(table.column("data"), "data")), np.float32)}


class Spark:
    """Cells of type array<array<float>>, in two processes of Java, each with one of Python."""

    name = "Spark"

    def __init__(self, folder: Path) -> None:
        from pyspark.sql import SparkSession

        os.environ["PYSPARK_PYTHON"] = sys.executable
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        self._folder = folder
        self._session = (
            SparkSession.builder.master(f"local-cluster[{WORKERS},1,2048]")
            .config("spark.ui.enabled", "false")
            .config("spark.executor.memory", "2g")
            .config("spark.executorEnv.PYTHONPATH", str(_common.ROOT))
            .config("spark.log.level", "ERROR")
            .getOrCreate()
        )

    def prepare(self, path: str, x: np.ndarray) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]:
        import pyarrow
        import pyarrow.parquet

        from cylstm.distributed.arrow_columns import column_of
        from cylstm.distributed.spark import predict_table

        size = len(x) // BLOCKS
        folder = self._folder / f"rows {len(x)}"
        folder.mkdir()
        for first in range(0, len(x), size):
            rows = {"id": np.arange(first, first + size), "x": column_of(x[first : first + size])}
            pyarrow.parquet.write_table(pyarrow.table(rows), folder / f"{first:09}.parquet")
        self._session.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", size)
        self._session.conf.set("spark.sql.files.maxPartitionBytes", 1 << 10)
        frame = self._session.read.parquet(str(folder)).coalesce(BLOCKS).cache()
        frame.count()
        found = predict_table(path, frame, columns="x")
        nothing = frame.mapInArrow(spark_nothing, "id long, y float")

        def run(lazy: Any) -> None:
            lazy.write.format("noop").mode("overwrite").save()

        def predictions() -> np.ndarray:
            rows = sorted(found.collect())
            return np.array([row[1:] for row in rows], np.float32)

        return lambda: run(found), lambda: run(nothing), predictions

    def close(self) -> None:
        self._session.stop()


def spark_nothing(batches: Iterator[Any]) -> Iterator[Any]:
    """Reads rows as arrays, and gives zeros."""
    import pyarrow

    from cylstm.distributed.arrow_columns import array_of_cells

    for batch in batches:
        table = pyarrow.Table.from_batches([batch])
        y = np.zeros(len(array_of_cells(table.column("x"), "x")), np.float32)
        yield pyarrow.RecordBatch.from_arrays([batch.column(0), pyarrow.array(y)], ["id", "y"])


ENGINES = (Dask, Ray, Spark)


@dataclass
class Row:
    """Seconds of each round, by name: of the whole, and of the blocks alone, without predictions."""

    cell: tuple[int, int, int]
    rows: int
    whole_s: dict[str, list[float]] = field(default_factory=dict)
    alone_s: dict[str, list[float]] = field(default_factory=dict)

    def gains(self, name: str) -> list[float]:
        """How many times as fast as one process on one thread, in each round."""
        return [one / other for one, other in zip(self.whole_s["one process"], self.whole_s[name])]


def measure(row: Row, engines: Sequence[Any], folder: Path, rounds: int) -> None:
    """Fill a row.

    Raises
    ------
    ArithmeticError
        If an engine gives other bits than one process.
    """
    rng = np.random.default_rng(1)
    tensors = {f"net.{name}": tensor for name, tensor in make_cell(row.cell).tensors.items()}
    tensors["fc.weight"] = rng.uniform(-1.0, 1.0, (1, row.cell[1])).astype(np.float32)
    model = cylstm.from_state_dict(tensors, [cylstm.LSTM("net"), cylstm.Last(), cylstm.Linear("fc")])
    path = str(folder / f"{len(list(folder.iterdir()))}.cylstm")
    model.save(path, packed=True)
    x = rng.uniform(-1.0, 1.0, (row.rows, STEPS, row.cell[0])).astype(np.float32)
    expected = model.predict(x)
    turns: dict[str, tuple[Callable[[], Any], Callable[[], Any] | None]] = {
        "one process": (lambda: model.predict(x, threads=1), None),
        f"{WORKERS} threads": (lambda: model.predict(x, threads=WORKERS), None),
    }
    for engine in engines:
        whole, alone, predictions = engine.prepare(path, x)
        if sorted(map(bytes, predictions())) != sorted(map(bytes, expected)):
            raise ArithmeticError(f"{engine.name}, {row.cell}: the predictions are not those of one process")
        whole()
        alone()
        turns[engine.name] = whole, alone
    for _ in range(rounds):
        for name, (whole, alone) in turns.items():
            row.whole_s.setdefault(name, []).append(_seconds(whole))
            if alone is not None:
                row.alone_s.setdefault(name, []).append(_seconds(alone))


def _seconds(turn: Callable[[], Any]) -> float:
    start = time.perf_counter()
    turn()
    return time.perf_counter() - start


def table(rows: Sequence[Row]) -> str:
    """A line for each cell and engine, of all runs."""
    body = []
    for cell, count in dict.fromkeys((tuple(row.cell), row.rows) for row in rows):
        runs = [row for row in rows if (tuple(row.cell), row.rows) == (cell, count)]
        for name in dict.fromkeys(name for row in runs for name in row.whole_s):
            times = [seconds for row in runs for seconds in row.whole_s.get(name, ())]
            gains = [gain for row in runs if name in row.whole_s for gain in row.gains(name)]
            alone = min((seconds for row in runs for seconds in row.alone_s.get(name, ())), default=None)
            body.append(
                [
                    f"{', '.join(map(str, cell))}; {count:,}",
                    name,
                    f"{count / _common.median(times):,.0f} ({count / min(times):,.0f})",
                    f"{_common.median(gains):.2f}",
                    "-" if alone is None else f"{alone / count * 1e6:.2f}",
                    "-" if alone is None else f"{alone / BLOCKS * 1e3:.1f}",
                ]
            )
    header = [
        "input, hidden, layers; rows", "engine", "rows per second", "times one process", "engine alone, us a row",
        "ms a block",
    ]  # fmt: skip
    return _common.markdown_table(header, body)


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [engine.name.lower() for engine in ENGINES]
    parser.add_argument("--engines", nargs="+", choices=names, default=names, help="default: those that are installed")
    parser.add_argument(
        "--cells", nargs="+", type=int, choices=range(len(CELLS)), metavar="N", help="0, 1; default: all"
    )
    parser.add_argument("--rounds", type=positive, help="default: 5")
    parser.add_argument("--add", nargs="+", metavar="FILE", default=[], help="what --json wrote of parts of the whole")
    parser.add_argument("--json", metavar="FILE", help="also write everything, every round included")
    parser.add_argument(
        "--markdown", metavar="FILE", help="also write the table into the section scale-out of this file"
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test; ignore the timings")
    options = parser.parse_args(args)
    facts = _common.machine_facts()
    chosen = [CELLS[number] for number in options.cells] if options.cells else CELLS
    rows = [Row(*cell) for cell in (QUICK_CELLS if options.quick else chosen)]
    earlier = [Row(**row) for path in options.add for row in json.loads(Path(path).read_text())["results"]]
    engines, left_out = [], []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for engine in ENGINES:
                if engine.name.lower() not in options.engines:
                    continue
                try:
                    engines.append(engine(Path(folder)))
                except ImportError as error:
                    left_out.append(f"{engine.name} ({error.name} is not installed)")
            for row in rows:
                measure(row, engines, Path(folder), options.rounds or (1 if options.quick else 5))
        finally:
            for engine in engines:
                engine.close()
    text = (
        f"{_common.machine_text(facts)}. Sequences of {STEPS} steps, {BLOCKS} blocks, {WORKERS} workers of one thread. "
        "Median (best round).\n\n" + table([*earlier, *rows])
    )
    if left_out:
        text += f"\n\nLeft out: {', '.join(left_out)}."
    print(text)
    if options.markdown:
        _common.write_section(options.markdown, "scale-out", text)
    if options.json:
        _common.write_json(options.json, {"machine": facts, "results": [asdict(row) for row in rows]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
