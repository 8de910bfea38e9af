"""From a float torch module to an integer-only .tflite file, without TensorFlow.

    from tools.quantize import export
    export(net, images, Path("model.tflite"), (3, 48, 48))

`net` is an `nn.Module` that takes float32 (n, 3, height, width) real pixel values and returns a
tensor (then named `output`) or a dict of named tensors. `images` are uint8 (height, width, 3)
arrays of that size in the net's color order, a few hundred pictures of the TRAINING set. The
model's input is int8: pixel p is stored as p - 128; with the default `pixels` its real value is p,
0..255; `Quantization(1 / 128, 0)` gives real values -1..1.

Step by step: `trace` (module -> `Graph`; see its docstring for the modules it knows), `calibrate`
(ranges per tensor), `FakeQuantizer` (the int8 arithmetic in float: `graph(batch,
FakeQuantizer(graph, ranges))`, differentiable, for quantization-aware training), `write`
(flatbuffer).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from torch import nn

from tools.quantize.flatbuffer import write
from tools.quantize.graph import Graph, Node, SpaceToDepth
from tools.quantize.ranges import PIXELS, Calibration, Quantization, calibrate
from tools.quantize.simulate import FakeQuantizer
from tools.quantize.trace import trace
from tools.quantize.upsampling import convolve_before_upsampling

__all__ = [
    "PIXELS",
    "Calibration",
    "FakeQuantizer",
    "Graph",
    "Node",
    "Quantization",
    "SpaceToDepth",
    "calibrate",
    "convolve_before_upsampling",
    "export",
    "trace",
    "write",
]


def export(
    module: nn.Module,
    images: Iterable[np.ndarray],
    path: Path,
    input_shape: tuple[int, int, int],
    *,
    pixels: Quantization = PIXELS,
    options: Calibration | None = None,
) -> dict[str, Quantization]:
    """Quantize a trained module (post-training) and write it; return each tensor's quantization.

    images: uint8 (height, width, 3), iterated twice. input_shape: (3, height, width).
    Raises NotImplementedError naming an operator the writer does not know.
    """
    graph = trace(module).with_shapes(input_shape)
    ranges = calibrate(graph, images, pixels, options)
    write(graph, ranges, path)
    return ranges
