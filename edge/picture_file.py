"""Pictures read as people see them, and written whole or not at all.

OpenCV shows what lies under transparent pixels, often black, and leaves half a file on a full disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge import MAX_PIXELS, durable
from edge.errors import EdgeError
from edge.values import Image

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
PNG_ALPHA = frozenset({4, 6})  # color types: gray with alpha, RGB with alpha
WHITE = 255
BAND_ROWS = 64  # blended at once: 16 bytes a pixel in each


def decode(content: NDArray[np.uint8]) -> Image | None:
    """Return the picture in a file's bytes, uint8 (height, width, 3) BGR; None when it is none.

    It is turned as its EXIF says. Transparent pixels of PNG, WebP, GIF and AVIF show white behind
    them; in a picture that was turned, and in other formats, they keep their hidden color: the
    fourth channel of a TIFF or JPEG 2000 may be infrared.
    Raises ValueError, which says the fix, for one of more than MAX_PIXELS; cv2.error for one that
    OpenCV refuses otherwise.
    """
    if not content.size:
        return None
    try:
        bgr = cv2.imdecode(content, cv2.IMREAD_COLOR)
    except cv2.error as error:
        if "MAX_IMAGE_PIXELS" not in str(error):
            raise
        raise ValueError(f"over {MAX_PIXELS} pixels; make it smaller") from None
    if bgr is None:
        return None
    if _may_be_transparent(content):
        _blend_with_white(bgr, np.asarray(cv2.imdecode(content, cv2.IMREAD_UNCHANGED)))
    return np.asarray(bgr, np.uint8)


def _blend_with_white(bgr: NDArray[Any], stored: NDArray[Any]) -> None:
    """Blend a decoded picture with white, in place, as the alpha channel of `stored` says, if any.

    stored: the pixels as the file has them, uint8 or uint16, not turned.
    """
    if stored.shape != (*bgr.shape[:2], 4):
        return
    bands = [slice(top, top + BAND_ROWS) for top in range(0, len(bgr), BAND_ROWS)]
    if not all(np.array_equal(bgr[rows], _levels(stored[rows])[..., :3]) for rows in bands):
        return  # it was turned
    for rows in bands:
        opacity = _levels(stored[rows])[..., 3:].astype(np.float32) / 255
        bgr[rows] = np.rint(bgr[rows] * opacity + WHITE * (1 - opacity))


def _levels(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels >> 8 if pixels.dtype == np.uint16 else pixels


def _may_be_transparent(content: NDArray[np.uint8]) -> bool:
    """Return whether the bytes are of a format and kind that may have transparent pixels."""
    head = content[:30].tobytes()
    if head.startswith(b"\x89PNG"):
        return head[25] in PNG_ALPHA or _has_transparent_colors(content.tobytes())
    if head.startswith(b"GIF8") or head[4:12] == b"ftypavif":
        return True
    return head[8:12] == b"WEBP" and head[12:16] in {b"VP8X", b"VP8L"}


def _has_transparent_colors(png: bytes) -> bool:
    """Return whether colors of a PNG's palette, or one color of an RGB picture, are transparent."""
    return b"tRNS" in png[: png.find(b"IDAT")]


def jpeg(bgr: Image, quality: int) -> bytes:
    """Return a picture as JPEG. bgr: uint8, (height, width, 3), at least 1x1. quality: 0..100."""
    _, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return content.tobytes()


def write(path: Path, bgr: Image, settings: Sequence[int] = ()) -> None:
    """Write a picture in one step; make its folder.

    path: its suffix names the format. bgr: uint8, (height, width, 3), at least 1x1.
    settings: `cv2.imencode`'s, such as the JPEG quality.
    Raises EdgeError for a suffix that names no format, OSError where the file cannot be written.
    """
    try:
        _, content = cv2.imencode(path.suffix, bgr, settings)
    except cv2.error:
        raise EdgeError(f"{path}: unknown format; use a name that ends in .jpg or .png") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.replace(path, content.tobytes())
