"""Rendered scenes with known objects: flat-colored ellipses on a textured ground."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edge.values import Box, Image

SIZE = (240, 180)  # width, height
CENTER, AXES = (130, 90), (55, 40)
BOX_PX = Box(75, 50, 110, 80)
BGR = {"red": (40, 30, 200), "blue": (190, 80, 30), "yellow": (40, 215, 240), "white": (240,) * 3}


def scene(color: str, seed: int = 0) -> Image:
    """Return a picture with one object of a color in BOX_PX."""
    random = np.random.default_rng(seed)
    ground = random.normal((95, 108, 98), 6, (SIZE[1], SIZE[0], 3)).clip(0, 255).astype(np.uint8)
    cv2.ellipse(ground, CENTER, AXES, 0, 0, 360, BGR[color], cv2.FILLED, cv2.LINE_AA)
    return ground


def truth() -> np.ndarray:
    """Return the object's true mask."""
    drawn = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    cv2.ellipse(drawn, CENTER, AXES, 0, 0, 360, 1, cv2.FILLED)
    return drawn > 0


def overlap(mask: np.ndarray) -> float:
    """Return intersection over union with the true mask."""
    return float((mask & truth()).sum() / (mask | truth()).sum())


def write_scenes(folder: Path, colors: tuple[str, ...] = ("red", "blue", "yellow")) -> Path:
    """Write one picture per color, named 0-red.png and so on, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, color in enumerate(colors):
        cv2.imwrite(str(folder / f"{number}-{color}.png"), scene(color, number))
    return folder


def write_boxes(folder: Path, names: Sequence[str]) -> Path:
    """Write a COCO file for the pictures of scenes, with the object's box in each; return it."""
    document = {
        "categories": [{"id": 1, "name": "car"}],
        "images": [
            {"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1]}
            for number, name in enumerate(names)
        ],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 1, "bbox": list(BOX_PX)}
            for number in range(len(names))
        ],
    }
    path = folder / "boxes.json"
    path.write_text(json.dumps(document))
    return path
