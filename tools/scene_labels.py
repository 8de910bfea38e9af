"""Color labels for more objects of the detection data: `tools/labels/scene-colors.json`.

3,380 boxes of detection/train: all those of at least 40 pixels that the data folder's own lists do
not contain. A vision-language model named their colors by the rules of that folder's README, from
contact sheets of 42 crops, in two independent passes without seeing any network's predictions
(`label_1`, `label_2`; `agreed`). The passes agree on 81 % of the objects that both called
single-colored, and on 94.5 % of the 1,711 that both were sure of; of 720 objects of known color
among them, 92 % were named correctly. Many of these objects are dark, blurred or half hidden, and
few have rare colors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.errors import InputError

LABELS = Path(__file__).parent / "labels" / "scene-colors.json"


def rows(detection: Path) -> list[dict[str, Any]]:
    """Return a row for each labelled object, in the format of `scene_color/more.json`.

    detection: folder with train.json; without that file the result is empty. Labels of annotations
    that it does not contain are left out. Raises InputError when the file is broken.
    """
    path = detection / "train.json"
    if not path.exists():
        return []
    with read_as_coco(path):
        content = json.loads(path.read_bytes())
        files = {image["id"]: Path(image["file_name"]).name for image in content["images"]}
        names = {category["id"]: category["name"] for category in content["categories"]}
        found = {one["id"]: one for one in content["annotations"]}
        return [
            row
            | {
                "image": files[one["image_id"]],
                "bbox": one["bbox"],
                "cls": names[one["category_id"]],
            }
            for row in json.loads(LABELS.read_bytes())
            if (one := found.get(row["annotation"])) is not None
        ]


@contextmanager
def read_as_coco(path: Path) -> Iterator[None]:
    """Convert errors while reading a COCO file to an InputError naming the file."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not COCO JSON, or a broken row ({error!r}); see edge-tools data check"
        ) from None
