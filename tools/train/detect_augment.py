"""Augmentation of a detector's training pictures: mosaic, scale, mirror, light, camera effects.

All randomness comes from the generator passed in, so a step's pictures are reproducible.
Source: mosaic from YOLOv4 (Bochkovskiy et al. 2020) as YOLOX uses it; ranges are milder than for
training from scratch, since the network starts from trained weights.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.values import Image
from tools.dataset import load
from tools.train.labels import Boxes, LabelledPicture

PAD = 114  # the letterbox's gray
_MIN_VISIBLE = 0.3  # of a box's area; with less visible, the object is ignored
_MIN_SIDE_PX = 2.0
_EFFECT_CHANCE = 0.1  # of each camera effect


@dataclass(frozen=True)
class Sample:
    """A network input with its targets.

    image: uint8 (size, size, 3) BGR. boxes, ignored: float32 (n, 4) corners in its pixels.
    labels: int64 (n,).
    """

    image: Image
    boxes: Boxes
    labels: NDArray[np.int64]
    ignored: Boxes


@dataclass(frozen=True)
class _Slot:
    """Where a picture is drawn: a window of the canvas, and the point one of its corners lies on.

    window: left, top, right, bottom in pixels. anchor: x, y of that corner. ends: for x and y,
    whether the picture ends at the anchor (else it begins there). scale: 1 fills the canvas.
    """

    window: tuple[int, int, int, int]
    anchor: tuple[int, int]
    ends: tuple[bool, bool]
    scale: float


def mosaic(labelled: Sequence[LabelledPicture], size: int, rng: random.Random) -> Sample:
    """Return four pictures arranged around a random point of a `size` x `size` canvas."""
    x, y = (int(size * rng.uniform(0.3, 0.7)) for _ in range(2))
    windows = ((0, 0, x, y), (x, 0, size, y), (0, y, x, size), (x, y, size, size))
    slots = [
        _Slot(window, (x, y), (window[0] == 0, window[1] == 0), rng.uniform(0.5, 1.1))
        for window in windows
    ]
    return _compose(list(zip(labelled, slots, strict=True)), size, rng)


def single(labelled: LabelledPicture, size: int, rng: random.Random) -> Sample:
    """Return one picture, shifted, and scaled by 0.7 to 1.4 relative to filling the input."""
    x, y = (int(size * rng.uniform(-0.15, 0.15)) for _ in range(2))
    slot = _Slot((0, 0, size, size), (x, y), (False, False), rng.uniform(0.7, 1.4))
    return _compose([(labelled, slot)], size, rng)


Part = tuple[Boxes, NDArray[np.int64], Boxes]


def _compose(
    placed: Sequence[tuple[LabelledPicture, _Slot]], size: int, rng: random.Random
) -> Sample:
    canvas = np.full((size, size, 3), PAD, np.uint8)
    parts = [_place(canvas, labelled, slot, mirror=rng.random() < 0.5) for labelled, slot in placed]
    boxes, labels, ignored = (np.concatenate(items) for items in zip(*parts, strict=True))
    return Sample(_camera_effects(_recolored(canvas, rng), rng), boxes, labels, ignored)


def _place(canvas: Image, labelled: LabelledPicture, slot: _Slot, *, mirror: bool) -> Part:
    """Draw a picture into its window; return its boxes, labels and ignored boxes there."""
    bgr = load(labelled.picture)
    boxes, ignored = labelled.boxes, labelled.ignored
    height, width = bgr.shape[:2]
    if mirror:
        bgr = np.ascontiguousarray(bgr[:, ::-1])
        boxes, ignored = _mirrored(boxes, width), _mirrored(ignored, width)
    scale = max(canvas.shape[:2]) / max(height, width) * slot.scale
    x = slot.anchor[0] - (width * scale if slot.ends[0] else 0)
    y = slot.anchor[1] - (height * scale if slot.ends[1] else 0)
    left, top, right, bottom = slot.window
    matrix = np.array([[scale, 0, x - left], [0, scale, y - top]], np.float32)
    canvas[top:bottom, left:right] = cv2.warpAffine(
        bgr, matrix, (right - left, bottom - top), borderValue=(PAD, PAD, PAD)
    )
    offset = np.array([x, y, x, y], np.float32)
    clipped, shown = _clipped(boxes * scale + offset, slot.window)
    regions, _ = _clipped(ignored * scale + offset, slot.window)
    return clipped[shown], labelled.labels[shown], np.concatenate([regions, clipped[~shown]])


def _mirrored(boxes: Boxes, width: int) -> Boxes:
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)


def _clipped(boxes: Boxes, window: tuple[int, int, int, int]) -> tuple[Boxes, NDArray[np.bool_]]:
    """Return the boxes clipped to the window, and which of them are visible enough to train on."""
    left, top, right, bottom = window
    clipped = np.clip(boxes, [left, top, left, top], [right, bottom, right, bottom])
    clipped = clipped.astype(np.float32)
    sides = clipped[:, 2:] - clipped[:, :2]
    share = sides.prod(1) / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(1), 1e-6)
    return clipped, (sides.min(1, initial=np.inf) >= _MIN_SIDE_PX) & (share >= _MIN_VISIBLE)


def _recolored(bgr: Image, rng: random.Random) -> Image:
    """Change hue by up to 5 degrees, saturation and value by up to 40 %."""
    hue, saturation, value = (rng.uniform(-1, 1) for _ in range(3))
    steps = np.arange(256, dtype=np.float32)
    tables = (
        ((steps + hue * 2.5) % 180).astype(np.uint8),
        np.clip(steps * (1 + 0.4 * saturation), 0, 255).astype(np.uint8),
        np.clip(steps * (1 + 0.4 * value), 0, 255).astype(np.uint8),
    )
    planes = cv2.split(cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV))
    changed = [cv2.LUT(plane, table) for plane, table in zip(planes, tables, strict=True)]
    return np.asarray(cv2.cvtColor(cv2.merge(changed), cv2.COLOR_HSV2BGR), np.uint8)


def _camera_effects(bgr: Image, rng: random.Random) -> Image:
    for effect in _EFFECTS:
        if rng.random() < _EFFECT_CHANCE:
            bgr = effect(bgr, rng)
    return bgr


def _dark(bgr: Image, rng: random.Random) -> Image:
    curve = 255 * (np.arange(256) / 255) ** rng.uniform(1.3, 2.5) * rng.uniform(0.5, 1)
    return np.asarray(cv2.LUT(bgr, curve.astype(np.uint8)), np.uint8)


def _noisy(bgr: Image, rng: random.Random) -> Image:
    source = np.random.default_rng(rng.getrandbits(32))
    noise = source.normal(0, rng.uniform(3, 14), bgr.shape).astype(np.float32)
    return np.asarray(np.clip(bgr + noise, 0, 255), np.uint8)


def _blurred(bgr: Image, rng: random.Random) -> Image:
    if rng.random() < 0.5:
        return np.asarray(cv2.GaussianBlur(bgr, (0, 0), rng.uniform(0.5, 1.5)), np.uint8)
    length = rng.choice((3, 5))  # a moving camera or object
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1 / length
    return np.asarray(cv2.filter2D(bgr, -1, kernel if rng.random() < 0.7 else kernel.T), np.uint8)


def _compressed(bgr: Image, rng: random.Random) -> Image:
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, rng.randint(20, 70)])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def _coarse(bgr: Image, rng: random.Random) -> Image:
    height, width = bgr.shape[:2]
    share = rng.uniform(0.5, 0.8)
    small = cv2.resize(bgr, (int(width * share), int(height * share)))
    return np.asarray(cv2.resize(small, (width, height)), np.uint8)


_EFFECTS: tuple[Callable[[Image, random.Random], Image], ...] = (
    _dark,
    _coarse,
    _blurred,
    _noisy,
    _compressed,
)
