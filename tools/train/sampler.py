"""Weighted sampling of training pictures: those with rare labels are drawn more often.

A picture's weight is that of its rarest label: (pictures with the commonest label / pictures with
this label) ** balance. Source: Gupta et al., LVIS, 2019 (repeat factor sampling, balance 0.5).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from tools.train.labels import LabelledPicture


@dataclass(frozen=True)
class Sampler:
    """Pictures and the cumulative sums of their weights."""

    labelled: Sequence[LabelledPicture]
    cumulative: Sequence[float]

    def draw(self, count: int, rng: random.Random) -> list[LabelledPicture]:
        """Return `count` pictures, drawn independently (with replacement)."""
        return rng.choices(self.labelled, cum_weights=self.cumulative, k=count)


def sampler(labelled: Sequence[LabelledPicture], balance: float) -> Sampler:
    """Return a sampler. balance: 0 draws all pictures equally often, 1 all labels."""
    shown = [set(picture.labels.tolist()) for picture in labelled]
    pictures = Counter(label for labels in shown for label in labels)
    most = max(pictures.values(), default=1)
    weights = [
        max(((most / pictures[label]) ** balance for label in labels), default=1.0)
        for labels in shown
    ]
    return Sampler(labelled, list(accumulate(weights)))
