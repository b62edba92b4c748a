"""Calls of the package in which one allocation fails, then the next, and so on.

    python -m tests.memory.failures [CALL...] [--of core|python] [--every N] [--first N]

runs in a process of its own with `failing_allocations.c` preloaded, whose functions choose what fails: allocations of
the C core ("core"), or all of this thread, Python's and NumPy's among them ("python"). Each failure must raise
`MemoryError`, or be no failure of the call: then its result has the right bits. After it models and streams give the
bits that they gave before, and with "core" every piece of memory that the call took has been freed.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import gc
import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

import cylstm
from cylstm.engine import _engine

from tests import ROOT
from tests.builders.networks import linear_state_dict, lstm_model, lstm_state_dict
from tests.builders.pt2_files import SMALL_VERSIONS, write_fixture
from tests.builders.weight_files import write_safetensors, write_torch

#: the status of a process that crashed far from the package's code, see there
ENDED_BY_OTHERS = 72
#: what errors about functions of the extension have in them
OWN_NAMES = ("cylstm", "PackedModel", "Engine", "Stream")
#: what C code of Python and NumPy says in the place of `MemoryError`, and what we say where os.fspath raises another
#: error and where the repr of a tuple remains "(...)"
FOREIGN = (
    "can't allocate ",
    "import of module ",
    "expected a sequence of integers or a single integer",
    "expected str, bytes or os.PathLike object, not PosixPath",
    "takes the path of a file, found pathlib.",
    "report: it is of a network with other weights",
)
SOURCE = Path(__file__).with_name("failing_allocations.c")
DATA = ROOT / "tests" / "data"
X = np.random.default_rng(7).normal(size=(3, 9, 4)).astype(np.float32)
LAYERS = [cylstm.LSTM("lstm"), cylstm.Linear("fc")]


def preload(folder: Path, of: str) -> dict[str, str]:
    """Compile the library; the variables of an environment in which it is preloaded."""
    library = folder / "failing_allocations.so"
    flags = ["-std=gnu11", "-O2", "-fPIC", "-shared", "-fno-builtin", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([os.environ.get("CC", "cc"), *flags, str(SOURCE), "-o", str(library), "-pthread"], check=True)
    # with the latter each object of Python is an allocation of its own
    return {"LD_PRELOAD": str(library)} | ({"PYTHONMALLOC": "malloc"} if of == "python" else {})


class Allocations:
    """What fails."""

    def __init__(self) -> None:
        self._library = ctypes.PyDLL(os.environ["LD_PRELOAD"])
        self._library.watch_code.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        self._library.fail_at.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_int]
        self._library.fail_never.restype = self._library.pieces_held.restype = ctypes.c_long
        found = [
            [int(number, 16) for number in line.split()[0].split("-")]
            for line in Path("/proc/self/maps").read_text().splitlines()
            if line.endswith(_engine.__file__)
        ]
        self._library.watch_code(min(found)[0], max(found)[1])
        self._library.tell_crashes()

    def fail(self, number: int, is_lasting: bool, of: str) -> None:
        self._library.fail_at(number, is_lasting, of == "python")

    def fail_never(self) -> int:
        return int(self._library.fail_never())

    def held(self) -> int:
        return int(self._library.pieces_held())


@dataclass
class Subject:
    """What a call is made of: none of it may change by a call that fails."""

    model: cylstm.Model
    stream: Any
    folder: Path

    def bits(self) -> bytes:
        """Of a prediction, and of what a copy of the stream gives next."""
        return self.model.predict(X).tobytes() + self.stream.copy().step(X[:, 0]).tobytes()


Call = Callable[[Subject], Any]
#: name -> what is called; its result is what `flat` can tell from another
CALLS: dict[str, Call] = {}


def call(function: Call) -> Call:
    CALLS[function.__name__] = function
    return function


def make_subject(folder: Path) -> Subject:
    """A model that has predicted nothing, and a stream after its first step."""
    rng = np.random.default_rng(5)
    model = lstm_model(rng, 4, 18)
    stream = model.stream(3)
    stream.step(X[:, 1])
    return Subject(model, stream, folder)


def write_files(folder: Path) -> None:
    """A file of each format, in `folder`."""
    rng = np.random.default_rng(6)
    tensors = lstm_state_dict(rng, 4, 7) | linear_state_dict(rng, 7, 2)
    write_safetensors(folder / "state.safetensors", tensors)
    write_torch(folder / "state.pt", tensors)
    np.savez(folder / "state.npz", **tensors)
    model = cylstm.from_state_dict(tensors, LAYERS)
    model.save(folder / "native.cylstm")
    model.save(folder / "packed.cylstm", packed=True)
    for name in ("keras2/stacked.h5", "keras2/stacked.keras", "onnx_layers/gru_reset_after.onnx"):
        shutil.copy(DATA / name, folder)
    write_fixture(folder / "program.pt2", SMALL_VERSIONS[-1], "small-")


def flat(result: Any) -> Any:
    """What is compared of a result."""
    if isinstance(result, np.ndarray):
        return result.dtype.str, result.shape, result.tobytes()
    if isinstance(result, (list, tuple)):
        return [flat(one) for one in result]
    if isinstance(result, dict):
        return {name: flat(one) for name, one in result.items()}
    if isinstance(result, cylstm.Model):
        return [(name, flat(np.asarray(tensor))) for name, tensor in result.graph.tensors.items()]
    return result


def load(name: str, **options: Any) -> None:
    def loads(subject: Subject) -> cylstm.Model:
        return cylstm.load(subject.folder / name, **options)

    loads.__name__ = f"load {name}" + (" mapped" if "mmap" in options else "")
    call(loads)


for name in ("native.cylstm", "packed.cylstm", "stacked.h5", "stacked.keras", "gru_reset_after.onnx", "program.pt2"):
    load(name)
load("packed.cylstm", mmap=True)
for name in ("state.safetensors", "state.pt", "state.npz"):
    load(name, layers=LAYERS)


@call
def Model(subject: Subject) -> Any:
    return cylstm.Model(subject.model.graph)


@call
def predict(subject: Subject) -> Any:
    return subject.model.predict(X)


@call
def predict_on_threads(subject: Subject) -> Any:
    return subject.model.predict(X, threads=2)


@call
def predict_lists(subject: Subject) -> Any:
    return subject.model.predict(X.tolist(), lengths=[9, 2, 5], return_state=True)


@call
def predict_in_float64(subject: Subject) -> Any:
    return cylstm.Model(subject.model.graph, engine="blas", dtype="float64").predict(X)


@call
def stream(subject: Subject) -> Any:
    return subject.model.stream(2).state


@call
def stream_on_threads(subject: Subject) -> Any:
    return subject.model.stream(2, threads=2).step(X[:2, 0])


@call
def window(subject: Subject) -> Any:
    return subject.model.stream(3, window=5).step(X[:, 0])


@call
def step(subject: Subject) -> Any:
    return subject.stream.copy().step(X[:, 2])


@call
def step_lists(subject: Subject) -> Any:
    return subject.stream.copy().step(X[:, 2].tolist(), active=[True, False, True])


@call
def run(subject: Subject) -> Any:
    return subject.stream.copy().run(X)


@call
def trace(subject: Subject) -> Any:
    found = subject.model.trace(X)
    return [found["lstm.l0"].f, found["lstm.l0"].c, found.outputs]


@call
def trace_a_step(subject: Subject) -> Any:
    return subject.stream.copy().trace(X[:, 3])["lstm.l0"].h


@call
def save(subject: Subject) -> Any:
    path = subject.folder / "saved.cylstm"
    subject.model.save(path)
    return path.read_bytes()


@call
def quantize(subject: Subject) -> Any:
    return subject.model.quantize("float16").predict(X)


@call
def Model_of_int8(subject: Subject) -> Any:
    return cylstm.Model(subject.model.graph, weights="int8a8").predict(X)


@call
def compare(subject: Subject) -> Any:
    return repr(subject.model.compare(subject.model.quantize("float16"), X))


@call
def copies(subject: Subject) -> Any:
    return pickle.loads(pickle.dumps(subject.model)).predict(X), copy.deepcopy(subject.stream).state


@call
def predict_mc(subject: Subject) -> Any:
    return subject.model.predict_mc(X, 3, seed=1, rates={"lstm.l0": {"dropout": 0.3}}).mean


@call
def units(subject: Subject) -> Any:
    from cylstm.explain import units

    return subject.model.prune(units(subject.model, X)).predict(X)


@call
def occlusion(subject: Subject) -> Any:
    from cylstm.explain import occlusion

    return np.asarray(occlusion(subject.model, X[:1], output=-1).values)


@call
def forecast(subject: Subject) -> Any:
    features = ["a", "b", "c", "d"]
    forecaster = cylstm.Forecaster(subject.model, features=features, target="a", outputs=["a", "b", "c"], horizon=1)
    return forecaster.forecast({name: X[0, :, i] for i, name in enumerate(features)})


def is_foreign(error: BaseException) -> bool:
    """Whether C code of Python or NumPy failed to say which error there was; ours is in Cython's frames and classes."""
    frames = traceback.extract_tb(error.__traceback__)
    return not frames[-1].filename.endswith(".pyx") and not any(name in str(error) for name in OWN_NAMES)


def failures_of(name: str, of: str, first: int, every: int, folder: Path, allocations: Allocations) -> Iterator[str]:
    """What is wrong with each failure of a call, and at the end how many there were."""
    function = CALLS[name]
    before = make_subject(folder)
    expected, bits = flat(function(before)), before.bits()
    del before  # everything is imported that the call needs
    gc.collect()
    gc.freeze()
    number, refused, granted, foreign = first, 0, 0, 0
    is_over = False
    while not is_over:
        for is_lasting in (False, True) if of == "core" else (False,):
            held = allocations.held()
            subject = make_subject(folder)
            result, error = None, None
            allocations.fail(number, is_lasting, of)
            try:
                result = function(subject)
            except MemoryError:
                refused += 1
                error = "MemoryError"
            except SystemError as other:
                error = "MemoryError" if is_foreign(other) else repr(other)
                foreign += is_foreign(other)
            except BaseException as other:
                error = "".join(traceback.format_exception(other)[-4:]) + f"{type(other).__name__}: {other}"
                if of == "python" and any(words in str(other) for words in FOREIGN):
                    error = "MemoryError"
                    foreign += 1
            seen = allocations.fail_never()
            where = f"{name}: allocation {number}{' and those after it' if is_lasting else ''}"
            if error is None:
                granted += number < seen
                if flat(result) != expected:
                    result = None
                    yield f"{where}: another result, and no error"
            elif error != "MemoryError":
                yield f"{where}: {error}"
            try:
                if subject.bits() != bits:
                    yield f"{where}: another result afterwards"
            except BaseException as other:
                yield f"{where}: afterwards {type(other).__name__}: {other}"
            # what the model keeps for its next calls goes with it
            result = None
            del subject.model, subject.stream, subject
            gc.collect()
            gc.freeze()  # the next collections need not look at what is left, which takes most of the time otherwise
            kept = allocations.held() - held
            if of == "core" and kept:
                yield f"{where}: {kept} pieces of memory are lost"
            is_over = number >= seen
        number += every
    besides = f", {foreign} an error of Python's or NumPy's own" if foreign else ""
    counts = f"{seen} allocations, {refused} raised MemoryError, {granted} made no difference"
    print(f"{name}: {counts}{besides}", flush=True)


def print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As Python does, but for what its C code prints and goes on after."""
    if "exported buffers" not in str(error):
        sys.__excepthook__(kind, error, trace)


def run_apart(names: list[str], options: argparse.Namespace, environment: dict[str, str]) -> bool:
    """Let calls fail in a process of their own, and in another after Python or NumPy crashed; whether all is well."""
    first, crashes, is_well = options.first, 0, True
    while True:
        numbers = ["--of", options.of, "--first", str(first), "--every", str(options.every)]
        command = [sys.executable, "-W", "ignore", "-m", "tests.memory.failures", *names, *numbers]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        print(done.stdout, end="", flush=True)
        if done.returncode != ENDED_BY_OTHERS or options.of == "core":
            break
        crashes += 1
        *wrong, crash = done.stdout.splitlines()
        is_well = is_well and not wrong
        first = int(crash.split()[-1]) + options.every
    if crashes:
        print(f"{names[0]}: Python or NumPy crashed {crashes} times; the counts are of what came after", flush=True)
    return is_well and done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calls", nargs="*", metavar="CALL", help="of " + ", ".join(CALLS))
    parser.add_argument("--of", choices=("core", "python"), default="core")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "LD_PRELOAD" not in os.environ:
            environment = os.environ | preload(folder, options.of)
            # HDF5 itself does not survive a failed allocation: it loses what it holds, or ends the process
            is_read = options.of == "core" and importlib.util.find_spec("h5py")
            known = [one for one in CALLS if is_read or "stacked" not in one]
            calls = options.calls or known
            runs = [calls] if options.of == "core" else [[one] for one in calls]
            return int(any([not run_apart(run, options, environment) for run in runs]))
        if options.of == "python":
            # generators and buffers that end without memory say so a thousand times
            sys.unraisablehook = lambda _: None
            sys.excepthook = print_error
        allocations = Allocations()
        write_files(folder)
        wrong = 0
        for one in options.calls:
            for line in failures_of(one, options.of, options.first, options.every, folder, allocations):
                print(line, flush=True)
                wrong += 1
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
