"""Names the colors of an object: its crop in, the share of each basic color term out.

Method: a small integer network sees the whole crop, stretched to its input, and gives one logit
per term; a softmax with a temperature fitted on validation data turns them into shares that sum
to 1. The network has learned to ignore background in the crop. It does so better when it knows the
object's class (a dog in front of a person), which it gets as constant planes beside the pixels, one
for each class that the manifest names.
Reading the result: the first share is the dominant color; further colors of the object follow.
Below the manifest's `unknown_below` the crop is too dark, blurred or mixed to name one color.
Larger shares come with a swatch of their color (`edge.swatch`). A model's output `cells` says which
parts of the crop are evidence for each term; without that output, all parts are.

Shrinking halves the crop while it is much larger than the input, so that no pixel is skipped, and
then stretches it, all by INTER_LINEAR_EXACT: an exact half is the mean of 2x2 pixels. That gives
the same result on every CPU and is five times as fast as INTER_AREA, which differs by 1 between
CPUs. No float image is ever made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from edge import swatch
from edge.errors import ModelError
from edge.interpreter import Interpreter
from edge.manifest import Manifest
from edge.values import UNKNOWN_COLOR, ColorScore, Image

# Berlin & Kay's basic color terms, in the order of every label list and figure of this project.
TERMS = (
    "black",
    "white",
    "gray",
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
)
# A side is halved while it is at least this many times the target; below that no pixel is skipped.
HALVE_FROM = 1.5
CELLS = "cells"  # name of the output with each term's evidence in each part of the crop
MIN_SHOWN = 0.1  # share from which a color gets a swatch
_FLIP_SIGN = np.uint8(0x80)  # pixel p -> int8 value p - 128, bit by bit
SWATCH_STEP = 3  # every third pixel of every third row is enough for a median


def shrink(bgr: Image, size: tuple[int, int]) -> Image:
    """Return the crop stretched to `size` (width, height) without aliasing.

    bgr: uint8, (height, width, 3), any size from 1x1, may be a view; not modified.
    Raises ValueError for an empty crop or one that is not a uint8 image of three channels.
    """
    if bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.dtype != np.uint8:
        raise ValueError(f"crop must be uint8 (height, width, 3), not {bgr.dtype} {bgr.shape}")
    if bgr.size == 0:
        raise ValueError(f"crop is empty: {bgr.shape[1]}x{bgr.shape[0]} pixels")
    while True:
        height, width = bgr.shape[:2]
        step = (_next_side(width, size[0]), _next_side(height, size[1]))
        # When halving, this drops an odd last row or column: whole 2x2 blocks are faster.
        whole = bgr[: 2 * step[1], : 2 * step[0]]
        bgr = np.asarray(cv2.resize(whole, step, interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)
        if step == size:
            return bgr


def _next_side(side: int, target: int) -> int:
    """Return half the side while that is not far below the target, else the target."""
    return side // 2 if side >= HALVE_FROM * target else target


class ColorModel:
    """Names the colors of object crops; one interpreter, one thread at a time."""

    def __init__(self, interpreter: Interpreter) -> None:
        """Wrap a loaded model of task `color`.

        Raises ModelError when its task is another, or its input is not the pixel levels less 128.
        """
        self.interpreter = interpreter
        self.manifest = interpreter.manifest
        _check(self.manifest)
        self.input_size = self.manifest.input.size
        self._planes = {name: 3 + row for row, name in enumerate(self.manifest.input.classes)}
        outputs = {spec.name: spec for spec in self.manifest.outputs}
        self._has_cells = outputs.pop(CELLS, None) is not None
        (self._output,) = outputs.values()
        self._pixels: Image = np.zeros((*self.input_size[::-1], 3), np.uint8)

    def classify(self, bgr_crop: Image, label: str | None = None) -> list[ColorScore]:
        """Return the share of every term, largest first, summing to 1; larger shares have `rgb`.

        bgr_crop: uint8, (height, width, 3), any size from 1x1, may be a view; not modified.
        label: the object's class; one that the model does not know counts as None.
        Raises ValueError for an empty crop.
        """
        self.preprocess(bgr_crop, label)
        self.invoke()
        return self.decode()

    def preprocess(self, bgr_crop: Image, label: str | None = None) -> None:
        """Write the crop, and the class of its object, into the network's input tensor."""
        bgr = shrink(bgr_crop, self.input_size)
        rgb = bgr[..., ::-1]
        self._pixels = np.ascontiguousarray(rgb[::SWATCH_STEP, ::SWATCH_STEP])
        pixels = rgb if self.manifest.input.color_order == "rgb" else bgr
        view = self.interpreter.input_view()
        view[...] = self.manifest.input.zero_point
        levels = view.view(np.uint8)
        for channel in range(3):  # one by one: numpy is slow at runs of only three values
            np.bitwise_xor(pixels[..., channel], _FLIP_SIGN, out=levels[..., channel])
        if label in self._planes:
            view[..., self._planes[label]] = np.iinfo(view.dtype).max

    def invoke(self) -> None:
        """Run the network on the crop that `preprocess` wrote."""
        self.interpreter.invoke()

    def decode(self) -> list[ColorScore]:
        """Return the shares of the last `invoke`, largest first."""
        spec = self._output
        levels = self.interpreter.output(spec.name).reshape(-1).tolist()
        shares = softmax(levels, spec.scale / self.manifest.decoder.temperature)
        swatches = self._swatches(shares)
        scores = map(ColorScore, self.manifest.labels, shares, swatches)
        return sorted(scores, key=lambda score: -score.score)

    def _swatches(self, shares: Sequence[float]) -> list[swatch.Rgb | None]:
        """Return the swatch of each label's color in the last crop; None for small shares."""
        terms = swatch.terms_of(self._pixels)
        cells = self.interpreter.output(CELLS) if self._has_cells else None
        return [
            swatch.swatch(
                self._pixels,
                terms,
                TERMS.index(label),
                None if cells is None else cells[..., row],
            )
            if share >= MIN_SHOWN and label in TERMS
            else None
            for row, (label, share) in enumerate(zip(self.manifest.labels, shares, strict=True))
        ]

    def dominant(self, shares: list[ColorScore]) -> str:
        """Return the name of the largest share, `unknown` when it is below the threshold.

        shares: from `classify`, or a mean of several, largest first.
        """
        best = shares[0]
        return best.name if best.score >= self.manifest.decoder.unknown_below else UNKNOWN_COLOR


def softmax(levels: Sequence[int], scale: float) -> list[float]:
    """Return the softmax of quantized logits; the zero point cancels out.

    scale: of one level, divided by the temperature. For 11 values, plain floats beat numpy.
    """
    top = max(levels)
    exponentials = [math.exp((level - top) * scale) for level in levels]
    total = sum(exponentials)
    return [exponential / total for exponential in exponentials]


def _check(model: Manifest) -> None:
    """Raise ModelError unless it is a color model whose input is the pixel levels less 128."""
    if model.task != "color" or model.decoder.name != "color_shares":
        raise ModelError(
            f"model {model.name}: its task is {model.task}, not color; name a color model"
        )
    spec = model.input
    kind = (spec.dtype, spec.range, spec.resize, spec.zero_point)
    if kind != ("int8", "-1..1", "stretch", 0) or abs(spec.scale - 1 / 128) > 1e-6:
        raise ModelError(
            f"model {model.name}: a color model takes the crop stretched, as int8 levels of scale "
            "1/128 and zero point 0 (range -1..1); quantize it again"
        )
