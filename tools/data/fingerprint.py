"""Finds near-duplicate pictures by perceptual hashes, confirmed by small color thumbnails.

The hash (phash of the imagehash library: signs of the lowest DCT coefficients) is robust to scaling
and recompression but ignores color and says little about plain pictures. So two pictures with
similar hashes must also look alike at 8x8 pixels.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge.values import Image
from tools.data.convert import decode

HASH_BITS = 64
MAX_BITS = 4  # hash bits that may differ; recompressed pictures differ in 0 to 4
BANDS = tuple(  # bit masks that partition the hash
    (1 << HASH_BITS * (at + 1) // (MAX_BITS + 1)) - (1 << HASH_BITS * at // (MAX_BITS + 1))
    for at in range(MAX_BITS + 1)
)
THUMBNAIL_SIDE = 8
MAX_LEVELS = 8  # mean difference of the thumbnails, in levels of 0..255


@dataclass(frozen=True)
class Fingerprint:
    """size: (width, height). phash: 64 bits. thumbnail: 8x8x3 levels. sha256: of the file."""

    size: tuple[int, int]
    phash: int
    thumbnail: bytes
    sha256: str


def take(path: Path) -> Fingerprint:
    """Return a file's fingerprint; InputError when it is not a complete picture."""
    import imagehash
    from PIL import Image as Pillow

    bgr = decode(path)
    small = cv2.resize(bgr, (64, 64), interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    return Fingerprint(
        size=(bgr.shape[1], bgr.shape[0]),
        phash=int(str(imagehash.phash(Pillow.fromarray(gray))), 16),
        thumbnail=_thumbnail(bgr),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def _thumbnail(bgr: Image) -> bytes:
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return np.asarray(cv2.resize(bgr, side, interpolation=cv2.INTER_AREA), np.uint8).tobytes()


def alike(one: Fingerprint, other: Fingerprint) -> bool:
    """Return whether two pictures are near-duplicates."""
    if (one.phash ^ other.phash).bit_count() > MAX_BITS:
        return False
    levels = [np.frombuffer(item.thumbnail, np.uint8).astype(np.int16) for item in (one, other)]
    return float(np.abs(levels[0] - levels[1]).mean()) <= MAX_LEVELS


def groups(prints: Sequence[Fingerprint]) -> list[list[int]]:
    """Return the indices grouped by near-duplicates (transitively), single pictures included.

    Two hashes that differ in at most MAX_BITS bits are equal in at least one of MAX_BITS + 1 bands
    (pigeonhole), so only pictures that share a band are compared, and of these only those that are
    not in one group yet: a thousand similar pictures of a fixed camera take a thousand comparisons.
    """
    forest = _UnionFind(len(prints))
    for band in range(len(BANDS)):
        buckets: dict[int, list[int]] = defaultdict(list)
        for index, item in enumerate(prints):
            buckets[item.phash & BANDS[band]].append(index)
        for bucket in buckets.values():
            _join(bucket, prints, band, forest)
    members: dict[int, list[int]] = defaultdict(list)
    for index in range(len(prints)):
        members[forest.root(index)].append(index)
    return list(members.values())


class _UnionFind:
    """Disjoint sets of indices: following the parents of a member leads to its group's root."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def root(self, index: int) -> int:
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def join(self, one: int, other: int) -> None:
        self._parent[self.root(other)] = self.root(one)


def _join(bucket: list[int], prints: Sequence[Fingerprint], band: int, forest: _UnionFind) -> None:
    """Join near-duplicates among the pictures that share a band."""
    parts: dict[int, list[int]] = {}  # members seen so far, by their root
    for index in bucket:
        own = forest.root(index)
        found = [
            root
            for root, members in parts.items()
            if root == own or any(_is_new(prints[index], prints[other], band) for other in members)
        ]
        met = parts.pop(found[0]) if found else []
        met.append(index)
        for root in found:
            forest.join(root, index)
            met += parts.pop(root, ())
        parts[forest.root(index)] = met


def _is_new(one: Fingerprint, other: Fingerprint, band: int) -> bool:
    """Return whether two pictures are near-duplicates that no earlier band compared."""
    differing = one.phash ^ other.phash
    return all(differing & mask for mask in BANDS[:band]) and alike(one, other)
