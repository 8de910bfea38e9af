"""Which pictures show the same: perceptual hashes, confirmed by small color thumbnails.

The hash (phash of the imagehash library: signs of the lowest DCT coefficients) survives scaling
and recompression but knows no color and little of plain pictures, so what it finds alike must also
look alike at 8x8 pixels.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from edge.values import Image
from tools.data.convert import decode

HASH_BITS = 64
MAX_BITS = 4  # of the hashes may differ: recompressed pictures differ in 0 to 4
THUMBNAIL_SIDE = 8
MAX_LEVELS = 8  # of 255, mean difference of the thumbnails


@dataclass(frozen=True)
class Fingerprint:
    """size: (width, height). phash: 64 bits. thumbnail: 8x8x3 levels. sha256: of the file."""

    size: tuple[int, int]
    phash: int
    thumbnail: bytes
    sha256: str


def take(path: Path) -> Fingerprint:
    """Return a file's fingerprint; InputError when it is not a whole picture."""
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
    """Return whether two pictures show the same."""
    if one.sha256 == other.sha256:
        return True
    if (one.phash ^ other.phash).bit_count() > MAX_BITS:
        return False
    levels = [np.frombuffer(item.thumbnail, np.uint8).astype(np.int16) for item in (one, other)]
    return float(np.abs(levels[0] - levels[1]).mean()) <= MAX_LEVELS


def pairs(prints: Sequence[Fingerprint]) -> Iterator[tuple[int, int]]:
    """Yield every pair of indices that show the same, once.

    Two hashes that differ in at most MAX_BITS agree in one of MAX_BITS + 1 bands whole, so only
    pictures with a band in common are compared.
    """
    seen: set[tuple[int, int]] = set()
    for band in range(MAX_BITS + 1):
        shift, end = (HASH_BITS * at // (MAX_BITS + 1) for at in (band, band + 1))
        buckets: dict[int, list[int]] = defaultdict(list)
        for index, item in enumerate(prints):
            buckets[(item.phash >> shift) & ((1 << (end - shift)) - 1)].append(index)
        for bucket in buckets.values():
            for pair in combinations(bucket, 2):
                if pair not in seen and alike(prints[pair[0]], prints[pair[1]]):
                    seen.add(pair)
                    yield pair


def groups(prints: Sequence[Fingerprint]) -> list[list[int]]:
    """Return indices in groups that show the same, directly or through others; singles, too."""
    root = list(range(len(prints)))

    def find(index: int) -> int:
        while root[index] != index:
            root[index] = root[root[index]]
            index = root[index]
        return index

    for one, other in pairs(prints):
        root[find(other)] = find(one)
    members: dict[int, list[int]] = defaultdict(list)
    for index in range(len(prints)):
        members[find(index)].append(index)
    return list(members.values())
