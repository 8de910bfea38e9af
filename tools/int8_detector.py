"""Reads an int8 YOLOX-Nano back into a graph: `edge-tools quantize detect --model`.

All weights, biases and ranges of the file are kept, so that it can be written anew for another
input size, or with its stem's input projected to fewer channels (`projection`), without
training and without pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge import manifest
from edge.errors import InputError
from edge.manifest import Manifest
from tools.architectures import yolox
from tools.architectures.projection import project_kernels
from tools.input_size import InputSize
from tools.layer_error import TensorReader
from tools.quantize import Graph, Quantization, trace
from tools.quantize.graph import Node
from tools.quantize.ranges import PIXELS, from_range

_GATE = "backbone_stem_branches_0_0_1_gate"  # of the first SiLU; a rectified stem has none
_WHITE = 255 * PIXELS.scale


@dataclass(frozen=True)
class Int8Detector:
    """An int8 detector as a graph. ranges: of its tensors. manifest: the file's."""

    graph: Graph
    ranges: dict[str, Quantization]
    manifest: Manifest
    is_newly_projected: bool = False


def read(folder: Path, size: InputSize | None, rank: int) -> Int8Detector:
    """Return the detector of a model folder, its stem projected to `rank` channels.

    size: of the input; None: the model's own. Raises ModelError when the folder cannot be read,
    InputError when its model is not a YOLOX-Nano of ours or its stem is projected already, to
    another rank.
    """
    described = manifest.read(folder)
    size = size or InputSize(*described.input.size)
    file = folder / described.file
    reader = TensorReader(file)
    shapes = reader.shapes().items()
    stems = [shape for name, shape in shapes if yolox.STEM_KERNELS.fullmatch(name)]
    if described.decoder.name != "yolox" or not stems:
        raise InputError(f"{folder}: not a YOLOX-Nano of `edge-tools quantize detect`")
    sizes, present = [shape[0] for shape in stems], stems[0][3]
    graph = _graph(reader, described, sizes, present, size)
    _fill(graph, reader)
    ranges = _ranges(graph, reader)
    if rank == present:
        return Int8Detector(graph, ranges, described)
    if present < yolox.BLOCK_CHANNELS:
        raise InputError(
            f"{folder}: its stem is projected to {present} channels; --stem-rank {present}"
        )
    made = _graph(reader, described, sizes, rank, size)
    with torch.no_grad():
        ranges[yolox.PROJECTION] = _project(graph, made, rank)
    return Int8Detector(made, ranges, described, is_newly_projected=True)


def _graph(
    reader: TensorReader, described: Manifest, sizes: Sequence[int], rank: int, size: InputSize
) -> Graph:
    """Return the network with arbitrary weights. sizes: channels of each branch of the stem."""
    net = yolox.YoloxNano(
        [range(count) for count in sizes],
        described.labels,
        is_rectified=_GATE not in reader.shapes(),
        rank=rank,
    )
    return trace(net).with_shapes((3, size.height, size.width))


@torch.no_grad()
def _fill(graph: Graph, reader: TensorReader) -> None:
    """Set the graph's weights and biases to the file's."""
    for node in graph.nodes:
        if node.name in graph.weights:
            weight = _torch_layout(node, reader.constant(f"{node.name}_weight"))
            graph.weights[node.name].copy_(weight)
            graph.biases[node.name].copy_(torch.from_numpy(reader.constant(f"{node.name}_bias")))


def _torch_layout(node: Node, weight: np.ndarray) -> Tensor:
    """TFLite's (out, h, w, in), depthwise (1, h, w, out), as torch's (out, in, h, w)."""
    axes = (3, 0, 1, 2) if node.kind == "depthwise" else (0, 3, 1, 2)
    return torch.from_numpy(weight.transpose(axes).copy())


def _ranges(graph: Graph, reader: TensorReader) -> dict[str, Quantization]:
    stored = reader.quantizations()
    named = {source: name for name, source in graph.outputs.items()}
    return {
        node.name: Quantization(*stored[named.get(node.name, node.name)]) for node in graph.nodes
    }


def _project(graph: Graph, made: Graph, rank: int) -> Quantization:
    """Copy the weights, with projected kernels in the stem; return the projection's range.

    The range is that of all possible pixels, so that no picture is needed.
    """
    stems = [name for name in graph.weights if yolox.STEM_KERNELS.fullmatch(f"{name}_weight")]
    projection, kernels = project_kernels(torch.cat([graph.weights[name] for name in stems]), rank)
    counts = [len(graph.weights[name]) for name in stems]
    parts = dict(zip(stems, torch.split(kernels, counts), strict=True))
    for name, weight in made.weights.items():
        kept = projection if name == yolox.PROJECTION else parts.get(name, graph.weights.get(name))
        weight.copy_(kept)
        if name != yolox.PROJECTION:
            made.biases[name].copy_(graph.biases[name])
    rows = projection[:, :, 0, 0] * _WHITE
    return from_range(float(rows.clamp(max=0).sum(1).min()), float(rows.clamp(min=0).sum(1).max()))
