"""COCO metrics of a detector: average precision, per class, per object size, per source.

Handles partly labelled pictures: where a class is not annotated exhaustively, an unmatched
detection of it counts neither as right nor as wrong (implemented as an image-sized crowd box); the
same holds in ignore regions. Sizes are COCO's, in pixels of the set's pictures: small below 32x32,
large from 96x96.
Source: pycocotools, the reference of the COCO detection task.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edge.detector import Detector
from edge.interpreter import Interpreter
from edge.values import Detection, Image
from tools import dataset
from tools.dataset import Dataset, Picture
from tools.progress import track

MIN_SCORE = 0.01  # lower scores add nothing to AP
SIZES = ("small", "medium", "large")
_AT_50, _AT_75 = 0, 5  # indices of IoU 0.50 and 0.75 among COCO's ten thresholds
_ALL_SIZES = 0


@dataclass(frozen=True)
class GroupAccuracy:
    """One label, size or source: average precision over IoU 0.50:0.95, at 0.50, at 0.75.

    NaN if the set has no such object. objects: number of annotated objects, without crowds.
    """

    ap: float
    ap50: float
    objects: int
    ap75: float = float("nan")


@dataclass(frozen=True)
class Accuracy:
    """COCO metrics, 0..1: AP over IoU 0.50:0.95, at 0.50 and 0.75, as means over the labels.

    classes, sizes, sources: the same by label, by object size, by the pictures' source.
    """

    dataset: str
    images: int
    ap: float
    ap50: float
    ap75: float
    classes: dict[str, GroupAccuracy]
    sizes: dict[str, GroupAccuracy] = field(default_factory=dict)
    sources: dict[str, GroupAccuracy] = field(default_factory=dict)


def ground_truth(data: Dataset) -> dict[str, Any]:
    """Return a COCO document in which crowd boxes mark where detections do not count."""
    annotations = [dict(item) for item in data.annotations]
    for picture in data.pictures:
        annotations += list(crowd_annotations(picture, data.labels))
    for number, item in enumerate(annotations, start=1):  # pycocotools takes id 0 for no match
        item["id"] = number
        item.setdefault("area", item["bbox"][2] * item["bbox"][3])
        item.setdefault("iscrowd", 0)
    images = [
        {"id": picture.image_id, "width": picture.width, "height": picture.height}
        for picture in data.pictures
    ]
    categories = [{"id": number, "name": name} for number, name in data.labels.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def crowd_annotations(picture: Picture, labels: dict[int, str]) -> Iterator[dict[str, Any]]:
    """Yield COCO crowd annotations for regions in which detections do not count.

    These are the ignore regions and, for classes not annotated exhaustively, the whole picture.
    """
    whole = (0.0, 0.0, float(picture.width), float(picture.height))
    for number, name in labels.items():
        unknown = name not in picture.exhaustive_classes
        for box in [whole] if unknown else picture.ignore_regions:
            yield {
                "image_id": picture.image_id,
                "category_id": number,
                "bbox": list(box),
                "iscrowd": 1,
            }


def collect(
    detect: Callable[[Image], list[Detection]],
    data: Dataset,
    *,
    show_progress: bool = False,
) -> list[dict[str, Any]]:
    """Return COCO result dicts of every picture; labels that the set lacks are left out."""
    pictures = track(data.pictures, "evaluate") if show_progress else data.pictures
    return [item for picture in pictures for item in collect_picture(detect, data.labels, picture)]


def collect_picture(
    detect: Callable[[Image], list[Detection]], labels: dict[int, str], picture: Picture
) -> list[dict[str, Any]]:
    """Return COCO result dicts of one picture; labels: names by category id."""
    numbers = {name: number for number, name in labels.items()}
    return [
        {
            "image_id": picture.image_id,
            "category_id": numbers[found.label],
            "bbox": list(found.box_px),
            "score": found.score,
        }
        for found in detect(dataset.load(picture))
        if found.label in numbers
    ]


def score(data: Dataset, results: list[dict[str, Any]]) -> Accuracy:
    """Return the accuracy of COCO result dicts on a set; `sources` stays empty."""
    return figures(data, accumulated(data, results))


def add_source_accuracy(
    measured: Accuracy, data: Dataset, results: list[dict[str, Any]]
) -> Accuracy:
    """Return the accuracy with `sources` filled in; pictures without a source are in none."""
    sources = {}
    for source in sorted({picture.source for picture in data.pictures} - {""}):
        part = restrict_to_source(data, source)
        numbers = {picture.image_id for picture in part.pictures}
        alone = score(part, [item for item in results if item["image_id"] in numbers])
        objects = sum(group.objects for group in alone.classes.values())
        sources[source] = GroupAccuracy(alone.ap, alone.ap50, objects, alone.ap75)
    return replace(measured, sources=sources)


def restrict_to_source(data: Dataset, source: str) -> Dataset:
    """Return the part of a set whose pictures come from one source."""
    pictures = tuple(picture for picture in data.pictures if picture.source == source)
    numbers = {picture.image_id for picture in pictures}
    own = tuple(item for item in data.annotations if item["image_id"] in numbers)
    return replace(data, pictures=pictures, annotations=own)


def restrict_to_labels(data: Dataset, labels: Collection[str]) -> Dataset:
    """Return a set with only these classes; detections of others are ignored."""
    names = {number: name for number, name in data.labels.items() if name in labels}
    own = tuple(item for item in data.annotations if item["category_id"] in names)
    return replace(data, labels=names, annotations=own)


def accumulated(data: Dataset, results: list[dict[str, Any]]) -> Any:
    """Return pycocotools' `COCOeval` after it has matched and accumulated."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = COCO()
        truth.dataset = ground_truth(data)
        truth.createIndex()
        found = truth.loadRes(results) if results else COCO()
        run = COCOeval(truth, found, "bbox")
        run.evaluate()
        run.accumulate()
    return run


def figures(data: Dataset, run: Any) -> Accuracy:
    """Return the accuracy from an accumulated `COCOeval`."""
    # (IoU, recall, class, area, maximum of detections); -1 where a class has no object.
    precision = run.eval["precision"][..., -1]
    by_label, by_size = object_counts(data), Counter(map(size_of, _objects(data)))
    everywhere = precision[..., _ALL_SIZES]
    classes = {
        data.labels[number]: _group(everywhere[:, :, index], by_label[data.labels[number]])
        for index, number in enumerate(run.params.catIds)
    }
    sizes = {
        name: _group(precision[..., place], by_size[name])
        for place, name in enumerate(SIZES, start=1)
    }
    whole = _group(everywhere, 0)
    return Accuracy(data.name, len(data.pictures), whole.ap, whole.ap50, whole.ap75, classes, sizes)


def curves(data: Dataset, run: Any) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Return (recall, precision), each (101,), at IoU 0.50 by label; only labels with objects.

    Precision is interpolated as in COCO: the highest at that recall or above.
    """
    precision = run.eval["precision"][_AT_50, :, :, _ALL_SIZES, -1]
    return {
        data.labels[number]: (run.params.recThrs, precision[:, index])
        for index, number in enumerate(run.params.catIds)
        if precision[:, index].max() > -1
    }


def object_counts(data: Dataset) -> Counter[str]:
    """Return the number of annotated objects by label, without crowds."""
    return Counter(data.labels[item["category_id"]] for item in _objects(data))


def _objects(data: Dataset) -> list[dict[str, Any]]:
    return [item for item in data.annotations if not item.get("iscrowd", 0)]


def size_of(annotation: dict[str, Any]) -> str:
    """Return COCO's size class of an annotated object."""
    area = annotation.get("area", annotation["bbox"][2] * annotation["bbox"][3])
    return SIZES[int(area >= 32**2) + int(area >= 96**2)]


def _group(precision: NDArray[Any], objects: int) -> GroupAccuracy:
    at_50, at_75 = _mean(precision[_AT_50]), _mean(precision[_AT_75])
    return GroupAccuracy(_mean(precision), at_50, objects, at_75)


def _mean(precision: NDArray[Any]) -> float:
    known = precision[precision > -1]
    return round(float(known.mean()), 4) if known.size else float("nan")


def evaluate(folder: Path, data: Dataset) -> Accuracy:
    """Return the accuracy of a model folder on a set.

    Raises ModelError, InputError.
    """
    detector = Detector(Interpreter.load(folder), min_score=MIN_SCORE)
    return score(data, collect(detector.detect, data))
