"""The view of an object: its box with surroundings, or the whole picture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edge import picture_file
from edge.values import Box, Image, Point, Polygon
from tools.color.data.objects import LabelObject
from tools.color.pixels.crop import whole_pixels
from tools.dataset import check_inside, load_file

MARGIN = 0.5  # of the box's longer side, shown on each side of it
MIN_MARGIN_PX = 12
MAX_PX = 1200  # longer side of what is shown; larger pictures are shrunk
JPEG_QUALITY = 92


@dataclass(frozen=True)
class View:
    """A part of a picture.

    bgr: uint8, (height, width, 3). left, top: of the part in the picture, pixels.
    scale: size of the view relative to that part. box_px: the object's box in the view, None for
        an object without a box.
    """

    bgr: Image
    left: int
    top: int
    scale: float
    box_px: Box | None

    @property
    def object_px(self) -> Box:
        """Return the object's box for the color model: the whole view without a box."""
        height, width = self.bgr.shape[:2]
        return self.box_px or Box(0, 0, width, height)

    @property
    def box_norm(self) -> Box | None:
        """Return the box as shares of the view."""
        height, width = self.bgr.shape[:2]
        return None if self.box_px is None else self.box_px.normalized((width, height))

    def in_picture(self, outline: Polygon) -> list[Point]:
        """Return points 0..1 of the view as pixels of the picture."""
        height, width = self.bgr.shape[:2]
        return [
            (
                round(self.left + x * width / self.scale, 1),
                round(self.top + y * height / self.scale, 1),
            )
            for x, y in outline
        ]

    def from_picture(self, point: Point) -> Point:
        """Return a point in the picture's pixels as pixels of the view."""
        return (point[0] - self.left) * self.scale, (point[1] - self.top) * self.scale

    def jpeg(self) -> bytes:
        """Return the view as a JPEG file."""
        return picture_file.jpeg(self.bgr, JPEG_QUALITY)


def view_of(one: LabelObject) -> View:
    """Return an object with its surroundings.

    Raises InputError when its picture cannot be read or its box is outside of the picture.
    """
    bgr = load_file(one.file)
    if one.box_px is None:
        return _scaled(bgr, 0, 0, None)
    check_inside(one.file, one.box_px, bgr)
    x, y, width, height = one.box_px
    margin = max(MIN_MARGIN_PX, MARGIN * max(width, height))
    left, top, right, bottom = whole_pixels(
        (x - margin, y - margin, x + width + margin, y + height + margin), bgr
    )
    box_px = Box(x - left, y - top, width, height)
    return _scaled(bgr[top:bottom, left:right], left, top, box_px)


def _scaled(bgr: Image, left: int, top: int, box_px: Box | None) -> View:
    scale = min(1.0, MAX_PX / max(bgr.shape[:2]))
    if scale == 1.0:
        return View(bgr, left, top, scale, box_px)
    size = (max(1, round(bgr.shape[1] * scale)), max(1, round(bgr.shape[0] * scale)))
    small = np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA), np.uint8)
    box = None if box_px is None else Box(*(side * scale for side in box_px))
    return View(small, left, top, scale, box)
