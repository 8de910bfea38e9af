"""Pictures written whole or not at all: OpenCV itself leaves half a file on a full disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2

from edge import durable
from edge.errors import EdgeError
from edge.values import Image


def write(path: Path, bgr: Image, settings: Sequence[int] = ()) -> None:
    """Write a picture in one step; make its folder.

    path: its suffix names the format. bgr: uint8, (height, width, 3), at least 1x1.
    settings: `cv2.imencode`'s, such as the JPEG quality.
    Raises EdgeError for a suffix that names no format, OSError where the file cannot be written.
    """
    try:
        _, content = cv2.imencode(path.suffix, bgr, settings)
    except cv2.error:
        raise EdgeError(f"{path}: no format of pictures; let it end in .jpg or .png") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.replace(path, content.tobytes())
