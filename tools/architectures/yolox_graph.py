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


def build(net: YoloxNano, size: InputSize, rank: int, images: Sequence[np.ndarray] = ()) -> Graph:
    """Return the graph of a network, with copies of its weights. rank, images: see `faster`."""
    return faster(trace(net).with_shapes((3, size.height, size.width)), rank, images)


def faster(graph: Graph, rank: int, images: Sequence[np.ndarray] = ()) -> Graph:
    """Return a graph, with shapes, with both changes; what does not change is shared.

    rank: channels of the stem's vertical convolution; BLOCK_CHANNELS: none, kernels stay square. A
    stem that is separable already stays as it is. images: see `separate_stem`.
    """
    if rank < BLOCK_CHANNELS and VERTICAL not in graph.weights:
        graph = separate_stem(graph, rank, images)
    return convolve_before_upsampling(graph)


def separate_stem(graph: Graph, rank: int, images: Sequence[np.ndarray] = ()) -> Graph:
    """Return a graph, with shapes, whose stem is separable; it shares all other weights.

    rank: see `faster`. images: uint8 (height, width, 3), letterboxed pictures of the training set,
    to which the stem is fitted; without them to noise, for a graph whose weights are set later.
    All branches of the stem read one vertical convolution.
    """
    covariance = _covariance(images) if images else None
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


def _covariance(images: Sequence[np.ndarray]) -> Tensor:
    """Return the covariance of the values that a kernel of the stem reads."""
    return patch_covariance((space_to_depth(one, 2) for one in batches(images, PIXELS, 1)), _SIDE)


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
