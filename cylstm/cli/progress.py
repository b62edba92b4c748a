"""How far a command is, on the standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress(is_shown: bool, total: int | None, unit: str) -> Iterator[Callable[[int], object]]:
    """What takes how many more are done, of so many if that is known; a bar if tqdm is installed, else a line."""
    if not is_shown:
        yield lambda count: None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        with _counted(total, unit) as add:
            yield add
        return
    with tqdm(total=total, unit=f" {unit}", unit_scale=True, file=sys.stderr) as bar:
        yield bar.update


@contextlib.contextmanager
def _counted(total: int | None, unit: str) -> Iterator[Callable[[int], object]]:
    done, shown = 0, 0.0
    of = "" if total is None else f" of {total:,}"

    def show(end: str) -> None:
        print(f"\rcylstm: {done:,}{of} {unit}", end=end, file=sys.stderr, flush=True)

    def add(count: int) -> None:
        nonlocal done, shown
        done += count
        if time.monotonic() - shown >= 1:
            shown = time.monotonic()
            show("")

    yield add
    show("\n")
