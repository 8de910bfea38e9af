"""Colors of further objects of the detection data: `tools/color/data/scene-colors.json`.

3,380 boxes of detection/train, all those of at least 40 pixels that the data folder's own lists
leave out, named by the rule of its README from contact sheets of 42 crops, by a vision-language
model in two independent passes that saw no answer of a network of ours (`label_1`, `label_2`;
`agreed`). The passes agree on 81 % of the objects that both called single-colored, on 94.5 % of the
1,711 that both were sure of; of 720 objects with a known color mixed in between, 92 % were named as
known. Many of these objects are dark, blurred or half hidden, and rare colors are rare.
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
    """Return a row as `scene_color/more.json` has them for each object that we labelled.

    detection: folder with train.json; without it there are none. An annotation that it does not
    have is left out. Raises InputError when the file is broken.
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
    """Let what goes wrong in reading a COCO file be an InputError that names it."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not COCO JSON, or a broken row ({error!r}); see edge-tools data check"
        ) from None
