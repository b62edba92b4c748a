"""Graph to graph, each a small pure function."""

from __future__ import annotations

from cylstm.graph.graph import Graph, Layer
from cylstm.graph.layers import LAYER_KINDS


def drop_inert_layers(graph: Graph) -> Graph:
    """The graph without the layers that give what they get at inference, such as dropout.

    An output of the graph has to be computed by a layer of its own. So an inert layer becomes a linear activation if
    its result is an output while what it reads is an output too, or an input of the graph.
    """
    if not any(LAYER_KINDS[layer.kind].is_inert for layer in graph.layers):
        return graph
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
