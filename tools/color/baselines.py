"""Classical ways to name a crop's color, for comparison with the network: k-means, and trees.

Both work in CIELAB on a crop shrunk to 48x48 pixels. `KMeans` takes the center of the largest of
four clusters of the crop's middle and names it by the nearest prototype of a term. `Trees` gives a
histogram of the whole crop and one of its middle to extremely randomized trees, trained on
everything the network is trained on.
Sources: Lloyd 1982; Geurts et al. 2006; prototypes: sRGB focal colors after Berlin & Kay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.color import TERMS, shrink
from edge.values import Image
from tools.color.data import arrays
from tools.color.data.dataset import ColorItem

SIDE_PX = 48
MIDDLE = slice(SIDE_PX // 5, SIDE_PX - SIDE_PX // 5)
CLUSTERS = 4
BINS = (6, 9, 9)  # of lightness, a and b
TREES = 200
FOCAL_RGB = (
    (20, 20, 20), (240, 240, 240), (128, 128, 128), (200, 20, 30), (245, 130, 30), (250, 220, 40),
    (40, 140, 60), (40, 80, 190), (120, 50, 150), (245, 150, 190), (115, 70, 40),
)  # fmt: skip


class Baseline(Protocol):
    """Names a crop's color."""

    def shares(self, bgr_crop: Image) -> NDArray[np.float64]:
        """Return float64 (11,), in the order of TERMS, summing to 1, of a uint8 crop."""
        ...


class KMeans:
    """Nearest prototype of the largest cluster; shares fall with the distance."""

    def __init__(self) -> None:
        focal = np.array(FOCAL_RGB, np.uint8)[None, :, ::-1]
        self._focal = cv2.cvtColor(np.ascontiguousarray(focal), cv2.COLOR_BGR2LAB)[0].astype(float)

    def shares(self, bgr_crop: Image) -> NDArray[np.float64]:
        """See `Baseline`."""
        pixels = _lab(bgr_crop)[MIDDLE, MIDDLE].reshape(-1, 3).astype(np.float32)
        cv2.setRNGSeed(1)
        stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 10, 1.0)
        best = np.zeros((len(pixels), 1), np.int32)
        _, clusters, centers = cv2.kmeans(pixels, CLUSTERS, best, stop, 1, cv2.KMEANS_PP_CENTERS)
        largest = int(np.bincount(np.asarray(clusters).ravel()).argmax())
        distances = np.linalg.norm(self._focal - np.asarray(centers)[largest], axis=1)
        raised = np.exp(-(distances - distances.min()) / 10)
        result: NDArray[np.float64] = raised / raised.sum()
        return result


class Trees:
    """Extremely randomized trees on histograms in CIELAB."""

    def __init__(self, forest: Any) -> None:
        self._forest = forest

    @classmethod
    def fit(cls, items: Sequence[ColorItem], cache: Path) -> Self:
        """Return trees trained on the items' leading terms, weighted as the items are."""
        from sklearn.ensemble import ExtraTreesClassifier

        plain = [replace(item, object_class=None) for item in items]
        packed = arrays.pack_cached(plain, SIDE_PX, 0.0, cache)
        inputs = np.stack([histogram(np.ascontiguousarray(rgb[..., ::-1])) for rgb in packed.rgb])
        forest = ExtraTreesClassifier(TREES, min_samples_leaf=2, n_jobs=1, random_state=1)
        return cls(forest.fit(inputs, packed.shares.argmax(1), packed.weights))

    def shares(self, bgr_crop: Image) -> NDArray[np.float64]:
        """See `Baseline`."""
        found = np.zeros(len(TERMS))
        found[self._forest.classes_] = self._forest.predict_proba(histogram(bgr_crop)[None])[0]
        return found


def histogram(bgr_crop: Image) -> NDArray[np.float32]:
    """Return shares of bins of the crop and of its middle, float32 (2 * 6 * 9 * 9,)."""
    lab = _lab(bgr_crop)
    return np.concatenate([_bins(lab), _bins(np.ascontiguousarray(lab[MIDDLE, MIDDLE]))])


def _bins(lab: NDArray[np.uint8]) -> NDArray[np.float32]:
    # Colors of objects lie in the middle of a and b: the outer levels share the outer bins.
    ranges = [0, 256, 128 - 54, 128 + 54, 128 - 54, 128 + 54]
    clipped = lab.copy()
    clipped[..., 1:] = clipped[..., 1:].clip(128 - 54, 128 + 53)
    counts = np.asarray(cv2.calcHist([clipped], [0, 1, 2], None, list(BINS), ranges), np.float32)
    found: NDArray[np.float32] = counts.ravel() / np.float32(lab.shape[0] * lab.shape[1])
    return found


def _lab(bgr_crop: Image) -> NDArray[np.uint8]:
    small = shrink(bgr_crop, (SIDE_PX, SIDE_PX))
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2LAB), np.uint8)
