"""Coverage-guided fuzzing of one target with atheris: ``python -m tests.fuzz.fuzz torch corpus -runs=100000``.

What follows goes to libFuzzer. Inputs that reached new code are kept in a folder of the one named second; what goes
wrong is kept in ``build/fuzz/finds``, told, and passed over. `python -m tests.fuzz` calls this for all targets.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["cylstm"], exclude=["cylstm.explain", "cylstm.bench"]):
    import cylstm.formats

    from tests.fuzz import mutate, observe

    # Readers are imported when first used, which would be too late.
    for found in pkgutil.walk_packages(cylstm.formats.__path__, "cylstm.formats."):
        importlib.import_module(found.name)


def main() -> None:
    name, corpus, *options = sys.argv[1], sys.argv[2], *sys.argv[3:]
    folder = Path(corpus, name)
    folder.mkdir(parents=True, exist_ok=True)
    seeds = observe.seeds(name)
    for i, seed in enumerate(seeds):
        (folder / f"seed-{i}").write_bytes(seed)
    # the limits of time and memory are the observer's; a hang within one call of C would end the process here
    limits = ["-max_len=16384", "-timeout=60", "-rss_limit_mb=4096", "-seed=1", f"-artifact_prefix={corpus}/{name}-"]
    observer = observe.Observer(name, has_timer=False)

    def change(data: bytes, most: int, seed: int) -> bytes:
        if seed % 2:
            return bytes(atheris.Mutate(data, most))
        return mutate.changed(data, seeds, np.random.default_rng(seed))[:most]

    atheris.Setup([sys.argv[0], *limits, *options, str(folder)], observer, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
