"""Contact sheets hold every tile where reading order puts it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import EdgeError
from edge.values import Box
from tools import contact_sheet
from tools.contact_sheet import GAP_PX, Tile

STEP_X, STEP_Y = 100 + GAP_PX, 100 + contact_sheet.CAPTION_PX + GAP_PX


def plain(level: int, size: tuple[int, int] = (50, 50)) -> np.ndarray:
    return np.full((size[1], size[0], 3), level, np.uint8)


def test_tiles_stand_in_reading_order() -> None:
    tiles = [Tile(plain(level)) for level in (10, 90, 170, 250)]
    sheet = contact_sheet.compose(tiles, columns=3, tile_px=100)
    assert sheet.shape == (2 * STEP_Y, 3 * STEP_X, 3)
    centers = [sheet[50, 50 + STEP_X * n, 0] for n in range(3)] + [sheet[50 + STEP_Y, 50, 0]]
    assert [int(level) for level in centers] == [10, 90, 170, 250]


def test_aspect_is_kept_and_captions_stand_below() -> None:
    wide = contact_sheet.compose([Tile(plain(200, (400, 100)), "a caption")], tile_px=100)
    assert (wide[:25, :100] == 200).all()
    assert (wide[30:90] == contact_sheet.PAPER).all()
    assert wide[100:].max() > 200


def test_boxes_are_drawn_in_the_pictures_pixels_and_leave_it_alone() -> None:
    bgr = plain(0, (200, 200))
    tile = Tile(bgr, boxes=[(Box(100, 100, 50, 50), (0, 0, 255))])
    sheet = contact_sheet.compose([tile], tile_px=100)
    assert sheet[50, 60].tolist() == [0, 0, 255]
    assert sheet[20, 20].tolist() == [0, 0, 0]
    assert bgr.max() == 0


def test_a_long_caption_stays_in_its_tile() -> None:
    tiles = [Tile(plain(0), "words " * 40), Tile(plain(0))]
    sheet = contact_sheet.compose(tiles, tile_px=100)
    assert (sheet[102:, STEP_X:] == contact_sheet.PAPER).all()


def test_written_sheet_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "sheet.jpg"
    contact_sheet.write([Tile(plain(128), "x")], path)
    assert cv2.imread(str(path)) is not None


def test_no_tiles_and_unwritable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one tile"):
        contact_sheet.write([], tmp_path / "x.jpg")
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgeError, match="can be written"):
        contact_sheet.write([Tile(plain(1))], tmp_path / "file" / "x.jpg")
