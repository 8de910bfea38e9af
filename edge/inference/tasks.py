"""What is done with each picture, as values that can be sent to other processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.color import ColorModel
from edge.config import ColorConfig
from edge.detector import Detector
from edge.inference.inputs import Picture
from edge.interpreter import Interpreter
from edge.pipeline import crop
from edge.swatch import lab_of
from edge.values import ColorScore, Detection, Image

MIN_FURTHER_COLOR = ColorConfig().min_score

EntryMaker = Callable[[Picture], dict[str, Any]]  # returns a picture's entry in the output


@dataclass(frozen=True, slots=True)
class DetectTask:
    """Finds a picture's objects, and names their colors if there is a color model.

    model, color_model: model folders. min_score: 0..1, of objects.
    """

    model: Path
    color_model: Path | None
    min_score: float

    def load(self) -> EntryMaker:
        """Load the models; the returned function serves one thread. Raises ModelError."""
        detector = Detector(Interpreter.load(self.model), min_score=self.min_score)
        color = ColorModel(Interpreter.load(self.color_model)) if self.color_model else None

        def make_entry(picture: Picture) -> dict[str, Any]:
            detections = detector.detect(picture.bgr)
            found = [_detection_entry(item, picture.bgr, color) for item in detections]
            return {**picture.head(), "detections": found}

        return make_entry


@dataclass(frozen=True, slots=True)
class ColorTask:
    """Names the colors of a picture that shows one object.

    model: model folder.
    """

    model: Path

    def load(self) -> EntryMaker:
        """Load the model; the returned function serves one thread. Raises ModelError."""
        color = ColorModel(Interpreter.load(self.model))

        def make_entry(picture: Picture) -> dict[str, Any]:
            scores = color.classify(picture.bgr, picture.label)
            dominant = color.dominant(scores)
            return {**picture.head(), "dominant": dominant, "colors": _scores(scores)}

        return make_entry


Task = DetectTask | ColorTask


def _detection_entry(detection: Detection, bgr: Image, color: ColorModel | None) -> dict[str, Any]:
    colors: list[ColorScore] = []
    bgr_crop = crop(bgr, detection.box_px) if color else None
    if color and bgr_crop is not None:
        scores = color.classify(bgr_crop, detection.label)
        further = [score for score in scores[1:] if score.score >= MIN_FURTHER_COLOR]
        name = color.dominant(scores)
        rgb = scores[0].rgb if name == scores[0].name else None
        colors = [ColorScore(name, scores[0].score, rgb), *further]
    return {
        "label": detection.label,
        "score": round(detection.score, 5),
        "box_px": [round(value, 2) for value in detection.box_px],
        "colors": _scores(colors),
    }


def _scores(colors: list[ColorScore]) -> list[dict[str, Any]]:
    return [
        {"name": color.name, "score": round(color.score, 5)}
        | ({"rgb": color.rgb, "lab": lab_of(color.rgb)} if color.rgb else {})
        for color in colors
    ]
