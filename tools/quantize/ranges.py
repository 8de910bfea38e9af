"""Calibration: chooses scale and zero point of each tensor of a graph from calibration images.

Method: a histogram per tensor over all images, cut at a percentile on both sides. The model's
outputs use their true minimum and maximum (a percentile would cap the class scores). Tensors joined
by a concatenation, resize or pooling share one range, uncut if one of them is an output. A
sigmoid's output is 0..1 by definition. The range of a tensor that only a SiLU reads starts at
`SILU_FLOOR`, below which SiLU is almost zero.
Source: tools/experiments-detector.md; min-max ranges lose most of a SiLU network's accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edge.errors import InputError
from tools.quantize.graph import INPUT, SAME_SCALE, Graph

INT8_MIN, INT8_MAX = -128, 127
BINS = 8192
LARGEST = 1e30  # larger values mean that training diverged; float32 ends at 3.4e38
SILU_FLOOR = -5.0  # SiLU(-5) = -0.03; some layers reach -50, which would waste quantization steps


@dataclass(frozen=True)
class Quantization:
    """Quantization of an int8 tensor: real value = (quantized - zero_point) * scale."""

    scale: float
    zero_point: int

    @property
    def low(self) -> float:
        """The smallest representable real value."""
        return (INT8_MIN - self.zero_point) * self.scale

    @property
    def high(self) -> float:
        """The largest representable real value."""
        return (INT8_MAX - self.zero_point) * self.scale


PIXELS = Quantization(1.0, -128)  # real values 0..255 straight from an image
LOGISTIC = Quantization(1 / 256, -128)  # fixed by the kernels
# Kinds whose ranges are not measured: fixed, or equal to those of their operands.
_NOT_MEASURED = SAME_SCALE | {"input", "logistic"}


@dataclass(frozen=True)
class Calibration:
    """How ranges are chosen.

    percentile: of a tensor's values at the upper end of its range; the lower end is at 100 minus
        it. The model's outputs use minimum and maximum instead.
    silu_floor: lowest start of a range that only a SiLU reads; -inf: no limit.
    """

    percentile: float = 99.99
    silu_floor: float = SILU_FLOOR


def from_range(low: float, high: float) -> Quantization:
    """Return the int8 quantization of a range, widened to contain zero, which is exact.

    Source: TFLite 8-bit quantization specification (asymmetric activations).
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / (INT8_MAX - INT8_MIN), 1e-8)
    return Quantization(float(np.float32(scale)), round(INT8_MIN - low / scale))


def batches(images: Iterable[np.ndarray], pixels: Quantization, size: int) -> Iterable[Tensor]:
    """Yield batches of network inputs as real values, float32 (n, 3, height, width).

    images: uint8 (height, width, 3); pixel value p is quantized value p - 128.
    """
    held: list[np.ndarray] = []
    for image in images:
        held.append(image)
        if len(held) == size:
            yield _real(held, pixels)
            held = []
    if held:
        yield _real(held, pixels)


def _real(images: list[np.ndarray], pixels: Quantization) -> Tensor:
    stacked = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()).float()
    return (stacked + (INT8_MIN - pixels.zero_point)) * pixels.scale


def calibrate(
    graph: Graph,
    images: Iterable[np.ndarray],
    pixels: Quantization = PIXELS,
    options: Calibration | None = None,
) -> dict[str, Quantization]:
    """Return each node's quantization; see `measure` and `choose`.

    pixels: quantization of the input. options: default: `Calibration()`.
    """
    return choose(graph, measure(graph, images, pixels), pixels, options)


def measure(
    graph: Graph, images: Iterable[np.ndarray], pixels: Quantization = PIXELS, batch: int = 8
) -> Statistics:
    """Return the distribution of each tensor's values.

    images: uint8 (height, width, 3), a few hundred of the training set. They are iterated twice:
        pass a list or another re-iterable object, not a generator.
    Raises InputError when values are not finite or beyond LARGEST, as after diverged training.
    """
    measured = {node.name for node in graph.nodes if node.kind not in _NOT_MEASURED}
    extremes = _MinMax(measured)
    with torch.no_grad():
        for values in batches(images, pixels, batch):
            graph(values, extremes)
        if not extremes.ranges:
            raise ValueError("calibration needs at least one image")
        statistics = Statistics(extremes.ranges)
        for values in batches(images, pixels, batch):
            graph(values, statistics)
    return statistics


def choose(
    graph: Graph,
    statistics: Statistics,
    pixels: Quantization = PIXELS,
    options: Calibration | None = None,
) -> dict[str, Quantization]:
    """Return each node's quantization; tensors that share a scale get the union of their ranges."""
    options = options or Calibration()
    exact = set(graph.outputs.values())
    kinds = {node.name: node.kind for node in graph.nodes}
    floors = dict.fromkeys(_silu_inputs(graph), options.silu_floor)
    found: dict[str, Quantization] = {}
    for group in shared_scales(graph):
        fixed = {LOGISTIC for name in group if kinds[name] == "logistic"}
        fixed |= {pixels for name in group if name == INPUT}
        ranges = [
            statistics.range(name, 1.0 if exact & set(group) else options.percentile / 100)
            for name in group
            if name in statistics.ranges
        ]
        if len(fixed) + bool(fixed and ranges) > 1:
            raise NotImplementedError(f"a concatenation with a fixed scale: {group}")
        if not fixed:
            floor = min(floors.get(name, -math.inf) for name in group)
            low, high = min(low for low, _ in ranges), max(top for _, top in ranges)
            fixed = {from_range(max(low, floor), high)}
        found.update(dict.fromkeys(group, fixed.pop()))
    return found


def _silu_inputs(graph: Graph) -> set[str]:
    """Return the nodes read only by a SiLU, i.e. by a sigmoid and its product with the node."""
    users = graph.users()
    kinds = {node.name: node.kind for node in graph.nodes}
    read = {node.inputs[0]: node.name for node in graph.nodes if node.kind == "logistic"}
    return {
        name
        for name, gate in read.items()
        if [kinds[user] for user in users[gate]] == ["mul"]
        and set(users[name]) == {gate, *users[gate]}
        and name not in graph.outputs.values()
    }


def shared_scales(graph: Graph) -> list[list[str]]:
    """Return node names in groups that must share one scale, in execution order."""
    leader = {node.name: node.name for node in graph.nodes}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for node in graph.nodes:
        if node.kind in SAME_SCALE:
            for operand in node.inputs:
                leader[find(operand)] = find(node.name)
    groups: dict[str, list[str]] = {}
    for node in graph.nodes:
        groups.setdefault(find(node.name), []).append(node.name)
    return list(groups.values())


class _MinMax:
    """Quantizer that records minimum and maximum of each tensor in `names`."""

    def __init__(self, names: set[str]) -> None:
        self._names = names
        self.ranges: dict[str, tuple[float, float]] = {}

    def activation(self, name: str, value: Tensor) -> Tensor:
        if name in self._names:
            low, high = (float(item) for item in torch.aminmax(value))
            if not -LARGEST < low <= high < LARGEST:
                message = f"{name} is {low} to {high}: the network gives no usable numbers"
                raise InputError(f"{message}; train it again with a lower --learning-rate")
            before = self.ranges.get(name, (low, high))
            self.ranges[name] = (min(low, before[0]), max(high, before[1]))
        return value

    def weight(self, _name: str, value: Tensor) -> Tensor:
        return value


class Statistics:
    """Quantizer that collects a histogram of each tensor while a graph runs.

    ranges: minimum and maximum by node name.
    """

    def __init__(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        self.ranges = dict(ranges)
        self._counts = {name: torch.zeros(BINS, dtype=torch.float64) for name in ranges}

    def activation(self, name: str, value: Tensor) -> Tensor:
        """Count the values of a tensor; return it unchanged."""
        low, high = self.ranges.get(name, (0.0, 0.0))
        if low < high:
            self._counts[name] += torch.histc(value, BINS, low, high)
        return value

    def weight(self, _name: str, value: Tensor) -> Tensor:
        """Return the weight unchanged."""
        return value

    def range(self, name: str, share: float) -> tuple[float, float]:
        """Return the range that excludes a share of 1 - `share` of the values at each end."""
        low, high = self.ranges[name]
        if low == high or share >= 1:
            return low, high
        below = torch.cumsum(self._counts[name], 0) / self._counts[name].sum()
        width = (high - low) / BINS
        first = int(torch.searchsorted(below, 1 - share))
        last = int(torch.searchsorted(below, share))
        return low + first * width, low + (last + 1) * width
