"""Plants faults in a copy of the package, one at a time, and runs the tests until one notices: `make mutants`.

    python tests/mutants/run.py                          all of them
    python tests/mutants/run.py forecasting kernels      two areas
    python tests/mutants/run.py --name "forget gate"     those whose names have this text
    python tests/mutants/run.py --left                   those that have not been judged as they stand
    python tests/mutants/run.py --list
    python tests/mutants/run.py --figures                what has been judged so far, by area

An area is a file of this folder (`forecasting.toml`), a fault one table `[[fault]]` in it:

    name        what is wrong, in words; no two are the same
    file        the file that is changed
    old, new    the text that stands there once, and what takes its place
    tests       rings, the nearest first: files of tests or single tests of pytest; "c:NAME" is `make -C csrc
                test-NAME`, "c:NAME under address,undefined" the same with these sanitizers
    explained   optional: why no test can notice

A fault of C is compiled with -O1 for two instruction sets, by csrc/Makefile, which compiles only what has changed;
afterwards what was compiled without it is put back. A ring counts as noticing if it fails with the fault and passes
without it, and ends at its first failure. What comes of each fault is kept in `judged.csv`, beside a sum of the entry,
so that an entry that has changed since is told from one that was judged.

The exit status is 1 if a fault survives that is not explained, or if the list is wrong: a text that is not there once,
a fault that does not build, an explained one that is noticed.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import tomllib
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
#: what came of each fault
JUDGED = HERE / "judged.csv"
#: where a copy builds C, with paths that are right in a copy of the copy too
BUILT = "built"
#: what a copy holds
COPIED = (
    BUILT,
    "csrc",
    "cylstm",
    "docs",
    "examples",
    "tests",
    "setup.py",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
)
IGNORED = shutil.ignore_patterns(".*", "mutants", "*.pyc.*")
#: of the C library's tests, and of files that the extension is made of
C_PREFIX, NATIVE = "c:", (".c", ".h", ".def", ".pyx", ".pxd")
#: two sets that fuse multiply-adds, or do so exactly: what is wrong in one alone shows as other bits
SETS = {"x86_64": ("avx2", "scalar"), "amd64": ("avx2", "scalar"), "aarch64": ("neon", "scalar")}
C_FLAGS = "-std=c11 -O1 -fPIC -ffp-contract=off -fno-math-errno -fvisibility=hidden"
#: until a ring with a fault in it is taken to hang, and until a test of C is, which has a watch of its own
MOST_SECONDS, MOST_SECONDS_OF_C = 900, 300


#: what may come of a fault
GOOD = ("caught", "explained")


class Fault(NamedTuple):
    """One entry of a list."""

    area: str
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    explained: str

    @property
    def is_native(self) -> bool:
        """Whether something has to be compiled."""
        return self.file.endswith(NATIVE)

    @property
    def sum(self) -> str:
        """Tells this entry from another one of its name."""
        parts = (self.file, self.old, self.new, *self.tests, self.explained)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


class Outcome(NamedTuple):
    """What became of a fault: "caught", "survived", "explained" or "wrong" (of the list)."""

    fault: Fault
    kind: str
    #: which ring noticed, counted from 1; 0 if none did
    ring: int
    detail: str
    seconds: float

    @property
    def is_good(self) -> bool:
        return self.kind in GOOD


def areas() -> list[str]:
    """The names of all areas."""
    return sorted(path.stem for path in HERE.glob("*.toml"))


def read_faults(chosen: list[str] | None = None) -> list[Fault]:
    """The faults of some areas, by default of all, in the order of their files."""
    found = []
    for area in chosen or areas():
        with open(HERE / f"{area}.toml", "rb") as file:
            entries = tomllib.load(file)["fault"]
        for entry in entries:
            fault = dict(entry)
            fault["tests"] = tuple(fault["tests"])
            found.append(Fault(area=area, **{"explained": "", **fault}))
    return found


def problems_of(faults: list[Fault], root: Path = ROOT) -> list[str]:
    """What is wrong with a list itself."""
    found = []
    names: set[str] = set()
    texts: dict[str, str] = {}
    for fault in faults:
        if fault.name in names:
            found.append(f"{fault.name}: there are two of this name")
        names.add(fault.name)
        path = root / fault.file
        if not path.is_file():
            found.append(f"{fault.name}: there is no {fault.file}")
            continue
        text = texts.setdefault(fault.file, path.read_text(encoding="utf-8"))
        if text.count(fault.old) != 1:
            found.append(f"{fault.name}: its text stands {text.count(fault.old)} times in {fault.file}")
        if fault.old == fault.new:
            found.append(f"{fault.name}: it changes nothing")
        if not fault.tests:
            found.append(f"{fault.name}: no tests are named")
        for ring in fault.tests:
            where = root / ring.partition("::")[0]
            if ring.startswith(C_PREFIX):
                where = root / "tests" / "csrc" / f"{c_test_of(ring)[0]}_test.c"
            if not where.exists():
                found.append(f"{fault.name}: there are no tests {ring}")
    return found


class Judged(NamedTuple):
    """A line of what is kept: what came of a fault when it was run last."""

    area: str
    name: str
    sum: str
    kind: str
    ring: int
    detail: str


def read_judged() -> dict[str, Judged]:
    """What is kept, by the names of faults."""
    if not JUDGED.exists():
        return {}
    with open(JUDGED, encoding="utf-8", newline="") as file:
        table = csv.reader(file)
        next(table)
        lines = [Judged(area, name, sum_, kind, int(ring), detail) for area, name, sum_, kind, ring, detail in table]
    return {line.name: line for line in lines}


def keep(outcome: Outcome) -> None:
    """Put what came of a fault into the file; lines of faults that are no more go."""
    judged = read_judged()
    fault = outcome.fault
    detail = "" if outcome.kind == "explained" else outcome.detail.partition("\n")[0]
    judged[fault.name] = Judged(fault.area, fault.name, fault.sum, outcome.kind, outcome.ring, detail)
    # at once, since the file is read meanwhile
    part = JUDGED.with_suffix(".part")
    with open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Judged._fields)
        writer.writerows(judged[one.name] for one in read_faults() if one.name in judged)
    os.replace(part, JUDGED)


def left_of(faults: list[Fault]) -> list[Fault]:
    """Those that have not been judged well as they stand."""
    judged = read_judged()
    return [
        one
        for one in faults
        if one.name not in judged or judged[one.name].sum != one.sum or judged[one.name].kind not in GOOD
    ]


def noticed_by(fault: Fault) -> list[tuple[int, str]]:
    """The ring that noticed last, as its number and the one test if that is known: most likely it notices again."""
    line = read_judged().get(fault.name)
    if line is None or line.kind != "caught" or not 0 < line.ring <= len(fault.tests):
        return []
    ring = fault.tests[line.ring - 1]
    test = line.detail.removeprefix(f"by {ring}: FAILED ")
    return [(line.ring, test if test.startswith(ring.partition("::")[0] + "::") else ring)]


def show_figures(faults: list[Fault]) -> None:
    """A line for each area: how many are planted and judged as they stand, and which ring noticed."""
    judged = read_judged()
    titles = (
        f"{'planted':>8}{'judged':>8}{'caught':>8}{'ring 1':>8}{'2':>5}{'3':>5}{'4+':>5}{'explained':>11}{'open':>6}"
    )
    print(f"{'area':14}{titles}")
    rows = []
    for area in areas():
        planted = [one for one in faults if one.area == area]
        lines = [judged[one.name] for one in planted if one.name in judged and judged[one.name].sum == one.sum]
        rings = [line.ring for line in lines if line.kind == "caught"]
        by_ring = [rings.count(1), rings.count(2), rings.count(3), sum(ring > 3 for ring in rings)]
        kinds = [sum(line.kind == kind for line in lines) for kind in ("explained", "survived", "wrong")]
        rows.append([len(planted), len(lines), len(rings), *by_ring, kinds[0], kinds[1] + kinds[2]])
    for area, row in zip([*areas(), "all"], [*rows, [sum(column) for column in zip(*rows)]]):
        a, b, c, *d, e, f = row
        print(f"{area:14}{a:8}{b:8}{c:8}{d[0]:8}{d[1]:5}{d[2]:5}{d[3]:5}{e:11}{f:6}")


def c_test_of(ring: str) -> tuple[str, str]:
    """The name of a test of the C library, and its sanitizers."""
    name, _, sanitizers = ring.removeprefix(C_PREFIX).partition(" under ")
    return name, sanitizers


class BuildError(Exception):
    """A fault does not compile; holds what the compiler said."""


class Workspace:
    """A copy of the tree, in which one fault at a time is planted."""

    def __init__(self, folder: Path, root: Path = ROOT) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        for name in COPIED:
            source = root / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=IGNORED, symlinks=True)
            elif source.exists():
                shutil.copy2(source, folder / name)
        self._environment = {**os.environ, "PYTHONPATH": str(folder)}
        # plugins cost half of the time that pytest takes to start, and no test needs one
        self._environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        self._environment.setdefault("KERAS_BACKEND", "torch")
        self._root = root
        self._needs_build = False

    def plant(self, fault: Fault) -> None:
        """Change the file."""
        path = self.folder / fault.file
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
        self._forget_byte_code(path)
        self._needs_build = fault.is_native

    def restore(self, fault: Fault) -> None:
        """Put back the file, with its time stamp, and what was built without the fault: nothing is built again."""
        path = self.folder / fault.file
        shutil.copy2(self._root / fault.file, path)
        self._forget_byte_code(path)
        self._needs_build = False
        if fault.is_native:
            shutil.rmtree(self.folder / BUILT, ignore_errors=True)
            shutil.copytree(self._root / BUILT, self.folder / BUILT)
            for extension in (self._root / "cylstm/engine").glob("_engine*.so"):
                target = self.folder / "cylstm/engine" / extension.name
                target.unlink(missing_ok=True)  # one that is loaded somewhere must not change
                shutil.copy2(extension, target)

    def _forget_byte_code(self, path: Path) -> None:
        """A byte code file is told by seconds and sizes, which may be the same."""
        for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            stale.unlink()

    def run(self, ring: str) -> str:
        """What a ring says: "" if it passes, else the first thing that it found."""
        if ring.startswith(C_PREFIX):
            name, sanitizers = c_test_of(ring)
            self.build_c_test(ring)
            ended = self._call(self._make_command(f"test-{name}", sanitizers), until="FAILED")
            return "" if ended.returncode == 0 else _failure_of_c(ended.stdout)
        if self._needs_build:
            self.build_extension()
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider"]
        ended = self._call([*command, "--tb=line", ring])
        if ended.returncode in (4, 5):
            raise BuildError(f"pytest found no tests {ring}\n{ended.stdout}")
        return "" if ended.returncode == 0 else _failure_of(ended.stdout)

    def build_c_test(self, ring: str) -> None:
        """The program of a ring of C."""
        name, sanitizers = c_test_of(ring)
        self._make(f"$(BUILD)/tests/{name}_test", sanitizers)

    def _call(self, command: list[str], until: str = "") -> subprocess.CompletedProcess[str]:
        """Run to the end, or up to the first line that has a text; outputs and errors are one text."""
        process = subprocess.Popen(
            command, cwd=self.folder, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        hung = threading.Event()

        def end() -> None:
            hung.set()
            _end(process)

        watch = threading.Timer(MOST_SECONDS, end)
        watch.start()
        lines = []
        is_found = False
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                lines.append(line)
                if until and until in line:
                    is_found = True
                    _end(process)
                    break
        code = process.wait()
        watch.cancel()
        if hung.is_set():
            lines.append("FAILED: it does not end\n")
        return subprocess.CompletedProcess(command, 1 if is_found or hung.is_set() else code, "".join(lines))

    def _make_command(self, target: str, sanitizers: str = "") -> list[str]:
        machine = platform.machine().lower()
        build = f"../{BUILT}/{sanitizers.replace(',', '-') or 'plain'}"
        sets = SETS.get(machine, ("scalar",))
        text = (self.folder / "csrc/include/cylstm_isa.def").read_text(encoding="utf-8")
        names = [line[8:].split(",")[0] for line in text.splitlines() if line.startswith("CYL_ISA(")]
        have = " ".join(f"-DCYL_HAVE_{name.upper()}={int(name in sets)}" for name in names)
        settings = {
            "BUILD": build,
            "SETS": " ".join(sets),
            "HAVE_SETS": have,
            "FLAGS": C_FLAGS,
            "WERROR": "0",
            "SANITIZE": sanitizers,
            # on the pool's threads alone
            "OPENMP": "",
            "MOST_SECONDS": str(MOST_SECONDS_OF_C),
        }
        given = [f"{name}={value}" for name, value in settings.items()]
        return ["make", "-s", "-C", "csrc", *given, target.replace("$(BUILD)", build)]

    def _make(self, target: str, sanitizers: str = "") -> None:
        self._checked(self._make_command(target, sanitizers))

    def _checked(self, command: list[str]) -> None:
        ended = self._call(command)
        if ended.returncode:
            raise BuildError(ended.stdout[-2000:])

    def build_extension(self) -> None:
        """The extension with the library of csrc/Makefile, in the place of the one that was copied."""
        import numpy

        self._needs_build = False
        build = self.folder / BUILT / "plain"
        self._make("$(BUILD)/libcylstm.a")
        source, object_ = self.folder / "cylstm/engine/_engine.pyx", build / "_engine.o"
        compiler = [*sysconfig.get_config_var("CC").split(), *C_FLAGS.split(), "-w"]
        if _is_older(object_, [source, source.with_name("_cylstm.pxd")]):
            made = str(build / "_engine.c")
            self._checked([sys.executable, "-m", "cython", "-3", str(source), "-o", made])
            headers = [f"-I{sysconfig.get_path('include')}", f"-I{numpy.get_include()}", "-Icsrc/include"]
            macro = "-DNPY_NO_DEPRECATED_API=NPY_1_7_API_VERSION"
            # nothing is computed in it, so that it is compiled as fast as can be
            self._checked([*compiler, "-O0", macro, *headers, "-c", made, "-o", str(object_)])
        target = source.with_name(f"_engine{sysconfig.get_config_var('EXT_SUFFIX')}")
        target.unlink(missing_ok=True)  # one that is loaded somewhere must not change
        libraries = [str(build / "libcylstm.a"), "-lm", "-lpthread"]
        self._checked([*compiler, "-shared", str(object_), *libraries, "-o", str(target)])


def _is_older(made: Path, sources: list[Path]) -> bool:
    return not made.exists() or any(path.stat().st_mtime >= made.stat().st_mtime for path in sources)


def _end(process: subprocess.Popen[str]) -> None:
    """End what was started, with all that it started itself."""
    with contextlib.suppress(ProcessLookupError):  # it has ended
        os.killpg(process.pid, signal.SIGKILL)


def _failure_of_c(text: str) -> str:
    """The first check that failed, of what a test of C printed; a sanitizer's own word if there is one."""
    for line in text.splitlines():
        if "FAILED" in line or "ERROR: " in line or "runtime error" in line:
            return line.strip()[:160]
    return _last_line(text)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("make")]
    return lines[-1].strip()[:160] if lines else "it failed"


def _failure_of(text: str) -> str:
    """Which test failed, of what pytest printed."""
    for line in text.splitlines():
        if line.startswith(("FAILED", "ERROR")):
            return line.split(" - ")[0]
    return _last_line(text)


class Checker:
    """Runs faults in workspaces of its own; rings that notice are run once without a fault."""

    def __init__(self, folder: Path, root: Path = ROOT) -> None:
        self._folder, self._root = folder, root
        self._local = threading.local()
        self._lock = threading.Lock()
        self._made = 0
        self._clean: Workspace | None = None
        self._passing: dict[str, str] = {}
        self._locks: dict[str, threading.Lock] = {}

    def prepare(self, faults: list[Fault]) -> None:
        """Make once what all copies for these faults are made of, so that the tree itself may change meanwhile."""
        clean = self._clean_workspace()
        self._root = clean.folder
        native = [fault for fault in faults if fault.is_native]
        if native:
            clean.build_extension()
        for ring in sorted({ring for fault in native for ring in fault.tests if ring.startswith(C_PREFIX)}):
            if not c_test_of(ring)[1]:  # sanitizers are seldom needed and take minutes
                clean.build_c_test(ring)

    def _clean_workspace(self) -> Workspace:
        if self._clean is None:
            self._clean = Workspace(self._folder / "clean", self._root)
        return self._clean

    def check(self, fault: Fault) -> Outcome:
        """Plant a fault and run its rings until one notices."""
        begin = time.monotonic()
        workspace = self._workspace()
        workspace.plant(fault)
        try:
            kind, ring, detail = self._run_rings(workspace, fault)
        except BuildError as error:
            kind, ring, detail = "wrong", 0, f"does not build: {error}"
        finally:
            workspace.restore(fault)
        return Outcome(fault, kind, ring, detail, time.monotonic() - begin)

    def _run_rings(self, workspace: Workspace, fault: Fault) -> tuple[str, int, str]:
        remembered = noticed_by(fault)
        for place, (number, ring) in enumerate([*remembered, *enumerate(fault.tests, 1)]):
            try:
                found = workspace.run(ring)
            except BuildError:
                if place < len(remembered):
                    continue  # there is no such test any more
                raise
            if found:
                without = self._without_fault(ring, found)
                if without:
                    return "wrong", number, f"{ring} fails without the fault too: {without}"
                if fault.explained:
                    return "wrong", number, f"is explained, and noticed by {found}"
                return "caught", number, f"by {fault.tests[number - 1]}: {found}"
        if fault.explained:
            return "explained", 0, fault.explained
        return "survived", 0, f"{len(fault.tests)} rings of tests: {', '.join(fault.tests)}"

    def _workspace(self) -> Workspace:
        """That of this thread."""
        if not hasattr(self._local, "workspace"):
            with self._lock:
                self._made += 1
                name = f"copy{self._made}"
            self._local.workspace = Workspace(self._folder / name, self._root)
        workspace: Workspace = self._local.workspace
        return workspace

    def _without_fault(self, ring: str, found: str) -> str:
        """What the test that failed says without a fault, or where it is not known which, all of the ring."""
        test = found.removeprefix("FAILED ") if found.startswith("FAILED ") and "::" in found else ring
        with self._lock:
            workspace = self._clean_workspace()
            lock = self._locks.setdefault(test, threading.Lock())
        with lock:
            if test not in self._passing:
                self._passing[test] = workspace.run(test)
            return self._passing[test]


def chosen_faults(names: list[str], chosen: list[str]) -> list[Fault]:
    """The faults of some areas whose names have one of these texts."""
    return [fault for fault in read_faults(chosen) if not names or any(text in fault.name for text in names)]


def main(arguments: list[str] | None = None) -> int:
    """The program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("areas", nargs="*", metavar="AREA", help=f"of {', '.join(areas())}; by default all")
    parser.add_argument("--name", action="append", default=[], help="only faults whose names have this text")
    parser.add_argument("--left", action="store_true", help="only faults that have not been judged as they stand")
    parser.add_argument("--list", action="store_true", help="show the faults and do nothing")
    parser.add_argument("--figures", action="store_true", help="show what has been judged so far and do nothing")
    parser.add_argument("--jobs", type=int, default=1, help="how many copies work at once")
    given = parser.parse_args(arguments)
    for area in given.areas:
        if area not in areas():
            parser.error(f"there is no area {area!r}; there are {', '.join(areas())}")
    if given.jobs < 1:
        parser.error("--jobs: expected a number of at least 1")
    faults = chosen_faults(given.name, given.areas)
    if given.left:
        faults = left_of(faults)
    if given.figures:
        show_figures(faults)
        return 0
    if given.list:
        for fault in faults:
            print(f"{fault.area}: {fault.name} ({fault.file})")
        return 0
    problems = problems_of(read_faults())
    if problems or not faults:
        print("\n".join(problems) or "no fault is chosen")
        return 1
    if not list((ROOT / "cylstm/engine").glob("_engine*.so")):
        print("the extension is not built: python setup.py build_ext --inplace")
        return 1
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        checker = Checker(Path(folder))
        outcomes = []
        checker.prepare(faults)
        # those that need no build first
        faults.sort(key=lambda fault: fault.is_native)
        with ThreadPoolExecutor(given.jobs) as pool:
            try:
                for done in as_completed([pool.submit(checker.check, fault) for fault in faults]):
                    outcome = done.result()
                    outcomes.append(outcome)
                    keep(outcome)
                    print(f"{outcome.kind:<9} {outcome.fault.area}: {outcome.fault.name} [{outcome.seconds:.0f} s]")
                    print(f"          {outcome.detail}", flush=True)
            except BaseException:
                traceback.print_exc()
                pool.shutdown(wait=False, cancel_futures=True)  # else the others would be run first, for nothing
                raise
    counts = {kind: sum(one.kind == kind for one in outcomes) for kind in ("caught", "explained", "survived", "wrong")}
    print(f"{len(outcomes)} faults: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))
    for outcome in outcomes:
        if not outcome.is_good:
            print(f"{outcome.kind}: {outcome.fault.area}: {outcome.fault.name}: {outcome.detail}")
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
