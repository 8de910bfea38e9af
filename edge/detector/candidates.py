"""Shared by all decoders: candidates, quantized thresholds, tables of real values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.interpreter import Interpreter
from edge.manifest import Decoder, TensorSpec
from edge.values import Box, Detection

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]


class Candidates(NamedTuple):
    """Boxes that reach the threshold, before suppression, in any order.

    scores: (n,), 0..1. classes: (n,), indices of the manifest's labels. corners: (n, 4) left, top,
    right, bottom in input pixels.
    """

    scores: Floats
    classes: Indices
    corners: Floats

    def detections(self, corners_px: NDArray[Any], labels: Sequence[str]) -> list[Detection]:
        """Return each as an object of a frame. corners_px: `corners` in the frame's pixels."""
        return [
            Detection(labels[index], score, Box.of_corners(*corners))
            for index, score, corners in zip(
                self.classes.tolist(), self.scores.tolist(), corners_px.tolist(), strict=True
            )
        ]


NOTHING = Candidates(np.empty(0, np.float32), np.empty(0, np.intp), np.empty((0, 4), np.float32))


class CandidateSource(Protocol):
    """A decoder, built once for a model and a threshold."""

    def candidates(self, interpreter: Interpreter) -> Candidates:
        """Return the candidates in the network's current outputs."""
        ...


def levels(spec: TensorSpec) -> Floats:
    """Return the real values of all 256 quantized values, ordered for indexing by them.

    The order is 0..255 for uint8 and 0..127, -128..-1 for int8: negative indices count from the
    end.
    """
    quantized = np.arange(256, dtype=np.uint8).view(spec.dtype)
    return (quantized.astype(np.float32) - np.float32(spec.zero_point)) * np.float32(spec.scale)


def real_values(
    spec: TensorSpec, convert: Callable[[Floats], Floats]
) -> Callable[[NDArray[Any]], Floats]:
    """Return a function that applies `convert` to the real values of a tensor's stored values.

    Stored integers are looked up in a table of all 256; floats are converted one by one.
    """
    if spec.is_float:  # a third-party model may give NaN or infinity; integers are always finite
        return lambda values: convert(np.nan_to_num(values.astype(np.float32)))
    table = convert(levels(spec))
    return lambda values: table[values]


def sigmoid(logits: Floats) -> Floats:
    """Return the logistic function."""
    return np.float32(1) / (np.float32(1) + np.exp(-logits))


def as_is(values: Floats) -> Floats:
    """Return the values unchanged, for `real_values`."""
    return values


def as_score(values: Floats) -> Floats:
    """Return scores clipped to 0..1: a quantized range may reach beyond."""
    clipped: Floats = np.clip(values, np.float32(0), np.float32(1))
    return clipped


def quantized_logit(score: float, spec: TensorSpec) -> int:
    """Return the smallest quantized value whose sigmoid reaches `score`, within its dtype.

    Rounding may make it one step lower; the float score is compared again later.
    """
    inside = min(max(score, 1e-6), 1 - 1e-6)
    return _quantized(math.log(inside / (1 - inside)), spec)


def quantized_level(score: float, spec: TensorSpec) -> float:
    """Return the smallest stored value that represents at least `score`, within its dtype.

    Like `quantized_logit`, for outputs that are scores already. A float tensor gives `score`.
    """
    return score if spec.is_float else _quantized(score, spec)


def _quantized(real: float, spec: TensorSpec) -> int:
    limits = np.iinfo(spec.dtype)
    level = real / spec.scale + spec.zero_point
    return int(min(max(math.ceil(level - 1e-3), limits.min), limits.max))


def class_selection(decoder: Decoder, first: int, count: int) -> slice | Indices:
    """Return the positions of the manifest's labels along the axis of class scores.

    first: index of the network's class 0. count: number of labels. A slice when possible: it gives
    a view, while a list of indices copies.
    """
    if not decoder.class_ids:
        return slice(first, first + count)
    return np.array(decoder.class_ids, np.intp) + first


def corners_of(centers: Floats, sides: Floats) -> Floats:
    """Return (n, 4) left, top, right, bottom of centers and sides, each (n, 2)."""
    halves = sides / np.float32(2)
    return np.concatenate([centers - halves, centers + halves], 1)
