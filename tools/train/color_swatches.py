"""Swatches: rendered crops of one plain color with a known name, such as a paint chip.

In pictures of scenes white objects in shade are gray, so a network trained on these alone calls
plain gray, and plain pink, white. The target of a swatch is the name of its color by
`naming.plain_shares`; augmentation does not change its light.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.color import TERMS
from tools.color.data.arrays import NO_CLASS, Packed
from tools.color.pixels import cielab
from tools.color.pixels.naming import plain_shares, survey_colors

MEASURED = 220  # crops for measuring models
MEASURED_SEED = 2**32 - 1  # unlikely as the seed of a training
CANDIDATES = 40  # colors drawn for each crop, so that there are enough of rare terms
SURVEY_SPREAD = 6.0  # CIELAB: around the survey's colors
GRAY_SPREAD = 2.5
SHADING = 0.1  # largest change of light from one edge to the other, of the color's levels
SHADED = 0.5  # share of the crops with such a change
Pixels = NDArray[np.float32]


def pack(count: int, side: int, seed: int) -> Packed:
    """Return `count` crops of side x side pixels, with all terms equally frequent."""
    rng = np.random.default_rng(seed)
    lab = _drawn(max(count, len(TERMS)) * CANDIDATES, rng)
    shares = plain_shares(lab)
    leading = shares.argmax(1)
    terms = [term for term in range(len(TERMS)) if (leading == term).any()]
    rows = [rng.choice(np.flatnonzero(leading == term)) for term in np.resize(terms, count)]
    colors = cv2.cvtColor(lab[rows][None], cv2.COLOR_LAB2RGB)[0] if count else lab[:0]
    crops = [_shaded(color, side, rng) for color in colors]
    return Packed(
        rgb=np.array(crops, np.uint8).reshape(-1, side, side, 3),
        boxes=np.tile(np.array([0, 0, 1, 1], np.float32), (count, 1)),
        shares=shares[rows],
        weights=np.ones(count, np.float32),
        classes=np.full(count, NO_CLASS, np.int64),
        steady=np.ones(count, bool),
    )


def measured(side: int) -> Packed:
    """Return the crops for measuring models, (220, side, side, 3)."""
    return pack(MEASURED, side, MEASURED_SEED)


def _drawn(count: int, rng: np.random.Generator) -> Pixels:
    """Return CIELAB colors in the sRGB gamut: near the survey's, anywhere, and nearly gray."""
    third = -(-count // 3)
    named = survey_colors()[rng.integers(len(survey_colors()), size=third)]
    survey = named + rng.normal(0, SURVEY_SPREAD, named.shape)
    anywhere = cielab.from_rgb(rng.random((third, 3)))
    grays = np.c_[rng.uniform(0, 100, third), rng.normal(0, GRAY_SPREAD, (third, 2))]
    drawn = np.concatenate([survey, anywhere, grays])[rng.permutation(3 * third)[:count]]
    rgb = cv2.cvtColor(drawn.astype(np.float32)[None], cv2.COLOR_LAB2RGB)[0]
    return cielab.from_rgb(rgb.clip(0, 1))


def _shaded(rgb: Pixels, side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a square of one color (sRGB 0..1), uint8; some fade towards one edge."""
    change = rng.uniform(0, SHADING) * (rng.random() < SHADED)
    angle = rng.uniform(0, 2 * np.pi)
    steps = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    light = 1 + change * (np.cos(angle) * steps[None, :] + np.sin(angle) * steps[:, None])
    levels: NDArray[np.uint8] = (light[..., None] * rgb * 255).round().clip(0, 255).astype(np.uint8)
    return levels
