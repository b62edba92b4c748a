"""Time and peak memory of loading a PyTorch checkpoint of about 50 MB, beside ``torch.load``.

Every measurement is a fresh process, and the kinds alternate: reading the file into a graph, ``cylstm.load`` (which
also packs the weights for the engine), ``torch.load``, and ``torch.load`` followed by ``load_state_dict``. The time is
that of the load alone, the import excluded; the memory is the growth of the process's peak over the import. The file is
in the page cache. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PROLOGUE = """
import json, os, resource, sys, time
path, hidden = sys.argv[1], int(sys.argv[2])
def peak():
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) for line in file if line.startswith('VmHWM')) / 1024
"""
EPILOGUE = """
before, start, cpu = peak(), time.perf_counter(), time.process_time()
found = load()
print(json.dumps([time.perf_counter() - start, time.process_time() - cpu, peak() - before]))
"""
CYLSTM = "import cylstm; layers = [cylstm.LSTM('lstm'), cylstm.Last(), cylstm.Linear('fc')]\n"
TORCH = """
import torch
torch.set_num_threads(1)
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(hidden // 4, hidden, num_layers=2, batch_first=True)
        self.fc = torch.nn.Linear(hidden, 8)
"""
KINDS = {
    "cylstm, graph": CYLSTM + "from cylstm.loading import read\nload = lambda: read(path, layers=layers)\n",
    "cylstm.load": CYLSTM + "load = lambda: cylstm.load(path, layers=layers)\n",
    "torch.load": TORCH + "load = lambda: torch.load(path, weights_only=True)\n",
    "torch.load into a module": TORCH
    + "def load():\n    net = Net(); net.load_state_dict(torch.load(path, weights_only=True)); return net\n",
}
MAKE = PROLOGUE + TORCH + "torch.manual_seed(1); torch.save(Net().state_dict(), path, **json.loads(sys.argv[3]))\n"


def measure(code: str, *arguments: str) -> list[float]:
    """Seconds, CPU seconds and MB of one load in a fresh process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, check=True, capture_output=True, text=True
    )
    return json.loads(ran.stdout) if ran.stdout else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=1024, help="1024 makes a file of 52 MB")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    formats = {"zip": {}, "stream": {"_use_new_zipfile_serialization": False}}
    with tempfile.TemporaryDirectory() as folder:
        for name, saving in formats.items():
            path = str(Path(folder, f"{name}.pt"))
            measure(MAKE, path, str(options.hidden), json.dumps(saving))
            print(f"{name}, {os.path.getsize(path) / 1e6:.1f} MB, {options.rounds} fresh processes each")
            print("| loader | ms, least | ms, median | CPU ms, least | peak MB over the import |")
            print("|---|---|---|---|---|")
            found: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
            for _ in range(options.rounds):
                for kind, code in KINDS.items():
                    found[kind].append(measure(PROLOGUE + code + EPILOGUE, path, str(options.hidden)))
            for kind, rows in found.items():
                wall, cpu, memory = (list(column) for column in zip(*rows))
                print(
                    f"| {kind} | {1e3 * min(wall):.0f} | {1e3 * statistics.median(wall):.0f} | {1e3 * min(cpu):.0f} | "
                    f"{statistics.median(memory):.0f} |"
                )
            print()


if __name__ == "__main__":
    main()
