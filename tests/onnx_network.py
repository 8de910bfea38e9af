"""A network with YOLOX-Nano's inputs and outputs that sees a person in every cell of stride 32."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tools.coco_labels import NAMES

SIDE_PX = 416
OBJECTNESS, PERSON, BOX_PX = 0.9, 0.8, 128
CHANNELS = 5 + len(NAMES)


def write_network(path: Path) -> Path:
    """Write it as ONNX; its boxes of BOX_PX stand on the centers of cells.

    One convolution for each stride, of zeros and a bias. Skips the test without onnx.
    """
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import helper, numpy_helper

    stored = [numpy_helper.from_array(np.array([1, CHANNELS, -1]), "flat")]
    nodes = []
    for stride in (8, 16, 32):
        weight = np.zeros((CHANNELS, 3, stride, stride), np.float32)
        stored.append(numpy_helper.from_array(weight, f"weight{stride}"))
        stored.append(numpy_helper.from_array(_bias(stride), f"bias{stride}"))
        names = ["images", f"weight{stride}", f"bias{stride}"]
        sizes = [stride, stride]
        nodes.append(
            helper.make_node("Conv", names, [f"map{stride}"], strides=sizes, kernel_shape=sizes)
        )
        nodes.append(helper.make_node("Reshape", [f"map{stride}", "flat"], [f"row{stride}"]))
    nodes.append(helper.make_node("Concat", ["row8", "row16", "row32"], ["all"], axis=2))
    nodes.append(helper.make_node("Transpose", ["all"], ["output"], perm=[0, 2, 1]))
    cells = sum((SIDE_PX // stride) ** 2 for stride in (8, 16, 32))
    image = helper.make_tensor_value_info("images", 1, [1, 3, SIDE_PX, SIDE_PX])
    output = helper.make_tensor_value_info("output", 1, [1, cells, CHANNELS])
    graph = helper.make_graph(nodes, "network", [image], [output], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


def _bias(stride: int) -> np.ndarray:
    bias = np.zeros(CHANNELS, np.float32)
    if stride == 32:
        bias[:4] = 0.5, 0.5, math.log(BOX_PX / stride), math.log(BOX_PX / stride)
        bias[4], bias[5 + NAMES.index("person")] = OBJECTNESS, PERSON
    return bias
