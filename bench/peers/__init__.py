"""The engines that the benchmarks measure, one file each.

A new one: a module ``name_.py`` here (the underscore keeps it from shadowing the package it imports) with one or more
`Peer` classes in its ``PEERS``, and its name in `MODULES`.
"""

from __future__ import annotations

import importlib

from ._peer import Cell, Peer

#: in the order of the columns
MODULES = (
    "cylstm_",
    "numpy_",
    "torch_",
    "onnxruntime_",
    "openvino_",
    "litert_",
    "ncnn_",
    "jax_",
    "keras_",
)

__all__ = ["MODULES", "Cell", "Peer", "find_peers"]


def find_peers() -> tuple[list[type[Peer]], dict[str, str]]:
    """The engines that work here, and for each of the others why not.

    Returns
    -------
    found : list of Peer classes
    left_out : dict of str to str
        Name of the engine -> the error that kept it out.
    """
    found: list[type[Peer]] = []
    left_out: dict[str, str] = {}
    for name in MODULES:
        try:
            peers = importlib.import_module(f"{__name__}.{name}").PEERS
        except (ImportError, OSError) as error:  # OSError: a shared library of the package cannot be loaded
            left_out[name.rstrip("_")] = _reason(error)
            continue
        for peer in peers:
            try:
                peer.version()
            except ImportError as error:
                left_out[peer.name] = _reason(error)
            else:
                found.append(peer)
    return found, left_out


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
