"""``explain``: a page about one prediction."""

from __future__ import annotations

import argparse

from cylstm.cli.command import Command
from cylstm.cli.source import add_source, read_model
from cylstm.cli.tables import open_inputs
from cylstm.cli.tables.table import Columns
from cylstm.graph.names import feature_names


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument(
        "input", help="a .npy file, .npz by name, or a .csv or .parquet with a line per step and a column per feature"
    )
    parser.add_argument("-o", "--output", default="report.html", help="the page to write; default: %(default)s")
    parser.add_argument("--row", type=int, default=0, help="which row of a batch to show; default: %(default)s")
    parser.add_argument("--title", help="of the page; default: the title in the file's metadata")


def _explain(options: argparse.Namespace) -> None:
    from cylstm.explain import report

    model = read_model(options)
    with open_inputs(options.input, model, Columns(feature_names(model.graph))) as inputs:
        found = inputs.whole()
        x = dict(zip(model.inputs, found)) if len(found) > 1 else found[0]
        names = None if inputs.names is None else list(inputs.names)
        report(model, x, options.output, row=options.row, title=options.title, names=names)
    print(options.output)


COMMAND = Command(
    name="explain",
    help="write an HTML page that shows what a network does with an input",
    example="explain model.cylstm input.csv -o page.html",
    add_arguments=_add_arguments,
    run=_explain,
)
