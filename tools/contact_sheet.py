"""Many small pictures with captions on one JPEG, to look through at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from edge.errors import EdgeError
from edge.values import Box, Image

TILE_PX = 240
CAPTION_PX = 20
GAP_PX = 4
PAPER = 32  # gray level between tiles
INK = (235, 235, 235)
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.42
JPEG_QUALITY = 85


@dataclass(frozen=True)
class Tile:
    """A picture, uint8 BGR of any size, with a caption and boxes in its pixels.

    boxes: (box, color as BGR), drawn over the picture; the picture itself is not modified.
    """

    bgr: Image
    caption: str = ""
    boxes: Sequence[tuple[Box, tuple[int, int, int]]] = field(default=())


def write(tiles: Sequence[Tile], path: Path, *, columns: int = 6, tile_px: int = TILE_PX) -> None:
    """Write tiles in reading order to a JPEG; makes its folder.

    columns: tiles in a row. tile_px: largest side that a picture is scaled to.
    Raises ValueError for no tiles, EdgeError when the file cannot be written.
    """
    sheet = compose(tiles, columns=columns, tile_px=tile_px)
    encoded = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        raise EdgeError(f"{path}: {error.strerror}; name a file that can be written") from None


def compose(tiles: Sequence[Tile], *, columns: int = 6, tile_px: int = TILE_PX) -> Image:
    """Return the sheet, uint8 BGR; see `write`."""
    if not tiles:
        raise ValueError("a contact sheet needs at least one tile")
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    step_x, step_y = tile_px + GAP_PX, tile_px + CAPTION_PX + GAP_PX
    sheet = np.full((rows * step_y, columns * step_x, 3), PAPER, np.uint8)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        top, left = row * step_y, column * step_x
        _put(sheet[top : top + step_y, left : left + step_x], tile, tile_px)
    return sheet


def _put(cell: Image, tile: Tile, tile_px: int) -> None:
    height, width = tile.bgr.shape[:2]
    scale = tile_px / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(tile.bgr, size, interpolation=way), np.uint8)
    for box, color in tile.boxes:
        near = round(box.x * scale), round(box.y * scale)
        far = round((box.x + box.width) * scale), round((box.y + box.height) * scale)
        cv2.rectangle(small, near, far, color, 2)
    cell[: size[1], : size[0]] = small
    caption = _fitting(tile.caption, tile_px)
    cv2.putText(cell, caption, (2, tile_px + 15), FONT, FONT_SCALE, INK, 1, cv2.LINE_AA)


def _fitting(caption: str, width_px: int) -> str:
    """Return the caption, cut where it would leave the tile."""
    while caption and cv2.getTextSize(caption, FONT, FONT_SCALE, 1)[0][0] > width_px:
        caption = caption[:-1]
    return caption
