"""Foot point of a box, point in polygon, and overlap of boxes."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge.values import Box, Point, Polygon

Float = TypeVar("Float", np.float32, np.float64)

# Boxes may end at the frame's edge, where `contains` no longer counts a point as inside.
_INSIDE = 1 - 1e-6


def foot_point(box_norm: Box) -> Point:
    """Return the middle of a box's lower edge: where the object touches the ground.

    For a box that reaches the frame's edge or beyond, the point is just inside the frame, so that
    a zone or mask drawn to the edge contains it.
    """
    x, y = box_norm.center[0], box_norm.y + box_norm.height
    return min(max(x, 0.0), _INSIDE), min(max(y, 0.0), _INSIDE)


def contains(polygon: Polygon, point: Point) -> bool:
    """Return whether a point is inside a polygon; both in the same unit.

    Source: even-odd rule, W. R. Franklin's PNPOLY; a point on an edge may count either way.
    """
    x, y = point
    inside = False
    previous_x, previous_y = polygon[-1]
    for corner_x, corner_y in polygon:
        if (corner_y > y) != (previous_y > y):
            slope = (previous_x - corner_x) / (previous_y - corner_y)
            inside ^= x < corner_x + (y - corner_y) * slope
        previous_x, previous_y = corner_x, corner_y
    return inside


def iou_matrix(first: NDArray[Float], second: NDArray[Float]) -> NDArray[Float]:
    """Return the pairwise intersection over union, (len(first), len(second)), 0..1.

    first, second: (n, 4), left, top, right, bottom, in one unit; the result has their dtype.
    A box without area overlaps nothing, not even itself. For one pair: `Box.iou`.
    """
    # One coordinate at a time: numpy is slow along an axis of length two.
    left, top = (np.maximum(first[:, None, side], second[None, :, side]) for side in (0, 1))
    right, bottom = (np.minimum(first[:, None, side], second[None, :, side]) for side in (2, 3))
    overlap = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
    union = _areas(first)[:, None] + _areas(second)[None, :] - overlap
    iou: NDArray[Float] = overlap / np.maximum(union, np.finfo(first.dtype).tiny)
    return iou


def _areas(corners: NDArray[Float]) -> NDArray[Float]:
    areas: NDArray[Float] = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    return areas
