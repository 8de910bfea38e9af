"""The color labels beside a detection data set."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from edge.color import TERMS
from tools.color.data import dataset, scene_colors

LABELLED = json.loads(scene_colors.LABELS.read_bytes())


def write_detection(folder: Path, annotation: int) -> None:
    """Write a detection data set of one picture with one car, under that annotation number."""
    (folder / "train").mkdir(parents=True)
    cv2.imwrite(str(folder / "train" / "street.png"), np.zeros((60, 80, 3), np.uint8))
    content = {
        "images": [{"id": 7, "file_name": "train/street.png"}],
        "categories": [{"id": 3, "name": "car"}],
        "annotations": [
            {"id": annotation, "image_id": 7, "category_id": 3, "bbox": [10, 5, 48, 30]}
        ],
    }
    (folder / "train.json").write_text(json.dumps(content))


def test_every_answer_is_a_color_term_or_a_reason_for_none() -> None:
    answers = {row[f"label_{number}"] for row in LABELLED for number in (1, 2)}
    assert answers == {*TERMS, "mixed", "unclear"}
    assert all((row["agreed"] is None) == (row["label_1"] != row["label_2"]) for row in LABELLED)


def test_objects_get_the_pictures_and_boxes_of_the_detection_data(tmp_path: Path) -> None:
    named = next(row for row in LABELLED if row["agreed"] == "red")
    write_detection(tmp_path, named["annotation"])
    (row,) = scene_colors.rows(tmp_path)
    assert (row["image"], row["bbox"], row["cls"]) == ("street.png", [10, 5, 48, 30], "car")
    assert row["label_1"] == "red"


def test_missing_or_foreign_detection_data_gives_no_rows(tmp_path: Path) -> None:
    assert scene_colors.rows(tmp_path) == []
    write_detection(tmp_path, max(row["annotation"] for row in LABELLED) + 1)
    assert scene_colors.rows(tmp_path) == []


def test_scene_colors_are_used_for_training_and_never_for_validation(
    tmp_path: Path,
) -> None:
    named = next(row for row in LABELLED if row["agreed"] == "red")
    write_detection(tmp_path / "detection", named["annotation"])
    own = {"image": "street.png", "bbox": [20, 10, 30, 40], "cls": "person", "agreed": "blue"}
    own |= {"label_1": "blue", "sure_1": True, "label_2": "blue", "sure_2": True}
    (tmp_path / "scene_color").mkdir()
    (tmp_path / "scene_color" / "more.json").write_text(json.dumps([own]))
    items = dataset.training_items(tmp_path)
    assert {item.source: item.label for item in items} == {"more": "blue", "ours": "red"}
    kept, held = dataset.hold_out(items, 1.0)
    assert kept == []
    assert [item.label for item in held] == ["blue"]
