"""Plain pictures for camera tests, told apart by their gray level, and waiting for a condition."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from edge.values import Frame, Image

PATIENCE_S = 20.0
FAST_RETRY = {"retry_min_s": 0.02, "retry_max_s": 0.05}


def gray_level(level: int, size: tuple[int, int] = (64, 48)) -> Image:
    return np.full((size[1], size[0], 3), level, dtype=np.uint8)


def level_of(frame: Frame) -> int:
    return round(float(frame.bgr.mean()) / 20)


def wait_until(is_true: Callable[[], object]) -> None:
    limit_s = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < limit_s
        time.sleep(0.002)
