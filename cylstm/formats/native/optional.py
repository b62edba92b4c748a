"""The entries of a native file's graph that most networks do not have: axis orders, window, stateful, weight types,
noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cylstm.errors import FormatError, UnsupportedError
from cylstm.graph.graph import Graph
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.weights import WEIGHT_TYPES, StoredTensor, is_int8


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
    if "noise" in optional:
        from cylstm.graph.noise import check_noise

        graph = graph._replace(noise=check_noise(f"{path}: graph", optional["noise"], graph))
    return graph


def with_scales(path: str, scales: object, tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The tensors of a file, those that have scales as float32 numbers; the scales themselves go.

    `scales` says for tensors of whole numbers (rows, columns) which one has the scale of each row.
    """
    if not isinstance(scales, dict) or not scales or not all(isinstance(name, str) for name in scales.values()):
        raise FormatError(f"{path}: graph: scales expected names of tensors, found {scales!r:.80}")
    missing = [name for name in (*scales, *scales.values()) if name not in tensors]
    if missing or set(scales) & set(scales.values()):
        raise FormatError(f"{path}: graph: scales of tensors that are not in the file: {', '.join(missing) or scales}")
    of_scales = set(scales.values())
    found = {name: tensor for name, tensor in tensors.items() if name not in of_scales}
    for name, other in scales.items():
        found[name] = _scaled(f"{path}: tensor {name!r}", tensors[name], tensors[other])
    return found


def _scaled(what: str, tensor: StoredTensor, scales: StoredTensor) -> StoredTensor:
    if tensor.dtype != np.int8 or tensor.ndim != 2 or scales.dtype != np.float32 or scales.shape != tensor.shape[:1]:
        raise FormatError(
            f"{what}: expected int8 of (rows, columns) and float32 scales of (rows), found {tensor.dtype} of "
            f"{tensor.shape} and {scales.dtype} of {scales.shape}"
        )
    by_row = np.asarray(scales)[:, None]
    if not (np.isfinite(by_row).all() and (by_row >= 0).all()):
        raise FormatError(f"{what}: scales expected finite numbers of 0 or more")
    return StoredTensor(
        tensor.shape,
        np.dtype(np.float32),
        lambda first, count: tensor.rows(first, count) * by_row[first : first + count],
    )


def _weight_types(path: str, types: object, graph: Graph) -> dict[tuple[str, str], str]:
    """Layer and role -> type of the matrices that are not float32."""
    layers = {layer.name: layer for layer in graph.layers}
    if not isinstance(types, dict) or not types or not set(types) <= set(layers):
        raise FormatError(f"{path}: graph: weight_types expected names of layers, found {types!r:.80}")
    found: dict[tuple[str, str], str] = {}
    for name, kind in types.items():
        matrices = LAYER_KINDS[layers[name].kind].matrices_of(layers[name].weights, layers[name].options)
        by_role = kind if isinstance(kind, dict) else dict.fromkeys(matrices, kind)
        if not by_role:
            raise UnsupportedError(f"{path}: layer {name!r}: weights of {kind!r:.80} are not supported")
        for role, one in by_role.items():
            able = LAYER_KINDS[layers[name].kind].int8_matrices if is_int8(one) else matrices
            if not isinstance(one, str) or one not in WEIGHT_TYPES or one == "float32" or role not in able:
                raise UnsupportedError(f"{path}: layer {name!r}: {role} of {one!r:.80} is not supported")
            found[name, role] = one
        if LAYER_KINDS[layers[name].kind].has_one_type and len({found.get((name, role)) for role in matrices}) > 1:
            raise UnsupportedError(
                f"{path}: layer {name!r}: {', '.join(matrices)} of different types, found {by_role!r:.80}; those of a "
                f"{layers[name].kind} are of one type"
            )
    return found


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
