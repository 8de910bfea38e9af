"""The color network: a crop in, one logit per basic color term out.

Color needs little resolution, so the first convolution already steps by 4: most of the work is done
on 16x16 cells, a few millions of multiplications in all. Each cell's features are weighed by a
learned gate before they are averaged: the gate looks past background, wheels, windows and skin.
Only operators with fast int8 kernels: convolution, ReLU, add, mul, logistic, mean, fully connected.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

OUTPUT = "color"


@dataclass(frozen=True)
class ColorArchitecture:
    """Size of the network.

    input_px: side of the square input.
    widths: channels at a quarter, an eighth and a sixteenth of the input's resolution.
    depths: residual blocks at each of them.
    labels: number of terms.
    """

    input_px: int = 64
    widths: tuple[int, int, int] = (24, 48, 96)
    depths: tuple[int, int, int] = (1, 1, 1)
    labels: int = 11


class ColorNet(nn.Module):
    """Maps float32 (n, 3, input_px, input_px), RGB, (level - 128) / 128, to logits."""

    def __init__(self, size: ColorArchitecture) -> None:
        super().__init__()
        stages: list[nn.Module] = [_convolution(3, size.widths[0], kernel=6, stride=4, padding=1)]
        before = size.widths[0]
        for index, (width, depth) in enumerate(zip(size.widths, size.depths, strict=True)):
            if index:
                stages.append(_convolution(before, width, stride=2))
            stages += [Residual(width) for _ in range(depth)]
            before = width
        self.features = nn.Sequential(*stages)
        self.gate = nn.Sequential(nn.Conv2d(before, before, 1), nn.Sigmoid())
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1))
        self.head = nn.Linear(before, size.labels)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return {`color`: logits (n, labels)}."""
        features = self.features(images)
        return {OUTPUT: self.head(self.pool(features * self.gate(features)))}


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


def _convolution(
    before: int, after: int, *, kernel: int = 3, stride: int = 1, padding: int = 1
) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())
