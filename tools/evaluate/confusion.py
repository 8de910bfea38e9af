"""Matches detections with objects, and counts them in a confusion matrix.

Not COCO's matching: only detections above a score that a daemon would use, best first. Each is
matched with the unmatched object of its label that it overlaps most, with an IoU of at least 0.5;
the remaining detections are then matched with objects of other labels in the same way.
An unmatched detection in a crowd, in an ignore region, or of a class that the picture does not
annotate exhaustively, is not a false alarm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.values import Box
from tools.dataset import Dataset, Picture
from tools.evaluate.accuracy import crowd_annotations

SHOWN_SCORE = 0.3
MIN_IOU = 0.5
MIN_WITHIN = 0.5  # share of a detection's area
BACKGROUND = "background"


@dataclass(frozen=True)
class Match:
    """An object and its detection, as COCO dicts.

    found None: the object was missed. truth None: a false alarm. iou: of the pair, else 0.
    """

    picture: Picture
    truth: dict[str, Any] | None
    found: dict[str, Any] | None
    iou: float = 0.0

    @property
    def is_hit(self) -> bool:
        """Whether an object was found under its own label."""
        pair = (self.truth, self.found)
        return None not in pair and self.label_of(self.truth) == self.label_of(self.found)

    @staticmethod
    def label_of(item: dict[str, Any] | None) -> int:
        """Return a COCO dict's category id, -1 for None."""
        return -1 if item is None else int(item["category_id"])


def matches(data: Dataset, results: Sequence[dict[str, Any]]) -> Iterator[Match]:
    """Yield every object and every false alarm of a set, picture by picture.

    results: COCO result dicts; those with a score below SHOWN_SCORE are ignored.
    """
    truths, found = _by_image(data.annotations), _by_image(results)
    for picture in data.pictures:
        strong = [item for item in found[picture.image_id] if item["score"] >= SHOWN_SCORE]
        strong.sort(key=lambda item: -item["score"])
        yield from _in_picture(picture, data, truths[picture.image_id], strong)


def _by_image(items: Sequence[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    grouped: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for item in items:
        grouped[item["image_id"]].append(item)
    return grouped


def _in_picture(
    picture: Picture, data: Dataset, truths: list[dict[str, Any]], found: list[dict[str, Any]]
) -> Iterator[Match]:
    crowds = [item for item in truths if item.get("iscrowd", 0)]
    crowds += crowd_annotations(picture, data.labels)
    open_truths = [item for item in truths if not item.get("iscrowd", 0)]
    hits = list(_pairs(picture, open_truths, found, is_own_label=True))
    confused = list(_pairs(picture, open_truths, found, is_own_label=False))
    yield from (*hits, *confused)
    for item in found:
        if not any(_is_within(item, crowd) for crowd in crowds):
            yield Match(picture, None, item)
    for truth in open_truths:
        yield Match(picture, truth, None)


def _pairs(
    picture: Picture,
    truths: list[dict[str, Any]],
    found: list[dict[str, Any]],
    *,
    is_own_label: bool,
) -> Iterator[Match]:
    """Yield matches of objects and detections, and remove these from both lists."""
    for item in tuple(found):
        label = Match.label_of(item)
        near = [one for one in truths if not is_own_label or Match.label_of(one) == label]
        best = max(near, key=partial(_iou, item), default=None)
        if best is not None and _iou(item, best) >= MIN_IOU:
            truths.remove(best)
            found.remove(item)
            yield Match(picture, best, item, _iou(item, best))


def _iou(one: dict[str, Any], other: dict[str, Any]) -> float:
    return Box(*one["bbox"]).iou(Box(*other["bbox"]))


def _is_within(item: dict[str, Any], crowd: dict[str, Any]) -> bool:
    """Return whether at least MIN_WITHIN of a detection's area lies in a crowd of its label."""
    if item["category_id"] != crowd["category_id"]:
        return False
    box, crowd_box = Box(*item["bbox"]), Box(*crowd["bbox"])
    inside = box.overlap_area(crowd_box)
    return inside > 0 and inside >= MIN_WITHIN * box.area


def matrix(data: Dataset, found: Sequence[Match]) -> tuple[NDArray[np.intp], list[str]]:
    """Return the confusion matrix (n + 1, n + 1), row = object, column = detection, and its labels.

    The last row counts false alarms, the last column missed objects.
    """
    numbers = {category: place for place, category in enumerate(data.labels)}
    numbers[-1] = len(numbers)  # no object, no detection
    counts = np.zeros((len(numbers), len(numbers)), np.intp)
    for match in found:
        row = numbers[Match.label_of(match.truth)]
        counts[row, numbers[Match.label_of(match.found)]] += 1
    return counts, [*data.labels.values(), BACKGROUND]
