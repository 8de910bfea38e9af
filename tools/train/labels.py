"""What a detector is taught about each picture: objects, and places about which nothing is said.

Annotated objects come from the data set. Where a class is not annotated exhaustively, the teacher
fills the gap: what it is sure of becomes an object, what it only suspects is ignored, so that an
object nobody annotated never counts as background. Crowds and ignore regions are ignored, too.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from tools.dataset import Dataset, Picture
from tools.evaluate import collect
from tools.input_size import InputSize

Boxes = NDArray[np.float32]  # (n, 4): left, top, right, bottom in pixels
SURE = 0.45  # of the teacher's score: an object; DESIGN: its precision there is above .8
SUSPECTED = 0.15
_SAME_IOU = 0.5


@dataclass(frozen=True)
class Taught:
    """A picture with its objects.

    boxes: float32 (n, 4) corners in pixels; labels: int64 (n,), indices into the detector's labels;
    ignored: float32 (m, 4), where an unexpected detection is no error.
    """

    picture: Picture
    boxes: Boxes
    labels: NDArray[np.int64]
    ignored: Boxes


def suspect(weights: Path, data: Dataset, size: InputSize, path: Path) -> list[dict[str, Any]]:
    """Return the teacher's detections on pictures with unknown classes; kept in `path` (JSON).

    Only labels that a picture does not annotate exhaustively; COCO result dicts.
    """
    if path.exists():
        stored: list[dict[str, Any]] = json.loads(path.read_text())
        return stored
    from tools.float_detector import FloatDetector

    known = {item.image_id: item.exhaustive_classes for item in data.pictures}
    every = set(data.labels.values())
    partly = tuple(item for item in data.pictures if every - item.exhaustive_classes)
    teacher = FloatDetector(weights, size, min_score=SUSPECTED)
    asked = Dataset(data.name, partly, data.labels, ())
    found = [
        item
        for item in collect(teacher.detect, asked, show_progress=True)
        if data.labels[item["category_id"]] not in known[item["image_id"]]
    ]
    path.write_text(json.dumps(found))
    return found


def teach(
    data: Dataset, suspected: Iterable[dict[str, Any]], labels: Sequence[str]
) -> list[Taught]:
    """Return every picture with its objects; other categories than the detector's are left out.

    Raises InputError when the set annotates none of the labels.
    """
    if not set(data.labels.values()) & set(labels):
        raise InputError(f"{data.name}: none of its categories is one of {', '.join(labels)}")
    annotated: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for item in data.annotations:
        if data.labels[item["category_id"]] in labels:
            annotated[item["image_id"]].append(item)
    indices = {number: labels.index(name) for number, name in data.labels.items() if name in labels}
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for item in suspected:
        if item["category_id"] in indices:
            found[item["image_id"]].append(item)
    return [
        _taught(picture, annotated[picture.image_id], found[picture.image_id], indices)
        for picture in data.pictures
    ]


def _taught(
    picture: Picture,
    annotated: list[dict[str, Any]],
    suspected: list[dict[str, Any]],
    indices: dict[int, int],
) -> Taught:
    objects = [item for item in annotated if not item.get("iscrowd", 0)]
    ignored = [item["bbox"] for item in annotated if item.get("iscrowd", 0)]
    ignored += [list(region) for region in picture.ignore_regions]
    for item in suspected:
        if _is_new(item, objects):
            if item["score"] >= SURE:
                objects.append(item)
            else:
                ignored.append(item["bbox"])
    labels = [indices[item["category_id"]] for item in objects]
    return Taught(
        picture,
        _corners([item["bbox"] for item in objects]),
        np.array(labels, np.int64),
        _corners(ignored),
    )


def _is_new(item: dict[str, Any], objects: list[dict[str, Any]]) -> bool:
    """Return whether no object of the same class lies where `item` does."""
    return all(
        other["category_id"] != item["category_id"] or _iou(other["bbox"], item["bbox"]) < _SAME_IOU
        for other in objects
    )


def _iou(one: list[float], other: list[float]) -> float:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / max(one[2] * one[3] + other[2] * other[3] - shared, 1e-6)


def _corners(boxes: list[list[float]]) -> Boxes:
    made = np.array(boxes, np.float32).reshape(-1, 4)
    made[:, 2:] += made[:, :2]
    return made
