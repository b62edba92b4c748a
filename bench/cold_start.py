"""What a first prediction costs in a fresh process beyond importing NumPy: time and peak memory, beside other engines.

Every process imports NumPy, then an engine, loads its file of one LSTM and predicts one sequence. Processes of all
kinds take turns, and each is compared with the one of the same turn that imports NumPy only. See README.md beside
this file.
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

#: input, hidden, layers; steps of the sequence
CELL, STEPS = (8, 50, 1), 24
#: what every child begins and ends with; `folder` holds the engines' files, `marks` becomes what is printed. Nothing
#: but NumPy is imported before an engine: a module that it needs too would not be counted.
PROLOGUE = f"""
import sys, time
folder = sys.argv[1] + "/"
marks = []
def begin():
    return time.process_time(), time.perf_counter()
def mark(what, start):
    marks.append((what, 1e3 * (time.perf_counter() - start[1]), 1e3 * (time.process_time() - start[0])))
start = begin(); import numpy as np; mark("numpy", start)
x = np.full((1, {STEPS}, {CELL[0]}), 0.5, np.float32)
start = begin()
"""
EPILOGUE = """
mark("all", start)
import resource
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
import json
print(json.dumps([marks, peak]))
"""
CYLSTM = """
import cylstm; mark("import", start)
then = begin(); model = cylstm.load(folder + FILE, mmap=MMAP); mark("load", then)
then = begin(); model.predict(x); mark("first prediction", then)
"""
#: name -> what it does with its file
ENGINES = {
    "numpy": "",
    "cylstm": CYLSTM.replace("FILE", "'plain.cylstm'").replace("MMAP", "False"),
    "cylstm, packed file": CYLSTM.replace("FILE", "'packed.cylstm'").replace("MMAP", "False"),
    "cylstm, mapped file": CYLSTM.replace("FILE", "'packed.cylstm'").replace("MMAP", "True"),
    "onnxruntime": """
import onnxruntime
session = onnxruntime.InferenceSession(folder + "lstm.onnx", providers=["CPUExecutionProvider"])
session.run(None, {"x": x.transpose(1, 0, 2)})
""",
    "openvino": """
import openvino
model = openvino.Core().compile_model(folder + "lstm.onnx", "CPU")
model(x.transpose(1, 0, 2))
""",
    "ai-edge-litert": """
from ai_edge_litert.interpreter import Interpreter
model = Interpreter(folder + "lstm.tflite", num_threads=1)
model.allocate_tensors()
model.set_tensor(model.get_input_details()[0]["index"], np.ascontiguousarray(x.transpose(1, 0, 2)))
model.invoke()
model.get_tensor(model.get_output_details()[0]["index"])
""",
    "ncnn": """
import ncnn
net = ncnn.Net()
if net.load_param(folder + "lstm.param") or net.load_model(folder + "lstm.bin"):
    raise ValueError("not loaded")
extractor = net.create_extractor()
extractor.input("x", ncnn.Mat(x[0]).clone())
np.array(extractor.extract("y")[1])
""",
    "torch": f"""
import torch
model = torch.nn.LSTM({CELL[0]}, {CELL[1]}, batch_first=True)
model.load_state_dict(torch.load(folder + "lstm.pt"))
with torch.inference_mode():
    model(torch.from_numpy(x))
""",
}
#: writes the engines' files; the peers compute the LSTM alone, CyLSTM also its last step and a linear layer
MAKE_FILES = f"""
import sys
from pathlib import Path
folder = Path(sys.argv[1])
sys.path.append(sys.argv[2])
import _common, numpy as np
from cells import make_cell
from tests.builders import networks
cell, steps = make_cell({CELL}), {STEPS}
model = networks.lstm_model(np.random.default_rng(3), {CELL[0]}, {CELL[1]}, outputs=1, last=True)
model.save(folder / "plain.cylstm")
model.save(folder / "packed.cylstm", packed=True)
def onnx():
    from peers import onnxruntime_
    (folder / "lstm.onnx").write_bytes(onnxruntime_._model(cell, 1, steps, False))
def litert():
    from peers import litert_
    (folder / "lstm.tflite").write_bytes(litert_._sequence_graph(cell, 1, steps))
def ncnn():
    from peers import ncnn_
    param, weights = ncnn_.net_files(cell, with_states=False)
    (folder / "lstm.param").write_text(param)
    (folder / "lstm.bin").write_bytes(weights)
def torch():
    import torch
    torch.save({{name: torch.from_numpy(array) for name, array in cell.tensors.items()}}, folder / "lstm.pt")
for make in (onnx, litert, ncnn, torch):
    try:
        make()
    except ImportError:
        pass
"""


def run(code: str, cache: Path, *args: str) -> subprocess.CompletedProcess:
    """Run `code` in a fresh interpreter.

    Compiled modules are kept in `cache`: without any, importing would mostly be compiling.
    """
    paths = [os.environ.get("PYTHONPATH", ""), str(_common.ROOT) if _common.IS_IN_PLACE else ""]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONPYCACHEPREFIX": str(cache),
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONWARNINGS": "ignore",
    }
    return subprocess.run([sys.executable, "-c", code, *args], env=environment, capture_output=True, text=True)


def measure(
    engines: Sequence[str], count: int, folder: Path, limit_s: float
) -> tuple[dict[str, list[dict]], dict[str, str]]:
    """Up to `count` processes of each engine in turns: milliseconds of each stage and peak memory in MB.

    Returns
    -------
    samples : dict of str to list of dict
    left_out : dict of str to str
        Engine -> why it does not run here.
    """
    # The kernel counts the memory of the process that starts another as the child's peak too, until exec; this one
    # imports neither NumPy nor CyLSTM and so stays below every child.
    unit = 1.0 if sys.platform == "darwin" else 1024.0  # of ru_maxrss, in bytes
    samples: dict[str, list[dict]] = {name: [] for name in engines}
    left_out: dict[str, str] = {}
    end = time.monotonic() + limit_s
    for turn in range(-1, count):  # the first turn compiles the modules and fills the disk's cache
        if turn > 2 and time.monotonic() > end:
            break
        for name in [name for name in engines if name not in left_out]:
            done = run(PROLOGUE + ENGINES[name] + EPILOGUE, folder / "cache", str(folder))
            if done.returncode:
                left_out[name] = (done.stderr.strip().splitlines() or ["no message"])[-1]
                continue
            if turn >= 0:
                stages, peak = json.loads(done.stdout.splitlines()[-1])
                sample = {what: wall for what, wall, _ in stages} | {f"{what}, CPU": cpu for what, _, cpu in stages}
                samples[name].append(sample | {"peak": peak * unit / 1e6})
    return {name: found for name, found in samples.items() if name not in left_out}, left_out


def rows(samples: dict[str, list[dict]]) -> list[list[str]]:
    """One row per engine: median (minimum) of time, of CPU time and of peak memory beyond NumPy's."""
    body = []
    numpy = samples["numpy"]
    for name, found in samples.items():
        if name == "numpy":
            columns = [[sample[what] for sample in found] for what in ("numpy", "numpy, CPU", "peak")]
        else:
            columns = [[sample[what] for sample in found] for what in ("all", "all, CPU")]
            columns.append([sample["peak"] - base["peak"] for sample, base in zip(found, numpy)])
        body.append(["NumPy alone" if name == "numpy" else name, *map(_spread, columns)])
    return body


def stages(samples: dict[str, list[dict]]) -> list[list[str]]:
    """One row per way of CyLSTM: its import, load and first prediction."""
    return [
        [name, *(_spread([sample[what] for sample in found]) for what in ("import", "load", "first prediction"))]
        for name, found in samples.items()
        if name.startswith("cylstm")
    ]


def _spread(values: Sequence[float]) -> str:
    return f"{_common.significant(_common.median(values))} ({_common.significant(min(values))})"


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", nargs="+", choices=sorted(ENGINES), default=list(ENGINES), help="default: all")
    parser.add_argument("--count", type=int, help="processes of each; default: 31")
    parser.add_argument("--limit-s", type=float, default=180.0, help="no new turn after this; default: 180")
    parser.add_argument("--json", metavar="FILE", help="also write everything, every process included")
    parser.add_argument("--markdown", metavar="FILE", help="also write the tables into the section cold-start of it")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few seconds; ignore the timings")
    options = parser.parse_args(args)
    engines = list(dict.fromkeys(["numpy", *options.engines]))
    facts = _common.machine_facts()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = run(MAKE_FILES, folder / "cache", str(folder), str(Path(__file__).parent))
        if made.returncode:
            print(made.stderr)
            return 1
        count = options.count or (2 if options.quick else 31)
        samples, left_out = measure(engines, count, folder, options.limit_s)
    text = f"{_common.machine_text(facts)}; {len(samples['numpy'])} fresh processes of each kind; median (minimum).\n\n"
    text += _common.markdown_table(["beyond NumPy", "ms", "CPU ms", "peak memory, MB"], rows(samples))
    text += "\n\n" + _common.markdown_table(["of which, ms", "import", "load", "first prediction"], stages(samples))
    text += "".join(f"\n\nLeft out: {name}: {why}" for name, why in left_out.items())
    print(text)
    if options.markdown:
        _common.write_section(options.markdown, "cold-start", text)
    if options.json:
        report: dict[str, Any] = {"machine": facts, "samples": samples, "left_out": left_out}
        _common.write_json(options.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
