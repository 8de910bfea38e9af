"""The color data sets as one list of labelled crops.

Layouts: `color/labels.json` (products and car panels, one label), `scene_color/labels.json` and
`scene_color/more.json` (objects cut from `detection/train`, two labellers); see the data folder's
README. The labels of two labellers make one soft target (`rows`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from edge.color import TERMS
from edge.errors import InputError
from edge.values import Image
from tools import dataset
from tools.color.data import rows, scene_colors
from tools.color.data.objects import Row
from tools.color.data.rows import BoxPx
from tools.color.pixels.crop import whole_pixels

PLACE_PX = 3  # two boxes of a picture are one when their centers are in one square of this side
OURS = "ours"  # source of the objects of `scene_colors`
SCENE_SOURCES = ("scene", "more", OURS)


@dataclass(frozen=True)
class ColorItem:
    """One labelled crop.

    file: image; box_px: the object in it (x, y, width, height), None when the file is the crop.
    source: storeitems, carpanel, scene, more or OURS.
    label: the basic term that all labellers chose, None when they differ or chose none.
    shares: target for each of TERMS, summing to 1; all equal when no color was named.
    weight: trust in the target, 0..1.
    object_class: such as `car`, None for products and where it is not known.
    is_sure: whether all labellers were sure.
    is_product: a picture of a shop or maker, whose label holds for the light that it shows.
    """

    file: Path
    box_px: BoxPx | None
    source: str
    label: str | None
    shares: tuple[float, ...]
    weight: float
    object_class: str | None = None
    is_sure: bool = False
    is_product: bool = False


def read_set(folder: Path, split: str) -> list[ColorItem]:
    """Return a split of a folder with a `labels.json` of either layout, `color` or `scene_color`.

    Raises InputError when there is none, or no row of that split.
    """
    items = _split(folder, split)
    if not items:
        raise InputError(f"{folder / 'labels.json'} has no split {split!r}; name one with --split")
    return items


def _split(folder: Path, split: str) -> list[ColorItem]:
    """Return a split of a folder, empty when no row has it."""

    def make(row: Row) -> ColorItem:
        if "color" in row:
            return _product_item(row, folder)
        return _scene_item(row | {"bbox": None}, folder / split / row["file_name"], "scene")

    return rows.read(folder / "labels.json", make, split)


def training_items(data: Path) -> list[ColorItem]:
    """Return everything that may be trained on and has a color.

    data: the folder with color/, scene_color/ and detection/; a missing part is left out. Objects
        of scenes refer to their whole pictures, so that crops can have real surroundings.
    Raises InputError when there is none.
    """
    pictures = data / "detection" / "train"
    scenes, more = data / "scene_color" / "labels.json", data / "scene_color" / "more.json"
    items = _split(data / "color", "train") if (data / "color").exists() else []

    def make(source: str, row: Row) -> ColorItem:
        return _scene_item(row, pictures / row["image"], source)

    if scenes.exists():
        items += rows.read(scenes, partial(make, "scene"), "train")
    if more.exists():
        items += rows.read(more, partial(make, "more"))
        items += [make(OURS, row) for row in scene_colors.rows(data / "detection")]
    if not items:
        raise _nothing(data, "train")
    colored = [item for item in items if item.weight > 0]
    if not colored:
        raise InputError(f"{data}: no training row names a color; label more")
    return colored


def hold_out(
    items: Sequence[ColorItem], share: float, start: float = 0.0
) -> tuple[list[ColorItem], list[ColorItem]]:
    """Return the items to train on, and the held-out scene objects that have an agreed label.

    A hash of the names chooses the pictures, so they are the same each time. Nothing of a held-out
    picture is trained on. Objects of `scene_colors` are not among the held-out ones, so that
    figures stay comparable with those of runs before these labels.
    """
    kept, held = by_picture(items, share, start)
    return kept, [item for item in held if item.box_px is not None and is_agreed(item)]


def held_out(data: Path, share: float, start: float) -> list[ColorItem]:
    """Return the scene objects, agreed or not, that a run with these options did not train on."""
    if not share:
        return []
    held = by_picture(training_items(data), share, start)[1]
    return [item for item in held if item.box_px is not None]


def is_agreed(item: ColorItem) -> bool:
    """Return whether figures count an item: people agreed on its term."""
    return item.label is not None and item.source != OURS


def by_picture(
    items: Sequence[ColorItem], share: float, start: float = 0.0
) -> tuple[list[ColorItem], list[ColorItem]]:
    """Return the items of most pictures, and those of a share of the pictures.

    start: 0..1, where the share begins in the pictures' order: folds have different starts. A
        share that reaches the end continues at the beginning.
    """
    kept = [item for item in items if not is_held(item, share, start)]
    return kept, [item for item in items if is_held(item, share, start)]


def is_held(item: ColorItem, share: float, start: float = 0.0) -> bool:
    """Return whether an item's picture is among the held-out share."""
    return (_fraction(item.file.name) - start) % 1 < share


def _fraction(name: str) -> float:
    """Return a number in 0..1, below 1, that depends on the name only."""
    return int(hashlib.sha256(os.fsencode(name)).hexdigest()[:8], 16) / 0x1_0000_0000


def unlabelled_items(
    data: Path, labelled: Sequence[ColorItem], min_side_px: float
) -> list[ColorItem]:
    """Return the boxes of detection/train without a color label; weight 0, all shares equal.

    min_side_px: of the longer side. Crowds are left out. Empty without detection/train.json.
    Raises InputError when that file is broken.
    """
    path = data / "detection" / "train.json"
    if not path.exists():
        return []
    with scene_colors.read_as_coco(path):
        content = json.loads(path.read_bytes())
        files = {row["id"]: data / "detection" / row["file_name"] for row in content["images"]}
        names = {row["id"]: row["name"] for row in content["categories"]}
        boxes = [
            (files[row["image_id"]], tuple(row["bbox"]), names[row["category_id"]])
            for row in content["annotations"]
            if not row.get("iscrowd") and max(row["bbox"][2:]) >= min_side_px
        ]
    taken = {_place(item.file, item.box_px) for item in labelled if item.box_px}
    even = (1 / len(TERMS),) * len(TERMS)
    return [
        ColorItem(file, box, "unlabelled", None, even, 0.0, name)
        for file, box, name in sorted(boxes)
        if _place(file, box) not in taken
    ]


def _place(file: Path, box_px: BoxPx) -> tuple[str, int, int]:
    """Return a key that is the same for a box and for its rounded copy in the labels."""
    x, y, width, height = box_px
    return file.name, round(x + width / 2) // PLACE_PX, round(y + height / 2) // PLACE_PX


def validation_items(data: Path) -> list[ColorItem]:
    """Return the validation crops with an agreed label: products, car panels, objects of scenes.

    Raises InputError when there is none.
    """
    folders = (data / name for name in ("color", "scene_color"))
    items = [item for folder in folders if folder.exists() for item in _split(folder, "val")]
    agreed = [item for item in items if item.label is not None]
    if not items:
        raise _nothing(data, "val")
    if not agreed:
        raise InputError(f"{data}: no crop of split val has an agreed basic color term")
    return agreed


def _nothing(data: Path, split: str) -> InputError:
    """Return the error for a data folder that has no row of a split."""
    if not any((data / name).exists() for name in ("color", "scene_color")):
        return InputError(f"{data} has neither color/ nor scene_color/; name another with --data")
    return InputError(
        f'{data}: no row of a labels.json in it has "split": "{split}"; '
        "give it to some, or export more with `edge-tools annotate color --export` (--val-share)"
    )


def _product_item(row: Row, folder: Path) -> ColorItem:
    file, source = folder / row["file_name"], str(row["source"])
    if source in SCENE_SOURCES:
        raise ValueError(f"source {source!r} is of objects of scenes; give another")
    return ColorItem(file, None, source, is_product=True, **vars(rows.product(row)))


def _scene_item(row: Row, file: Path, source: str) -> ColorItem:
    target = rows.scene(row)
    return ColorItem(
        file, rows.box_px(row), source, object_class=row.get("cls") or None, **vars(target)
    )


def read_crops(items: Iterable[ColorItem], margin: float = 0.0) -> Iterator[tuple[Image, BoxPx]]:
    """Yield each item's crop and where its box lies in it, in pixels.

    margin: share of the box's size that is added on each side, as far as the image reaches.
    Raises InputError for a file that is no image, and for a box outside its image.
    """
    for file, same_file in groupby(items, key=lambda item: item.file):
        bgr = dataset.load_file(file)
        for item in same_file:
            if item.box_px is not None:
                dataset.check_inside(file, item.box_px, bgr)
            yield _cut(bgr, item.box_px, margin)


def _cut(bgr: Image, box_px: BoxPx | None, margin: float) -> tuple[Image, BoxPx]:
    """Return a view of the box with its margin, and the box in it; None: the whole image."""
    if box_px is None:
        height, width = bgr.shape[:2]
        return bgr, (0.0, 0.0, float(width), float(height))
    x, y, box_width, box_height = box_px
    left, top, right, bottom = whole_pixels(
        (
            x - margin * box_width,
            y - margin * box_height,
            x + (1 + margin) * box_width,
            y + (1 + margin) * box_height,
        ),
        bgr,
    )
    return bgr[top:bottom, left:right], (x - left, y - top, box_width, box_height)
