"""Which pictures a training step sees: those with rare labels more often than by chance.

A picture's weight is that of its rarest label: (pictures of the commonest label / pictures of this
one) ** balance. Source: Gupta et al., LVIS, 2019 (repeat factor sampling, with a balance of 0.5).
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
    """Pictures with the running sums of their weights."""

    labelled: Sequence[LabelledPicture]
    cumulative: Sequence[float]

    def draw(self, count: int, rng: random.Random) -> list[LabelledPicture]:
        """Return pictures, drawn independently of each other."""
        return rng.choices(self.labelled, cum_weights=self.cumulative, k=count)


def sampler(labelled: Sequence[LabelledPicture], balance: float) -> Sampler:
    """Return a sampler of the pictures. balance: 0 draws all alike, 1 all labels alike."""
    shown = [set(picture.labels.tolist()) for picture in labelled]
    pictures = Counter(label for labels in shown for label in labels)
    most = max(pictures.values(), default=1)
    weights = [
        max(((most / pictures[label]) ** balance for label in labels), default=1.0)
        for labels in shown
    ]
    return Sampler(labelled, list(accumulate(weights)))
