"""Chooses the input size that suits a frame, for networks that accept more than one size.

A letterbox in the network's own shape wastes pixels: a 16:9 frame covers 70 % of 480x384. The same
number of pixels in the frame's shape shows the objects larger in about the same time. Source of
both constants: tools/experiments-detector.md, "The input follows the frame".
"""

from __future__ import annotations

import math
from functools import lru_cache

from edge.manifest import Manifest

# Objects must become a tenth larger: for frames closer to the network's own shape, another size
# gains nothing.
MIN_GAIN = 1.1
# An input may have 4 % more pixels than the network's own shape, and take that much longer: sides
# come in steps of the stride, and 544x320 instead of 480x352 makes much of 3 %.
MOST_PIXELS = 1.04


def size_for(model: Manifest, frame_size: tuple[int, int]) -> tuple[int, int]:
    """Return the (width, height) of a model's input for a frame: its own unless it follows frames.

    frame_size: (width, height), 1x1 or more.
    """
    own = model.input.size
    if not model.input.follows_frame:
        return own
    return fitting(own, max(model.decoder.strides), frame_size)


@lru_cache(maxsize=64)
def fitting(own: tuple[int, int], stride: int, frame_size: tuple[int, int]) -> tuple[int, int]:
    """Return the (width, height) of the input that shows a frame largest.

    own: (width, height) that the network was made with. The result has at most MOST_PIXELS times
        as many pixels. No side is below half of own's shorter one. The result is `own` when another
        size gains less than MIN_GAIN.
    stride: each side is a multiple of it, in pixels. frame_size: (width, height), 1x1 or more.
    """
    best = max(
        _sizes(own, stride, frame_size), key=lambda size: _rank(size, frame_size), default=own
    )
    is_worth_it = _scale(best, frame_size) >= MIN_GAIN * _scale(own, frame_size)
    return best if is_worth_it else own


def _sizes(own: tuple[int, int], stride: int, frame_size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return candidates, one for each height: as wide as the frame needs, within the pixels."""
    pixels = math.floor(own[0] * own[1] * MOST_PIXELS)
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
    """Return the input pixels per pixel of a letterboxed frame, along a side."""
    return min(size[0] / frame_size[0], size[1] / frame_size[1])
