"""Plants faults in a copy of the package, one at a time, and runs the tests until one notices: `make mutants`.

    python tests/mutants/run.py                          all of them
    python tests/mutants/run.py forecasting kernels      two areas
    python tests/mutants/run.py --name "forget gate"     those whose names have this text
    python tests/mutants/run.py --list

An area is a file of this folder (`forecasting.toml`), a fault one table `[[fault]]` in it:

    name        what is wrong, in words; no two are the same
    file        the file that is changed
    old, new    the text that stands there once, and what takes its place
    tests       rings, the nearest first: files of tests or single tests of pytest; "c:NAME" is `make -C csrc
                test-NAME`, "c:NAME under address,undefined" the same with these sanitizers
    explained   optional: why no test can notice

A fault of C is compiled with -O1 for two instruction sets, by csrc/Makefile, which compiles only what has changed.
A ring counts as noticing if it fails with the fault and passes without it.

The exit status is 1 if a fault survives that is not explained, or if the list is wrong: a text that is not there once,
a fault that does not build, an explained one that is noticed.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
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
IGNORED = shutil.ignore_patterns(".*", "mutants")
#: of the C library's tests, and of files that the extension is made of
C_PREFIX, NATIVE = "c:", (".c", ".h", ".def", ".pyx", ".pxd")
#: two sets that fuse multiply-adds, or do so exactly: what is wrong in one alone shows as other bits
SETS = {"x86_64": ("avx2", "scalar"), "amd64": ("avx2", "scalar"), "aarch64": ("neon", "scalar")}
C_FLAGS = "-std=c11 -O1 -fPIC -ffp-contract=off -fno-math-errno -fvisibility=hidden"
#: until a ring with a fault in it is taken to hang
MOST_SECONDS = 900


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


class Outcome(NamedTuple):
    """What became of a fault: "caught", "survived", "explained" or "wrong" (of the list)."""

    fault: Fault
    kind: str
    detail: str
    seconds: float

    @property
    def is_good(self) -> bool:
        return self.kind in ("caught", "explained")


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
        self._environment.setdefault("KERAS_BACKEND", "torch")
        self._needs_build = False

    def plant(self, fault: Fault) -> None:
        """Change the file."""
        self._replace(fault, fault.old, fault.new)

    def restore(self, fault: Fault) -> None:
        """Change it back. The time stamp is new, so that objects with the fault are made again."""
        self._replace(fault, fault.new, fault.old)

    def _replace(self, fault: Fault, old: str, new: str) -> None:
        path = self.folder / fault.file
        text = path.read_text(encoding="utf-8")
        if old == fault.old:
            self._text = text
            changed = text.replace(old, new)
        else:
            changed = self._text
        path.write_text(changed, encoding="utf-8")
        # a byte code file is told by seconds and sizes, which may be the same
        for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            stale.unlink()
        self._needs_build = self._needs_build or fault.is_native

    def run(self, ring: str) -> str:
        """What a ring says: "" if it passes, else the first thing that it found."""
        if ring.startswith(C_PREFIX):
            name, sanitizers = c_test_of(ring)
            self._make(f"$(BUILD)/tests/{name}_test", sanitizers)
            ended = self._call(self._make_command(f"test-{name}", sanitizers))
            return "" if ended.returncode == 0 else _last_line(ended.stdout + ended.stderr)
        if self._needs_build:
            self.build_extension()
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider"]
        ended = self._call([*command, "--tb=line", ring])
        if ended.returncode in (4, 5):
            raise BuildError(f"pytest found no tests {ring}\n{ended.stdout}{ended.stderr}")
        return "" if ended.returncode == 0 else _failure_of(ended.stdout + ended.stderr)

    def _call(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command, cwd=self.folder, env=self._environment, timeout=MOST_SECONDS, capture_output=True, text=True,
                errors="replace",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 1, "FAILED: it does not end", "")

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
        }
        given = [f"{name}={value}" for name, value in settings.items()]
        return ["make", "-s", "-C", "csrc", *given, target.replace("$(BUILD)", build)]

    def _make(self, target: str, sanitizers: str = "") -> None:
        self._checked(self._make_command(target, sanitizers))

    def _checked(self, command: list[str]) -> None:
        ended = self._call(command)
        if ended.returncode:
            raise BuildError(ended.stdout[-2000:] + ended.stderr[-2000:])

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
            self._checked([*compiler, macro, *headers, "-c", made, "-o", str(object_)])
        target = source.with_name(f"_engine{sysconfig.get_config_var('EXT_SUFFIX')}")
        target.unlink(missing_ok=True)  # one that is loaded somewhere must not change
        libraries = [str(build / "libcylstm.a"), "-lm", "-lpthread"]
        self._checked([*compiler, "-shared", str(object_), *libraries, "-o", str(target)])


def _is_older(made: Path, sources: list[Path]) -> bool:
    return not made.exists() or any(path.stat().st_mtime >= made.stat().st_mtime for path in sources)


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

    def prepare_native(self) -> None:
        """Build once what all copies start from, before faults of C."""
        self._clean_workspace().build_extension()
        self._root = self._folder / "clean"

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
            kind, detail = self._run_rings(workspace, fault)
        except BuildError as error:
            kind, detail = "wrong", f"does not build: {error}"
        finally:
            workspace.restore(fault)
        return Outcome(fault, kind, detail, time.monotonic() - begin)

    def _run_rings(self, workspace: Workspace, fault: Fault) -> tuple[str, str]:
        for ring in fault.tests:
            found = workspace.run(ring)
            if found:
                without = self._without_fault(ring, found)
                if without:
                    return "wrong", f"{ring} fails without the fault too: {without}"
                if fault.explained:
                    return "wrong", f"is explained, and noticed by {found}"
                return "caught", f"by {ring}: {found}"
        if fault.explained:
            return "explained", fault.explained
        return "survived", f"{len(fault.tests)} rings of tests: {', '.join(fault.tests)}"

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
            if test not in self._passing:
                self._passing[test] = self._clean_workspace().run(test)
            return self._passing[test]


def chosen_faults(names: list[str], chosen: list[str]) -> list[Fault]:
    """The faults of some areas whose names have one of these texts."""
    return [fault for fault in read_faults(chosen) if not names or any(text in fault.name for text in names)]


def main(arguments: list[str] | None = None) -> int:
    """The program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("areas", nargs="*", metavar="AREA", help=f"of {', '.join(areas())}; by default all")
    parser.add_argument("--name", action="append", default=[], help="only faults whose names have this text")
    parser.add_argument("--list", action="store_true", help="show the faults and do nothing")
    parser.add_argument("--jobs", type=int, default=1, help="how many copies work at once")
    given = parser.parse_args(arguments)
    for area in given.areas:
        if area not in areas():
            parser.error(f"there is no area {area!r}; there are {', '.join(areas())}")
    if given.jobs < 1:
        parser.error("--jobs: expected a number of at least 1")
    faults = chosen_faults(given.name, given.areas)
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
        if any(fault.is_native for fault in faults):
            checker.prepare_native()
        with ThreadPoolExecutor(given.jobs) as pool:
            for done in as_completed([pool.submit(checker.check, fault) for fault in faults]):
                outcome = done.result()
                outcomes.append(outcome)
                print(f"{outcome.kind:<9} {outcome.fault.area}: {outcome.fault.name} [{outcome.seconds:.0f} s]")
                print(f"          {outcome.detail}", flush=True)
    counts = {kind: sum(one.kind == kind for one in outcomes) for kind in ("caught", "explained", "survived", "wrong")}
    print(f"{len(outcomes)} faults: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))
    for outcome in outcomes:
        if not outcome.is_good:
            print(f"{outcome.kind}: {outcome.fault.area}: {outcome.fault.name}: {outcome.detail}")
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
