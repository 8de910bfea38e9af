"""A contact sheet of predictions on validation pictures, written during training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tools import contact_sheet
from tools.classifier.data import Pictures
from tools.classifier.fit import Floats
from tools.contact_sheet import Tile, TileBox

TILES = 24
TILE_PX = 200
RED = (80, 80, 255)  # BGR


def write(pictures: Pictures, labels: Sequence[str], answers: Floats, path: Path) -> None:
    """Write a JPEG of pictures from all classes with the network's predictions.

    answers: probabilities (n, classes) of all pictures. A wrong prediction is framed in red, and
    its caption names the true class.
    """
    chosen = np.linspace(0, len(pictures.labels) - 1, TILES).astype(int)
    side = pictures.rgb.shape[1]
    tiles = []
    for row in chosen:
        guess, truth = int(answers[row].argmax()), int(pictures.labels[row])
        caption = f"{labels[guess]} {answers[row, guess]:.2f}"
        frame: tuple[TileBox, ...] = ()
        if guess != truth:
            caption += f", is {labels[truth]}"
            frame = (TileBox(0, 0, side - 1, side - 1, color=RED),)
        bgr = np.ascontiguousarray(pictures.rgb[row][..., ::-1])
        tiles.append(Tile(bgr, caption, frame))
    contact_sheet.write(tiles, path, tile_px=TILE_PX)
