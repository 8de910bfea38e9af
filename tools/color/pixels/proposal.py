"""What a machine would answer for an object's color: the color model and the pixels' clusters.

The model names the dominant color; the clusters of the mask (`naming`) add further colors and are
the second opinion that makes an answer sure. The model sees the box as it is, as in
the daemon: with the surroundings painted gray, which it never saw, it names fewer objects right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.color import ColorModel
from edge.interpreter import Interpreter
from edge.values import Box, ColorScore, Image
from tools.color.data.labels import UNCLEAR
from tools.color.pixels import cielab
from tools.color.pixels.crop import cut_out
from tools.color.pixels.masks import Mask
from tools.color.pixels.naming import Cluster, clusters, ranked, term_shares

CLUSTER_WEIGHT = 0.3  # of the clusters beside the model's 1: on labelled objects as good as none
FURTHER_FROM = 0.15  # share from which a further color is named, as for the labellers
DARK_L = 12.0  # CIELAB lightness: where hardly a pixel is lighter, nothing is seen
SURE_SHARE, SURE_CLUSTER = 0.7, 0.25  # the model's share, and that of the same term in the mask


@dataclass(frozen=True)
class Proposal:
    """An answer in a labeller's words.

    label: a term, or `unclear` in the dark; `mixed` is left to people.
    colors: dominant first, then further colors.
    shares: of the surface per term, largest first, summing to 1.
    clusters: the mask's surfaces, largest first; none without a mask.
    """

    label: str
    colors: tuple[str, ...]
    is_sure: bool
    shares: tuple[ColorScore, ...]
    clusters: tuple[Cluster, ...]


class Proposer:
    """Proposes colors with one color model; one thread at a time."""

    def __init__(self, model: Path) -> None:
        """Load a color model's folder; ModelError when it is none."""
        self.model = ColorModel(Interpreter.load(model))

    def propose(self, bgr: Image, box_px: Box, mask: Mask | None, cls: str = "") -> Proposal:
        """Return the answer for the object in a box of a picture.

        bgr: uint8, (height, width, 3). mask: of the object, (height, width); None = not known.
        cls: what the object is; empty where that is not known.
        """
        crop = cut_out(bgr, box_px)
        said = {score.name: score.score for score in self.model.classify(crop, cls or None)}
        found = [] if mask is None else clusters(bgr, mask)
        seen = {score.name: score.score for score in term_shares(found)}
        shares = _mean(said, seen)
        first = shares[0]
        sure = said[first.name] >= SURE_SHARE and seen.get(first.name, 0.0) >= SURE_CLUSTER
        label = first.name
        if _is_dark(crop):
            label, sure = UNCLEAR, False
        return Proposal(label, named(shares), sure, tuple(shares), tuple(found))


def named(shares: Sequence[ColorScore]) -> tuple[str, ...]:
    """Return the colors a labeller would list: the largest, and further ones large enough."""
    further = [one.name for one in shares[1:3] if one.score >= FURTHER_FROM]
    return (shares[0].name, *further)


def _mean(said: dict[str, float], seen: dict[str, float]) -> list[ColorScore]:
    weight = CLUSTER_WEIGHT if seen else 0.0
    whole = 1 + weight
    return ranked(
        {name: (share + weight * seen.get(name, 0.0)) / whole for name, share in said.items()}
    )


def _is_dark(bgr: Image) -> bool:
    """Return whether nothing in the crop is lighter than DARK_L."""
    return bool(np.percentile(cielab.from_bgr(bgr)[..., 0], 95) < DARK_L)
