"""Augmentation of crops that does not change the name of their color.

Box jitter, mirroring, low resolution, exposure, white balance, gamma, haze, noise, JPEG. No hue
rotation, which would change the label. Strengths are moderate, because labels hold for the light in
the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tools.arguments import LARGEST_SEED

CLASS_LEVEL = 127 / 128  # real value of the largest int8 level


@dataclass(frozen=True)
class Augmentation:
    """Strengths; standard deviations of normal distributions unless said otherwise.

    box: of each edge, in units of the box's side.
    exposure_stops, balance (log gain per channel), gamma (log).
    haze: largest veil, 0..1, on a quarter of the crops.
    noise: largest deviation, 0..1, on half of them.
    low_resolution, jpeg: share of the crops that are shrunk and enlarged, or compressed.
    class_dropout: share of the objects whose class is withheld.
    cutmix: share of the crops of which a rectangle shows another crop.
    """

    box: float = 0.05
    exposure_stops: float = 0.22
    balance: float = 0.05
    gamma: float = 0.12
    haze: float = 0.2
    noise: float = 0.03
    low_resolution: float = 0.2
    jpeg: float = 0.2
    class_dropout: float = 0.25
    cutmix: float = 0.0


def augment(
    rgb: Tensor, boxes: Tensor, side: int, amount: Augmentation, steady: Tensor | None = None
) -> Tensor:
    """Return changed pixels, float32 (n, 3, side, side), (level - 128) / 128 of whole levels.

    rgb: uint8, (n, height, width, 3). boxes: float32, (n, 4), corners in units of the crop.
    steady: bool, (n,), crops whose light is not changed; None: all may be.
    Uses torch's and numpy's global generators, which the caller seeds.
    """
    images = _cut_boxes(rgb, boxes, side, amount.box)
    images = _lower_resolution(images, amount.low_resolution)
    relit = _relight(images, amount)
    images = relit if steady is None else torch.where(steady[:, None, None, None], images, relit)
    levels = (images * 255).round().clamp(0, 255)
    return (_compress(levels, amount.jpeg) - 128) / 128


def seed_generators(number: int) -> None:
    """Seed the generators that `augment` uses; any whole number of 0 or more."""
    seed = number % (LARGEST_SEED + 1)
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - of the JPEGs


def plain(rgb: Tensor) -> Tensor:
    """Return uint8 pixels (n, side, side, 3) as network inputs, (n, 3, side, side)."""
    return (rgb.permute(0, 3, 1, 2).float() - 128) / 128


def with_classes(images: Tensor, classes: Tensor, count: int) -> Tensor:
    """Return network inputs: the pixels with one constant plane for each of `count` classes.

    images: (n, 3, side, side). classes: int64 (n,), negative where it is not known.
    """
    planes = images.new_zeros(len(images), count)
    known = torch.nonzero(classes >= 0).flatten()
    planes[known, classes[known]] = CLASS_LEVEL
    side = images.shape[-1]
    spread = planes[:, :, None, None].expand(-1, -1, side, side)
    # Channels last: training takes two thirds of the time.
    return torch.cat([images, spread], 1).contiguous(memory_format=torch.channels_last)


def cut_and_mixed(planes: Tensor, targets: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return inputs and targets, a share of them with a rectangle of another crop.

    planes: (n, channels, side, side). targets: (n, terms), mixed by area as the surfaces are.
    Source: Yun et al., CutMix, 2019; one rectangle for the batch, its area uniform in 0..1.
    """
    if share == 0:
        return planes, targets
    side = planes.shape[-1]
    edge = round(side * float(torch.rand(1)) ** 0.5)
    left, top = torch.randint(0, side - edge + 1, (2,)).tolist()
    other = torch.randperm(len(planes), device=planes.device)
    chosen = torch.rand(len(planes), 1, device=planes.device) < share
    inside = torch.zeros(side, side, dtype=torch.bool, device=planes.device)
    inside[top : top + edge, left : left + edge] = True
    area = chosen * (edge / side) ** 2
    mixed = torch.where(chosen[..., None, None] & inside, planes[other], planes)
    return mixed, targets + area * (targets[other] - targets)


def withhold(classes: Tensor, share: float) -> Tensor:
    """Return the classes, a random share of them unknown."""
    return torch.where(torch.rand(len(classes), device=classes.device) < share, -1, classes)


def _cut_boxes(rgb: Tensor, boxes: Tensor, side: int, jitter: float) -> Tensor:
    """Resample each box with moved edges, half of them mirrored; float32 0..1."""
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    moved = boxes + torch.randn_like(boxes) * jitter * sides
    low, high = moved[:, :2] * 2 - 1, moved[:, 2:] * 2 - 1
    mirror = torch.where(torch.rand(len(rgb), device=rgb.device) < 0.5, -1.0, 1.0)
    theta = torch.zeros(len(rgb), 2, 3, device=rgb.device)
    theta[:, 0, 0] = (high - low)[:, 0] / 2 * mirror
    theta[:, 1, 1] = (high - low)[:, 1] / 2
    theta[:, :, 2] = (high + low) / 2
    grid = functional.affine_grid(theta, [len(rgb), 3, side, side], align_corners=False)
    images = rgb.permute(0, 3, 1, 2).float() / 255
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _lower_resolution(images: Tensor, share: float) -> Tensor:
    """Shrink some images to a common random size and enlarge them again."""
    chosen = torch.rand(len(images), device=images.device) < share
    side = images.shape[-1]
    small = int(torch.randint(side // 4, side, (1,)))
    if chosen.any():
        shrunk = functional.interpolate(images[chosen], (small, small), mode="area")
        images[chosen] = functional.interpolate(
            shrunk, (side, side), mode="bilinear", align_corners=False
        )
    return images


def _relight(images: Tensor, amount: Augmentation) -> Tensor:
    """Change exposure, white balance, gamma and haze, and add noise."""
    count, device = len(images), images.device

    def normal(channels: int, deviation: float) -> Tensor:
        drawn = torch.randn(count, channels, 1, 1, device=device).clamp(-2.5, 2.5)
        return drawn * deviation

    gain = torch.exp2(normal(1, amount.exposure_stops)) * torch.exp(normal(3, amount.balance))
    images = (images * gain).clamp(0, 1) ** torch.exp(normal(1, amount.gamma))
    some = torch.rand(2, count, 1, 1, 1, device=device)
    veil = torch.where(some[0] < 0.25, some[0] * 4 * amount.haze, 0.0)
    images = images * (1 - veil) + veil * torch.rand(count, 1, 1, 1, device=device)
    deviation = torch.where(some[1] < 0.5, some[1] * 2 * amount.noise, 0.0)
    return images + torch.randn_like(images) * deviation


def _compress(levels: Tensor, share: float) -> Tensor:
    """Send some images through JPEG of quality 30..90."""
    for index in np.flatnonzero(np.random.random(len(levels)) < share):  # noqa: NPY002
        bgr = levels[index].permute(1, 2, 0).flip(2).to(torch.uint8).cpu().numpy()
        quality = int(np.random.randint(30, 91))  # noqa: NPY002
        _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))
        rgb = torch.from_numpy(decoded[..., ::-1].copy()).to(levels.device)
        levels[index] = rgb.permute(2, 0, 1).float()
    return levels
