"""Composites: crops of objects whose surface is repainted, with another light and background.

Method: GrabCut cuts out the object of a crop that both labellers were sure of; its surface is the
pixels whose own name is the label (`edge.swatch`). These are moved in CIELAB to the surface color
of another object, keeping the shading, and the label's share of the target moves with them. Half of
the objects get another crop as background. The white balance of each composite is
random, from a lamp's to that of a shaded sky. Crops with a failed mask or a small surface are not
used, because their true color after repainting would not be known.
Source of the idea: Dwibedi, Misra & Hebert, Cut, Paste and Learn, 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.color import TERMS
from edge.swatch import terms_of
from edge.values import Box, Image
from tools.color.data import arrays, dataset
from tools.color.data.arrays import Packed
from tools.color.data.dataset import ColorItem
from tools.color.data.rows import BoxPx
from tools.color.pixels import cielab, masks
from tools.color.pixels.masks import Mask
from tools.progress import track

MIN_SIDE_PX = 48.0  # of a box: in smaller ones GrabCut and pixels' names are unreliable
MIN_SURFACE = 0.35  # least share of the object's pixels whose own name is the label
BACKGROUND_SHARE = 0.5  # of the objects that get another background
TEXTURE = (0.5, 1.5)  # bounds of the change of contrast; lighter surfaces have more contrast
LAMP_SKY = 0.16  # largest log gain of red against blue, to either side
SOFT_EDGE = 0.008  # of the longer side: blur of the surface's edge
Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class _Object:
    """A cut-out object: its crop, where the box lies in it, its pixels and those of its surface.

    color: median CIELAB of the surface.
    """

    item: ColorItem
    bgr: Image
    box_px: BoxPx
    mask: Mask
    surface: Mask
    color: Pixels


def pack(
    items: Sequence[ColorItem], count: int, side: int, margin: float, seed: int, cache: Path
) -> Packed:
    """Return `count` composites made of the items, in the layout of `arrays.pack`.

    Fewer when few objects can be cut out: each is used at most as often as there are terms. From
    the cache folder when they were made before.
    """
    if count == 0:
        return arrays.pack([], side, margin)
    crops = f"{list(items)} {arrays.fingerprint(items)}"
    mark = f"composites/2 {count} {side} {margin} {seed} {crops}"
    stored = arrays.cached(mark, cache, lambda: vars(_composites(items, count, side, margin, seed)))
    return Packed(**stored)


def _composites(
    items: Sequence[ColorItem], count: int, side: int, margin: float, seed: int
) -> Packed:
    rng = np.random.default_rng(seed)
    objects = _objects(items, margin)
    count = min(count, len(objects) * len(TERMS))
    donors = {term: [one for one in objects if one.item.label == term] for term in TERMS}
    terms = [term for term in TERMS if donors[term]]
    made, crops = [], []
    for index in track(np.resize(rng.permutation(len(objects)), count), "composites"):
        one, term = objects[index], str(rng.choice(terms))
        donor = donors[term][rng.integers(len(donors[term]))]
        behind = objects[rng.integers(len(objects))]
        made.append(replace(one.item, label=term, shares=_moved(one.item, term)))
        crops.append((_composite(one, donor, behind, rng), one.box_px))
    return arrays.stretched(made, crops, side)


def _objects(items: Sequence[ColorItem], margin: float) -> list[_Object]:
    """Return the objects with a good mask and a large enough surface."""
    usable = [
        item
        for item in items
        if item.is_sure
        and item.label is not None
        and item.box_px is not None
        and min(item.box_px[2:]) >= MIN_SIDE_PX
    ]
    crops = dataset.read_crops(usable, margin)
    found = (
        _object(item, bgr, box_px)
        for item, (bgr, box_px) in track(
            zip(usable, crops, strict=True), "cutting out", total=len(usable)
        )
    )
    return [one for one in found if one is not None]


def _object(item: ColorItem, bgr: Image, box_px: BoxPx) -> _Object | None:
    cut = masks.from_box(bgr, Box(*box_px))
    named = terms_of(np.ascontiguousarray(bgr[..., ::-1])) == TERMS.index(str(item.label))
    surface = cut.mask & named
    if cut.is_guess or surface.sum() < MIN_SURFACE * cut.mask.sum():
        return None
    color = np.median(cielab.from_bgr(bgr)[surface], axis=0).astype(np.float32)
    return _Object(item, bgr.copy(), box_px, cut.mask, surface, color)


def _composite(one: _Object, donor: _Object, behind: _Object, rng: np.random.Generator) -> Image:
    """Return the object's crop with the donor's surface color, before another's crop or its own."""
    lab = cielab.from_bgr(one.bgr)
    contrast = np.clip(donor.color[0] / max(one.color[0], 1.0), *TEXTURE)
    scale = np.array([contrast, 0.5, 0.5], np.float32)  # variation of hue is halved
    painted = donor.color + (lab - one.color) * scale
    bgr = _mixed(one.bgr.astype(np.float32), _bgr(painted), one.surface)
    if rng.random() < BACKGROUND_SHARE:
        height, width = bgr.shape[:2]
        place = cv2.resize(behind.bgr, (width, height), interpolation=cv2.INTER_AREA)
        bgr = _mixed(np.asarray(place, np.float32), bgr, one.mask)
    warmth = rng.uniform(-LAMP_SKY, LAMP_SKY)
    gains = np.exp(np.array([-warmth, 0.0, warmth], np.float32) / 2)
    return np.asarray((bgr * gains).round().clip(0, 255), np.uint8)


def _mixed(under: Pixels, over: Pixels, where: Mask) -> Pixels:
    """Return `over` where the mask is and `under` elsewhere, with a soft edge."""
    deviation = max(0.5, SOFT_EDGE * max(where.shape))
    share = cv2.GaussianBlur(where.astype(np.float32), (0, 0), deviation)[..., None]
    return np.asarray(under + (over - under) * share, np.float32)


def _moved(item: ColorItem, term: str) -> tuple[float, ...]:
    """Return the item's target with the share of its label given to another term."""
    shares = list(item.shares)
    moved = shares[TERMS.index(str(item.label))]
    shares[TERMS.index(str(item.label))] = 0.0
    shares[TERMS.index(term)] += moved
    return tuple(shares)


def _bgr(lab: Pixels) -> Pixels:
    """Return levels 0..255, float32, of CIELAB; what sRGB cannot show is cut off."""
    lab = np.concatenate([lab[..., :1].clip(0, 100), lab[..., 1:].clip(-127, 127)], 2)
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2BGR) * 255).clip(0, 255)
