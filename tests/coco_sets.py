"""Small COCO sets whose figures are known: black pictures, and a model's golden picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge import manifest
from tools import dataset
from tools.dataset import Dataset

MODEL = Path(__file__).parents[1] / "models" / "yolox-nano-352"
CATEGORIES = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
HERE, THERE = [10.0, 10.0, 20.0, 20.0], [60.0, 60.0, 30.0, 30.0]


def write_set(
    folder: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]
) -> Dataset:
    """A set of black pictures of 100x100 pixels with these annotations, written and read."""
    for number, image in enumerate(images, start=1):
        image |= {"id": number, "file_name": f"{number}.png", "width": 100, "height": 100}
        cv2.imwrite(str(folder / f"{number}.png"), np.zeros((100, 100, 3), np.uint8))
    for number, item in enumerate(annotations, start=1):
        item |= {"id": number, "area": item["bbox"][2] * item["bbox"][3]}
    document = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    path = folder / "some.json"
    path.write_text(json.dumps(document))
    return dataset.read(path, folder)


def annotation(category: int, bbox: list[float], image: int = 1, **more: Any) -> dict[str, Any]:
    """One annotation of a COCO file, without id and area."""
    return {"image_id": image, "category_id": category, "bbox": bbox, **more}


def golden_set(folder: Path) -> Dataset:
    """A set of one picture whose annotations are what the shipped model must find in it."""
    golden = manifest.read(MODEL).golden
    assert golden is not None
    shutil.copy(MODEL / golden.file, folder / "1.jpg")
    numbers = {item["name"]: item["id"] for item in CATEGORIES}
    annotations = [
        annotation(numbers[item.label], list(item.box_px), id=number, area=1000.0, iscrowd=0)
        for number, item in enumerate(golden.detections, start=1)
    ]
    images = [{"id": 1, "file_name": "1.jpg", "width": 768, "height": 576}]
    document = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (folder / "some.json").write_text(json.dumps(document))
    return dataset.read(folder / "some.json", folder)
