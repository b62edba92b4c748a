"""How many instructions one step takes on 64-bit ARM, and where, counted under emulation: the same count at every run.

Beside CyLSTM: the same step with ``cblas_sgemv`` (``engine="blas"`` on OpenBLAS) and by NumPy. First
``make test-arm64`` or ``tests/emulation/run.sh arm64 cortex-a72``, which builds what is counted here, with symbols.
Instructions are not time: for the products' innermost loops llvm-mca, where it is installed, estimates the cycles of
each CPU. With ``--weights`` the types of weights are counted instead, on several CPUs.
"""

from __future__ import annotations

import argparse
import bisect
import collections
import ctypes
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import _common

HERE = Path(__file__).parent
MARK = 0xC1C
STEPS = 4
#: of as many steps: the interpreter rewrites what has run some times
WARM_ROUNDS = 4
#: the cortex-a55 is no Pi's, but its model says more of an in-order CPU than the cortex-a53's
CPUS = ("cortex-a53", "cortex-a55", "cortex-a72", "cortex-a76")
ENGINES = ("cylstm", "sgemv + libm", "NumPy")
#: beside the LSTMs, which are those of `cells.CELLS`
OTHER_CELLS = tuple((kind, sizes) for kind in ("gru", "rnn") for sizes in ((8, 50, 1), (40, 128, 1), (128, 256, 1)))
#: with `--weights`: the LSTMs, the types of their matrices, and the CPUs, of which the last has dot products
WEIGHT_CELLS = ((40, 128, 1), (128, 256, 1))
WEIGHT_TYPES = ("float32", "float16", "bfloat16", "int8a16", "int8a8")
WEIGHT_CPUS = {"cortex-a53": "neon", "cortex-a72": "neon", "cortex-a76": "neon_dot"}
#: the largest share of float32's instructions that int8a8 should take, by instruction set
WEIGHT_GOALS = {"neon": 0.85, "neon_dot": 0.45}
#: layers without a cell: input, output
CONV1D, LINEAR, KERNEL = (40, 64), (128, 64), 3

#: where instructions are spent; of the kernels' functions, those of csrc/kernels/product.h and product_int8.h are the
#: product, behind their names the type of the weights
PARTS = ("product", "other kernels", "other C", "binding", "Python")
PRODUCT = ("group_of", "product", "product_of_column", "tile_of", "chunk_of", "blocks_of", "block_of")
#: allowed to an innermost loop: instructions over multiply-adds of four numbers plus weight bytes / 16
MOST_RATIO = 1.15

#: kind, sizes, engine
Job = tuple[str, tuple[int, ...], str]
#: (part, function) -> instructions
Counts = collections.Counter


def multiplied(kind: str, sizes: tuple[int, ...]) -> int:
    """Weights that one step multiplies at batch 1."""
    if kind == "Conv1d":
        return sizes[0] * sizes[1] * KERNEL
    if kind == "Linear":
        return sizes[0] * sizes[1]
    input_size, hidden, layers = sizes
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[kind]
    return sum(gates * hidden * ((input_size if k == 0 else hidden) + hidden) for k in range(layers))


def lower_bound(kind: str, sizes: tuple[int, ...]) -> int:
    """Multiply-adds of four numbers plus weights read by 16 bytes, of one step at batch 1."""
    return 2 * multiplied(kind, sizes) // 4


# ---- in the emulated Python ----


def layer_alone(kind: str) -> tuple[Callable[[list], None], int]:
    """Steps of a layer that has no cell, over a list of inputs, and its input's size."""
    import numpy as np

    import cylstm

    rng = np.random.default_rng(3)
    input_size, output = CONV1D if kind == "Conv1d" else LINEAR
    shape = (output, input_size, KERNEL) if kind == "Conv1d" else (output, input_size)
    tensors = {"layer.weight": rng.uniform(-0.1, 0.1, shape).astype(np.float32)}
    tensors["layer.bias"] = rng.uniform(-0.1, 0.1, output).astype(np.float32)
    if kind == "Conv1d":
        layers = [cylstm.Conv1d("layer", padding="causal"), cylstm.ReLU()]
    else:
        layers = [cylstm.Input((None, input_size)), cylstm.Linear("layer"), cylstm.Tanh()]
    step = cylstm.from_state_dict(tensors, layers).stream().step
    y = np.empty(output, np.float32)

    def repeat_step(inputs: list) -> None:
        for x in inputs:
            step(x, out=y)

    return repeat_step, input_size


def count_here(only_weights: bool) -> None:
    """In the emulated Python: the steps of every network by every engine, or type of weights, between two marks."""
    import gc
    from contextlib import nullcontext

    import numpy as np
    from cells import CELLS, make_cell
    from peers.cylstm_ import QUANTISED, Blas, PackedOut
    from peers.numpy_ import Numpy

    mark = ctypes.CDLL(None).syscall
    mark(MARK)
    gc.disable()

    def count(kind: str, sizes: tuple[int, ...], engine: str, repeat_step, inputs: list, running) -> None:
        with running:
            for _ in range(WARM_ROUNDS):
                repeat_step(inputs)
            print("job", kind, ",".join(map(str, sizes)), engine, sep="\t", file=sys.stderr, flush=True)
            mark(MARK)
            repeat_step(inputs)
            mark(MARK)

    # what a mark and a loop without steps take
    count("nothing", (0,), ENGINES[0], lambda inputs: None, [], nullcontext())
    if only_weights:
        for sizes, peer_type in itertools.product(WEIGHT_CELLS, QUANTISED):
            peer = peer_type(make_cell(sizes), batch=1, time=STEPS, threads=1)
            x = np.random.default_rng(1).uniform(-1, 1, (1, sizes[0])).astype(np.float32)
            count("lstm", sizes, peer.weights, peer.repeat_step, [peer.step_input(x)] * STEPS, peer.running())
        print_mapped()
        return
    for kind, sizes in (*(("lstm", sizes) for sizes in CELLS), *OTHER_CELLS):
        cell = make_cell(sizes, kind)
        x = np.random.default_rng(1).uniform(-1, 1, (1, sizes[0])).astype(np.float32)
        for engine, peer_type in zip(ENGINES, (PackedOut, Blas, Numpy)):
            if kind == "lstm" or engine == ENGINES[0]:
                peer = peer_type(cell, batch=1, time=STEPS, threads=1)
                count(kind, sizes, engine, peer.repeat_step, [peer.step_input(x)] * STEPS, peer.running())
    for kind, sizes in (("Conv1d", CONV1D), ("Linear", LINEAR)):
        repeat_step, input_size = layer_alone(kind)
        x = np.random.default_rng(1).uniform(-1, 1, input_size).astype(np.float32)
        count(kind, sizes, ENGINES[0], repeat_step, [x] * STEPS, nullcontext())
    print_mapped()


def print_mapped() -> None:
    """Which files lie where in this process, so that addresses can be named outside."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        words = line.split(maxsplit=5)
        if len(words) > 5 and words[5].startswith("/"):
            print("mapped", *words[0].split("-"), words[5], sep="\t", file=sys.stderr, flush=True)


# ---- outside ----


class Symbols:
    """Which function of the extension an offset into it is in, and of which source file."""

    def __init__(self, library: Path) -> None:
        command = ["aarch64-linux-gnu-readelf", "-sW", library]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found, file = [], ""
        for line in text.partition("'.symtab'")[2].splitlines():
            # number, value, size, type, binding, visibility, section, name
            words = line.split()
            if len(words) < 8 or not words[0].rstrip(":").isdigit():
                continue
            if words[3] == "FILE":
                file = words[7]
            elif words[3] == "FUNC" and words[6] != "UND":
                # those seen from other files come last, behind no file's name
                found.append((int(words[1], 16), int(words[2], 0), words[7], file if words[4] == "LOCAL" else ""))
        if not found:
            raise RuntimeError(f"{library}: expected symbols, found none: build with CYLSTM_SYMBOLS=1")
        self.functions = sorted(found)

    def at(self, offset: int) -> tuple[str, str]:
        """Name and file; two empty strings between functions, where the calls of other libraries pass."""
        k = bisect.bisect(self.functions, (offset, sys.maxsize)) - 1
        start, size, name, file = self.functions[k]
        return (name, file) if k >= 0 and offset < start + size else ("", "")


def part_of(name: str, file: str) -> str:
    """To which of `PARTS` a function of the extension belongs."""
    if file == "neon.c":
        return "product" if name.startswith(PRODUCT) else "other kernels"
    return "binding" if file == "_engine.c" else "other C"


def is_real_product(name: str, file: str) -> bool:
    """Whether a function of the extension is of the product with weights of float32."""
    return part_of(name, file) == "product" and name.partition(".")[0].endswith("_real")


def emulated(folder: Path, cpu: str, *more: str) -> list[str]:
    """What `count_here` and the plugin print, with more options."""
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
        command = [folder / "python", HERE / "instructions.py", "--count", *more]
        done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode or "\nmapped\t" not in done.stderr:
        raise RuntimeError(f"the emulated program failed:\n{done.stderr[-2000:]}")
    return done.stderr.splitlines()


def counts(lines: Sequence[str], library: Path) -> dict[Job, Counts]:
    """The instructions of one step of every job, by part and function, from what the emulated program printed."""
    mapped = [line.split("\t")[1:] for line in lines if line.startswith("mapped\t")]
    ranges = [(int(low, 16), int(high, 16), Path(path).name) for low, high, path in mapped]
    first = min(low for low, _, name in ranges if name == library.name)
    last = max(high for _, high, name in ranges if name == library.name)
    symbols = Symbols(library)

    def place(address: int) -> tuple[str, str]:
        if first <= address < last:
            name, file = symbols.at(address - first)
            return part_of(name, file), name or "jumps to libraries"
        return "Python", next((name for low, high, name in ranges if low <= address < high), "?")

    found: dict[Job, Counts] = {}
    job, marks, counted = None, 0, Counts()
    for line in lines:
        if line.startswith("job\t"):
            _, kind, sizes, engine = line.split("\t")
            job, marks = (kind, tuple(map(int, sizes.split(","))), engine), 0
        elif line.startswith("block ") and job and marks == 1:
            _, address, count = line.split()
            counted[place(int(address, 16))] += int(count)
        elif line.startswith("instructions "):
            marks += 1
            if job and marks == 2:
                found[job] = counted
            counted = Counts()
    nothing = found.pop(("nothing", (0,), ENGINES[0]))
    for counted in found.values():
        counted.subtract(nothing)
    return found


def by_part(counted: Counts) -> dict[str, int]:
    """Instructions of one step in each of `PARTS`; `counted` is of `STEPS` steps."""
    return {name: round(sum(count for (part, _), count in counted.items() if part == name) / STEPS) for name in PARTS}


def weights_table(found: dict[str, dict[Job, Counts]]) -> str:
    """CPU -> counts: each type's instructions over float32's."""
    body = []
    for cpu, jobs in found.items():
        for sizes in WEIGHT_CELLS:
            base, *others = (sum(by_part(jobs["lstm", sizes, kind]).values()) for kind in WEIGHT_TYPES)
            ratios = [f"{other / base:.2f}" for other in others]
            body.append([f"{cpu}, `{WEIGHT_CPUS[cpu]}`", ", ".join(map(str, sizes)), f"{base:,}", *ratios])
    header = ["CPU", "input, hidden, layers", *WEIGHT_TYPES]
    return _common.markdown_table(header, body)


def count_weights(folder: Path, library: Path, has_functions: bool) -> tuple[str, list[str]]:
    """The table of the types of weights on all CPUs, and where the goals are not reached."""
    found = {cpu: counts(emulated(folder, cpu, "--weights"), library) for cpu in WEIGHT_CPUS}
    missed = []
    for cpu, jobs in found.items():
        for (kind, sizes, weights), counted in jobs.items():
            if has_functions:
                print(f"\n{cpu}: {kind} {', '.join(map(str, sizes))} {weights}")
                for (part, name), count in counted.most_common(12):
                    print(f"{count / STEPS:12,.1f}  {part}: {name}")
        for sizes in WEIGHT_CELLS:
            base, narrow = (sum(by_part(jobs["lstm", sizes, kind]).values()) for kind in ("float32", "int8a8"))
            goal = WEIGHT_GOALS[WEIGHT_CPUS[cpu]]
            if narrow > goal * base:
                missed.append(f"goal not reached: {cpu}, {sizes}: int8a8 {narrow / base:.2f}, not {goal}")
    text = (
        "One LSTM step at batch 1, `stream.step(x, out=y)`: the instructions with float32, and how many times as many "
        "the other types of weights take.\n\n" + weights_table(found)
    )
    return text, missed


# ---- innermost loops ----


class Loop:
    """One innermost loop of a product.

    Attributes
    ----------
    body : list of str
        Its instructions.
    numbers : int
        How many numbers of each column of x one turn takes.
    fmas, weights : int
        Multiply-adds of four numbers, and loads of four weights, of one turn.
    """

    def __init__(self, body: Sequence[str]) -> None:
        self.body = list(body)
        self.fmas = sum(line.startswith("fmla") for line in body)
        lanes = [int(lane) for line in body for lane in re.findall(r"^fmla.*\.s\[(\d)\]", line)]
        self.numbers = 1 + max(lanes, default=0)
        self.weights = 0
        for k, line in enumerate(body):
            if re.match(r"ld[pu]?r?\tq", line) and "[sp" not in line:
                for register in re.findall(r"q(\d+)", line):
                    # of x is what a multiply-add then takes one number of
                    use = next(other for other in body[k + 1 :] + body[: k + 1] if f"v{register}." in other)
                    self.weights += f"v{register}.s[" not in use

    @property
    def columns(self) -> int:
        return self.fmas // self.weights

    @property
    def rows(self) -> int:
        return 4 * self.weights // self.numbers

    @property
    def ratio(self) -> float:
        return len(self.body) / (self.fmas + self.weights)

    def cycles(self, cpu: str) -> float | None:
        """What llvm-mca thinks that one number of x takes; None without it."""
        if not shutil.which("llvm-mca"):
            return None
        source = "\n".join(re.sub(r"[0-9a-f]+ <.*", "0", line) for line in self.body)
        command = ["llvm-mca", "-mtriple=aarch64", f"-mcpu={cpu}", "-iterations=200"]
        text = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
        return int(re.search(r"Total Cycles: +(\d+)", text)[1]) / 200 / self.numbers


def product_loops(library: Path) -> Iterator[Loop]:
    """The innermost loops that multiply, of the products with float32 in the built extension."""
    command = ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", library]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    symbols = Symbols(library)
    code = [(int(m[1], 16), re.sub(r"\s+//.*", "", m[2])) for m in re.finditer(r"^ +([0-9a-f]+):\t(.+)$", text, re.M)]
    code = [(address, line) for address, line in code if is_real_product(*symbols.at(address))]
    at = {address: k for k, (address, _) in enumerate(code)}
    back = {}  # index of a branch back -> of its target
    for k, (_, line) in enumerate(code):
        target = re.match(r"(?:b\.\w+|cbn?z)\s.*?([0-9a-f]+) <", line)
        if target and at.get(int(target[1], 16), k) < k:
            back[k] = at[int(target[1], 16)]
    for last, first in back.items():
        body = [line for _, line in code[first : last + 1]]
        is_innermost = not any(first <= k < last for k in back)
        if is_innermost and any(line.startswith("fmla") for line in body):
            yield Loop(body)


def longest_loops(library: Path) -> list[Loop]:
    """The products' innermost loops, one for each size of their tiles: of several the longest."""
    loops: dict[tuple[int, int, int], Loop] = {}
    for loop in product_loops(library):
        size = (loop.columns, loop.rows, loop.numbers)
        if size not in loops or len(loop.body) > len(loops[size].body):
            loops[size] = loop
    return [loop for _, loop in sorted(loops.items())]


def loop_rows(loops: Sequence[Loop]) -> list[list[str]]:
    rows = []
    for loop in loops:
        cycles = [loop.cycles(cpu) for cpu in CPUS]
        rows.append(
            [
                f"{loop.rows} x {loop.columns}",
                str(loop.numbers),
                str(len(loop.body)),
                str(loop.fmas),
                str(loop.weights),
                f"{loop.ratio:.2f}",
                *("-" if cycle is None else f"{cycle:.1f}" for cycle in cycles),
            ]
        )
    return rows


def main(args: Sequence[str] | None = None) -> int:
    """Print the tables, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=_common.ROOT / "build" / "emulation" / "arm64")
    parser.add_argument("--cpu", default="cortex-a72")
    parser.add_argument("--functions", action="store_true", help="also print each function's share of each step")
    parser.add_argument("--markdown", help="the file whose section `instructions` to write")
    parser.add_argument(
        "--weights", action="store_true", help="count types of weights, on several CPUs, for the section `weights`"
    )
    parser.add_argument("--count", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(args)
    if options.count:
        count_here(options.weights)
        return 0
    folder = options.folder.resolve()
    (library,) = folder.glob("source/cylstm/engine/_engine.*.so")
    if options.weights:
        text, missed = count_weights(folder, library, options.functions)
        print(text, *missed, sep="\n")
        if options.markdown:
            _common.write_section(options.markdown, "weights", text)
        return 0
    loops = longest_loops(library)
    found = counts(emulated(folder, options.cpu), library)
    text = tables(found, loops)
    print(text)
    if options.functions:
        for (kind, sizes, engine), counted in found.items():
            if engine == ENGINES[0]:
                print(f"\n{kind} {', '.join(map(str, sizes))}")
                for (part, name), count in counted.most_common(25):
                    print(f"{count / STEPS:12,.1f}  {part}: {name}")
    if options.markdown:
        _common.write_section(options.markdown, "instructions", text)
    too_long = [loop for loop in loops if loop.ratio > MOST_RATIO]
    for loop in too_long:
        print(f"above {MOST_RATIO}: {loop.rows} x {loop.columns}:", *loop.body, sep="\n  ", file=sys.stderr)
    return 1 if too_long else 0


def tables(found: dict[Job, Counts], loops: Sequence[Loop]) -> str:
    """Steps by every engine; where ours go; the loops."""
    from cells import CELLS

    engines, parts = [], []
    for sizes in CELLS:
        ours, *others = (sum(by_part(found["lstm", sizes, engine]).values()) for engine in ENGINES)
        bound = lower_bound("lstm", sizes)
        ratios = [f"{other:,} ({other / ours:.2f})" for other in others]
        engines.append([", ".join(map(str, sizes)), f"{ours:,}", *ratios, f"{bound:,}", f"{ours / bound:.2f}"])
    for (kind, sizes, engine), counted in found.items():
        if engine == ENGINES[0]:
            spent, bound = by_part(counted), lower_bound(kind, sizes)
            name = f"{kind.upper() if kind.islower() else kind} {', '.join(map(str, sizes))}"
            shares = [f"{count:,}" for count in spent.values()]
            parts.append([name, *shares, f"{sum(spent.values()):,}", f"{spent['product'] / bound:.2f}"])
    loop_header = ["rows x columns", "numbers", "instructions", "multiply-adds", "weights", "ratio", *CPUS]
    return "\n\n".join(
        [
            "One LSTM step at batch 1, `stream.step(x, out=y)`, beside the same step by others (in brackets: times "
            "CyLSTM's). The bound: multiply-adds of four numbers plus weight bytes / 16.",
            _common.markdown_table(["input, hidden, layers", *ENGINES, "bound", "cylstm/bound"], engines),
            "Where they go: the matrix product; gate functions, states and other kernels; C around the kernels (views, "
            "the order of layers and steps); the Cython method; the interpreter, which runs the loop and the call and, "
            "in larger steps, lets other threads run. The last column: the product's instructions over the bound.",
            _common.markdown_table(["step", *PARTS, "all", "product/bound"], parts),
            "The innermost loops of the product, by the rows of weights (16 for each accumulator of a block; above 64 "
            "those of a narrow last block too) and the columns of x that one turn multiplies, several in a batch. A "
            "turn takes some numbers of each column, and what is left of an operand, at most three, one by one. The "
            f"ratio is that of the instructions to multiply-adds plus loads of four weights; {MOST_RATIO} is allowed, "
            f"{max(loop.ratio for loop in loops):.2f} is the largest. The last columns: cycles for one number of each "
            f"column by {mca_version()}.",
            _common.markdown_table(loop_header, loop_rows(loops)),
        ]
    )


def mca_version() -> str:
    """The tool that estimates cycles."""
    if not shutil.which("llvm-mca"):
        return "llvm-mca, which is not installed"
    text = subprocess.run(["llvm-mca", "--version"], capture_output=True, text=True, check=True).stdout
    return f"llvm-mca {re.search(r'version ([0-9.]+)', text)[1]}"


if __name__ == "__main__":
    sys.exit(main())
