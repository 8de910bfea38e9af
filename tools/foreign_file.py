"""Reads what a third-party .tflite file reveals about its inputs and outputs.

Tensors are read through the runtime, operators from the flatbuffer. Only certain facts are inferred
(the range of a quantized input, the order of the post-processing operator's outputs); for anything
else the error names the option that must be given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edge import certificate, interpreter, lookup
from edge.decoder_rules import ROLES
from edge.detector.letterbox import RANGES
from edge.errors import ModelError
from edge.manifest import TensorSpec
from tools import tflite_file

POSTPROCESS = "TFLite_Detection_PostProcess"
RANGE_TOLERANCE = 0.03  # of the span: a scale of 1/128 for -1..1 ends at 127/128
BIGGEST_SHARE = 2.0  # a quantized output with a smaller maximum holds shares, not pixels
BEFORE_CLASSES = {"yolov5": 5, "yolov8": 4}
COCO_CLASSES = 80

Range = Literal["0..255", "0..1", "-1..1"]
BoxUnit = Literal["pixel", "share"]


@dataclass(frozen=True)
class ForeignFile:
    """A complete .tflite file with one picture as input.

    roles: names of the post-processing operator's outputs by role; empty without that operator.
    parameters: number of weights and biases.
    """

    path: Path
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    roles: dict[str, str]
    parameters: int


def read(path: Path) -> ForeignFile:
    """Return the facts of a .tflite file.

    Raises ModelError when it cannot be read or run, or does not take one color picture.
    """
    try:
        content = lookup.content(path)
        certificate.read_graph(content)  # before the runtime, which a damaged file can crash
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; name a .tflite file") from None
    except ValueError as error:
        raise ModelError(f"{path}: {error}; name a complete .tflite file") from None
    inputs, outputs = interpreter.read_tensors(content, path)
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[3] != 3:
        shapes = [spec.shape for spec in inputs]
        raise ModelError(f"{path}: inputs {shapes}, not one picture (1, height, width, 3)")
    model = tflite_file.unpacked(content)
    graph = model.subgraphs[0]
    return ForeignFile(path, inputs[0], outputs, _roles(model, graph), _parameters(model, graph))


def _roles(model: Any, graph: Any) -> dict[str, str]:
    for operator in graph.operators:
        if model.operatorCodes[operator.opcodeIndex].customCode == POSTPROCESS.encode():
            names = [graph.tensors[index].name.decode() for index in operator.outputs]
            return dict(zip(ROLES, names, strict=True))
    return {}


def _parameters(model: Any, graph: Any) -> int:
    """Return the number of weights and biases."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator as Kind

    weighted = {Kind.CONV_2D, Kind.DEPTHWISE_CONV_2D, Kind.FULLY_CONNECTED, Kind.TRANSPOSE_CONV}
    constants = {
        int(index)
        for operator in graph.operators
        if tflite_file.kind_of(model, operator) in weighted
        for index in operator.inputs[1:]
        if model.buffers[graph.tensors[index].buffer].data is not None
    }
    return sum(math.prod(map(int, graph.tensors[index].shape)) for index in constants)


def decoder_of(file: ForeignFile) -> str:
    """Return the decoder of a file if its outputs determine it; else raise ModelError."""
    if file.roles:
        return "ssd_postprocess"
    shapes = [spec.shape for spec in file.outputs]
    if len(shapes) == 1 and len(shapes[0]) == 3:
        for decoder, before in BEFORE_CLASSES.items():
            if before + COCO_CLASSES in shapes[0][1:]:
                return decoder
    raise ModelError(
        f"{file.path}: outputs {shapes} are none of a known COCO detector; import it with "
        "`edge-tools import-model FILE --decoder …` and name the folder"
    )


def pixel_range(file: ForeignFile) -> Range:
    """Return the range of real values of a quantized input.

    Raises ModelError when it is float, or its range is not a known one.
    """
    spec = file.input
    if spec.is_float:
        raise ModelError(f"{file.path}: a float input does not say its range; give --range")
    limits = np.iinfo(spec.dtype)
    ends = [(limit - spec.zero_point) * spec.scale for limit in (limits.min, limits.max)]
    for name in ("0..255", "0..1", "-1..1"):
        low, high = RANGES[name]
        tolerance = RANGE_TOLERANCE * (high - low)
        if abs(ends[0] - low) <= tolerance and abs(ends[1] - high) <= tolerance:
            return name
    raise ModelError(
        f"{file.path}: the input stands for {ends[0]:.3g}..{ends[1]:.3g}, which is none of "
        f"{', '.join(RANGES)}; give the --range that it was trained with"
    )


def box_unit(file: ForeignFile) -> BoxUnit:
    """Return whether boxes of a one-output detector are pixels or shares of the input.

    Raises ModelError for a float output, which may be either.
    """
    (spec,) = file.outputs
    if spec.is_float:
        raise ModelError(f"{file.path}: a float output does not say its unit; give --box-unit")
    top = (np.iinfo(spec.dtype).max - spec.zero_point) * spec.scale
    return "share" if top <= BIGGEST_SHARE else "pixel"


def is_channels_first(file: ForeignFile, decoder: str, classes: int) -> bool:
    """Return whether axis 1 (else axis 2) of a one-output detector holds box and scores.

    Raises ModelError when neither has the length required by the number of classes.
    """
    channels = BEFORE_CLASSES[decoder] + classes
    shapes = [spec.shape for spec in file.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 3:
        raise ModelError(
            f"{file.path}: outputs {shapes}; decoder {decoder} reads one output of three axes, "
            "export the model without suppression and as one output"
        )
    _, first, last = shapes[0]
    if channels not in (first, last):
        raise ModelError(
            f"{file.path}: the output is {shapes[0]}, but {classes} classes need {channels} "
            f"channels with decoder {decoder}; give --labels a file of as many names as it has "
            "classes, ??? for those without a name"
        )
    return channels == first if first != last else decoder == "yolov8"
