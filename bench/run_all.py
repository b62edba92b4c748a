"""The whole suite: every table of docs/performance.md, its pictures, and JSON of every round. Some fifteen minutes.

Each part is a process of its own, as several engines take their number of threads once. A part that fails is named at
the end, and its section stays as it was.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import _common

HERE = Path(__file__).parent
#: name -> script and its options
PARTS: dict[str, list[str]] = {
    "cells-1": ["cells.py", "--threads", "1", "--section", "cells-1", "--limit-s", "4"],
    "cells-2": ["cells.py", "--threads", "2", "--section", "cells-2", "--limit-s", "4"],
    "kinds-1": ["cells.py", "--kinds", "gru", "rnn", "--section", "kinds-1", "--rounds", "30", "--limit-s", "1.5"],
    "engines": ["engines.py"],
    "backends": ["engines.py", "--backends", "--section", "backends", "--limit-s", "2"],
    "roofline": ["roofline.py", "--threads", "1", "2", "--limit-s", "0.7"],
    "product": ["product.py"],
    "parallel": ["parallel.py"],
    "contention": ["contention.py"],
    "streams": ["streams.py"],
    "models": ["models.py"],
    "call": ["call.py"],
    "scaling": ["scaling.py", "--limit-s", "0.6"],
    "cold-start": ["cold_start.py"],
}


def main(args: Sequence[str] | None = None) -> int:
    """Run the parts; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: all of {', '.join(PARTS)}")
    parser.add_argument(
        "--markdown", default=str(_common.ROOT / "docs" / "performance.md"), help="whose sections to write"
    )
    parser.add_argument("--json-folder", default=str(_common.ROOT / "build" / "bench"), help="default: build/bench")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a minute; its times mean nothing")
    options = parser.parse_args(args)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    failed = []
    begin = time.monotonic()
    for name in options.parts or PARTS:
        script, *rest = PARTS[name]
        command = [sys.executable, str(HERE / script), *rest]
        command += ["--markdown", options.markdown, "--json", str(Path(options.json_folder, f"{name}.json"))]
        if script == "scaling.py":
            command += ["--folder", str(Path(options.markdown).parent)]
        if options.quick:
            command.append("--quick")
        print(f"==== {name}: {' '.join(command[1:])}", flush=True)
        start = time.monotonic()
        code = subprocess.run(command, check=False).returncode
        print(f"==== {name}: {time.monotonic() - start:.0f} s, exit status {code}", flush=True)
        if code:
            failed.append(name)
    print(f"{time.monotonic() - begin:.0f} s in all; failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
