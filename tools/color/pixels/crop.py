"""A box's part of a picture, cut to whole pixels that the picture has."""

from __future__ import annotations

from edge.values import Box, Image


def cut_out(bgr: Image, box_px: Box) -> Image:
    """Return a view of the box's pixels, at least one; the box may reach beyond the picture."""
    left, top, right, bottom = whole_pixels(box_px.corners, bgr)
    return bgr[top:bottom, left:right]


def whole_pixels(
    corners_px: tuple[float, float, float, float], bgr: Image
) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a part of the picture, at least one pixel in size.

    corners_px: left, top, right and bottom before rounding; may reach beyond the picture.
    """
    height, width = bgr.shape[:2]
    left = min(max(0, round(corners_px[0])), width - 1)
    top = min(max(0, round(corners_px[1])), height - 1)
    right = min(width, max(left + 1, round(corners_px[2])))
    bottom = min(height, max(top + 1, round(corners_px[3])))
    return left, top, right, bottom
