"""``predict``: predictions for a file, or line by line for a pipe."""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
from typing import TYPE_CHECKING

from cylstm.cli.command import Command, tell, telling_warnings
from cylstm.cli.source import add_source, read_model
from cylstm.cli.tables.table import Columns
from cylstm.errors import ArgumentError, FormatError, UnsupportedError
from cylstm.graph.names import feature_names, target_names

if TYPE_CHECKING:
    from cylstm.model import Model


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument(
        "input",
        nargs="?",
        help="a .csv or .parquet with a line per step, or per row of a batch where the network has no time; a .npy, or "
        ".npz by name, with what Model.predict takes",
    )
    parser.add_argument("-o", "--output", help="the .csv, .parquet, .npy or .npz file to write")
    parser.add_argument(
        "--stream", action="store_true", help="a line on the standard input is a step, its prediction a line of output"
    )
    parser.add_argument(
        "--window",
        type=_window,
        default=...,
        metavar="N",
        help="predict at each step from the last N steps; with --stream also none: the state runs on without end",
    )
    parser.add_argument("--columns", type=_names, metavar="NAME,NAME...", help="which columns of a table to read")
    parser.add_argument(
        "--header",
        choices=("auto", "yes", "no"),
        default="auto",
        help="whether the first line of text has names; auto: if it has no number",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="the most threads that a file may take")
    parser.add_argument("--progress", action="store_true", help="show how far it is, on the standard error")
    parser.add_argument("--warm-up", metavar="FILE", help="with --stream: the steps that came before the first line")
    parser.add_argument("--stop-on-error", action="store_true", help="with --stream: end at a line that is refused")


def _window(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal() or not 0 < int(text[:12]) < 1 << 28:
        raise argparse.ArgumentTypeError(f"expected a number of steps, or none, found {text!r}")
    return int(text)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _predict(options: argparse.Namespace) -> int:
    if options.stream:
        for name in ("input", "output", "threads"):
            if getattr(options, name) is not None:
                raise ArgumentError(f"predict --stream reads the standard input, and takes no {name}")
        return _predict_lines(options)
    if options.input is None or options.output is None:
        raise ArgumentError("predict: expected INPUT -o OUTPUT, or --stream")
    if options.warm_up is not None or options.stop_on_error:
        raise ArgumentError("predict: --warm-up and --stop-on-error are for --stream")
    _predict_file(options)
    return 0


def _columns(options: argparse.Namespace, model: Model) -> Columns:
    wanted = feature_names(model.graph) if options.columns is None else options.columns
    return Columns(wanted, options.columns is not None, options.header)


def _predict_file(options: argparse.Namespace) -> None:
    from cylstm.cli.predictions import predict_in_pieces
    from cylstm.cli.progress import progress
    from cylstm.cli.tables import check_result_path, open_inputs, open_results
    from cylstm.cli.tables.results import outputs_of
    from cylstm.loading import warn_stateful

    check_result_path(options.output)
    if os.path.exists(options.output) and os.path.samefile(options.input, options.output):
        raise ArgumentError(f"{options.output}: expected another file than the input")
    window = None if options.window is ... else options.window
    model = read_model(options)
    if model.graph.stateful:
        with telling_warnings():
            warn_stateful(model.graph, f"{options.source}: ")
    with open_inputs(options.input, model, _columns(options, model)) as inputs:
        outputs = outputs_of(model, inputs.is_batch or window is not None, target_names(model.graph))
        unit = "rows" if inputs.is_batch else "steps"
        with (
            open_results(options.output, outputs) as write,
            progress(options.progress, inputs.length, unit) as report,
        ):
            for pieces in predict_in_pieces(model, inputs, window, options.threads, report):
                write(pieces)
    print(options.output)


def _predict_lines(options: argparse.Namespace) -> int:
    from cylstm.cli.lines import LinePredictor, lines_of, predict_lines
    from cylstm.cli.progress import progress

    model = read_model(options)
    columns = _columns(options, model)
    try:
        with telling_warnings(_with_options):
            predictor = LinePredictor(model, options.window, columns)
    except UnsupportedError as error:
        raise UnsupportedError(_with_options(str(error))) from error
    if options.warm_up is not None:
        _warm_up(model, predictor.stream, options.warm_up, columns)
    try:
        with progress(options.progress, None, "lines") as report:

            def write(line: str) -> None:
                print(line, flush=True)
                report(1)

            refused = predict_lines(predictor, lines_of(sys.stdin.buffer), write, tell, options.stop_on_error)
    except OSError as error:
        # whoever read has enough, which Windows calls an invalid argument
        if error.errno not in (errno.EPIPE, errno.EINVAL):
            raise
        # nothing is left to be flushed when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return 1 if refused else 0


def _with_options(text: str) -> str:
    """A message with options of this command in the place of arguments of `Model.stream`."""
    return re.sub(r"stream\(window=(\w+)\)", lambda found: f"--window {found[1].lower()}", text)


def _warm_up(model: Model, stream: object, path: str, columns: Columns) -> None:
    """Advance a stream by the steps of a file."""
    from cylstm.cli.tables import open_inputs
    from cylstm.stream import Stream

    if not isinstance(stream, Stream):
        raise ArgumentError("--warm-up: the network has no time, so that nothing that came before counts")
    with open_inputs(path, model, columns) as inputs:
        if inputs.is_batch:
            raise FormatError(f"{path}: expected one sequence, (time, features), found a batch")
        for piece in inputs.pieces(None if model.graph.layouts else 1 << 12):
            stream.run(piece if len(piece) > 1 else piece[0])


COMMAND = Command(
    name="predict",
    help="predict for a file, or line by line for a pipe",
    example="predict model.cylstm input.csv -o predictions.csv",
    add_arguments=_add_arguments,
    run=_predict,
)
