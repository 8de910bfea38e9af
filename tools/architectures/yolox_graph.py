"""YOLOX-Nano's graph for quantization: with the network's results, in less time.

Two changes, neither of which needs training. The stem's 16 kernels of 3x3 blocks are nearly
separable: a vertical convolution to 8 channels and a horizontal one do 40 % less work. And the
neck convolves before upsampling (`tools.quantize.upsampling`). What they save and cost:
tools/experiments-detector.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from tools.architectures.separable import patch_covariance, separate
from tools.architectures.yolox import BLOCK_CHANNELS, YoloxNano
from tools.input_size import InputSize
from tools.quantize import PIXELS, Graph, Node, convolve_before_upsampling, trace
from tools.quantize.graph import space_to_depth
from tools.quantize.ranges import batches

# Names in int8 files: the stem's vertical convolution, and each branch's first kernels.
VERTICAL = "backbone_stem_vertical"
STEM_KERNELS = re.compile(r"backbone_stem_branches_\d+_0_0_weight")
_SIDE = 3  # of the stem's kernels, in blocks of 2x2 pixels


def build(net: YoloxNano, size: InputSize, rank: int, covariance: Tensor | None = None) -> Graph:
    """Return the graph of a network, with copies of its weights.

    rank: channels of the stem's vertical convolution; BLOCK_CHANNELS: none, kernels are square.
    covariance: of what the stem reads, see `stem_covariance`; default: that of noise.
    """
    graph = trace(net).with_shapes((3, size.height, size.width))
    if rank < BLOCK_CHANNELS:
        graph = separate_stem(graph, rank, covariance)
    return convolve_before_upsampling(graph)


def stem_covariance(images: Sequence[np.ndarray]) -> Tensor:
    """Return the covariance of the values that a kernel of the stem reads, for `separate`.

    images: uint8 (height, width, 3), letterboxed pictures of the training set.
    """
    return patch_covariance((space_to_depth(one, 2) for one in batches(images, PIXELS, 1)), _SIDE)


def separate_stem(graph: Graph, rank: int, covariance: Tensor | None = None) -> Graph:
    """Return a graph, with shapes, whose stem is separable; it shares all other weights.

    rank, covariance: see `build`. All branches of the stem read one vertical convolution.
    """
    stems = [node for node in graph.nodes if STEM_KERNELS.fullmatch(f"{node.name}_weight")]
    kernels = [graph.weights[node.name].detach() for node in stems]
    vertical, horizontal = separate(torch.cat(kernels), rank, covariance)
    parts = torch.split(horizontal, [len(one) for one in kernels])
    weights = dict(zip((node.name for node in stems), parts, strict=True))
    made = Graph([], graph.outputs)
    for node in graph.nodes:
        if node.name not in weights:
            made.nodes.append(node)
            continue
        if VERTICAL not in made.weights:
            made.nodes.append(_vertical(node, rank))
            made.weights[VERTICAL] = nn.Parameter(vertical)
            made.biases[VERTICAL] = nn.Parameter(torch.zeros(rank))
        made.nodes.append(
            replace(node, inputs=(VERTICAL,), kernel=(1, _SIDE), padding=(0, _SIDE // 2))
        )
    for name, weight in graph.weights.items():
        made.weights[name] = nn.Parameter(weights[name]) if name in weights else weight
        made.biases[name] = graph.biases[name]
    return made


def _vertical(stem: Node, rank: int) -> Node:
    """Return the node of the vertical convolution in front of the stem's first one."""
    return replace(
        stem,
        name=VERTICAL,
        kernel=(_SIDE, 1),
        padding=(_SIDE // 2, 0),
        activation="",
        shape=(rank, *stem.shape[1:]),
    )
