"""``convert``: a weights file as a native one, or as an ONNX model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cylstm.cli.command import Command
from cylstm.cli.source import add_source, given
from cylstm.errors import FormatError
from cylstm.formats.numpy_file import load_arrays


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument("target", help="the .cylstm or .onnx file to write")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="of the weights; default: as they are")
    parser.add_argument(
        "--weights",
        choices=("float32", "float16", "bfloat16", "int8", "int8a16", "int8a8"),
        help="how to store matrices; default: as they are",
    )
    parser.add_argument(
        "--metadata", action="append", default=[], metavar="NAME=TEXT", help="text to put into the file; repeatable"
    )
    parser.add_argument("--check", metavar="FILE", help="an input to keep for verify: a .npy file, or .npz by name")


def _convert(options: argparse.Namespace) -> None:
    from cylstm.loading import convert

    metadata = {}
    for entry in options.metadata:
        name, equals, text = entry.partition("=")
        if not equals:
            raise FormatError(f"--metadata: expected NAME=TEXT, found {entry!r}")
        metadata[name] = text
    with _logged():
        convert(
            options.source,
            options.target,
            dtype=options.dtype,
            weights=options.weights,
            metadata=metadata,
            check=None if options.check is None else load_arrays(options.check),
            **given(options),
        )


@contextmanager
def _logged() -> Iterator[None]:
    """What the package logs goes to the standard error meanwhile."""
    import logging

    log, handler = logging.getLogger("cylstm"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("cylstm: %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


COMMAND = Command(
    name="convert",
    help="write a weights file as a native .cylstm, or as an ONNX model",
    example="""convert weights.pt model.cylstm --layers 'LSTM("lstm"), Last(), Linear("fc")' --check x.npy""",
    add_arguments=_add_arguments,
    run=_convert,
    several_lines=True,
)
