"""``quantize``: a network whose weights take fewer bytes."""

from __future__ import annotations

import argparse
import os

from cylstm.cli.command import Command, telling_warnings
from cylstm.cli.source import add_source, read_model
from cylstm.cli.tables import open_inputs
from cylstm.cli.tables.table import Columns
from cylstm.errors import ArgumentError, FormatError
from cylstm.graph.names import feature_names


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument("target", metavar="output", help="the .cylstm file to write")
    parser.add_argument("--weights", choices=("int8", "float16", "bfloat16"), required=True, help="of matrices")
    parser.add_argument(
        "--activations", choices=("int16", "int8"), help="what int8 weights are multiplied by; default: what pays"
    )
    parser.add_argument(
        "--target", dest="machine", choices=("x86", "pi5", "pi4", "pi3"), help="the machine that it is for"
    )
    parser.add_argument(
        "--keep", action="append", default=[], metavar="LAYER", help="a layer, or a part of one, that stays; repeatable"
    )
    parser.add_argument(
        "--budget", type=float, metavar="ERROR", help="the largest rms difference of an output on --data"
    )
    parser.add_argument("--data", metavar="FILE", help="inputs for --budget: a .csv, .parquet, .npy or .npz file")


def _quantize(options: argparse.Namespace) -> None:
    if os.path.splitext(options.target)[1].lower() != ".cylstm":
        raise FormatError(f"{options.target}: quantised networks are written as .cylstm files only")
    if (options.budget is None) != (options.data is None):
        raise ArgumentError("--budget: is about the predictions for --data FILE; give both or none")
    model = read_model(options)
    data = None
    if options.data is not None:
        with open_inputs(options.data, model, Columns(feature_names(model.graph))) as inputs:
            found = inputs.whole()
            data = found if len(found) > 1 else found[0]
    with telling_warnings():
        small = model.quantize(
            options.weights,
            options.activations,
            options.keep,
            target=options.machine,
            budget=options.budget,
            data=data,
        )
    # it may be the file that is written
    source = os.path.getsize(options.source)
    small.save(options.target)
    rows = [("part", "type", "bytes", "before", "error", "reason")]
    for part in small.quantization:
        error = f"{part.error:.2e}" if part.error else "0"
        rows.append(
            (f"{part.layer}.{part.role}", part.type, f"{part.bytes:,}", f"{part.bytes_before:,}", error, part.reason)
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(n) if 2 <= i <= 4 else cell.ljust(n) for i, (cell, n) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())
    before = sum(part.bytes_before for part in small.quantization)
    after = sum(part.bytes for part in small.quantization)
    print(f"\nmatrices: {before:,} bytes before, {after:,} after")
    print(f"files: {source:,} bytes before, {os.path.getsize(options.target):,} after")


COMMAND = Command(
    name="quantize",
    help="write a network whose weights take fewer bytes, and say what became of each matrix",
    example="quantize model.cylstm small.cylstm --weights int8",
    add_arguments=_add_arguments,
    run=_quantize,
)
