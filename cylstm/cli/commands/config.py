"""``config``: the installation."""

from __future__ import annotations

import argparse

from cylstm.cli.command import Command


def _config(options: argparse.Namespace) -> None:
    from cylstm.engine.config import show_config

    show_config()


COMMAND = Command(
    name="config",
    help="show the installation: instruction set, threads, BLAS (the default)",
    example="config",
    add_arguments=lambda parser: None,
    run=_config,
)
