"""Training targets of a detector: the objects of each picture, and regions without a target.

Objects come from the annotations and, for classes that a picture does not annotate exhaustively,
from the teacher (pseudo-labels): its detections with a score of SURE or more become objects, those
from UNSURE on are ignored, so that an object that nobody annotated is not trained as background.
Crowds and ignore regions are ignored, too.
"""

from __future__ import annotations

import json
import logging
import shlex
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
from tools.evaluate.accuracy import collect
from tools.input_size import InputSize

Boxes = NDArray[np.float32]  # (n, 4): left, top, right, bottom in pixels
SURE = 0.45  # score from which a teacher's detection is an object; its precision is above .8 there
UNSURE = 0.15  # score from which it is ignored
_SAME_IOU = 0.5
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledPicture:
    """A picture with its training targets.

    boxes: float32 (n, 4) corners in pixels; labels: int64 (n,), indices into the detector's labels;
    ignored: float32 (m, 4), regions in which a detection is neither right nor wrong.
    """

    picture: Picture
    boxes: Boxes
    labels: NDArray[np.int64]
    ignored: Boxes


def teacher_detections(
    weights: Path, data: Dataset, size: InputSize, labels: Sequence[str], path: Path
) -> list[dict[str, Any]]:
    """Return the teacher's detections of classes that a picture does not annotate exhaustively.

    labels: the detector's. path: JSON file in which the result is cached.
    Returns COCO result dicts whose category ids are indices into `labels`.
    """
    if path.exists():
        stored: list[dict[str, Any]] = json.loads(path.read_text())
        return stored
    from tools.float_detector import FloatDetector

    known = {item.image_id: item.exhaustive_classes for item in data.pictures}
    known_to_teacher = yolox.trained_labels(weights).intersection(labels)
    incomplete = tuple(item for item in data.pictures if known_to_teacher - item.exhaustive_classes)
    teacher = FloatDetector(weights, size, min_score=UNSURE, labels=labels)
    unknown_classes = Dataset(data.name, incomplete, dict(enumerate(labels)), ())
    found = [
        item
        for item in collect(teacher.detect, unknown_classes, show_progress=True)
        if labels[item["category_id"]] not in known[item["image_id"]]
    ]
    durable.replace(path, json.dumps(found).encode())
    return found


def refuse_unknown(data: Dataset, labels: Sequence[str], weights: Path) -> None:
    """Raise InputError for a class that neither the set nor the first network knows.

    Nothing would teach it: it is mistyped, or a class of another set. The same when the set
    annotates none of the labels.
    """
    named = data.labels.values()
    known = yolox.trained_labels(weights).union(named)
    unknown = [name for name in labels if name not in known]
    if unknown:
        raise InputError(
            f"--labels {','.join(unknown)}: not known to {weights.name} and no category of "
            f"{data.name}, which has {', '.join(named)}"
        )
    if not set(labels).intersection(named):
        listed = ",".join(f'"{name}"' if "," in name else name for name in named)
        raise InputError(
            f"{data.name}: none of its categories is one of {', '.join(labels)}; name yours with "
            f"--labels {shlex.quote(listed)}"
        )


def build_targets(
    data: Dataset, detections: Iterable[dict[str, Any]], labels: Sequence[str]
) -> list[LabelledPicture]:
    """Return every picture with its training targets.

    Categories not in `labels` and boxes that are empty or outside of their picture are left out,
    each kind with a line in the log that counts them; so is a category of `labels` without any
    object. detections: from `teacher_detections`.
    """
    indices = {number: labels.index(name) for number, name in data.labels.items() if name in labels}
    annotated: dict[int, list[dict[str, Any]]] = defaultdict(list)
    pictures = {picture.image_id: picture for picture in data.pictures}
    left_out: Counter[str] = Counter()
    outside = 0
    for item in data.annotations:
        number = item["category_id"]
        if number not in indices:
            left_out[data.labels[number]] += 1
        elif _is_outside(item["bbox"], pictures[item["image_id"]]):
            outside += 1
        else:
            annotated[item["image_id"]].append(item | {"category_id": indices[number]})
    for name, count in left_out.items():
        logger.warning("train.left_out category=%s objects=%d", name, count)
    if outside:
        logger.warning(
            "train.outside set=%s objects=%d: empty or outside of their picture, left out; "
            "edge-tools data check lists them",
            data.name,
            outside,
        )
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for item in detections:
        found[item["image_id"]].append(item)
    targets = [
        _targets_of(picture, annotated[picture.image_id], found[picture.image_id])
        for picture in data.pictures
    ]
    shown = {int(index) for one in targets for index in one.labels}
    for index in sorted(set(indices.values()) - shown):
        logger.warning("train.untaught set=%s label=%s objects=0", data.name, labels[index])
    return targets


def _is_outside(bbox: Sequence[float], picture: Picture) -> bool:
    whole = Box(0, 0, picture.width, picture.height)
    return not Box(*bbox).overlap_area(whole)


def _targets_of(
    picture: Picture, annotated: list[dict[str, Any]], detections: list[dict[str, Any]]
) -> LabelledPicture:
    """Return a picture with its targets; category ids are indices into the detector's labels."""
    objects = [item for item in annotated if not item.get("iscrowd", 0)]
    ignored = [item["bbox"] for item in annotated if item.get("iscrowd", 0)]
    ignored += [list(region) for region in picture.ignore_regions]
    for item in detections:
        if _is_new(item, objects):
            if item["score"] >= SURE:
                objects.append(item)
            else:
                ignored.append(item["bbox"])
    labels = [item["category_id"] for item in objects]
    return LabelledPicture(
        picture,
        _corners([item["bbox"] for item in objects]),
        np.array(labels, np.int64),
        _corners(ignored),
    )


def _is_new(item: dict[str, Any], objects: list[dict[str, Any]]) -> bool:
    """Return whether `item` overlaps no object of its class."""
    box = Box(*item["bbox"])
    return all(
        other["category_id"] != item["category_id"] or box.iou(Box(*other["bbox"])) < _SAME_IOU
        for other in objects
    )


def _corners(boxes: list[list[float]]) -> Boxes:
    made = np.array(boxes, np.float32).reshape(-1, 4)
    made[:, 2:] += made[:, :2]
    return made
