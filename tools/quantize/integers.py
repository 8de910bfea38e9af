"""Weights and biases as integers: int8 per output channel, symmetric; int32 biases.

Fully connected weights share one scale: tflite-runtime 2.14 has no per-channel kernel for them.

Source: TFLite 8-bit quantization specification (weights in -127..127, zero point 0; bias scale =
input scale * weight scale).
"""

from __future__ import annotations

import torch
from torch import Tensor

WEIGHT_MAX = 127
_BIAS_MAX = 2**30  # half of int32: room for the products summed onto it


def weight_scales(weight: Tensor) -> Tensor:
    """Return each output channel's scale, float32 (channels,); the output channel is axis 0."""
    largest = weight.detach().abs().flatten(1).amax(1).clamp_min(1e-9)
    if weight.dim() == 2:
        largest = largest.max().expand_as(largest)
    return largest / WEIGHT_MAX


def with_room_for_bias(scales: Tensor, bias: Tensor, input_scale: float) -> Tensor:
    """Return the scales, increased where the channel's bias would otherwise overflow."""
    needed = bias.detach().abs() / (input_scale * _BIAS_MAX)
    return torch.maximum(scales, needed)


def quantize_weight(weight: Tensor, scales: Tensor) -> Tensor:
    """Return the weight as int8 values in -127..127, same shape. scales: from `weight_scales`."""
    shaped = scales.reshape(-1, *[1] * (weight.dim() - 1))
    return (weight.detach() / shaped).round().to(torch.int8)


def quantize_bias(bias: Tensor, scales: Tensor, input_scale: float) -> Tensor:
    """Return the bias as int32 in units of input scale * weight scale."""
    return (bias.detach().double() / (scales.double() * input_scale)).round().to(torch.int32)
