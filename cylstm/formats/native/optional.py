"""The entries of a native file's graph that most networks do not have: axis orders, window, stateful, weight types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cylstm.errors import FormatError, UnsupportedError
from cylstm.graph.graph import Graph
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.weights import WEIGHT_TYPES


def with_optional(path: str, optional: Mapping[str, Any], graph: Graph) -> Graph:
    """The graph with its optional entries. Raises `FormatError` if one does not fit."""
    graph = _with_axis_orders(path, optional.get("layouts", {}), graph)
    if "window" in optional:
        window = optional["window"]
        fixed = {graph.values[name].shape[0] for name in graph.inputs if graph.values[name].has_time}
        if type(window) is not int or not 0 < window < 1 << 28 or not fixed <= {None, window}:
            raise FormatError(f"{path}: graph: window expected the number of steps of the inputs, found {window!r:.80}")
        graph = graph._replace(window=window)
    if "stateful" in optional:
        names = optional["stateful"]
        known = {name for name, _ in graph.states()}
        are_names = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not are_names or not names or not known.issuperset(names):
            raise FormatError(f"{path}: graph: stateful expected names of layers with state, found {names!r:.80}")
        graph = graph._replace(window=optional.get("window"), stateful=tuple(dict.fromkeys(names)))
    if "weight_types" in optional:
        graph = graph._replace(weight_types=_weight_types(path, optional["weight_types"], graph))
    return graph


def _weight_types(path: str, types: object, graph: Graph) -> dict[str, str]:
    """Layer -> the type of its matrices, of those that are not float32."""
    kinds = {layer.name: layer.kind for layer in graph.layers}
    if not isinstance(types, dict) or not types or not set(types) <= set(kinds):
        raise FormatError(f"{path}: graph: weight_types expected names of layers, found {types!r:.80}")
    for name, kind in types.items():
        known = isinstance(kind, str) and kind in WEIGHT_TYPES and kind != "float32"
        if not known or not LAYER_KINDS[kinds[name]].matrices:
            raise UnsupportedError(f"{path}: layer {name!r}: weights of {kind!r:.80} are not supported")
    return types


def _with_axis_orders(path: str, orders: object, graph: Graph) -> Graph:
    """Each is of an input or output and fits its shape. Raises `FormatError`."""
    if not isinstance(orders, dict):
        raise FormatError(f"{path}: graph: layouts expected an object, found a {type(orders).__name__}")
    if not orders:
        return graph
    for name, order in orders.items():
        shape = graph.values[name].shape if name in (*graph.inputs, *graph.outputs) else ()
        if not shape or not _order_fits(order, shape):
            raise FormatError(f"{path}: graph: layout {order!r} of {name!r} does not fit shape {shape}")
    return graph._replace(layouts=orders)


def _order_fits(order: object, shape: tuple[int | None, ...]) -> bool:
    """Whether it is one of a value of this shape: it names some axes once each, and all but those of size 1."""
    axes = [str(axis) for axis in range(len(shape))]
    return (
        isinstance(order, str)
        and len(set(order)) == len(order)
        and set(order) <= set(axes)
        and all(size == 1 for axis, size in zip(axes, shape) if axis not in order)
    )
