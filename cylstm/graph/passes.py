"""Graph to graph, each a small pure function."""

from __future__ import annotations

from cylstm.graph.graph import Graph, Layer
from cylstm.graph.layers import LAYER_KINDS


def drop_dropout(graph: Graph) -> Graph:
    """The graph without its dropout layers, which change nothing at inference.

    One whose result is an output of the graph while its input is one too, or comes from outside, becomes a linear
    activation: an output must be computed by a layer.
    """
    alias: dict[str, str] = {}
    layers: list[Layer] = []
    outputs = list(graph.outputs)
    for layer in graph.layers:
        layer = layer._replace(inputs={role: alias.get(name, name) for role, name in layer.inputs.items()})
        if layer.kind != "dropout":
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
