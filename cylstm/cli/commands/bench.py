"""``bench``: what this machine is, how fast it is, and whether its bits are everyone's."""

from __future__ import annotations

import argparse

from cylstm.cli.command import Command
from cylstm.errors import CheckError


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=_seconds, default=0.3, help="for each network, 0 to 60; default: %(default)s")


def _seconds(text: str) -> float:
    """A number of seconds from 0 to 60."""
    seconds = float(text)
    if not 0 <= seconds <= 60:
        raise argparse.ArgumentTypeError(f"expected 0 to 60 seconds, found {text}")
    return seconds


def _bench(options: argparse.Namespace) -> None:
    from cylstm.bench import EXPECTED_BITS, output_bits, report

    bits = output_bits()
    for line in report(bits, options.seconds):
        print(line, flush=True)
    if bits != EXPECTED_BITS:
        raise CheckError(f"bench: the bits are {bits}, expected {EXPECTED_BITS}: please report the block above")


COMMAND = Command(
    name="bench",
    help="measure this machine and check its bits; takes seconds",
    example="bench --seconds 0.1",
    add_arguments=_add_arguments,
    run=_bench,
)
