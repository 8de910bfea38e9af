"""Makes the tiny .tflite files in this folder: `python tests/data/make_models.py`.

They are committed because tflite-runtime has no schema module to make them with. All weights are
written down here, none is trained:
- detect: the mean color of each 16x16 cell of a 64x64 picture; red cells are `person`, blue `car`.
- color: the mean color of an 8x8 picture against one prototype per color term; the logit is
  minus the squared distance without the part that is the same for all terms.
- yolov5, yolov8, ssd: the same cells as `detect` in the output layouts of third-party detectors;
yolov8_float has float input and outputs, ssd float outputs.
- class_color: red by the mean of the red plane, brown where the plane of `dog` is full.
- float, float_inside, custom: models that the interpreter must refuse.
"""

from __future__ import annotations

from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

FOLDER = Path(__file__).parent

# Red, green, blue of Berlin & Kay's terms in the project's order, 0..255.
PROTOTYPES = (
    (0, 0, 0), (255, 255, 255), (128, 128, 128), (220, 0, 0), (255, 140, 0), (255, 230, 0),
    (0, 150, 0), (0, 60, 220), (130, 0, 160), (255, 130, 180), (110, 60, 20),
)  # fmt: skip
CONTRAST = 4.0
PIXELS = (1.0, -128)  # scale and zero point that take pixel levels 0..255 as they are
UNIT_PIXELS = (1 / 128, 0)  # -1..1
SHARES = (1 / 255, -128)  # scores and shares of the picture, 0..1: what is beyond saturates


class Constant:
    """A buffer whose data begin at a multiple of 16, as the schema demands (`force_align`)."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802 - the generated name
        """Append data and table; return the table's position."""
        builder.StartVector(1, len(self._data), 16)
        for byte in reversed(self._data):
            builder.PrependByte(byte)
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


class Model:
    """Collects tensors and operators of one subgraph."""

    def __init__(self) -> None:
        self._tensors: list[schema.TensorT] = []
        self._buffers = [schema.BufferT()]
        self._codes: list[schema.OperatorCodeT] = []
        self._operators: list[schema.OperatorT] = []

    def tensor(self, name: str, shape: tuple[int, ...], kind: str, real=None) -> int:
        """Add an activation; `real` is (scale, zero point)."""
        quantization = schema.QuantizationParametersT()
        if real is not None:
            quantization.scale = np.array([real[0]], np.float32)
            quantization.zeroPoint = np.array([real[1]], np.int64)
        code = getattr(schema.TensorType, kind)
        self._tensors.append(schema.TensorT(list(shape), code, 0, name, quantization))
        return len(self._tensors) - 1

    def constant(self, name: str, values: np.ndarray, scale: float | None, zero: int = 0) -> int:
        """Add a weight, bias, shape, or what is added; `scale` is None of what is no quantity."""
        kind = values.dtype.name.upper()
        index = self.tensor(name, values.shape, kind, None if scale is None else (scale, zero))
        self._buffers.append(Constant(values.tobytes()))
        self._tensors[index].buffer = len(self._buffers) - 1
        return index

    def operator(self, name: str, inputs: list[int], *outputs: int, options=None, custom=None):
        """Add an operator; `custom` is the name of one that is none of the builtins."""
        code = getattr(schema.BuiltinOperator, name)
        version = {"CONV_2D": 3, "AVERAGE_POOL_2D": 2, "DEQUANTIZE": 2, "ADD": 2}.get(name, 1)
        version = 2 if name == "TRANSPOSE" else version
        self._codes.append(schema.OperatorCodeT(min(code, 127), custom, version, code))
        made = schema.OperatorT(len(self._codes) - 1, inputs, list(outputs))
        if options is not None:
            made.builtinOptions = options
            kind = type(options).__name__.removesuffix("T")
            made.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        self._operators.append(made)
        return made

    def mean(self, image: int, cell: int, real: tuple[float, int]) -> int:
        """Add the mean of each cell of a square picture."""
        side = self._tensors[image].shape[1] // cell
        output = self.tensor("mean", (1, side, side, 3), "INT8", real)
        options = schema.Pool2DOptionsT(schema.Padding.VALID, cell, cell, cell, cell)
        self.operator("AVERAGE_POOL_2D", [image], output, options=options)
        return output

    def linear(self, name: str, source: int, weight: np.ndarray, bias: np.ndarray, real) -> int:
        """Add a 1x1 convolution: weight (out, in) and bias (out,) in real values."""
        scale = max(float(np.abs(weight).max()) / 127, 1e-3)
        input_scale = float(self._tensors[source].quantization.scale[0])
        levels = np.round(weight / scale).astype(np.int8)[:, None, None, :]
        biases = np.round(bias / (scale * input_scale)).astype(np.int32)
        operands = [
            source,
            self.constant(f"{name}_weight", levels, scale),
            self.constant(f"{name}_bias", biases, scale * input_scale),
        ]
        side = self._tensors[source].shape[1]
        output = self.tensor(name, (1, side, side, len(bias)), "INT8", real)
        options = schema.Conv2DOptionsT(schema.Padding.VALID, 1, 1)
        self.operator("CONV_2D", operands, output, options=options)
        return output

    def reshape(self, name: str, source: int, shape: tuple[int, ...], real) -> int:
        """Add a reshape."""
        output = self.tensor(name, shape, "INT8", real)
        wanted = self.constant(f"{name}_shape", np.array(shape, np.int32), None)
        self.operator("RESHAPE", [source, wanted], output, options=schema.ReshapeOptionsT(shape))
        return output

    def dequantized(self, name: str, source: int) -> int:
        """Add a tensor's values as floats."""
        output = self.tensor(name, tuple(self._tensors[source].shape), "FLOAT32")
        self.operator("DEQUANTIZE", [source], output, options=schema.DequantizeOptionsT())
        return output

    def bytes(self, inputs: list[int], outputs: list[int]) -> bytes:
        """Return the file's content."""
        graph = schema.SubGraphT(self._tensors, inputs, outputs, self._operators, name="main")
        model = schema.ModelT(3, self._codes, [graph], "tiny", self._buffers)
        builder = flatbuffers.Builder(4096)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def detect(*, has_one_size: bool = False) -> bytes:
    """Blue, green, red in; per cell a box of the cell's size, objectness and two classes.

    has_one_size: with a reshape that no other size of the input fits.
    """
    model = Model()
    image = model.tensor("image", (1, 64, 64, 3), "INT8", PIXELS)
    mean = model.mean(image, 16, PIXELS)
    boxes = "cells" if has_one_size else "box_16"
    outputs = [
        model.linear(boxes, mean, np.zeros((4, 3)), np.array([0.5, 0.5, 0, 0]), (0.05, 0)),
        model.linear(
            "objectness_16", mean, np.array([[0.04, -0.04, 0.04]]), np.array([-6.0]), (0.1, 0)
        ),
        model.linear(
            "class_16",
            mean,
            np.array([[-0.04, 0, 0.04], [0.04, 0, -0.04]]),
            np.zeros(2),
            (0.1, 0),
        ),
    ]
    if has_one_size:
        outputs[0] = model.reshape("box_16", outputs[0], (1, 4, 4, 4), (0.05, 0))
    return model.bytes([image], outputs)


def color() -> bytes:
    """Red, green, blue in; one logit per term out."""
    model = Model()
    image = model.tensor("image", (1, 8, 8, 3), "INT8", UNIT_PIXELS)
    points = np.array(PROTOTYPES) / 127.5 - 1
    logits = model.linear(
        "terms",
        model.mean(image, 8, UNIT_PIXELS),
        2 * CONTRAST * points,
        -CONTRAST * np.square(points).sum(1),
        (0.25, 60),
    )
    return model.bytes([image], [logits])


def all_float() -> bytes:
    """RELU in float32."""
    model = Model()
    tensors = [model.tensor(name, (1, 8, 8, 3), "FLOAT32") for name in ("image", "terms")]
    model.operator("RELU", tensors[:1], tensors[1])
    return model.bytes(tensors[:1], tensors[1:])


def float_inside() -> bytes:
    """int8 in and out, float32 in between: integer-only from outside."""
    model = Model()
    image = model.tensor("image", (1, 8, 8, 3), "INT8", UNIT_PIXELS)
    real = [model.tensor(name, (1, 8, 8, 3), "FLOAT32") for name in ("real", "positive")]
    terms = model.tensor("terms", (1, 8, 8, 3), "INT8", UNIT_PIXELS)
    model.operator("DEQUANTIZE", [image], real[0], options=schema.DequantizeOptionsT())
    model.operator("RELU", real[:1], real[1])
    model.operator("QUANTIZE", real[1:], terms, options=schema.QuantizeOptionsT())
    return model.bytes([image], [terms])


def custom() -> bytes:
    """int8 throughout, with a custom operator."""
    model = Model()
    tensors = [model.tensor(name, (1, 8, 8, 3), "INT8", UNIT_PIXELS) for name in ("image", "terms")]
    model.operator("CUSTOM", tensors[:1], tensors[1], custom="Mystery")
    return model.bytes(tensors[:1], tensors[1:])


# Rows of weights on red, green, blue levels: what they give saturates at 0 and 1.
OBJECT, RED, BLUE = (0.004, -0.004, 0.004), (0.004, 0, -0.004), (-0.004, 0, 0.004)


def cells(model: Model, image: int, rows: list[tuple[float, ...]]) -> int:
    """Per cell of 4x4: center x, y, width, height as shares, then `rows`; (1, 16, 4 + rows)."""
    weight = np.array([(0, 0, 0)] * 4 + rows, float)
    bias = np.array([0, 0, 0.25, 0.25] + [0] * len(rows))
    mean = model.mean(image, 16, PIXELS)
    scores = model.linear("scores", mean, weight, bias, SHARES)
    middles = (np.arange(4) + 0.5) / 4
    centers = np.zeros((1, 4, 4, len(weight)))
    centers[..., 0], centers[..., 1] = middles[None, :], middles[:, None]
    levels = np.round(centers / SHARES[0] + SHARES[1]).astype(np.int8)
    both = model.tensor("both", levels.shape, "INT8", SHARES)
    operands = [scores, model.constant("centers", levels, *SHARES)]
    model.operator("ADD", operands, both, options=schema.AddOptionsT())
    return model.reshape("candidates", both, (1, 16, len(weight)), SHARES)


def yolov5() -> bytes:
    """Red, green, blue in; (1, 16, 5 + 2) out."""
    model = Model()
    image = model.tensor("image", (1, 64, 64, 3), "INT8", PIXELS)
    return model.bytes([image], [cells(model, image, [OBJECT, RED, BLUE])])


def yolov8(*, is_float: bool = False) -> bytes:
    """Red, green, blue in; (1, 4 + 2, 16) out; on request floats at both ends."""
    model = Model()
    image = quantized = model.tensor("image", (1, 64, 64, 3), "INT8", PIXELS)
    if is_float:
        image = model.tensor("levels", (1, 64, 64, 3), "FLOAT32")
        model.operator("QUANTIZE", [image], quantized, options=schema.QuantizeOptionsT())
    rows = cells(model, quantized, [RED, BLUE])
    columns = model.tensor("columns", (1, 6, 16), "INT8", SHARES)
    order = model.constant("order", np.array([0, 2, 1], np.int32), None)
    model.operator("TRANSPOSE", [rows, order], columns, options=schema.TransposeOptionsT())
    return model.bytes([image], [model.dequantized("real", columns) if is_float else columns])


def ssd() -> bytes:
    """Red, green, blue in; the four outputs of TFLite's post-processing operator, in float."""
    model = Model()
    image = model.tensor("image", (1, 64, 64, 3), "INT8", PIXELS)
    mean = model.mean(image, 16, PIXELS)
    nothing = model.linear("offsets", mean, np.zeros((4, 3)), np.zeros(4), SHARES)
    scores = model.linear("scores", mean, np.array([(0, 0, 0), RED, BLUE]), np.zeros(3), SHARES)
    middles = (np.arange(4) + 0.5) / 4
    anchors = np.array([(y, x, 0.25, 0.25) for y in middles for x in middles], np.float32)
    operands = [
        model.dequantized("offsets_real", model.reshape("offsets16", nothing, (1, 16, 4), SHARES)),
        model.dequantized("scores_real", model.reshape("scores16", scores, (1, 16, 3), SHARES)),
        model.constant("anchors", anchors, None),
    ]
    shapes = {"": (1, 6, 4), ":1": (1, 6), ":2": (1, 6), ":3": (1,)}
    outputs = [model.tensor(f"detections{end}", shape, "FLOAT32") for end, shape in shapes.items()]
    made = model.operator("CUSTOM", operands, *outputs, custom="TFLite_Detection_PostProcess")
    made.customOptions = np.frombuffer(_postprocess_options(), np.uint8)
    # Not in the operator's order: only who asks it knows which is which.
    return model.bytes([image], [outputs[place] for place in (3, 1, 0, 2)])


def _postprocess_options() -> bytes:
    options = flexbuffers.Builder()
    with options.Map():
        for name, value in (
            ("max_detections", 6), ("max_classes_per_detection", 1), ("num_classes", 2),
        ):  # fmt: skip
            options.Int(name, value)
        for name in ("y_scale", "x_scale", "h_scale", "w_scale"):
            options.Float(name, 1.0)
        options.Float("nms_score_threshold", 0.01)
        options.Float("nms_iou_threshold", 0.6)
    return bytes(options.Finish())


def class_color() -> bytes:
    """Return a color model of 8x8 pixels with the planes `person`, `car` and `dog`."""
    import tempfile

    import torch

    from tools import quantize

    linear = torch.nn.Linear(6, len(PROTOTYPES))
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.zero_()
        linear.weight[3, 0] = 3.0  # red
        linear.weight[10, 5] = 6.0  # brown
    module = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), linear)
    images = [np.full((8, 8, 6), level, np.uint8) for level in (0, 128, 255)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        quantize.export(module, images, path, (6, 8, 8), pixels=quantize.Quantization(*UNIT_PIXELS))
        return path.read_bytes()


FILES = {
    "class_color.tflite": class_color,
    "yolov5.tflite": yolov5,
    "yolov8.tflite": yolov8,
    "yolov8_float.tflite": lambda: yolov8(is_float=True),
    "ssd.tflite": ssd,
    "detect.tflite": detect,
    "detect_one_size.tflite": lambda: detect(has_one_size=True),
    "color.tflite": color,
    "float.tflite": all_float,
    "float_inside.tflite": float_inside,
    "custom.tflite": custom,
}

if __name__ == "__main__":
    for name, make in FILES.items():
        (FOLDER / name).write_bytes(make())
