"""Models of ONNX beside ONNX Runtime: loading them, the first prediction, and predictions and steps after that.

Both read the same file, which ``torch.onnx.export`` wrote, and compute on one thread. Loading is measured in fresh
processes that take turns: from the start of the process until the first prediction is there, the load alone, and the
process's peak of memory. Predictions take turns in one process; a ratio is the median over the rounds
of what ONNX Runtime took to what CyLSTM took just before. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import _common
import models
import numpy as np

import cylstm

PROLOGUE = """
import json, sys, time
import numpy as np
path, x = sys.argv[1], np.load(sys.argv[2])
def done(load):
    start = time.perf_counter()
    predict = load()
    seconds = time.perf_counter() - start
    predict(x)
    try:
        with open('/proc/self/status') as file:
            peak = next(int(line.split()[1]) for line in file if line.startswith('VmHWM')) / 1024
    except OSError:
        peak = 0.0
    print(json.dumps([seconds, peak]), flush=True)
"""
ENGINES = {
    "CyLSTM": """
import cylstm
def load():
    model = cylstm.load(path)
    return lambda x: model.predict(x, threads=1)
done(load)
""",
    "ONNX Runtime": """
import onnxruntime
def load():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]
done(load)
""",
}
INPUT, HIDDEN, STEPS = 64, 128, 100


def modules() -> dict[str, tuple[Any, tuple[int, ...], dict[int, str]]]:
    """Name -> PyTorch's module, the shape of an input without batch, and its open axes."""
    import torch

    from tests.builders import torch_models

    class Recurrent(torch.nn.Module):
        def __init__(self, kind: Any) -> None:
            super().__init__()
            self.rnn = kind(INPUT, HIDDEN, num_layers=2, batch_first=True)
            self.fc = torch.nn.Linear(HIDDEN, 8)

        def forward(self, x: Any) -> Any:
            return self.fc(self.rnn(x)[0])

    torch.manual_seed(1)
    kind, sizes, shape = next(one for one in models.NETWORKS.values() if one[0] == "CRNN")
    opened = {0: "batch", 1: "time"}
    return {
        "LSTM, two layers": (Recurrent(torch.nn.LSTM).eval(), (STEPS, INPUT), opened),
        "GRU, two layers": (Recurrent(torch.nn.GRU).eval(), (STEPS, INPUT), opened),
        "CRNN": (getattr(torch_models, kind)(**sizes).eval(), shape, {0: "batch"}),
    }


def write(folder: Path) -> dict[str, tuple[Path, np.ndarray]]:
    """The files, and an input of each."""
    import torch

    found = {}
    for k, (name, (module, shape, opened)) in enumerate(modules().items()):
        path, x = folder / f"{k}.onnx", np.random.default_rng(k).standard_normal((1, *shape)).astype(np.float32)
        torch.onnx.export(
            module, (torch.from_numpy(x),), path, dynamo=False, input_names=["x"], output_names=["y"],
            dynamic_axes={"x": opened},
        )  # fmt: skip
        np.save(folder / f"{k}.npy", x)
        found[name] = (path, x)
    return found


def write_cell(folder: Path, kind: str) -> Path:
    """One step with its states as inputs and outputs."""
    import torch

    class Cell(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = getattr(torch.nn, kind)(INPUT, HIDDEN)

        def forward(self, x: Any, *state: Any) -> Any:
            y, after = self.rnn(x.unsqueeze(0), state if kind == "LSTM" else state[0])
            return (y[0], *after) if kind == "LSTM" else (y[0], after)

    torch.manual_seed(1)
    states = ["h", "c"] if kind == "LSTM" else ["h"]
    given = (torch.zeros(1, INPUT), *(torch.zeros(1, 1, HIDDEN) for _ in states))
    path = folder / f"{kind}.onnx"
    torch.onnx.export(
        Cell(), given, path, dynamo=False, input_names=["x", *states], output_names=["y", *(f"{s}n" for s in states)]
    )
    return path


def session_of(path: Path) -> Any:
    """ONNX Runtime's session of a file, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])


def start(engine: str, path: Path) -> tuple[float, float, float]:
    """Seconds until the first prediction of a fresh process, those of the load, and the peak in MB."""
    # as an installed package has it, modules are compiled once
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment["PYTHONPYCACHEPREFIX"] = str(path.parent / "compiled")
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    if _common.IS_IN_PLACE:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_common.ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-c", PROLOGUE + ENGINES[engine], str(path), str(path.with_suffix(".npy"))]
    begin = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - begin
    load, peak = json.loads(line)
    return seconds, load, peak


def steps(path: Path, kind: str) -> dict[str, Callable[[], np.ndarray]]:
    """One step of each engine, whose state goes on."""
    pairs = {"hn": "h", "cn": "c"} if kind == "LSTM" else {"hn": "h"}
    x = np.random.default_rng(2).standard_normal((1, INPUT)).astype(np.float32)
    stream = cylstm.load(path, states=pairs).stream()
    session = session_of(path)
    state = {name: np.zeros((1, 1, HIDDEN), np.float32) for name in pairs.values()}

    def by_session() -> np.ndarray:
        y, *after = session.run(None, {"x": x, **state})
        state.update(zip(pairs.values(), after))
        return y

    row = x[0]
    return {"CyLSTM": lambda: stream.step(row), "ONNX Runtime": by_session}


def main(args: Sequence[str] | None = None) -> int:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=31, help="fresh ones of each engine and file")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--limit-s", type=float, default=5.0, help="for the predictions of one network")
    parser.add_argument("--markdown", help="a file with a section 'onnx-files' to replace")
    parser.add_argument("--json")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(args)
    processes, rounds, limit_s = (2, 2, 0.5) if options.quick else (options.processes, options.rounds, options.limit_s)
    import onnxruntime

    warnings.simplefilter("ignore")
    facts = _common.machine_facts()
    report: dict[str, Any] = {"start": {}, "predictions": {}}
    starts, calls = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = write(folder)
        for name, (path, _) in files.items():
            found: dict[str, list[tuple[float, float, float]]] = {engine: [] for engine in ENGINES}
            for engine in ENGINES:
                start(engine, path)
            for _ in range(processes):
                for engine in ENGINES:
                    found[engine].append(start(engine, path))
            report["start"][name] = found
            for engine, one in found.items():
                first, load, peak = (list(column) for column in zip(*one))
                numbers = [1e3 * min(first), 1e3 * _common.median(first), 1e3 * min(load), _common.median(peak)]
                size = f"{path.stat().st_size / 1e6:.2f}"
                starts.append([name, size, engine, *map(_common.significant, numbers)])
                print(starts[-1], flush=True)
        timed: dict[str, dict[str, Callable[[], np.ndarray]]] = {}
        for name, (path, x) in files.items():
            model, session = cylstm.load(path), session_of(path)
            timed[f"{name}, a prediction"] = {
                "CyLSTM": lambda model=model, x=x: model.predict(x, threads=1),
                "ONNX Runtime": lambda session=session, x=x: session.run(None, {"x": x})[0],
            }
        for kind in ("LSTM", "GRU"):
            timed[f"{kind}, one layer, a step"] = steps(write_cell(folder, kind), kind)
        for name, both in timed.items():
            ours, theirs = (call() for call in both.values())
            np.testing.assert_allclose(np.ravel(ours), np.ravel(theirs), rtol=0, atol=1e-5, err_msg=name)
            times = models.measure(both, rounds, limit_s)
            report["predictions"][name] = times
            ratio = _common.median([b / a for a, b in zip(times["CyLSTM"], times["ONNX Runtime"])])
            best = min(times["ONNX Runtime"]) / min(times["CyLSTM"])
            calls.append([name, _common.significant(1e6 * min(times["CyLSTM"])), _common.significant(ratio),
                          _common.significant(best)])  # fmt: skip
            print(calls[-1], flush=True)
    predictions = _common.markdown_table(["network", "CyLSTM, us", "ONNX Runtime, ratio", "of the least"], calls)
    head = ["file", "MB", "engine", "first prediction, ms, least", "median", "load, ms, least", "peak, MB"]
    text = (
        f"{_common.markdown_table(head, starts)}\n\nFrom the start of a fresh process to its first prediction, and the "
        f"load alone, which in CyLSTM imports the reader; {processes} processes each, in turn.\n\n"
        f"{predictions}\n\nHow many times as long as CyLSTM ONNX Runtime takes, at batch 1: the median over rounds, "
        f"and of the least times. Sequences of {STEPS} steps of {INPUT} features, {HIDDEN} units.\n\n"
        f"ONNX Runtime {onnxruntime.__version__}. {_common.machine_text(facts)}."
    )
    print(text)
    if options.markdown:
        _common.write_section(options.markdown, "onnx-files", text)
    if options.json:
        _common.write_json(options.json, {"machine": facts, **report})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
