"""Greedy non-maximum suppression: one box an object."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.detector.candidates import Floats


def suppress(corners: Floats, classes: NDArray[np.intp], max_iou: float) -> NDArray[np.intp]:
    """Return the indices of boxes that no better box of their class overlaps too much.

    corners: (n, 4) left, top, right, bottom, best first. max_iou: 0..1.
    Source: greedy non-maximum suppression.
    """
    low = np.maximum(corners[:, None, :2], corners[None, :, :2])
    high = np.minimum(corners[:, None, 2:], corners[None, :, 2:])
    sides = np.maximum(high - low, 0)
    overlap = sides[:, :, 0] * sides[:, :, 1]
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    union = np.maximum(areas[:, None] + areas[None, :] - overlap, np.finfo(np.float32).tiny)
    covers = (overlap > max_iou * union) & (classes[:, None] == classes[None, :])
    alive = np.ones(len(corners), bool)
    for index in range(len(corners)):
        if alive[index]:
            alive[index + 1 :] &= ~covers[index, index + 1 :]
    return np.flatnonzero(alive)
