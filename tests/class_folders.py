"""Rendered data sets for classifiers: a disc of one color on a dark, noisy ground."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

CLASSES = {"blue": (200, 60, 60), "green": (60, 200, 60), "red": (60, 60, 200)}  # BGR
SIDE_PX = 40


def draw(folder: Path, count: int, seed: int) -> None:
    """Write `count` pictures of each class into folders below."""
    generator = np.random.default_rng(seed)
    for name, color in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            bgr = generator.integers(0, 60, (SIDE_PX, SIDE_PX, 3)).astype(np.uint8)
            shade = tuple(int(level) for level in np.add(color, generator.integers(-40, 40, 3)))
            x, y = (int(place) for place in generator.integers(14, 26, 2))
            cv2.circle(bgr, (x, y), int(generator.integers(10, 14)), shade, -1)
            cv2.imwrite(str(folder / name / f"{number:03}.png"), bgr)


def draw_splits(folder: Path, count: int) -> None:
    """Write `count` pictures of each class to train, a third as many to val and to test."""
    for seed, (split, share) in enumerate((("train", 1), ("val", 3), ("test", 3))):
        draw(folder / split, count // share, seed)
