"""Readers of label formats: `read(source, images) -> Listing`, one module each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tools.data.entry import Listing
from tools.data.formats import coco, folders, voc, yolo

READERS: dict[str, Callable[[Path, Path | None], Listing]] = {
    "coco": coco.read,
    "voc": voc.read,
    "yolo": yolo.read,
    "folders": folders.read,
}
