"""Fuzzing, one command each, and what has been done so far.

    python -m tests.fuzz readers [TARGET ...]   changed files and arguments, of all targets or of some
        --runs N            executions of each target (default 2000)
        --seconds N         or until so many have passed, of each target (default 600)
        --atheris           guided by coverage; needs `pip install atheris`. Without it: changes drawn by chance
        --seed N            of those changes; a second run of one seed is the first again
    python -m tests.fuzz c --seconds N          networks in C under libFuzzer, AddressSanitizer and UBSan (needs clang)
    python -m tests.fuzz differential           see tests/fuzz/differential.py; takes --seconds and --seed
    python -m tests.fuzz figures                executions of each target so far, and finds

Finds lie in ``build/fuzz/finds``; the exit status is 1 if there are any of this run. Keep one as
``tests/data/fuzz/<target>/<what it was>``: the tests read all those.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import subprocess
import sys
import time
from pathlib import Path

from tests import ROOT

FOLDER = ROOT / "build" / "fuzz"
FIGURES = FOLDER / "figures.json"
CORPUS = Path(__file__).parent / "corpora" / "network.txt"


def record(kind: str, target: str, runs: int, seconds: float, finds: int) -> None:
    """Add to the figures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    row = figures.setdefault(f"{target} ({kind})", [0, 0.0, 0])
    figures[f"{target} ({kind})"] = [row[0] + runs, row[1] + seconds, row[2] + finds]
    FIGURES.write_text(json.dumps(figures, indent=1, sort_keys=True))


def show() -> int:
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    print(f"{'target':44} {'executions':>12} {'seconds':>9} {'per second':>10} {'finds':>6}")
    rows = [*sorted(figures.items()), ("all", [sum(column) for column in zip(*figures.values())] or [0, 0.0, 0])]
    for target, (runs, seconds, finds) in rows:
        print(f"{target:44} {runs:12,} {seconds:9,.0f} {runs / max(seconds, 1e-9):10,.0f} {finds:6}")
    return 0


# Readers


def _worker(target: str, runs: int, seconds: float, seed: int) -> None:
    """Changes drawn by chance; prints executions and finds."""
    import numpy as np

    from tests.fuzz import mutate, observe

    observer, seeds = observe.Observer(target), observe.seeds(target)
    rng = np.random.default_rng([seed, *target.encode()])
    until = time.monotonic() + seconds
    for data in seeds:
        observer(data)
    while observer.runs < runs and time.monotonic() < until:
        observer(mutate.changed(seeds[observer.runs % len(seeds)], seeds, rng))
    print(json.dumps([observer.runs, len(observer.finds)]))


def fuzz_readers(arguments: argparse.Namespace) -> int:
    from tests.fuzz import targets

    wrong = 0
    for target in arguments.targets or targets.TARGETS:
        start = time.monotonic()
        if arguments.atheris:
            runs, finds = _run_atheris(target, arguments.runs, arguments.seconds)
        else:
            options = [f"--runs={arguments.runs}", f"--seconds={arguments.seconds}", f"--seed={arguments.seed}"]
            command = [sys.executable, "-m", "tests.fuzz", "worker", target, *options]
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
            runs, finds = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else (0, 1)
        seconds = time.monotonic() - start
        print(f"{target:24} {runs:9,} executions {seconds:7.1f} s {finds:4} finds", flush=True)
        record("atheris" if arguments.atheris else "changes", target, runs, seconds, finds)
        wrong += finds
    return 1 if wrong else 0


def _run_atheris(target: str, runs: int, seconds: float) -> tuple[int, int]:
    limits = [f"-runs={runs}", f"-max_total_time={int(seconds)}", "-print_final_stats=1", "-verbosity=0"]
    command = [sys.executable, "-m", "tests.fuzz.fuzz", target, str(FOLDER / "corpus"), *limits]
    log = FOLDER / f"{target}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        done = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False)
    text = log.read_text(errors="replace")
    found = re.findall(r"number_of_executed_units: (\d+)", text)
    finds = len(re.findall(r"^FIND ", text, re.MULTILINE)) + (done.returncode != 0)
    print("".join(f"{line}\n" for line in text.splitlines() if line.startswith("FIND")), end="")
    return int(found[-1]) if found else 0, finds


# C


def fuzz_c(arguments: argparse.Namespace) -> int:
    build = FOLDER.parent / "csrc-fuzz"
    make = ["make", "-C", "csrc", "fuzz", "CC=clang", "WERROR=0", "WITHOUT=avx512", f"BUILD={build}"]
    subprocess.run(make, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    corpus, finds = FOLDER / "corpus" / "network", FOLDER / "finds"
    corpus.mkdir(parents=True, exist_ok=True)
    finds.mkdir(parents=True, exist_ok=True)
    for i, line in enumerate(CORPUS.read_text().split()):
        (corpus / f"seed-{i}").write_bytes(base64.b64decode(line + "=" * (-len(line) % 4)))
    limits = [f"-max_total_time={int(arguments.seconds)}", "-print_final_stats=1", "-max_len=3000", "-timeout=60"]
    limits += ["-rss_limit_mb=3000", "-malloc_limit_mb=0", f"-artifact_prefix={finds}/network-"]
    sanitizer = "allocator_may_return_null=1:max_allocation_size_mb=400:detect_leaks=1"
    log = FOLDER / "network.log"
    start = time.monotonic()
    with log.open("w") as file:
        done = subprocess.run(
            [str(build / "fuzz"), *limits, str(corpus)],
            env={"ASAN_OPTIONS": sanitizer, "UBSAN_OPTIONS": "print_stacktrace=1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    lines = log.read_text(errors="replace").splitlines()
    counts = [int(found[1]) for line in lines if (found := re.match(r"#(\d+)\s", line))]
    final = [int(line.split()[-1]) for line in lines if "number_of_executed_units" in line]
    runs = final[-1] if final else max(counts, default=0)
    wrong = done.returncode != 0
    if wrong:
        print("\n".join(lines[-60:]))
    print(f"{runs:,} executions, {'a find' if wrong else 'no finds'}: {log}")
    record("libFuzzer", "network", runs, time.monotonic() - start, int(wrong))
    return done.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["readers", "c", "differential", "figures", "worker"])
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--atheris", action="store_true")
    arguments = parser.parse_args()
    match arguments.what:
        case "readers":
            return fuzz_readers(arguments)
        case "worker":
            _worker(arguments.targets[0], arguments.runs, arguments.seconds, arguments.seed)
            return 0
        case "c":
            return fuzz_c(arguments)
        case "differential":
            from tests.fuzz import differential

            start = time.monotonic()
            runs, finds = differential.run(arguments.seconds, arguments.seed)
            record("differential", "network", runs, time.monotonic() - start, finds)
            return 1 if finds else 0
    return show()


if __name__ == "__main__":
    sys.exit(main())
