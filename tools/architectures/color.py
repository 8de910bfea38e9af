"""The color network: a crop and its object's class in, one logit per basic color term out.

Input planes: red, green, blue, then one plane for each object class, constant: full where the
object is of that class, zero where it is not or the class is unknown. One pixel of these planes
says it all: learned values of the class are added to the last features, where they help to decide
which pixels are the object's. Each cell's features are weighted by a learned gate before they are
averaged: the gate suppresses background, wheels, windows and skin. Only operators with fast int8
kernels are used.

Two trunks: `residual`, small, whose first convolution already steps by 4, since color needs little
resolution; and the first blocks of `efficientnet-lite0`, which start from ImageNet weights. A path
of 1x1 convolutions over mean colors of 4x4 pixels may run beside the trunk: the trunk locates the
object, the path keeps its exact color, of which features made for recognizing objects lose some.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from tools.architectures import efficientnet_lite
from tools.quantize.graph import Channels, FirstPixel, HalvingConv2d

OUTPUT = "color"
CELLS = "cells"
RESIDUAL_STRIDE = 16  # pixels of the input for a cell of the residual trunk's last features
Trunk = Literal["residual", "efficientnet-lite0"]


@dataclass(frozen=True)
class ColorArchitecture:
    """Size of the network.

    trunk: what makes the features; blocks: how many of EfficientNet-Lite0's, 5 to 11, and
        expansions: of those of each of its stages, 1 to 6.
    input_px: side of the square input, a multiple of 16.
    widths: channels of the residual trunk at a quarter, an eighth and a sixteenth of the
        resolution; depths: residual blocks at each of them. The last width is also that of the
        features that the gate weighs, with either trunk.
    colors: channels of the path of plain colors beside the trunk; 0 leaves it out.
    labels: number of terms. classes: number of object classes.
    """

    trunk: Trunk = "residual"
    input_px: int = 64
    widths: tuple[int, int, int] = (24, 48, 96)
    depths: tuple[int, int, int] = (1, 1, 1)
    colors: int = 0
    blocks: int = efficientnet_lite.BLOCKS
    expansions: tuple[int, ...] = efficientnet_lite.EXPANSIONS
    labels: int = 11
    classes: int = 9


class ColorNet(nn.Module):
    """Maps float32 (n, 3 + classes, input_px, input_px), (level - 128) / 128, RGB, to logits."""

    def __init__(self, size: ColorArchitecture) -> None:
        super().__init__()
        self.classes, width = size.classes, size.widths[2]
        self.pixels = Channels(0, 3)
        if size.trunk == "residual":
            self.trunk, before, stride = _residual_trunk(size), width, RESIDUAL_STRIDE
            self.mix: nn.Module = Residual(width)
        else:
            self.trunk = efficientnet_lite.trunk(size.blocks, size.expansions)
            before = efficientnet_lite.channels(size.blocks)
            stride = efficientnet_lite.stride(size.blocks)
            self.mix = _convolution(before, width, kernel=1, padding=0)
            if size.colors:
                self.mix = self.mix[:2]  # its ReLU comes after the path of plain colors was added
        self.known = _class_values(size.classes, before) if size.classes else None
        self.colors = _color_path(size.colors, width, stride) if size.colors else None
        self.relu = nn.ReLU()
        self.gate = nn.Sequential(nn.Conv2d(width, width, 1), nn.Sigmoid())
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1))
        self.head = nn.Linear(width, size.labels)

    def forward(self, planes: Tensor) -> dict[str, Tensor]:
        """Return {`color`: logits (n, labels)}."""
        return {OUTPUT: self.head(self.pool(self.weighed(planes)))}

    def weighed(self, planes: Tensor) -> Tensor:
        """Return the features of the cells, weighted by the gate, (n, width, rows, columns)."""
        pixels = self.pixels(planes)
        features = self.trunk(pixels)
        if self.known is not None:
            features = features + self.known(planes)
        features = self.mix(features)
        if self.colors is not None:
            features = self.relu(features + self.colors(pixels))
        weighed: Tensor = features * self.gate(features)
        return weighed


class WithCells(nn.Module):
    """A trained network that also returns the logits of each cell; this is what a file contains.

    The head is linear and comes after a mean, so the cells' logits, the head applied to each of
    them, have the network's logits as their mean: a class activation map (Zhou et al. 2016) that is
    exact.
    """

    def __init__(self, network: ColorNet) -> None:
        super().__init__()
        self.network = network
        head = network.head
        self.cells = nn.Conv2d(head.in_features, head.out_features, 1)
        self.cells.weight = nn.Parameter(head.weight.detach()[:, :, None, None].clone())
        self.cells.bias = head.bias

    def forward(self, planes: Tensor) -> dict[str, Tensor]:
        """Return {`color`: logits (n, labels), `cells`: (n, labels, rows, columns)}."""
        weighed = self.network.weighed(planes)
        return {OUTPUT: self.network.head(self.network.pool(weighed)), CELLS: self.cells(weighed)}


class Residual(nn.Module):
    """Two 3x3 convolutions whose result is added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _convolution(width, width)
        self.second = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )
        self.relu = nn.ReLU()

    def forward(self, value: Tensor) -> Tensor:
        """Return the block's output, same shape as its input."""
        result: Tensor = self.relu(value + self.second(self.first(value)))
        return result


def _residual_trunk(size: ColorArchitecture) -> nn.Sequential:
    """Return the residual trunk without its last block, which comes after the class is added."""
    stages: list[nn.Module] = [_convolution(3, size.widths[0], kernel=6, stride=4)]
    before = size.widths[0]
    for index, (width, depth) in enumerate(zip(size.widths, size.depths, strict=True)):
        if index:
            stages.append(_halving(before, width))
        stages += [Residual(width) for _ in range(depth - (index == 2))]
        before = width
    return nn.Sequential(*stages)


def _color_path(colors: int, width: int, stride: int) -> nn.Sequential:
    """Return the path of plain colors: 1x1 convolutions over mean colors of 4x4 pixels."""
    return nn.Sequential(
        nn.AvgPool2d(4),
        _convolution(3, colors, kernel=1, padding=0),
        _convolution(colors, colors, kernel=1, padding=0),
        nn.AvgPool2d(stride // 4),
        _convolution(colors, width, kernel=1, padding=0)[:2],
    )


def _class_values(classes: int, channels: int) -> nn.Sequential:
    """Return what turns planes into values of the class, (n, channels, 1, 1), zero at first."""
    values = nn.Conv2d(classes, channels, 1, bias=False)
    nn.init.zeros_(values.weight)
    return nn.Sequential(FirstPixel(), Channels(3, 3 + classes), values)


def _halving(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(HalvingConv2d(before, after, 3), nn.BatchNorm2d(after), nn.ReLU())


def _convolution(
    before: int, after: int, *, kernel: int = 3, stride: int = 1, padding: int = 1
) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())
