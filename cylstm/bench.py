"""``python -m cylstm bench``: what this machine is, how long steps take on it, and whether its bits are everyone's.

It takes seconds and prints one block to paste. All numbers that go into the networks come from a generator of integers
below, so that they are the same with every NumPy.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cylstm._version import __version__
from cylstm.engine import _engine, choose
from cylstm.engine.threads import available_threads
from cylstm.formats.state_dict.wiring import GRU, LSTM, RNN, Linear
from cylstm.live import from_state_dict
from cylstm.model import Model

#: (inputs, hidden size, layers), as in the table of docs/performance.md
CELLS = ((1, 16, 1), (8, 32, 1), (8, 50, 1), (40, 128, 1), (64, 128, 2), (128, 256, 1))
AUDIO_RATE = 48_000
AUDIO_BLOCK = 64
#: the hidden sizes that LSTMs of guitar amplifiers have
AUDIO_SIZES = (32, 40)
FRAME_SECONDS = 0.010
#: SHA-256 of `output_bits`, computed on x86-64; the same everywhere
EXPECTED_BITS = "0fc5338e42b40b78cf7919ac15b11d8265f2c621127ec4ae5f9da1b0259476e3"

KINDS = {"LSTM": (LSTM, 4), "GRU": (GRU, 3), "RNN": (RNN, 1)}

#: of ARM's CPUs, by the "CPU part" of /proc/cpuinfo
ARM_CPUS = {
    0xB76: "ARM1176 (Pi 1, Zero)",
    0xC07: "Cortex-A7 (Pi 2)",
    0xD03: "Cortex-A53 (Pi 3, Zero 2 W)",
    0xD08: "Cortex-A72 (Pi 4)",
    0xD0B: "Cortex-A76 (Pi 5)",
}
#: the bits that ``vcgencmd get_throttled`` sets; 16 higher: since the machine was started
THROTTLED = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")


def numbers(seed: int, *shape: int) -> np.ndarray:
    """Float32 numbers in [-1, 1), multiples of 2^-23, from a linear congruential generator modulo 2^32."""
    size = int(np.prod(shape))
    # x[n] = factor^n * seed + increment * (1 + factor + ... + factor^(n-1))
    powers: np.ndarray = np.full(size + 1, 1664525, np.uint32)
    powers[0] = 1
    powers = np.multiply.accumulate(powers, dtype=np.uint32)
    sums = np.add.accumulate(powers, dtype=np.uint32)
    states: np.ndarray = powers[1:] * np.uint32(seed) + sums[:-1] * np.uint32(1013904223)
    found: np.ndarray = ((states >> np.uint32(8)).astype(np.int32) - 2**23).astype(np.float32) / np.float32(2**23)
    return found.reshape(shape)


def network(kind: str, inputs: int, hidden: int, layers: int = 1, outputs: int = 0) -> Model:
    """A recurrent network with weights from `numbers`, and a head of `outputs` units if that is not 0."""
    layer, gates = KINDS[kind]
    scale = np.float32(0.5 ** (hidden.bit_length() // 2 - 2))
    tensors = {}
    for index in range(layers):
        features = hidden if index else inputs
        for seed, (name, shape) in enumerate(
            {
                f"net.weight_ih_l{index}": (gates * hidden, features),
                f"net.weight_hh_l{index}": (gates * hidden, hidden),
                f"net.bias_ih_l{index}": (gates * hidden,),
                f"net.bias_hh_l{index}": (gates * hidden,),
            }.items()
        ):
            tensors[name] = numbers(10 * index + seed + 1, *shape) * scale
    graph = [layer("net")]
    if outputs:
        tensors["head.weight"] = numbers(101, outputs, hidden) * scale
        tensors["head.bias"] = numbers(102, outputs) * scale
        graph.append(Linear("head"))
    return from_state_dict(tensors, graph)


def output_bits() -> str:
    """SHA-256 over the results of some networks of odd sizes: whole, with final states, and step by step."""
    found = hashlib.sha256()
    for kind in KINDS:
        for inputs, hidden, layers in ((1, 40, 1), (5, 17, 2), (40, 128, 1)):
            model = network(kind, inputs, hidden, layers, 3)
            x = numbers(201, 3, 50, inputs)
            y, states = model.predict(x, return_state=True)
            stream = model.stream()
            steps = np.stack([stream.step(x[1, t]) for t in range(x.shape[1])])
            for array in (y, *(part for parts in states for part in parts), steps):
                found.update(np.ascontiguousarray(array).astype("<f4").tobytes())
    return found.hexdigest()


def step_seconds(model: Model, seconds: float, block: int = 0) -> np.ndarray:
    """The time of each call of one row: of a step, or of `block` steps at once; as many calls as fit in `seconds`."""
    stream = model.stream(threads=1)
    features = model.graph.values[model.graph.inputs[0]].features
    x = numbers(301, 64, block, features) if block else numbers(301, 64, features)
    call = stream.run if block else stream.step
    out = call(x[0])
    times: list[int] = []
    clock = time.perf_counter_ns
    for part in (0.2, 1.0):  # the first warms up
        times.clear()
        end = clock() + int(part * seconds * 1e9)
        while clock() < end or len(times) < 100:
            row = x[len(times) % 64]
            before = clock()
            call(row, out=out)
            times.append(clock() - before)
    return np.array(times) * 1e-9


def report(bits: str, seconds: float = 0.3, root: Path = Path("/")) -> Iterator[str]:
    """The lines of the block.

    Parameters
    ----------
    bits : str
        Those that this machine gives: `output_bits`.
    seconds : float
        How long each network is measured.
    root : Path
        Where ``/proc`` and ``/sys`` are.
    """
    for name, text in machine(root):
        yield f"{name + ':':16}{text}"
    yield f"{'bits:':16}{bits[:16]} {'as expected' if bits == EXPECTED_BITS else 'DIFFERS: please report'}"
    yield ""
    yield _line("one step on one thread, in us", "p50", "p99", "max")
    for inputs, hidden, layers in CELLS:
        times = step_seconds(network("LSTM", inputs, hidden, layers), seconds)
        yield _row(f"LSTM {inputs} -> {hidden}{f', {layers} layers' if layers > 1 else ''}", times)
    yield ""
    yield _line(f"audio of {AUDIO_RATE // 1000} kHz, share of real time", "p50", "p99", "max")
    for hidden in AUDIO_SIZES:
        model = network("LSTM", 1, hidden, outputs=1)
        for block in (0, AUDIO_BLOCK):
            times = step_seconds(model, seconds, block)
            name = f"LSTM 1 -> {hidden} -> 1, {f'{block} samples a call' if block else 'a call a sample'}"
            yield _share(name, times, max(block, 1) / AUDIO_RATE)
    yield ""
    yield _line(f"frames of {FRAME_SECONDS * 1000:.0f} ms, share of real time", "p50", "p99", "max")
    for kind in ("GRU", "LSTM"):
        times = step_seconds(network(kind, 40, 128, outputs=40), seconds)
        yield _share(f"{kind} 40 -> 128 -> 40", times, FRAME_SECONDS)
    yield ""
    yield f"{'afterwards:':16}{_heat(root)}"


def _row(name: str, times: np.ndarray) -> str:
    return _line(name, *(f"{value * 1e6:.1f}" for value in _spread(times)))


def _share(name: str, times: np.ndarray, available: float) -> str:
    """Of calls that have `available` seconds each: more than 100 % is too slow."""
    return _line(name, *(f"{value / available:.2%}" for value in _spread(times)))


def _line(name: str, *columns: str) -> str:
    return f"{name:38}" + "".join(f"{text:>11}" for text in columns)


def _spread(times: np.ndarray) -> tuple[float, float, float]:
    middle, high = np.quantile(times, (0.5, 0.99))
    return float(middle), float(high), float(times.max())


def machine(root: Path = Path("/")) -> Iterator[tuple[str, str]]:
    """Name and text of what is known of the machine; `root` is where ``/proc`` and ``/sys`` are."""
    yield "cylstm", f"{__version__}, NumPy {np.__version__}, Python {platform.python_version()}"
    board = _read(root / "proc/device-tree/model")
    if board:
        yield "board", board
    bits = 64 if sys.maxsize > 2**32 else 32
    yield "cpu", f"{_cpu(root)}, {os.cpu_count()} CPUs, {platform.machine()}, {bits} bit"
    system = dict(line.partition("=")[::2] for line in _read(root / "etc/os-release").splitlines())
    name = system.get("PRETTY_NAME", "").strip('"') or platform.system()
    yield "system", f"{name}, kernel {platform.release()}"
    frequency = root / "sys/devices/system/cpu/cpu0/cpufreq"
    governor = _read(frequency / "scaling_governor") or "not readable"
    highest = _read(frequency / "cpuinfo_max_freq")
    yield "governor", governor + (f", at most {int(highest) / 1000:.0f} MHz" if highest.isdigit() else "")
    yield "heat", _heat(root)
    load = _read(root / "proc/loadavg").split()
    yield "load", f"{load[0]} (processes that want a CPU; other than 0 disturbs)" if load else "not readable"
    yield "instructions", f"{choose.chosen_isa()} (available: {', '.join(_engine.isa_names())})"
    yield "threads", f"at most {available_threads()} ({_engine.threads_name()}); 1 in these measurements"


def _cpu(root: Path) -> str:
    """The CPU's name; for ARM, whose kernel gives numbers, from `ARM_CPUS`."""
    found: dict[str, str] = {}
    for line in _read(root / "proc/cpuinfo").splitlines():
        name, colon, text = line.partition(":")
        if colon:
            found.setdefault(name.strip(), text.strip())
    try:
        part = int(found.get("CPU part", ""), 16)
    except ValueError:
        return found.get("model name") or platform.processor() or "unknown"
    return ARM_CPUS.get(part, f"CPU part {part:#x} of implementer {found.get('CPU implementer', 'unknown')}")


def _heat(root: Path) -> str:
    """Temperature, and whether the machine is or was slowed down, as far as it says."""
    temperature = _read(root / "sys/class/thermal/thermal_zone0/temp")
    text = f"{int(temperature) / 1000:.0f} C" if temperature.lstrip("-").isdigit() else "temperature not readable"
    return f"{text}, {_throttling()}"


def _throttling() -> str:
    program = shutil.which("vcgencmd")
    if program is None:
        return "throttling not readable"
    try:
        found = subprocess.run([program, "get_throttled"], capture_output=True, text=True, timeout=5)
        flags = int(found.stdout.strip().removeprefix("throttled="), 16)
    except (OSError, ValueError, subprocess.SubprocessError):
        return "throttling not readable"
    words = [name for bit, name in enumerate(THROTTLED) if flags >> bit & 1]
    words += [f"{name} since start" for bit, name in enumerate(THROTTLED) if flags >> (16 + bit) & 1]
    return ", ".join(words) or "never throttled"


def _read(path: Path) -> str:
    """The text of a small file of the system, or an empty one."""
    try:
        return path.read_bytes().decode("utf-8", "replace").strip("\0\n ")
    except OSError:
        return ""
