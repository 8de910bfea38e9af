"""The intermediate graph for quantization: a list of nodes, executed in torch.

Float inference, calibration, quantization-aware training and the writer use the same graph, so that
the simulated model is the written one. Activations are NCHW here, NHWC in the written model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

INPUT = "input"

# Operators whose kernels need equal scales of input and output.
SAME_SCALE = frozenset(
    {"concat", "resize", "max_pool", "space_to_depth", "reshape", "pad"}
    | {"channels", "first_pixel"}
)
WEIGHTED = frozenset({"conv", "depthwise", "linear"})


@dataclass(frozen=True)
class Node:
    """One operator and its output tensor.

    name: of the operator's output tensor, unique in the graph.
    kind: input, conv, depthwise, linear, pad, add, mul, logistic, relu, relu6, concat, max_pool,
        average_pool, mean, resize, space_to_depth, channels, first_pixel or
        reshape.
    inputs: names of the nodes that produce the operands.
    kernel, stride, padding: (height, width); for `resize` and `space_to_depth` the kernel is the
        factor; for `pad` the padding is on both sides.
    padding_after: rows below and columns to the right in addition to `padding`.
    channels: for `channels`, the first one and the one after the last.
    activation: fused into the operator: "", "relu" or "relu6".
    shape: of the output, (channels, height, width) or (channels,), without the batch axis.
    """

    name: str
    kind: str
    inputs: tuple[str, ...] = ()
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    padding_after: tuple[int, int] = (0, 0)
    activation: str = ""
    channels: tuple[int, int] = (0, 0)
    shape: tuple[int, ...] = ()


class Quantizer(Protocol):
    """Hook that can observe or replace the tensors of a running graph."""

    def activation(self, name: str, value: Tensor) -> Tensor:
        """Return the tensor to use as the output of node `name`."""
        ...

    def weight(self, name: str, value: Tensor) -> Tensor:
        """Return the tensor to use as the weight of node `name`."""
        ...


class SpaceToDepth(nn.Module):
    """Move blocks of block x block pixels into channels, in the order of TFLite's SPACE_TO_DEPTH.

    (n, c, h, w) -> (n, block*block*c, h/block, w/block); pixel (row, column) of a block gives the
    channels from (row*block + column)*c;
    `torch.nn.PixelUnshuffle` orders them differently.
    """

    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block

    def forward(self, value: Tensor) -> Tensor:
        """See the class."""
        return space_to_depth(value, self.block)


class HalvingConv2d(nn.Conv2d):
    """A convolution of stride 2 without bias, padded as TensorFlow's SAME pads maps of even sides.

    One row and column less before than after: torch's padding would be an operator of its own in a
    .tflite file.
    """

    def __init__(self, before: int, after: int, kernel: int, *, groups: int = 1) -> None:
        super().__init__(before, after, kernel, 2, (kernel - 2) // 2, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the base class's name
        """(n, before, h, w) -> (n, after, h/2, w/2); h and w are even."""
        return super().forward(functional.pad(input, (0, 1, 0, 1)))


class Channels(nn.Module):
    """Channels `first` to `last - 1` of a map."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__()
        self.first, self.last = first, last

    def forward(self, value: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, last - first, h, w)."""
        return value[:, self.first : self.last]


class FirstPixel(nn.Module):
    """The top left pixel of a map, which is all that there is to know of constant channels."""

    def forward(self, value: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c, 1, 1)."""
        return value[:, :, :1, :1]


def space_to_depth(value: Tensor, block: int) -> Tensor:
    """See `SpaceToDepth`."""
    count, channels, height, width = value.shape
    split = value.reshape(count, channels, height // block, block, width // block, block)
    moved = split.permute(0, 3, 5, 1, 2, 4)
    return moved.reshape(count, channels * block * block, height // block, width // block)


class Graph(nn.Module):
    """Nodes in execution order with their trainable weights and biases.

    nodes: the first is the input; `outputs` maps the model's output names to node names.
    """

    def __init__(self, nodes: list[Node], outputs: Mapping[str, str]) -> None:
        super().__init__()
        self.nodes = nodes
        self.outputs = dict(outputs)
        self.weights = nn.ParameterDict()
        self.biases = nn.ParameterDict()

    def forward(self, value: Tensor, quantizer: Quantizer | None = None) -> dict[str, Tensor]:
        """Return the outputs by name for a batch, float32 (n, 3, height, width)."""
        values: dict[str, Tensor] = {}
        for node in self.nodes:
            operands = [values[name] for name in node.inputs] or [value]
            result = self._run(node, operands, quantizer)
            values[node.name] = quantizer.activation(node.name, result) if quantizer else result
        return {name: values[source] for name, source in self.outputs.items()}

    def _run(self, node: Node, operands: list[Tensor], quantizer: Quantizer | None) -> Tensor:
        if node.kind in WEIGHTED:
            weight = self.weights[node.name]
            if quantizer:
                weight = quantizer.weight(node.name, weight)
            result = _weighted(node, operands[0], weight, self.biases[node.name])
        else:
            result = _PLAIN[node.kind](node, operands)
        return _activate(result, node.activation)

    def with_shapes(self, input_shape: tuple[int, int, int]) -> Graph:
        """Return this graph, sharing its weights, with every node's shape filled in.

        input_shape: (channels, height, width). Raises NotImplementedError for a reshape of a map
        that is not 1x1, or a linear layer on a map: these depend on torch's NCHW order.
        """
        recorder = _ShapeRecorder()
        with torch.no_grad():
            self(torch.zeros(1, *input_shape), recorder)
        for node in self.nodes:
            _refuse_order_of_map(node, [recorder.shapes[name] for name in node.inputs])
        shaped = Graph(
            [replace(node, shape=recorder.shapes[node.name]) for node in self.nodes], self.outputs
        )
        shaped.weights, shaped.biases = self.weights, self.biases
        return shaped

    def users(self) -> dict[str, list[str]]:
        """Return for each node name the names of the nodes that read it."""
        users: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in node.inputs:
                users[name].append(node.name)
        return users


def _refuse_order_of_map(node: Node, inputs: list[tuple[int, ...]]) -> None:
    if node.kind == "reshape" and inputs[0][1:] not in ((), (1, 1)):
        raise NotImplementedError(f"a reshape of a map that is not 1x1 at {node.name}")
    if node.kind == "linear" and len(inputs[0]) > 1:
        raise NotImplementedError(f"a linear layer on a map at {node.name}")


@dataclass
class _ShapeRecorder:
    """Quantizer that records every tensor's shape, without the batch axis."""

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def activation(self, name: str, value: Tensor) -> Tensor:
        self.shapes[name] = tuple(value.shape[1:])
        return value

    def weight(self, _name: str, value: Tensor) -> Tensor:
        return value


def _weighted(node: Node, value: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if node.kind == "linear":
        return functional.linear(value, weight, bias)
    groups = value.shape[1] if node.kind == "depthwise" else 1
    if node.padding_after != (0, 0):
        below, right = node.padding_after
        value = functional.pad(value, (0, right, 0, below))
    return functional.conv2d(value, weight, bias, node.stride, node.padding, 1, groups)


def _activate(value: Tensor, activation: str) -> Tensor:
    if activation == "relu":
        return functional.relu(value)
    return functional.relu6(value) if activation == "relu6" else value


def _pad(node: Node, operands: list[Tensor]) -> Tensor:
    rows, columns = node.padding
    return functional.pad(operands[0], (columns, columns, rows, rows))


_PLAIN: dict[str, Callable[[Node, list[Tensor]], Tensor]] = {
    "input": lambda _node, operands: operands[0],
    "pad": _pad,
    "add": lambda _node, operands: operands[0] + operands[1],
    "mul": lambda _node, operands: operands[0] * operands[1],
    "logistic": lambda _node, operands: torch.sigmoid(operands[0]),
    "relu": lambda _node, operands: functional.relu(operands[0]),
    "relu6": lambda _node, operands: functional.relu6(operands[0]),
    "concat": lambda _node, operands: torch.cat(operands, 1),
    "max_pool": lambda node, operands: functional.max_pool2d(
        operands[0], node.kernel, node.stride, node.padding
    ),
    "average_pool": lambda node, operands: functional.avg_pool2d(
        operands[0], node.kernel, node.stride
    ),
    "mean": lambda _node, operands: operands[0].mean((2, 3), keepdim=True),
    "resize": lambda node, operands: functional.interpolate(
        operands[0], scale_factor=(float(node.kernel[0]), float(node.kernel[1])), mode="nearest"
    ),
    "channels": lambda node, operands: operands[0][:, slice(*node.channels)],
    "first_pixel": lambda _node, operands: operands[0][:, :, :1, :1],
    "space_to_depth": lambda node, operands: space_to_depth(operands[0], node.kernel[0]),
    "reshape": lambda _node, operands: operands[0].flatten(1),
}
