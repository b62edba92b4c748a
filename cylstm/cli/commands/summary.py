"""``summary``: what a weights file holds."""

from __future__ import annotations

import argparse

from cylstm.cli.command import Command
from cylstm.cli.source import add_source, read_model


def _summary(options: argparse.Namespace) -> None:
    from cylstm.shown import shown_name

    model = read_model(options)
    graph = model.graph
    model.summary()
    print()
    lines = []
    for name, value in graph.provenance.items():
        if isinstance(value, dict):
            lines.append(f"{name}:")
            lines += [f"  {entry}: {text}" for entry, text in value.items()]
        elif value not in (None, "", ()):
            lines.append(f"{name}: {', '.join(map(str, value)) if isinstance(value, tuple) else value}")
    lines += [f"metadata {name}: {text}" for name, text in graph.metadata.items()]
    for line in lines:
        print(shown_name(line, 10_000))


COMMAND = Command(
    name="summary",
    help="show what a weights file holds, and where its tensors went",
    example="summary model.cylstm",
    add_arguments=add_source,
    run=_summary,
    several_lines=True,
)
