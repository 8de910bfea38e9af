"""Simulates the quantized model's arithmetic in float, for quantization-aware training."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tools.quantize.graph import INPUT, SAME_SCALE, Graph
from tools.quantize.integers import WEIGHT_MAX, weight_scales
from tools.quantize.ranges import INT8_MAX, INT8_MIN, Quantization


class FakeQuantizer:
    """Rounds activations and weights to int8 values; gradients pass through unchanged (STE).

    ranges: each node's quantization, from `calibrate`.
    """

    def __init__(self, graph: Graph, ranges: Mapping[str, Quantization]) -> None:
        # These operators only move values, which are rounded already.
        exact = {node.name for node in graph.nodes if node.kind in SAME_SCALE} | {INPUT}
        self._ranges = {name: item for name, item in ranges.items() if name not in exact}

    def activation(self, name: str, value: Tensor) -> Tensor:
        """Return the value rounded and clipped to the tensor's int8 grid, same shape."""
        found = self._ranges.get(name)
        if found is None:
            return value
        return torch.fake_quantize_per_tensor_affine(
            value, found.scale, found.zero_point, INT8_MIN, INT8_MAX
        )

    def weight(self, _name: str, value: Tensor) -> Tensor:
        """Return the weight rounded per output channel, same shape."""
        scales = weight_scales(value)
        zeros = torch.zeros(len(scales), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(
            value, scales, zeros, 0, -WEIGHT_MAX, WEIGHT_MAX
        )
