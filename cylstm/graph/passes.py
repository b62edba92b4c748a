"""Graph to graph, each a small pure function."""

from __future__ import annotations

from cylstm.graph.graph import Graph, Node
from cylstm.graph.layers import OPS


def drop_dropout(graph: Graph) -> Graph:
    """The graph without its dropout nodes, which change nothing at inference.

    One whose result is an output of the graph while its input is one too, or comes from outside, becomes a linear
    activation: an output must be computed by a node.
    """
    alias: dict[str, str] = {}
    nodes: list[Node] = []
    outputs = list(graph.outputs)
    for node in graph.nodes:
        node = node._replace(inputs={role: alias.get(name, name) for role, name in node.inputs.items()})
        if node.op != "dropout":
            nodes.append(node)
            continue
        source, result = node.inputs["x"], node.outputs["y"]
        if result in outputs and (source in graph.inputs or source in outputs):
            nodes.append(node._replace(op="activation", options=dict(OPS["activation"].defaults)))
        else:
            alias[result] = source
            outputs = [source if name == result else name for name in outputs]
    layouts = {alias.get(name, name): layout for name, layout in graph.layouts.items()}
    return graph._replace(nodes=tuple(nodes), outputs=tuple(outputs), layouts=layouts)
