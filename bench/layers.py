"""One cell of each kind on every instruction set and on the BLAS engine: microseconds for a sequence of 100, batch 1.

``python bench/layers.py [--input 40] [--hidden 128]``. Best of many short rounds, the paths in turn.
"""

from __future__ import annotations

import argparse
import os
import time

import _common  # noqa: F401  makes cylstm importable
import numpy as np

import cylstm
from cylstm.engine._engine import isa_names
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.graph import Graph

TIME = 100
KINDS = {
    "LSTM": ("lstm", 4, {}),
    "LSTM, peepholes": ("lstm", 4, {}),
    "LSTM, f = 1 - i": ("lstm", 3, {"coupled": "f=1-i"}),
    "LSTM, layer-normalised": ("lstm", 4, {"layer_norm": "carried"}),
    "LSTM, projection to half": ("lstm", 4, {}),
    "GRU, reset-after": ("gru", 3, {}),
    "GRU, reset-before": ("gru", 3, {"reset_after": False}),
    "RNN": ("rnn", 1, {}),
    "ConvLSTM1D, 16 positions, kernel 3, hidden/16 filters": (
        "conv_lstm",
        4,
        {"kernel_columns": 3, "conv_padding": "same"},
    ),
}


def graph_of(kind: str, input_size: int, hidden: int) -> Graph:
    """A graph of one random layer."""
    op, gates, options = KINDS[kind]
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray:
        return rng.uniform(-0.1, 0.1, shape).astype(np.float32)

    builder = GraphBuilder()
    if op == "conv_lstm":
        filters = max(1, hidden // 16)
        x = builder.input("x", (None, 16, max(1, input_size // 16)))
        weights = {"weight_ih": weight(4 * filters, 3 * x.features), "weight_hh": weight(4 * filters, 3 * filters)}
    else:
        x = builder.input("x", (None, input_size))
        output = hidden // 2 if "projection" in kind else hidden
        weights = {"weight_ih": weight(gates * hidden, input_size), "weight_hh": weight(gates * hidden, output)}
    if "projection" in kind:
        weights["weight_hr"] = weight(output, hidden)
    if "peepholes" in kind:
        weights |= {f"peephole_{gate}": weight(hidden) for gate in "ifo"}
    if "layer_norm" in options:
        for norm, size in (("ih", gates * hidden), ("hh", gates * hidden), ("c", hidden)):
            weights |= {f"norm_{norm}_gain": weight(size), f"norm_{norm}_shift": weight(size)}
    builder.output(builder.add(op, op, {"x": x}, weights, options)["y"])
    return builder.build()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", type=int, default=40)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    paths = [*isa_names(), "blas"]
    print(
        f"input {arguments.input}, hidden {arguments.hidden}, {TIME} steps, batch 1, one thread; us, best of rounds\n"
    )
    print("| layer | " + " | ".join(paths) + " |\n|---|" + "---:|" * len(paths))
    for kind in KINDS:
        graph = graph_of(kind, arguments.input, arguments.hidden)
        models = []
        for path in paths:
            os.environ["CYLSTM_ISA"] = "" if path == "blas" else path
            models.append(cylstm.Model(graph, engine="blas" if path == "blas" else "packed"))
        os.environ["CYLSTM_ISA"] = ""
        shape = graph.values["x"].shape[1:]
        x = np.random.default_rng(1).normal(size=(1, TIME, *shape)).astype(np.float32)
        best = [np.inf] * len(paths)
        for _ in range(arguments.rounds):
            for k, model in enumerate(models):
                start = time.perf_counter()
                model.predict(x, threads=1)
                best[k] = min(best[k], time.perf_counter() - start)
        print(f"| {kind} | " + " | ".join(f"{1e6 * b:,.0f}" for b in best) + " |", flush=True)


if __name__ == "__main__":
    main()
