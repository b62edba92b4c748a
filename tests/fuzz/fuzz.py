"""Coverage-guided fuzzing of one reader with atheris: ``python -m tests.fuzz.fuzz torch corpus -runs=100000``.

What follows goes to libFuzzer. Inputs that were found interesting, and crashes, are kept in the
folder named second. Keep a crash as ``tests/data/fuzz/<target>/<what it was>``: the tests read all those.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["cylstm.formats", "cylstm.program", "cylstm.graph.graph", "cylstm.graph.layers"]
):
    import cylstm.formats

    from tests.fuzz import targets

    # Readers are imported when first used, which would be too late.
    for found in pkgutil.walk_packages(cylstm.formats.__path__, "cylstm.formats."):
        importlib.import_module(found.name)


def main() -> None:
    name, corpus, *options = sys.argv[1], sys.argv[2], *sys.argv[3:]
    folder = Path(corpus, name)
    folder.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(targets.seeds(name)):
        (folder / f"seed-{i}").write_bytes(seed)
    limits = [
        "-max_len=16384",
        "-timeout=20",
        "-rss_limit_mb=2048",
        "-malloc_limit_mb=8192",
        "-seed=1",
        f"-artifact_prefix={corpus}/{name}-",
    ]
    atheris.Setup([sys.argv[0], *limits, *options, str(folder)], lambda data: targets.run(name, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
