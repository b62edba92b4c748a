"""``summary``: what a weights file holds."""

from __future__ import annotations

import argparse

from cylstm.cli.command import Command
from cylstm.cli.source import add_source, read_model


def _summary(options: argparse.Namespace) -> None:
    model = read_model(options)
    graph = model.graph
    model.summary()
    print()
    for name, value in graph.provenance.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for entry, text in value.items():
                print(f"  {entry}: {text}")
        elif value not in (None, "", ()):
            print(f"{name}: {', '.join(map(str, value)) if isinstance(value, tuple) else value}")
    for name, text in graph.metadata.items():
        print(f"metadata {name}: {text}")


COMMAND = Command(
    name="summary",
    help="show what a weights file holds, and where its tensors went",
    example="summary model.cylstm",
    add_arguments=add_source,
    run=_summary,
    error_status=1,
)
