"""How long Ctrl-C takes to end a long call, for each way in which calls run.

A process of its own makes calls that would take seconds; a thread sends it SIGINT at a random moment of each, and the
time until `KeyboardInterrupt` arrives is taken.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence

import _common
import numpy as np

import cylstm

from tests.builders.networks import lstm_model

#: name -> options of the LSTM (hidden size first), shape of the input, threads
CALLS: dict[str, tuple[dict, tuple[int, int], int]] = {
    "predict, 1 row": ({"hidden_size": 256}, (1, 300_000), 1),
    "predict, 1 row, 2 threads": ({"hidden_size": 256}, (1, 500_000), 2),
    "predict, 1 row, hidden 1024, 2 layers": ({"hidden_size": 1024, "num_layers": 2}, (1, 8_000), 1),
    "predict, 64 rows": ({"hidden_size": 256}, (64, 8_000), 1),
    "predict, 64 rows apart": ({"hidden_size": 256}, (64, 16_000), 2),
    "predict, both directions": ({"hidden_size": 256, "bidirectional": True}, (1, 100_000), 1),
    "predict, a direction each": ({"hidden_size": 256, "bidirectional": True}, (1, 200_000), 2),
    "predict, one layer feeds the other": ({"hidden_size": 128, "num_layers": 2}, (1, 1_000_000), 2),
    "predict, BLAS": ({"hidden_size": 256, "engine": "blas"}, (1, 300_000), 1),
    "predict, BLAS, float64": ({"hidden_size": 256, "engine": "blas", "dtype": "float64"}, (1, 200_000), 1),
    "run, 1 row": ({"hidden_size": 256}, (1, 300_000), 1),
    "run, 1 row, 2 threads": ({"hidden_size": 256}, (1, 500_000), 2),
    "run, hidden 1024, 2 layers": ({"hidden_size": 1024, "num_layers": 2}, (1, 8_000), 1),
    "run, 64 rows": ({"hidden_size": 256}, (64, 8_000), 1),
    "run, 512 rows": ({"hidden_size": 512}, (512, 400), 1),
}


def seconds_to_end(call: Callable[[], object], delay: float) -> float | None:
    """From the signal to the exception; None if the call was over before the signal came."""
    sent = []

    def send() -> None:
        time.sleep(delay)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=send)
    sender.start()
    is_over = False
    try:
        call()
        is_over = True
        sender.join()
    except KeyboardInterrupt:
        taken = time.perf_counter() - sent[0]
    sender.join()
    return None if is_over else taken


def make_call(model: cylstm.Model, x: np.ndarray, threads: int, *, runs: bool) -> Callable[[], object]:
    """A call of `predict`, or of `run` of one stream."""
    out = np.empty((*x.shape[:2], 3), model.dtype)
    if not runs:
        return lambda: model.predict(x, out=out, threads=threads)
    stream = model.stream(len(x), threads=threads)
    return lambda: stream.run(x, out=out)


def busy(end: threading.Event) -> None:
    """A Python thread that always wants the interpreter."""
    while not end.is_set():
        sum(range(1000))


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if a call took more than 0.1 s to end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, help="signals for each call; default: 40")
    parser.add_argument("--busy", action="store_true", help="beside a Python thread that is always busy")
    parser.add_argument("--json", metavar="FILE", help="also write every time")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few seconds; ignore the timings")
    options = parser.parse_args(args)
    rounds = options.rounds or (2 if options.quick else 40)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(_common.machine_text(_common.machine_facts()))
    end = threading.Event()
    other = threading.Thread(target=busy, args=(end,), daemon=True)
    if options.busy:
        other.start()
    rng, moments, rows, report, slowest = np.random.default_rng(0), random.Random(0), [], {}, 0.0
    for name, (sizes, (batch, steps), threads) in CALLS.items():
        features = 64 if batch == 1 else 16
        model = lstm_model(rng, features, **sizes)
        x = np.zeros((batch, steps, features), model.dtype)
        call = make_call(model, x, threads, runs=name.startswith("run"))
        found = [seconds_to_end(call, moments.uniform(0.03, 0.3)) for _ in range(rounds)]
        times = [taken * 1e3 for taken in found if taken is not None]
        report[name] = times
        slowest = max([slowest, *times])
        middle, most = (f"{_common.median(times):.1f}", f"{max(times):.1f}") if times else ("-", "-")
        rows.append([name, str(threads), str(len(times)), middle, most])
    end.set()
    print(_common.markdown_table(["call", "threads", "ended", "p50, ms", "max, ms"], rows))
    if options.json:
        _common.write_json(options.json, {"milliseconds": report, "busy": options.busy})
    return int(slowest > 100.0)


if __name__ == "__main__":
    sys.exit(main())
