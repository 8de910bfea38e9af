"""Crops of known colors, and a color training that takes a second."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from edge.color import TERMS
from tools.architectures.color import ColorArchitecture
from tools.color.data import arrays, dataset
from tools.color.data.arrays import Packed
from tools.train import color_state as stored

torch.set_num_threads(1)  # tiny batches: a second thread only waits
CPU = torch.device("cpu")
SMALL = stored.ColorTraining(
    architecture=ColorArchitecture(input_px=32, widths=(8, 8, 16)),
    epochs=6,
    batch=16,
    learning_rate=1e-2,
    warmup_steps=5,
    ema=0.8,
)
FLAT = {"red": (20, 20, 210), "blue": (190, 80, 40), "white": (240, 240, 240)}


def patches(count: int = 96) -> Packed:
    """Return flat red, green and blue patches."""
    rgb = np.full((count, 36, 36, 3), 30, np.uint8)
    shares = np.zeros((count, len(TERMS)), np.float32)
    for row in range(count):
        rgb[row, ..., row % 3] = 180 + row % 60
        shares[row, TERMS.index(("red", "green", "blue")[row % 3])] = 1
    boxes = np.tile(np.array([0.1, 0.1, 0.9, 0.9], np.float32), (count, 1))
    classes = np.full(count, arrays.NO_CLASS)
    return Packed(rgb, boxes, shares, np.ones(count, np.float32), classes, np.zeros(count, bool))


def checks() -> dict[str, Packed]:
    packed = patches(30)
    return {"patches": replace(packed, rgb=packed.rgb[:, :32, :32])}


def colored_data(data: Path) -> None:
    """Write flat pictures with labels, each in both splits."""
    folder = data / "color"
    folder.mkdir(parents=True)
    rows = [
        {"file_name": item.file.name, "split": split, "color": item.label, "source": "mine"}
        for item in flat_items(folder)
        for split in ("train", "val")
    ]
    (folder / "labels.json").write_text(json.dumps(rows))


def flat_items(folder: Path) -> list[dataset.ColorItem]:
    """Write pictures of one color each, in a frame of gray, and return them as items."""
    items = []
    for name, bgr in FLAT.items():
        picture = np.full((40, 40, 3), 128, np.uint8)
        picture[6:34, 6:34] = bgr
        cv2.imwrite(str(folder / f"{name}.png"), picture)
        shares = tuple(float(term == name) for term in TERMS)
        items.append(dataset.ColorItem(folder / f"{name}.png", None, "carpanel", name, shares, 1.0))
    return items


def write_scenes(folder: Path, rows: list[dict[str, object]]) -> None:
    """Write small black crops of a validation set, each with a row's labels."""
    (folder / "val").mkdir(parents=True)
    blank = {"split": "val", "bbox": [0, 0, 8, 6], "image": "a.jpg", "sure_1": True, "sure_2": True}
    full = [blank | {"file_name": f"{number}.png"} | row for number, row in enumerate(rows)]
    (folder / "labels.json").write_text(json.dumps(full))
    for row in full:
        cv2.imwrite(str(folder / "val" / str(row["file_name"])), np.zeros((6, 8, 3), np.uint8))
