"""The picture in a detector's card: its hits and errors in pictures free to redistribute."""

from __future__ import annotations

from pathlib import Path

from edge.detector import Detector
from edge.interpreter import Interpreter
from tools import contact_sheet, dataset
from tools.detector_card import SEEN_FILE
from tools.evaluate import confusion, pictures
from tools.evaluate.accuracy import collect, restrict_to_labels

PICTURES = Path(__file__).parents[1] / "assets" / "seen"
SHOWN = 8  # one row of hits, one row of errors
TILE_PX = 180


def draw(folder: Path) -> None:
    """Write `seen.jpg` into a model folder; nothing if the model knows none of the labels.

    Objects of labels that the model does not know do not count as missed.
    Raises ModelError when the model does not load.
    """
    loaded = Interpreter.load(folder)
    every = dataset.read(PICTURES / "labels.json", PICTURES)
    data = restrict_to_labels(every, loaded.manifest.labels)
    detector = Detector(loaded, min_score=confusion.SHOWN_SCORE)
    found = list(confusion.matches(data, collect(detector.detect, data)))
    hits, errors = pictures.choose(found, SHOWN)
    tiles = [pictures.tile(match, data) for match in (*hits, *errors)]
    if tiles:
        contact_sheet.write(tiles, folder / SEEN_FILE, columns=SHOWN, tile_px=TILE_PX)
