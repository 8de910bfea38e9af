"""Name the colors of an object's pixels: clusters in CIELAB, each with a basic color term.

Method: k-means over the masked pixels; clusters of nearly the same color are merged. A chromatic
cluster gets the majority term of its nearest neighbors among the named colors of the XKCD color
survey (222,500 people, R. Munroe 2010, public domain, as matplotlib ships them); a nearly
achromatic one is black, gray or white by its lightness. There is no network and no training. The
light is not corrected, so the names are a proposal for a person or a check of the model's answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.color import TERMS
from edge.values import ColorScore, Image
from tools.color.pixels import cielab
from tools.color.pixels.masks import Mask

CLUSTERS = 6
SAME_DELTA_E = 9.0  # clusters nearer than this are one surface with more and less light
MAX_PIXELS = 4000  # sampled evenly from the mask
# Chosen on scene_color/train (agreed objects): below this chroma there is no hue; its lightness
# up to BLACK_UP_TO is black, from WHITE_FROM on white.
GRAY_CHROMA = 12.0
BLACK_UP_TO = 30.0
WHITE_FROM = 64.0
DARKEST = 8.0  # below this lightness a camera sees no hue
NEIGHBORS = 7
# For a plain color that fills the picture, in `plain_shares`: between the two lightnesses (chromas)
# two names share it. Chosen on the plain swatches of color/train; white in shade is darker.
PLAIN_BLACK_GRAY = (24.0, 38.0)
PLAIN_GRAY_WHITE = (71.0, 80.0)
PLAIN_CHROMA = (6.0, 14.0)
# The rules for labellers of scene_color: beige, khaki and tan are brown, navy is blue.
ALSO = {"beige": "brown", "khaki": "brown", "tan": "brown", "navy": "blue", "grey": "gray"}


@dataclass(frozen=True)
class Cluster:
    """Pixels of one color.

    lab: CIELAB (L 0..100). rgb: sRGB levels. share: of the mask, 0..1. name: basic color term.
    """

    lab: tuple[float, float, float]
    rgb: tuple[int, int, int]
    share: float
    name: str


def clusters(bgr: Image, mask: Mask) -> list[Cluster]:
    """Return the clusters of the masked pixels, largest first; none for an empty mask."""
    pixels = bgr[mask]
    if not len(pixels):
        return []
    pixels = pixels[:: max(1, len(pixels) // MAX_PIXELS)]
    lab = cielab.from_bgr(pixels[None])[0]
    centers, shares = _merged(*_k_means(lab))
    names = [name_of(center) for center in centers]
    rgb = (cv2.cvtColor(centers[None], cv2.COLOR_LAB2RGB)[0] * 255).round().astype(int)
    found = [
        Cluster(tuple(center.tolist()), tuple(levels.tolist()), float(share), name)
        for center, levels, share, name in zip(centers, rgb, shares, names, strict=True)
    ]
    return sorted(found, key=lambda one: -one.share)


def term_shares(found: Sequence[Cluster]) -> list[ColorScore]:
    """Return the summed share of each term among the clusters, largest first."""
    total: dict[str, float] = {}
    for one in found:
        total[one.name] = total.get(one.name, 0.0) + one.share
    return ranked(total)


def ranked(shares: Mapping[str, float]) -> list[ColorScore]:
    """Return shares by name as scores, largest first."""
    return sorted((ColorScore(*item) for item in shares.items()), key=lambda one: -one.score)


def name_of(lab: NDArray[np.float32]) -> str:
    """Return the basic color term of one CIELAB color, float32, (3,)."""
    lightness, chroma = float(lab[0]), float(np.hypot(lab[1], lab[2]))
    if lightness < DARKEST or chroma < GRAY_CHROMA:
        return "black" if lightness < BLACK_UP_TO else "gray" if lightness < WHITE_FROM else "white"
    points, terms = _named_colors()
    nearest = np.argsort(np.linalg.norm(points - lab, axis=1))[:NEIGHBORS]
    return TERMS[int(np.bincount(terms[nearest]).argmax())]


def plain_shares(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the names that people would give plain colors: shares, float32 (n, 11), summing to 1.

    lab: CIELAB, float32 (n, 3), each of a surface that fills the picture.
    """
    lightness, chroma = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2])
    points, terms = _named_colors()
    apart = np.linalg.norm(lab[:, None] - points[None], axis=2)
    nearest = np.argsort(apart, axis=1)[:, :NEIGHBORS]
    hues = np.eye(len(TERMS), dtype=np.float32)[terms[nearest]].mean(1)
    above_black = _ramp(lightness, PLAIN_BLACK_GRAY)
    white = _ramp(lightness, PLAIN_GRAY_WHITE)
    grays = np.zeros_like(hues)
    for term, share in {
        "black": 1 - above_black,
        "gray": above_black - white,
        "white": white,
    }.items():
        grays[:, TERMS.index(term)] = share
    hue = (_ramp(chroma, PLAIN_CHROMA) * (lightness >= DARKEST))[:, None]
    return np.asarray(grays + hue * (hues - grays), np.float32)


def survey_colors() -> NDArray[np.float32]:
    """Return the colors of the survey whose name ends in a term, CIELAB, (n, 3)."""
    return _named_colors()[0]


def _ramp(values: NDArray[np.float32], bounds: tuple[float, float]) -> NDArray[np.float32]:
    return ((values - bounds[0]) / (bounds[1] - bounds[0])).clip(0, 1)


@cache
def _named_colors() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the survey's colors whose name ends in a term: CIELAB (n, 3), index of the term."""
    from matplotlib.colors import XKCD_COLORS, to_rgb

    rgb, terms = [], []
    for name, code in XKCD_COLORS.items():
        last = name.removeprefix("xkcd:").split()[-1]
        term = ALSO.get(last, last)
        if term in TERMS:
            rgb.append(to_rgb(code))
            terms.append(TERMS.index(term))
    lab = cielab.from_rgb(np.array(rgb))
    return lab, np.array(terms)


def _k_means(lab: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return centers (k, 3) and their shares."""
    if len(lab) == 1:  # cv2.kmeans reads one row as its samples
        return lab, np.ones(1)
    count = min(CLUSTERS, len(np.unique(lab, axis=0)))
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
    unset = np.empty(0, np.int32)
    cv2.setRNGSeed(0)  # the same pixels, the same clusters
    _, rows, centers = cv2.kmeans(lab, count, unset, stop, 1, cv2.KMEANS_PP_CENTERS)
    return np.asarray(centers, np.float32), np.bincount(rows[:, 0], minlength=count) / len(lab)


def _merged(
    centers: NDArray[np.float32], shares: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the clusters after merging the nearest two until all differ by SAME_DELTA_E."""
    while len(centers) > 1:
        apart = np.linalg.norm(centers[:, None] - centers[None], axis=2)
        np.fill_diagonal(apart, np.inf)
        one, other = np.unravel_index(apart.argmin(), apart.shape)
        if apart[one, other] >= SAME_DELTA_E:
            break
        whole = shares[one] + shares[other]
        centers[one] = (centers[one] * shares[one] + centers[other] * shares[other]) / whole
        shares[one] = whole
        centers, shares = np.delete(centers, other, 0), np.delete(shares, other)
    return centers, shares
