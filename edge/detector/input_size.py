"""The size of a detector's input that suits a frame, for networks that take more than one.

A letterbox in the network's own shape wastes pixels: a 16:9 frame covers 70 % of 480x384. The same
number of pixels in the frame's own shape shows it larger in the same time.
"""

from __future__ import annotations

import math
from functools import lru_cache

# Objects must become a tenth larger. On pictures nearer to the network's own shape nothing is
# gained (tools/README.md, "The input follows the frame").
MIN_GAIN = 1.1


@lru_cache(maxsize=64)
def fitting(own: tuple[int, int], stride: int, frame_size: tuple[int, int]) -> tuple[int, int]:
    """Return the (width, height) of the input in which a frame is shown largest.

    own: (width, height) that the network was made with. The result has no more pixels, so it takes
        no more time, and no side below half of own's shorter one. It is `own` where another size
        gains less than MIN_GAIN.
    stride: pixels that each side is a multiple of. frame_size: (width, height), 1x1 or more.
    """
    best = max(
        _sizes(own, stride, frame_size), key=lambda size: _rank(size, frame_size), default=own
    )
    is_worth_it = _scale(best, frame_size) >= MIN_GAIN * _scale(own, frame_size)
    return best if is_worth_it else own


def _sizes(own: tuple[int, int], stride: int, frame_size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return candidates, one for each height: as wide as the frame needs, within own's pixels."""
    pixels = own[0] * own[1]
    shortest = math.ceil(min(own) / 2 / stride) * stride
    sizes = []
    for height in range(shortest, pixels // shortest + 1, stride):
        needed = math.ceil(height * frame_size[0] / frame_size[1] / stride) * stride
        allowed = pixels // height // stride * stride
        sizes.append((max(min(needed, allowed), shortest), height))
    return sizes


def _rank(size: tuple[int, int], frame_size: tuple[int, int]) -> tuple[float, int]:
    """Return the key by which sizes are compared: the frame's scale, then the fewer pixels."""
    return _scale(size, frame_size), -size[0] * size[1]


def _scale(size: tuple[int, int], frame_size: tuple[int, int]) -> float:
    """Return how many input pixels a letterboxed frame's pixel gets, along a side."""
    return min(size[0] / frame_size[0], size[1] / frame_size[1])
