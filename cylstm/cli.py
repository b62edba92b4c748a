"""The command line: ``python -m cylstm [config | bench | summary | convert | verify | explain] ...``."""

from __future__ import annotations

import argparse
import ast
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cylstm.errors import CylstmError, FormatError

if TYPE_CHECKING:
    import numpy as np

    from cylstm.model import Model


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; `arguments` are those after the program's name.

    Returns
    -------
    int
        0, or 1 (``explain``: 2) if a file could not be read or written, or the bits are not as expected, or cannot be
        checked; the reason goes to the standard error.
    """
    options = _parser().parse_args(arguments)
    try:
        run = {"config": _config, "bench": _bench, "summary": _summary, "convert": _convert, "verify": _verify}
        run["explain"] = _explain
        run[options.command or "config"](options)
    except (CylstmError, OSError) as error:
        if options.command == "explain":
            print(f"cylstm: {' '.join(str(error).split())}", file=sys.stderr)
            return 2
        print(f"cylstm: {error}", file=sys.stderr)
        return 1
    return 0


def parse_layers(text: str) -> list[object]:
    """The layers written as Python, ``LSTM("lstm"), Last(), Linear("fc")``; nothing else is evaluated.

    Parameters
    ----------
    text : str
        With or without brackets around and ``cylstm.`` before the names.

    Raises
    ------
    FormatError
        If it is anything but calls of layers with literal arguments.
    """
    try:
        tree = ast.parse(text.strip().removeprefix("layers="), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FormatError(f"--layers: not understood: {text!r}") from error
    calls = tree.elts if isinstance(tree, (ast.List, ast.Tuple)) else [tree]
    return [_layer(call) for call in calls]


def _layer(tree: ast.expr) -> object:
    """The layer, or the plain value, that a piece of the text stands for."""
    from cylstm.formats.state_dict import wiring as layers

    if isinstance(tree, (ast.List, ast.Tuple)) and any(isinstance(item, ast.Call) for item in tree.elts):
        return [_layer(item) for item in tree.elts]
    if not isinstance(tree, ast.Call):
        try:
            return ast.literal_eval(tree)
        except (ValueError, TypeError, RecursionError) as error:
            raise FormatError(f"--layers: expected a layer or a literal, found {ast.unparse(tree)}") from error
    name = tree.func
    if isinstance(name, ast.Attribute) and isinstance(name.value, ast.Name) and name.value.id == "cylstm":
        name = ast.Name(name.attr)
    kind = getattr(layers, name.id, None) if isinstance(name, ast.Name) and name.id in layers.__all__ else None
    if kind is layers.Layer or not callable(kind):
        raise FormatError(f"--layers: {ast.unparse(tree.func)} is no layer")
    if any(keyword.arg is None for keyword in tree.keywords):
        raise FormatError(f"--layers: expected named arguments, found {ast.unparse(tree)}")
    values = [_layer(value) for value in tree.args]
    try:
        return kind(*values, **{str(keyword.arg): _layer(keyword.value) for keyword in tree.keywords})
    except TypeError as error:
        raise FormatError(f"--layers: {ast.unparse(tree)}: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cylstm", description="Weight files of recurrent networks.")
    commands = parser.add_subparsers(dest="command", metavar="config | bench | summary | convert | verify | explain")
    commands.add_parser("config", help="show the installation: instruction set, threads, BLAS (the default)")
    bench = commands.add_parser("bench", help="measure this machine and check its bits; takes seconds")
    bench.add_argument("--seconds", type=_seconds, default=0.3, help="for each network, 0 to 60; default: %(default)s")
    summary = commands.add_parser("summary", help="show what a weights file holds, and where its tensors went")
    convert = commands.add_parser("convert", help="write a weights file as a native .cylstm, or as an ONNX model")
    explain = commands.add_parser("explain", help="write an HTML page that shows what a network does with an input")
    for command in (summary, convert, explain):
        command.add_argument("source", help="a .keras, .h5, .pt, .pth, .pt2, .onnx, .safetensors, .npz or .cylstm file")
        command.add_argument(
            "--layers", help='the wiring of a state dict: \'LSTM("lstm"), Last(), Linear("fc")\'', type=str
        )
        command.add_argument("--key", help="which state dict of a PyTorch checkpoint that holds several")
        command.add_argument(
            "--architecture", metavar="FILE", help="the model that Keras weights alone belong to: .json, .keras or .h5"
        )
        command.add_argument("--keras-version", metavar="VERSION", help="read a Keras model as this version wrote it")
        command.add_argument(
            "--time",
            type=_steps,
            metavar="STEPS",
            help="how many steps an exported program (.pt2, .onnx) takes, or T for any",
        )
        command.add_argument(
            "--constant",
            action="append",
            type=_constant,
            metavar="INPUT=VALUE",
            help="an input of a model of ONNX that never changes: a number, a list of them or a .npy file; repeatable",
        )
        command.add_argument(
            "--state",
            action="append",
            type=_pair,
            metavar="OUTPUT=INPUT",
            help="an output of a model of ONNX that is a state, and the input that takes it; repeatable",
        )
    convert.add_argument("target", help="the .cylstm or .onnx file to write")
    convert.add_argument("--dtype", choices=("float32", "float64"), help="of the weights; default: as they are")
    convert.add_argument(
        "--weights",
        choices=("float32", "float16", "bfloat16", "int8", "int8a16", "int8a8"),
        help="how to store matrices; default: as they are",
    )
    convert.add_argument(
        "--metadata", action="append", default=[], metavar="NAME=TEXT", help="text to put into the file; repeatable"
    )
    convert.add_argument("--check", metavar="FILE", help="an input to keep for verify: a .npy file, or .npz by name")
    explain.add_argument(
        "input", help="a .npy file, .npz by name, or a .csv with a line per step and a column per feature"
    )
    explain.add_argument("-o", "--output", default="report.html", help="the page to write; default: %(default)s")
    explain.add_argument("--row", type=int, default=0, help="which row of a batch to show; default: %(default)s")
    explain.add_argument("--title", help="of the page; default: the title in the file's metadata")
    verify = commands.add_parser("verify", help="check that a .cylstm file gives the bits here that it gave when saved")
    verify.add_argument("source", metavar="FILE", help="a .cylstm file that was saved with a check")
    return parser


def _steps(text: str) -> int | str:
    return int(text) if text.isdecimal() and len(text) < 20 else text


def _pair(text: str) -> tuple[str, str]:
    """Two names around a ``=``."""
    name, equals, other = text.partition("=")
    if not (name and equals and other):
        raise argparse.ArgumentTypeError(f"expected two names with = between them, found {text!r}")
    return name, other


def _constant(text: str) -> tuple[str, Any]:
    """An input and its value: a number, a list of numbers, or what a .npy file holds."""
    name, value = _pair(text)
    if value.endswith(".npy"):
        return name, _read_arrays(value)
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise argparse.ArgumentTypeError(f"{name}: expected a number, a list or a .npy file, found {value!r}") from None


def _seconds(text: str) -> float:
    """A number of seconds from 0 to 60."""
    seconds = float(text)
    if not 0 <= seconds <= 60:
        raise argparse.ArgumentTypeError(f"expected 0 to 60 seconds, found {text}")
    return seconds


def _config(options: argparse.Namespace) -> None:
    from cylstm.engine.config import show_config

    show_config()


def _bench(options: argparse.Namespace) -> None:
    from cylstm.bench import EXPECTED_BITS, output_bits, report

    bits = output_bits()
    for line in report(bits, options.seconds):
        print(line, flush=True)
    if bits != EXPECTED_BITS:
        raise CylstmError(f"bench: the bits are {bits}, expected {EXPECTED_BITS}: please report the block above")


def _read_model(options: argparse.Namespace) -> Model:
    """The model of the file, of float32 whatever its weights are."""
    import numpy as np

    from cylstm.loading import read
    from cylstm.model import Model

    graph = read(options.source, **_given(options))
    wide = any(array.dtype == np.float64 for array in graph.tensors.values())
    return Model(graph, dtype="float32" if wide else None)


def _summary(options: argparse.Namespace) -> None:
    model = _read_model(options)
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


def _convert(options: argparse.Namespace) -> None:
    from cylstm.loading import convert

    metadata = {}
    for entry in options.metadata:
        name, equals, text = entry.partition("=")
        if not equals:
            raise FormatError(f"--metadata: expected NAME=TEXT, found {entry!r}")
        metadata[name] = text
    convert(
        options.source,
        options.target,
        dtype=options.dtype,
        weights=options.weights,
        metadata=metadata,
        check=None if options.check is None else _read_arrays(options.check),
        **_given(options),
    )


def _read_arrays(path: str) -> Any:
    """The array of a .npy file, or those of a .npz by name."""
    import zipfile

    import numpy as np

    try:
        found = np.load(path, allow_pickle=False)
        return {name: found[name] for name in found} if hasattr(found, "files") else found
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise FormatError(f"{path}: expected a .npy or .npz file of numbers: {error}") from error


def _explain(options: argparse.Namespace) -> None:
    from cylstm.explain import report

    model = _read_model(options)
    names = None
    if options.input.lower().endswith(".csv"):
        x, names = _read_csv(options.input, model)
    else:
        x = _read_arrays(options.input)
        if isinstance(x, dict) and len(x) == len(model.inputs) == 1:
            (x,) = x.values()
    report(model, x, options.output, row=options.row, title=options.title, names=names)
    print(options.output)


def _read_csv(path: str, model: Model) -> tuple[np.ndarray, list[str] | None]:
    """The numbers of a .csv as one sample, (time, features), and the names of its columns if its first line has them.

    Lines that are empty or begin with ``#`` are skipped.
    """
    import csv

    import numpy as np

    names: list[str] | None = None
    lines: list[list[float]] = []
    width = 0
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        try:
            for cells in reader:
                if not any(cell.strip() for cell in cells) or cells[0].lstrip().startswith("#"):
                    continue
                if width and len(cells) != width:
                    raise FormatError(f"{path}, line {reader.line_num}: expected {width} columns, found {len(cells)}")
                found = [_number_in(cell) for cell in cells]
                if not width and None in found:
                    names = [cell.strip() for cell in cells]
                elif None in found:
                    at = found.index(None)
                    raise FormatError(
                        f"{path}, line {reader.line_num}, column {at + 1}: expected a number, found {cells[at][:40]!r}"
                    )
                else:
                    lines.append([number for number in found if number is not None])
                width = len(cells)
        except (csv.Error, UnicodeDecodeError) as error:
            raise FormatError(f"{path}: expected a .csv file in UTF-8: {error}") from error
    if not lines:
        raise FormatError(f"{path}: expected at least one line of numbers, found none")
    array = np.array(lines)
    value = model.graph.values[model.inputs[0]]
    if value.kind == "index":
        if (array != np.floor(array)).any():
            raise FormatError(f"{path}: input {value.name!r} takes whole numbers")
        array = array.astype(np.int64)
        array = array[:, 0] if width == 1 else array
    return array, names


def _number_in(cell: str) -> float | None:
    """A finite number, or None if it is no such."""
    try:
        number = float(cell)
    except ValueError:
        return None
    # Python's own numbers may have underscores
    return number if math.isfinite(number) and "_" not in cell else None


def _verify(options: argparse.Namespace) -> None:
    from cylstm.verify import verify

    print(verify(options.source))


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """What the file itself does not say."""
    return {
        "layers": None if options.layers is None else parse_layers(options.layers),
        "key": options.key,
        "architecture": options.architecture,
        "keras_version": options.keras_version,
        "time": options.time,
        "constants": None if options.constant is None else dict(options.constant),
        "states": None if options.state is None else dict(options.state),
    }
