"""What the network says of some validation pictures: a sheet to look at while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edge.errors import InputError
from edge.values import Image
from tools.classifier.data import Pictures
from tools.classifier.fit import Floats

TILES, COLUMNS = 24, 6
TILE_PX, CAPTION_PX = 160, 20
GREEN, RED = (80, 200, 80), (80, 80, 255)  # BGR


def write(pictures: Pictures, labels: Sequence[str], answers: Floats, path: Path) -> None:
    """Write a JPEG with pictures spread over the classes and the network's answers.

    answers: (n, classes), for all pictures. A wrong one is red and says what it is.
    """
    chosen = np.linspace(0, len(pictures.labels) - 1, TILES).astype(int)
    tiles = []
    for row in chosen:
        guess, truth = int(answers[row].argmax()), int(pictures.labels[row])
        text = f"{labels[guess]} {answers[row, guess]:.2f}"
        text += "" if guess == truth else f", is {labels[truth]}"
        tiles.append(_tile(pictures.rgb[row][..., ::-1], text, GREEN if guess == truth else RED))
    rows = [np.hstack(tiles[at : at + COLUMNS]) for at in range(0, TILES, COLUMNS)]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.vstack(rows)):
        raise InputError(f"{path}: cannot be written; check space and rights")


def _tile(bgr: Image, text: str, color: tuple[int, int, int]) -> Image:
    size = (TILE_PX, TILE_PX)
    large = cv2.resize(np.ascontiguousarray(bgr), size, interpolation=cv2.INTER_LINEAR_EXACT)
    bar = np.zeros((CAPTION_PX, TILE_PX, 3), np.uint8)
    cv2.putText(bar, text, (3, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.38, color, 1, cv2.LINE_AA)
    return np.asarray(np.vstack([large, bar]), np.uint8)
