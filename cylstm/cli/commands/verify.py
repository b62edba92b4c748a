"""``verify``: whether a file gives the same bits here as where it was saved."""

from __future__ import annotations

import argparse

from cylstm.cli.command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="FILE", help="a .cylstm file that was saved with a check")


def _verify(options: argparse.Namespace) -> None:
    from cylstm.shown import shown_lines
    from cylstm.verify import verify

    print(shown_lines(verify(options.source)))


COMMAND = Command(
    name="verify",
    help="check that a .cylstm file gives the bits here that it gave when saved",
    example="verify model.cylstm",
    add_arguments=_add_arguments,
    run=_verify,
)
