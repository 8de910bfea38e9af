"""Pixels in CIELAB, where distances approximate perceived differences.

L is 0..100, a and b are about -127..127.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.values import Image

Lab = NDArray[np.float32]


def from_bgr(bgr: Image) -> Lab:
    """Return the pixels of a uint8 picture (height, width, 3), float32 of the same shape."""
    return np.asarray(cv2.cvtColor(bgr.astype(np.float32) / 255, cv2.COLOR_BGR2LAB), np.float32)


def from_rgb(rgb: NDArray[np.floating]) -> Lab:
    """Return colors (n, 3) of sRGB levels 0..1, float32 of the same shape."""
    lab = cv2.cvtColor(rgb.astype(np.float32)[None], cv2.COLOR_RGB2LAB)
    return np.asarray(lab[0], np.float32)
