"""Masks of an object's pixels: GrabCut from a box, or from points that a person clicked.

Method: the crop is shrunk, GrabCut (Rother, Kolmogorov & Blake 2004, cv2.grabCut) segments it from
a first guess, and the mask is scaled back. From a box, everything outside is background. From
points, a disc around each is certain, and pixels of a similar color in CIELAB are probable.
Reading the result: GrabCut separates by color, so it fails where object and background have the
same colors. `from_box` then returns the ellipse in the box, with `is_guess` set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.values import Box, Image, Polygon
from tools.color.pixels import cielab

Mask = NDArray[np.bool_]
WORK_PX = 200  # longer side in which GrabCut works on a box
ROUNDS = 3  # iterations of GrabCut; a fourth changes less than 1 % of the pixels
CLICK_WORK_PX = 320  # the same with clicks: the object may be a small part of the picture
MIN_PIXELS = 20  # of object and of background: GrabCut fits five components to each
CLICK_SHARE = 0.02  # radius of the disc around a click, of the longer side
LIKE_DELTA_E = 14.0  # CIELAB distance up to which a pixel is similar to a clicked one
MIN_SHARE, MAX_SHARE = 0.08, 0.98  # of the box in the mask; otherwise GrabCut has failed
CORE_SHARE = 0.4  # of the box's sides: certain object in a second try, after a first failure
GUESS_SHARE = 0.84  # of the box's sides: the ellipse that replaces a failed mask
BORDER_PX = 3  # kept around a box that fills its picture, so that there is a background
STEP_SHARE = 0.012  # of the longer side: one step of growing or shrinking


@dataclass(frozen=True)
class Click:
    """A point a person marked; x, y: 0..1 of the picture; is_object: else background."""

    x: float
    y: float
    is_object: bool = True


@dataclass(frozen=True)
class Cut:
    """A mask, bool, (height, width) of the picture; is_guess: GrabCut failed."""

    mask: Mask
    is_guess: bool


def from_box(bgr: Image, box_px: Box) -> Cut:
    """Return the mask of the object in a box.

    bgr: uint8, (height, width, 3): the box, with surroundings where there are any.
    box_px: in that picture; may be the whole picture.
    """
    small, scale = _shrunk(bgr, WORK_PX)
    inside = _inside(small.shape[:2], box_px, scale)
    marks = np.where(inside, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    core = _ellipse(small.shape[:2], box_px, scale, CORE_SHARE) & inside
    for certain in (np.zeros_like(core), core):
        marks[certain] = cv2.GC_FGD
        mask = _largest_part(_grab_cut(small, marks) & inside)
        found, given = (float(part[inside].mean()) for part in (mask, certain))
        if MIN_SHARE + given <= found <= MAX_SHARE:
            return Cut(_full_size(mask, bgr), is_guess=False)
    ellipse = _ellipse(small.shape[:2], box_px, scale, GUESS_SHARE)
    return Cut(_full_size(ellipse, bgr), is_guess=True)


def from_clicks(bgr: Image, clicks: Sequence[Click], box_px: Box | None = None) -> Cut:
    """Return the mask of the object that a person clicked, empty when no object is found.

    clicks: on the object and beside it. box_px: the object's box where it is known; pixels outside
        are background unless they were clicked.
    """
    small, scale = _shrunk(bgr, CLICK_WORK_PX)
    marks = _marks(
        small, clicks, None if box_px is None else _inside(small.shape[:2], box_px, scale)
    )
    cut = _grab_cut(small, marks)
    certain = _discs(small.shape[:2], [click for click in clicks if click.is_object])
    mask = _touching(cut, certain) if certain.any() else _largest_part(cut)
    return Cut(_full_size(mask, bgr), is_guess=not mask.any())


def grown(mask: Mask, steps: int) -> Mask:
    """Return the mask grown by `steps`, shrunk when negative; never empty if it was not."""
    if steps == 0:
        return mask
    radius_px = max(1.0, max(mask.shape) * STEP_SHARE) * abs(steps)
    off = (mask if steps < 0 else ~mask).astype(np.uint8)
    near = cv2.distanceTransform(off, cv2.DIST_L2, cv2.DIST_MASK_5) <= radius_px
    changed = near if steps > 0 else mask & ~near
    return changed if changed.any() else mask


def bounds(mask: Mask) -> Box | None:
    """Return the smallest box around the mask, None when it is empty."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return Box(x, y, width, height) if width and height else None


def outlines(mask: Mask) -> list[Polygon]:
    """Return the mask's outer outlines, points 0..1 of the picture."""
    height, width = mask.shape
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    tight = (cv2.approxPolyDP(one, max(mask.shape) / 400, closed=True) for one in found)
    return [
        tuple((round(float(x) / width, 4), round(float(y) / height, 4)) for ((x, y),) in one)
        for one in tight
        if len(one) >= 3
    ]


def _shrunk(bgr: Image, work_px: int) -> tuple[Image, float]:
    """Return the picture with a longer side of at most `work_px`, and its scale, at most 1."""
    scale = min(1.0, work_px / max(bgr.shape[:2]))
    if scale == 1.0:
        return np.ascontiguousarray(bgr), 1.0
    size = (max(1, round(bgr.shape[1] * scale)), max(1, round(bgr.shape[0] * scale)))
    return np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def _full_size(mask: Mask, bgr: Image) -> Mask:
    size = (bgr.shape[1], bgr.shape[0])
    return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0


def _inside(shape: tuple[int, ...], box_px: Box, scale: float) -> Mask:
    """Return the box's pixels without the picture's border, which stays background."""
    height, width = shape
    border = BORDER_PX if min(height, width) > 4 * BORDER_PX else 0
    left, top, right, bottom = (round(edge * scale) for edge in box_px.corners)
    left, top = max(border, left), max(border, top)
    right, bottom = min(width - border, right), min(height - border, bottom)
    inside = np.zeros((height, width), bool)
    inside[top : max(bottom, top + 1), left : max(right, left + 1)] = True
    return inside


def _marks(small: Image, clicks: Sequence[Click], inside: Mask | None) -> NDArray[np.uint8]:
    """Return GrabCut's first guess: certain at the clicks, probable where colors are similar."""
    on = _discs(small.shape[:2], [click for click in clicks if click.is_object])
    off = _discs(small.shape[:2], [click for click in clicks if not click.is_object])
    near = _color_distance(small, on) < LIKE_DELTA_E
    marks = np.where(near, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    if inside is not None:
        marks[inside & ~near] = cv2.GC_PR_FGD
        marks[~inside] = cv2.GC_BGD
    marks[off] = cv2.GC_BGD
    marks[on] = cv2.GC_FGD
    return marks


def _discs(shape: tuple[int, ...], clicks: Sequence[Click]) -> Mask:
    height, width = shape
    drawn = np.zeros((height, width), np.uint8)
    for click in clicks:
        center = (int(click.x * width), int(click.y * height))
        cv2.circle(drawn, center, max(1, round(CLICK_SHARE * max(shape))), 1, cv2.FILLED)
    return drawn > 0


def _color_distance(small: Image, on: Mask) -> NDArray[np.float32]:
    """Return each pixel's CIELAB distance to the nearest of the clicked colors."""
    lab = cielab.from_bgr(np.asarray(cv2.GaussianBlur(small, (5, 5), 0), np.uint8))
    clicked = lab[on]
    if not len(clicked):
        return np.full(small.shape[:2], np.inf, np.float32)
    kept = clicked[:: max(1, len(clicked) // 32)]
    distances = [np.linalg.norm(lab - one, axis=2) for one in kept]
    return np.asarray(np.min(distances, axis=0), np.float32)


def _grab_cut(small: Image, marks: NDArray[np.uint8]) -> Mask:
    """Return GrabCut's foreground, or the marked one when object or background has few pixels."""
    cut = marks.copy()
    probable = (marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD)
    back, front = np.zeros((1, 65)), np.zeros((1, 65))
    whole = (0, 0, small.shape[1], small.shape[0])  # not read in this mode
    if MIN_PIXELS <= int(probable.sum()) <= probable.size - MIN_PIXELS:
        cv2.setRNGSeed(0)  # GrabCut starts at random; with a seed, a picture always has one mask
        cv2.grabCut(small, cut, whole, back, front, ROUNDS, cv2.GC_INIT_WITH_MASK)
    return np.asarray((cut == cv2.GC_FGD) | (cut == cv2.GC_PR_FGD), bool)


def _largest_part(mask: Mask) -> Mask:
    """Return the largest connected part, and the others of at least a fifth of its size."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count <= 1:
        return mask
    areas = stats[1:, cv2.CC_STAT_AREA]
    return np.isin(parts, 1 + np.flatnonzero(areas * 5 >= areas.max()))


def _touching(mask: Mask, certain: Mask) -> Mask:
    """Return the connected parts that hold a certain pixel."""
    _, parts = cv2.connectedComponents(mask.astype(np.uint8))
    return np.isin(parts, np.unique(parts[certain & mask])) & mask


def _ellipse(shape: tuple[int, ...], box_px: Box, scale: float, share: float) -> Mask:
    """Return the ellipse in the middle of the box that takes `share` of its sides."""
    height, width = shape
    drawn = np.zeros((height, width), np.uint8)
    center = [round(middle * scale) for middle in box_px.center]
    axes = [max(1, round(side * scale * share / 2)) for side in box_px[2:]]
    cv2.ellipse(drawn, center, axes, 0, 0, 360, 1, cv2.FILLED)
    return drawn > 0
