"""Contact sheets show every tile in reading order."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import EdgeError
from tools import contact_sheet
from tools.contact_sheet import CAPTION_PX, PAPER, Tile, TileBox

SIDE = 100


def plain(level: int, size: tuple[int, int] = (50, 50)) -> np.ndarray:
    return np.full((size[1], size[0], 3), level, np.uint8)


def sheet_of(tiles: list[Tile], path: Path, columns: int = 6) -> np.ndarray:
    contact_sheet.write(tiles, path, columns=columns, tile_px=SIDE)
    bgr = cv2.imread(str(path))
    assert bgr is not None
    return bgr


def test_tiles_are_in_reading_order(tmp_path: Path) -> None:
    tiles = [Tile(plain(level)) for level in (10, 90, 170, 250)]
    sheet = sheet_of(tiles, tmp_path / "new" / "sheet.jpg", columns=3)
    assert sheet.shape == (2 * (SIDE + CAPTION_PX), 3 * SIDE, 3)
    centers = [sheet[50, 50 + SIDE * n, 0] for n in range(3)] + [
        sheet[50 + SIDE + CAPTION_PX, 50, 0]
    ]
    np.testing.assert_allclose(np.array(centers, int), (10, 90, 170, 250), atol=4)


@pytest.mark.parametrize(("size", "sides"), [((400, 100), (25, 100)), ((100, 400), (100, 25))])
def test_aspect_is_kept_and_captions_are_below(
    size: tuple[int, int], sides: tuple[int, int]
) -> None:
    cell = contact_sheet.draw(Tile(plain(200, size), "a caption"), SIDE)
    assert cell.shape == (SIDE + CAPTION_PX, SIDE, 3)
    for side, places in zip(sides, np.nonzero((cell[:SIDE] == 200).all(2)), strict=True):
        first = (SIDE - side) // 2
        assert (places.min(), places.max()) == (first, first + side - 1)
    assert cell[SIDE:].max() > 200


def test_boxes_are_drawn_on_a_copy_in_the_pictures_pixels() -> None:
    bgr = plain(0, (200, 200))
    box = TileBox(100, 100, 50, 50, color=(0, 0, 255))
    cell = contact_sheet.draw(Tile(bgr, boxes=(box,)), SIDE)
    for row, column in ((50, 60), (60, 50), (75, 60), (60, 75)):  # a point of each edge
        assert cell[row, column].tolist() == [0, 0, 255]
    assert cell[20, 20].tolist() == [0, 0, 0]
    assert bgr.max() == 0


def test_a_long_caption_stays_in_its_tile() -> None:
    cell = contact_sheet.draw(Tile(plain(0), "words " * 40), SIDE)
    assert cell.shape == (SIDE + CAPTION_PX, SIDE, 3)
    assert (cell[SIDE:, :2] == PAPER).all()


@pytest.mark.parametrize(("count", "columns"), [(2400, 1), (6600, 6600)])
def test_more_tiles_than_a_jpeg_holds_are_refused(count: int, columns: int, tmp_path: Path) -> None:
    tiles = [Tile(plain(1, (5, 5)))] * count
    with pytest.raises(EdgeError, match=rf"x\.jpg: {count} tiles are too many for one JPEG"):
        contact_sheet.write(tiles, tmp_path / "x.jpg", columns=columns, tile_px=10)
    assert list(tmp_path.iterdir()) == []


def test_no_tiles_and_unwritable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one tile"):
        contact_sheet.write([], tmp_path / "x.jpg")
    (tmp_path / "x.jpg").mkdir()
    with pytest.raises(IsADirectoryError, match=r"x\.jpg"):
        contact_sheet.write([Tile(plain(1))], tmp_path / "x.jpg")


def test_letters_beyond_ascii_are_no_question_marks() -> None:
    drawn, marks, no_text = (
        contact_sheet.draw(Tile(plain(200), caption), SIDE)
        for caption in ("Fuß", "Fu?", "Fu\udcff")
    )
    assert (drawn != marks).any()
    np.testing.assert_array_equal(no_text, marks)
