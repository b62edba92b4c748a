# PYTHON_ARGCOMPLETE_OK
"""The command line: ``python -m cylstm COMMAND ...``; docs/command-line.md has an example of each command."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from cylstm.cli.commands import COMMANDS
from cylstm.cli.source import parse_layers
from cylstm.engine.mode import in_standard_mode
from cylstm.errors import CheckError, CylstmError

__all__ = ["main", "parse_layers"]


@in_standard_mode
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; `arguments` are those after the program's name.

    Returns
    -------
    int
        0, or 2 if a file could not be read or written or does not fit; the reason goes to the standard error. 1 is for
        what was found: other bits than expected (``verify``, ``bench``), or lines that ``predict --stream`` refused.

    Raises
    ------
    SystemExit
        With 2 if there is no such command or argument, with 0 after ``--help``.
    """
    options = parse_arguments(arguments)
    command = next(one for one in COMMANDS if one.name == (options.command or "config"))
    try:
        return command.run(options) or 0
    except (CylstmError, OSError, MemoryError) as error:
        if getattr(options, "debug", False):
            traceback.print_exc()
        from cylstm.shown import shown_lines

        text = shown_lines(str(error)) or (
            "not enough memory" if isinstance(error, MemoryError) else type(error).__name__
        )
        print(f"cylstm: {text if command.several_lines else ' '.join(text.split())}", file=sys.stderr)
        return 1 if isinstance(error, CheckError) else 2


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command and its options. Raises `SystemExit` if there are no such."""
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what could come next
        try:
            from argcomplete import autocomplete
        except ImportError:
            pass
        else:
            autocomplete(parser)
    options, rest = parser.parse_known_args(arguments)
    # argparse takes an input that may be left out only where it follows the model at once
    if len(rest) == 1 and not rest[0].startswith("-") and getattr(options, "input", "") is None:
        options.input = rest.pop()
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


class _Parser(argparse.ArgumentParser):
    """One whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"cylstm: {' '.join(message.split())}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    # the console script has a name of its own
    name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    program = "cylstm" if name == "cylstm" else "python -m cylstm"
    parser = _Parser(prog=program, description="Recurrent networks: their files, and predictions with them.")
    from cylstm._version import __version__

    parser.add_argument("--version", action="version", version=f"cylstm {__version__}")
    commands = parser.add_subparsers(dest="command", metavar=" | ".join(command.name for command in COMMANDS))
    for command in COMMANDS:
        one = commands.add_parser(
            command.name,
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            epilog=f"example:\n  {program} {command.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(one)
        one.add_argument("--debug", action="store_true", help="after an error, show the traceback too")
    return parser
