"""The file of a network on a command line, and what it does not say itself."""

from __future__ import annotations

import argparse
import ast
from typing import TYPE_CHECKING, Any

from cylstm.errors import FormatError
from cylstm.formats.numpy_file import load_arrays

if TYPE_CHECKING:
    from cylstm.model import Model


def add_source(parser: argparse.ArgumentParser) -> None:
    """The arguments that name a file and say how it is read."""
    parser.add_argument("source", help="a .keras, .h5, .pt, .pth, .pt2, .onnx, .safetensors, .npz or .cylstm file")
    parser.add_argument("--layers", help='the wiring of a state dict: \'LSTM("lstm"), Last(), Linear("fc")\'', type=str)
    parser.add_argument("--key", help="which state dict of a PyTorch checkpoint that holds several")
    parser.add_argument(
        "--architecture", metavar="FILE", help="the model that Keras weights alone belong to: .json, .keras or .h5"
    )
    parser.add_argument("--keras-version", metavar="VERSION", help="read a Keras model as this version wrote it")
    parser.add_argument(
        "--time",
        type=_steps,
        metavar="STEPS",
        help="how many steps an exported program (.pt2, .onnx) takes, or T for any",
    )
    parser.add_argument(
        "--constant",
        action="append",
        type=_constant,
        metavar="INPUT=VALUE",
        help="an input of a model of ONNX that never changes: a number, a list of them or a .npy file; repeatable",
    )
    parser.add_argument(
        "--state",
        action="append",
        type=_pair,
        metavar="OUTPUT=INPUT",
        help="an output of a model of ONNX that is a state, and the input that takes it; repeatable",
    )


def read_model(options: argparse.Namespace) -> Model:
    """The model of the file, of float32 whatever its weights are."""
    import numpy as np

    from cylstm.loading import read
    from cylstm.model import Model

    graph = read(options.source, **given(options))
    wide = any(array.dtype == np.float64 for array in graph.tensors.values())
    return Model(graph, dtype="float32" if wide else None)


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
        return name, load_arrays(value)
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise argparse.ArgumentTypeError(f"{name}: expected a number, a list or a .npy file, found {value!r}") from None


def given(options: argparse.Namespace) -> dict[str, Any]:
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
