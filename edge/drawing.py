"""Draws objects into pictures: boxes, and captions with a patch of the object's color.

Lines and letters grow with the picture. Used by the page and by `edge infer --annotate`.
"""

from __future__ import annotations

import zlib

import cv2

from edge.values import Box, Image

LINE_PX_HEIGHT = 360  # one pixel of line width per this many of the picture's height
FONT = cv2.FONT_HERSHEY_SIMPLEX
WHITE, PLATE = (255, 255, 255), (32, 26, 22)

Bgr = tuple[int, int, int]
# Distinguishable on foliage, asphalt and snow, also with red-green blindness (Okabe and Ito).
BOX_BGR: tuple[Bgr, ...] = (
    (233, 180, 86),
    (0, 159, 230),
    (115, 158, 0),
    (66, 228, 240),
    (167, 121, 204),
    (0, 94, 213),
)
TERM_BGR: dict[str, Bgr] = {
    "black": (20, 20, 20),
    "white": (245, 245, 245),
    "gray": (135, 135, 135),
    "red": (40, 40, 215),
    "orange": (30, 130, 245),
    "yellow": (60, 220, 245),
    "green": (70, 160, 50),
    "blue": (215, 105, 40),
    "purple": (165, 60, 125),
    "pink": (190, 140, 245),
    "brown": (40, 75, 120),
}


def draw_box(bgr: Image, box_px: Box, label: str, *, is_thin: bool = False) -> None:
    """Draw the box of an object into `bgr`, in its class's color."""
    left, top, right, bottom = map(round, box_px.corners)
    line_px = max(1, round(bgr.shape[0] / LINE_PX_HEIGHT)) + (not is_thin)
    box_bgr = BOX_BGR[zlib.crc32(label.encode()) % len(BOX_BGR)]
    cv2.rectangle(bgr, (left, top), (right, bottom), box_bgr, line_px, cv2.LINE_AA)


def draw_caption(bgr: Image, text: str, color: str, corner: tuple[float, float]) -> None:
    """Write text on a dark plate above `corner` (x, y), moved into the picture.

    color: a basic term, of which a patch comes before the text; no patch for other words.
    """
    scale = max(0.42, bgr.shape[0] / 1100)
    thick = max(1, round(scale * 1.4))
    (text_px, above), below = cv2.getTextSize(text, FONT, scale, thick)
    pad = max(3, above // 3)
    patch_px = above + pad if color in TERM_BGR else 0
    width, height = text_px + patch_px + 2 * pad, above + below + pad
    left = max(0, min(round(corner[0]), bgr.shape[1] - width))
    top = max(0, min(round(corner[1]) - height, bgr.shape[0] - height))
    cv2.rectangle(bgr, (left, top), (left + width, top + height), PLATE, cv2.FILLED)
    base = top + above + pad // 2 + 1
    if patch_px:
        ends = (left + pad, base - above), (left + pad + above, base)
        cv2.rectangle(bgr, *ends, TERM_BGR[color], cv2.FILLED)
        cv2.rectangle(bgr, *ends, WHITE, 1)
    cv2.putText(bgr, text, (left + pad + patch_px, base), FONT, scale, WHITE, thick, cv2.LINE_AA)
