"""The check in a native ``.cylstm`` file: an input, and the hash of what the network gives for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cylstm.errors import FormatError
from cylstm.formats.untrusted.json import parse_json
from cylstm.formats.untrusted.safetensors import SafetensorsFile, are_counts
from cylstm.graph.graph import Graph

_HEXADECIMAL = frozenset("0123456789abcdef")
_MOST_VERSION = 64

#: largest size of the input of a check, in bytes
MOST_BYTES = 1 << 20


class Check(NamedTuple):
    """An input and what it gives, as a ``.cylstm`` file keeps them.

    Attributes
    ----------
    inputs : dict of str to ndarray
        By input, float32 or int32, with the batch first and the axes as `Model.predict` takes them.
    outputs : tuple of (str, tuple of int, str)
        Of each output its name, its shape and `bits_of` it.
    version : str
        Of the CyLSTM that computed them.
    """

    inputs: Mapping[str, np.ndarray]
    outputs: tuple[tuple[str, tuple[int, ...], str], ...]
    version: str


def tensors_of_check(file: SafetensorsFile) -> dict[str, str]:
    """Input -> the tensor that holds it, of a file with a check; else none. Raises `FormatError`."""
    if "check" not in file.metadata:
        return {}
    names: dict[str, str] = _described(file)["inputs"]
    for tensor in names.values():
        if not isinstance(tensor, str) or tensor not in file.entries:
            raise FormatError(f"{file.path}: check: {tensor!r} is no tensor of the file")
    if len(set(names.values())) < len(names):
        raise FormatError(f"{file.path}: check: two inputs share a tensor")
    return names


def check_fits(file: SafetensorsFile, graph: Graph) -> tuple[tuple[str, tuple[int, ...], str], ...]:
    """The outputs, when all of the check fits the network. Raises `FormatError`."""
    path, described = file.path, _described(file)
    names = tensors_of_check(file)
    if set(names) != set(graph.inputs):
        raise FormatError(f"{path}: check: expected the inputs {', '.join(graph.inputs)}, found {', '.join(names)}")
    batches = set()
    for name, tensor in names.items():
        *_, kind, shape = file.entries[tensor]
        value = graph.values[name]
        axis_order = graph.layouts.get(name, range(len(value.shape)))
        sizes = [value.shape[int(axis)] for axis in axis_order]
        expected = "I32" if value.kind == "index" else "F32"
        if (
            kind != expected
            or len(shape) != 1 + len(sizes)
            or not all(shape)
            or any(size not in (None, found) for size, found in zip(sizes, shape[1:]))
        ):
            raise FormatError(
                f"{path}: check: input {name!r}: expected {expected} of shape {('batch', *sizes)}, found {kind} of "
                f"{shape}"
            )
        batches.add(shape[0])
    if len(batches) > 1:
        raise FormatError(f"{path}: check: expected one batch, found {sorted(batches)}")
    size = sum(file.entries[tensor][1] - file.entries[tensor][0] for tensor in names.values())
    if size > MOST_BYTES:
        raise FormatError(f"{path}: check: expected at most {MOST_BYTES:,} bytes of input, found {size:,}")
    outputs = []
    for entry in described["outputs"]:
        if not isinstance(entry, dict) or set(entry) != {"name", "sha256", "shape"}:
            raise FormatError(f"{path}: check: output: expected name, sha256 and shape")
        name, bits, shape = entry["name"], entry["sha256"], entry["shape"]
        if (
            not isinstance(bits, str)
            or len(bits) != 64
            or not _HEXADECIMAL.issuperset(bits)
            or not are_counts(shape)
            or len(shape) > 16
            or not math.prod(shape)
        ):
            raise FormatError(f"{path}: check: output {str(name)[:100]!r}: expected a shape and a SHA-256")
        outputs.append((name, tuple(shape), bits))
    if [name for name, *_ in outputs] != list(graph.outputs):
        raise FormatError(f"{path}: check: expected the outputs {', '.join(graph.outputs)}")
    return tuple(outputs)


def read_check(file: SafetensorsFile, graph: Graph) -> Check | None:
    """The check of a file, of which `graph` is the network; None if it has none. Raises `FormatError`."""
    if file.metadata.get("format") != "cylstm" or "check" not in file.metadata:
        return None
    outputs = check_fits(file, graph)
    arrays = {}
    for name, tensor in tensors_of_check(file).items():
        *_, shape = file.entries[tensor]
        arrays[name] = file.rows(tensor, 0, shape[0])
    return Check({name: arrays[name] for name in graph.inputs}, outputs, _described(file)["version"])


def _described(file: SafetensorsFile) -> dict[str, Any]:
    found = parse_json(file.metadata["check"], f"{file.path}: check")
    kinds = {"inputs": dict, "outputs": list, "version": str}
    if (
        not isinstance(found, dict)
        or set(found) != set(kinds)
        or not all(isinstance(found[key], kind) for key, kind in kinds.items())
        or len(found["version"]) > _MOST_VERSION
        or not found["version"].isprintable()
    ):
        raise FormatError(f"{file.path}: check: expected an object with inputs, outputs and version")
    return found
