"""Measures how the number of representative pictures affects the integer-only accuracy.

Each result is saved at once: started again, only the missing ones are measured.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tools.classifier import charts, convert, fit
from tools.classifier.data import Pictures
from tools.classifier.description import write_json
from tools.classifier.job import MADE_FROM, Job
from tools.classifier.tflite import TFLiteClassifier
from tools.progress import track

TABLE_FILE, PLOT_FILE = "representative.csv", "representative.png"
POINTS_FILE = "representative.json"


class Points(msgspec.Struct, kw_only=True):
    """Accuracy on the validation pictures by number of representative pictures.

    made_from: identifies network and data; points of others are not reused.
    """

    made_from: str
    accuracy: dict[int, float] = {}


def sweep(net: Any, job: Job, counts: Sequence[int], output: Path) -> None:
    """Measure the counts and write a table and a plot into a folder."""
    found = _earlier_points(job, output)
    for count in track(sorted(set(counts)), "representative pictures"):
        pixels = job.pixels(count)
        if len(pixels) not in found.accuracy:
            found.accuracy[len(pixels)] = _accuracy(net, pixels, job.validation, output)
            write_json(output / POINTS_FILE, found)
        print(f"{len(pixels)} representative pictures: {found.accuracy[len(pixels)]:.4f}")
    points = dict(sorted(found.accuracy.items()))
    with (output / TABLE_FILE).open("w", newline="") as file:
        csv.writer(file).writerows([("pictures", "val_accuracy"), *points.items()])
    title = f"Integer only, {len(job.validation.labels)} validation pictures"
    axes = ("representative pictures", "accuracy")
    charts.line(points, output / PLOT_FILE, title=title, axes=axes)


def _earlier_points(job: Job, output: Path) -> Points:
    """Return the points of an earlier sweep with the same network and data, else empty ones."""
    hashes = f"{job.train.sha256} {job.validation.sha256}"
    made_from = f"{job.described.notes[MADE_FROM]}, pictures {hashes}"
    try:
        found = msgspec.json.decode((output / POINTS_FILE).read_bytes(), type=Points)
    except (FileNotFoundError, msgspec.MsgspecError):
        found = Points(made_from="")
    return found if found.made_from == made_from else Points(made_from=made_from)


def _accuracy(net: Any, pixels: Any, validation: Pictures, output: Path) -> float:
    """Return the accuracy of the integer-only file calibrated with these pictures."""
    path = output / ".sweep.tflite"
    path.write_bytes(convert.convert(net, "IO", pixels))
    classifier = TFLiteClassifier(path)
    answers = np.stack([classifier.probabilities(np.asarray(rgb)) for rgb in validation.rgb])
    path.unlink()
    return fit.accuracy(answers, validation.labels)
