"""The whole suite: every table and picture of bench/results, and JSON of every round. Some twenty minutes.

Each part is a process of its own, because several engines take their number of threads once. A part that fails is
named at the end, and its file stays as it was. The tables of docs/performance.md are taken from these files
(`summary.py`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import _common
import picture
import summary

HERE = Path(__file__).parent
#: name -> script and its options; the results stand in ``NAME.md``
PARTS: dict[str, list[str]] = {
    "cells-1": ["cells.py", "--threads", "1", "--limit-s", "4"],
    "cells-2": ["cells.py", "--threads", "2", "--limit-s", "4"],
    "kinds-1": ["cells.py", "--kinds", "gru", "rnn", "--section", "kinds-1", "--rounds", "30", "--limit-s", "1.5"],
    "quantised-1": ["quantised.py", "--limit-s", "1.5"],
    "quantised-2": ["quantised.py", "--threads", "2", "--limit-s", "1.5"],
    "quantised-avx2": ["quantised.py", "--ours", "--isa", "avx2", "--section", "quantised-avx2", "--limit-s", "1"],
    "engines": ["engines.py"],
    "backends": ["engines.py", "--backends", "--section", "backends", "--limit-s", "2"],
    "roofline": ["roofline.py", "--threads", "1", "2", "--limit-s", "0.7"],
    "product": ["product.py"],
    "parallel": ["parallel.py"],
    "contention": ["contention.py"],
    "busy": ["busy.py"],
    "long-runs": ["long_runs.py"],
    "streams": ["streams.py"],
    "trace": ["trace.py"],
    "models": ["models.py"],
    "onnx-files": ["onnx_files.py"],
    "call": ["call.py"],
    "scaling": ["scaling.py", "--limit-s", "0.6"],
    "cold-start": ["cold_start.py"],
}


def main(args: Sequence[str] | None = None) -> int:
    """Run the parts; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: all of {', '.join(PARTS)}")
    parser.add_argument("--folder", type=Path, default=summary.RESULTS, help="of the tables; default: bench/results")
    parser.add_argument(
        "--json-folder",
        type=Path,
        default=_common.ROOT / "build" / "bench",
        help="of every round; default: build/bench",
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test of a minute; ignore the timings")
    options = parser.parse_args(args)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if options.quick and options.folder == summary.RESULTS:
        options.folder = _common.ROOT / "build" / "bench" / "quick"
    failed = []
    begin = time.monotonic()
    for name in options.parts or PARTS:
        code = run_part(name, options.folder, options.json_folder, options.quick)
        if code:
            failed.append(name)
    if options.folder == summary.RESULTS:
        summary.main([])
        picture.main([])
    print(f"{time.monotonic() - begin:.0f} s in all; failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def run_part(name: str, folder: Path, json_folder: Path, quick: bool) -> int:
    """Run one part, which fills the section of its file; the exit status."""
    page = folder / f"{name}.md"
    if not page.exists():
        folder.mkdir(parents=True, exist_ok=True)
        page.write_text(f"# {name}\n\n<!-- begin {name} -->\n<!-- end {name} -->\n", encoding="utf-8")
    script, *rest = PARTS[name]
    command = [sys.executable, str(HERE / script), *rest]
    command += ["--markdown", str(page), "--json", str(json_folder / f"{name}.json")]
    if script == "scaling.py":
        command += ["--folder", str(folder)]
    if quick:
        command.append("--quick")
    print(f"==== {name}: {' '.join(command[1:])}", flush=True)
    start = time.monotonic()
    code = subprocess.run(command, check=False).returncode
    print(f"==== {name}: {time.monotonic() - start:.0f} s, exit status {code}", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
