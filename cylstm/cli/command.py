"""What a command of the command line is."""

from __future__ import annotations

import argparse
import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cylstm.errors import CylstmWarning


class Command(NamedTuple):
    """One command: how it is called, and what it does.

    Attributes
    ----------
    name : str
    help : str
        What it does, in a line.
    example : str
        A call of it, without the program's name.
    add_arguments : callable
        Adds its arguments to a parser.
    run : callable
        Does what the arguments say; returns the exit status, or None for 0.
    several_lines : bool
        Whether messages of errors keep their lines, such as those that propose layers; else they are one line.
    """

    name: str
    help: str
    example: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
    several_lines: bool = False


def tell(text: str) -> None:
    """A line on the standard error."""
    print(f"cylstm: {' '.join(text.split())}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def telling_warnings(reworded: Callable[[str], str] = str) -> Iterator[None]:
    """What is done within says its warnings in a line each."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", CylstmWarning)
        yield
    for warning in told:
        tell(f"warning: {reworded(str(warning.message))}")
