"""How many instructions one LSTM step takes on 64-bit ARM, counted under emulation: the same count at every run.

Beside CyLSTM: the same step with ``cblas_sgemv`` (``engine="blas"`` on OpenBLAS) and by NumPy. First
``make test-arm64`` or ``tests/emulation/run.sh arm64 cortex-a72``, which builds what is counted here. Instructions are
not time: for the product's innermost loop llvm-mca, where it is installed, estimates the cycles of each CPU.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import _common

HERE = Path(__file__).parent
MARK = 0xC1C
STEPS = 4
CPUS = ("cortex-a53", "cortex-a72", "cortex-a76")
ENGINES = ("cylstm", "sgemv + libm", "NumPy")


def lower_bound(cell: tuple[int, int, int]) -> int:
    """Multiply-adds of four numbers plus weights read by 16 bytes, of one step at batch 1."""
    input_size, hidden, layers = cell
    columns = [(input_size if k == 0 else hidden) + hidden for k in range(layers)]
    return sum(2 * 4 * hidden * n // 4 for n in columns)


def count_here() -> None:
    """In the emulated Python: the steps of every cell by every engine, between marks."""
    import numpy as np
    from cells import CELLS, make_cell
    from peers.cylstm_ import Blas, PackedOut
    from peers.numpy_ import Numpy

    mark = ctypes.CDLL(None).syscall
    mark(MARK)
    mark(MARK)  # what a mark itself takes
    for sizes in CELLS:
        cell = make_cell(sizes)
        x = np.random.default_rng(1).uniform(-1, 1, (1, sizes[0])).astype(np.float32)
        for peer_type in (PackedOut, Blas, Numpy):
            peer = peer_type(cell, batch=1, time=STEPS, threads=1)
            inputs = [peer.step_input(x)] * STEPS
            with peer.running():
                peer.repeat_step(inputs)
                mark(MARK)
                peer.repeat_step(inputs)
                mark(MARK)


def counts(folder: Path, cpu: str) -> Iterator[int]:
    """Run `count_here` on an emulated CPU; instructions per step, cell by cell and engine by engine."""
    with tempfile.TemporaryDirectory() as temporary:
        plugin = Path(temporary, "icount.so")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-Wno-unused", "-o", plugin, HERE / "_icount.c"], check=True)
        (blas,) = folder.glob("system/usr/lib/*/openblas-pthread/libblas.so.3")
        environment = os.environ | {
            "CPU": cpu,
            "QEMU_PLUGIN": str(plugin),
            "CYLSTM_BLAS": str(blas),
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": str(folder / "source"),
        }
        command = [folder / "python", HERE / "instructions.py", "--count"]
        done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    found = [int(line.split()[1]) for line in done.stderr.splitlines() if line.startswith("instructions ")]
    if done.returncode or len(found) < 4:
        raise RuntimeError(f"the emulated program failed:\n{done.stderr}")
    # marks: the first, the second (its own cost), then pairs around the steps
    return (round((count - found[1]) / STEPS) for count in found[3::2])


def innermost_loop(library: Path) -> list[str]:
    """The instructions of the product's loop for one column of four gates of 16 units, from the built extension."""
    text = subprocess.run(
        ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", library], capture_output=True, text=True, check=True
    ).stdout
    code = [(int(m[1], 16), m[2]) for m in re.finditer(r"^ +([0-9a-f]+):\t(.+)$", text, re.M)]
    at = {address: k for k, (address, _) in enumerate(code)}
    loops = []
    for k, (_, line) in enumerate(code):
        target = re.match(r"(?:b\.ne|cbnz)\s.*?([0-9a-f]+) <", line)
        first = at.get(int(target[1], 16), k) if target else k
        body = [line for _, line in code[first : k + 1]]
        kinds = collections.Counter(line.split()[0] for line in body)
        # each multiply-add has a weight of its own, and one input number serves them all
        if kinds["fmla"] == 16 and kinds["ldp"] == 8 and kinds["ld1r"] == 1:
            loops.append([re.sub(r"\s+//.*", "", line) for line in body])
    return min(loops, key=len)


def cycles_of(loop: Sequence[str], cpu: str) -> str:
    """What llvm-mca thinks that one turn of a loop takes."""
    if not shutil.which("llvm-mca"):
        return "-"
    source = "\n".join(re.sub(r"[0-9a-f]+ <.*", "0", line) for line in loop)
    command = ["llvm-mca", "-mtriple=aarch64", f"-mcpu={cpu}", "-iterations=200"]
    text = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    cycles = int(re.search(r"Total Cycles: +(\d+)", text)[1])
    return f"{cycles / 200:.1f}"


def main(args: Sequence[str] | None = None) -> int:
    """Print the tables, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=_common.ROOT / "build" / "emulation" / "arm64")
    parser.add_argument("--cpu", default="cortex-a72")
    parser.add_argument("--markdown", help="the file whose section `instructions` to write")
    parser.add_argument("--count", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(args)
    if options.count:
        count_here()
        return 0
    from cells import CELLS

    found = counts(options.folder.resolve(), options.cpu)
    rows = []
    for cell in CELLS:
        ours, *others = (next(found) for _ in ENGINES)
        bound = lower_bound(cell)
        ratios = [f"{other:,} ({other / ours:.2f})" for other in others]
        rows.append([", ".join(map(str, cell)), f"{ours:,}", *ratios, f"{bound:,}", f"{ours / bound:.2f}"])
    header = ["input, hidden, layers", *ENGINES, "bound", "cylstm/bound"]
    (library,) = options.folder.glob("source/cylstm/_engine.*.so")
    loop = innermost_loop(library)
    kinds = collections.Counter(line.split()[0] for line in loop)
    parts = ", ".join(f"{count} {name}" for name, count in kinds.most_common())
    cycles = ", ".join(f"{cycles_of(loop, cpu)} on {cpu}" for cpu in CPUS)
    text = (
        f"{_common.markdown_table(header, rows)}\n\n"
        f"The innermost loop, for one input number and four gates of 16 units: {len(loop)} instructions ({parts}), "
        f"{len(loop) / 32:.2f} times its bound of 32; llvm-mca's estimate: {cycles} cycles."
    )
    print(text)
    if options.markdown:
        _common.write_section(options.markdown, "instructions", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
