"""YOLOX-Nano in torch, with the weights of the published ONNX file.

Differences from the original, none of which changes the result: the image is rearranged by
SPACE_TO_DEPTH in TFLite's channel order; each stride has box, objectness and class logits as
separate outputs; only the wanted classes are kept; the stem, whose channels differ a hundredfold in
range, can be split into groups with separate quantization scales. Source: Megvii's YOLOX
(Apache-2.0), depth 0.33, width 0.25.

Alternatively the stem is rectified: its first SiLU is a ReLU (fitted by `tools.train.rectify`). The
channels of a ReLU can be scaled freely, so that all have one range and need no groups; and a ReLU
is fused into its convolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.errors import InputError
from tools import tensor_file
from tools.architectures import yolox_file
from tools.architectures.yolox_file import Stored
from tools.quantize import SpaceToDepth

STRIDES = (8, 16, 32)
LABELS = yolox_file.LABELS
# The shipped float weights: the shipped models were quantized from them; a start for own training.
WEIGHTS = Path(__file__).parents[1] / "weights" / "yolox-nano.pt"
STEM_CHANNELS = 16
BLOCK_CHANNELS = 12  # values of a block of 2x2 pixels, which the stem reads
_HEAD_CHANNELS = 64


class Conv(nn.Sequential):
    """Convolution with batch norm folded, then SiLU; padded to keep the size at stride 1."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
        super().__init__(convolution, nn.SiLU())


class Separable(nn.Sequential):
    """Depthwise 3x3, then pointwise, each with SiLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(Conv(inputs, inputs, 3, stride, inputs), Conv(inputs, outputs))


class Bottleneck(nn.Module):
    """Pointwise and separable convolution, with a residual connection if `adds`."""

    def __init__(self, channels: int, *, adds: bool) -> None:
        super().__init__()
        self.pointwise = Conv(channels, channels)
        self.separable = Separable(channels, channels)
        self.adds = adds

    def forward(self, value: Tensor) -> Tensor:
        """(n, channels, h, w) -> the same shape."""
        made: Tensor = self.separable(self.pointwise(value))
        return made + value if self.adds else made


class CrossStage(nn.Module):
    """Cross-stage partial layer: half of the channels through `depth` bottlenecks."""

    def __init__(self, inputs: int, outputs: int, depth: int = 1, *, adds: bool = False) -> None:
        super().__init__()
        hidden = outputs // 2
        self.deep = Conv(inputs, hidden)
        self.direct = Conv(inputs, hidden)
        self.blocks = nn.Sequential(*(Bottleneck(hidden, adds=adds) for _ in range(depth)))
        self.merge = Conv(2 * hidden, outputs)

    def forward(self, value: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h, w)."""
        direct = self.direct(value)
        merged: Tensor = self.merge(torch.cat([self.blocks(self.deep(value)), direct], 1))
        return merged


class PyramidPooling(nn.Module):
    """Spatial pyramid pooling: max pooling over 5, 9 and 13 pixels, concatenated with the map.

    Pooling over 5 pixels twice equals pooling over 9 once, at a third of the work.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = Conv(channels, channels // 2)
        self.pools = nn.ModuleList(nn.MaxPool2d(5, 1, 2) for _ in range(3))
        self.merge = Conv(2 * channels, channels)

    def forward(self, value: Tensor) -> Tensor:
        """(n, channels, h, w) -> the same shape."""
        parts: list[Tensor] = [self.reduce(value)]
        for pool in self.pools:
            parts.append(pool(parts[-1]))
        merged: Tensor = self.merge(torch.cat(parts, 1))
        return merged


class Stem(nn.Module):
    """First convolution and first depthwise one, split into branches with separate scales.

    groups: stem channels of each branch; the branches' outputs are concatenated in this order.
    is_rectified: whether ReLU follows the first convolution instead of SiLU.
    """

    def __init__(self, groups: Sequence[Sequence[int]], *, is_rectified: bool) -> None:
        super().__init__()
        self.groups = [list(group) for group in groups]
        self.rearrange = SpaceToDepth(2)
        self.is_rectified = is_rectified
        self.branches = nn.ModuleList(self._branch(len(group)) for group in self.groups)

    def _branch(self, channels: int) -> nn.Sequential:
        first = Conv(BLOCK_CHANNELS, channels, 3)
        if self.is_rectified:
            first[1] = nn.ReLU()
        return nn.Sequential(first, Conv(channels, channels, 3, 2, channels))

    def forward(self, value: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, 16, h/4, w/4)."""
        blocks = self.rearrange(value)
        made = [branch(blocks) for branch in self.branches]
        return torch.cat(made, 1) if len(made) > 1 else made[0]


class Backbone(nn.Module):
    """CSPDarknet up to stride 32."""

    def __init__(self, stem: Stem) -> None:
        super().__init__()
        self.stem = stem
        self.dark2 = nn.Sequential(Conv(16, 32), CrossStage(32, 32, 1, adds=True))
        self.dark3 = nn.Sequential(Separable(32, 64, 2), CrossStage(64, 64, 3, adds=True))
        self.dark4 = nn.Sequential(Separable(64, 128, 2), CrossStage(128, 128, 3, adds=True))
        self.dark5 = nn.Sequential(
            Separable(128, 256, 2), PyramidPooling(256), CrossStage(256, 256)
        )

    def forward(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n, 3, h, w) -> maps of 64, 128 and 256 channels at strides 8, 16 and 32."""
        fine = self.dark3(self.dark2(self.stem(value)))
        middle = self.dark4(fine)
        return fine, middle, self.dark5(middle)


class Neck(nn.Module):
    """Path aggregation network (PAN): from coarse to fine maps, then back."""

    def __init__(self) -> None:
        super().__init__()
        self.lateral = Conv(256, 128)
        self.twice = nn.Upsample(scale_factor=2)
        self.merge_down = CrossStage(256, 128)
        self.reduce = Conv(128, 64)
        self.merge_fine = CrossStage(128, 64)
        self.down_fine = Separable(64, 64, 2)
        self.merge_middle = CrossStage(128, 128)
        self.down_middle = Separable(128, 128, 2)
        self.merge_coarse = CrossStage(256, 256)

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> tuple[Tensor, ...]:
        """Return the merged maps, of the same shapes."""
        lateral = self.lateral(coarse)
        down = self.merge_down(torch.cat([self.twice(lateral), middle], 1))
        reduced = self.reduce(down)
        out_fine = self.merge_fine(torch.cat([self.twice(reduced), fine], 1))
        out_middle = self.merge_middle(torch.cat([self.down_fine(out_fine), reduced], 1))
        out_coarse = self.merge_coarse(torch.cat([self.down_middle(out_middle), lateral], 1))
        return out_fine, out_middle, out_coarse


class Head(nn.Module):
    """Decoupled head of one stride."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        hidden = _HEAD_CHANNELS
        self.stem = Conv(channels, hidden)
        self.class_convs = nn.Sequential(Separable(hidden, hidden), Separable(hidden, hidden))
        self.class_logits = nn.Conv2d(hidden, classes, 1)
        self.box_convs = nn.Sequential(Separable(hidden, hidden), Separable(hidden, hidden))
        self.box = nn.Conv2d(hidden, 4, 1)
        self.objectness = nn.Conv2d(hidden, 1, 1)

    def forward(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return box (n, 4, h, w), objectness logit (n, 1, h, w), class logits (n, c, h, w)."""
        stem = self.stem(value)
        boxes = self.box_convs(stem)
        return self.box(boxes), self.objectness(boxes), self.class_logits(self.class_convs(stem))


class YoloxNano(nn.Module):
    """The detector; its outputs are `box_<s>`, `objectness_<s>`, `class_<s>` for each stride s.

    Input float32 (n, 3, height, width), BGR 0..255, sides multiples of 32.
    A box is (x, y, log width, log height) in strides, x and y relative to the cell.
    groups, is_rectified: see `Stem`. labels: of the class outputs, in their order.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[int]] | None = None,
        labels: Sequence[str] = LABELS,
        *,
        is_rectified: bool = False,
    ) -> None:
        super().__init__()
        self.labels = tuple(labels)
        stem = Stem(groups or [range(STEM_CHANNELS)], is_rectified=is_rectified)
        self.backbone = Backbone(stem)
        self.neck = Neck()
        self.heads = nn.ModuleList(Head(channels, len(self.labels)) for channels in (64, 128, 256))

    def forward(self, value: Tensor) -> dict[str, Tensor]:
        """Return the nine outputs by name, float32 (n, channels, height/s, width/s)."""
        maps = self.neck(*self.backbone(value))
        outputs: dict[str, Tensor] = {}
        for stride, head, found in zip(STRIDES, self.heads, maps, strict=True):
            box, objectness, logits = head(found)
            outputs[f"box_{stride}"] = box
            outputs[f"objectness_{stride}"] = objectness
            outputs[f"class_{stride}"] = logits
        return outputs


def load(
    path: Path,
    groups: Sequence[Sequence[int]] | None = None,
    labels: Sequence[str] | None = None,
) -> YoloxNano:
    """Return the network in inference mode with stored weights.

    path: the published yolox_nano.onnx, or a .pt written by `save`. groups: see `Stem`; they
    do not change the network's outputs. labels: wanted classes, by default `stored_labels`; the
    class outputs of labels that the file does not know are untrained.
    Raises InputError when the file is missing or its convolutions are not YOLOX-Nano's.
    """
    file = yolox_file.read(path)
    wanted_labels = file.default_labels if labels is None else labels
    net = YoloxNano(groups, wanted_labels, is_rectified=file.is_rectified)
    stored = file.convolutions
    if len(stored) < 3:
        raise InputError(f"{path}: {len(stored)} convolutions, not YOLOX-Nano's")
    stem, depthwise, pointwise = stored[:3]
    layers = _layers(net)
    split = [
        (weight[group], bias[group])
        for group in net.backbone.stem.groups
        for weight, bias in (stem, depthwise)
    ]
    order = [channel for group in net.backbone.stem.groups for channel in group]
    rest = [(pointwise[0][:, order], pointwise[1]), *stored[3:]]
    if len(layers) != len(split) + len(rest):
        raise InputError(f"{path}: {len(stored)} convolutions, not YOLOX-Nano's")
    with torch.no_grad():
        for layer, (weight, bias) in zip(layers, [*split, *rest], strict=True):
            of_classes = any(layer is head.class_logits for head in net.heads)
            wanted = _rows(file, net.labels, weight, bias) if of_classes else (weight, bias)
            _fill(layer, *wanted, path)
    return net.eval()


def stored_labels(path: Path) -> tuple[str, ...]:
    """Return the classes `load` uses by default: the file's own, or ours for the published file.

    Raises InputError when the file cannot be read.
    """
    return yolox_file.read(path).default_labels


def origin(path: Path) -> str:
    """Return the human-readable origin of a file's weights.

    Raises InputError when the file cannot be read.
    """
    return yolox_file.read(path).origin


def is_rectified(path: Path) -> bool:
    """Return whether a file's network has a rectified stem, which needs no groups."""
    return yolox_file.read(path).is_rectified


def stem_kernels(path: Path) -> NDArray[np.float64]:
    """Return the first convolution's kernels, (channels, height, width, inputs).

    Raises InputError when the file cannot be read.
    """
    kernels: Tensor = yolox_file.read(path).convolutions[0][0]
    return kernels.permute(0, 2, 3, 1).double().numpy()


def trained_labels(path: Path) -> frozenset[str]:
    """Return the classes that a file's network was trained for: COCO's 80 of the published one.

    Raises InputError when the file cannot be read.
    """
    return frozenset(yolox_file.read(path).labels)


def save(net: YoloxNano, path: Path, origin: str) -> None:
    """Write a network's weights for `load`, atomically.

    origin: of the weights, human-readable.
    Raises ValueError for a network whose stem is split into groups.
    """
    if len(net.backbone.stem.groups) > 1:
        raise ValueError("only a network with a whole stem can be saved")
    content = {
        "labels": list(net.labels),
        "origin": origin,
        "is_rectified": net.backbone.stem.is_rectified,
        "convolutions": _convolutions(net),
    }
    tensor_file.write(content, path)


def _layers(net: YoloxNano) -> list[nn.Conv2d]:
    """Return all convolutions in the order of definition, in which files store them."""
    return [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]


def _convolutions(net: YoloxNano) -> list[tuple[Tensor, Tensor]]:
    """Return weight and bias of each convolution, in the order of `_layers`."""
    return [
        (layer.weight.detach().cpu().contiguous(), layer.bias.detach().cpu())
        for layer in _layers(net)
        if layer.bias is not None
    ]


def _rows(
    file: Stored, labels: tuple[str, ...], weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the rows of the wanted classes; those of new ones predict 1 % everywhere."""
    known = {label: (weight[row], bias[row]) for row, label in enumerate(file.labels)}
    nothing = torch.zeros_like(weight[0]), torch.tensor(-math.log(99.0))
    weights, biases = zip(*(known.get(label, nothing) for label in labels), strict=True)
    return torch.stack(weights), torch.stack(biases)


def _fill(layer: nn.Conv2d, weight: Tensor, bias: Tensor, path: Path) -> None:
    _refuse_other_shape(weight, tuple(layer.weight.shape), path)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)  # type: ignore[union-attr]


def _refuse_other_shape(weight: Tensor, wanted: tuple[int, ...], path: Path) -> None:
    if weight.shape != wanted:
        raise InputError(
            f"{path}: a weight of shape {tuple(weight.shape)}, not YOLOX-Nano's {wanted}"
        )
