"""COCO figures on sets small enough to know the answer."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pycocotools")
pytest.importorskip("rich")

from coco_sets import HERE, THERE, annotation, write_set
from tools import detector_card
from tools.evaluate import accuracy


@pytest.mark.parametrize(
    ("side", "size"), [(31, "small"), (32, "medium"), (95, "medium"), (96, "large")]
)
def test_sizes_are_cocos(side: int, size: str) -> None:
    assert accuracy.size_of({"bbox": [5, 5, side, side]}) == size
    assert accuracy.size_of({"bbox": [5, 5, 9, 9], "area": side**2}) == size


def test_perfect_detections_score_one(tmp_path: Path) -> None:
    data = write_set(tmp_path, [{}], [annotation(1, HERE), annotation(3, THERE)])
    found = [annotation(1, HERE, score=0.9), annotation(3, THERE, score=0.8)]
    measured = accuracy.score(data, found)
    assert (measured.ap, measured.ap50, measured.ap75) == (1.0, 1.0, 1.0)
    assert measured.classes["car"].objects == 1


def test_subset_of_classes_is_measured_alone(tmp_path: Path) -> None:
    data = write_set(tmp_path, [{}], [annotation(1, HERE), annotation(3, THERE)])
    found = [annotation(1, HERE, score=0.9)]
    assert accuracy.score(data, found).ap50 == 0.5
    part = accuracy.restrict_to_labels(data, ["person", "forklift"])
    measured = accuracy.score(part, found)
    assert (measured.ap50, list(measured.classes)) == (1.0, ["person"])


def test_no_detections_score_zero(tmp_path: Path) -> None:
    data = write_set(tmp_path, [{}], [annotation(1, HERE)])
    assert accuracy.score(data, []).ap50 == 0.0


def test_box_with_partial_overlap_counts_at_iou_half_only(tmp_path: Path) -> None:
    data = write_set(tmp_path, [{}], [annotation(1, HERE)])
    measured = accuracy.score(data, [annotation(1, [10.0, 10.0, 20.0, 12.0], score=0.9)])
    assert measured.ap50 == 1.0
    assert measured.ap75 == 0.0


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({}, 0.5),
        ({"exhaustive_classes": ["person", "car"]}, 0.5),
        ({"exhaustive_classes": ["car"]}, 1.0),
        ({"ignore_regions": [[55, 55, 45, 45]]}, 1.0),
        ({"ignore_regions": [[0, 0, 5, 5]]}, 0.5),
    ],
    ids=["plain", "exhaustive", "unknown_class", "in_ignore_region", "beside_ignore_region"],
)
def test_false_positive_counts_only_where_the_class_is_exhaustive(
    tmp_path: Path, image: dict[str, Any], expected: float
) -> None:
    data = write_set(tmp_path, [image], [annotation(1, HERE)])
    found = [annotation(1, THERE, score=0.9), annotation(1, HERE, score=0.8)]
    assert accuracy.score(data, found).classes["person"].ap50 == pytest.approx(expected, abs=0.01)


def test_crowd_box_neither_counts_nor_is_missed(tmp_path: Path) -> None:
    data = write_set(tmp_path, [{}], [annotation(1, HERE), annotation(1, THERE, iscrowd=1)])
    found = [annotation(1, [65.0, 65.0, 10.0, 10.0], score=0.9), annotation(1, HERE, score=0.8)]
    measured = accuracy.score(data, found)
    assert measured.classes["person"].ap50 == 1.0
    assert measured.classes["person"].objects == 1


def test_sizes_and_sources_are_measured_apart(tmp_path: Path) -> None:
    images: list[dict[str, Any]] = [{"source": "street"}, {"source": "room"}]
    large = [0.0, 0.0, 98.0, 99.0]
    data = write_set(tmp_path, images, [annotation(1, HERE), annotation(1, large, image=2)])
    found = [annotation(1, HERE, score=0.9), annotation(1, HERE, image=2, score=0.8)]
    measured = accuracy.add_source_accuracy(accuracy.score(data, found), data, found)
    assert (measured.sizes["small"].ap50, measured.sizes["small"].objects) == (1.0, 1)
    assert (measured.sizes["large"].ap50, measured.sizes["large"].objects) == (0.0, 1)
    assert math.isnan(measured.sizes["medium"].ap50)
    assert {name: (one.ap50, one.objects) for name, one in measured.sources.items()} == {
        "room": (0.0, 1),
        "street": (1.0, 1),
    }


def test_class_named_as_a_size_is_counted_apart_from_it(tmp_path: Path) -> None:
    data = write_set(tmp_path, [{}], [annotation(1, HERE), annotation(3, THERE)])
    data = replace(data, labels={1: "small", 3: "car"})
    measured = accuracy.score(data, [])
    assert measured.classes["small"].objects == 1
    assert measured.sizes["small"].objects == 2


def test_false_positive_in_one_source_does_not_count_in_another(tmp_path: Path) -> None:
    images: list[dict[str, Any]] = [{"source": "street"}, {"source": "room"}]
    data = write_set(tmp_path, images, [annotation(1, HERE), annotation(1, HERE, image=2)])
    found = [annotation(1, THERE, image=2, score=0.9)]
    found += [annotation(1, HERE, score=0.8), annotation(1, HERE, image=2, score=0.8)]
    sources = accuracy.add_source_accuracy(accuracy.score(data, found), data, found).sources
    assert list(sources) == ["room", "street"]
    assert (sources["street"].ap, sources["street"].ap75) == (1.0, 1.0)
    assert sources["room"].ap50 == pytest.approx(0.5, abs=0.01)
    part = accuracy.restrict_to_source(data, "street")
    assert [picture.image_id for picture in part.pictures] == [1]
    assert [item["image_id"] for item in part.annotations] == [1]


def test_hundred_objects_of_a_picture_count(tmp_path: Path) -> None:
    places = [[10.0 * (n % 10), 10.0 * (n // 10), 9.0, 9.0] for n in range(100)]
    data = write_set(tmp_path, [{}], [annotation(1, place) for place in places])
    found = [annotation(1, place, score=0.9) for place in places]
    assert accuracy.score(data, found).ap == 1.0


def test_missing_area_is_that_of_the_box(tmp_path: Path) -> None:
    """A wide box is larger than the square of its height: as COCO's files have both."""
    data = write_set(tmp_path, [{}], [annotation(1, [0.0, 0.0, 64.0, 24.0])])
    bare = tuple({key: item[key] for key in ("image_id", "category_id", "bbox")}
                 for item in data.annotations)  # fmt: skip
    data = replace(data, annotations=bare)
    measured = accuracy.score(data, [annotation(1, [0.0, 0.0, 64.0, 24.0], score=0.9)])
    assert measured.sizes["medium"] == accuracy.GroupAccuracy(1.0, 1.0, 1, 1.0)


def test_area_of_an_outline_decides_the_size(tmp_path: Path) -> None:
    """COCO's files give the object's own area, which is smaller than its box's."""
    wide = [0.0, 0.0, 64.0, 24.0]
    data = write_set(tmp_path, [{}], [annotation(1, wide)])
    data = replace(data, annotations=({**data.annotations[0], "area": 700.0},))
    measured = accuracy.score(data, [annotation(1, wide, score=0.9)])
    assert measured.sizes["small"] == accuracy.GroupAccuracy(1.0, 1.0, 1, 1.0)


def test_curves_fall_from_one_for_a_perfect_class_and_leave_out_absent_ones(tmp_path: Path) -> None:
    data = write_set(tmp_path, [{}], [annotation(1, HERE)])
    run_ = accuracy.accumulated(data, [annotation(1, HERE, score=0.9)])
    curves = accuracy.curves(data, run_)
    assert list(curves) == ["person"]
    recall, precision = curves["person"]
    assert recall.shape == precision.shape == (101,)
    np.testing.assert_allclose(precision, 1.0)


def test_pictures_without_a_source_are_not_listed_as_a_source(tmp_path: Path) -> None:
    data = write_set(
        tmp_path, [{"source": "street"}, {}], [annotation(1, HERE), annotation(1, HERE, image=2)]
    )
    measured = accuracy.add_source_accuracy(accuracy.score(data, []), data, [])
    assert list(measured.sources) == ["street"]
    nowhere = replace(measured, sources={})
    assert "| source |" not in detector_card.measured_part(nowhere, "command", has_seen=False)
