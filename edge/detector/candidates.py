"""What all decoders make and need: candidates, quantized thresholds, tables of real values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.interpreter import Interpreter
from edge.manifest import Decoder, TensorSpec

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


NOTHING = Candidates(np.empty(0, np.float32), np.empty(0, np.intp), np.empty((0, 4), np.float32))


class CandidateSource(Protocol):
    """A decoder, built once for a model and a threshold."""

    def candidates(self, interpreter: Interpreter) -> Candidates:
        """Return what the network's outputs now say."""
        ...


def levels(spec: TensorSpec) -> Floats:
    """Return the real value of all 256 quantized ones, in the order that indexing wants.

    That is 0..255 for uint8 and 0..127, -128..-1 for int8: negative indices count from the end.
    """
    quantized = np.arange(256, dtype=np.uint8).view(spec.dtype)
    return (quantized.astype(np.float32) - np.float32(spec.zero_point)) * np.float32(spec.scale)


def real_values(
    spec: TensorSpec, convert: Callable[[Floats], Floats]
) -> Callable[[NDArray[Any]], Floats]:
    """Return a function that turns a tensor's stored values into `convert` of their real values.

    Stored integers are looked up in a table of all 256; floats are converted one by one.
    """
    if spec.is_float:  # of a foreign model, which may give anything; integers are always finite
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
    """Return scores held to 0..1: a quantized range may reach beyond."""
    clipped: Floats = np.clip(values, np.float32(0), np.float32(1))
    return clipped


def quantized_logit(score: float, spec: TensorSpec) -> int:
    """Return the smallest quantized value whose sigmoid reaches `score`, within its dtype.

    One step lower than that where rounding could matter: the float score decides in the end.
    """
    inside = min(max(score, 1e-6), 1 - 1e-6)
    return _quantized(math.log(inside / (1 - inside)), spec)


def quantized_level(score: float, spec: TensorSpec) -> float:
    """Return the smallest stored value that stands for at least `score`, within its dtype.

    As `quantized_logit`, for outputs that are scores already; of a float tensor the score itself.
    """
    return score if spec.is_float else _quantized(score, spec)


def _quantized(real: float, spec: TensorSpec) -> int:
    limits = np.iinfo(spec.dtype)
    wanted = real / spec.scale + spec.zero_point
    return int(min(max(math.ceil(wanted - 1e-3), limits.min), limits.max))


def class_selection(decoder: Decoder, first: int, count: int) -> slice | Indices:
    """Return where along an axis the scores of the manifest's labels stand.

    first: index of the network's class 0. count: number of labels. A slice where it can be one:
    that is a view, a list of indices copies.
    """
    if not decoder.class_ids:
        return slice(first, first + count)
    return np.array(decoder.class_ids, np.intp) + first


def corners_of(centers: Floats, sides: Floats) -> Floats:
    """Return (n, 4) left, top, right, bottom of centers and sides, each (n, 2)."""
    halves = sides / np.float32(2)
    return np.concatenate([centers - halves, centers + halves], 1)
