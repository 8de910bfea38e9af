"""Export labels as a folder that `edge-tools train color --data` and `evaluate color --data` read.

DIR/detection/train and val hold the pictures, DIR/scene_color/labels.json the rows,
DIR/scene_color/train and val the objects' crops. A picture and all its objects are in one split,
chosen by a hash of its name, so that it stays there in a later export with more labels. An object
without a box, clicked in a whole picture, gets the box around its outline.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2

from edge import durable, picture_file
from edge.errors import InputError
from edge.values import Box
from tools.color.data.label_file import LabelFile
from tools.color.data.objects import LabelObject, Row
from tools.color.pixels.crop import cut_out
from tools.data.convert import link_or_copy
from tools.dataset import check_inside, load_file

JPEG_QUALITY = 95


def export(
    objects: Sequence[LabelObject], labels: LabelFile, folder: Path, val_share: float
) -> dict[str, int]:
    """Write the labelled objects and return their number by split.

    val_share: of the pictures, 0..1. Raises InputError when nothing is labelled yet, a picture
    cannot be read, or an object lies outside of its picture.
    """
    labelled = [(one, row) for one in objects if (row := labels.get(one.key)) is not None]
    if not labelled:
        raise InputError(f"{labels.path}: no label yet; label some objects first")
    scenes = folder / "scene_color"
    rows = [
        _exported(one, row, number, folder, split_of(one.image, val_share))
        for number, (one, row) in enumerate(labelled)
    ]
    durable.replace(scenes / "labels.json", f"{json.dumps(rows, indent=0)}\n".encode())
    return dict(Counter(str(row["split"]) for row in rows))


def split_of(image: str, val_share: float) -> str:
    """Return `train` or `val` for a picture."""
    digest = hashlib.sha256(os.fsencode(image)).digest()
    return "val" if int.from_bytes(digest[:4]) < val_share * 2**32 else "train"


def _exported(one: LabelObject, row: Row, number: int, folder: Path, split: str) -> Row:
    """Write an object's crop and its picture; return its row."""
    name = f"{Path(one.image).stem}_{number:05d}.jpg"
    crop = folder / "scene_color" / split / name
    bgr = load_file(one.file)
    box_px = one.box_px or _outlined(row)
    if box_px is not None:
        check_inside(one.file, box_px, bgr)
    pixels = bgr if box_px is None else cut_out(bgr, box_px)
    picture_file.write(crop, pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    _link_once(one.file, folder / "detection" / split / one.image)
    box = None if box_px is None else list(box_px)
    return row | {"bbox": box, "file_name": name, "split": split, "source": "annotated"}


def _outlined(row: Row) -> Box | None:
    """Return the box around the row's outlines, None when it has none."""
    outlines = row.get("outline_1") or row.get("outline_2") or []
    points = [point for outline in outlines for point in outline]
    if not points:
        return None
    xs, ys = zip(*points, strict=True)
    return Box(min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))


def _link_once(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        link_or_copy(file, target)
