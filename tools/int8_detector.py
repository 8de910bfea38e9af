"""Reads an int8 YOLOX-Nano back into a graph: `edge-tools quantize detect --model`.

All weights, biases and ranges of the file are kept, so that it can be written anew for another
input size without training and without pictures. With pictures, a file whose stem has square
kernels, or that convolves after upsampling, gets the faster operators of
`tools.architectures.yolox_graph`; only the ranges of tensors that these add are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge import manifest
from edge.errors import InputError
from edge.manifest import Manifest
from edge.values import Image
from tools.architectures import yolox, yolox_graph
from tools.input_size import InputSize
from tools.layer_error import TensorReader
from tools.quantize import (
    Calibration,
    Graph,
    Quantization,
    calibrate,
    convolve_before_upsampling,
    trace,
)
from tools.quantize.graph import Node
from tools.quantize.upsampling import COARSE

_GATE = "backbone_stem_branches_0_0_1_gate"  # of the first SiLU; a rectified stem has none
_PROJECTION = "backbone_stem_project"  # in files of 1.2.0


@dataclass(frozen=True)
class Int8Detector:
    """An int8 detector as a graph. ranges: of its tensors. manifest: the file's."""

    graph: Graph
    ranges: dict[str, Quantization]
    manifest: Manifest

    @property
    def rank(self) -> int:
        """Return the channels of the stem's vertical convolution, see `yolox_graph.faster`."""
        if yolox_graph.VERTICAL not in self.graph.weights:
            return yolox.BLOCK_CHANNELS
        return len(self.graph.weights[yolox_graph.VERTICAL])


def read(folder: Path, size: InputSize | None) -> Int8Detector:
    """Return the detector of a model folder. size: of the input; None: the model's own.

    Raises ModelError when the folder cannot be read, InputError when its model is not a YOLOX-Nano
    of ours or from a version whose stem was another.
    """
    described = manifest.read(folder)
    size = size or InputSize(*described.input.size)
    reader = TensorReader(folder / described.file)
    shapes = reader.shapes()
    stems = [shape for name, shape in shapes.items() if yolox_graph.STEM_KERNELS.fullmatch(name)]
    if described.decoder.name != "yolox" or not stems:
        raise InputError(f"{folder}: not a YOLOX-Nano of `edge-tools quantize detect`")
    if _PROJECTION in shapes:
        raise InputError(f"{folder}: its stem is of version 1.2.0; make it anew from its weights")
    net = yolox.YoloxNano(
        [range(shape[0]) for shape in stems], described.labels, is_rectified=_GATE not in shapes
    )
    rank = stems[0][3]
    graph = trace(net).with_shapes((3, size.height, size.width))
    if rank < yolox.BLOCK_CHANNELS:
        graph = yolox_graph.separate_stem(graph, rank)
    if any(name.endswith(COARSE) for name in shapes):
        graph = convolve_before_upsampling(graph)
    _fill(graph, reader)
    return Int8Detector(graph, _ranges(graph, reader), described)


def faster(
    detector: Int8Detector, rank: int, images: Sequence[Image], options: Calibration
) -> Int8Detector:
    """Return the detector with the operators of `yolox_graph.faster`.

    rank, images: see there. The ranges of new tensors are measured on the pictures, too, which are
    in the size of the input. options: of these ranges.
    """
    graph = yolox_graph.faster(detector.graph, rank, images)
    ranges = calibrate(graph, images, options=options) | detector.ranges
    return replace(detector, graph=graph, ranges=ranges)


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
