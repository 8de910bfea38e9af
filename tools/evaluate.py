"""COCO accuracy of a detector, through the daemon's own code.

Honest with partly labelled pictures: where a class is not annotated exhaustively, an unmatched
detection of it counts neither for nor against (an image-sized crowd box), and so does anything in
an ignore region. Command: `edge-tools evaluate detect MODEL --annotations FILE --images FOLDER`;
with yolox_nano.onnx as MODEL the float original is measured, at `--size` pixels.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.detector import Detector
from edge.interpreter import Interpreter
from edge.values import Detection, Image
from tools import dataset
from tools.dataset import Dataset, Picture

EXAMPLES = """\
example:
  edge-tools evaluate detect models/yolox-nano-320 \\
    --annotations ../shared/data/detection/val.json --images ../shared/data/detection
  edge-tools evaluate detect ../shared/weights/yolox_nano.onnx --size 320 \\
    --annotations ../shared/data/detection/val.json --images ../shared/data/detection
"""
MIN_SCORE = 0.01  # the curve's tail below adds nothing to AP
MAX_DETECTIONS = 100  # per image, COCO's own


@dataclass(frozen=True)
class ClassAccuracy:
    """One label: average precision over IoU 0.50:0.95, at 0.50, and annotated objects."""

    ap: float
    ap50: float
    objects: int


@dataclass(frozen=True)
class Accuracy:
    """COCO's figures, 0..1: AP over IoU 0.50:0.95, at 0.50 and 0.75, means over the labels."""

    dataset: str
    images: int
    ap: float
    ap50: float
    ap75: float
    classes: dict[str, ClassAccuracy]


def ground_truth(data: Dataset) -> dict[str, Any]:
    """Return a COCO document whose crowd boxes say what must not be counted."""
    annotations = [dict(item) for item in data.annotations]
    for picture in data.pictures:
        annotations += list(_uncounted(picture, data.labels))
    for number, item in enumerate(annotations, start=1):  # pycocotools takes id 0 for no match
        item["id"] = number
        item.setdefault("area", item["bbox"][2] * item["bbox"][3])
        item.setdefault("iscrowd", 0)
    images = [
        {"id": picture.image_id, "width": picture.width, "height": picture.height}
        for picture in data.pictures
    ]
    categories = [{"id": number, "name": name} for number, name in data.labels.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _uncounted(picture: Picture, labels: dict[int, str]) -> Iterator[dict[str, Any]]:
    whole = (0.0, 0.0, float(picture.width), float(picture.height))
    for number, name in labels.items():
        unknown = name not in picture.exhaustive_classes
        for box in [whole] if unknown else picture.ignore_regions:
            yield {
                "image_id": picture.image_id,
                "category_id": number,
                "bbox": list(box),
                "area": box[2] * box[3],
                "iscrowd": 1,
            }


def collect(
    detect: Callable[[Image], list[Detection]], data: Dataset, *, show_progress: bool = False
) -> list[dict[str, Any]]:
    """Return COCO result dicts of every picture; labels that the set lacks are left out."""
    from rich.progress import track

    numbers = {name: number for number, name in data.labels.items()}
    results: list[dict[str, Any]] = []
    for picture in track(data.pictures, "evaluate", disable=not show_progress):
        results += [
            {
                "image_id": picture.image_id,
                "category_id": numbers[found.label],
                "bbox": list(found.box_px),
                "score": found.score,
            }
            for found in detect(dataset.load(picture))
            if found.label in numbers
        ]
    return results


def score(data: Dataset, results: list[dict[str, Any]]) -> Accuracy:
    """Return the accuracy of COCO result dicts on a set."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = COCO()
        truth.dataset = ground_truth(data)
        truth.createIndex()
        found = truth.loadRes(results) if results else COCO()
        run = COCOeval(truth, found, "bbox")
        run.evaluate()
        run.accumulate()
    # (IoU, recall, class, area, maximum of detections); -1 where a class has no object.
    precision = run.eval["precision"][:, :, :, 0, -1]
    counts = dict.fromkeys(data.labels, 0)
    for item in data.annotations:
        counts[item["category_id"]] += not item.get("iscrowd", 0)
    classes = {
        data.labels[number]: ClassAccuracy(
            _mean(precision[:, :, index]), _mean(precision[0, :, index]), counts[number]
        )
        for index, number in enumerate(run.params.catIds)
    }
    return Accuracy(
        dataset=data.name,
        images=len(data.pictures),
        ap=_mean(precision),
        ap50=_mean(precision[0]),
        ap75=_mean(precision[5]),
        classes=classes,
    )


def _mean(precision: np.ndarray[Any, Any]) -> float:
    known = precision[precision > -1]
    return round(float(known.mean()), 4) if known.size else float("nan")


def evaluate(folder: Path, data: Dataset) -> Accuracy:
    """Return the accuracy of a model folder on a set.

    Raises ModelError, InputError.
    """
    detector = Detector(Interpreter.load(folder), min_score=MIN_SCORE)
    return score(data, collect(detector.detect, data))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `edge-tools evaluate detect` takes."""
    parser.add_argument("model", type=Path, help="model folder, or yolox_nano.onnx: in float")
    parser.add_argument("--size", type=int, default=320, help="input side of the float original")
    parser.add_argument(
        "--builtin", action="store_true", help="the runtime's built-in kernels, not XNNPACK"
    )
    parser.add_argument("--annotations", type=Path, required=True, help="COCO JSON file")
    parser.add_argument("--images", type=Path, required=True, help="folder of its pictures")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument(
        "--record", action="store_true", help="store the figures in the model's manifest and card"
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate, print a table, write or record the figures where asked; return the exit code."""
    from tools import package

    data = dataset.read(args.annotations, args.images)
    detect = _detect(args)
    measured = score(data, collect(detect, data, show_progress=True))
    _print(measured)
    if args.json:
        args.json.write_text(json.dumps(asdict(measured), indent=2) + "\n")
    if args.record and args.model.is_dir():
        package.record_accuracy(args.model, measured)
    return 0


def _detect(args: argparse.Namespace) -> Callable[[Image], list[Detection]]:
    """Return what finds objects: the model folder's detector or the float original."""
    if args.model.suffix == ".onnx":
        from tools.float_detector import FloatDetector

        return FloatDetector(args.model, args.size, min_score=MIN_SCORE).detect
    interpreter = Interpreter.load(args.model, xnnpack=not args.builtin)
    return Detector(interpreter, min_score=MIN_SCORE).detect


def _print(measured: Accuracy) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("class", "objects", "AP", "AP50", title=f"{measured.dataset}, {measured.images}")
    for name, item in measured.classes.items():
        table.add_row(name, str(item.objects), f"{item.ap:.3f}", f"{item.ap50:.3f}")
    total = sum(item.objects for item in measured.classes.values())
    table.add_row("all", str(total), f"{measured.ap:.3f}", f"{measured.ap50:.3f}")
    Console().print(table)
