"""Whether detectors take a wide frame: `python wide_frame.py MODELS_DIR`, on ARM, too.

The upper part of each golden picture, as wide as 16:9, gives the objects that the whole one gives
there, through an input of another shape. Prints a line per model; exits with 1 if one fails.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from edge.capture import read_image
from edge.detector import Detector
from edge.interpreter import Interpreter
from edge.values import Detection

MIN_IOU = 0.6
SURE, SHOWN = 0.6, 0.3  # scores of an object that has to be found again, and of one that is found


class Answer(NamedTuple):
    """Results of one model; sizes are (width, height) of its input, for the whole and the part."""

    expected: list[Detection]
    missing: list[Detection]
    sizes: tuple[tuple[int, int], tuple[int, int]]


def answer(folder: Path) -> Answer:
    """Ask one model for the whole picture, its part, and the whole again."""
    loaded = Interpreter.load(folder)
    golden = loaded.manifest.golden
    assert golden is not None
    picture = read_image(folder / golden.file)
    height = picture.shape[1] * 9 // 16
    detector = Detector(loaded, min_score=SHOWN)
    whole, own = detector.detect(picture), loaded.input_size
    found, size = detector.detect(picture[:height]), loaded.input_size
    assert detector.detect(picture) == whole
    expected = [
        one for one in whole if one.score >= SURE and one.box_px.y + one.box_px.height < height
    ]
    missing = [one for one in expected if not any(_is_same(one, other) for other in found)]
    return Answer(expected, missing, (own, size))


def _is_same(one: Detection, other: Detection) -> bool:
    return one.label == other.label and one.box_px.iou(other.box_px) > MIN_IOU


if __name__ == "__main__":
    answers = {folder: answer(folder) for folder in Path(sys.argv[1]).glob("yolox-*")}
    for folder, (expected, missing, sizes) in answers.items():
        sys.stdout.write(f"{folder.name}: {len(expected)} objects at {sizes}, {missing} missing\n")
    sys.exit(not answers or any(one.missing or not one.expected for one in answers.values()))
