"""The least time that this machine allows for a row: its weights at the speed of the cache that holds them.

A small C program (``_probe.c``), compiled here for this machine, measures how fast the cores read working sets of
several sizes and how many multiply-adds they make. From these and a model's packed weights follows a bound that no
program which reads those weights once per step can beat, save by noise.
"""

from __future__ import annotations

import bisect
import ctypes
import math
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import _common  # noqa: F401  makes cylstm importable
from peers import Cell
from peers.cylstm_ import load

#: working sets in MB
SIZES_MB = (0.03, 0.045, 0.06, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0, 16.0, 32.0)
SOURCE = Path(__file__).with_name("_probe.c")
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC", "-pthread")


class ProbeError(RuntimeError):
    """The machine cannot be measured, and why."""


@dataclass
class Machine:
    """What `threads` cores of this machine do together.

    Attributes
    ----------
    forward, alternating : list of float
        Bytes per second over each of `SIZES_MB`: always from the start, and back and forth, which finds in the
        smaller cache what was read last.
    multiply_adds : float
        Per second.
    vector_bytes : int
        Of the instructions that measured it.
    """

    threads: int
    forward: list[float]
    alternating: list[float]
    multiply_adds: float
    vector_bytes: int

    def rate(self, size: float) -> float:
        """Bytes per second of the faster way over a working set of `size` bytes, between the sizes measured."""
        best = [max(pair) for pair in zip(self.forward, self.alternating)]
        sizes = [mb * 1e6 for mb in SIZES_MB]
        k = bisect.bisect_left(sizes, size)
        if k in (0, len(sizes)):
            return best[min(k, len(sizes) - 1)]
        part = math.log(size / sizes[k - 1]) / math.log(sizes[k] / sizes[k - 1])
        return best[k - 1] + part * (best[k] - best[k - 1])


def measure_machine(threads: int, seconds: float = 0.005, repeats: int = 25) -> Machine:
    """The best of `repeats` measurements of each rate, of `seconds` each, in turns.

    They are short, so that on a busy machine too some fall into a moment in which all cores are free.

    Raises
    ------
    ProbeError
        If there is no C compiler or its program does not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "probe.so")
        command = [os.environ.get("CC", "cc"), *FLAGS, str(SOURCE), "-o", str(path)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
            library = ctypes.CDLL(str(path))
        except FileNotFoundError as error:
            raise ProbeError(f"no C compiler: {command[0]} not found") from error
        except subprocess.CalledProcessError as error:
            raise ProbeError(f"the C compiler failed: {error.stderr.strip().splitlines()[0]}") from error
    library.probe_read.restype = library.probe_multiply_add.restype = ctypes.c_double
    library.probe_read.argtypes = (ctypes.c_int64, ctypes.c_int, ctypes.c_int, ctypes.c_double)
    library.probe_multiply_add.argtypes = (ctypes.c_int, ctypes.c_double)
    forward, alternating, multiply_adds = [0.0] * len(SIZES_MB), [0.0] * len(SIZES_MB), 0.0
    for _ in range(repeats):
        for k, size in enumerate(SIZES_MB):
            for backward_too, rates in enumerate((forward, alternating)):
                rate = library.probe_read(int(size * 1e6), backward_too, threads, seconds)
                rates[k] = max(rates[k], rate)
        multiply_adds = max(multiply_adds, library.probe_multiply_add(threads, seconds))
    return Machine(threads, forward, alternating, multiply_adds, library.probe_vector_bytes())


def packed_bytes(cell: Cell) -> int:
    """Bytes of the packed weights, as `cylstm.Model` holds them."""
    return load(cell)._packed.nbytes


def bound_us(machine: Machine, cell: Cell, rows: int, steps: int | None) -> tuple[float, str]:
    """The least microseconds of one step (`steps` None) or of a sequence of `steps`, and what sets it.

    A step must read all packed weights from the cache that holds all of them. Of a sequence, layer by layer, each step
    must read the layer's recurrent weights from the cache that holds those, and the input weights are read once.
    Every row of a batch must do its multiply-adds; nothing else is counted.

    Returns
    -------
    us : float
    what : {"reading", "arithmetic"}
    """
    total = packed_bytes(cell)
    inputs = [tensor.size for name, tensor in cell.tensors.items() if name.startswith("weight_ih")]
    recurrent = [tensor.size for name, tensor in cell.tensors.items() if name.startswith("weight_hh")]
    work = (sum(inputs) + sum(recurrent)) * rows * (steps or 1)
    if steps is None:
        reading = total / machine.rate(total)
    else:
        # the packed bytes, padding and bias included, divided as the weights are
        scale = total / (sum(inputs) + sum(recurrent))
        reading = sum(steps * scale * size / machine.rate(scale * size) for size in recurrent)
        reading += scale * sum(inputs) / machine.rate(total)
    arithmetic = work / machine.multiply_adds
    return 1e6 * max(reading, arithmetic), "reading" if reading >= arithmetic else "arithmetic"


def machine_table(machines: Sequence[Machine]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: GB/s by working set."""
    header = ["working set, MB"]
    for machine in machines:
        threads = f"{machine.threads} thread{'s' if machine.threads > 1 else ''}"
        header += [f"{threads}, forward, GB/s", f"{threads}, back and forth, GB/s"]
    body = [
        [f"{size:g}", *(f"{rates[k] / 1e9:.0f}" for m in machines for rates in (m.forward, m.alternating))]
        for k, size in enumerate(SIZES_MB)
    ]
    return header, body
