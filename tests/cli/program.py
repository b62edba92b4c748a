"""The command line as a program of its own, and files for it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import cylstm


def program(*arguments, python=(), **options):
    """``python -m cylstm`` of this package, running, with pipes; `python` may be a program in its place."""
    environment = {**os.environ, "PYTHONPATH": str(Path(cylstm.__file__).parents[1])}
    # which would flush for the command
    environment.pop("PYTHONUNBUFFERED", None)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    called = [sys.executable, *(python or ("-m", "cylstm")), *arguments]
    return subprocess.Popen(called, env=environment, **{**pipes, **options})


def ran(*arguments, given="", **options):
    """What the program says to the end: its exit status, standard output and standard error."""
    process = program(*arguments, **options)
    out, err = process.communicate(given if isinstance(given, bytes) else given.encode(), timeout=120)
    return process.returncode, out.decode(), err.decode()


def csv_text(x, names=None):
    """Numbers with all their digits, below a line with names."""
    head = [] if names is None else [",".join(names)]
    return "\n".join([*head, *(",".join(map(repr, row)) for row in np.asarray(x).tolist())]) + "\n"


def write_csv(path, x, names=None):
    path.write_text(csv_text(x, names))
    return str(path)


def read_csv(path):
    """The names of a file's columns, and its numbers as float32."""
    head, *lines = path.read_text().splitlines()
    return head.split(","), np.array([list(map(np.float32, line.split(","))) for line in lines])
