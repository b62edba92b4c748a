"""Fuzzing, one command each, and what has been done so far.

    python -m tests.fuzz readers [TARGET ...]   changed files and arguments, of all targets or of some
        --runs N            executions of each target (default 2000)
        --seconds N         or until so many have passed, of each target (default 600)
        --atheris           guided by coverage; needs `pip install atheris`. Without it: changes drawn by chance
        --seed N            of those changes; a second run of one seed is the first again
    python -m tests.fuzz c --seconds N          networks in C under libFuzzer, AddressSanitizer and UBSan (needs clang)
    python -m tests.fuzz differential           see tests/fuzz/differential.py; takes --seconds and --seed
    python -m tests.fuzz keras, torch           see tests/fuzz/against_frameworks.py; the same
    python -m tests.fuzz keep [TARGET ...]      write tests/fuzz/corpora anew, from what libFuzzer left in build/fuzz
    python -m tests.fuzz figures                executions, code reached and finds of each target so far
        --add               and count those of build/fuzz as done, in tests/fuzz/figures.txt

Finds lie in ``build/fuzz/finds``; the exit status is 1 if there are any of this run. Keep one as
``tests/data/fuzz/<target>/<what it was>``: the tests read all those.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests import ROOT
from tests.fuzz import against_frameworks, corpora, memory_folder
from tests.fuzz.against_frameworks import FRAMEWORKS

FOLDER = ROOT / "build" / "fuzz"
#: in bytes, what is kept of the inputs of a target beside its seeds, and of networks in C
MOST_KEPT, MOST_NETWORKS = 18_000, 16_000
_NETWORK = "network"


# Figures


class Figures(NamedTuple):
    """Of all runs of one target in one way."""

    executions: int = 0
    seconds: float = 0.0
    #: edges of the code that libFuzzer saw, at most in one run; 0 where it did not look
    edges: int = 0
    finds: int = 0

    def plus(self, other: Figures) -> Figures:
        return Figures(
            self.executions + other.executions,
            self.seconds + other.seconds,
            max(self.edges, other.edges),
            self.finds + other.finds,
        )


_COLUMNS = f"{'target':20} {'by':12} {'executions':>12} {'seconds':>9} {'edges':>7} {'finds':>6}"


class Table:
    """A table of figures in a file, which people may read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[tuple[str, str], Figures] = {}
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            target, by, *numbers = line.replace(",", "").split()
            if target != "all":
                executions, seconds, edges, finds = map(int, numbers)
                self.rows[target, by] = Figures(executions, seconds, edges, finds)

    def add(self, target: str, by: str, figures: Figures) -> None:
        self.rows[target, by] = self.rows.get((target, by), Figures()).plus(figures)

    def __str__(self) -> str:
        lines = [_COLUMNS]
        total = Figures()
        for (target, by), row in sorted(self.rows.items()):
            total = total.plus(row)
            lines.append(f"{target:20} {by:12} {row.executions:12,} {row.seconds:9,.0f} {row.edges:7,} {row.finds:6}")
        lines.append(f"{'all':33} {total.executions:12,} {total.seconds:9,.0f} {total.finds:14}")
        return "\n".join(lines) + "\n"

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(str(self))


#: of the runs here, and of all that were made with a commit of this repository
_HERE, _DONE = FOLDER / "figures.txt", Path(__file__).parent / "figures.txt"


def record(by: str, target: str, figures: Figures) -> None:
    """Count a run."""
    table = Table(_HERE)
    table.add(target, by, figures)
    table.write()


def show_figures(*, add: bool) -> int:
    done, here = Table(_DONE), Table(_HERE)
    for (target, by), row in here.rows.items():
        done.add(target, by, row)
    print(done, end="")
    if add:
        done.write()
        _HERE.unlink(missing_ok=True)
    return 0


# Readers


def _in_child(work: Callable[[], None], log: Path) -> int:
    """Run `work` in a process of its own, which begins with all that is imported here; its exit status."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    child = os.fork()
    if not child:
        status = 1
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _run_changes(target: str, runs: int, seconds: float, seed: int) -> None:
    """Changes drawn by chance; prints executions as libFuzzer does."""
    from tests.fuzz import mutate, observe

    observer, seeds = observe.Observer(target), observe.seeds(target)
    changes = mutate.Changes(seeds, corpora.words(target), random.Random(f"{seed} {target}"))
    until = time.monotonic() + seconds
    for data in seeds:
        observer(data)
    # the short ones more often: they take less time
    weights = list(itertools.accumulate(1 / (len(data) + 300) for data in seeds))
    while observer.runs < runs and time.monotonic() < until:
        observer(changes.changed(*changes.rng.choices(seeds, cum_weights=weights)))
    print(f"stat::number_of_executed_units: {observer.runs}")


def fuzz_readers(arguments: argparse.Namespace) -> int:
    if arguments.atheris:
        from tests.fuzz import fuzz
    from tests.fuzz import targets

    wrong = 0
    limits = [f"-runs={arguments.runs}", f"-max_total_time={int(arguments.seconds)}", "-print_final_stats=1"]
    for target in arguments.targets or targets.TARGETS:
        start = time.monotonic()
        log = FOLDER / f"{target}.log"
        if arguments.atheris:
            work = functools.partial(fuzz.run, target, FOLDER / "corpus" / target, limits)
        else:
            work = functools.partial(_run_changes, target, arguments.runs, arguments.seconds, arguments.seed)
        status = _in_child(work, log)
        lines = log.read_text(errors="replace").splitlines()
        told = [line for line in lines if line.startswith("FIND")]
        print("".join(f"{line}\n" for line in told), end="")
        if status:
            print("\n".join(lines[-20:]))
        finds = len(told) + (status != 0)
        found = _of_log(lines)._replace(seconds=time.monotonic() - start, finds=finds)
        reached = f"{found.edges:6,} edges " if found.edges else ""
        print(
            f"{target:20} {found.executions:11,} executions {found.seconds:7.1f} s {reached}{found.finds:4} finds",
            flush=True,
        )
        record("atheris" if arguments.atheris else "changes", target, found)
        wrong += found.finds
    return 1 if wrong else 0


def _of_log(lines: Sequence[str]) -> Figures:
    """What libFuzzer says of a run: its executions and the edges that it reached."""
    counts, edges = [0], [0]
    for line in lines:
        if found := re.match(r"#(\d+)\s.* cov: (\d+)", line):
            counts.append(int(found[1]))
            edges.append(int(found[2]))
        elif "number_of_executed_units" in line:
            counts.append(int(line.split()[-1]))
    return Figures(max(counts), 0.0, max(edges), 0)


# C


def _build_c() -> Path:
    """The program of libFuzzer."""
    build = FOLDER.parent / "csrc-fuzz"
    make = ["make", "-C", "csrc", "fuzz", "CC=clang", "WERROR=0", "WITHOUT=avx512", f"BUILD={build}"]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-4000:])
    return build / "fuzz"


#: what a limit of memory refuses gives NULL, as it does without a sanitizer
_SANITIZERS = {
    "ASAN_OPTIONS": "allocator_may_return_null=1:max_allocation_size_mb=400:detect_leaks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "OMP_WAIT_POLICY": "passive",
}


def _built() -> list[bytes]:
    """The networks that are kept in any case."""
    return corpora.inputs(_NETWORK, "built.txt") + corpora.inputs(_NETWORK, "finds.txt")


def fuzz_c(arguments: argparse.Namespace) -> int:
    program = _build_c()
    corpus, finds = FOLDER / "corpus" / _NETWORK, FOLDER / "finds"
    corpus.mkdir(parents=True, exist_ok=True)
    finds.mkdir(parents=True, exist_ok=True)
    for i, data in enumerate([*_built(), *corpora.inputs(_NETWORK)]):
        (corpus / f"seed-{i}").write_bytes(data)
    limits = [f"-max_total_time={int(arguments.seconds)}", "-print_final_stats=1", "-max_len=3000", "-timeout=300"]
    limits += ["-rss_limit_mb=3000", "-malloc_limit_mb=0", f"-seed={arguments.seed}"]
    limits.append(f"-artifact_prefix={finds}/{_NETWORK}-")
    log = FOLDER / f"{_NETWORK}.log"
    start = time.monotonic()
    with log.open("w") as file:
        command = [str(program), *limits, str(corpus)]
        done = subprocess.run(
            command, env={**os.environ, **_SANITIZERS}, stdout=file, stderr=subprocess.STDOUT, check=False
        )
    lines = log.read_text(errors="replace").splitlines()
    wrong = done.returncode != 0
    if wrong:
        print("\n".join(lines[-60:]))
    found = _of_log(lines)._replace(seconds=time.monotonic() - start, finds=int(wrong))
    print(
        f"{found.executions:,} executions, {found.edges:,} edges, {'a find' if wrong else 'no finds'}: "
        f"{os.path.relpath(log, ROOT)}"
    )
    record("libFuzzer", _NETWORK, found)
    return done.returncode


# Corpora


def _features(target: str, files: Sequence[Path]) -> list[set[int]]:
    """What of the code each file reaches, as libFuzzer counts it when it merges corpora."""
    with tempfile.TemporaryDirectory(prefix="cylstm-fuzz-", dir=memory_folder()) as folder:
        control = Path(folder, "control")
        control.write_text("\n".join([str(len(files)), "0", *map(str, files)]) + "\n")
        options = ["-merge_inner=2", f"-merge_control_file={control}"]
        log = FOLDER / f"{target}-keep.log"
        if target == _NETWORK:
            with log.open("w") as output:
                command = [str(_build_c()), *options]
                status = subprocess.run(
                    command, env={**os.environ, **_SANITIZERS}, stderr=output, check=False
                ).returncode
        else:
            from tests.fuzz import fuzz

            status = _in_child(functools.partial(fuzz.run, target, Path(folder, "corpus"), options), log)
        if status:
            sys.exit(log.read_text(errors="replace")[-4000:])
        found: dict[int, set[int]] = {}
        for line in control.read_text().splitlines()[2 + len(files) :]:
            if line.startswith("FT "):
                place, *features = map(int, line.split()[1:])
                found[place] = set(features)
    return [found.get(place, set()) for place in range(len(files))]


def keep(names: Sequence[str]) -> int:
    """Write the inputs of targets anew, those first that were kept before."""
    if names != [_NETWORK]:
        from tests.fuzz import fuzz  # noqa: F401 - the package is imported with its instruments
    from tests.fuzz import targets

    for target in names or [*targets.TARGETS, _NETWORK]:
        own = _built() if target == _NETWORK else targets.seeds(target)
        found = [path.read_bytes() for path in (FOLDER / "corpus" / target).glob("*") if path.is_file()]
        inputs = list(dict.fromkeys([*corpora.inputs(target), *sorted(found, key=len)]))
        inputs = [data for data in inputs if data not in own]
        with tempfile.TemporaryDirectory(prefix="cylstm-fuzz-", dir=memory_folder()) as folder:
            files = [Path(folder, str(i)) for i in range(len(own) + len(inputs))]
            for path, data in zip(files, [*own, *inputs], strict=True):
                path.write_bytes(data)
            features = _features(target, files)
        reached = set().union(*features[: len(own)])
        most = MOST_NETWORKS if target == _NETWORK else MOST_KEPT
        features = features[len(own) :]
        chosen = corpora.fewest(features, [len(data) for data in inputs], reached, most)
        corpora.write_inputs(target, [inputs[place] for place in chosen])
        size = sum(len(inputs[place]) for place in chosen)
        kept = f"{len(chosen):4} of {len(inputs):5} inputs, {size:6,} bytes"
        together, every = (len(reached.union(*some)) for some in ((features[place] for place in chosen), features))
        print(f"{target:20} {kept}: {together:,} of {every:,} features", flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["readers", "c", "differential", *FRAMEWORKS, "keep", "figures"])
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--atheris", action="store_true")
    parser.add_argument("--add", action="store_true")
    arguments = parser.parse_args()
    match arguments.what:
        case "readers":
            return fuzz_readers(arguments)
        case "c":
            return fuzz_c(arguments)
        case "differential":
            from tests.fuzz import differential

            start = time.monotonic()
            runs, finds = differential.run(arguments.seconds, arguments.seed)
            record("differential", _NETWORK, Figures(runs, time.monotonic() - start, 0, finds))
            return 1 if finds else 0
        case "keras" | "torch":
            start = time.monotonic()
            runs, finds = against_frameworks.run(arguments.what, arguments.seconds, arguments.seed)
            record("framework", arguments.what, Figures(runs, time.monotonic() - start, 0, finds))
            return 1 if finds else 0
        case "keep":
            return keep(arguments.targets)
    return show_figures(add=arguments.add)


if __name__ == "__main__":
    sys.exit(main())
