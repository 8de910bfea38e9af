"""The motion gate: lets the detector run only while something moves; integer arithmetic throughout.

Method: the frame is shrunk to a gray image at most 160 px wide and compared with a background, a
running average in fixed point. A pixel that differs by more than `threshold` gray levels is
foreground, and a 3x3 median of the mask removes single pixels. The gate opens when the share of
foreground among the unmasked pixels reaches `min_area`. It stays open for `hold_s`, so that an
object that stops is not dropped at once.
- Background: it adapts in seconds, not in frames, since frames come irregularly. The time constant
  is BACKGROUND_S where nothing moved and FOREGROUND_S where something did, so that a passing object
  does not blend into the background, but a parked car does in the end.
- Light: before the comparison the background is multiplied by the ratio of brightness between
  frame and background over the pixels that were background last time, so that a cloud or the
  camera's exposure does not open the gate. If more than SCENE_CHANGE of the picture still differs
  (lamp switched on, camera turned), that counts as motion once, and a new background begins.
Assumes a fixed camera and multiplicative light changes; added haze is adapted to, not compensated.
Reading the result: `area` is a share of the unmasked picture, 0..1.
Source: running average with selective update, M. Piccardi, "Background subtraction techniques: a
review" (2004); tests/test_motion.py shows the effect of the default settings on the demo's clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.config import MotionConfig
from edge.values import Image, Polygon

WIDTH_PX = 160
BACKGROUND_S = 2.0
FOREGROUND_S = 20.0
SCENE_CHANGE = 0.5
GAIN_LIMITS = (128, 512)  # in 1/256: half to double brightness is light, beyond is a new scene
_FRACTION_BITS = 7  # of the background's fixed point: 255 << 7 times a gain fits 32 bits
_UNIT_BITS = 8
_UNIT = 1 << _UNIT_BITS  # gains and weights count in 1/256


@dataclass(frozen=True, slots=True)
class Motion:
    """The gate's result for one frame.

    is_moving: whether the gate is open: motion now or within `hold_s`.
    area: share of the unmasked picture that differs from the background, 0..1.
    """

    is_moving: bool
    area: float


class MotionGate:
    """The motion gate of one camera."""

    def __init__(self, config: MotionConfig, masks: Sequence[Polygon] = ()) -> None:
        """Take masks as polygons of frame shares; motion inside them is ignored."""
        self._config = config
        self._masks = masks
        self._background = _Background()
        self._watched: NDArray[np.bool_] = np.ones((0, 0), dtype=np.bool_)
        self._moved_s = float("-inf")

    def update(self, bgr: Image, now_s: float) -> Motion:
        """Return whether something moves; the first frame and one of another size count as motion.

        bgr: uint8, (height, width, 3), any size from 1x1; not modified.
        now_s: the frame's time, never before that of the last call.
        """
        gray = small_gray(bgr)
        if gray.shape != self._watched.shape:
            return self._begin(gray, now_s)
        foreground = self._background.differs(gray, self._config.threshold) & self._watched
        moving: Image = np.asarray(cv2.medianBlur(foreground.astype(np.uint8), 3), dtype=np.uint8)
        count, watched = int(np.count_nonzero(moving)), int(np.count_nonzero(self._watched))
        area = count / max(1, watched)
        if area > SCENE_CHANGE:
            return self._begin(gray, now_s)
        self._background.follow(gray, foreground, now_s)
        if count and area >= self._config.min_area:
            self._moved_s = now_s
        is_moving = now_s - self._moved_s <= self._config.hold_s
        return Motion(is_moving, area)

    def _begin(self, gray: Image, now_s: float) -> Motion:
        self._background.begin(gray, now_s)
        self._watched = watched_pixels(self._masks, gray.shape)
        if not self._watched.any():
            return Motion(is_moving=False, area=0.0)
        self._moved_s = now_s
        return Motion(is_moving=True, area=1.0)


class _Background:
    """The picture without moving objects, int32 fixed point with _FRACTION_BITS."""

    def __init__(self) -> None:
        self._level: NDArray[np.int32] = np.zeros((0, 0), dtype=np.int32)
        self._still: NDArray[np.bool_] = np.ones((0, 0), dtype=np.bool_)
        self._adapted_s = 0.0

    def begin(self, gray: Image, now_s: float) -> None:
        """Take the picture as the background."""
        self._level = gray.astype(np.int32) << _FRACTION_BITS
        self._still = np.ones(gray.shape, dtype=np.bool_)
        self._adapted_s = now_s

    def differs(self, gray: Image, threshold: int) -> NDArray[np.bool_]:
        """Return where the picture differs from the background in the current light."""
        expected = (self._level * self._gain(gray)) >> (_FRACTION_BITS + _UNIT_BITS)
        return np.asarray(np.abs(gray - expected) > threshold)

    def follow(self, gray: Image, foreground: NDArray[np.bool_], now_s: float) -> None:
        """Move the background towards the picture, slower where it is foreground."""
        self._still = ~foreground
        elapsed_s = now_s - self._adapted_s
        slow = int(_UNIT * min(1.0, elapsed_s / FOREGROUND_S))
        if slow == 0:  # too soon for one step: wait until enough time has passed
            return
        fast = int(_UNIT * min(1.0, elapsed_s / BACKGROUND_S))
        weight = np.where(foreground, np.int32(slow), np.int32(fast))
        step = ((gray.astype(np.int32) << _FRACTION_BITS) - self._level) * weight
        self._level += step >> _UNIT_BITS
        self._adapted_s = now_s

    def _gain(self, gray: Image) -> int:
        """Return the ratio of brightness to the background's over the still part, in 1/256."""
        before = _sum(self._level * self._still) >> _FRACTION_BITS
        now = _sum(gray * self._still)
        if before == 0:
            return _UNIT
        low, high = GAIN_LIMITS
        return min(max(now * _UNIT // before, low), high)


def _sum(values: NDArray[np.int32] | Image) -> int:
    """Return the sum, exact below 2^53; in less than half the time of numpy's `sum(where=…)`."""
    return int(cv2.sumElems(values)[0])


def small_gray(bgr: Image) -> Image:
    """Return a gray copy at most WIDTH_PX wide, uint8 (height, width), the same on every CPU.

    bgr: uint8, (height, width, 3).
    """
    height, width = bgr.shape[:2]
    if width > WIDTH_PX:
        size = (WIDTH_PX, max(1, height * WIDTH_PX // width))
        # Of the smooth interpolations only this one is bit-exact across processors.
        bgr = np.asarray(
            cv2.resize(bgr, size, interpolation=cv2.INTER_LINEAR_EXACT), dtype=np.uint8
        )
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), dtype=np.uint8)


def watched_pixels(masks: Sequence[Polygon], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return where motion counts, bool of `shape` (height, width); masks in frame shares."""
    height, width = shape
    inside = np.zeros((height, width), dtype=np.uint8)
    for polygon in masks:
        corners = np.rint(np.array(polygon) * (width - 1, height - 1)).astype(np.int32)
        cv2.fillPoly(inside, [corners], 1)
    return np.asarray(inside == 0)
