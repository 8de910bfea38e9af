"""Colors of further objects of the detection data: `tools/color/data/scene-colors.json`.

These are the 3,380 boxes of detection/train of at least 40 pixels that the data folder's own lists
leave out. A vision-language model labelled them from contact sheets of 42 crops by the rules of the
data folder's README, in two independent passes (`label_1`, `label_2`; `agreed`) that saw no answer
of our networks. The passes agree on 81 % of the objects that both labelled with one color, and on
94.5 % of the 1,711 of which both were sure. Of 720 objects with a known color among them, 92 % got
that color. Many of these objects are dark, blurred or half hidden, and rare colors are rare.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.errors import InputError

LABELS = Path(__file__).parent / "scene-colors.json"


def rows(detection: Path) -> list[dict[str, Any]]:
    """Return a row in the format of `scene_color/more.json` for each labelled object.

    detection: folder with train.json; without that file there are no rows. Labels of annotations
        that it lacks are left out. Raises InputError when the file is broken.
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
    """Turn errors while a COCO file is read into an InputError that names the file."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not COCO JSON, or a broken row ({error!r}); see edge-tools data check"
        ) from None
