"""What a detector is taught about each picture: objects, and places about which nothing is said.

Annotated objects come from the data set. Where one of the detector's classes is not annotated
exhaustively, or not known to the set at all, the teacher fills the gap: what it is sure of becomes
an object, what it only suspects is ignored, so that an object nobody annotated never counts as
background. Crowds and ignore regions are ignored, too.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge import durable
from edge.errors import InputError
from edge.values import Box
from tools.architectures import yolox
from tools.dataset import Dataset, Picture
from tools.evaluate import collect
from tools.input_size import InputSize

Boxes = NDArray[np.float32]  # (n, 4): left, top, right, bottom in pixels
SURE = 0.45  # teacher's score from which it is an object; measured: precision above .8 there
SUSPECTED = 0.15
_SAME_IOU = 0.5
logger = logging.getLogger(__name__)


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


def suspect(
    weights: Path, data: Dataset, size: InputSize, labels: Sequence[str], path: Path
) -> list[dict[str, Any]]:
    """Return the teacher's detections on pictures with unknown classes; kept in `path` (JSON).

    labels: the detector's. Only those that a picture does not annotate exhaustively; COCO result
    dicts, their category ids are indices into `labels`.
    """
    if path.exists():
        stored: list[dict[str, Any]] = json.loads(path.read_text())
        return stored
    from tools.float_detector import FloatDetector

    known = {item.image_id: item.exhaustive_classes for item in data.pictures}
    told = {name for name in labels if yolox.knows(weights, [name])}
    partly = tuple(item for item in data.pictures if told - item.exhaustive_classes)
    teacher = FloatDetector(weights, size, min_score=SUSPECTED, labels=labels)
    asked = Dataset(data.name, partly, dict(enumerate(labels)), ())
    found = [
        item
        for item in collect(teacher.detect, asked, show_progress=True)
        if labels[item["category_id"]] not in known[item["image_id"]]
    ]
    durable.replace(path, json.dumps(found).encode())
    return found


def refuse_unknown(data: Dataset, labels: Sequence[str], weights: Path) -> None:
    """Raise InputError for a class that neither the set nor the first network knows.

    Nothing would teach it: it is mistyped, or a class of another set.
    """
    named = data.labels.values()
    unknown = [name for name in labels if name not in named and not yolox.knows(weights, [name])]
    if unknown:
        raise InputError(
            f"--labels {','.join(unknown)}: not known to {weights.name} and no category of "
            f"{data.name}, which has {', '.join(named)}"
        )


def teach(
    data: Dataset, suspected: Iterable[dict[str, Any]], labels: Sequence[str]
) -> list[Taught]:
    """Return every picture with its objects; other categories than the detector's are left out.

    suspected: as `suspect` returns them.
    Raises InputError when the set annotates none of the labels.
    """
    indices = {number: labels.index(name) for number, name in data.labels.items() if name in labels}
    if not indices:
        raise InputError(
            f"{data.name}: none of its categories is one of {', '.join(labels)}; name yours with "
            f"--labels {','.join(data.labels.values())}"
        )
    annotated: dict[int, list[dict[str, Any]]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for item in data.annotations:
        number = item["category_id"]
        if number in indices:
            annotated[item["image_id"]].append(item | {"category_id": indices[number]})
        else:
            left_out[data.labels[number]] += 1
    for name, count in left_out.items():
        logger.warning("train.left_out category=%s objects=%d", name, count)
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for item in suspected:
        found[item["image_id"]].append(item)
    return [
        _taught(picture, annotated[picture.image_id], found[picture.image_id])
        for picture in data.pictures
    ]


def _taught(
    picture: Picture, annotated: list[dict[str, Any]], suspected: list[dict[str, Any]]
) -> Taught:
    """Return what is taught of a picture; category ids are indices into the detector's labels."""
    objects = [item for item in annotated if not item.get("iscrowd", 0)]
    ignored = [item["bbox"] for item in annotated if item.get("iscrowd", 0)]
    ignored += [list(region) for region in picture.ignore_regions]
    for item in suspected:
        if _is_new(item, objects):
            if item["score"] >= SURE:
                objects.append(item)
            else:
                ignored.append(item["bbox"])
    labels = [item["category_id"] for item in objects]
    return Taught(
        picture,
        _corners([item["bbox"] for item in objects]),
        np.array(labels, np.int64),
        _corners(ignored),
    )


def _is_new(item: dict[str, Any], objects: list[dict[str, Any]]) -> bool:
    """Return whether no object of the same class lies where `item` does."""
    box = Box(*item["bbox"])
    return all(
        other["category_id"] != item["category_id"] or box.iou(Box(*other["bbox"])) < _SAME_IOU
        for other in objects
    )


def _corners(boxes: list[list[float]]) -> Boxes:
    made = np.array(boxes, np.float32).reshape(-1, 4)
    made[:, 2:] += made[:, :2]
    return made
