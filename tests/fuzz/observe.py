"""One execution of a target: what comes out other than success and an error of ours is kept, and told once."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType

from tests import DATA, ROOT
from tests.fuzz import corpora, targets

FINDS = ROOT / "build" / "fuzz" / "finds"
#: until an execution counts as one that hangs: seconds of work, and of waiting, long enough for a busy machine
MOST_SECONDS, MOST_WAIT = 20, 300
#: of address space, in bytes: what a small file asks for beyond is a `MemoryError`
MOST_MEMORY = 6 << 30
#: what an execution may take beyond what there was before, in bytes
MOST_GROWTH = 1 << 30


class Hang(BaseException):
    """An execution took longer than it may; no `Exception`, so that nothing catches it on its way."""


def _hangs(number: int, frame: FrameType | None) -> None:
    raise Hang(f"more than {MOST_SECONDS if number == signal.SIGPROF else MOST_WAIT} s")


def _set_timers(work: float, wait: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, work)
    signal.setitimer(signal.ITIMER_REAL, wait)


def _most_memory() -> int:
    """The most memory that this process has had at one time, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def seeds(name: str) -> list[bytes]:
    """All that fuzzing of a target starts from: files as they should be, what was kept, and what once went wrong."""
    return [
        *targets.seeds(name),
        *corpora.inputs(name),
        *(path.read_bytes() for path in sorted((DATA / "fuzz" / name).glob("*"))),
    ]


class Observer:
    """Runs a target many times.

    Attributes
    ----------
    runs : int
    finds : dict of str to Path
        What went wrong, and an input that does it.
    """

    def __init__(self, name: str, *, has_timer: bool = True) -> None:
        self.name, self.runs = name, 0
        self.finds: dict[str, Path] = {}
        self._has_timer = has_timer
        self._most = _most_memory()
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
        if has_timer:
            signal.signal(signal.SIGPROF, _hangs)
            signal.signal(signal.SIGALRM, _hangs)

    def __call__(self, data: bytes) -> None:
        self.runs += 1
        try:
            if self._has_timer:
                _set_timers(MOST_SECONDS, MOST_WAIT)
            targets.run(self.name, data)
        except (Exception, Hang) as error:
            self._keep(data, error)
        finally:
            if self._has_timer:
                _set_timers(0, 0)
        before, self._most = self._most, _most_memory()
        growth = self._most - before
        if growth > MOST_GROWTH:
            self._keep(data, MemoryError(f"{growth:,} bytes more than before"))

    def _keep(self, data: bytes, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if f"{ROOT}/cylstm/" in frame.filename] or frames[-1:]
        place = f"{os.path.relpath(ours[-1].filename, ROOT)}:{ours[-1].lineno}" if ours else ""
        what = f"{type(error).__name__} at {place}"
        if what in self.finds:
            return
        FINDS.mkdir(parents=True, exist_ok=True)
        path = FINDS / f"{self.name}-{hashlib.sha256(data).hexdigest()[:10]}"
        path.write_bytes(data)
        self.finds[what] = path
        print(
            f"FIND  {self.name}: {what}: {str(error)[:200]}\n      {os.path.relpath(path, ROOT)}",
            file=sys.stderr,
            flush=True,
        )
