"""Confusion counts on sets small enough to know the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tools.dataset import Dataset, Picture
from tools.evaluate import confusion

LABELS = {1: "person", 3: "car"}
HERE, THERE = [10.0, 10.0, 20.0, 20.0], [60.0, 60.0, 30.0, 30.0]


def a_set(*annotations: dict[str, Any], exhaustive: tuple[str, ...] = ("person", "car")) -> Dataset:
    picture = Picture(1, Path("1.png"), 100, 100, "", frozenset(exhaustive), ())
    return Dataset("some", (picture,), LABELS, annotations)


def box(category: int, bbox: list[float], **more: Any) -> dict[str, Any]:
    return {"image_id": 1, "category_id": category, "bbox": bbox, **more}


def counted(data: Dataset, *found: dict[str, Any]) -> list[list[int]]:
    counts, names = confusion.matrix(data, list(confusion.matches(data, found)))
    assert names == ["person", "car", "background"]
    return counts.tolist()


def test_correct_detections_are_on_the_diagonal() -> None:
    data = a_set(box(1, HERE), box(3, THERE))
    found = [box(1, HERE, score=0.9), box(3, THERE, score=0.5)]
    assert counted(data, *found) == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_a_wrong_label_is_a_confusion_not_a_miss() -> None:
    data = a_set(box(1, HERE))
    assert counted(data, box(3, HERE, score=0.9)) == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_missed_objects_and_false_positives_count_as_background() -> None:
    data = a_set(box(1, HERE))
    assert counted(data, box(3, THERE, score=0.9)) == [[0, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_object_matches_its_own_label_before_a_higher_score() -> None:
    data = a_set(box(1, HERE))
    found = [box(3, HERE, score=0.9), box(1, HERE, score=0.5)]
    assert counted(data, *found) == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_detections_below_the_threshold_are_ignored() -> None:
    assert counted(a_set(box(1, HERE)), box(1, HERE, score=0.29))[0] == [0, 0, 1]
    assert counted(a_set(box(1, HERE)), box(1, HERE, score=0.3))[0] == [1, 0, 0]


def test_an_overlap_of_half_is_enough() -> None:
    data = a_set(box(1, HERE))
    assert counted(data, box(1, [10.0, 10.0, 20.0, 10.0], score=0.9))[0] == [1, 0, 0]
    assert counted(data, box(1, [10.0, 10.0, 20.0, 9.0], score=0.9))[0] == [0, 0, 1]


def test_detection_matches_the_object_that_it_overlaps_most() -> None:
    beside = [14.0, 10.0, 20.0, 20.0]
    data = a_set(box(1, beside, id=1), box(1, HERE, id=2))
    first, second = confusion.matches(data, [box(1, HERE, score=0.9)])
    assert (first.truth, first.iou) == (data.annotations[1], 1.0)
    assert (second.truth, second.found, second.iou) == (data.annotations[0], None, 0.0)


def test_object_is_matched_once_by_the_best_detection() -> None:
    data = a_set(box(1, HERE))
    found = [box(1, HERE, score=0.4), box(1, [11.0, 10.0, 20.0, 20.0], score=0.9)]
    first, second = confusion.matches(data, found)
    assert first.is_hit
    assert first.found is not None
    assert first.found["score"] == 0.9
    assert (second.truth, second.is_hit) == (None, False)


@pytest.mark.parametrize(
    "data",
    [
        a_set(box(1, [55.0, 55.0, 45.0, 45.0], iscrowd=1)),
        a_set(exhaustive=("car",)),
    ],
    ids=["crowd", "unknown_class"],
)
def test_detection_of_a_non_exhaustive_class_is_not_a_false_positive(data: Dataset) -> None:
    assert np.sum(counted(data, box(1, THERE, score=0.9))) == 0
    assert counted(data, box(3, THERE, score=0.9))[2][1] == 1


@pytest.mark.parametrize(
    ("bbox", "is_false_alarm"),
    [
        ([50.0, 40.0, 20.0, 20.0], False),  # half of it
        ([51.0, 40.0, 20.0, 20.0], True),
        ([29.0, 40.0, 20.0, 20.0], True),
        ([40.0, 29.0, 20.0, 20.0], True),
        ([80.0, 80.0, 10.0, 10.0], True),
        ([80.0, 80.0, 0.0, 10.0], True),  # no area: all of it would lie anywhere
    ],
)
def test_detection_at_least_half_inside_a_crowd_is_not_a_false_positive(
    bbox: list[float], *, is_false_alarm: bool
) -> None:
    data = a_set(box(1, [40.0, 40.0, 20.0, 20.0], iscrowd=1))
    assert counted(data, box(1, bbox, score=0.9))[2][0] == is_false_alarm
