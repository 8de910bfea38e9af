"""What the labelling page shows of a picture, and where that is in the picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.values import Box
from tools.annotate.view import MAX_PX, View, view_of
from tools.color.data.objects import LabelObject

RED = (0, 0, 255)


def viewed(folder: Path, size: tuple[int, int], box_px: Box | None) -> View:
    """The view of a red object in a black picture of that width and height."""
    bgr = np.zeros((size[1], size[0], 3), np.uint8)
    if box_px is not None:
        x, y, width, height = (int(side) for side in box_px)
        bgr[y : y + height, x : x + width] = RED
    path = folder / "picture.png"
    cv2.imwrite(str(path), bgr)
    return view_of(LabelObject(path, "picture.png", box_px, "car"))


@pytest.mark.parametrize(
    ("box_px", "left", "top", "shape"),
    [
        (Box(300, 200, 100, 60), 250, 150, (160, 200)),  # half of its longer side around it
        (Box(300, 200, 10, 8), 288, 188, (32, 34)),  # 12 px around a small one
        (Box(0, 400, 100, 80), 0, 350, (130, 150)),  # up to the picture's edges
    ],
)
def test_object_is_shown_with_its_surroundings(
    tmp_path: Path, box_px: Box, left: int, top: int, shape: tuple[int, int]
) -> None:
    view = viewed(tmp_path, (640, 480), box_px)
    assert (view.left, view.top, view.bgr.shape[:2], view.scale) == (left, top, shape, 1.0)
    red = cv2.boundingRect(np.asarray(view.bgr[..., 2]))
    assert view.box_px == view.object_px == Box(*red)
    assert (red[2], red[3]) == (box_px.width, box_px.height)


def test_large_view_is_shrunk_and_its_points_are_those_of_the_picture(tmp_path: Path) -> None:
    box_px = Box(900, 700, 1200, 900)
    view = viewed(tmp_path, (4000, 3000), box_px)
    assert (view.left, view.top, view.bgr.shape[:2]) == (300, 100, (MAX_PX * 21 // 24, MAX_PX))
    assert view.box_px is not None
    red = cv2.boundingRect(np.asarray(view.bgr[..., 2] // 128))
    assert tuple(view.box_px) == pytest.approx(red, abs=1)
    assert view.box_norm is not None
    x, y, width, height = view.box_norm
    corners = view.in_picture(((x, y), (x + width, y + height)))
    assert corners == [(900, 700), (2100, 1600)]
    assert view.from_picture((900, 700)) == (view.box_px.x, view.box_px.y)


def test_picture_without_a_box_is_shown_whole(tmp_path: Path) -> None:
    view = viewed(tmp_path, (2 * MAX_PX, 300), None)
    assert (view.bgr.shape[:2], view.box_px) == ((150, MAX_PX), None)
    assert view.object_px == Box(0, 0, MAX_PX, 150)
    assert view.in_picture(((0.5, 0.5),)) == [(MAX_PX, 150)]
