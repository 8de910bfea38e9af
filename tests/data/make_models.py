"""Makes the tiny .tflite files in this folder: `python tests/data/make_models.py`.

They are committed because tflite-runtime has no schema module to make them with. All weights are
written down here, none is learned:
- detect: the mean color of each 16x16 cell of a 64x64 picture; red cells are `person`, blue `car`.
- color: the mean color of an 8x8 picture against one prototype per color term; the logit is
  minus the squared distance without the part that is the same for all terms.
- float, float_inside, custom: what the interpreter must refuse.
"""

from __future__ import annotations

from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

FOLDER = Path(__file__).parent

# Red, green, blue of Berlin & Kay's terms in the project's order, 0..255.
PROTOTYPES = (
    (0, 0, 0), (255, 255, 255), (128, 128, 128), (220, 0, 0), (255, 140, 0), (255, 230, 0),
    (0, 150, 0), (0, 60, 220), (130, 0, 160), (255, 130, 180), (110, 60, 20),
)  # fmt: skip
CONTRAST = 4.0
PIXELS = (1.0, -128)  # scale and zero point that take pixel levels 0..255 as they are
UNIT_PIXELS = (1 / 128, 0)  # -1..1


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

    def constant(self, name: str, values: np.ndarray, scale: float) -> int:
        """Add a weight or bias."""
        kind = "INT8" if values.dtype == np.int8 else "INT32"
        index = self.tensor(name, values.shape, kind, (scale, 0))
        self._buffers.append(Constant(values.tobytes()))
        self._tensors[index].buffer = len(self._buffers) - 1
        return index

    def operator(self, name: str, inputs: list[int], output: int, options=None, custom=None):
        """Add an operator; `custom` names one that no runtime knows."""
        code = getattr(schema.BuiltinOperator, name)
        version = {"CONV_2D": 3, "AVERAGE_POOL_2D": 2, "QUANTIZE": 1, "DEQUANTIZE": 2}.get(name, 1)
        self._codes.append(schema.OperatorCodeT(min(code, 127), custom, version, code))
        made = schema.OperatorT(len(self._codes) - 1, inputs, [output])
        if options is not None:
            made.builtinOptions = options
            kind = type(options).__name__.removesuffix("T")
            made.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        self._operators.append(made)

    def mean(self, image: int, cell: int, real: tuple[float, int]) -> int:
        """Add the mean of each cell of a square picture."""
        side = self._tensors[image].shape[1] // cell
        output = self.tensor("mean", (1, side, side, 3), "INT8", real)
        options = schema.Pool2DOptionsT(schema.Padding.VALID, cell, cell, cell, cell)
        self.operator("AVERAGE_POOL_2D", [image], output, options)
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
        self.operator("CONV_2D", operands, output, options)
        return output

    def bytes(self, inputs: list[int], outputs: list[int]) -> bytes:
        """Return the file's content."""
        graph = schema.SubGraphT(self._tensors, inputs, outputs, self._operators, name="main")
        model = schema.ModelT(3, self._codes, [graph], "tiny", self._buffers)
        builder = flatbuffers.Builder(4096)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def detect() -> bytes:
    """Blue, green, red in; per cell a box of the cell's size, objectness and two classes."""
    model = Model()
    image = model.tensor("image", (1, 64, 64, 3), "INT8", PIXELS)
    mean = model.mean(image, 16, PIXELS)
    outputs = [
        model.linear("box_16", mean, np.zeros((4, 3)), np.array([0.5, 0.5, 0, 0]), (0.05, 0)),
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
    """int8 in and out, float32 between: what looks integer from outside."""
    model = Model()
    image = model.tensor("image", (1, 8, 8, 3), "INT8", UNIT_PIXELS)
    real = [model.tensor(name, (1, 8, 8, 3), "FLOAT32") for name in ("real", "positive")]
    terms = model.tensor("terms", (1, 8, 8, 3), "INT8", UNIT_PIXELS)
    model.operator("DEQUANTIZE", [image], real[0], schema.DequantizeOptionsT())
    model.operator("RELU", real[:1], real[1])
    model.operator("QUANTIZE", real[1:], terms, schema.QuantizeOptionsT())
    return model.bytes([image], [terms])


def custom() -> bytes:
    """int8 all through, by an operator of our own."""
    model = Model()
    tensors = [model.tensor(name, (1, 8, 8, 3), "INT8", UNIT_PIXELS) for name in ("image", "terms")]
    model.operator("CUSTOM", tensors[:1], tensors[1], custom="Mystery")
    return model.bytes(tensors[:1], tensors[1:])


FILES = {
    "detect.tflite": detect,
    "color.tflite": color,
    "float.tflite": all_float,
    "float_inside.tflite": float_inside,
    "custom.tflite": custom,
}

if __name__ == "__main__":
    for name, make in FILES.items():
        (FOLDER / name).write_bytes(make())
