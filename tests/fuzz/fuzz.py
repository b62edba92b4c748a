"""Coverage-guided fuzzing with atheris, for `python -m tests.fuzz`; imported before anything of the package is.

Inputs that reached new code are kept in a folder for each target; what goes wrong is kept in ``build/fuzz/finds``,
told, and passed over.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import pkgutil
import random
from collections.abc import Sequence
from pathlib import Path

import atheris

# it tells of every module
with (
    contextlib.redirect_stderr(io.StringIO()),
    atheris.instrument_imports(include=["cylstm"], exclude=["cylstm.explain", "cylstm.bench"]),
):
    import cylstm.formats

    from tests.fuzz import corpora, mutate, observe, targets

    # Readers are imported when first used, which would be too late.
    for found in pkgutil.walk_packages(cylstm.formats.__path__, "cylstm.formats."):
        importlib.import_module(found.name)

#: one change in so many is one that knows of JSON, messages and members
_EVERY = 4


def run(name: str, folder: Path, options: Sequence[str]) -> None:
    """Fuzz a target; libFuzzer takes the options, and ends the process."""
    folder.mkdir(parents=True, exist_ok=True)
    seeds = observe.seeds(name)
    for i, seed in enumerate(seeds):
        (folder / f"seed-{i}").write_bytes(seed)
    longest = min(16384, max(512, 2 * max(map(len, targets.seeds(name)))))
    # the limits of time and memory are the observer's; a hang within one call of C would end the process here
    limits = [f"-max_len={longest}", "-timeout=300", "-rss_limit_mb=4096", "-seed=1"]
    limits.append(f"-artifact_prefix={observe.FINDS}/{name}-")
    if corpora.words(name):
        limits.append(f"-dict={corpora.words_path(name)}")
    observer = observe.Observer(name, has_timer=False)
    changes = mutate.Changes(seeds, corpora.words(name), random.Random(1))

    def change(data: bytes, most: int, seed: int) -> bytes:
        if seed % _EVERY:
            return bytes(atheris.Mutate(data, most))
        return changes.changed(data, 2)[:most]

    atheris.Setup(["fuzz", *limits, *options, str(folder)], observer, custom_mutator=change)
    atheris.Fuzz()
