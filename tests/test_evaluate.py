"""COCO figures on sets small enough to know the answer."""

from __future__ import annotations

import argparse
import json
import random
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("pycocotools")
pytest.importorskip("rich")

from edge import manifest
from edge.errors import InputError
from tools import dataset, evaluate
from tools.dataset import Dataset
from tools.evaluate import command

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "yolox-nano-320"
CATEGORIES = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
HERE, THERE = [10.0, 10.0, 20.0, 20.0], [60.0, 60.0, 30.0, 30.0]


def write(folder: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> Dataset:
    for number, image in enumerate(images, start=1):
        image |= {"id": number, "file_name": f"{number}.png", "width": 100, "height": 100}
        cv2.imwrite(str(folder / f"{number}.png"), np.zeros((100, 100, 3), np.uint8))
    for number, item in enumerate(annotations, start=1):
        item |= {"id": number, "area": item["bbox"][2] * item["bbox"][3]}
    document = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    path = folder / "some.json"
    path.write_text(json.dumps(document))
    return dataset.read(path, folder)


def box(category: int, bbox: list[float], image: int = 1, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": bbox, **more}


def test_perfect_detections_score_one(tmp_path: Path) -> None:
    data = write(tmp_path, [{}], [box(1, HERE), box(3, THERE)])
    found = [box(1, HERE, score=0.9), box(3, THERE, score=0.8)]
    measured = evaluate.score(data, found)
    assert (measured.ap, measured.ap50, measured.ap75) == (1.0, 1.0, 1.0)
    assert measured.classes["car"].objects == 1


def test_no_detections_score_zero(tmp_path: Path) -> None:
    data = write(tmp_path, [{}], [box(1, HERE)])
    assert evaluate.score(data, []).ap50 == 0.0


def test_a_box_half_right_counts_at_half_overlap_only(tmp_path: Path) -> None:
    data = write(tmp_path, [{}], [box(1, HERE)])
    measured = evaluate.score(data, [box(1, [10.0, 10.0, 20.0, 12.0], score=0.9)])
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
def test_false_alarm_counts_only_where_the_class_is_known(
    tmp_path: Path, image: dict[str, Any], expected: float
) -> None:
    data = write(tmp_path, [image], [box(1, HERE)])
    found = [box(1, THERE, score=0.9), box(1, HERE, score=0.8)]
    assert evaluate.score(data, found).classes["person"].ap50 == pytest.approx(expected, abs=0.01)


def test_crowd_box_neither_counts_nor_is_missed(tmp_path: Path) -> None:
    data = write(tmp_path, [{}], [box(1, HERE), box(1, THERE, iscrowd=1)])
    found = [box(1, [65.0, 65.0, 10.0, 10.0], score=0.9), box(1, HERE, score=0.8)]
    measured = evaluate.score(data, found)
    assert measured.classes["person"].ap50 == 1.0
    assert measured.classes["person"].objects == 1


def golden_set(folder: Path) -> Dataset:
    """A set of one picture whose annotations are what the shipped model must find in it."""
    golden = manifest.read(MODEL).golden
    assert golden is not None
    shutil.copy(MODEL / golden.file, folder / "1.jpg")
    numbers = {item["name"]: item["id"] for item in CATEGORIES}
    annotations = [
        box(numbers[item.label], list(item.box_px), id=number, area=1000.0, iscrowd=0)
        for number, item in enumerate(golden.detections, start=1)
    ]
    images = [{"id": 1, "file_name": "1.jpg", "width": 768, "height": 576}]
    document = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (folder / "some.json").write_text(json.dumps(document))
    return dataset.read(folder / "some.json", folder)


def test_command_measures_and_records_a_model_folder(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(MODEL, model)
    golden_set(tmp_path)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    arguments = [str(model), "--annotations", str(tmp_path / "some.json")]
    arguments += ["--images", str(tmp_path), "--json", str(tmp_path / "out.json"), "--record"]
    assert command.run(parser.parse_args(arguments)) == 0
    (figures,) = json.loads((tmp_path / "out.json").read_text())["models"]
    assert figures["ap50"] >= 0.8
    recorded = {item.metric: item.value for item in manifest.read(model).accuracy}
    assert recorded["AP50"] == figures["ap50"]
    assert (
        f"| person | {figures['classes']['person']['objects']} |" in (model / "CARD.md").read_text()
    )


def test_sample_keeps_each_sources_share_and_the_seed_decides(tmp_path: Path) -> None:
    images: list[dict[str, Any]] = [{"source": "street" if n % 4 else "room"} for n in range(40)]
    data = write(tmp_path, images, [])
    chosen = dataset.stratified(data.pictures, 12, seed=1)
    assert sum(picture.source == "room" for picture in chosen) == 3
    random.seed(9)
    assert dataset.stratified(data.pictures, 12, seed=1) == chosen
    assert dataset.stratified(data.pictures, 12, seed=2) != chosen


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": [{}], "categories": []}'])
def test_file_that_is_not_coco_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"odd\.json"):
        dataset.read(path, tmp_path)


def test_missing_annotations_and_pictures_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json"):
        dataset.read(tmp_path / "nowhere.json", tmp_path)
    data = write(tmp_path, [{}], [])
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1\.png"):
        dataset.load(data.pictures[0])
