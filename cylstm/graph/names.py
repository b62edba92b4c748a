"""What the numbers of a network are called: the lists ``features`` and ``targets`` in its metadata."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cylstm.graph.graph import Graph


def feature_names(graph: Graph) -> tuple[str, ...] | None:
    """The names of the features of the only input; None if the metadata does not list as many."""
    if len(graph.inputs) != 1:
        return None
    return _listed(graph, "features", graph.values[graph.inputs[0]].features)


def target_names(graph: Graph) -> tuple[str, ...] | None:
    """The names of the numbers that the only output has at each step; None if the metadata does not list as many."""
    if len(graph.outputs) != 1:
        return None
    return _listed(graph, "targets", math.prod(graph.values[graph.outputs[0]].step_shape))


def _listed(graph: Graph, entry: str, count: int) -> tuple[str, ...] | None:
    """So many names in an entry of the metadata: a list, the text of one in JSON, or names with commas between them."""
    found = graph.metadata.get(entry)
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except (ValueError, RecursionError):
            found = [name.strip() for name in found.split(",")]
    if not isinstance(found, (list, tuple)) or not all(isinstance(name, str) and name for name in found):
        return None
    return tuple(found) if len(set(found)) == len(found) == count else None
