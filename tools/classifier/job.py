"""What a conversion works on."""

from __future__ import annotations

from dataclasses import dataclass

from tools.classifier import data, representative
from tools.classifier.data import Pictures
from tools.classifier.description import Description

MADE_FROM = "made from"  # a note: network and settings


@dataclass(frozen=True)
class Job:
    """A network to convert, with its data.

    count: of the representative pictures, which come from the training split.
    """

    described: Description
    train: Pictures
    validation: Pictures
    count: int

    def pixels(self, count: int | None = None) -> data.Pixels:
        """Return the representative pictures, as many as the job's or another count says."""
        seed = self.described.training.seed
        return representative.pixels(self.train, count or self.count, seed)
