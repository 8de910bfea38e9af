"""The five networks of the original study, rebuilt from their names and sizes, and ours.

The study gives names, numbers of weights and accuracies, but no diagrams: the networks here have
the structure that the names describe, and within one percent the same number of weights. A twin
takes the object and the object with its surroundings, stacked as six planes. A dense layer on a
feature map is written as a convolution of the map's size: it has the same weights, and needs no
flattening, whose order the int8 file would have to keep.
Source of VGG16: Simonyan & Zisserman, 2014; the names of its weights are torchvision's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edge.errors import InputError
from tools.architectures.color import OUTPUT, ColorArchitecture, ColorNet
from tools.tensor_file import UNREADABLE

TERMS_COUNT = 11
VGG16_PLAN = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


@dataclass(frozen=True)
class Studied:
    """One network of the study.

    make: builds it untrained. side_px: of its square input. is_twin: whether it takes six planes.
    weights_m: millions of weights in the study, None for ours.
    is_pretrained: only its last layer is trained; it needs weights of ImageNet.
    """

    make: Callable[[], nn.Module]
    side_px: int
    is_twin: bool = False
    weights_m: float | None = None
    is_pretrained: bool = False


class Twin(nn.Module):
    """Two equal paths whose features meet in dense layers."""

    def __init__(self, features: int, joined: int, *, is_updated: bool) -> None:
        """Take the features of each path and of the joined layer.

        is_updated: with batch norm and dropout, as in the study's second twin.
        """
        super().__init__()
        self.object_planes, self.context_planes = _planes(0), _planes(3)
        self.object_path = _path(features, is_updated=is_updated)
        self.context_path = _path(features, is_updated=is_updated)
        dropout = nn.Dropout(0.5) if is_updated else nn.Identity()
        self.head = nn.Sequential(
            nn.Linear(2 * features, joined), nn.ReLU(), dropout, nn.Linear(joined, TERMS_COUNT)
        )

    def forward(self, planes: Tensor) -> Tensor:
        """Return logits (n, 11) of (n, 6, 32, 32)."""
        seen = self.object_path(self.object_planes(planes))
        around = self.context_path(self.context_planes(planes))
        logits: Tensor = self.head(torch.cat([seen, around], 1))
        return logits


class Ours(nn.Module):
    """The color network without classes, its logits as a plain tensor."""

    def __init__(self, size: ColorArchitecture) -> None:
        super().__init__()
        self.network = ColorNet(size)

    def forward(self, planes: Tensor) -> Tensor:
        """Return logits (n, 11)."""
        logits: Tensor = self.network(planes)[OUTPUT]
        return logits


class Vgg16(nn.Module):
    """VGG16 at 224 pixels with a last layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*_vgg_features(VGG16_PLAN))
        self.dense = nn.Sequential(
            *_dense(512, 7, 4096), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()
        )
        self.head = nn.Linear(4096, TERMS_COUNT)

    def forward(self, planes: Tensor) -> Tensor:
        """Return logits (n, 11) of (n, 3, 224, 224)."""
        logits: Tensor = self.head(self.dense(self.features(planes)))
        return logits

    def load_imagenet(self, file: Path) -> None:
        """Take torchvision's VGG16 weights but the last layer's, and freeze them.

        Raises InputError for a file that holds others.
        """
        try:
            stored = torch.load(file, map_location="cpu", weights_only=True)
            with torch.no_grad():
                for name, weight in self.features.named_parameters():
                    weight.copy_(stored[f"features.{name}"])
                for layer, number in ((self.dense[0], 0), (self.dense[4], 3)):
                    for name, weight in layer.named_parameters():
                        weight.copy_(stored[f"classifier.{number}.{name}"].reshape(weight.shape))
        except UNREADABLE as error:
            raise InputError(
                f"{file}: no VGG16 weights of torchvision ({type(error).__name__}); "
                "give its vgg16-397923af.pth with --vgg16"
            ) from None
        for weight in (*self.features.parameters(), *self.dense.parameters()):
            weight.requires_grad = False


def _planes(first: int) -> nn.Conv2d:
    """Return a fixed 1x1 convolution that takes three of six planes."""
    chosen = nn.Conv2d(6, 3, 1, bias=False)
    with torch.no_grad():
        chosen.weight.zero_()
        for plane in range(3):
            chosen.weight[plane, first + plane] = 1.0
    chosen.weight.requires_grad = False
    return chosen


def _path(features: int, *, is_updated: bool) -> nn.Sequential:
    """Return three convolutions and a dense layer: 32x32 pixels in, `features` out."""
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=not is_updated)]
        layers += [nn.BatchNorm2d(after)] if is_updated else []
        layers += [nn.ReLU()]
        layers += [nn.MaxPool2d(2, 2)] if before != 3 else []
    layers += [nn.Dropout(0.25)] if is_updated else []
    return nn.Sequential(*layers, *_dense(128, 8, features))


def _dense(channels: int, side: int, features: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, features, side), nn.ReLU(), nn.Flatten()]


def _single() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2)]
    return nn.Sequential(*layers, *_dense(128, 4, 576), nn.Linear(576, TERMS_COUNT))


def _vgg_single() -> nn.Module:
    """Return VGG16's first three blocks with a small head, for 32x32 pixels."""
    head = [*_dense(256, 4, 400), nn.Dropout(), nn.Linear(400, TERMS_COUNT)]
    return nn.Sequential(*_vgg_features(VGG16_PLAN[:3]), *head)


def _vgg_features(plan: tuple[tuple[int, int], ...]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    before = 3
    for width, repeats in plan:
        for _ in range(repeats):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
        layers += [nn.MaxPool2d(2, 2)]
    return layers


FAST = ColorArchitecture(
    "efficientnet-lite0",
    96,
    (0, 0, 88),
    colors=32,
    blocks=7,
    expansions=(1, 4, 4, 2, 6),
    classes=0,
)
ACCURATE = ColorArchitecture(
    "efficientnet-lite0", 128, (0, 0, 128), colors=64, expansions=(1, 4, 4, 6, 6), classes=0
)
STUDY: dict[str, Studied] = {
    "twin, base": Studied(
        lambda: Twin(1024, 2432, is_updated=False), 32, is_twin=True, weights_m=22.1
    ),
    "single": Studied(_single, 32, weights_m=1.28),
    "twin, updated": Studied(
        lambda: Twin(512, 1024, is_updated=True), 32, is_twin=True, weights_m=9.66
    ),
    "VGG16-based single": Studied(_vgg_single, 32, weights_m=3.4),
    "VGG16 transfer": Studied(Vgg16, 224, weights_m=134.0, is_pretrained=True),
    "ours, fast": Studied(lambda: Ours(FAST), FAST.input_px),
    "ours, accurate": Studied(lambda: Ours(ACCURATE), ACCURATE.input_px),
}
