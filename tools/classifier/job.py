"""The input of a conversion."""

from __future__ import annotations

from dataclasses import dataclass

from tools.classifier import data, representative
from tools.classifier.data import Pictures
from tools.classifier.description import Description

MADE_FROM = "made from"  # key of the note with the network's hash and the settings


@dataclass(frozen=True)
class Job:
    """A network's description and the data for its conversion.

    count: number of representative pictures, taken from the training split.
    """

    described: Description
    train: Pictures
    validation: Pictures
    count: int

    def pixels(self, count: int | None = None) -> data.Pixels:
        """Return `count` representative pictures; default: the job's count."""
        seed = self.described.training.seed
        return representative.pixels(self.train, count or self.count, seed)
