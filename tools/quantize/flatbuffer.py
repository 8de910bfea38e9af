"""Writes a calibrated graph as an integer-only .tflite file, with the schema's own classes.

Source: TFLite schema and 8-bit quantization specification; operator versions are the lowest whose
kernels take int8, so that tflite-runtime 2.14 loads the file too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge import durable
from tools.quantize.graph import WEIGHTED, Graph, Node
from tools.quantize.integers import (
    WEIGHT_MAX,
    quantize_bias,
    quantize_weight,
    weight_scales,
    with_room_for_bias,
)
from tools.quantize.ranges import Quantization

_DATA_ALIGNMENT = 16  # bytes; `force_align` of Buffer.data in the schema
_ACTIVATIONS = {
    "": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}
# Graph kind -> (builtin operator, version).
_OPERATORS = {
    "conv": ("CONV_2D", 3),
    "depthwise": ("DEPTHWISE_CONV_2D", 3),
    "linear": ("FULLY_CONNECTED", 4),
    "pad": ("PAD", 2),
    "add": ("ADD", 2),
    "mul": ("MUL", 2),
    "logistic": ("LOGISTIC", 2),
    "relu": ("RELU", 2),
    "relu6": ("RELU6", 2),
    "concat": ("CONCATENATION", 2),
    "max_pool": ("MAX_POOL_2D", 2),
    "average_pool": ("DEPTHWISE_CONV_2D", 3),
    "mean": ("MEAN", 2),
    "resize": ("DEPTH_TO_SPACE", 1),
    "space_to_depth": ("SPACE_TO_DEPTH", 1),
    "channels": ("SLICE", 2),
    "first_pixel": ("SLICE", 2),
    "reshape": ("RESHAPE", 1),
}


def write(graph: Graph, ranges: Mapping[str, Quantization], path: Path) -> None:
    """Write the graph as int8 with int32 biases, atomically; create the file's folder.

    graph: with shapes, see `Graph.with_shapes`. The model's outputs are named by `graph.outputs`,
    all other tensors by their nodes.
    Raises NotImplementedError naming a node whose padding or factor TFLite cannot express.
    """
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(_Writer(graph, ranges).model().Pack(builder), b"TFL3")
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.replace(path, bytes(builder.Output()))


@dataclass(frozen=True)
class _Buffer:
    """Constant data aligned as the schema requires, which the generated `BufferT` does not do."""

    data: bytes

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802 - the generated code's name
        """Append the data and its table; return the table's position."""
        builder.StartVector(1, len(self.data), _DATA_ALIGNMENT)
        builder.head -= len(self.data)
        builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


class _Writer:
    """Collects the tensors, buffers and operators of one model."""

    def __init__(self, graph: Graph, ranges: Mapping[str, Quantization]) -> None:
        self._graph = graph
        self._ranges = ranges
        self._nodes = {node.name: node for node in graph.nodes}
        self._names = {source: name for name, source in graph.outputs.items()}
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]  # buffer 0 means no data
        self._codes: list[str] = []
        self._operators: list[Any] = []
        self._index: dict[str, int] = {}

    def model(self) -> Any:
        """Return the complete `ModelT`."""
        for node in self._graph.nodes:
            self._index[node.name] = self._activation(node.name, node.shape)
            if node.kind != "input":
                self._emit(node)
        outputs = [self._index[source] for source in self._graph.outputs.values()]
        subgraph = schema.SubGraphT(self._tensors, [0], outputs, self._operators, name="main")
        codes = [_code(*_OPERATORS[kind]) for kind in self._codes]
        return schema.ModelT(3, codes, [subgraph], "integer-only int8", self._buffers)

    def _activation(self, name: str, shape: tuple[int, ...]) -> int:
        found = self._ranges[name]
        quantization = schema.QuantizationParametersT(
            scale=np.array([found.scale], np.float32), zeroPoint=np.array([found.zero_point])
        )
        named = self._names.get(name, name)
        return self._tensor(named, _nhwc(shape), schema.TensorType.INT8, quantization)

    def _tensor(self, name: str, shape: list[int], kind: int, quantization: Any = None) -> int:
        self._tensors.append(
            schema.TensorT(shape, kind, 0, name, quantization or schema.QuantizationParametersT())
        )
        return len(self._tensors) - 1

    def _constant(self, name: str, data: np.ndarray, quantization: Any = None) -> int:
        kind = schema.TensorType.INT8 if data.dtype == np.int8 else schema.TensorType.INT32
        index = self._tensor(name, list(data.shape), kind, quantization)
        self._buffers.append(_Buffer(np.ascontiguousarray(data).tobytes()))
        self._tensors[index].buffer = len(self._buffers) - 1
        return index

    def _emit(self, node: Node) -> None:
        """Append the node's operator, preceded by PAD if TFLite's SAME padding would differ."""
        operands = [self._index[name] for name in node.inputs]
        if _needs_pad(node, self._input_shape(node)):
            operands[0] = self._padded(node)
        if node.kind == "resize":
            operands[0] = self._copies(node)
        operands += self._constants(node)
        options = _options(node, self._input_shape(node)[0], same=self._same(node))
        self._operator(node.kind, operands, self._index[node.name], options)

    def _operator(self, kind: str, operands: list[int], output: int, options: Any) -> None:
        if kind not in self._codes:
            self._codes.append(kind)
        made = schema.OperatorT(self._codes.index(kind), operands, [output])
        if options is not None:
            made.builtinOptions = options
            name = type(options).__name__.removesuffix("T")
            made.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        self._operators.append(made)

    def _input_shape(self, node: Node) -> tuple[int, ...]:
        return self._nodes[node.inputs[0]].shape

    def _same(self, node: Node) -> bool:
        return _is_padded(node) and not _needs_pad(node, self._input_shape(node))

    def _padded(self, node: Node) -> int:
        """Append a PAD before a convolution; return the padded tensor's index."""
        if node.kind not in ("conv", "depthwise"):
            raise NotImplementedError(f"padding {node.padding} of {node.kind} at {node.name}")
        channels, height, width = self._input_shape(node)
        rows, columns = _pad_amounts(node)[1:3].sum(1).tolist()
        name = f"{node.name}_padded"
        shape = _nhwc((channels, height + rows, width + columns))
        operand = self._index[node.inputs[0]]
        output = self._tensor(
            name, shape, schema.TensorType.INT8, self._tensors[operand].quantization
        )
        amounts = self._constant(f"{name}_amounts", _pad_amounts(node))
        self._operator("pad", [operand, amounts], output, schema.PadOptionsT())
        return output

    def _copies(self, node: Node) -> int:
        """Append a concatenation of copies, the input of DEPTH_TO_SPACE; return its tensor's index.

        Upsampling is written as concatenate + DEPTH_TO_SPACE, with identical results, because
        RESIZE_NEAREST_NEIGHBOR stores its output size as a constant, which would fix the model's
        input size.
        """
        if node.kernel[0] != node.kernel[1]:
            raise NotImplementedError(f"another factor for rows than for columns at {node.name}")
        (channels, height, width), count = self._input_shape(node), node.kernel[0] ** 2
        operand = self._index[node.inputs[0]]
        output = self._tensor(
            f"{node.name}_copies",
            _nhwc((channels * count, height, width)),
            schema.TensorType.INT8,
            self._tensors[operand].quantization,
        )
        self._operator("concat", [operand] * count, output, schema.ConcatenationOptionsT(3))
        return output

    def _constants(self, node: Node) -> list[int]:
        """Append the node's constant operands; return their indices."""
        if node.kind in WEIGHTED:
            return self._weight_and_bias(node)
        if node.kind == "average_pool":
            return self._equal_weights(node)
        if node.kind in ("channels", "first_pixel"):
            begin, size = np.array([0, 0, 0, node.channels[0]]), np.array(_nhwc(node.shape))
            return [
                self._constant(f"{node.name}_{name}", data.astype(np.int32))
                for name, data in (("begin", begin), ("size", size))
            ]
        constants = {
            "pad": ("amounts", _pad_amounts(node)),
            "mean": ("axes", np.array([1, 2], np.int32)),
            "reshape": ("shape", np.array(_nhwc(node.shape), np.int32)),
        }
        if node.kind not in constants:
            return []
        suffix, data = constants[node.kind]
        return [self._constant(f"{node.name}_{suffix}", data)]

    def _weight_and_bias(self, node: Node) -> list[int]:
        weight, bias = self._graph.weights[node.name], self._graph.biases[node.name]
        input_scale = self._ranges[node.inputs[0]].scale
        scales = with_room_for_bias(weight_scales(weight), bias, input_scale)
        if node.kind == "linear":
            scales = scales.max().expand_as(scales)
        values = quantize_weight(weight, scales).numpy()
        biases = quantize_bias(bias, scales, input_scale).numpy()
        channel_scales = scales.numpy() if node.kind != "linear" else scales.numpy()[:1]
        return self._pair(node, _tflite_layout(node, values), biases, channel_scales)

    def _equal_weights(self, node: Node) -> list[int]:
        """Append weights with which a depthwise convolution returns the mean; return their indices.

        XNNPACK, which has no int8 kernel for AVERAGE_POOL_2D, runs it with the operators around.
        """
        channels, window = node.shape[0], math.prod(node.kernel)
        scales = np.full(channels, 1 / (window * WEIGHT_MAX), np.float32)
        weight = np.full((1, *node.kernel, channels), WEIGHT_MAX, np.int8)
        return self._pair(node, weight, np.zeros(channels, np.int32), scales)

    def _pair(
        self, node: Node, weight: np.ndarray, bias: np.ndarray, scales: np.ndarray
    ) -> list[int]:
        """Append weights in TFLite's layout and a bias; return their indices.

        scales: of the weights' output channels, or one for all of them.
        """
        input_scale = np.float32(self._ranges[node.inputs[0]].scale)
        axis = 0 if node.kind in ("conv", "linear") else 3
        return [
            self._constant(f"{node.name}_weight", weight, _symmetric(scales, axis)),
            self._constant(f"{node.name}_bias", bias, _symmetric(scales * input_scale, 0)),
        ]


def _code(operator: str, version: int) -> Any:
    code = getattr(schema.BuiltinOperator, operator)
    return schema.OperatorCodeT(min(code, 127), None, version, code)


def _nhwc(shape: tuple[int, ...]) -> list[int]:
    """(channels, height, width) -> [1, height, width, channels]; (channels,) -> [1, channels]."""
    return [1, *shape[1:], shape[0]]


def _symmetric(scales: np.ndarray, axis: int) -> Any:
    return schema.QuantizationParametersT(
        scale=scales.astype(np.float32),
        zeroPoint=np.zeros(len(scales), np.int64),
        quantizedDimension=axis,
    )


def _tflite_layout(node: Node, weight: np.ndarray) -> np.ndarray:
    """Torch's (out, in, h, w) as TFLite's (out, h, w, in), depthwise (1, h, w, out)."""
    if node.kind == "linear":
        return weight
    return weight.transpose((1, 2, 3, 0) if node.kind == "depthwise" else (0, 2, 3, 1))


def _pad_amounts(node: Node) -> np.ndarray:
    (top, left), (below, right) = node.padding, node.padding_after
    return np.array([[0, 0], [top, top + below], [left, left + right], [0, 0]], np.int32)


def _needs_pad(node: Node, input_shape: tuple[int, ...]) -> bool:
    """Return whether the node's padding differs from TFLite's SAME padding."""
    if not _is_padded(node) or node.kind == "pad":
        return False
    sides = zip(
        input_shape[1:], node.kernel, node.stride, node.padding, node.padding_after, strict=True
    )
    for size, kernel, stride, padding, after in sides:
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        if (total // 2, total - total // 2) != (padding, padding + after):
            return True
    return False


def _is_padded(node: Node) -> bool:
    return any(node.padding) or any(node.padding_after)


def _options(node: Node, channels: int, *, same: bool) -> Any:
    """Return the operator's option table, None if it has none. channels: of the input."""
    padding = schema.Padding.SAME if same else schema.Padding.VALID
    fused = _ACTIVATIONS[node.activation]
    rows, columns = node.stride
    if node.kind == "conv":
        return schema.Conv2DOptionsT(padding, columns, rows, fused)
    if node.kind in ("depthwise", "average_pool"):
        multiplier = node.shape[0] // channels
        return schema.DepthwiseConv2DOptionsT(padding, columns, rows, multiplier, fused)
    if node.kind == "max_pool":
        return schema.Pool2DOptionsT(padding, columns, rows, node.kernel[1], node.kernel[0])
    tables = {
        "linear": lambda: schema.FullyConnectedOptionsT(fused),
        "pad": schema.PadOptionsT,
        "add": lambda: schema.AddOptionsT(fused),
        "mul": lambda: schema.MulOptionsT(fused),
        "concat": lambda: schema.ConcatenationOptionsT(len(node.shape)),
        "mean": lambda: schema.ReducerOptionsT(keepDims=True),
        "resize": lambda: schema.DepthToSpaceOptionsT(node.kernel[0]),
        "space_to_depth": lambda: schema.SpaceToDepthOptionsT(node.kernel[0]),
        "channels": schema.SliceOptionsT,
        "first_pixel": schema.SliceOptionsT,
        "reshape": lambda: schema.ReshapeOptionsT(_nhwc(node.shape)),
    }
    return tables[node.kind]() if node.kind in tables else None
