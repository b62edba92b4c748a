"""Loads, predictions, streams and errors, a thousand times each: memory stays as it is.

    python -m tests.memory.leaks [ACTION...] [--times 1000]

After a warm-up, the resident memory of the process, what Python's objects take (tracemalloc), and with
`failing_allocations.c` preloaded the pieces of memory that the C core holds, are as they were before.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import cylstm
from cylstm import CylstmError, RowError, ShapeError, StreamBusyError

from tests.builders.networks import lstm_model
from tests.memory.failures import LAYERS, Allocations, X, preload, write_files

WARM_UP = 20
#: bytes that may come on top, whatever the number of times: of arenas that are not full, and tables that grow
RESIDENT_SLACK = 1 << 20
TRACED_SLACK = 16 << 10

Action = Callable[[cylstm.Model, Path], Any]
ACTIONS: dict[str, Action] = {}


def action(function: Action) -> Action:
    ACTIONS[function.__name__] = function
    return function


def loads(name: str, **options: Any) -> None:
    def one(model: cylstm.Model, folder: Path) -> None:
        cylstm.load(folder / name, **options)

    ACTIONS[f"load {name}" + (" mapped" if "mmap" in options else "")] = one


for name in ("native.cylstm", "packed.cylstm", "stacked.keras", "gru_reset_after.onnx", "program.pt2"):
    loads(name)
loads("packed.cylstm", mmap=True)
for name in ("state.safetensors", "state.pt", "state.npz"):
    loads(name, layers=LAYERS)


def refused(kind: type[BaseException], function: Callable[[], Any]) -> None:
    try:
        function()
    except kind:
        return
    raise AssertionError(f"expected {kind.__name__}")


@action
def predict(model: cylstm.Model, folder: Path) -> None:
    model.predict(X)
    model.predict(X.tolist(), lengths=[9, 2, 5], return_state=True)
    model.predict(X, threads=2)


@action
def streams(model: cylstm.Model, folder: Path) -> None:
    stream = model.stream(3)
    stream.step(X[:, 0])
    stream.step(X[:, 1], active=np.array([True, False, True]))
    stream.run(X)
    stream.state = stream.state
    stream.copy().reset()
    pickle.loads(pickle.dumps(stream))
    model.stream(3, window=4).step(X[:, 0])


@action
def traces(model: cylstm.Model, folder: Path) -> None:
    model.trace(X)
    stream = model.stream(3)
    stream.trace(X[:, 0])


@action
def models(model: cylstm.Model, folder: Path) -> None:
    copy.deepcopy(model)
    model.quantize("float16").predict(X)
    model.save(folder / "saved.cylstm")


@action
def errors(model: cylstm.Model, folder: Path) -> None:
    stream = model.stream(3)
    refused(ShapeError, lambda: stream.step(X[:2, 0]))
    refused(ShapeError, lambda: model.predict(X[:, :, :2]))
    refused(ShapeError, lambda: model.predict(X, lengths=[1, 2, 300]))
    refused(CylstmError, lambda: model.stream(0))
    refused(CylstmError, lambda: cylstm.load(folder / "damaged.cylstm"))
    refused(CylstmError, lambda: cylstm.load(folder / "damaged.pt", layers=LAYERS))
    refused(CylstmError, lambda: cylstm.load(folder / "state.npz", layers=[cylstm.GRU("lstm")]))
    words = stream_of_words()
    refused(RowError, lambda: words.step(np.array([1, 99, 2])))


def stream_of_words() -> Any:
    rng = np.random.default_rng(3)
    tensors = {"e.weight": rng.normal(size=(7, 4)).astype(np.float32)}
    return cylstm.from_state_dict(tensors, [cylstm.Embedding("e")]).stream(3)


@action
def threads(model: cylstm.Model, folder: Path) -> None:
    """Two in one stream, of which one may be refused."""
    stream = model.stream(3)

    def run() -> None:
        with contextlib.suppress(StreamBusyError):
            stream.run(X)

    workers = [threading.Thread(target=run) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def repeat(function: Action, model: cylstm.Model, folder: Path, times: int) -> None:
    for _ in range(times):
        function(model, folder)
    gc.collect()
    # it keeps each name that was looked up, thousands of them; called otherwise from Python 3.13 on
    getattr(sys, "_clear_internal_caches", getattr(sys, "_clear_type_cache", gc.collect))()


def growth_of(name: str, times: int, folder: Path, allocations: Allocations | None) -> tuple[int, int, int]:
    """What so many times add after a warm-up: bytes of the process, bytes of Python's objects, pieces of the C core."""
    function, model = ACTIONS[name], lstm_model(np.random.default_rng(5), 4, 18)
    repeat(function, model, folder, max(WARM_UP, times // 5))
    held = allocations.held() if allocations else 0
    before = resident()
    repeat(function, model, folder, times)
    grown, pieces = resident() - before, (allocations.held() if allocations else 0) - held
    # a tenth of it, since each allocation takes longer then
    tracemalloc.start()
    repeat(function, model, folder, WARM_UP)
    before = tracemalloc.get_traced_memory()[0]
    repeat(function, model, folder, max(times // 10, WARM_UP))
    traced = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return grown, traced, pieces


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("actions", nargs="*", metavar="ACTION", help="of " + ", ".join(ACTIONS))
    parser.add_argument("--times", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "LD_PRELOAD" not in os.environ:
            environment = os.environ | preload(folder, "core")
            command = [sys.executable, "-m", "tests.memory.leaks", *sys.argv[1:]]
            return subprocess.run(command, env=environment).returncode
        allocations = Allocations()
        write_files(folder)
        for path in ("native.cylstm", "state.pt"):
            data = (folder / path).read_bytes()
            (folder / f"damaged{Path(path).suffix}").write_bytes(data[: len(data) // 2])
        wrong = 0
        for one in options.actions or ACTIONS:
            grown, traced, pieces = growth_of(one, options.times, folder, allocations)
            is_flat = grown <= RESIDENT_SLACK and traced <= TRACED_SLACK and pieces == 0
            wrong += not is_flat
            print(
                f"{'ok    ' if is_flat else 'GROWS '} {one}: {options.times} times, resident {grown / 1024:+.0f} KiB, "
                f"Python {traced / 1024:+.1f} KiB, C core {pieces:+d} pieces",
                flush=True,
            )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
