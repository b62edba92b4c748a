"""Graph to graph, each a small pure function."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.graph.graph import Graph, Layer
from cylstm.graph.layers import LAYER_KINDS


def drop_inert_layers(graph: Graph) -> Graph:
    """The graph without the layers that give what they get at inference, such as dropout.

    An output of the graph has to be computed by a layer of its own. So an inert layer becomes a linear activation if
    its result is an output while what it reads is an output too, or an input of the graph.
    """
    alias: dict[str, str] = {}
    layers: list[Layer] = []
    outputs = list(graph.outputs)
    for layer in graph.layers:
        layer = layer._replace(inputs={role: alias.get(name, name) for role, name in layer.inputs.items()})
        if not LAYER_KINDS[layer.kind].is_inert:
            layers.append(layer)
            continue
        source, result = layer.inputs["x"], layer.outputs["y"]
        if result in outputs and (source in graph.inputs or source in outputs):
            layers.append(layer._replace(kind="activation", options=dict(LAYER_KINDS["activation"].defaults)))
        else:
            alias[result] = source
            outputs = [source if name == result else name for name in outputs]
    layouts = {alias.get(name, name): layout for name, layout in graph.layouts.items()}
    return graph._replace(layers=tuple(layers), outputs=tuple(outputs), layouts=layouts)


def with_value_names(graph: Graph, names: Mapping[str, str]) -> Graph:
    """The graph with other names for some of its values; another value that has such a name gets a ``_`` behind it."""
    changed = {old: new for old, new in names.items() if old != new and new not in graph.inputs}
    for new in list(changed.values()):
        if new in graph.values and new not in changed:
            free = new
            while free in graph.values or free in changed.values():
                free += "_"
            changed[new] = free
    values = {}
    for name, value in graph.values.items():
        mask = None if value.mask is None else changed.get(value.mask, value.mask)
        values[changed.get(name, name)] = value._replace(name=changed.get(name, name), mask=mask)
    layers = [
        layer._replace(
            inputs={role: changed.get(name, name) for role, name in layer.inputs.items()},
            outputs={role: changed.get(name, name) for role, name in layer.outputs.items()},
        )
        for layer in graph.layers
    ]
    return graph._replace(
        values=values,
        layers=tuple(layers),
        outputs=tuple(changed.get(name, name) for name in graph.outputs),
        layouts={changed.get(name, name): layout for name, layout in graph.layouts.items()},
    )


def tensor_types(graph: Graph) -> dict[str, str]:
    """Tensor -> the type that all layers that use it store it in; those of float32 are left out."""
    found: dict[str, set[str]] = {}
    for layer in graph.layers:
        for role, name in layer.weights.items():
            found.setdefault(name, set()).add(graph.weight_types.get((layer.name, role), "float32"))
    return {name: kinds.pop() for name, kinds in found.items() if len(kinds) == 1 and kinds != {"float32"}}
