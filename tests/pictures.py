"""Plain pictures for camera tests, told apart by their gray level."""

from __future__ import annotations

import numpy as np

from edge.values import Frame, Image

PATIENCE_S = 20.0
FAST_RETRY = {"retry_min_s": 0.02, "retry_max_s": 0.05}


def gray_level(level: int, size: tuple[int, int] = (64, 48)) -> Image:
    return np.full((size[1], size[0], 3), level, dtype=np.uint8)


def level_of(frame: Frame) -> int:
    return round(float(frame.bgr.mean()) / 20)
