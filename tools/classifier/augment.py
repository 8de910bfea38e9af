"""Augmentation of a classifier's training pictures: mirroring and shifting."""

from __future__ import annotations

import numpy as np

from tools.classifier.data import Pixels

SHIFT = 8  # pictures are shifted by up to 1/8 of their side, edges repeated


def augment(rgb: Pixels, generator: np.random.Generator) -> Pixels:
    """Return the pictures, uint8 (n, side, side, 3), each randomly mirrored and shifted."""
    side = rgb.shape[1]
    most = side // SHIFT
    padded = np.pad(rgb, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
    moves = generator.integers(0, 2 * most + 1, (len(rgb), 2))
    mirrored = generator.random(len(rgb)) < 0.5
    made = np.empty_like(rgb)
    for row, (top, left) in enumerate(moves):
        cut = padded[row, top : top + side, left : left + side]
        made[row] = cut[:, ::-1] if mirrored[row] else cut
    return made
