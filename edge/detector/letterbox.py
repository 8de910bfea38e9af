"""Writes frames into input tensors by a table of 256 values, without a float image."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.manifest import Input
from edge.values import Image

_FLIP_SIGN = np.uint8(0x80)  # pixel p -> int8 value p - 128, bit by bit
RANGES = {"0..255": (0.0, 255.0), "0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0)}


class Letterbox:
    """Writes frames into an input tensor, in the layout that its manifest states."""

    def __init__(self, spec: Input) -> None:
        self._height, self._width = spec.shape[1:3]
        self._keeps_aspect = spec.resize == "letterbox"
        self._swaps_colors = spec.color_order == "rgb"
        self._table = lookup_table(spec)
        signed = np.arange(256, dtype=np.uint8) ^ _FLIP_SIGN
        is_int8 = self._table.dtype == np.int8
        self._only_flips = is_int8 and bool(np.array_equal(self._table.view(np.uint8), signed))
        self._pad = self._table[spec.pad_value]

    def inner_size(self, frame_size: tuple[int, int]) -> tuple[int, int]:
        """Return the (width, height) in input pixels that a frame of this size covers."""
        if not self._keeps_aspect:
            return self._width, self._height
        width, height = frame_size
        ratio = min(self._width / width, self._height / height)
        return max(round(width * ratio), 1), max(round(height * ratio), 1)

    def in_frame(self, corners: NDArray[Any], frame_size: tuple[int, int]) -> NDArray[Any]:
        """Return (n, 4) corners in input pixels as pixels of the frame, clipped to it."""
        limits = np.array(frame_size * 2)
        ratios = limits / np.array(self.inner_size(frame_size) * 2)
        clipped: NDArray[Any] = np.clip(corners * ratios, 0.0, limits)
        return clipped

    def write(self, bgr: Image, view: NDArray[Any]) -> None:
        """Fill the input tensor.

        bgr: uint8, (height, width, 3). view: of the manifest's dtype, (input height, width, 3).
        Raises ValueError for an empty or wrongly shaped frame.
        """
        check_frame(bgr)
        width, height = self.inner_size((bgr.shape[1], bgr.shape[0]))
        # INTER_LINEAR_EXACT gives the same pixels on x86 and ARM.
        inner = cv2.resize(bgr, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
        if self._swaps_colors:
            inner = cv2.cvtColor(inner, cv2.COLOR_BGR2RGB)
        # A frame of another shape may have been there.
        view[height:] = self._pad
        view[:height, width:] = self._pad
        if self._only_flips:
            np.bitwise_xor(inner, _FLIP_SIGN, out=view.view(np.uint8)[:height, :width])
        else:
            view[:height, :width] = cv2.LUT(inner, self._table)


def check_frame(bgr: Image) -> None:
    """Raise ValueError for an empty or wrongly shaped frame."""
    if bgr.ndim != 3 or bgr.shape[2] != 3 or 0 in bgr.shape or bgr.dtype != np.uint8:
        raise ValueError(
            f"a frame must be uint8 (height, width, 3) and not empty, got {bgr.dtype} {bgr.shape}"
        )


def lookup_table(spec: Input) -> NDArray[Any]:
    """Return the tensor value for each pixel value 0..255, in the tensor's dtype."""
    low, high = RANGES[spec.range]
    real = np.linspace(low, high, 256)
    if spec.is_float:
        return real.astype(spec.dtype)
    limits = np.iinfo(spec.dtype)
    quantized = np.round(real / spec.scale) + spec.zero_point
    return np.clip(quantized, limits.min, limits.max).astype(spec.dtype)
