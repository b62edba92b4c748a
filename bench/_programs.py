"""The C programs of this folder, built on the library of ``csrc/``."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import _common

from cylstm.graph.layers import LAYER_KINDS

BUILD = _common.ROOT / "build" / "bench-csrc"
HERE = Path(__file__).parent


class BuildError(RuntimeError):
    """The C program cannot be built, and why."""


def run(command: Sequence[str], **options) -> str:
    try:
        done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True, **options)
    except FileNotFoundError as error:
        raise BuildError(f"{command[0]} not found") from error
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout).strip().splitlines() or ["no message"]
        raise BuildError(f"{command[0]} failed: {lines[-1]}") from error
    return done.stdout


def build_program(folder: Path, *sources: str, flags: Sequence[str] = ("-O2",)) -> Path:
    """The program of these files of this folder, with the library, in `folder`."""
    run(["make", "-C", _common.ROOT / "csrc", f"BUILD={BUILD}"])
    lines = []
    for kind in ("lstm", "gru", "rnn", "dense"):
        lines.append(f"static const CylOption OPTIONS_{kind.upper()}[] = {{")
        for name, value in LAYER_KINDS[kind].defaults.items():
            text, number = (f'"{value}"', 0.0) if isinstance(value, str) else ("NULL", float(value))
            lines.append(f'    {{"{name}", {text}, {number!r}}},')
        lines.append("};")
    text = "\n".join([*lines, ""])
    (folder / "options.h").write_text(text)
    program = folder / Path(sources[0]).stem
    includes = [f"-I{_common.ROOT / 'csrc'}", f"-I{_common.ROOT / 'csrc/include'}", f"-I{folder}"]
    files = [*(HERE / source for source in sources), BUILD / "libcylstm.a"]
    run([compiler(), "-std=gnu11", *flags, *includes, *files, "-lm", "-lpthread", "-o", program])
    return program


def build_library(folder: Path, source: str) -> Path:
    """A shared library of one file of this folder."""
    library = folder / f"{Path(source).stem}.so"
    run([compiler(), "-std=c11", "-O2", "-shared", "-fPIC", HERE / source, "-o", library])
    return library


def compiler() -> str:
    return os.environ.get("CC", "cc")
