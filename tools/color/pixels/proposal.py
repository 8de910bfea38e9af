"""Propose a color label for an object from the color model and the clusters of its pixels.

The model names the dominant color; the clusters of the mask (`naming`) add further colors, and an
answer is sure only when they confirm it. The model gets the box with its background, as in the
daemon: with the background painted gray, which it was not trained on, it names fewer objects right.
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

CLUSTER_WEIGHT = 0.3  # beside the model's 1; does not change accuracy on labelled objects
FURTHER_FROM = 0.15  # least share of a further color, as in the rules for labellers
DARK_L = 12.0  # CIELAB lightness: a crop with hardly a lighter pixel is too dark to name
SURE_SHARE, SURE_CLUSTER = 0.7, 0.25  # least share by the model, and in the mask, to be sure


@dataclass(frozen=True)
class Proposal:
    """A proposed label.

    label: a basic term, or `unclear` for a dark crop; never `mixed`, which is left to people.
    colors: dominant first, then further colors.
    shares: of the surface per term, largest first, summing to 1.
    clusters: of the mask's pixels, largest first; none without a mask.
    """

    label: str
    colors: tuple[str, ...]
    is_sure: bool
    shares: tuple[ColorScore, ...]
    clusters: tuple[Cluster, ...]


class Proposer:
    """Proposes colors with one color model; one thread at a time."""

    def __init__(self, model: Path) -> None:
        """Load a color model's folder; ModelError when it cannot be loaded."""
        self.model = ColorModel(Interpreter.load(model))

    def propose(self, bgr: Image, box_px: Box, mask: Mask | None, cls: str = "") -> Proposal:
        """Return the proposal for the object in a box of a picture.

        bgr: uint8, (height, width, 3). mask: of the object, (height, width); None = not known.
        cls: the object's class, empty where it is not known.
        """
        crop = cut_out(bgr, box_px)
        by_model = {score.name: score.score for score in self.model.classify(crop, cls or None)}
        found = [] if mask is None else clusters(bgr, mask)
        by_mask = {score.name: score.score for score in term_shares(found)}
        shares = _mean(by_model, by_mask)
        label = shares[0].name
        is_sure = by_model[label] >= SURE_SHARE and by_mask.get(label, 0.0) >= SURE_CLUSTER
        if _is_dark(crop):
            label, is_sure = UNCLEAR, False
        return Proposal(label, named(shares), is_sure, tuple(shares), tuple(found))


def named(shares: Sequence[ColorScore]) -> tuple[str, ...]:
    """Return the dominant color and up to two further ones of at least FURTHER_FROM."""
    further = [one.name for one in shares[1:3] if one.score >= FURTHER_FROM]
    return (shares[0].name, *further)


def _mean(by_model: dict[str, float], by_mask: dict[str, float]) -> list[ColorScore]:
    """Return the weighted mean of both shares, largest first; the model's without a mask."""
    weight = CLUSTER_WEIGHT if by_mask else 0.0
    whole = 1 + weight
    return ranked(
        {
            name: (share + weight * by_mask.get(name, 0.0)) / whole
            for name, share in by_model.items()
        }
    )


def _is_dark(bgr: Image) -> bool:
    """Return whether 95 % of the crop are darker than DARK_L."""
    return bool(np.percentile(cielab.from_bgr(bgr)[..., 0], 95) < DARK_L)
