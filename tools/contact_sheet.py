"""Contact sheets: many small pictures with captions in one JPEG."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge import picture_file
from edge.errors import EdgeError
from edge.values import Image

CAPTION_PX = 18
FONT_SCALE = 0.42
CHARACTER_PX = 7  # approximate width of a character at this scale
PAPER = 32
INK = (235, 235, 235)
MAX_SIDE_PX = 65_000  # JPEG's limit is 65,535
PALETTE = (
    (80, 200, 255), (80, 230, 80), (255, 160, 60), (230, 90, 230), (70, 90, 250),
    (230, 230, 70), (150, 110, 255), (110, 180, 180),
)  # fmt: skip


@dataclass(frozen=True)
class TileBox:
    """A box to draw, in pixels of the tile's picture. color: BGR."""

    x: float
    y: float
    width: float
    height: float
    label: str = ""
    color: tuple[int, int, int] = PALETTE[0]


@dataclass(frozen=True)
class Tile:
    """bgr: uint8, (height, width, 3), any size; not modified."""

    bgr: Image
    caption: str = ""
    boxes: tuple[TileBox, ...] = ()


def write(tiles: Iterable[Tile], path: Path, *, columns: int = 6, tile_px: int = 240) -> None:
    """Write all tiles, row by row, as one JPEG; create its folder.

    tile_px: side of the square into which a picture is fitted. Raises ValueError without tiles,
    EdgeError when there are too many for a JPEG, and the errors of `picture_file.write`.
    """
    cells = [draw(tile, tile_px) for tile in tiles]
    if not cells:
        raise ValueError("a contact sheet needs at least one tile")
    columns = min(columns, len(cells))
    rows = math.ceil(len(cells) / columns)
    if max(rows * (tile_px + CAPTION_PX), columns * tile_px) > MAX_SIDE_PX:
        raise EdgeError(f"{path}: {len(cells)} tiles are too many for one JPEG; choose fewer")
    cells += [np.full_like(cells[0], PAPER)] * (rows * columns - len(cells))
    lines = [np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    picture_file.write(path, np.vstack(lines))


def draw(tile: Tile, tile_px: int) -> Image:
    """Return the tile: uint8, (tile_px + CAPTION_PX, tile_px, 3)."""
    height, width = tile.bgr.shape[:2]
    scale = min(tile_px / width, tile_px / height)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    fitted = np.asarray(cv2.resize(tile.bgr, size, interpolation=cv2.INTER_AREA), np.uint8)
    for box in tile.boxes:
        _outline(fitted, box, scale)
    cell = np.full((tile_px + CAPTION_PX, tile_px, 3), PAPER, np.uint8)
    left, top = (tile_px - size[0]) // 2, (tile_px - size[1]) // 2
    cell[top : top + size[1], left : left + size[0]] = fitted
    _write(cell, tile.caption[: tile_px // CHARACTER_PX], (3, tile_px + CAPTION_PX - 5), INK)
    return cell


def _outline(bgr: Image, box: TileBox, scale: float) -> None:
    left, top = round(box.x * scale), round(box.y * scale)
    right, bottom = round((box.x + box.width) * scale), round((box.y + box.height) * scale)
    cv2.rectangle(bgr, (left, top), (right, bottom), box.color, 1)
    if box.label:
        _write(bgr, box.label, (left + 1, max(top - 2, 9)), box.color)


def _write(bgr: Image, text: str, at: tuple[int, int], color: tuple[int, int, int]) -> None:
    """Draw text; what OpenCV's font lacks (from version 5 on little) becomes a question mark."""
    plain = text.encode(errors="replace").decode()
    cv2.putText(bgr, plain, at, cv2.FONT_HERSHEY_SIMPLEX, FONT_SCALE, color, 1, cv2.LINE_AA)
