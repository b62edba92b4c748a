"""The engines that the benchmarks measure, one file each.

A new one: a module ``name_.py`` here (the underscore keeps it from shadowing the package it imports) with one or more
`Peer` classes in its ``PEERS``, and its name in `MODULES`. Those whose weights take fewer bytes than float32's are in
its ``QUANTISED``, which `quantised.py` measures.
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

#: those that have weights of fewer bytes
QUANTISED_MODULES = ("cylstm_", "torch_", "onnxruntime_", "openvino_", "litert_")

__all__ = ["MODULES", "QUANTISED_MODULES", "Cell", "Peer", "find_peers"]


def find_peers(group: str = "PEERS") -> tuple[list[type[Peer]], dict[str, str]]:
    """The engines that work here, and for each of the others why not.

    Parameters
    ----------
    group : {"PEERS", "QUANTISED"}
        The tuple of the modules that they are in.

    Returns
    -------
    found : list of Peer classes
    left_out : dict of str to str
        Name of the engine -> the error that kept it out.
    """
    found: list[type[Peer]] = []
    left_out: dict[str, str] = {}
    for name in MODULES if group == "PEERS" else QUANTISED_MODULES:
        try:
            peers = getattr(importlib.import_module(f"{__name__}.{name}"), group)
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
