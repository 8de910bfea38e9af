"""Convolves before upsampling, where that gives the same with less work.

A 1x1 convolution over the concatenation of an upsampled map and a fine one equals the sum of two
convolutions, one over each. The first may come before the upsampling, on a quarter of the pixels.
Float results are the same; int8 ones are rounded once more. What it saves:
tools/experiments-detector.md.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from tools.quantize.graph import Graph, Node

# Suffixes of the nodes that replace a convolution: over the coarse map, upsampled, over the fine
# map. Their sum keeps the convolution's name.
COARSE, UPSAMPLED, FINE = "_coarse", "_upsampled", "_fine"


def convolve_before_upsampling(graph: Graph) -> Graph:
    """Return the graph with these convolutions split; all others share their weights with it.

    graph: with shapes, see `Graph.with_shapes`. The bias belongs to the part over the fine map.
    """
    nodes = {node.name: node for node in graph.nodes}
    joined = _concatenations(graph, nodes)
    made = Graph([], graph.outputs)
    for node in graph.nodes:
        if node.inputs and node.inputs[0] in joined:
            upsampled, fine = (nodes[name] for name in nodes[node.inputs[0]].inputs)
            made.nodes += _parts(node, upsampled, fine)
            weight = graph.weights[node.name].detach()
            before, after = weight.split([upsampled.shape[0], fine.shape[0]], 1)
            made.weights[node.name + COARSE] = nn.Parameter(before.clone())
            made.weights[node.name + FINE] = nn.Parameter(after.clone())
            made.biases[node.name + COARSE] = nn.Parameter(weight.new_zeros(len(weight)))
            made.biases[node.name + FINE] = graph.biases[node.name]
        elif node.name not in joined:
            made.nodes.append(node)
            if node.name in graph.weights:
                made.weights[node.name] = graph.weights[node.name]
                made.biases[node.name] = graph.biases[node.name]
    users = made.users()
    read = {name for name, readers in users.items() if readers} | set(graph.outputs.values())
    made.nodes = [node for node in made.nodes if node.kind != "resize" or node.name in read]
    return made


def _concatenations(graph: Graph, nodes: dict[str, Node]) -> set[str]:
    """Return the concatenations of an upsampled and a fine map that only 1x1 convolutions read."""
    users = graph.users()
    return {
        node.name
        for node in graph.nodes
        if node.kind == "concat"
        and [nodes[name].kind == "resize" for name in node.inputs] == [True, False]
        and all(_is_pointwise(nodes[name]) for name in users[node.name])
        and node.name not in graph.outputs.values()
    }


def _is_pointwise(node: Node) -> bool:
    return node.kind == "conv" and node.kernel == node.stride == (1, 1) and node.padding == (0, 0)


def _parts(node: Node, upsampled: Node, fine: Node) -> list[Node]:
    """Return the four nodes that replace a convolution."""
    sides = zip(node.shape[1:], upsampled.kernel, strict=True)
    coarse_shape = (node.shape[0], *(side // factor for side, factor in sides))
    names = [node.name + suffix for suffix in (COARSE, UPSAMPLED, FINE)]
    return [
        replace(node, name=names[0], inputs=upsampled.inputs, activation="", shape=coarse_shape),
        replace(upsampled, name=names[1], inputs=(names[0],), shape=node.shape),
        replace(node, name=names[2], inputs=(fine.name,), activation=""),
        Node(node.name, "add", (names[1], names[2]), activation=node.activation, shape=node.shape),
    ]
