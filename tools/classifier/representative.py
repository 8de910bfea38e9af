"""Chooses the training pictures that calibrate the activation ranges, balanced by class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tools.classifier.data import Pictures, Pixels


def choose(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.intp]:
    """Return the rows of `count` pictures: classes in turn, each class in random order.

    A smaller count gives a prefix of a larger one, so that counts can be compared. Returns all rows
    if there are fewer pictures.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(labels))
    turns = np.empty(len(labels), np.intp)
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        turns[of_class] = np.arange(len(of_class))
    return np.lexsort((labels, turns))[:count]


def pixels(pictures: Pictures, count: int, seed: int) -> Pixels:
    """Return the chosen pictures, uint8 (n, side, side, 3)."""
    return np.asarray(pictures.rgb[choose(pictures.labels, count, seed)])
