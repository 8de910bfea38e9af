"""The picture in a detector's card: its hits and errors in pictures that may be shipped."""

from __future__ import annotations

from pathlib import Path

from edge.detector import Detector
from edge.interpreter import Interpreter
from tools import dataset
from tools.detector_card import SEEN_FILE
from tools.evaluate import confusion, pictures
from tools.evaluate.accuracy import collect

PICTURES = Path(__file__).parents[1] / "assets" / "seen"
SHOWN = 12  # hits, and as many errors


def draw(folder: Path) -> None:
    """Write `seen.jpg` into a model folder.

    Raises ModelError when the model does not load.
    """
    data = dataset.read(PICTURES / "labels.json", PICTURES)
    detector = Detector(Interpreter.load(folder), min_score=confusion.SHOWN_SCORE)
    found = list(confusion.matches(data, collect(detector.detect, data)))
    pictures.write(found, data, folder / SEEN_FILE, count=SHOWN)
