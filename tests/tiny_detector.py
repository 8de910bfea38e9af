"""A detector and a set of pictures, small enough to train on in a test."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import torch

from tools.architectures import yolox
from tools.train import detect

LABELS = {1: "person", 3: "car"}


def random_weights(folder: Path) -> Path:
    """A network of random weights, in the file that `train detect` reads and writes."""
    torch.manual_seed(1)
    path = folder / "random.pt"
    yolox.save(yolox.YoloxNano(), path, "random")
    return path


def set_of_persons(folder: Path) -> Path:
    """A COCO file of eight gray pictures, each with one white person."""
    images, boxes = [], []
    for number in range(1, 9):
        picture = np.full((60, 80, 3), 90, np.uint8)
        picture[10:40, 20:35] = 255
        cv2.imwrite(str(folder / f"{number}.png"), picture)
        images.append({"id": number, "file_name": f"{number}.png", "width": 80, "height": 60})
        boxes.append({"id": number, "image_id": number, "category_id": 1, "bbox": [20, 10, 15, 30]})
    categories = [{"id": number, "name": name} for number, name in LABELS.items()]
    path = folder / "set.json"
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    return path


def train(coco: Path, weights: Path, out: Path, *more: str) -> int:
    parser = argparse.ArgumentParser()
    detect.add_arguments(parser)
    arguments = ["--weights", str(weights), "--train", str(coco), "--val", str(coco)]
    arguments += ["--images", str(coco.parent), "--output", str(out)]
    arguments += ["--sizes", "64", "--size", "64", "--threads", "1"]
    return detect.run(parser.parse_args([*arguments, "--steps", "4", "--every", "2", *more]))
