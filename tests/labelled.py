"""Rendered labelled pictures in every format that `edge-tools data import` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.values import Image
from tools.cli import main

SIZE = (96, 64)
BOX = (20, 10, 30, 40)  # x, y, width, height of the object


def picture(seed: int, size: tuple[int, int] = SIZE) -> Image:
    """Blobs of random colors, another for every seed, with a white object at BOX."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    bgr = cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
    x, y, width, height = BOX
    cv2.rectangle(bgr, (x, y), (x + width - 1, y + height - 1), (255, 255, 255), -1)
    return np.asarray(bgr, np.uint8)


def save(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture(seed))
    return path


def coco(root: Path, count: int) -> Path:
    """Pictures and instances.json; even ones show a cat, odd ones a dog."""
    images, found = [], []
    for number in range(count):
        save(root / "images" / f"{number:03}.jpg", number)
        width, height = SIZE
        images.append(
            {"id": number, "file_name": f"{number:03}.jpg", "width": width, "height": height}
        )
        found.append(
            {"id": number, "image_id": number, "category_id": 1 + number % 2, "bbox": list(BOX)}
        )
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    file = root / "instances.json"
    file.write_text(json.dumps({"images": images, "annotations": found, "categories": categories}))
    return file


def voc_xml(name: str, label: str, *, difficult: int = 0) -> str:
    x, y, width, height = BOX
    return (
        f"<annotation><filename>{name}</filename><source><database>mine</database></source>"
        f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height></size>"
        f"<object><name>{label}</name><difficult>{difficult}</difficult><bndbox>"
        f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + width}</xmax>"
        f"<ymax>{y + height}</ymax></bndbox></object></annotation>"
    )


def voc(root: Path, count: int) -> Path:
    (root / "Annotations").mkdir(parents=True)
    for number in range(count):
        save(root / "JPEGImages" / f"{number}.jpg", number)
        label = "dog" if number % 2 else "cat"
        (root / "Annotations" / f"{number}.xml").write_text(voc_xml(f"{number}.jpg", label))
    return root


def yolo(root: Path, count: int) -> Path:
    (root / "labels" / "train").mkdir(parents=True)
    x, y, width, height = BOX
    center = ((x + width / 2) / SIZE[0], (y + height / 2) / SIZE[1])
    numbers = (*center, width / SIZE[0], height / SIZE[1])
    for number in range(count):
        save(root / "images" / "train" / f"{number}.jpg", number)
        line = f"{number % 2} " + " ".join(f"{value:.6f}" for value in numbers)
        (root / "labels" / "train" / f"{number}.txt").write_text(line + "\n")
    (root / "data.yaml").write_text("names: {0: cat, 1: dog}\n")
    return root


def folders(root: Path, count: int) -> Path:
    for number in range(count):
        save(root / ("dog" if number % 2 else "cat") / f"{number}.png", number)
    return root


def imported(source: Path, kind: str, output: Path, *more: str) -> int:
    words = ["data", "import", str(source), "--format", kind, "--output", str(output)]
    return main([*words, "--workers", "1", *more])


def document(output: Path, name: str = "annotations") -> dict[str, Any]:
    return dict(json.loads((output / f"{name}.json").read_text()))
